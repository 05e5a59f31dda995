//! The backends by name: all known ones, and which of them are compiled in.

use mistletoe_abi::{AnyBackend, ErrorKind, Result};

/// A named configuration of an engine, whether it is compiled in or not.
#[derive(Clone, Copy, Debug)]
pub struct BackendInfo {
    name: &'static str,
    feature: &'static str,
    start: Option<fn() -> Result<AnyBackend>>,
}

impl BackendInfo {
    /// Returns the name that [`backend`] takes.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the cargo feature that compiles it in.
    pub fn feature(&self) -> &'static str {
        self.feature
    }

    /// Returns whether it is compiled in.
    pub fn is_enabled(&self) -> bool {
        self.start.is_some()
    }
}

/// A [`BackendInfo`] whose constructor exists only with its feature.
macro_rules! entry {
    ($name:literal, $feature:literal, $start:expr) => {
        BackendInfo {
            name: $name,
            feature: $feature,
            #[cfg(feature = $feature)]
            start: Some(|| $start.map(AnyBackend::new)),
            #[cfg(not(feature = $feature))]
            start: None,
        }
    };
}

const BACKENDS: [BackendInfo; 6] = [
    entry!("wasmi", "wasmi", Ok(mistletoe_wasmi::Wasmi::new())),
    entry!("wasmi-lazy", "wasmi", Ok(mistletoe_wasmi::Wasmi::lazy())),
    entry!("wasmtime", "wasmtime", mistletoe_wasmtime::Wasmtime::new()),
    entry!("wasmtime-winch", "wasmtime-winch", mistletoe_wasmtime::Wasmtime::winch()),
    entry!("wasmtime-pulley", "wasmtime-pulley", mistletoe_wasmtime::Wasmtime::pulley()),
    entry!("wasmer", "wasmer", Ok(mistletoe_wasmer::Wasmer::new())),
];

/// Returns all backends, whether they are compiled in or not.
///
/// [`default_backend`] is the one to use if none is named.
pub fn backends() -> &'static [BackendInfo] {
    &BACKENDS
}

/// Returns the first backend that is compiled in. If there is none, returns the first of all: [`backend`] then fails
/// with the feature that adds it.
pub fn default_backend() -> &'static BackendInfo {
    let [first, ..] = &BACKENDS;
    BACKENDS.iter().find(|info| info.is_enabled()).unwrap_or(first)
}

/// Starts the backend with this name.
///
/// # Errors
///
/// - [`UnknownBackend`](ErrorKind::UnknownBackend) if there is no such backend. It lists all names.
/// - [`BackendNotEnabled`](ErrorKind::BackendNotEnabled) if the backend is not compiled in. It has the cargo feature
///   that adds the backend.
/// - [`Engine`](ErrorKind::Engine) if the engine does not run on this machine.
pub fn backend(name: &str) -> Result<AnyBackend> {
    let info = BACKENDS.iter().find(|info| info.name == name).ok_or_else(|| ErrorKind::UnknownBackend {
        name: name.to_owned(),
        known: BACKENDS.iter().map(|info| info.name).collect(),
    })?;
    match info.start {
        Some(start) => start(),
        None => Err(ErrorKind::BackendNotEnabled { name: info.name, feature: info.feature }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_backend_or_says_what_is_missing() {
        for info in &BACKENDS {
            match backend(info.name) {
                Ok(backend) => assert_eq!(backend.name(), info.name),
                Err(error) => {
                    assert!(info.start.is_none(), "{error}");
                    assert!(error.to_string().contains(&format!("--features {}", info.feature)), "{error}");
                }
            }
        }
        let error = backend("v8").expect_err("no such backend");
        assert!(BACKENDS.iter().all(|info| error.to_string().contains(info.name)), "{error}");
    }
}

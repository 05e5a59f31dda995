//! The backends by name: which there are, and which of them were compiled in.

use mistletoe_abi::{AnyBackend, ErrorKind, Result};

/// A configuration of an engine, known by name whether it was compiled in or not.
struct Entry {
    name: &'static str,
    /// The cargo feature that compiles it in.
    feature: &'static str,
    /// `None` where the feature is off.
    start: Option<fn() -> Result<AnyBackend>>,
}

/// An [`Entry`] whose constructor exists only with its feature.
macro_rules! entry {
    ($name:literal, $feature:literal, $start:expr) => {
        Entry {
            name: $name,
            feature: $feature,
            #[cfg(feature = $feature)]
            start: Some(|| $start.map(AnyBackend::new)),
            #[cfg(not(feature = $feature))]
            start: None,
        }
    };
}

/// Every backend there is. The first that was compiled in is the default.
const BACKENDS: [Entry; 3] = [
    entry!("wasmi", "wasmi", Ok(mistletoe_wasmi::Wasmi::new())),
    entry!("wasmtime", "wasmtime", mistletoe_wasmtime::Wasmtime::new()),
    entry!("wasmer", "wasmer", Ok(mistletoe_wasmer::Wasmer::new())),
];

/// The names of the backends that were compiled in, the default first.
pub fn backends() -> impl Iterator<Item = &'static str> {
    BACKENDS.iter().filter(|entry| entry.start.is_some()).map(|entry| entry.name)
}

/// The backend with this name.
///
/// # Errors
///
/// [`UnknownBackend`](ErrorKind::UnknownBackend) lists the names there are,
/// [`BackendNotEnabled`](ErrorKind::BackendNotEnabled) names the cargo feature that is off, and
/// [`Engine`](ErrorKind::Engine) says that the engine does not run on this machine.
pub fn backend(name: &str) -> Result<AnyBackend> {
    let entry = BACKENDS.iter().find(|entry| entry.name == name).ok_or_else(|| ErrorKind::UnknownBackend {
        name: name.to_owned(),
        known: BACKENDS.iter().map(|entry| entry.name).collect(),
    })?;
    match entry.start {
        Some(start) => start(),
        None => Err(ErrorKind::BackendNotEnabled { name: entry.name, feature: entry.feature }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_backend_or_says_what_is_missing() {
        for entry in &BACKENDS {
            match backend(entry.name) {
                Ok(backend) => assert_eq!(backend.name(), entry.name),
                Err(error) => {
                    assert!(entry.start.is_none(), "{error}");
                    assert!(error.to_string().contains(&format!("--features {}", entry.feature)), "{error}");
                }
            }
        }
        let error = backend("v8").expect_err("no such backend");
        assert!(BACKENDS.iter().all(|entry| error.to_string().contains(entry.name)), "{error}");
    }
}

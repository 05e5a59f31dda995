//! Modules before an engine compiles them.

use std::sync::{Arc, OnceLock};

pub use mistletoe_module::{
    Analysis, CompileCost, Config, DeclaredItem, Error, ErrorKind, FEATURES, Feature, Inspection, Instrumented,
    Interface, InternalExports, NotWasm, Section, analyse, declared, inspect, instrument,
};

use crate::error::Result;

/// A module with its instrumentation, the input of [`Backend::compile`](crate::Backend::compile).
///
/// Its bytes are read, validated and [instrumented](instrument()) when an engine first asks for them. This does not
/// happen if a backend has compiled the same module for the same [`Config`] before.
#[derive(Clone, Debug)]
pub struct ModuleSource<'a> {
    wasm: Bytes<'a>,
    config: Config,
    outline: OnceLock<(Interface, InternalExports)>,
    instrumented: OnceLock<Instrumented<'a>>,
}

#[derive(Clone, Debug)]
enum Bytes<'a> {
    Borrowed(&'a [u8]),
    Owned(Arc<[u8]>),
}

impl<'a> ModuleSource<'a> {
    /// Creates a source from a module in the binary format, which need not be valid.
    pub fn new(wasm: &'a [u8], config: Config) -> Self {
        Self { wasm: Bytes::Borrowed(wasm), config, outline: OnceLock::new(), instrumented: OnceLock::new() }
    }

    /// Returns the original bytes.
    ///
    /// Besides the engine, compiled code depends only on these and on [`config`](ModuleSource::config).
    pub fn wasm(&self) -> &[u8] {
        match &self.wasm {
            Bytes::Borrowed(wasm) => wasm,
            Bytes::Owned(wasm) => wasm,
        }
    }

    /// Returns what the module is instrumented with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the module as the engine of a backend that supports all features compiles it.
    ///
    /// # Errors
    ///
    /// [`Module`](crate::ErrorKind::Module).
    pub(crate) fn instrument(&self) -> Result<&Instrumented<'a>> {
        let Some(instrumented) = self.instrumented.get() else {
            let instrumented = match &self.wasm {
                Bytes::Borrowed(wasm) => instrument(wasm, &self.config)?,
                Bytes::Owned(wasm) => instrument(wasm, &self.config)?.into_owned(),
            };
            return Ok(self.instrumented.get_or_init(|| instrumented));
        };
        Ok(instrumented)
    }

    /// Returns what the module imports and exports, and its internal exports.
    ///
    /// Until an engine asks for the code, the module may turn out to be invalid.
    pub(crate) fn outline(&self) -> Result<(&Interface, &InternalExports)> {
        if self.outline.get().is_none()
            && self.instrumented.get().is_none()
            && let Some(outline) = mistletoe_module::skim(self.wasm(), &self.config)
        {
            let _ = self.outline.set(outline);
        }
        match self.outline.get() {
            Some((interface, internal)) => Ok((interface, internal)),
            None => {
                let instrumented = self.instrument()?;
                Ok((instrumented.interface(), instrumented.internal_exports()))
            }
        }
    }

    /// Converts the source into one that owns its bytes.
    pub fn into_owned(self) -> ModuleSource<'static> {
        let Self { wasm, config, outline, instrumented } = self;
        let wasm = match wasm {
            Bytes::Borrowed(wasm) => wasm.into(),
            Bytes::Owned(wasm) => wasm,
        };
        let instrumented = instrumented.into_inner().map(Instrumented::into_owned);
        let instrumented = instrumented.map_or_else(OnceLock::new, OnceLock::from);
        ModuleSource { wasm: Bytes::Owned(wasm), config, outline, instrumented }
    }
}

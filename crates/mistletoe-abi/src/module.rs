//! A module on its way to an engine.

use std::sync::{Arc, OnceLock};

pub use mistletoe_module::{
    CompileCost, Config, DeclaredItem, Error, ErrorKind, FEATURES, Feature, Inspection, Instrumented, Interface,
    InternalExports, NotWasm, declared, inspect, instrument,
};

use crate::error::Result;

/// A module, and what is to be put into it: what [`Backend::compile`](crate::Backend::compile) is given. Its bytes are
/// read, validated and [instrumented](instrument()) when an engine asks for them first, and not at all where a backend
/// has compiled the same module for the same [`Config`] before.
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
    /// A module in the binary format, which need not be valid.
    pub fn new(wasm: &'a [u8], config: Config) -> Self {
        Self { wasm: Bytes::Borrowed(wasm), config, outline: OnceLock::new(), instrumented: OnceLock::new() }
    }

    /// The bytes as they were given: with [`config`](ModuleSource::config), all that compiled code depends on beside
    /// the engine.
    pub fn wasm(&self) -> &[u8] {
        match &self.wasm {
            Bytes::Borrowed(wasm) => wasm,
            Bytes::Owned(wasm) => wasm,
        }
    }

    /// What is put into it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The module as the engine of a backend that supports all features compiles it.
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

    /// What it imports and exports, and what is exported besides. A module whose code nobody has asked for may turn out
    /// not to be valid.
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

    /// The same with bytes of its own.
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

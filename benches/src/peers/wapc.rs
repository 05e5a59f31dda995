//! waPC: the guest fetches a request from the host, and passes it a response.
//!
//! The host is linked once for all instances.

use wapc::WapcHost;
use wasmtime_provider::{WasmtimeEngineProviderBuilder, WasmtimeEngineProviderPre};

use super::Result;
use crate::baseline;
use crate::baseline::wasmtime::Settings;

/// The guest, as text.
pub const ECHO: &str = include_str!("wapc.wat");

/// An engine.
pub struct Host {
    engine: wasmtime::Engine,
}

/// A compiled guest.
pub struct Package {
    provider: WasmtimeEngineProviderPre,
}

/// An instance.
pub struct Session {
    host: WapcHost,
}

impl Host {
    /// Creates a host on wasmtime, with the engine of the hand-written host.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn new(settings: Settings) -> Result<Self> {
        Ok(Self { engine: baseline::wasmtime::engine(settings)? })
    }

    /// Compiles a guest.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn compile(&self, wasm: &[u8]) -> Result<Package> {
        let builder = WasmtimeEngineProviderBuilder::new().engine(self.engine.clone()).module_bytes(wasm);
        Ok(Package { provider: builder.build_pre()? })
    }
}

impl Package {
    /// Creates an instance.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn session(&self) -> Result<Session> {
        let provider = self.provider.rehydrate(None)?;
        Ok(Session { host: WapcHost::new(Box::new(provider), None)? })
    }
}

impl Session {
    /// Returns the output for an input.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors, and an error for an output that is not text.
    pub fn generate(&mut self, input: &str) -> Result<String> {
        Ok(String::from_utf8(self.host.call("echo", input.as_bytes())?)?)
    }
}

//! Extism: input and output lie in a memory of its own, which the guest reads and writes by calls.

use extism::{CompiledPlugin, Plugin, PluginBuilder};
use extism_wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::Result;

/// The guest, as text.
pub const ECHO: &str = include_str!("extism.wat");

/// What engines are made with. Extism makes one for each guest that it compiles, of a wasmtime of its own.
pub struct Host {
    config: Config,
}

/// A compiled guest.
pub struct Package {
    plugin: CompiledPlugin,
}

/// A live instance.
pub struct Session {
    plugin: Plugin,
}

impl Host {
    /// With instances from a pool like that of the host by hand, or without a pool.
    #[must_use]
    pub fn new(pooling: bool) -> Self {
        let mut config = Config::new();
        if pooling {
            let mut pool = PoolingAllocationConfig::default();
            pool.total_core_instances(16).total_memories(16).total_tables(16).max_unused_warm_slots(16);
            pool.linear_memory_keep_resident(1 << 20).table_keep_resident(1 << 20).pagemap_scan(Enabled::Auto);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        Self { config }
    }

    /// Compiles a guest.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn compile(&self, wasm: &[u8]) -> Result<Package> {
        // It would keep compiled code in the user's cache, and find it there the next time.
        let builder = PluginBuilder::new(wasm).with_wasmtime_config(self.config.clone()).with_cache_disabled();
        Ok(Package { plugin: builder.compile()? })
    }
}

impl Package {
    /// A fresh plugin, whose instance is made for its first answer.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn session(&self) -> Result<Session> {
        Ok(Session { plugin: Plugin::new_from_compiled(&self.plugin)? })
    }
}

impl Session {
    /// Answers an input.
    ///
    /// # Errors
    ///
    /// The engine's, and for an answer that is no text.
    pub fn generate(&mut self, input: &str) -> Result<String> {
        Ok(self.plugin.call::<&str, String>("echo", input)?)
    }
}

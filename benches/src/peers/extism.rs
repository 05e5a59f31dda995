//! Extism: input and output are in Extism's own memory, which the guest accesses through calls.

use extism::{CompiledPlugin, Plugin, PluginBuilder};
use extism_wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::Result;

/// The guest, as text.
pub const ECHO: &str = include_str!("extism.wat");

/// The settings of engines. Extism creates an engine for each guest that it compiles, with its own version of wasmtime.
pub struct Host {
    config: Config,
}

/// A compiled guest.
pub struct Package {
    plugin: CompiledPlugin,
}

/// An instance.
pub struct Session {
    plugin: Plugin,
}

impl Host {
    /// Creates a host with a pool of instances like that of the hand-written host, or without a pool.
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
    /// Returns the engine's errors.
    pub fn compile(&self, wasm: &[u8]) -> Result<Package> {
        // Otherwise, it would store compiled code in the user's cache, and find it there the next time.
        let builder = PluginBuilder::new(wasm).with_wasmtime_config(self.config.clone()).with_cache_disabled();
        Ok(Package { plugin: builder.compile()? })
    }
}

impl Package {
    /// Creates a plugin. Its instance is created at the first call.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn session(&self) -> Result<Session> {
        Ok(Session { plugin: Plugin::new_from_compiled(&self.plugin)? })
    }
}

impl Session {
    /// Returns the output for an input.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors, and an error for an output that is not text.
    pub fn generate(&mut self, input: &str) -> Result<String> {
        Ok(self.plugin.call::<&str, String>("echo", input)?)
    }
}

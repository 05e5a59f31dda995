//! [wasmtime](https://docs.rs/wasmtime) as a backend.
//!
//! It is the backend with the highest peak speed, and the one with a security process and long-term support.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod instance;
mod link;
mod pool;
mod stack;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use mistletoe_abi::backend::{Artifact, Backend, ENGINE_STACK, Feature, HostFunc, ModuleSource, Operation, StoreData};
use mistletoe_abi::protocol::MEMORY;
use mistletoe_abi::{Error, Result};
use wasmtime::{Collector, Config, InstancePre, Module, Store, Strategy};

pub use crate::instance::{Exports, WasmtimeFunc, WasmtimeInstance};
use crate::instance::{Host, failed};
use crate::pool::{Engines, Pooled};

/// wasmtime with one of its compilers.
///
/// Guests run on a stack of their own, one for each thread that calls guests, so the thread's own stack can be of any
/// size. The guests' stack takes 40 MiB of address space, and memory only as deep as a guest has ever gone.
///
/// Instances come from a pool with 32 places for each processor, at least 64 and at most 1,024. Each place takes 4 GiB
/// of address space. An instance that the pool has no place for is created without it, which is slower. If the machine
/// does not let a program have that much address space, there is no pool, and [`warning`](Backend::warning) says so.
#[derive(Clone)]
pub struct Wasmtime {
    engines: Engines,
    name: &'static str,
    is_winch: bool,
}

/// A compiled module, linked with its imports.
#[derive(Clone)]
pub struct WasmtimeModule(Pooled);

impl Wasmtime {
    /// Creates wasmtime with its optimising compiler, Cranelift.
    ///
    /// # Errors
    ///
    /// [`Operation::Configure`] if wasmtime cannot generate code for this machine.
    pub fn new() -> Result<Self> {
        Self::with_config("wasmtime", Config::new().strategy(Strategy::Cranelift))
    }

    /// Creates wasmtime with Winch, which compiles quickly to slower code.
    ///
    /// # Errors
    ///
    /// [`Operation::Configure`] if Winch cannot generate code for this machine.
    #[cfg(feature = "winch")]
    pub fn winch() -> Result<Self> {
        let winch = Self::with_config("wasmtime-winch", Config::new().strategy(Strategy::Winch))?;
        Ok(Self { is_winch: true, ..winch })
    }

    /// Creates wasmtime with Pulley, its interpreter, which runs where no code can be generated.
    ///
    /// # Errors
    ///
    /// [`Operation::Configure`] if wasmtime cannot be configured.
    #[cfg(feature = "pulley")]
    pub fn pulley() -> Result<Self> {
        let mut config = Config::new();
        let config = config.target("pulley64").map_err(|error| Error::engine(Operation::Configure, error))?;
        Self::with_config("wasmtime-pulley", config)
    }

    /// Configures the engine to run exactly the layer's feature set.
    fn with_config(name: &'static str, config: &mut Config) -> Result<Self> {
        config
            .collector(Collector::Null)
            .cranelift_nan_canonicalization(true)
            // A trace of frames is expensive to gather, and not part of a trap.
            .wasm_backtrace_max_frames(None)
            // Host functions that call back into the guest use this stack, too.
            .max_wasm_stack(ENGINE_STACK)
            // Nothing here is asynchronous, but the engine requires at least the size above.
            .async_stack_size(ENGINE_STACK)
            .wasm_relaxed_simd(false)
            .wasm_tail_call(false)
            .wasm_multi_memory(false)
            .wasm_memory64(false)
            .wasm_function_references(false)
            .wasm_gc(false)
            .wasm_exceptions(false)
            .wasm_extended_const(true);
        let engines = Engines::new(config).map_err(|error| Error::engine(Operation::Configure, error))?;
        Ok(Self { engines, name, is_winch: false })
    }
}

/// Creates the instance of a store.
fn instantiate(module: &InstancePre<Host>, store: &mut Store<Host>) -> wasmtime::Result<()> {
    let instance = module.instantiate(&mut *store)?;
    let memory = instance.get_memory(&mut *store, MEMORY);
    let memory = memory.ok_or_else(|| wasmtime::Error::msg("the exported memory was not found"))?;
    store.data_mut().exports = Some(Exports { instance, memory });
    Ok(())
}

impl Backend for Wasmtime {
    type Module = WasmtimeModule;
    type Instance = WasmtimeInstance;

    fn name(&self) -> &'static str {
        self.name
    }

    fn warning(&self) -> Option<String> {
        let reason = self.engines.without_pool()?;
        Some(format!("{} has no pool for instances, which makes new ones slower: {reason}", self.name))
    }

    /// Winch does not compile `externref`.
    fn supports(&self, feature: Feature) -> bool {
        feature != Feature::Externref || !self.is_winch
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<WasmtimeModule> {
        let module = Module::from_binary(self.engines.first(), source.validate(self)?.bytes());
        let module = module.and_then(|module| Pooled::new(&module, imports));
        module.map(WasmtimeModule).map_err(|error| Error::engine(Operation::Compile, error))
    }

    fn instantiate(&self, WasmtimeModule(module): &WasmtimeModule, data: StoreData) -> Result<WasmtimeInstance> {
        let failed = |error| failed(Operation::Instantiate, error);
        let mut store = Store::new(self.engines.first(), Host::new(data));
        match instantiate(&module.first, &mut store) {
            Err(error) if pool::is_exhausted(&error) => {
                let module = self.engines.second(module).map_err(failed)?;
                store = Store::new(module.module().engine(), store.into_data());
                instantiate(module, &mut store)
            }
            made => made,
        }
        .map_err(failed)?;
        Ok(WasmtimeInstance { store })
    }

    /// The engine's own digest covers its version, its features and the target, but not every setting of its compiler.
    fn compatibility_key(&self) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        self.engines.first().precompile_compatibility_hash().hash(&mut hasher);
        format!("{:?}", self.engines.config()).hash(&mut hasher);
        Some(format!("{:016x}", hasher.finish()))
    }

    fn serialize(&self, WasmtimeModule(module): &WasmtimeModule) -> Result<Vec<u8>> {
        module.first.module().serialize().map_err(|error| Error::engine(Operation::Serialize, error))
    }

    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<WasmtimeModule> {
        let engine = self.engines.first();
        let mapped = || {
            // SAFETY: an artifact is what `serialize` returned, byte for byte, in a file that nobody changes.
            #[allow(unsafe_code)]
            unsafe {
                Module::deserialize_open_file(engine, artifact.file()?)
            }
        };
        let copied = || {
            // SAFETY: the same.
            #[allow(unsafe_code)]
            unsafe {
                Module::deserialize(engine, artifact.bytes()?)
            }
        };
        // Some file systems do not allow code in their files to be executed.
        let module = mapped().or_else(|_| copied()).and_then(|module| Pooled::new(&module, imports));
        module.map(WasmtimeModule).map_err(|error| Error::engine(Operation::Deserialize, error))
    }
}

//! A hand-written host for wasmtime: linked once for all instances, typed functions, and memory as a slice.

use std::fs;

use tempfile::NamedTempFile;
use wasmtime::{
    Caller, Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Linker, Memory, Module, ModuleExport,
    PoolingAllocationConfig, Store, Strategy, TypedFunc,
};

use super::functions::{self, ENV, WASI};
use super::{Result, output, range_mut};

type State = super::State<Memory>;

/// The compiler of modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compiler {
    /// The optimising compiler.
    #[default]
    Cranelift,
    /// The fast compiler.
    Winch,
    /// The compiler for the interpreter.
    Pulley,
}

/// The settings of a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The compiler.
    pub compiler: Compiler,
    /// Takes instances from a pool, which costs address space and saves system calls.
    pub pooling: bool,
    /// Terminates a guest at the end of an epoch.
    pub epochs: bool,
    /// Counts the guest's fuel.
    pub fuel: bool,
}

/// An engine and its host functions.
#[derive(Clone)]
pub struct Host {
    settings: Settings,
    engine: Engine,
    linker: Linker<State>,
}

/// A compiled package, and the indices of its exports.
#[derive(Clone)]
pub struct Package {
    settings: Settings,
    pre: InstancePre<State>,
    memory: ModuleExport,
    initialize: Option<ModuleExport>,
    alloc: ModuleExport,
    dealloc: ModuleExport,
    generate: ModuleExport,
}

/// An engine, and the compiled code of a package, in a file that belongs to this value.
pub struct Kept {
    host: Host,
    code: NamedTempFile,
}

/// An instance.
pub struct Session {
    settings: Settings,
    store: Store<State>,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    dealloc: TypedFunc<(u32, u32), ()>,
    generate: TypedFunc<(u32, u32), u32>,
}

impl Host {
    /// Creates an engine with the layer's settings, as far as they affect speed.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn new(settings: Settings) -> Result<Self> {
        let engine = engine(settings)?;
        Ok(Self { settings, linker: linker(&engine)?, engine })
    }

    /// Compiles a package and links its imports.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn compile(&self, wasm: &[u8]) -> Result<Package> {
        self.link(&Module::from_binary(&self.engine, wasm)?)
    }

    /// Compiles a package into a file.
    ///
    /// # Errors
    ///
    /// Returns the engine's and the system's errors.
    pub fn keep(self, wasm: &[u8]) -> Result<Kept> {
        let code = NamedTempFile::new()?;
        fs::write(&code, Module::from_binary(&self.engine, wasm)?.serialize()?)?;
        Ok(Kept { host: self, code })
    }

    fn link(&self, module: &Module) -> Result<Package> {
        let export = |name: &str| module.get_export_index(name).ok_or_else(|| format!("no export {name}"));
        Ok(Package {
            settings: self.settings,
            memory: export("memory")?,
            initialize: export("_initialize").ok(),
            alloc: export("__mistletoe_alloc")?,
            dealloc: export("__mistletoe_dealloc")?,
            generate: export("__mistletoe_generate")?,
            pre: self.linker.instantiate_pre(module)?,
        })
    }
}

impl Kept {
    /// Loads the package from its file, without compiling it again.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn load(&self) -> Result<Package> {
        // SAFETY: the engine wrote the file itself, and the file belongs to this value.
        #[allow(unsafe_code)]
        let module = unsafe { Module::deserialize_file(&self.host.engine, &self.code) };
        self.host.link(&module?)
    }
}

impl Package {
    /// Creates an instance.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn session(&self) -> Result<Session> {
        let mut store = Store::new(self.pre.module().engine(), State::default());
        refill(&mut store, self.settings)?;
        let instance = self.pre.instantiate(&mut store)?;
        let mut export = |export| instance.get_module_export(&mut store, export).ok_or("no such export");
        let memory = export(&self.memory)?.into_memory().ok_or("no memory")?;
        let mut func = |name| export(name)?.into_func().ok_or("no function");
        let initialize = self.initialize.as_ref().map(&mut func).transpose()?;
        let (alloc, dealloc, generate) = (func(&self.alloc)?, func(&self.dealloc)?, func(&self.generate)?);
        store.data_mut().memory = Some(memory);
        if let Some(initialize) = initialize {
            initialize.typed::<(), ()>(&store)?.call(&mut store, ())?;
        }
        Ok(Session {
            settings: self.settings,
            memory,
            alloc: alloc.typed(&store)?,
            dealloc: dealloc.typed(&store)?,
            generate: generate.typed(&store)?,
            store,
        })
    }
}

impl Session {
    /// Returns the output for an input.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors, and an error for an output that cannot be read.
    pub fn generate(&mut self, input: &str) -> Result<String> {
        refill(&mut self.store, self.settings)?;
        let length = u32::try_from(input.len())?;
        let address = self.alloc.call(&mut self.store, length)?;
        if address == 0 && length > 0 {
            return Err("the package could not allocate".into());
        }
        range_mut(self.memory.data_mut(&mut self.store), address, length)?.copy_from_slice(input.as_bytes());
        let fat = self.generate.call(&mut self.store, (address, length))?;
        let (start, size, output) = output(self.memory.data(&self.store), fat)?;
        self.dealloc.call(&mut self.store, (address, length))?;
        self.dealloc.call(&mut self.store, (start, size))?;
        Ok(output)
    }
}

/// Creates only the engine.
///
/// # Errors
///
/// Returns the engine's errors.
pub fn engine(settings: Settings) -> Result<Engine> {
    let mut config = Config::new();
    match settings.compiler {
        Compiler::Cranelift => config.strategy(Strategy::Cranelift),
        Compiler::Winch => config.strategy(Strategy::Winch),
        Compiler::Pulley => config.target("pulley64")?,
    };
    config.cranelift_nan_canonicalization(true).wasm_backtrace_max_frames(None).wasm_gc(false);
    config.epoch_interruption(settings.epochs).consume_fuel(settings.fuel);
    if settings.pooling {
        // Up to a size, the pool clears what an instance has written itself, instead of through the kernel.
        let mut pool = PoolingAllocationConfig::default();
        pool.total_core_instances(16).total_memories(16).total_tables(16).max_unused_warm_slots(16);
        pool.linear_memory_keep_resident(1 << 20).table_keep_resident(1 << 20).pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    Ok(Engine::new(&config)?)
}

/// Resets the budget of each call.
#[inline]
fn refill(store: &mut Store<State>, settings: Settings) -> Result<()> {
    if settings.epochs {
        store.set_epoch_deadline(1);
    }
    if settings.fuel {
        store.set_fuel(u64::MAX / 2)?;
    }
    Ok(())
}

fn linker(engine: &Engine) -> Result<Linker<State>> {
    let failed = |error| ::wasmtime::Error::from_boxed(error);
    let memory = |caller: &Caller<'_, State>| caller.data().memory.ok_or_else(|| ::wasmtime::Error::msg("no memory"));
    let mut linker: Linker<State> = Linker::new(engine);
    macro_rules! define {
        ($name:ident($($param:ident: $ty:ty),*)) => {
            let host = move |mut caller: Caller<'_, State>, $($param: $ty),*| -> ::wasmtime::Result<u32> {
                let memory = memory(&caller)?.data_mut(&mut caller);
                functions::$name(memory, $($param),*).map_err(failed)
            };
            linker.func_wrap(WASI, stringify!($name), host)?;
        };
    }
    functions::wasi!(define);
    linker.func_wrap(WASI, "proc_exit", |_: u32| -> ::wasmtime::Result<()> { Err(::wasmtime::Error::msg("exit")) })?;

    linker.func_wrap(ENV, "nothing", || ())?;
    linker.func_wrap(ENV, "add", |a: u32, b: u32| a.wrapping_add(b))?;
    linker.func_wrap(ENV, "wide", |a: u64, b: u64| a ^ b)?;
    linker.func_wrap(ENV, "count", move |mut caller: Caller<'_, State>, step: u32| -> ::wasmtime::Result<u32> {
        functions::count(&mut caller.data_mut().count, step).map_err(failed)
    })?;
    let text = move |caller: Caller<'_, State>, address: u32, length: u32| -> ::wasmtime::Result<u32> {
        functions::text(memory(&caller)?.data(&caller), address, length).map_err(failed)
    };
    linker.func_wrap(ENV, "text", text)?;
    Ok(linker)
}

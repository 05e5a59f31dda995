//! wasmtime by hand: linked once for all instances, typed functions, and memory as a slice.

use std::fs;

use tempfile::NamedTempFile;
use wasmtime::{
    Caller, Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Linker, Memory, Module, ModuleExport,
    PoolingAllocationConfig, Store, Strategy, TypedFunc,
};

use super::functions::{self, ENV, WASI};
use super::{Result, output, range_mut};

type State = super::State<Memory>;

/// What makes code of modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compiler {
    /// The optimising one.
    #[default]
    Cranelift,
    /// The quick one.
    Winch,
    /// The interpreter's.
    Pulley,
}

/// What a host is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The compiler.
    pub compiler: Compiler,
    /// Instances come from a pool, which costs address space and saves system calls.
    pub pooling: bool,
    /// Ends a guest when an epoch is over.
    pub epochs: bool,
    /// Counts what a guest does.
    pub fuel: bool,
}

/// An engine, and what it offers.
#[derive(Clone)]
pub struct Host {
    settings: Settings,
    engine: Engine,
    linker: Linker<State>,
}

/// A compiled package, and where its exports are.
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

/// An engine, and what it compiled of a package, in a file that nobody else has.
pub struct Kept {
    host: Host,
    code: NamedTempFile,
}

/// A live instance.
pub struct Session {
    settings: Settings,
    store: Store<State>,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    dealloc: TypedFunc<(u32, u32), ()>,
    generate: TypedFunc<(u32, u32), u32>,
}

impl Host {
    /// An engine as the layer sets it, where that matters to speed.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn new(settings: Settings) -> Result<Self> {
        let engine = engine(settings)?;
        Ok(Self { settings, linker: linker(&engine)?, engine })
    }

    /// Compiles a package and links it with what it imports.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn compile(&self, wasm: &[u8]) -> Result<Package> {
        self.link(&Module::from_binary(&self.engine, wasm)?)
    }

    /// Compiles a package into a file.
    ///
    /// # Errors
    ///
    /// The engine's, and the system's.
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
    /// The package from its file, not compiled again.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn load(&self) -> Result<Package> {
        // SAFETY: the engine wrote the file itself, and it is this value's own.
        #[allow(unsafe_code)]
        let module = unsafe { Module::deserialize_file(&self.host.engine, &self.code) };
        self.host.link(&module?)
    }
}

impl Package {
    /// A fresh instance.
    ///
    /// # Errors
    ///
    /// The engine's.
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
    /// Answers an input.
    ///
    /// # Errors
    ///
    /// The engine's, and for an answer that cannot be read.
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

/// The engine alone.
///
/// # Errors
///
/// The engine's.
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
        // What an instance has written is cleared by hand up to a size, instead of by the kernel.
        let mut pool = PoolingAllocationConfig::default();
        pool.total_core_instances(16).total_memories(16).total_tables(16).max_unused_warm_slots(16);
        pool.linear_memory_keep_resident(1 << 20).table_keep_resident(1 << 20).pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    Ok(Engine::new(&config)?)
}

/// What each call may use.
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

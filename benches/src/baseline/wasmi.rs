//! A hand-written host for wasmi.
//!
//! It uses one linker for all instances (wasmi has no pre-linked modules), typed functions, and memory as a slice.

use std::sync::Arc;

use wasmi::{Caller, CompilationMode, Config, Engine, Error, Linker, Memory, Module, Store, TypedFunc};

use super::functions::{self, ENV, WASI};
use super::{Result, output, range_mut};

type State = super::State<Memory>;

/// An engine and its host functions.
#[derive(Clone, Debug)]
pub struct Host {
    engine: Engine,
    linker: Arc<Linker<State>>,
}

/// A translated package.
#[derive(Clone, Debug)]
pub struct Package {
    module: Module,
    linker: Arc<Linker<State>>,
}

/// An instance.
#[derive(Debug)]
pub struct Session {
    store: Store<State>,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    dealloc: TypedFunc<(u32, u32), ()>,
    generate: TypedFunc<(u32, u32), u32>,
}

impl Host {
    /// Creates an engine that translates a module at once, or function by function if `lazy`.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn new(lazy: bool) -> Result<Self> {
        let engine = engine(lazy);
        Ok(Self { linker: Arc::new(linker(&engine)?), engine })
    }

    /// Translates a package.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn compile(&self, wasm: &[u8]) -> Result<Package> {
        Ok(Package { module: Module::new(&self.engine, wasm)?, linker: Arc::clone(&self.linker) })
    }
}

impl Package {
    /// Creates an instance.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn session(&self) -> Result<Session> {
        let mut store = Store::new(self.module.engine(), State::default());
        let instance = self.linker.instantiate_and_start(&mut store, &self.module)?;
        let memory = instance.get_memory(&store, "memory").ok_or("no memory")?;
        store.data_mut().memory = Some(memory);
        if let Some(initialize) = instance.get_func(&store, "_initialize") {
            initialize.typed::<(), ()>(&store)?.call(&mut store, ())?;
        }
        Ok(Session {
            memory,
            alloc: instance.get_typed_func(&store, "__mistletoe_alloc")?,
            dealloc: instance.get_typed_func(&store, "__mistletoe_dealloc")?,
            generate: instance.get_typed_func(&store, "__mistletoe_generate")?,
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
#[must_use]
pub fn engine(lazy: bool) -> Engine {
    let mode = if lazy { CompilationMode::LazyTranslation } else { CompilationMode::Eager };
    let mut config = Config::default();
    config.compilation_mode(mode);
    Engine::new(&config)
}

fn linker(engine: &Engine) -> Result<Linker<State>> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| Error::new(error.to_string());
    let memory = |caller: &Caller<'_, State>| caller.data().memory.ok_or_else(|| Error::new("no memory"));
    let mut linker: Linker<State> = Linker::new(engine);
    macro_rules! define {
        ($name:ident($($param:ident: $ty:ty),*)) => {
            let host = move |mut caller: Caller<'_, State>, $($param: $ty),*| -> Result<u32, Error> {
                let memory = memory(&caller)?.data_mut(&mut caller);
                functions::$name(memory, $($param),*).map_err(failed)
            };
            linker.func_wrap(WASI, stringify!($name), host)?;
        };
    }
    functions::wasi!(define);
    linker.func_wrap(WASI, "proc_exit", |_: u32| -> Result<(), Error> { Err(Error::new("exit")) })?;

    linker.func_wrap(ENV, "nothing", || ())?;
    linker.func_wrap(ENV, "add", |a: u32, b: u32| a.wrapping_add(b))?;
    linker.func_wrap(ENV, "wide", |a: u64, b: u64| a ^ b)?;
    linker.func_wrap(ENV, "count", move |mut caller: Caller<'_, State>, step: u32| -> Result<u32, Error> {
        functions::count(&mut caller.data_mut().count, step).map_err(failed)
    })?;
    let text = move |caller: Caller<'_, State>, address: u32, length: u32| -> Result<u32, Error> {
        functions::text(memory(&caller)?.data(&caller), address, length).map_err(failed)
    };
    linker.func_wrap(ENV, "text", text)?;
    Ok(linker)
}

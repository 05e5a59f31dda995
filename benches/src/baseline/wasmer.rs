//! A hand-written host for wasmer: typed functions, and memory as a slice.
//!
//! Host functions belong to a store, so each instance creates the ones that it imports.

use std::fs;
use std::sync::Arc;

use tempfile::NamedTempFile;
use wasmer::sys::{Cranelift, EngineBuilder};
use wasmer::{
    AsStoreRef, Engine, Function, FunctionEnv, FunctionEnvMut, Instance, Memory, Module, RuntimeError, Store,
    TypedFunction,
};

use super::functions::{self, ENV, WASI};
use super::{Result, output, range_mut};

type State = super::State<Memory>;

/// An engine.
#[derive(Clone, Debug)]
pub struct Host {
    engine: Engine,
}

/// A compiled package and its imports, in the order of the module.
#[derive(Clone, Debug)]
pub struct Package {
    engine: Engine,
    module: Module,
    imports: Arc<[Maker]>,
}

/// An engine, and the compiled code of a package, in a file that belongs to this value.
#[derive(Debug)]
pub struct Kept {
    host: Host,
    code: NamedTempFile,
}

/// Creates a host function in a store.
type Maker = fn(&mut Store, &FunctionEnv<State>) -> Function;

/// An instance.
#[derive(Debug)]
pub struct Session {
    store: Store,
    memory: Memory,
    alloc: TypedFunction<u32, u32>,
    dealloc: TypedFunction<(u32, u32), ()>,
    generate: TypedFunction<(u32, u32), u32>,
}

impl Host {
    /// Creates an engine with the layer's settings, as far as they affect speed.
    pub fn new() -> Self {
        Self { engine: engine() }
    }

    /// Compiles a package.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn compile(&self, wasm: &[u8]) -> Result<Package> {
        self.link(Module::from_binary(&self.engine, wasm)?)
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

    fn link(&self, module: Module) -> Result<Package> {
        let offered = makers();
        let import = |import: wasmer::ImportType| {
            let found = offered.iter().find(|(module, name, _)| (*module, *name) == (import.module(), import.name()));
            found.map(|found| found.2).ok_or_else(|| format!("no function {}", import.name()).into())
        };
        let imports = module.imports().map(import).collect::<Result<_>>()?;
        Ok(Package { engine: self.engine.clone(), module, imports })
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
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
        let module = unsafe { Module::deserialize_from_file(&self.host.engine, &self.code) };
        self.host.link(module?)
    }
}

impl Package {
    /// Creates an instance.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn session(&self) -> Result<Session> {
        let mut store = Store::new(self.engine.clone());
        let env: FunctionEnv<State> = FunctionEnv::new(&mut store, State::default());
        let externs: Vec<_> = self.imports.iter().map(|make| make(&mut store, &env).into()).collect();
        let instance = Instance::new_by_index(&mut store, &self.module, &externs)?;
        let memory = instance.exports.get_memory("memory")?.clone();
        env.as_mut(&mut store).memory = Some(memory.clone());
        if let Ok(initialize) = instance.exports.get_typed_function::<(), ()>(&store, "_initialize") {
            initialize.call(&mut store)?;
        }
        Ok(Session {
            memory,
            alloc: instance.exports.get_typed_function(&store, "__mistletoe_alloc")?,
            dealloc: instance.exports.get_typed_function(&store, "__mistletoe_dealloc")?,
            generate: instance.exports.get_typed_function(&store, "__mistletoe_generate")?,
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
        with_memory(&self.memory, &self.store, |memory| -> Result<()> {
            range_mut(memory, address, length)?.copy_from_slice(input.as_bytes());
            Ok(())
        })?;
        let fat = self.generate.call(&mut self.store, address, length)?;
        let (start, size, output) = with_memory(&self.memory, &self.store, |memory| output(memory, fat))?;
        self.dealloc.call(&mut self.store, address, length)?;
        self.dealloc.call(&mut self.store, start, size)?;
        Ok(output)
    }
}

/// Creates only the engine.
#[must_use]
pub fn engine() -> Engine {
    let mut compiler = Cranelift::new();
    compiler.canonicalize_nans(true);
    EngineBuilder::new(compiler).engine().into()
}

/// Lends the memory as a slice. wasmer's interface for this without `unsafe` copies in small pieces.
#[inline]
pub(crate) fn with_memory<R>(memory: &Memory, store: &impl AsStoreRef, look: impl FnOnce(&mut [u8]) -> R) -> R {
    let view = memory.view(store);
    // SAFETY: the guest does not run or grow its memory while `look` has the slice, which cannot outlive the call. No
    // other thread has the memory, since the store is not `Send`. `look` has no way to obtain a second slice.
    #[allow(unsafe_code)]
    look(unsafe { view.data_unchecked_mut() })
}

/// Returns the host functions: module, name, and constructor.
fn makers() -> Vec<(&'static str, &'static str, Maker)> {
    type Env<'a> = FunctionEnvMut<'a, State>;

    fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> RuntimeError {
        RuntimeError::user(error)
    }
    fn look<R>(env: &Env<'_>, look: impl FnOnce(&mut [u8]) -> Result<R>) -> Result<R, RuntimeError> {
        let memory = env.data().memory.as_ref().ok_or_else(|| RuntimeError::new("no memory"))?;
        with_memory(memory, env, look).map_err(failed)
    }

    let mut makers: Vec<(&str, &str, Maker)> = Vec::new();
    macro_rules! define {
        ($name:ident($($param:ident: $ty:ty),*)) => {
            makers.push((WASI, stringify!($name), |store, env| {
                Function::new_typed_with_env(store, env, |env: Env<'_>, $($param: $ty),*| {
                    look(&env, |memory| functions::$name(memory, $($param),*))
                })
            }));
        };
    }
    functions::wasi!(define);
    makers.push((WASI, "proc_exit", |store, _| {
        Function::new_typed(store, |_: u32| -> Result<(), RuntimeError> { Err(RuntimeError::new("exit")) })
    }));

    makers.push((ENV, "nothing", |store, _| Function::new_typed(store, || ())));
    makers.push((ENV, "add", |store, _| Function::new_typed(store, |a: u32, b: u32| a.wrapping_add(b))));
    makers.push((ENV, "wide", |store, _| Function::new_typed(store, |a: u64, b: u64| a ^ b)));
    makers.push((ENV, "count", |store, env| {
        Function::new_typed_with_env(store, env, |mut env: Env<'_>, step: u32| {
            functions::count(&mut env.data_mut().count, step).map_err(failed)
        })
    }));
    makers.push((ENV, "text", |store, env| {
        Function::new_typed_with_env(store, env, |env: Env<'_>, address: u32, length: u32| {
            look(&env, |memory| functions::text(memory, address, length))
        })
    }));
    makers
}

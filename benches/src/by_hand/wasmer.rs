//! wasmer by hand: typed functions that are resolved once, and memory as a view.

use std::error::Error;

use wasmer::sys::{Cranelift, EngineBuilder};
use wasmer::{
    Engine, Function, FunctionEnv, FunctionEnvMut, Imports, Instance, Memory, Module, RuntimeError, Store,
    TypedFunction,
};

/// What a store holds.
#[derive(Debug, Default)]
struct State {
    memory: Option<Memory>,
    count: u32,
}

/// A guest that calls host functions.
#[derive(Debug)]
pub struct Calls {
    store: Store,
    run: TypedFunction<(u32, u32), u32>,
}

impl Calls {
    /// Compiles, links and instantiates it.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn new(wasm: &[u8]) -> Result<Self, Box<dyn Error>> {
        let mut compiler = Cranelift::new();
        compiler.canonicalize_nans(true);
        let engine: Engine = EngineBuilder::new(compiler).engine().into();
        let module = Module::from_binary(&engine, wasm)?;
        let mut store = Store::new(engine);
        let env: FunctionEnv<State> = FunctionEnv::new(&mut store, State::default());
        let text = |env: FunctionEnvMut<'_, State>, address: u32, length: u32| -> Result<u32, RuntimeError> {
            let memory = env.data().memory.as_ref().ok_or_else(|| RuntimeError::new("no memory"))?;
            let mut bytes = [0; 64];
            let bytes = bytes.get_mut(..length as usize).ok_or_else(|| RuntimeError::new("too long"))?;
            memory.view(&env).read(address.into(), bytes).map_err(|error| RuntimeError::new(error.to_string()))?;
            Ok(std::str::from_utf8(bytes).map_err(|error| RuntimeError::new(error.to_string()))?.len() as u32)
        };
        let count = |mut env: FunctionEnvMut<'_, State>, step: u32| -> Result<u32, RuntimeError> {
            let state = env.data_mut();
            state.count = state.count.checked_add(step).ok_or_else(|| RuntimeError::new("too many"))?;
            Ok(state.count)
        };
        let mut imports = Imports::new();
        let nothing = |_: FunctionEnvMut<'_, State>| ();
        let add = |_: FunctionEnvMut<'_, State>, a: u32, b: u32| a.wrapping_add(b);
        let wide = |_: FunctionEnvMut<'_, State>, a: u64, b: u64| a ^ b;
        imports.define("env", "nothing", Function::new_typed_with_env(&mut store, &env, nothing));
        imports.define("env", "add", Function::new_typed_with_env(&mut store, &env, add));
        imports.define("env", "wide", Function::new_typed_with_env(&mut store, &env, wide));
        imports.define("env", "count", Function::new_typed_with_env(&mut store, &env, count));
        imports.define("env", "text", Function::new_typed_with_env(&mut store, &env, text));
        let instance = Instance::new(&mut store, &module, &imports)?;
        env.as_mut(&mut store).memory = Some(instance.exports.get_memory("memory")?.clone());
        Ok(Self { run: instance.exports.get_typed_function(&store, "__mistletoe_generate")?, store })
    }

    /// Makes all the calls.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn run(&mut self) -> Result<u32, RuntimeError> {
        self.run.call(&mut self.store, 0, 0)
    }
}

//! A hand-written host of scheduler plugins for wasmer. Host functions belong to a store, so each instance creates them.

use wasmer::{
    Engine, Function, FunctionEnv, FunctionEnvMut, Instance, Memory, Module, RuntimeError, Store, TypedFunction,
    imports,
};

use super::{API, Calls, Host, Result, SCHEDULER};
use crate::baseline::wasmer::{engine, with_memory};

type State = super::State<Memory>;
type Env<'a> = FunctionEnvMut<'a, State>;

/// A compiled plugin.
#[derive(Debug)]
pub struct Plugin {
    engine: Engine,
    module: Module,
}

/// An instance of a plugin.
#[derive(Debug)]
pub struct Session {
    store: Store,
    env: FunctionEnv<State>,
    prefilter: TypedFunction<(), i32>,
    filter: TypedFunction<(), i32>,
    score: TypedFunction<(), u64>,
}

impl Host for Plugin {
    type Session = Session;

    fn compile(wasm: &[u8]) -> Result<Self> {
        let engine = engine();
        Ok(Self { module: Module::from_binary(&engine, wasm)?, engine })
    }

    fn session(&self) -> Result<Session> {
        let mut store = Store::new(self.engine.clone());
        let env = FunctionEnv::new(&mut store, State::default());
        let imports = imports! {
            API => {
                "node" => Function::new_typed_with_env(&mut store, &env, node),
            },
            SCHEDULER => {
                "currentPod" => Function::new_typed_with_env(&mut store, &env, pod),
                "currentNodeName" => Function::new_typed_with_env(&mut store, &env, node_name),
                "result.status_reason" => Function::new_typed_with_env(&mut store, &env, reason),
            },
        };
        let instance = Instance::new(&mut store, &self.module, &imports)?;
        let exports = &instance.exports;
        env.as_mut(&mut store).memory = Some(exports.get_memory("memory")?.clone());
        let (prefilter, filter) =
            (exports.get_typed_function(&store, "prefilter")?, exports.get_typed_function(&store, "filter")?);
        Ok(Session { prefilter, filter, score: exports.get_typed_function(&store, "score")?, env, store })
    }
}

impl Calls for Session {
    type Memory = Memory;

    fn state(&mut self) -> &mut State {
        self.env.as_mut(&mut self.store)
    }

    fn call_prefilter(&mut self) -> Result<i32> {
        Ok(self.prefilter.call(&mut self.store)?)
    }

    fn call_filter(&mut self) -> Result<i32> {
        Ok(self.filter.call(&mut self.store)?)
    }

    fn call_score(&mut self) -> Result<u64> {
        Ok(self.score.call(&mut self.store)?)
    }
}

/// Calls a function of the state with the memory.
fn with<R>(mut env: Env<'_>, function: impl FnOnce(&mut State, &mut [u8]) -> Result<R>) -> Result<R, RuntimeError> {
    let (state, store) = env.data_and_store_mut();
    let memory = state.memory.clone().ok_or_else(|| RuntimeError::new("the instance is not ready"))?;
    with_memory(&memory, &store, |memory| function(state, memory)).map_err(RuntimeError::user)
}

fn node(env: Env<'_>, name: u32, length: u32, buffer: u32, limit: u32) -> Result<u32, RuntimeError> {
    with(env, |state, memory| state.node(memory, name, length, buffer, limit))
}

fn pod(env: Env<'_>, buffer: u32, limit: u32) -> Result<u32, RuntimeError> {
    with(env, |state, memory| state.pod(memory, buffer, limit))
}

fn node_name(env: Env<'_>, buffer: u32, limit: u32) -> Result<u32, RuntimeError> {
    with(env, |state, memory| state.node_name(memory, buffer, limit))
}

fn reason(env: Env<'_>, address: u32, length: u32) -> Result<(), RuntimeError> {
    with(env, |state, memory| state.set_reason(memory, address, length))
}

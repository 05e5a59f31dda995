//! A hand-written host of plugins for wasmer. Host functions belong to a store, so each instance creates them.

use bytes::Bytes;
use wasmer::{
    Engine, Function, FunctionEnv, FunctionEnvMut, Instance, Memory, Module, RuntimeError, Store, TypedFunction,
    imports,
};

use super::{Host, MODULE, Result, pack};
use crate::baseline::range_mut;
use crate::baseline::wasmer::{engine, with_memory};

type State = super::State<Memory, TypedFunction<u32, u32>>;

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
    free: TypedFunction<u32, ()>,
    run: TypedFunction<(), ()>,
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
            MODULE => {
                "igets" => Function::new_typed_with_env(&mut store, &env, igets),
                "oputs" => Function::new_typed_with_env(&mut store, &env, oputs),
                // What a plugin reports is not a part of the response.
                "eputs" => Function::new_typed(&mut store, |_: u32, _: u32| ()),
            },
        };
        let instance = Instance::new(&mut store, &self.module, &imports)?;
        let exports = &instance.exports;
        let memory = exports.get_memory("memory")?.clone();
        let malloc = exports.get_typed_function(&store, "malloc")?;
        env.as_mut(&mut store).exports = Some((memory, malloc));
        if let Ok(initialize) = exports.get_typed_function::<(), ()>(&store, "_initialize") {
            initialize.call(&mut store)?;
        }
        let (free, run) = (exports.get_typed_function(&store, "free")?, exports.get_typed_function(&store, "run")?);
        Ok(Session { store, env, free, run })
    }
}

impl super::Session for Session {
    fn respond(&mut self, input: Bytes) -> Result<Vec<u8>> {
        self.env.as_mut(&mut self.store).begin(input);
        self.run.call(&mut self.store)?;
        for address in std::mem::take(&mut self.env.as_mut(&mut self.store).given) {
            self.free.call(&mut self.store, address)?;
        }
        Ok(std::mem::take(&mut self.env.as_mut(&mut self.store).output))
    }
}

fn exports(env: &FunctionEnvMut<'_, State>) -> Result<(Memory, TypedFunction<u32, u32>), RuntimeError> {
    env.data().exports.clone().ok_or_else(|| RuntimeError::new("the instance is not ready"))
}

fn igets(mut env: FunctionEnvMut<'_, State>) -> Result<u64, RuntimeError> {
    let Some(record) = env.data_mut().next() else { return Ok(0) };
    let (memory, malloc) = exports(&env)?;
    let address = malloc.call(&mut env, record.length())?;
    env.data_mut().given.push(address);
    with_memory(&memory, &env, |memory| -> Result<()> {
        record.write(range_mut(memory, address, record.length())?);
        Ok(())
    })
    .map_err(RuntimeError::user)?;
    Ok(pack(address, record.length()))
}

fn oputs(mut env: FunctionEnvMut<'_, State>, address: u32, length: u32) -> Result<(), RuntimeError> {
    let (memory, _) = exports(&env)?;
    let (state, store) = env.data_and_store_mut();
    with_memory(&memory, &store, |memory| state.write(memory, address, length)).map_err(RuntimeError::user)
}

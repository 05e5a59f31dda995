//! A hand-written host of scheduler plugins for wasmi. It uses one linker for all instances: wasmi has no pre-linked
//! modules.

use wasmi::{Caller, Error, Linker, Memory, Module, Store, TypedFunc};

use super::{API, Calls, Host, Result, SCHEDULER};
use crate::baseline::wasmi::engine;

type State = super::State<Memory>;

/// A translated plugin.
#[derive(Debug)]
pub struct Plugin {
    module: Module,
    linker: Linker<State>,
}

/// An instance of a plugin.
#[derive(Debug)]
pub struct Session {
    store: Store<State>,
    prefilter: TypedFunc<(), i32>,
    filter: TypedFunc<(), i32>,
    score: TypedFunc<(), u64>,
}

impl Host for Plugin {
    type Session = Session;

    fn compile(wasm: &[u8]) -> Result<Self> {
        let engine = engine(false);
        Ok(Self { module: Module::new(&engine, wasm)?, linker: linker(&engine)? })
    }

    fn session(&self) -> Result<Session> {
        let mut store = Store::new(self.module.engine(), State::default());
        let instance = self.linker.instantiate_and_start(&mut store, &self.module)?;
        store.data_mut().memory = Some(instance.get_memory(&store, "memory").ok_or("no memory")?);
        Ok(Session {
            prefilter: instance.get_typed_func(&store, "prefilter")?,
            filter: instance.get_typed_func(&store, "filter")?,
            score: instance.get_typed_func(&store, "score")?,
            store,
        })
    }
}

impl Calls for Session {
    type Memory = Memory;

    fn state(&mut self) -> &mut State {
        self.store.data_mut()
    }

    fn call_prefilter(&mut self) -> Result<i32> {
        Ok(self.prefilter.call(&mut self.store, ())?)
    }

    fn call_filter(&mut self) -> Result<i32> {
        Ok(self.filter.call(&mut self.store, ())?)
    }

    fn call_score(&mut self) -> Result<u64> {
        Ok(self.score.call(&mut self.store, ())?)
    }
}

fn linker(engine: &wasmi::Engine) -> Result<Linker<State>> {
    /// Calls a function of the state with the memory.
    fn with<R>(
        mut caller: Caller<'_, State>,
        function: impl FnOnce(&mut State, &mut [u8]) -> Result<R>,
    ) -> Result<R, Error> {
        let memory = caller.data().memory.ok_or_else(|| Error::new("the instance is not ready"))?;
        let (memory, state) = memory.data_and_store_mut(&mut caller);
        function(state, memory).map_err(|error| Error::new(error.to_string()))
    }
    let mut linker = Linker::new(engine);
    linker.func_wrap(API, "node", |caller: Caller<'_, State>, name: u32, length: u32, buffer: u32, limit: u32| {
        with(caller, |state, memory| state.node(memory, name, length, buffer, limit))
    })?;
    linker.func_wrap(SCHEDULER, "currentPod", |caller: Caller<'_, State>, buffer: u32, limit: u32| {
        with(caller, |state, memory| state.pod(memory, buffer, limit))
    })?;
    linker.func_wrap(SCHEDULER, "currentNodeName", |caller: Caller<'_, State>, buffer: u32, limit: u32| {
        with(caller, |state, memory| state.node_name(memory, buffer, limit))
    })?;
    linker.func_wrap(SCHEDULER, "result.status_reason", |caller: Caller<'_, State>, address: u32, length: u32| {
        with(caller, |state, memory| state.set_reason(memory, address, length))
    })?;
    Ok(linker)
}

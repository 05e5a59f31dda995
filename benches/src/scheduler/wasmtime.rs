//! A hand-written host of scheduler plugins for wasmtime: linked once for all instances.

use wasmtime::{Caller, InstancePre, Linker, Memory, Module, Store, TypedFunc};

use super::{API, Calls, Host, Result, SCHEDULER};
use crate::baseline::wasmtime::{Settings, engine};

type State = super::State<Memory>;

/// A compiled plugin.
pub struct Plugin(InstancePre<State>);

/// An instance of a plugin.
pub struct Session {
    store: Store<State>,
    prefilter: TypedFunc<(), i32>,
    filter: TypedFunc<(), i32>,
    score: TypedFunc<(), u64>,
}

impl Host for Plugin {
    type Session = Session;

    fn compile(wasm: &[u8]) -> Result<Self> {
        let engine = engine(Settings::default())?;
        Ok(Self(linker(&engine)?.instantiate_pre(&Module::from_binary(&engine, wasm)?)?))
    }

    fn session(&self) -> Result<Session> {
        let mut store = Store::new(self.0.module().engine(), State::default());
        let instance = self.0.instantiate(&mut store)?;
        store.data_mut().memory = Some(instance.get_memory(&mut store, "memory").ok_or("no memory")?);
        Ok(Session {
            prefilter: instance.get_typed_func(&mut store, "prefilter")?,
            filter: instance.get_typed_func(&mut store, "filter")?,
            score: instance.get_typed_func(&mut store, "score")?,
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

fn linker(engine: &wasmtime::Engine) -> Result<Linker<State>> {
    /// Calls a function of the state with the memory.
    fn with<R>(
        mut caller: Caller<'_, State>,
        function: impl FnOnce(&mut State, &mut [u8]) -> Result<R>,
    ) -> wasmtime::Result<R> {
        let memory = caller.data().memory.ok_or_else(|| wasmtime::Error::msg("the instance is not ready"))?;
        let (memory, state) = memory.data_and_store_mut(&mut caller);
        function(state, memory).map_err(wasmtime::Error::from_boxed)
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

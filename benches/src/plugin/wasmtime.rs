//! A hand-written host of plugins for wasmtime: linked once for all instances, which come from a pool.

use bytes::Bytes;
use wasmtime::{Caller, InstancePre, Linker, Memory, Module, Store, TypedFunc};

use super::{Host, MODULE, Result, pack};
use crate::baseline::range_mut;
use crate::baseline::wasmtime::{Settings, engine};

type State = super::State<Memory, TypedFunc<u32, u32>>;

/// A compiled plugin.
pub struct Plugin(InstancePre<State>);

/// An instance of a plugin.
pub struct Session {
    store: Store<State>,
    free: TypedFunc<u32, ()>,
    run: TypedFunc<(), ()>,
}

impl Host for Plugin {
    type Session = Session;

    fn compile(wasm: &[u8]) -> Result<Self> {
        let engine = engine(Settings { pooling: true, ..Settings::default() })?;
        Ok(Self(linker(&engine)?.instantiate_pre(&Module::from_binary(&engine, wasm)?)?))
    }

    fn session(&self) -> Result<Session> {
        let mut store = Store::new(self.0.module().engine(), State::default());
        let instance = self.0.instantiate(&mut store)?;
        let memory = instance.get_memory(&mut store, "memory").ok_or("no memory")?;
        let malloc = instance.get_typed_func(&mut store, "malloc")?;
        store.data_mut().exports = Some((memory, malloc));
        if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
            initialize.call(&mut store, ())?;
        }
        let (free, run) = (instance.get_typed_func(&mut store, "free")?, instance.get_typed_func(&mut store, "run")?);
        Ok(Session { store, free, run })
    }
}

impl super::Session for Session {
    fn respond(&mut self, input: Bytes) -> Result<Vec<u8>> {
        self.store.data_mut().begin(input);
        self.run.call(&mut self.store, ())?;
        for address in std::mem::take(&mut self.store.data_mut().given) {
            self.free.call(&mut self.store, address)?;
        }
        Ok(std::mem::take(&mut self.store.data_mut().output))
    }
}

fn linker(engine: &wasmtime::Engine) -> Result<Linker<State>> {
    let exports = |caller: &Caller<'_, State>| {
        caller.data().exports.clone().ok_or_else(|| wasmtime::Error::msg("the instance is not ready"))
    };
    let mut linker = Linker::new(engine);
    linker.func_wrap(MODULE, "igets", move |mut caller: Caller<'_, State>| -> wasmtime::Result<u64> {
        let Some(record) = caller.data_mut().next() else { return Ok(0) };
        let (memory, malloc) = exports(&caller)?;
        let address = malloc.call(&mut caller, record.length())?;
        caller.data_mut().given.push(address);
        let buffer = range_mut(memory.data_mut(&mut caller), address, record.length());
        record.write(buffer.map_err(wasmtime::Error::from_boxed)?);
        Ok(pack(address, record.length()))
    })?;
    let oputs = move |mut caller: Caller<'_, State>, address: u32, length: u32| -> wasmtime::Result<()> {
        let (memory, _) = exports(&caller)?;
        let (memory, state) = memory.data_and_store_mut(&mut caller);
        state.write(memory, address, length).map_err(wasmtime::Error::from_boxed)
    };
    linker.func_wrap(MODULE, "oputs", oputs)?;
    // What a plugin reports is not a part of the response.
    linker.func_wrap(MODULE, "eputs", |_: u32, _: u32| ())?;
    Ok(linker)
}

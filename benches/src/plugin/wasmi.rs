//! A hand-written host of plugins for wasmi. It uses one linker for all instances: wasmi has no pre-linked modules.

use bytes::Bytes;
use wasmi::{Caller, Error, Linker, Memory, Module, Store, TypedFunc};

use super::{Host, MODULE, Result, pack};
use crate::baseline::range_mut;
use crate::baseline::wasmi::engine;

type State = super::State<Memory, TypedFunc<u32, u32>>;

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
    free: TypedFunc<u32, ()>,
    run: TypedFunc<(), ()>,
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
        let memory = instance.get_memory(&store, "memory").ok_or("no memory")?;
        let malloc = instance.get_typed_func(&store, "malloc")?;
        store.data_mut().exports = Some((memory, malloc));
        if let Some(initialize) = instance.get_func(&store, "_initialize") {
            initialize.typed::<(), ()>(&store)?.call(&mut store, ())?;
        }
        let (free, run) = (instance.get_typed_func(&store, "free")?, instance.get_typed_func(&store, "run")?);
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

fn linker(engine: &wasmi::Engine) -> Result<Linker<State>> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| Error::new(error.to_string());
    let exports =
        |caller: &Caller<'_, State>| caller.data().exports.ok_or_else(|| Error::new("the instance is not ready"));
    let mut linker = Linker::new(engine);
    linker.func_wrap(MODULE, "igets", move |mut caller: Caller<'_, State>| -> Result<u64, Error> {
        let Some(record) = caller.data_mut().next() else { return Ok(0) };
        let (memory, malloc) = exports(&caller)?;
        let address = malloc.call(&mut caller, record.length())?;
        caller.data_mut().given.push(address);
        let buffer = range_mut(memory.data_mut(&mut caller), address, record.length());
        record.write(buffer.map_err(failed)?);
        Ok(pack(address, record.length()))
    })?;
    let oputs = move |mut caller: Caller<'_, State>, address: u32, length: u32| -> Result<(), Error> {
        let (memory, _) = exports(&caller)?;
        let (memory, state) = memory.data_and_store_mut(&mut caller);
        state.write(memory, address, length).map_err(failed)
    };
    linker.func_wrap(MODULE, "oputs", oputs)?;
    // What a plugin reports is not a part of the response.
    linker.func_wrap(MODULE, "eputs", |_: u32, _: u32| ())?;
    Ok(linker)
}

//! wasmi by hand: typed functions that are resolved once, and memory as a slice.

use wasmi::{Caller, Engine, Error, Linker, Memory, Module, Store, TypedFunc};

/// What a store holds.
#[derive(Debug, Default)]
struct State {
    memory: Option<Memory>,
    count: u32,
}

/// A guest that calls host functions.
#[derive(Debug)]
pub struct Calls {
    store: Store<State>,
    run: TypedFunc<(u32, u32), u32>,
}

impl Calls {
    /// Translates, links and instantiates it.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn new(wasm: &[u8]) -> Result<Self, Error> {
        let engine = Engine::default();
        let mut linker: Linker<State> = Linker::new(&engine);
        linker.func_wrap("env", "nothing", |_: Caller<'_, State>| ())?;
        linker.func_wrap("env", "add", |_: Caller<'_, State>, a: u32, b: u32| a.wrapping_add(b))?;
        linker.func_wrap("env", "wide", |_: Caller<'_, State>, a: u64, b: u64| a ^ b)?;
        linker.func_wrap("env", "count", |mut caller: Caller<'_, State>, step: u32| -> Result<u32, Error> {
            let state = caller.data_mut();
            state.count = state.count.checked_add(step).ok_or_else(|| Error::new("too many"))?;
            Ok(state.count)
        })?;
        linker.func_wrap(
            "env",
            "text",
            |caller: Caller<'_, State>, address: u32, length: u32| -> Result<u32, Error> {
                let memory = caller.data().memory.ok_or_else(|| Error::new("no memory"))?;
                let (start, end) = (address as usize, address as usize + length as usize);
                let bytes = memory.data(&caller).get(start..end).ok_or_else(|| Error::new("outside"))?;
                Ok(std::str::from_utf8(bytes).map_err(|error| Error::new(error.to_string()))?.len() as u32)
            },
        )?;
        let mut store = Store::new(&engine, State::default());
        let instance = linker.instantiate_and_start(&mut store, &Module::new(&engine, wasm)?)?;
        store.data_mut().memory = instance.get_memory(&store, "memory");
        Ok(Self { run: instance.get_typed_func(&store, "__mistletoe_generate")?, store })
    }

    /// Makes all the calls.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn run(&mut self) -> Result<u32, Error> {
        self.run.call(&mut self.store, (0, 0))
    }
}

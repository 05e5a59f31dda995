//! wasmtime by hand: typed functions that are resolved once, and memory as a slice.

use std::time::Instant;

use wasmtime::{Caller, Config, Engine, Instance, Linker, Memory, Module, Result, Store, TypedFunc};

/// An engine as the layer sets it, where that matters to speed.
fn config() -> Config {
    let mut config = Config::new();
    config.cranelift_nan_canonicalization(true).wasm_backtrace_max_frames(None);
    config
}

/// The engine's own limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Ends the guest when an epoch is over.
    pub epochs: bool,
    /// Counts what it does.
    pub fuel: bool,
}

/// A package and its functions.
pub struct Package {
    store: Store<()>,
    limits: Limits,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    dealloc: TypedFunc<(u32, u32), ()>,
    generate: TypedFunc<(u32, u32), u32>,
}

impl Package {
    /// Compiles and instantiates a package that imports nothing, or no more of WASI than Go's runtime asks for.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn new(wasm: &[u8], limits: Limits) -> Result<Self> {
        let engine = Engine::new(config().epoch_interruption(limits.epochs).consume_fuel(limits.fuel))?;
        let mut store = Store::new(&engine, ());
        let module = Module::new(&engine, wasm)?;
        let mut linker = Linker::new(&engine);
        wasi(&mut linker)?;
        linker.define_unknown_imports_as_default_values(&mut store, &module)?;
        refill(&mut store, limits)?;
        let instance = linker.instantiate(&mut store, &module)?;
        if let Some(initialize) = instance.get_func(&mut store, "_initialize") {
            initialize.call(&mut store, &[], &mut [])?;
        }
        Ok(Self {
            memory: memory(&instance, &mut store)?,
            alloc: instance.get_typed_func(&mut store, "__mistletoe_alloc")?,
            dealloc: instance.get_typed_func(&mut store, "__mistletoe_dealloc")?,
            generate: instance.get_typed_func(&mut store, "__mistletoe_generate")?,
            store,
            limits,
        })
    }

    /// Answers an input.
    ///
    /// # Errors
    ///
    /// The engine's, and for an answer that is not UTF-8.
    pub fn generate(&mut self, input: &str) -> Result<String> {
        refill(&mut self.store, self.limits)?;
        let length = input.len() as u32;
        let address = self.alloc.call(&mut self.store, length)?;
        self.memory.write(&mut self.store, address as usize, input.as_bytes())?;
        let fat = self.generate.call(&mut self.store, (address, length))? as usize;
        let memory = self.memory.data(&self.store);
        let word = |at: usize| memory[at..at + 4].iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        let (start, size) = (word(fat), word(fat + 4));
        let output = std::str::from_utf8(&memory[start as usize..start as usize + size as usize])?.to_owned();
        self.dealloc.call(&mut self.store, (address, length))?;
        self.dealloc.call(&mut self.store, (start, size))?;
        Ok(output)
    }
}

/// What each call may use.
fn refill(store: &mut Store<()>, limits: Limits) -> Result<()> {
    if limits.epochs {
        store.set_epoch_deadline(1);
    }
    if limits.fuel {
        store.set_fuel(u64::MAX / 2)?;
    }
    Ok(())
}

/// A clock that goes, and no open directories.
fn wasi(linker: &mut Linker<()>) -> Result<()> {
    const WASI: &str = "wasi_snapshot_preview1";
    const BAD_FILE: u32 = 8;
    let begin = Instant::now();
    linker.func_wrap(WASI, "clock_time_get", move |mut caller: Caller<'_, ()>, _: u32, _: u64, at: u32| {
        let now = begin.elapsed().as_nanos() as u64;
        let memory = caller.get_export("memory").and_then(|export| export.into_memory());
        let memory = memory.ok_or_else(|| ::wasmtime::Error::msg("no memory"))?;
        memory.write(&mut caller, at as usize, &now.to_le_bytes())?;
        Ok(0_u32)
    })?;
    linker.func_wrap(WASI, "fd_prestat_get", |_: u32, _: u32| BAD_FILE)?;
    Ok(())
}

/// What a store holds.
#[derive(Debug, Default)]
struct State {
    memory: Option<Memory>,
    count: u32,
}

/// A guest that calls host functions.
pub struct Calls {
    store: Store<State>,
    run: TypedFunc<(u32, u32), u32>,
}

impl Calls {
    /// Compiles, links and instantiates it.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn new(wasm: &[u8]) -> Result<Self> {
        let engine = Engine::new(&config())?;
        let mut linker: Linker<State> = Linker::new(&engine);
        linker.func_wrap("env", "nothing", |_: Caller<'_, State>| ())?;
        linker.func_wrap("env", "add", |_: Caller<'_, State>, a: u32, b: u32| a.wrapping_add(b))?;
        linker.func_wrap("env", "wide", |_: Caller<'_, State>, a: u64, b: u64| a ^ b)?;
        linker.func_wrap("env", "count", |mut caller: Caller<'_, State>, step: u32| -> Result<u32> {
            let state = caller.data_mut();
            state.count = state.count.checked_add(step).ok_or_else(|| ::wasmtime::Error::msg("too many"))?;
            Ok(state.count)
        })?;
        linker.func_wrap("env", "text", |caller: Caller<'_, State>, address: u32, length: u32| -> Result<u32> {
            let memory = caller.data().memory.ok_or_else(|| ::wasmtime::Error::msg("no memory"))?;
            let (start, end) = (address as usize, address as usize + length as usize);
            let bytes = memory.data(&caller).get(start..end).ok_or_else(|| ::wasmtime::Error::msg("outside"))?;
            Ok(std::str::from_utf8(bytes)?.len() as u32)
        })?;
        let mut store = Store::new(&engine, State::default());
        let instance = linker.instantiate(&mut store, &Module::new(&engine, wasm)?)?;
        store.data_mut().memory = Some(memory(&instance, &mut store)?);
        Ok(Self { run: instance.get_typed_func(&mut store, "__mistletoe_generate")?, store })
    }

    /// Makes all the calls.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn run(&mut self) -> Result<u32> {
        self.run.call(&mut self.store, (0, 0))
    }
}

fn memory<T: 'static>(instance: &Instance, store: &mut Store<T>) -> Result<Memory> {
    instance.get_memory(store, "memory").ok_or_else(|| ::wasmtime::Error::msg("no memory"))
}

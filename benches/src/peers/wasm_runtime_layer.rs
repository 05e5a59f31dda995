//! wasm_runtime_layer: functions with tagged values, and memory that is copied from and to.

use wasm_runtime_layer::{Engine, Func, Imports, Instance, Memory, Module, Store, Val};

use super::Result;
use crate::baseline;

pub use wasm_runtime_layer::backend::WasmEngine;

const PAGE: usize = 1 << 16;

/// An engine.
pub struct Host<E: WasmEngine> {
    engine: Engine<E>,
}

/// A compiled package.
pub struct Package<E: WasmEngine> {
    engine: Engine<E>,
    module: Module,
}

/// An instance.
pub struct Session<E: WasmEngine> {
    store: Store<(), E>,
    memory: Memory,
    alloc: Func,
    dealloc: Func,
    generate: Func,
}

/// Creates a host on wasmtime, with the engine of the hand-written host.
///
/// # Errors
///
/// Returns the engine's errors.
pub fn wasmtime(settings: baseline::wasmtime::Settings) -> Result<Host<wasmtime_runtime_layer::Engine>> {
    let engine = wasmtime_runtime_layer::Engine::new(baseline::wasmtime::engine(settings)?);
    Ok(Host { engine: Engine::new(engine) })
}

/// Creates a host on wasmi, with the engine of the hand-written host.
#[must_use]
pub fn wasmi() -> Host<wasmi_runtime_layer::Engine> {
    Host { engine: Engine::new(wasmi_runtime_layer::Engine::new(baseline::wasmi::engine(false))) }
}

impl<E: WasmEngine> Host<E> {
    /// Compiles a package.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn compile(&self, wasm: &[u8]) -> Result<Package<E>> {
        Ok(Package { engine: self.engine.clone(), module: Module::new(&self.engine, wasm)? })
    }
}

impl<E: WasmEngine> Package<E> {
    /// Creates an instance.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    pub fn session(&self) -> Result<Session<E>> {
        let mut store = Store::new(&self.engine, ());
        let instance = Instance::new(&mut store, &self.module, &Imports::new())?;
        let memory = instance.get_export(&store, "memory").and_then(|export| export.into_memory());
        let find = |name| instance.get_export(&store, name).and_then(|export| export.into_func());
        let func = |name| find(name).ok_or_else(|| format!("no function {name}"));
        let (alloc, dealloc) = (func("__mistletoe_alloc")?, func("__mistletoe_dealloc")?);
        let (generate, initialize) = (func("__mistletoe_generate")?, find("_initialize"));
        if let Some(initialize) = initialize {
            initialize.call(&mut store, &[], &mut [])?;
        }
        Ok(Session { memory: memory.ok_or("no memory")?, alloc, dealloc, generate, store })
    }
}

impl<E: WasmEngine> Session<E> {
    /// Returns the output for an input.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors, and an error for an output that cannot be read.
    pub fn generate(&mut self, input: &str) -> Result<String> {
        let length = u32::try_from(input.len())?;
        let address = call(&mut self.store, &self.alloc, [length])?;
        if address == 0 && length > 0 {
            return Err("the package could not allocate".into());
        }
        self.memory.write(&mut self.store, address as usize, input.as_bytes())?;
        let fat = call(&mut self.store, &self.generate, [address, length])?;
        let (start, size, output) = self.output(fat)?;
        self.dealloc.call(&mut self.store, &[address, length].map(word), &mut [])?;
        self.dealloc.call(&mut self.store, &[start, size].map(word), &mut [])?;
        Ok(output)
    }

    /// Reads the output that a fat pointer points to: its address, its length, and a copy.
    fn output(&self, fat: u32) -> Result<(u32, u32, String)> {
        let mut pair = [0; 8];
        self.memory.read(&self.store, fat as usize, &mut pair)?;
        let pair = u64::from_le_bytes(pair);
        let (start, size) = (pair as u32, (pair >> 32) as u32);
        // Allocates only for a length that the memory can contain.
        if size as usize > self.memory.current_pages(&self.store) as usize * PAGE {
            return Err("a range outside the memory".into());
        }
        let mut output = vec![0; size as usize];
        self.memory.read(&self.store, start as usize, &mut output)?;
        Ok((start, size, String::from_utf8(output)?))
    }
}

/// Calls a function that returns a word.
fn call<E: WasmEngine, const N: usize>(store: &mut Store<(), E>, func: &Func, arguments: [u32; N]) -> Result<u32> {
    let mut results = [Val::I32(0)];
    func.call(store, &arguments.map(word), &mut results)?;
    match results {
        [Val::I32(word)] => Ok(word.cast_unsigned()),
        _ => Err("no word".into()),
    }
}

fn word(word: u32) -> Val {
    Val::I32(word.cast_signed())
}

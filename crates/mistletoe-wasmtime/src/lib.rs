//! [wasmtime](https://docs.rs/wasmtime) as a backend: the fastest at its peak, and the one with a security process and
//! long-term support.

#![forbid(unsafe_code)]

use mistletoe_abi::protocol::MEMORY;
use mistletoe_abi::types::FuncType;
use mistletoe_abi::{Backend, Error, Instance, Operation, Result, Trap, ValidModule};
use wasmtime::{Collector, Config, Engine, InstancePre, Linker, Memory, Module, Store, Strategy, TypedFunc};

/// wasmtime with one of its compilers.
#[derive(Clone)]
pub struct Wasmtime {
    engine: Engine,
    name: &'static str,
}

/// A live instance.
#[derive(Debug)]
pub struct WasmtimeInstance {
    store: Store<()>,
    instance: wasmtime::Instance,
    memory: Memory,
}

/// A resolved function: its number of parameters, and whether it has a result.
pub enum WasmtimeFunc {
    /// `[] -> []`
    Unit0(TypedFunc<(), ()>),
    /// `[i32] -> []`
    Unit1(TypedFunc<u32, ()>),
    /// `[i32, i32] -> []`
    Unit2(TypedFunc<(u32, u32), ()>),
    /// `[] -> [i32]`
    Word0(TypedFunc<(), u32>),
    /// `[i32] -> [i32]`
    Word1(TypedFunc<u32, u32>),
    /// `[i32, i32] -> [i32]`
    Word2(TypedFunc<(u32, u32), u32>),
}

impl Wasmtime {
    /// wasmtime with its optimising compiler, Cranelift.
    ///
    /// # Errors
    ///
    /// [`Operation::Configure`] where wasmtime cannot generate code for this machine.
    pub fn new() -> Result<Self> {
        Self::with_config("wasmtime", Config::new().strategy(Strategy::Cranelift))
    }

    /// wasmtime with Winch: code that is made quickly and runs less so.
    ///
    /// # Errors
    ///
    /// [`Operation::Configure`] where Winch cannot generate code for this machine.
    #[cfg(feature = "winch")]
    pub fn winch() -> Result<Self> {
        Self::with_config("wasmtime-winch", Config::new().strategy(Strategy::Winch))
    }

    /// wasmtime with Pulley, its interpreter, which runs where no code can be generated.
    ///
    /// # Errors
    ///
    /// [`Operation::Configure`] where wasmtime cannot be set up.
    #[cfg(feature = "pulley")]
    pub fn pulley() -> Result<Self> {
        let mut config = Config::new();
        let config = config.target("pulley64").map_err(|error| Error::engine(Operation::Configure, error))?;
        Self::with_config("wasmtime-pulley", config)
    }

    /// Set to run exactly the layer's feature set.
    fn with_config(name: &'static str, config: &mut Config) -> Result<Self> {
        config
            .collector(Collector::Null)
            .cranelift_nan_canonicalization(true)
            // A trace of frames is dear to gather, and no part of what a trap is.
            .wasm_backtrace_max_frames(None)
            .wasm_simd(false)
            .wasm_relaxed_simd(false)
            .wasm_tail_call(false)
            .wasm_multi_memory(false)
            .wasm_memory64(false)
            .wasm_function_references(false)
            .wasm_gc(false)
            .wasm_exceptions(false)
            .wasm_extended_const(true);
        let engine = Engine::new(config).map_err(|error| Error::engine(Operation::Configure, error))?;
        Ok(Self { engine, name })
    }
}

impl Backend for Wasmtime {
    type Module = InstancePre<()>;
    type Instance = WasmtimeInstance;

    fn name(&self) -> &'static str {
        self.name
    }

    fn compile(&self, module: &ValidModule<'_>) -> Result<InstancePre<()>> {
        Module::from_binary(&self.engine, module.bytes())
            .and_then(|module| Linker::new(&self.engine).instantiate_pre(&module))
            .map_err(|error| Error::engine(Operation::Compile, error))
    }

    fn instantiate(&self, module: &InstancePre<()>) -> Result<WasmtimeInstance> {
        let mut store = Store::new(&self.engine, ());
        let instance = module.instantiate(&mut store).map_err(|error| failed(Operation::Instantiate, error))?;
        let memory = instance
            .get_memory(&mut store, MEMORY)
            .ok_or_else(|| Error::engine(Operation::Instantiate, "the exported memory was not found"))?;
        Ok(WasmtimeInstance { store, instance, memory })
    }
}

impl Instance for WasmtimeInstance {
    type Func = WasmtimeFunc;

    fn func(&mut self, name: &str, ty: &FuncType) -> Result<WasmtimeFunc> {
        let func = self
            .instance
            .get_func(&mut self.store, name)
            .ok_or_else(|| Error::engine(Operation::Resolve, "the exported function was not found"))?;
        match (ty.params.len(), ty.results.len()) {
            (0, 0) => func.typed(&self.store).map(WasmtimeFunc::Unit0),
            (1, 0) => func.typed(&self.store).map(WasmtimeFunc::Unit1),
            (2, 0) => func.typed(&self.store).map(WasmtimeFunc::Unit2),
            (0, 1) => func.typed(&self.store).map(WasmtimeFunc::Word0),
            (1, 1) => func.typed(&self.store).map(WasmtimeFunc::Word1),
            (2, 1) => func.typed(&self.store).map(WasmtimeFunc::Word2),
            _ => return Err(Error::engine(Operation::Resolve, format!("no call is made with the type {ty}"))),
        }
        .map_err(|error| Error::engine(Operation::Resolve, error))
    }

    fn call<const N: usize>(&mut self, func: &WasmtimeFunc, params: [u32; N]) -> Result<u32> {
        let store = &mut self.store;
        match (func, params.as_slice()) {
            (WasmtimeFunc::Unit0(func), &[]) => func.call(store, ()).map(|()| 0),
            (WasmtimeFunc::Unit1(func), &[a]) => func.call(store, a).map(|()| 0),
            (WasmtimeFunc::Unit2(func), &[a, b]) => func.call(store, (a, b)).map(|()| 0),
            (WasmtimeFunc::Word0(func), &[]) => func.call(store, ()),
            (WasmtimeFunc::Word1(func), &[a]) => func.call(store, a),
            (WasmtimeFunc::Word2(func), &[a, b]) => func.call(store, (a, b)),
            _ => {
                return Err(Error::engine(
                    Operation::Call,
                    "a function was called with too many or too few parameters",
                ));
            }
        }
        .map_err(|error| failed(Operation::Call, error))
    }

    fn memory(&self) -> &[u8] {
        self.memory.data(&self.store)
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        self.memory.data_mut(&mut self.store)
    }
}

/// A trap of the guest's, or else a failure of the engine's.
#[cold]
fn failed(operation: Operation, error: wasmtime::Error) -> Error {
    let trap = match error.downcast_ref() {
        Some(wasmtime::Trap::UnreachableCodeReached) => Trap::Unreachable,
        Some(wasmtime::Trap::MemoryOutOfBounds) => Trap::MemoryOutOfBounds,
        Some(wasmtime::Trap::TableOutOfBounds) => Trap::TableOutOfBounds,
        Some(wasmtime::Trap::IndirectCallToNull) => Trap::IndirectCallToNull,
        Some(wasmtime::Trap::BadSignature) => Trap::BadSignature,
        Some(wasmtime::Trap::IntegerOverflow) => Trap::IntegerOverflow,
        Some(wasmtime::Trap::IntegerDivisionByZero) => Trap::IntegerDivisionByZero,
        Some(wasmtime::Trap::BadConversionToInteger) => Trap::BadConversionToInteger,
        Some(wasmtime::Trap::StackOverflow) => Trap::StackOverflow,
        _ => return Error::engine(operation, error),
    };
    Error::trap(trap, error)
}

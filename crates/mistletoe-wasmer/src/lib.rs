//! [wasmer](https://docs.rs/wasmer) as a backend: a compiler with small instances that start quickly.

#![deny(unsafe_code)]

use mistletoe_abi::protocol::MEMORY;
use mistletoe_abi::types::FuncType;
use mistletoe_abi::{Backend, Error, Instance, Operation, Result, Trap, ValidModule};
use wasmer::sys::vm::TrapCode;
use wasmer::sys::{Cranelift, EngineBuilder, Features};
use wasmer::{Engine, InstantiationError, LinkError, Memory, Module, RuntimeError, Store, TypedFunction};

/// wasmer with its optimising compiler, Cranelift.
#[derive(Clone, Debug)]
pub struct Wasmer {
    engine: Engine,
}

/// A live instance. It is not `Send`, since wasmer's stores are not.
#[derive(Debug)]
pub struct WasmerInstance {
    store: Store,
    instance: wasmer::Instance,
    memory: Memory,
}

/// A resolved function: its number of parameters, and whether it has a result.
#[derive(Debug)]
pub enum WasmerFunc {
    /// `[] -> []`
    Unit0(TypedFunction<(), ()>),
    /// `[i32] -> []`
    Unit1(TypedFunction<u32, ()>),
    /// `[i32, i32] -> []`
    Unit2(TypedFunction<(u32, u32), ()>),
    /// `[] -> [i32]`
    Word0(TypedFunction<(), u32>),
    /// `[i32] -> [i32]`
    Word1(TypedFunction<u32, u32>),
    /// `[i32, i32] -> [i32]`
    Word2(TypedFunction<(u32, u32), u32>),
}

impl Wasmer {
    /// The engine, set to run exactly the layer's feature set.
    pub fn new() -> Self {
        let mut compiler = Cranelift::new();
        compiler.canonicalize_nans(true);
        let mut features = Features::none();
        features.reference_types(true).bulk_memory(true).multi_value(true).extended_const(true);
        let engine = EngineBuilder::new(compiler).set_features(Some(features)).engine();
        Self { engine: engine.into() }
    }
}

impl Default for Wasmer {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Wasmer {
    type Module = Module;
    type Instance = WasmerInstance;

    fn name(&self) -> &'static str {
        "wasmer"
    }

    fn compile(&self, module: &ValidModule<'_>) -> Result<Module> {
        Module::from_binary(&self.engine, module.bytes()).map_err(|error| Error::engine(Operation::Compile, error))
    }

    fn instantiate(&self, module: &Module) -> Result<WasmerInstance> {
        // A store keeps all that was ever made in it until it is dropped, so each instance has one of its own.
        let mut store = Store::new(self.engine.clone());
        let instance =
            wasmer::Instance::new(&mut store, module, &wasmer::Imports::new()).map_err(|error| match error {
                InstantiationError::Start(error) | InstantiationError::Link(LinkError::Trap(error)) => {
                    failed(Operation::Instantiate, error)
                }
                error => Error::engine(Operation::Instantiate, error),
            })?;
        let memory =
            instance.exports.get_memory(MEMORY).map_err(|error| Error::engine(Operation::Instantiate, error))?.clone();
        Ok(WasmerInstance { store, instance, memory })
    }
}

impl Instance for WasmerInstance {
    type Func = WasmerFunc;

    fn func(&mut self, name: &str, ty: &FuncType) -> Result<WasmerFunc> {
        let func =
            self.instance.exports.get_function(name).map_err(|error| Error::engine(Operation::Resolve, error))?;
        match (ty.params.len(), ty.results.len()) {
            (0, 0) => func.typed(&self.store).map(WasmerFunc::Unit0),
            (1, 0) => func.typed(&self.store).map(WasmerFunc::Unit1),
            (2, 0) => func.typed(&self.store).map(WasmerFunc::Unit2),
            (0, 1) => func.typed(&self.store).map(WasmerFunc::Word0),
            (1, 1) => func.typed(&self.store).map(WasmerFunc::Word1),
            (2, 1) => func.typed(&self.store).map(WasmerFunc::Word2),
            _ => return Err(Error::engine(Operation::Resolve, format!("no call is made with the type {ty}"))),
        }
        .map_err(|error| Error::engine(Operation::Resolve, error))
    }

    fn call<const N: usize>(&mut self, func: &WasmerFunc, params: [u32; N]) -> Result<u32> {
        let store = &mut self.store;
        match (func, params.as_slice()) {
            (WasmerFunc::Unit0(func), &[]) => func.call(store).map(|()| 0),
            (WasmerFunc::Unit1(func), &[a]) => func.call(store, a).map(|()| 0),
            (WasmerFunc::Unit2(func), &[a, b]) => func.call(store, a, b).map(|()| 0),
            (WasmerFunc::Word0(func), &[]) => func.call(store),
            (WasmerFunc::Word1(func), &[a]) => func.call(store, a),
            (WasmerFunc::Word2(func), &[a, b]) => func.call(store, a, b),
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
        let view = self.memory.view(&self.store);
        // SAFETY: wasmer hands out the memory as pointer and size only. They are those of this instant, and stay true as
        // long as no guest code runs and nothing else grows the memory: both need `&mut self.store`, while the slice
        // borrows `self`. No other thread has the memory: shared memories are refused before compilation, and the
        // instance is not `Send`. All its bytes are initialised (zeroed pages).
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(view.data_ptr(), view.data_size() as usize)
        }
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        let view = self.memory.view(&self.store);
        // SAFETY: as in `memory`; `&mut self` makes the slice the only one.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(view.data_ptr(), view.data_size() as usize)
        }
    }
}

/// A trap of the guest's, or else a failure of the engine's.
#[cold]
fn failed(operation: Operation, error: RuntimeError) -> Error {
    let Some(code) = error.clone().to_trap() else { return Error::engine(operation, error) };
    let trap = match code {
        TrapCode::UnreachableCodeReached => Trap::Unreachable,
        TrapCode::HeapAccessOutOfBounds => Trap::MemoryOutOfBounds,
        TrapCode::TableAccessOutOfBounds => Trap::TableOutOfBounds,
        TrapCode::IndirectCallToNull => Trap::IndirectCallToNull,
        TrapCode::BadSignature => Trap::BadSignature,
        TrapCode::IntegerOverflow => Trap::IntegerOverflow,
        TrapCode::IntegerDivisionByZero => Trap::IntegerDivisionByZero,
        TrapCode::BadConversionToInteger => Trap::BadConversionToInteger,
        TrapCode::StackOverflow => Trap::StackOverflow,
        _ => return Error::engine(operation, error),
    };
    // The code alone: the error's own words go on with a trace of frames.
    Error::trap(trap, code)
}

//! [wasmi](https://docs.rs/wasmi) as a backend: an interpreter without `unsafe` code generation, small, quick to build
//! and to start.

#![forbid(unsafe_code)]

mod select;

use mistletoe_abi::protocol::MEMORY;
use mistletoe_abi::types::FuncType;
use mistletoe_abi::{Backend, Error, Instance, Operation, Result, Trap, ValidModule};
use wasmi::errors::{ErrorKind, InstantiationError};
use wasmi::{CompilationMode, Config, Engine, Linker, Memory, Module, Store, TrapCode, TypedFunc};

/// wasmi in one of its ways to translate a module.
#[derive(Clone, Debug)]
pub struct Wasmi {
    engine: Engine,
    name: &'static str,
}

/// A live instance.
#[derive(Debug)]
pub struct WasmiInstance {
    store: Store<()>,
    instance: wasmi::Instance,
    memory: Memory,
}

/// A resolved function: its number of parameters, and whether it has a result.
#[derive(Debug)]
pub enum WasmiFunc {
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

impl Wasmi {
    /// The engine, translating a whole module before its first call.
    pub fn new() -> Self {
        Self::with_mode("wasmi", CompilationMode::Eager)
    }

    /// The engine, translating each function when it is first called: a quicker start, and a slower first call.
    pub fn lazy() -> Self {
        Self::with_mode("wasmi-lazy", CompilationMode::LazyTranslation)
    }

    /// Set to run exactly the layer's feature set.
    fn with_mode(name: &'static str, mode: CompilationMode) -> Self {
        let mut config = Config::default();
        config
            .compilation_mode(mode)
            .wasm_multi_memory(false)
            .wasm_tail_call(false)
            .wasm_custom_page_sizes(false)
            .wasm_wide_arithmetic(false);
        Self { engine: Engine::new(&config), name }
    }
}

impl Default for Wasmi {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Wasmi {
    type Module = Module;
    type Instance = WasmiInstance;

    fn name(&self) -> &'static str {
        self.name
    }

    fn compile(&self, module: &ValidModule<'_>) -> Result<Module> {
        Module::new(&self.engine, select::kept_apart(module.bytes()))
            .map_err(|error| Error::engine(Operation::Compile, error))
    }

    fn instantiate(&self, module: &Module) -> Result<WasmiInstance> {
        let mut store = Store::new(&self.engine, ());
        let instance = Linker::new(&self.engine)
            .instantiate_and_start(&mut store, module)
            .map_err(|error| failed(Operation::Instantiate, error))?;
        let memory = instance
            .get_memory(&store, MEMORY)
            .ok_or_else(|| Error::engine(Operation::Instantiate, "the exported memory was not found"))?;
        Ok(WasmiInstance { store, instance, memory })
    }
}

impl Instance for WasmiInstance {
    type Func = WasmiFunc;

    fn func(&mut self, name: &str, ty: &FuncType) -> Result<WasmiFunc> {
        let func = self
            .instance
            .get_func(&self.store, name)
            .ok_or_else(|| Error::engine(Operation::Resolve, "the exported function was not found"))?;
        match (ty.params.len(), ty.results.len()) {
            (0, 0) => func.typed(&self.store).map(WasmiFunc::Unit0),
            (1, 0) => func.typed(&self.store).map(WasmiFunc::Unit1),
            (2, 0) => func.typed(&self.store).map(WasmiFunc::Unit2),
            (0, 1) => func.typed(&self.store).map(WasmiFunc::Word0),
            (1, 1) => func.typed(&self.store).map(WasmiFunc::Word1),
            (2, 1) => func.typed(&self.store).map(WasmiFunc::Word2),
            _ => return Err(Error::engine(Operation::Resolve, format!("no call is made with the type {ty}"))),
        }
        .map_err(|error| Error::engine(Operation::Resolve, error))
    }

    fn call<const N: usize>(&mut self, func: &WasmiFunc, params: [u32; N]) -> Result<u32> {
        let store = &mut self.store;
        match (func, params.as_slice()) {
            (WasmiFunc::Unit0(func), &[]) => func.call(store, ()).map(|()| 0),
            (WasmiFunc::Unit1(func), &[a]) => func.call(store, a).map(|()| 0),
            (WasmiFunc::Unit2(func), &[a, b]) => func.call(store, (a, b)).map(|()| 0),
            (WasmiFunc::Word0(func), &[]) => func.call(store, ()),
            (WasmiFunc::Word1(func), &[a]) => func.call(store, a),
            (WasmiFunc::Word2(func), &[a, b]) => func.call(store, (a, b)),
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
fn failed(operation: Operation, error: wasmi::Error) -> Error {
    let trap = match error.as_trap_code() {
        Some(TrapCode::UnreachableCodeReached) => Trap::Unreachable,
        Some(TrapCode::MemoryOutOfBounds) => Trap::MemoryOutOfBounds,
        Some(TrapCode::TableOutOfBounds) => Trap::TableOutOfBounds,
        Some(TrapCode::IndirectCallToNull) => Trap::IndirectCallToNull,
        Some(TrapCode::BadSignature) => Trap::BadSignature,
        Some(TrapCode::IntegerOverflow) => Trap::IntegerOverflow,
        Some(TrapCode::IntegerDivisionByZero) => Trap::IntegerDivisionByZero,
        Some(TrapCode::BadConversionToInteger) => Trap::BadConversionToInteger,
        Some(TrapCode::StackOverflow) => Trap::StackOverflow,
        // An active element segment that does not fit is a trap by the specification (core 2.0, section 4.5.4); wasmi
        // has a kind of its own for it.
        None if matches!(
            error.kind(),
            ErrorKind::Instantiation(InstantiationError::ElementSegmentDoesNotFit { .. })
        ) =>
        {
            Trap::TableOutOfBounds
        }
        _ => return Error::engine(operation, error),
    };
    Error::trap(trap, error)
}

//! A backend outside of the project's own crates, for the custom engine [tinywasm](https://docs.rs/tinywasm).
//!
//! `docs/write-a-backend.md` explains it step by step.

#![forbid(unsafe_code)]

mod memory;

use std::cell::{OnceCell, RefCell};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use mistletoe_abi::backend::{
    Backend, HostFunc, Instance, ModuleSource, Operation, StoreData, Trap, Values as _, values,
};
use mistletoe_abi::types::FuncType;
use mistletoe_abi::{Error, Result};
use tinywasm::engine::{Config, StackConfig};
use tinywasm::parser::{Parser, ParserOptions};
use tinywasm::types::{MemoryType, WasmType, WasmValue};
use tinywasm::{Engine, FuncContext, Function, HostFunction, Imports, MemoryBackend, Module, ModuleInstance, Store};

use crate::memory::SharedMemory;

/// Maximum number of values of each size that a guest's calls may hold at once.
///
/// The engine's own limit is too low for an ordinary recursion.
const VALUES: StackConfig = StackConfig::dynamic(1024, 4 * 1024 * 1024);
/// Maximum call depth of a guest: deeper than the layer's own limit on the stack allows.
const CALLS: StackConfig = StackConfig::dynamic(64, 270_000);

/// The tinywasm engine, set up for packages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tinywasm;

values!(Tinywasm: WasmValue, WasmType::RefExtern, f32, f64);

/// A parsed module and the host functions to link it with, which the engine needs anew for each store.
#[derive(Clone)]
pub struct TinywasmModule {
    module: Module,
    imports: Arc<[HostFunc]>,
}

/// An instance: owned, or seen from inside a call, where the engine is a [`FuncContext`].
pub struct TinywasmInstance<E = Store> {
    engine: E,
    shared: Rc<Shared>,
    /// The memory and the data while the guest does not run.
    held: Held,
}

/// A resolved function and its type.
pub struct TinywasmFunc {
    func: Function,
    ty: FuncType,
}

/// State that an instance and its host functions share.
#[derive(Default)]
struct Shared {
    /// The memory while the guest runs, where the engine finds it.
    memory: SharedMemory,
    /// The data while the guest runs, where a host function finds it.
    data: RefCell<Option<StoreData>>,
    /// The error of a host function: the engine's own errors have no room for it.
    failure: RefCell<Option<Error>>,
    instance: OnceCell<ModuleInstance>,
}

/// The memory and the data, on the side that currently needs them.
#[derive(Default)]
struct Held {
    memory: Vec<u8>,
    data: Option<StoreData>,
}

impl Shared {
    /// Hands memory and data to the side that continues.
    fn swap(&self, held: &mut Held) {
        mem::swap(&mut *self.memory.lock(), &mut held.memory);
        mem::swap(&mut *self.data.borrow_mut(), &mut held.data);
    }
}

impl Backend for Tinywasm {
    type Module = TinywasmModule;
    type Instance = TinywasmInstance;

    fn name(&self) -> &'static str {
        "tinywasm"
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<TinywasmModule> {
        let bytes = source.validate(self)?.bytes();
        // The host reads and writes the memory of every package, so it has to be there even where the code uses none.
        let options = ParserOptions::default().with_local_memory_allocation_optimization(false);
        let module = guarded(Operation::Compile, || Ok(Parser::with_options(options).parse_module_bytes(bytes)?))?;
        Ok(TinywasmModule { module, imports: imports.into() })
    }

    fn instantiate(&self, module: &TinywasmModule, data: StoreData) -> Result<TinywasmInstance> {
        let shared = Rc::new(Shared::default());
        let made = shared.memory.clone();
        let backend = MemoryBackend::custom(move |ty: MemoryType| {
            made.start(usize::try_from(ty.initial_size()).unwrap_or(usize::MAX))?;
            Ok(made.clone())
        });
        let config = Config::new().with_value_stack(VALUES).with_call_stack(CALLS).with_memory_backend(backend);
        let mut store = Store::new(Engine::new(config));
        let mut imports = Imports::new();
        for import in &*module.imports {
            imports.define(import.module(), import.name(), function(&mut store, &shared, import));
        }
        let instance =
            guarded(Operation::Instantiate, || ModuleInstance::instantiate(&mut store, &module.module, Some(imports)))?;
        let _ = shared.instance.set(instance);
        let memory = mem::take(&mut *shared.memory.lock());
        Ok(TinywasmInstance { engine: store, shared, held: Held { memory, data: Some(data) } })
    }
}

/// Creates a host function for a store.
fn function(store: &mut Store, shared: &Rc<Shared>, import: &HostFunc) -> Function {
    let (params, results) = (Tinywasm::types(&import.ty().params), Tinywasm::types(&import.ty().results));
    let ty = tinywasm::types::FuncType::new(&params, &results);
    let (host, shared) = (import.clone(), shared.clone());
    HostFunction::from_untyped(store, &ty, move |context, params| {
        let mut instance = TinywasmInstance { engine: context, shared: shared.clone(), held: Held::default() };
        let mut results = Tinywasm::zeros(&host.ty().results);
        shared.swap(&mut instance.held);
        let answered = Tinywasm::call_host(&host, &mut instance, params, &mut results);
        shared.swap(&mut instance.held);
        match answered {
            Ok(()) => Ok(results),
            Err(error) => {
                *shared.failure.borrow_mut() = Some(error);
                Err(tinywasm::Error::Other("a host function failed".to_owned()))
            }
        }
    })
}

/// Calls functions: a store, or inside a call its context.
trait Call {
    fn store(&self) -> &Store;
    fn call(&mut self, func: &Function, params: &[WasmValue]) -> tinywasm::Result<Vec<WasmValue>>;
}

impl Call for Store {
    fn store(&self) -> &Store {
        self
    }

    fn call(&mut self, func: &Function, params: &[WasmValue]) -> tinywasm::Result<Vec<WasmValue>> {
        func.call(self, params)
    }
}

impl Call for FuncContext<'_> {
    fn store(&self) -> &Store {
        FuncContext::store(self)
    }

    fn call(&mut self, func: &Function, params: &[WasmValue]) -> tinywasm::Result<Vec<WasmValue>> {
        self.call_untyped(func, params)
    }
}

impl<E: Call> Instance for TinywasmInstance<E> {
    type Func = TinywasmFunc;

    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<TinywasmFunc> {
        let missing = || Error::engine(Operation::Resolve, "the instance is not there yet");
        let instance = self.shared.instance.get().ok_or_else(missing)?;
        let func = instance.func_untyped(self.engine.store(), name);
        let func = func.map_err(|error| Error::engine(Operation::Resolve, error))?;
        Ok(TinywasmFunc { func, ty: ty.clone() })
    }

    fn call(&mut self, TinywasmFunc { func, ty }: &TinywasmFunc, slots: &mut [u64]) -> Result<()> {
        let params = Tinywasm::from_slots(slots, &ty.params);
        self.shared.swap(&mut self.held);
        let results = guarded(Operation::Call, || self.engine.call(func, &params));
        self.shared.swap(&mut self.held);
        if let Some(failure) = self.shared.failure.borrow_mut().take() {
            return Err(failure);
        }
        Tinywasm::into_slots(&results?, slots);
        Ok(())
    }

    fn memory(&self) -> &[u8] {
        &self.held.memory
    }

    fn data(&self) -> &StoreData {
        match &self.held.data {
            Some(data) => data,
            None => unreachable!("the data is held while the guest does not run"),
        }
    }

    fn data_mut(&mut self) -> &mut StoreData {
        self.memory_and_data().1
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        match &mut self.held {
            Held { memory, data: Some(data) } => (memory, data),
            Held { data: None, .. } => unreachable!("the data is held while the guest does not run"),
        }
    }
}

/// Runs the engine, which panics on some hostile modules.
///
/// The state that a panic leaves half done is never used again: the layer calls nothing of an instance that failed.
fn guarded<T>(operation: Operation, run: impl FnOnce() -> tinywasm::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| failed(operation, error)),
        Err(_) => Err(Error::engine(operation, "the engine panicked")),
    }
}

/// Converts an engine's error: a trap of the guest, or else a failure of the engine.
#[cold]
fn failed(operation: Operation, error: tinywasm::Error) -> Error {
    use tinywasm::Trap as Code;

    let tinywasm::Error::Trap(code) = &error else { return Error::engine(operation, error) };
    let trap = match code {
        Code::Unreachable => Trap::Unreachable,
        Code::MemoryOutOfBounds { .. } => Trap::MemoryOutOfBounds,
        // The second is what an indirect call beyond the table's end gives.
        Code::TableOutOfBounds { .. } | Code::UndefinedElement { .. } => Trap::TableOutOfBounds,
        Code::UninitializedElement { .. } => Trap::IndirectCallToNull,
        Code::IndirectCallTypeMismatch { .. } => Trap::BadSignature,
        Code::IntegerOverflow => Trap::IntegerOverflow,
        Code::DivisionByZero => Trap::IntegerDivisionByZero,
        Code::InvalidConversionToInt => Trap::BadConversionToInteger,
        Code::CallStackOverflow | Code::ValueStackOverflow => Trap::StackOverflow,
        _ => return Error::engine(operation, error),
    };
    Error::trap(trap, error)
}

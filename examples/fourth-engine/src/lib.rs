//! [tinywasm](https://docs.rs/tinywasm) as a backend, made outside of the project's own crates: what somebody with an
//! engine of their own would write. `docs/write-a-backend.md` goes through it step by step.

#![forbid(unsafe_code)]

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mistletoe_abi::types::FuncType;
use mistletoe_abi::{Backend, Error, Instance, Operation, Result, Trap, ValidModule};
use tinywasm::engine::{Config, StackConfig};
use tinywasm::parser::{Parser, ParserOptions};
use tinywasm::types::{MemoryType, WasmValue};
use tinywasm::{Engine, Function, LinearMemory, MemoryBackend, Module, ModuleInstance, Store};

/// How many values a guest's calls may hold at once, of each size. The engine's own limit is too low for an ordinary
/// recursion.
const VALUES: StackConfig = StackConfig::dynamic(1024, 1024 * 1024);

/// tinywasm, set up for packages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tinywasm;

/// A live instance.
pub struct TinywasmInstance {
    store: Store,
    instance: ModuleInstance,
    /// Where the engine looks for the memory.
    shared: SharedMemory,
    /// Where the memory is while the guest does not run.
    memory: Vec<u8>,
}

/// A memory that the engine and the instance hand to each other. The engine lends no slice of a memory that it owns,
/// but takes one that somebody else made. So the bytes are the engine's while the guest runs and the instance's
/// otherwise; handing them over moves a `Vec` and copies none of them.
///
/// The lock is there because the engine may make memories on any thread. Nobody ever waits for it, but it makes loads
/// and stores slower.
#[derive(Clone, Default)]
struct SharedMemory(Arc<Mutex<Vec<u8>>>);

impl Backend for Tinywasm {
    type Module = Module;
    type Instance = TinywasmInstance;

    fn name(&self) -> &'static str {
        "tinywasm"
    }

    fn compile(&self, module: &ValidModule<'_>) -> Result<Module> {
        // The host reads and writes the memory of every package, so it has to be there even where the code uses none.
        let options = ParserOptions::default().with_local_memory_allocation_optimization(false);
        guarded(Operation::Compile, || Ok(Parser::with_options(options).parse_module_bytes(module.bytes())?))
    }

    fn instantiate(&self, module: &Module) -> Result<TinywasmInstance> {
        let shared = SharedMemory::default();
        let made = shared.clone();
        let backend = MemoryBackend::custom(move |ty: MemoryType| {
            made.start(usize::try_from(ty.initial_size()).unwrap_or(usize::MAX))?;
            Ok(made.clone())
        });
        let config = Config::new().with_value_stack(VALUES).with_memory_backend(backend);
        let mut store = Store::new(Engine::new(config));
        let instance = guarded(Operation::Instantiate, || ModuleInstance::instantiate(&mut store, module, None))?;
        let memory = mem::take(&mut *shared.lock());
        Ok(TinywasmInstance { store, instance, shared, memory })
    }
}

impl Instance for TinywasmInstance {
    type Func = Function;

    fn func(&mut self, name: &str, _: &FuncType) -> Result<Function> {
        self.instance.func_untyped(&self.store, name).map_err(|error| Error::engine(Operation::Resolve, error))
    }

    fn call<const N: usize>(&mut self, func: &Function, params: [u32; N]) -> Result<u32> {
        mem::swap(&mut *self.shared.lock(), &mut self.memory);
        let params = params.map(|param| WasmValue::I32(param.cast_signed()));
        let results = guarded(Operation::Call, || func.call(&mut self.store, &params));
        mem::swap(&mut *self.shared.lock(), &mut self.memory);
        match results?.as_slice() {
            [] => Ok(0),
            [WasmValue::I32(result)] => Ok(result.cast_unsigned()),
            _ => Err(Error::engine(Operation::Call, "a function answered with more than one i32")),
        }
    }

    fn memory(&self) -> &[u8] {
        &self.memory
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl SharedMemory {
    /// Makes a memory of zeros.
    fn start(&self, len: usize) -> Result<(), tinywasm::Trap> {
        // `vec!` takes pages that cost nothing before they are used, but ends the process where there are none to have.
        // So ask first.
        Vec::<u8>::new().try_reserve_exact(len).map_err(|_| tinywasm::Trap::OutOfMemory)?;
        *self.lock() = vec![0; len];
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinearMemory for SharedMemory {
    fn len(&self) -> usize {
        self.lock().len()
    }

    fn grow_to(&mut self, len: usize) -> Result<(), tinywasm::Trap> {
        let mut bytes = self.lock();
        let more = len.saturating_sub(bytes.len());
        bytes.try_reserve_exact(more).map_err(|_| tinywasm::Trap::OutOfMemory)?;
        bytes.resize(len, 0);
        Ok(())
    }

    fn read(&self, address: usize, to: &mut [u8]) -> usize {
        let bytes = self.lock();
        let from = bytes.get(address..).unwrap_or_default();
        let length = from.len().min(to.len());
        to[..length].copy_from_slice(&from[..length]);
        length
    }

    fn write(&mut self, address: usize, from: &[u8]) -> usize {
        let mut bytes = self.lock();
        let to = bytes.get_mut(address..).unwrap_or_default();
        let length = from.len().min(to.len());
        to[..length].copy_from_slice(&from[..length]);
        length
    }
}

/// Runs the engine, which panics on some hostile modules. What it leaves half done is never looked at again: the layer
/// calls nothing of an instance that failed.
fn guarded<T>(operation: Operation, run: impl FnOnce() -> tinywasm::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| failed(operation, error)),
        Err(_) => Err(Error::engine(operation, "the engine panicked")),
    }
}

/// A trap of the guest's, or else a failure of the engine's.
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

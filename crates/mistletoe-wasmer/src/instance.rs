//! Instances on wasmer.

use std::ptr::NonNull;
use std::sync::Arc;

use mistletoe_abi::backend::{self, Instance, Operation, StoreData, Trap, Values as _, typed_func};
use mistletoe_abi::types::FuncType;
use mistletoe_abi::{Error, Result};
use wasmer::sys::vm::TrapCode;
use wasmer::{AsStoreMut, Function, FunctionEnv, FunctionEnvMut, Memory, RuntimeError, Store, TypedFunction};

use crate::Wasmer;

/// An instance, owned or lent to a host function.
#[derive(Debug)]
pub struct WasmerInstance<S = Owned> {
    pub(crate) store: S,
}

/// The store of one instance.
#[derive(Debug)]
pub struct Owned {
    store: Sendable,
    host: FunctionEnv<Host>,
    exports: Exports,
}

/// A store that can move between threads between calls.
#[derive(Debug)]
struct Sendable(Store);

// SAFETY: no part of a store is tied to a thread while no call is under way, and `&mut` or ownership guarantees that
// none is. In wasmer 7.3.0 with its own engine (`sys`), the compiler cannot see that these are `Send`:
// - Pointers into instances, tables and globals. The store owns what they point to.
// - The data of host functions, `Box<dyn Any>`. They are closures that wasmer requires to be `Send + Sync`, created
//   only here.
// - The handler of `StoreMut::on_called`, which is never set here.
// Function environments, memories and the engine are `Send` by their types. What a call keeps in thread-local storage
// (the current store, the stack, the trap handler, whom to interrupt) is removed when the outermost call returns or
// unwinds. wasmer's remark that a store cannot be sent "once it executes code" is about such a call. Features that
// other crates enable do not change that: an asynchronous store is made from one by value, and other engines (V8's do
// stay on their threads) are other values than the `Engine` here. `Cargo.toml` requires exactly this version. Review
// this comment before moving to another one.
#[allow(unsafe_code)]
unsafe impl Send for Sendable {}

pub(crate) type Host = backend::Host<Exports>;

/// An instance's handles.
#[derive(Clone, Debug)]
pub struct Exports {
    pub(crate) instance: Arc<wasmer::Instance>,
    pub(crate) memory: Memory,
}

/// A resolved function.
#[derive(Debug)]
pub struct WasmerFunc(Arms);

typed_func!(enum Arms, TypedFunction, (Function, FuncType));

impl Owned {
    pub(crate) fn new(store: Store, host: FunctionEnv<Host>, exports: Exports) -> Self {
        Self { store: Sendable(store), host, exports }
    }
}

/// A store and what the layer keeps in it, owned or lent to a host function.
trait Context {
    type Store: AsStoreMut;

    fn store(&self) -> &Self::Store;
    fn store_mut(&mut self) -> &mut Self::Store;
    /// Returns `None` before the instance exists.
    fn exports(&self) -> Option<&Exports>;
    fn host(&self) -> &Host;
    fn host_mut(&mut self) -> &mut Host;

    /// Returns the address and the size of the memory, which are valid only at this instant.
    ///
    /// wasmer reports nothing else about the memory.
    #[inline]
    fn extent(&self) -> (*mut u8, usize) {
        let Some(Exports { memory, .. }) = self.exports() else { return (NonNull::dangling().as_ptr(), 0) };
        let view = memory.view(self.store());
        (view.data_ptr(), view.data_size() as usize)
    }
}

impl Context for Owned {
    type Store = Store;

    #[inline]
    fn store(&self) -> &Store {
        &self.store.0
    }

    #[inline]
    fn store_mut(&mut self) -> &mut Store {
        &mut self.store.0
    }

    #[inline]
    fn exports(&self) -> Option<&Exports> {
        Some(&self.exports)
    }

    fn host(&self) -> &Host {
        self.host.as_ref(&self.store.0)
    }

    fn host_mut(&mut self) -> &mut Host {
        self.host.as_mut(&mut self.store.0)
    }
}

impl<'a> Context for &mut FunctionEnvMut<'a, Host> {
    type Store = FunctionEnvMut<'a, Host>;

    fn store(&self) -> &Self::Store {
        self
    }

    fn store_mut(&mut self) -> &mut Self::Store {
        self
    }

    fn exports(&self) -> Option<&Exports> {
        self.data().exports.as_ref()
    }

    fn host(&self) -> &Host {
        self.data()
    }

    fn host_mut(&mut self) -> &mut Host {
        self.data_mut()
    }
}

impl<S: Context> Instance for WasmerInstance<S> {
    type Func = WasmerFunc;

    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<WasmerFunc> {
        let missing = || Error::engine(Operation::Resolve, "the instance is not there yet");
        let exports = &self.store.exports().ok_or_else(missing)?.instance.exports;
        let func = exports.get_function(name).map_err(|error| Error::engine(Operation::Resolve, error))?;
        let store = self.store.store();
        let arms = typed_func!(resolve Arms, ty, func.typed(store), Ok((func.clone(), ty.clone())));
        arms.map(WasmerFunc).map_err(|error| Error::engine(Operation::Resolve, error))
    }

    #[inline(always)]
    fn call(&mut self, WasmerFunc(arms): &WasmerFunc, slots: &mut [u64]) -> Result<()> {
        let store = self.store.store_mut();
        macro_rules! call {
            ($func:ident $($arg:expr),*) => { $func.call(store $(, $arg)*) };
        }
        typed_func!(call Arms, arms, slots, call, |other, slots| call_other(other, store, slots))
            .map_err(|error| failed(Operation::Call, error))
    }

    #[inline]
    fn memory(&self) -> &[u8] {
        let (start, size) = self.store.extent();
        // SAFETY: the memory is there now. That stays true as long as no guest code runs and nothing else grows the
        // memory. Both need the store, which the instance has to itself, while the slice borrows `self`. No other
        // thread has the memory: shared memories are refused before compilation, and the instance is not `Sync`. All
        // its bytes are initialised (zeroed pages).
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(start, size)
        }
    }

    #[inline]
    fn memory_mut(&mut self) -> &mut [u8] {
        let (start, size) = self.store.extent();
        // SAFETY: as in `memory`; `&mut self` makes the slice the only one.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(start, size)
        }
    }

    fn data(&self) -> &StoreData {
        &self.store.host().data
    }

    #[inline]
    fn data_mut(&mut self) -> &mut StoreData {
        &mut self.store.host_mut().data
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        let (start, size) = self.store.extent();
        // SAFETY: as in `memory_mut`. The data is elsewhere, in the host's own memory.
        #[allow(unsafe_code)]
        let memory = unsafe { std::slice::from_raw_parts_mut(start, size) };
        (memory, &mut self.store.host_mut().data)
    }
}

/// Calls a function whose type is known only at run time.
#[cold]
fn call_other(
    (func, ty): &(Function, FuncType),
    store: &mut impl AsStoreMut,
    slots: &mut [u64],
) -> Result<(), RuntimeError> {
    let results = func.call(store, &Wasmer::from_slots(slots, &ty.params))?;
    Wasmer::into_slots(&results, slots);
    Ok(())
}

/// Converts an error: a host function's own error, a trap of the guest, or else a failure of the engine.
#[cold]
pub(crate) fn failed(operation: Operation, error: RuntimeError) -> Error {
    if let Some(error) = error.downcast_ref::<Error>() {
        return error.clone();
    }
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
    // Only the code: the message of `error` continues with a trace of frames.
    Error::trap(trap, code)
}

#[cold]
pub(crate) fn carried(error: Error) -> RuntimeError {
    RuntimeError::user(Box::new(error))
}

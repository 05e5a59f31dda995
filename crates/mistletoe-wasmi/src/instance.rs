//! Instances on wasmi.

use std::fmt;

use mistletoe_abi::backend::{self, Instance, Operation, StoreData, Trap, Values as _, typed_func};
use mistletoe_abi::types::FuncType;
use mistletoe_abi::{Error, Result};
use wasmi::errors::{ErrorKind, HostError, InstantiationError};
use wasmi::{AsContext, AsContextMut, Caller, Func, Memory, Store, StoreContext, StoreContextMut, TrapCode, TypedFunc};

use crate::Wasmi;

/// An instance, owned or lent to a host function.
#[derive(Debug)]
pub struct WasmiInstance<S = Owned> {
    pub(crate) store: S,
}

pub(crate) type Host = backend::Host<Exports>;

/// The store of one instance.
// Boxed: a store of this engine is so large that moving it takes a twentieth of the time of a short session.
#[derive(Debug)]
pub struct Owned(pub(crate) Box<Store<Host>>);

impl AsContext for Owned {
    type Data = Host;

    fn as_context(&self) -> StoreContext<'_, Host> {
        self.0.as_context()
    }
}

impl AsContextMut for Owned {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, Host> {
        self.0.as_context_mut()
    }
}

/// An instance's handles.
#[derive(Clone, Copy, Debug)]
pub struct Exports {
    pub(crate) instance: wasmi::Instance,
    pub(crate) memory: Memory,
}

/// A resolved function.
#[derive(Debug)]
pub struct WasmiFunc(Arms);

typed_func!(enum Arms, TypedFunc, (Func, FuncType));

/// A store, owned or lent to a host function.
trait Context: AsContextMut<Data = Host> {
    fn host(&self) -> &Host;
    fn host_mut(&mut self) -> &mut Host;
}

impl Context for Owned {
    #[inline]
    fn host(&self) -> &Host {
        self.0.data()
    }

    #[inline]
    fn host_mut(&mut self) -> &mut Host {
        self.0.data_mut()
    }
}

impl Context for &mut Caller<'_, Host> {
    #[inline]
    fn host(&self) -> &Host {
        self.data()
    }

    #[inline]
    fn host_mut(&mut self) -> &mut Host {
        self.data_mut()
    }
}

impl<S: Context> Instance for WasmiInstance<S> {
    type Func = WasmiFunc;

    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<WasmiFunc> {
        let store = &self.store;
        let func = store.host().exports.and_then(|exports| exports.instance.get_func(store, name));
        let func = func.ok_or_else(|| Error::engine(Operation::Resolve, "the exported function was not found"))?;
        let arms = typed_func!(resolve Arms, ty, func.typed(store), Ok((func, ty.clone())));
        arms.map(WasmiFunc).map_err(|error| Error::engine(Operation::Resolve, error))
    }

    #[inline(always)]
    fn call(&mut self, WasmiFunc(arms): &WasmiFunc, slots: &mut [u64]) -> Result<()> {
        let store = &mut self.store;
        macro_rules! call {
            ($func:ident $arg:expr) => { $func.call(store, $arg) };
            ($func:ident $($arg:expr),*) => { $func.call(store, ($($arg),*)) };
        }
        typed_func!(call Arms, arms, slots, call, |other, slots| call_other(other, store, slots))
            .map_err(|error| failed(Operation::Call, error))
    }

    #[inline]
    fn memory(&self) -> &[u8] {
        match self.store.host().exports {
            Some(exports) => exports.memory.data(&self.store),
            None => &[],
        }
    }

    fn data(&self) -> &StoreData {
        &self.store.host().data
    }

    #[inline]
    fn data_mut(&mut self) -> &mut StoreData {
        &mut self.store.host_mut().data
    }

    #[inline]
    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        match self.store.host().exports {
            Some(exports) => {
                let (memory, host) = exports.memory.data_and_store_mut(&mut self.store);
                (memory, &mut host.data)
            }
            None => (&mut [], self.data_mut()),
        }
    }
}

/// Calls a function whose type is known only at run time.
#[cold]
fn call_other(
    (func, ty): &(Func, FuncType),
    store: impl AsContextMut<Data = Host>,
    slots: &mut [u64],
) -> Result<(), wasmi::Error> {
    let mut results = Wasmi::zeros(&ty.results);
    func.call(store, &Wasmi::from_slots(slots, &ty.params), &mut results)?;
    Wasmi::into_slots(&results, slots);
    Ok(())
}

/// The error of a host function, as it passes through the engine.
#[derive(Debug)]
struct Failure(Error);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl HostError for Failure {}

/// Converts an error: a host function's own error, a trap of the guest, or else a failure of the engine.
#[cold]
pub(crate) fn failed(operation: Operation, error: wasmi::Error) -> Error {
    if let Some(Failure(error)) = error.downcast_ref() {
        return error.clone();
    }
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
        // By the specification, an active element segment that does not fit is a trap (core 2.0, section 4.5.4). wasmi
        // has a separate kind for it.
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

#[cold]
pub(crate) fn carried(error: Error) -> wasmi::Error {
    wasmi::Error::host(Failure(error))
}

//! Instances on wasmtime.

use mistletoe_abi::backend::{self, Instance, Operation, StoreData, Trap};
use mistletoe_abi::types::FuncType;
use mistletoe_abi::{Error, Result};
use wasmtime::{AsContextMut, Caller, Func, Memory, Store, ValRaw};

use crate::stack;

/// Numbers of slots that a call has room for without allocating.
pub(crate) const FEW: usize = 4;
pub(crate) const MANY: usize = 16;

/// An instance, owned or lent to a host function.
#[derive(Debug)]
pub struct WasmtimeInstance<S = Store<Host>> {
    pub(crate) store: S,
}

pub(crate) type Host = backend::Host<Exports>;

/// An instance's handles.
#[derive(Clone, Copy, Debug)]
pub struct Exports {
    pub(crate) instance: wasmtime::Instance,
    pub(crate) memory: Memory,
}

/// A resolved function, and the number of slots that a call of it reads or writes.
#[derive(Clone, Copy, Debug)]
pub struct WasmtimeFunc {
    func: Func,
    slots: usize,
}

/// A store, owned or lent to a host function.
trait Context: AsContextMut<Data = Host> {
    /// Whether the store is lent to a host function.
    const IS_LENT: bool;

    fn host(&self) -> &Host;
    fn host_mut(&mut self) -> &mut Host;
}

impl Context for Store<Host> {
    const IS_LENT: bool = false;

    fn host(&self) -> &Host {
        self.data()
    }

    fn host_mut(&mut self) -> &mut Host {
        self.data_mut()
    }
}

impl Context for &mut Caller<'_, Host> {
    const IS_LENT: bool = true;

    fn host(&self) -> &Host {
        self.data()
    }

    fn host_mut(&mut self) -> &mut Host {
        self.data_mut()
    }
}

/// Makes a call on another stack.
#[cold]
#[inline(never)]
fn call_elsewhere(
    instance: &mut impl Instance<Func = WasmtimeFunc>,
    func: &WasmtimeFunc,
    slots: &mut [u64],
) -> Result<()> {
    stack::with_room(|| instance.call(func, slots))?
}

impl<S: Context> Instance for WasmtimeInstance<S> {
    type Func = WasmtimeFunc;

    fn get_func(&mut self, name: &str, _: &FuncType) -> Result<WasmtimeFunc> {
        let exports = self.store.host().exports;
        let func = exports.and_then(|exports| exports.instance.get_func(&mut self.store, name));
        let func = func.ok_or_else(|| Error::engine(Operation::Resolve, "the exported function was not found"))?;
        // The type comes from the engine, since memory safety depends on it.
        let ty = func.ty(&self.store);
        if ty.params().chain(ty.results()).any(|ty| ty.is_ref() || ty.is_v128()) {
            return Err(Error::engine(Operation::Resolve, format!("no call is made with the type {ty}")));
        }
        Ok(WasmtimeFunc { func, slots: ty.params().len().max(ty.results().len()) })
    }

    #[inline(always)]
    fn call(&mut self, func: &WasmtimeFunc, slots: &mut [u64]) -> Result<()> {
        // The number of slots is known at compile time once this is inlined; the function's number only at run time.
        if func.slots != slots.len() {
            return Err(Error::engine(Operation::Call, "a function was called with other slots than it has"));
        }
        // A call from inside another call uses that call's stack.
        if !S::IS_LENT && !stack::has_room() {
            return call_elsewhere(self, func, slots);
        }
        let (store, func) = (&mut self.store, &func.func);
        match slots.len() {
            // What protocols call.
            0..=2 => call_with(store, func, slots, &mut [ValRaw::u64(0); 2]),
            _ => call_with_more(store, func, slots),
        }
        .map_err(|error| failed(Operation::Call, error))
    }

    #[inline(always)]
    fn with_room<R>(call: impl FnOnce() -> R) -> Result<R> {
        stack::with_room(call)
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
            None => (&mut [], &mut self.store.host_mut().data),
        }
    }
}

/// Calls a function with more slots than most have.
///
/// Not inlined, so that calls with few slots do not reserve stack space for many.
#[inline(never)]
fn call_with_more(store: impl AsContextMut, func: &Func, slots: &mut [u64]) -> wasmtime::Result<()> {
    match slots.len() {
        0..=FEW => call_with(store, func, slots, &mut [ValRaw::u64(0); FEW]),
        count if count <= MANY => call_with(store, func, slots, &mut [ValRaw::u64(0); MANY]),
        count => call_with(store, func, slots, &mut vec![ValRaw::u64(0); count]),
    }
}

/// Calls a function with numbers as parameters and results, at most as many as there are slots.
///
/// `values` must be at least as long as `slots`.
#[inline(always)]
fn call_with(store: impl AsContextMut, func: &Func, slots: &mut [u64], values: &mut [ValRaw]) -> wasmtime::Result<()> {
    for (value, slot) in values.iter_mut().zip(slots.iter()) {
        *value = ValRaw::u64(*slot);
    }
    // SAFETY: the function was resolved with its type. Its values are numbers, any bits of which are valid, and there
    // are no more of them than there are `values`. A function of another store makes the engine panic.
    #[allow(unsafe_code)]
    unsafe {
        func.call_unchecked(store, values)?;
    }
    for (value, slot) in values.iter().zip(slots) {
        *slot = value.get_u64();
    }
    Ok(())
}

/// Converts an error: a host function's own error, a trap of the guest, or else a failure of the engine.
#[cold]
pub(crate) fn failed(operation: Operation, error: wasmtime::Error) -> Error {
    let error = match error.downcast() {
        Ok(error) => return error,
        Err(error) => error,
    };
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

#[cold]
pub(crate) fn carried(error: Error) -> wasmtime::Error {
    wasmtime::Error::new(error)
}

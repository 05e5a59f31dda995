//! A host function's access to the instance that calls it.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::erased::{DynInstance, host_panic};
use crate::backend::store::of_type;
use crate::cancel::CancelHandle;
use crate::error::{Error, ErrorKind, Operation, Region, Result, Trap};
use crate::guest::span::Span;
use crate::host::name::Name;
use crate::host::numbers::{SLOTS, WasmParams, WasmResults};
use crate::host::output::Output;
use crate::trace;
use crate::types::{ExternType, FuncType, Problem};

/// The most calls from host functions into the guest that can be in progress in one instance.
///
/// Each of them takes room on the host's own stack, which no engine guards.
pub(crate) const MAX_NESTING: u32 = 64;

/// The instance that calls a host function: its session's state, its memory and its exports.
///
/// # Examples
///
/// A host function that calls an export of the guest and counts the calls in the session's state:
///
/// ```
/// use mistletoe_abi::{Caller, Error, Imports};
///
/// let mut imports = Imports::<u64>::new();
/// imports.func("env", "twice", |caller: &mut Caller<'_, u64>, number: u32| {
///     *caller.state_mut() += 1;
///     let double = caller.get_func::<(u32,), u32>("double")?;
///     let result = caller.call(&double, (number,))?;
///     Ok::<_, Error>(result)
/// });
/// ```
pub struct Caller<'a, T> {
    instance: &'a mut dyn DynInstance,
    name: &'a Arc<Name>,
    fault: Option<Error>,
    state: PhantomData<&'a mut T>,
}

/// A function that a guest exports, resolved by [`Caller::get_func`].
///
/// It can be cloned, and kept, for example in the session's state. It can be called only on the instance that resolved
/// it.
pub struct GuestFunc<P, R> {
    func: Arc<dyn Any + Send + Sync>,
    name: Arc<str>,
    instance: u64,
    ty: PhantomData<fn(P) -> R>,
}

impl<'a, T: 'static> Caller<'a, T> {
    /// Begins a call of a host function, unless the guest's call was cancelled or has timed out.
    #[inline]
    pub(crate) fn new(instance: &'a mut dyn DynInstance, name: &'a Arc<Name>) -> Result<Self> {
        instance.data_mut().budget.host_call()?;
        Ok(Self { instance, name, fault: None, state: PhantomData })
    }

    /// Ends the call of a host function that has returned.
    ///
    /// Returns the error that poisoned the guest meanwhile, if any.
    pub(crate) fn into_fault(mut self) -> Option<Error> {
        let fault = self.fault.take();
        // This skips nothing but `Drop`, which records a panic.
        mem::forget(self);
        fault
    }

    /// Returns the session's state.
    pub fn state(&self) -> &T {
        self.instance.data().state()
    }

    /// Returns the session's state, mutably.
    pub fn state_mut(&mut self) -> &mut T {
        self.instance.data_mut().state_mut()
    }

    /// Returns the guest's memory, at its current size.
    pub fn memory(&self) -> &[u8] {
        self.instance.memory()
    }

    /// Returns the guest's memory, mutably.
    pub fn memory_mut(&mut self) -> &mut [u8] {
        self.instance.memory_mut()
    }

    /// Returns the guest's memory and the session's state at once, both mutably.
    pub fn memory_and_state(&mut self) -> (&mut [u8], &mut T) {
        let (memory, data) = self.instance.memory_and_data();
        (memory, data.state_mut())
    }

    /// Returns the guest's memory as something to write to, and the session's state.
    ///
    /// [Repeatable](crate::Imports::repeatable_func) functions use it.
    pub fn output_and_state(&mut self) -> (Output<'_>, &mut T) {
        let (output, state) = self.instance.output_and_state();
        (output, of_type(state.downcast_mut()))
    }

    /// Returns the protocol's own state in the session: [`Protocol::Store`](crate::Protocol::Store).
    ///
    /// # Panics
    ///
    /// Panics if that is of another type than `S`.
    pub fn store_mut<S: 'static>(&mut self) -> &mut S {
        self.instance.data_mut().protocol_mut()
    }

    /// Returns the guest's memory and the protocol's own state at once, both mutably.
    ///
    /// # Panics
    ///
    /// As [`Caller::store_mut`].
    pub fn memory_and_store<S: 'static>(&mut self) -> (&mut [u8], &mut S) {
        let (memory, data) = self.instance.memory_and_data();
        (memory, data.protocol_mut())
    }

    /// Returns the deadline of the call that the guest is in, if there is a [limit](crate::Limits::timeout) or a handle
    /// with a [deadline](CancelHandle::deadline).
    ///
    /// A function that waits should not wait longer.
    pub fn deadline(&self) -> Option<Instant> {
        self.instance.data().budget.deadline()
    }

    /// Returns the handle that cancels the call, if there is one.
    pub fn cancel_handle(&self) -> Option<CancelHandle> {
        self.instance.data().budget.cancel_handle().cloned()
    }

    /// Waits for `time`, or until the call's deadline or cancellation.
    ///
    /// # Errors
    ///
    /// As [`Caller::in_time`].
    pub fn wait(&self, time: Duration) -> Result<()> {
        self.instance.data().budget.wait(time)
    }

    /// Checks that the call may continue.
    ///
    /// It may if the [deadline](Caller::deadline) has not passed and the call was not cancelled.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) or [`Cancelled`](ErrorKind::Cancelled), which the host function should return.
    pub fn in_time(&self) -> Result<()> {
        self.instance.data().budget.in_time()
    }

    /// Resolves a function that the guest exports, for [`Caller::call`].
    ///
    /// # Errors
    ///
    /// [`Interface`](ErrorKind::Interface) if the guest exports no function of this name and type, and
    /// [`Engine`](ErrorKind::Engine).
    pub fn get_func<P: WasmParams, R: WasmResults>(&mut self, name: &str) -> Result<GuestFunc<P, R>> {
        let ty = FuncType::new(P::TYPES, R::TYPES);
        let data = self.instance.data();
        let instance = data.id;
        match data.interface.export(name) {
            Some(ExternType::Func(Some(found))) if **found == ty => {}
            found => {
                let (export, expected) = (name.to_owned().into(), ExternType::Func(Some(ty.into())));
                let problem = match found.cloned() {
                    Some(found) => Problem::MistypedExport { export, expected, found },
                    None => Problem::MissingExport { export, expected },
                };
                return Err(ErrorKind::Interface { problems: vec![problem] }.into());
            }
        }
        let func = self.instance.get_func(name, &ty)?;
        Ok(GuestFunc { func, name: name.into(), instance, ty: PhantomData })
    }

    /// Calls back into the guest.
    ///
    /// The guest may call host functions in turn. Up to 64 such calls can be nested in one instance.
    ///
    /// # Errors
    ///
    /// - [`Trap`](ErrorKind::Trap) and any other error that terminates a guest. It poisons the instance: the guest does
    ///   not resume when the host function returns, whatever the host function returns.
    /// - [`Trap::StackOverflow`] if calls are nested too deeply. It poisons the instance as well.
    /// - [`Poisoned`](ErrorKind::Poisoned) after an earlier failure.
    /// - [`Engine`](ErrorKind::Engine) for a function of another instance.
    pub fn call<P: WasmParams, R: WasmResults>(&mut self, func: &GuestFunc<P, R>, params: P) -> Result<R> {
        if let Some(fault) = &self.fault {
            return Err(Error::poisoned(fault));
        }
        let data = self.instance.data_mut();
        if func.instance != data.id {
            return Err(Error::engine(Operation::Call, "the function belongs to another instance"));
        }
        let result = if data.depth == MAX_NESTING {
            Err(Error::trap(Trap::StackOverflow, format!("{MAX_NESTING} calls from the host are under way already")))
        } else {
            data.depth += 1;
            let mut slots = [0; SLOTS];
            let count = P::TYPES.len().max(R::TYPES.len());
            params.into_slots(&mut slots);
            let scope = trace::export(|| data.engine, &func.name);
            let called = catch_unwind(AssertUnwindSafe(|| self.instance.call(&*func.func, &mut slots[..count])));
            let result = called.unwrap_or_else(|payload| match host_panic(self.instance, payload) {
                Ok(error) => Err(error),
                Err(payload) => resume_unwind(payload),
            });
            self.instance.data_mut().depth -= 1;
            scope.ended(result).map(|()| R::from_slots(&slots))
        };
        result.map_err(|error| {
            let error = error.in_export(&func.name);
            self.fault = Some(error.clone());
            error
        })
    }

    /// Returns the bytes that the guest names by address and length in `argument`.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](ErrorKind::OutOfBounds), which names the function and the argument.
    pub fn bytes(&self, argument: &'static str, address: u32, length: u32) -> Result<&[u8]> {
        let (memory, span) = (self.memory(), Span { address, length });
        span.get(memory).ok_or_else(|| span.outside(&self.region(argument), memory.len()))
    }

    /// Returns the bytes that the guest names by address and length in `argument`, mutably.
    ///
    /// # Errors
    ///
    /// As [`Caller::bytes`].
    pub fn bytes_mut(&mut self, argument: &'static str, address: u32, length: u32) -> Result<&mut [u8]> {
        let (memory, span) = (self.memory(), Span { address, length });
        if span.get(memory).is_none() {
            return Err(span.outside(&self.region(argument), memory.len()));
        }
        Ok(span.get_mut(self.memory_mut()).unwrap_or_default())
    }

    /// Returns the string that the guest names by address and length in `argument`.
    ///
    /// # Errors
    ///
    /// As [`Caller::bytes`], and [`InvalidUtf8`](ErrorKind::InvalidUtf8).
    pub fn str(&self, argument: &'static str, address: u32, length: u32) -> Result<&str> {
        std::str::from_utf8(self.bytes(argument, address, length)?).map_err(|error| {
            let (region, offset) = (self.region(argument), error.valid_up_to() as u64);
            Error::with_source(ErrorKind::InvalidUtf8 { region, offset }, error)
        })
    }

    /// Copies bytes into memory that `allocator` returns, and returns their address and length.
    ///
    /// `allocator` is a function of the guest. Host and guest have to agree on who frees the bytes.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`], and:
    ///
    /// - [`TooLong`](ErrorKind::TooLong) for more than 4 GiB - 1 byte.
    /// - [`Allocation`](ErrorKind::Allocation) if the allocator returns null for bytes that are not empty.
    /// - [`OutOfBounds`](ErrorKind::OutOfBounds) if it returns memory that is not the guest's.
    pub fn give(&mut self, allocator: &GuestFunc<(u32,), u32>, bytes: &[u8]) -> Result<(u32, u32)> {
        let given = self.allocate(allocator, bytes.len())?;
        given.get_mut(self.memory_mut()).unwrap_or_default().copy_from_slice(bytes);
        Ok((given.address, given.length))
    }

    /// Lets the guest allocate memory of this length, which lies inside its memory.
    pub(crate) fn allocate(&mut self, allocator: &GuestFunc<(u32,), u32>, length: usize) -> Result<Span> {
        let length = u32::try_from(length).map_err(|_| {
            let (length, limit) = (length as u64, u64::from(u32::MAX));
            Error::from(ErrorKind::TooLong { region: self.region("result"), length, limit })
        })?;
        let address = self.call(allocator, (length,))?;
        if address == 0 && length != 0 {
            return Err(ErrorKind::Allocation { length: length.into() }.into());
        }
        self.bytes("result", address, length)?;
        Ok(Span { address, length })
    }

    /// Writes `bytes` to a guest's buffer of `limit` bytes at `address`, if they fit.
    ///
    /// Returns the length of `bytes` in either case, so that the guest can call again with a larger buffer.
    ///
    /// # Errors
    ///
    /// As [`Caller::bytes`], if the bytes fit and the memory to write lies outside the guest's memory.
    pub fn fill(&mut self, argument: &'static str, address: u32, limit: u32, bytes: &[u8]) -> Result<u32> {
        let needed = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if needed <= limit {
            self.bytes_mut(argument, address, needed)?.copy_from_slice(bytes);
        }
        Ok(needed)
    }

    #[cold]
    pub(crate) fn region(&self, argument: &'static str) -> Region {
        Region::Argument { function: self.name.to_string().into(), argument: Cow::Borrowed(argument) }
    }
}

/// Records which host function panicked: a caller is dropped only by a panic.
impl<T> Drop for Caller<'_, T> {
    fn drop(&mut self) {
        self.instance.data_mut().panicked = Some(Name::clone(self.name));
    }
}

impl<P, R> Clone for GuestFunc<P, R> {
    fn clone(&self) -> Self {
        Self { func: self.func.clone(), name: self.name.clone(), instance: self.instance, ty: PhantomData }
    }
}

impl<T> fmt::Debug for Caller<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("name", &self.name).field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl<P, R> fmt::Debug for GuestFunc<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GuestFunc").field(&self.name).finish()
    }
}

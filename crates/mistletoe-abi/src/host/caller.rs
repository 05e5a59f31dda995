//! What a host function sees of the instance that calls it.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::erased::{DynInstance, host_panic};
use crate::cancel::CancelHandle;
use crate::error::{Error, ErrorKind, Operation, Region, Result, Trap};
use crate::guest::span::Span;
use crate::host::name::Name;
use crate::host::numbers::{SLOTS, WasmParams, WasmResults};
use crate::trace;
use crate::types::{ExternType, FuncType, Problem};

/// How many calls from host functions into the guest may be under way at once in one instance. Each of them takes room
/// on the host's own stack, which no engine watches over.
pub(crate) const MAX_NESTING: u32 = 64;

/// The instance that calls a host function: its session's state, its memory and its exports.
pub struct Caller<'a, T> {
    instance: &'a mut dyn DynInstance,
    name: &'a Arc<Name>,
    fault: Option<Error>,
    state: PhantomData<&'a mut T>,
}

/// A function that a guest exports, resolved by [`Caller::get_func`]. It can be kept, in the session's state for
/// instance, and cloned. It is of use to the instance that resolved it alone.
pub struct GuestFunc<P, R> {
    func: Arc<dyn Any + Send + Sync>,
    name: Arc<str>,
    instance: u64,
    ty: PhantomData<fn(P) -> R>,
}

impl<'a, T: 'static> Caller<'a, T> {
    /// The guest calls a host function, where it still has time to.
    #[inline]
    pub(crate) fn new(instance: &'a mut dyn DynInstance, name: &'a Arc<Name>) -> Result<Self> {
        instance.data_mut().budget.host_call()?;
        Ok(Self { instance, name, fault: None, state: PhantomData })
    }

    /// The host function has returned.
    pub(crate) fn into_fault(mut self) -> Option<Error> {
        let fault = self.fault.take();
        // Nothing but the note of a panic is left out.
        mem::forget(self);
        fault
    }

    /// The state of the session.
    pub fn state(&self) -> &T {
        self.instance.data().state()
    }

    /// The state of the session, to be changed.
    pub fn state_mut(&mut self) -> &mut T {
        self.instance.data_mut().state_mut()
    }

    /// The guest's memory, as large as it is now.
    pub fn memory(&self) -> &[u8] {
        self.instance.memory()
    }

    /// The guest's memory, to be written.
    pub fn memory_mut(&mut self) -> &mut [u8] {
        self.instance.memory_mut()
    }

    /// The guest's memory and the session's state at once.
    pub fn memory_and_state(&mut self) -> (&mut [u8], &mut T) {
        let (memory, data) = self.instance.memory_and_data();
        (memory, data.state_mut())
    }

    /// What the protocol keeps in the session beside the state: [`Protocol::Store`](crate::Protocol::Store).
    ///
    /// # Panics
    ///
    /// Where that is of another type.
    pub fn store_mut<S: 'static>(&mut self) -> &mut S {
        self.instance.data_mut().protocol_mut()
    }

    /// When the call that the guest is in has to end, if there is a [limit](crate::Limits::timeout). A function that
    /// waits should wait no longer.
    pub fn deadline(&self) -> Option<Instant> {
        self.instance.data().budget.deadline()
    }

    /// The handle that cancels the call, if there is one.
    pub fn cancel_handle(&self) -> Option<CancelHandle> {
        self.instance.data().budget.cancel.clone()
    }

    /// Waits for so long, or until the call has to end.
    ///
    /// # Errors
    ///
    /// As [`Caller::in_time`].
    pub fn wait(&self, time: Duration) -> Result<()> {
        self.instance.data().budget.wait(time)
    }

    /// Whether the call may go on: there is time left before the [deadline](Caller::deadline), and it was not
    /// cancelled.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) or [`Cancelled`](ErrorKind::Cancelled), for the function to answer with.
    pub fn in_time(&self) -> Result<()> {
        self.instance.data().budget.in_time()
    }

    /// Resolves a function that the guest exports, for [`Caller::call`].
    ///
    /// # Errors
    ///
    /// [`Interface`](ErrorKind::Interface) where there is none of this name and type.
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

    /// Calls back into the guest. It may call host functions in turn, to a depth of 64 calls of this kind.
    ///
    /// # Errors
    ///
    /// [`Trap`](ErrorKind::Trap) and what else ends a guest; it poisons the instance, so that the guest does not go on
    /// once the host function returns, whatever it returns. [`Trap::StackOverflow`] where calls are nested too deeply,
    /// [`Poisoned`](ErrorKind::Poisoned) after an earlier failure, and [`Engine`](ErrorKind::Engine) for a function of
    /// another instance's.
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
            let scope = trace::export(data.engine, &func.name);
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

    /// The bytes that the guest names by address and length in `argument`.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](ErrorKind::OutOfBounds), which names function and argument.
    pub fn bytes(&self, argument: &'static str, address: u32, length: u32) -> Result<&[u8]> {
        let (memory, span) = (self.memory(), Span { address, length });
        span.get(memory).ok_or_else(|| span.outside(&self.region(argument), memory.len()))
    }

    /// The same bytes, to be written.
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

    /// The string that the guest names by address and length in `argument`.
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

    /// Hands bytes to the guest in memory that `allocator`, a function of its own, gives for them; address and length.
    /// Who frees them is between host and guest.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`], [`Allocation`](ErrorKind::Allocation) where the allocator answers null for bytes that are
    /// not empty, and [`OutOfBounds`](ErrorKind::OutOfBounds) where it names no memory of the guest's.
    pub fn give(&mut self, allocator: &GuestFunc<(u32,), u32>, bytes: &[u8]) -> Result<(u32, u32)> {
        let length = u32::try_from(bytes.len()).map_err(|_| {
            let (length, limit) = (bytes.len() as u64, u64::from(u32::MAX));
            Error::from(ErrorKind::TooLong { region: self.region("result"), length, limit })
        })?;
        let address = self.call(allocator, (length,))?;
        if address == 0 && length != 0 {
            return Err(ErrorKind::Allocation { length: length.into() }.into());
        }
        self.bytes_mut("result", address, length)?.copy_from_slice(bytes);
        Ok((address, length))
    }

    /// Answers a guest that brought a buffer of `limit` bytes at `address`: writes `bytes` there if they fit, and gives
    /// the length they need in either case, so that the guest can come back with a larger one.
    ///
    /// # Errors
    ///
    /// As [`Caller::bytes`] for a buffer that is to be written and lies outside the memory.
    pub fn fill(&mut self, argument: &'static str, address: u32, limit: u32, bytes: &[u8]) -> Result<u32> {
        let needed = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if needed <= limit {
            self.bytes_mut(argument, address, needed)?.copy_from_slice(bytes);
        }
        Ok(needed)
    }

    #[cold]
    fn region(&self, argument: &'static str) -> Region {
        Region::Argument { function: self.name.to_string().into(), argument: Cow::Borrowed(argument) }
    }
}

/// One that is dropped belongs to a host function that panicked: the layer will want to know which.
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

//! Instances as protocols use them: poisoned by the first failure, and with every address checked.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::backend::erased::{Panic, host_panic};
use crate::backend::instance::Instance;
use crate::backend::store::StoreData;
use crate::cancel::CancelHandle;
use crate::error::{Error, ErrorKind, Operation, Region, Result};
use crate::guest::export::{ExportedFunc, START};
use crate::host::numbers::{WasmParams, WasmResults};
use crate::limits::Limits;
use crate::module::{Interface, InternalExports};
use crate::trace;
use crate::types::{FuncType, ValType};

pub(crate) mod export;
pub(crate) mod span;

pub use span::Span;

/// An instance, together with the error that poisoned it.
///
/// A [`Protocol`](crate::Protocol) takes its steps with it. After the first failure of a call, no function of the guest
/// is called any more.
pub struct Guest<I: Instance> {
    instance: I,
    limits: Limits,
    fault: Option<Error>,
    /// Returns the fuel left, if fuel is counted.
    fuel: Option<I::Func>,
    /// Returns where the guest is, if its stack is recorded.
    position: Option<I::Func>,
    /// Whether there is a budget to enforce.
    limited: bool,
}

/// A guest during the steps of [`Guest::steps`].
pub struct Steps<'a, I: Instance>(&'a mut Guest<I>);

/// A guest's function that takes `P` and returns `R`, resolved once by [`Guest::resolve`].
///
/// `F` is the [engine's function](Instance::Func).
pub struct Func<F, P, R> {
    func: F,
    /// The name that errors report.
    name: &'static str,
    ty: PhantomData<fn(P) -> R>,
}

/// The most slots in a call by a protocol.
const SLOTS: usize = 4;

impl<I: Instance> Guest<I> {
    /// Wraps an instance of a module with these internal exports.
    pub(crate) fn new(mut instance: I, limits: Limits, internal: &InternalExports) -> Result<Self> {
        let mut number = |name: &Option<String>| {
            let func = name.as_ref().map(|name| instance.get_func(name, &FuncType::new(&[], &[ValType::I64])));
            func.transpose()
        };
        let (fuel, position) = (number(&internal.fuel)?, number(&internal.position)?);
        let limited = fuel.is_some() || instance.data().budget.is_limited();
        Ok(Self { instance, limits, fault: None, fuel, position, limited })
    }

    /// Begins a call. The limits on time and fuel apply to it as a whole.
    #[inline(always)]
    pub(crate) fn begin(&mut self) -> Result<()> {
        if self.limited && self.fault.is_none() { self.begin_budget() } else { Ok(()) }
    }

    fn begin_budget(&mut self) -> Result<()> {
        let left = self.fuel_left()?.unwrap_or_default();
        self.instance.data_mut().budget.begin(left)
    }

    /// Sets the handle that cancels calls from now on.
    pub(crate) fn set_cancel_handle(&mut self, handle: Option<CancelHandle>) {
        let budget = &mut self.instance.data_mut().budget;
        budget.set_cancel_handle(handle);
        self.limited = self.fuel.is_some() || budget.is_limited();
    }

    pub(crate) fn cancel_handle(&mut self) -> CancelHandle {
        match self.instance.data().budget.cancel_handle() {
            Some(handle) => handle.clone(),
            None => {
                let handle = CancelHandle::new();
                self.set_cancel_handle(Some(handle.clone()));
                handle
            }
        }
    }

    /// Returns the fuel that the latest call has used so far, if fuel is counted.
    pub(crate) fn fuel_used(&mut self) -> Result<Option<u64>> {
        let left = self.fuel_left()?;
        Ok(left.map(|left| self.instance.data().budget.used(left)))
    }

    #[inline]
    fn fuel_left(&mut self) -> Result<Option<i64>> {
        let Some(fuel) = &self.fuel else { return Ok(None) };
        let mut left = [0];
        self.instance.call(fuel, &mut left)?;
        Ok(Some(left[0].cast_signed()))
    }

    /// Resolves an exported function, which the protocol has [checked](crate::Protocol::check).
    ///
    /// # Errors
    ///
    /// [`Engine`](ErrorKind::Engine) if there is no such function.
    pub fn resolve<P: WasmParams, R: WasmResults>(
        &mut self,
        export: &ExportedFunc<P, R>,
    ) -> Result<Func<I::Func, P, R>> {
        let func = self.instance.get_func(export.name, &ExportedFunc::<P, R>::TYPE)?;
        Ok(Func { func, name: export.name, ty: PhantomData })
    }

    /// Calls a function that is not an export of the guest's own, such as the module's start function.
    ///
    /// A trap in it names no export.
    pub(crate) fn start(&mut self, name: &str) -> Result<()> {
        let func = self.instance.get_func(name, &FuncType::new(&[], &[]))?;
        self.steps(|steps| {
            let called = Instance::call(&mut steps.0.instance, &func, &mut []);
            called.map_err(|error| steps.0.with_backtrace(error))
        })
    }

    /// Calls a function that the layer added, which takes at most one slot and returns one.
    pub(crate) fn call_internal(&mut self, name: &str, ty: &FuncType, param: u64) -> Result<u64> {
        let func = self.instance.get_func(name, ty)?;
        let mut slots = [param];
        self.instance.call(&func, &mut slots)?;
        Ok(slots[0])
    }

    /// Adds the guest's stack to the error of a call, if it is recorded.
    #[cold]
    fn with_backtrace(&mut self, error: Error) -> Error {
        let mut position = [0];
        // An exit is how a program ends. For any other error, a backtrace is not worth another error.
        if let Some(func) = self.position.as_ref().filter(|_| error.exit_code().is_none())
            && self.instance.call(func, &mut position).is_ok()
            && let Some(recorder) = &self.instance.data().recorder
            && let Some(backtrace) = recorder.backtrace(position[0])
        {
            return error.with_backtrace(backtrace);
        }
        error
    }

    /// Notes the export that is called next while the session is opened.
    pub(crate) fn enter(&mut self, export: &'static str) {
        if let Some(opening) = &mut self.data_mut().opening {
            opening.export = Some(export);
        }
    }

    /// Calls `_start` to initialise the guest.
    ///
    /// An exit with code 0 ends only the initialisation. `unwind` is called after it, because the functions that the
    /// exit left did not return their part of the stack.
    pub(crate) fn start_up(&mut self, unwind: Option<&str>) -> Result<()> {
        let start = self.resolve(&START)?;
        match self.call(&start, ()) {
            Err(error) if *error.kind() == (ErrorKind::Exit { code: 0 }) => {
                self.fault = None;
                self.data_mut().host_failed = false;
                unwind.map_or(Ok(()), |unwind| self.start(unwind))
            }
            result => result.map(drop),
        }
    }

    /// Returns the error that poisoned the instance, if any.
    pub(crate) fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }

    pub(crate) fn data(&self) -> &StoreData {
        self.instance.data()
    }

    pub(crate) fn data_mut(&mut self) -> &mut StoreData {
        self.instance.data_mut()
    }

    /// Calls a function of the guest.
    ///
    /// # Errors
    ///
    /// As [`Steps::call`].
    pub fn call<P: WasmParams, R: WasmResults>(&mut self, func: &Func<I::Func, P, R>, params: P) -> Result<R> {
        self.steps(|steps| steps.call(func, params))
    }

    /// Returns what the module imports and exports.
    pub fn interface(&self) -> &Interface {
        &self.instance.data().interface
    }

    /// Returns the limits of the session.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Checks the length of an input, in bytes, against the [limit](Limits::max_input).
    ///
    /// # Errors
    ///
    /// [`TooLong`](ErrorKind::TooLong) if the input is longer.
    #[inline]
    pub fn check_input(&self, length: usize) -> Result<()> {
        self.limits.input(length)
    }

    /// Returns the protocol's own state in the session: [`Protocol::Store`](crate::Protocol::Store).
    ///
    /// # Panics
    ///
    /// Panics if that is of another type than `S`.
    pub fn store_mut<S: 'static>(&mut self) -> &mut S {
        self.instance.data_mut().protocol_mut()
    }

    /// Returns the bytes that the guest names by address and length.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](ErrorKind::OutOfBounds), which names the region.
    pub fn bytes(&self, region: &Region, address: u32, length: u32) -> Result<&[u8]> {
        Span { address, length }.of(self.memory(), region)
    }

    /// Returns the bytes that the guest names by address and length, mutably.
    ///
    /// # Errors
    ///
    /// As [`Guest::bytes`].
    pub fn bytes_mut(&mut self, region: &Region, address: u32, length: u32) -> Result<&mut [u8]> {
        Span { address, length }.of_mut(self.instance.memory_mut(), region)
    }

    /// Runs steps that call into the guest.
    ///
    /// A panic in a host function becomes an error; a panic in the engine propagates to the caller. Both poison the
    /// instance.
    ///
    /// # Errors
    ///
    /// The error that `steps` returns, and [`HostPanic`](ErrorKind::HostPanic).
    #[inline(always)]
    pub fn steps<R>(&mut self, steps: impl FnOnce(&mut Steps<'_, I>) -> Result<R>) -> Result<R> {
        // A panic can leave two things half changed: the guest, which is poisoned, and the session's state, for which
        // the host program is responsible. Several calls share one catch frame, because each frame adds some 30
        // instructions.
        catch_unwind(AssertUnwindSafe(|| steps(&mut Steps(self)))).unwrap_or_else(|payload| Err(self.panicked(payload)))
    }

    #[cold]
    fn panicked(&mut self, payload: Panic) -> Error {
        match host_panic(&mut self.instance, payload) {
            Ok(error) => {
                let error = self.with_backtrace(error);
                self.poisoned(error)
            }
            Err(payload) => {
                self.poisoned(Error::engine(Operation::Call, "the engine panicked"));
                resume_unwind(payload)
            }
        }
    }

    #[cold]
    fn poisoned(&mut self, fault: Error) -> Error {
        self.fault.insert(fault).clone()
    }

    pub(crate) fn memory_mut(&mut self) -> &mut [u8] {
        self.instance.memory_mut()
    }

    /// Returns the memory, at its current size.
    #[inline]
    pub fn memory(&self) -> &[u8] {
        self.instance.memory()
    }
}

impl<I: Instance> Steps<'_, I> {
    /// Calls a function of the guest with up to 4 parameters and up to 4 results.
    ///
    /// # Errors
    ///
    /// [`Trap`](ErrorKind::Trap), the errors of the limits, [`Cancelled`](ErrorKind::Cancelled), the error of a host
    /// function, and [`Poisoned`](ErrorKind::Poisoned) after any of them.
    #[inline(always)]
    pub fn call<P: WasmParams, R: WasmResults>(&mut self, func: &Func<I::Func, P, R>, params: P) -> Result<R> {
        let guest = &mut *self.0;
        if let Some(fault) = &guest.fault {
            return Err(Error::poisoned(fault));
        }
        let count = const {
            let (params, results) = (P::TYPES.len(), R::TYPES.len());
            assert!(params <= SLOTS && results <= SLOTS, "a protocol's function has up to 4 parameters");
            if params > results { params } else { results }
        };
        let mut slots = [0; SLOTS];
        let slots = &mut slots[..count];
        params.into_slots(slots);
        let scope = trace::export(|| guest.instance.data().engine, func.name);
        scope.ended(match guest.instance.call(&func.func, slots) {
            Ok(()) => Ok(R::from_slots(slots)),
            Err(error) => {
                let error = guest.with_backtrace(error.in_export(func.name));
                Err(guest.poisoned(error))
            }
        })
    }

    /// Allocates memory in the guest with `alloc`, and copies `input` there.
    ///
    /// # Errors
    ///
    /// As [`Steps::call`], and:
    ///
    /// - [`TooLong`](ErrorKind::TooLong) if the input exceeds the [limit](crate::Limits::with_max_input).
    /// - [`Allocation`](ErrorKind::Allocation) if `alloc` returns null for bytes that are not empty.
    /// - [`OutOfBounds`](ErrorKind::OutOfBounds) if it returns memory that is not the guest's.
    #[inline(always)]
    pub fn hand_over(&mut self, alloc: &Func<I::Func, (u32,), u32>, input: &[u8]) -> Result<Span> {
        self.0.limits.input(input.len())?;
        // No limit on inputs is higher than `u32::MAX`.
        let length = input.len() as u32;
        let address = self.call(alloc, (length,))?;
        if address == 0 && length != 0 {
            return Err(ErrorKind::Allocation { length: length.into() }.into());
        }
        let span = Span { address, length };
        span.of_mut(self.0.instance.memory_mut(), &Region::Input)?.copy_from_slice(input);
        Ok(span)
    }
}

impl<I: Instance> fmt::Debug for Guest<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("fault", &self.fault).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<I: Instance> fmt::Debug for Steps<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Steps").field(&self.0).finish()
    }
}

impl<F, P, R> fmt::Debug for Func<F, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Func").field(&self.name).finish()
    }
}

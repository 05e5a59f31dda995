//! From bytes to live instances, the same for every protocol.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::instance::Instance;
use crate::backend::store::StoreData;
use crate::cancel::CancelHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::guest::export::INITIALIZE;
use crate::host::func::HostFunc;
use crate::host::imports::Imports;
use crate::host::{metering, toolchain};
use crate::limits::Limits;
use crate::limits::budget::Budget;
use crate::module::{self, Interface, InternalExports, ModuleSource};
use crate::protocol::check::Check;
use crate::protocol::traits::Protocol;
use crate::trace;
use crate::types::Problem;

pub(crate) mod any;
pub(crate) mod command;
pub(crate) mod erased;
pub(crate) mod handler;
pub(crate) mod package;

/// A module that speaks a [protocol](Protocol), compiled for one backend. Threads can share it, and cloning it is
/// cheap.
///
/// Its sessions have a state of type `T`, which the host functions that it was linked with work on.
/// [`Package`](crate::Package), [`Handler`](crate::Handler) and [`Command`](crate::Command) are programs.
pub struct Program<P: Protocol, B: Backend, T = ()> {
    protocol: P,
    backend: B,
    module: B::Module,
    interface: Arc<Interface>,
    internal: InternalExports,
    /// The limits that are in the code.
    compiled: Limits,
    limits: Limits,
    state: PhantomData<fn(T) -> T>,
}

/// One live instance of a [`Program`]. Its memory stays as the last request left it.
///
/// It is `Send` where the engine's instances are.
pub struct ProgramSession<P: Protocol, B: Backend, T = ()> {
    guest: Guest<B::Instance>,
    exports: P::Exports<<B::Instance as Instance>::Func>,
    state: PhantomData<Cell<T>>,
}

/// A module that speaks a protocol, with the host functions that it imports, before an engine has seen it.
pub(crate) struct Checked<'a, P> {
    protocol: P,
    source: ModuleSource<'a>,
    imports: Vec<HostFunc>,
    limits: Limits,
}

impl<'a, P: Protocol> Checked<'a, P> {
    /// Reads a module, and lists every way in which its exports do not fit a protocol or its imports are not offered,
    /// by the protocol itself or by the host program.
    pub(crate) fn new<T: Send + 'static>(
        protocol: P,
        wasm: &'a [u8],
        imports: &Imports<T>,
        limits: Limits,
    ) -> Result<Self> {
        let source = ModuleSource::new(wasm, limits.config());
        let (interface, _) = source.outline()?;
        let (imports, problems) = problems(&protocol, interface, imports);
        if !problems.is_empty() {
            // A module that is not valid is refused for that; what it must not import is among the problems.
            match source.instrument() {
                Err(error) if *error.kind() != ErrorKind::Module(module::ErrorKind::ReservedImport) => {
                    return Err(error);
                }
                _ => {}
            }
            return Err(ErrorKind::Interface { problems }.into());
        }
        let mut imports = imports.used(interface);
        if source.config().is_metered() {
            imports.extend(metering::functions());
        }
        Ok(Self { protocol, source, imports, limits })
    }
}

impl<'a, P: Protocol> Checked<'a, P> {
    /// The same for another protocol, where that is the same.
    pub(crate) fn cast<Q: Protocol>(self) -> Result<Box<Checked<'a, Q>>, Box<Self>> {
        let Self { protocol, source, imports, limits } = self;
        match same(protocol) {
            Ok(protocol) => Ok(Box::new(Checked { protocol, source, imports, limits })),
            Err(protocol) => Err(Box::new(Self { protocol, source, imports, limits })),
        }
    }
}

/// A value as one of another type, where that is the same.
pub(crate) fn same<A: 'static, B: 'static>(value: A) -> Result<B, A> {
    let mut value = Some(value);
    match (&mut value as &mut dyn Any).downcast_mut::<Option<B>>().and_then(Option::take) {
        Some(same) => Ok(same),
        None => value.map_or_else(|| unreachable!("it was not taken"), Err),
    }
}

/// The imports with the protocol's own and those of toolchains, and what is wrong.
pub(crate) fn problems<P: Protocol, T: Send + 'static>(
    protocol: &P,
    interface: &Interface,
    imports: &Imports<T>,
) -> (Imports<T>, Vec<Problem>) {
    let mut imports = imports.clone();
    protocol.provide(&mut imports);
    toolchain::provide(&mut imports);
    let mut check = Check::new(interface);
    protocol.check(&mut check);
    if P::INITIALIZES {
        check.optional_func(&INITIALIZE);
    }
    let mut problems = check.into_problems();
    problems.extend(imports.problems(interface));
    (imports, problems)
}

impl<P: Protocol + Default, B: Backend> Program<P, B> {
    /// Checks and compiles a module in the binary format that imports nothing but what the protocol itself offers, with
    /// the default [`Limits`].
    ///
    /// # Errors
    ///
    /// As [`Program::with_imports`].
    pub fn new(backend: &B, wasm: &[u8]) -> Result<Self> {
        Self::with_imports(backend, wasm, &Imports::new(), Limits::default())
    }
}

impl<P: Protocol + Default, B: Backend, T: Send + 'static> Program<P, B, T> {
    /// Checks and compiles a module in the binary format, and links it with those of the imports that it asks for.
    ///
    /// # Errors
    ///
    /// Those of [`ModuleSource::validate`](crate::ModuleSource::validate),
    /// [`Interface`](crate::ErrorKind::Interface) where it does not speak the protocol or imports what is not offered,
    /// and [`Engine`](crate::ErrorKind::Engine).
    pub fn with_imports(backend: &B, wasm: &[u8], imports: &Imports<T>, limits: Limits) -> Result<Self> {
        Self::with_protocol(P::default(), backend, wasm, imports, limits)
    }

    /// Everything in which a module does not speak the protocol, or asks for more than `imports`; empty if there is
    /// nothing.
    pub fn problems(interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        problems(&P::default(), interface, imports).1
    }
}

impl<P: Protocol, B: Backend, T: Send + 'static> Program<P, B, T> {
    /// [`Program::problems`] for a protocol that leaves something to choose.
    pub fn problems_with(protocol: &P, interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        problems(protocol, interface, imports).1
    }

    /// [`Program::with_imports`] for a protocol that leaves something to choose.
    ///
    /// # Errors
    ///
    /// As [`Program::with_imports`].
    pub fn with_protocol(protocol: P, backend: &B, wasm: &[u8], imports: &Imports<T>, limits: Limits) -> Result<Self> {
        let scope = trace::compile(backend.name(), wasm.len());
        let checked = Checked::new(protocol, wasm, imports, limits);
        scope.ended(checked.and_then(|checked| Self::compile(backend, checked)))
    }

    pub(crate) fn compile(backend: &B, checked: Checked<'_, P>) -> Result<Self> {
        let Checked { protocol, source, imports, limits } = checked;
        let module = backend.compile(&source, &imports)?;
        let (interface, internal) = source.outline()?;
        let (interface, internal) = (Arc::new(interface.clone()), internal.clone());
        let (backend, state) = (backend.clone(), PhantomData);
        Ok(Self { protocol, backend, module, interface, internal, compiled: limits, limits, state })
    }

    /// What the module imports and exports.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// What may be chosen about the protocol, as it was chosen.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// The same program, not compiled again, whose sessions have other limits: on time, on fuel, and on the length of
    /// inputs and outputs.
    ///
    /// # Errors
    ///
    /// [`FixedLimit`](crate::ErrorKind::FixedLimit) where another limit differs from what it was compiled with, or
    /// where time or fuel is to be limited and its code does not count it.
    pub fn with_limits(&self, limits: Limits) -> Result<Self> {
        limits.fit(&self.compiled)?;
        Ok(Self { limits, ..self.clone() })
    }

    pub(crate) fn map_protocol(mut self, change: impl FnOnce(&mut P)) -> Self {
        change(&mut self.protocol);
        self
    }

    /// A fresh instance, initialised and ready for requests, whose state is the default.
    ///
    /// # Errors
    ///
    /// As [`Program::session_with`].
    pub fn session(&self) -> Result<ProgramSession<P, B, T>>
    where
        T: Default,
    {
        self.session_with(T::default())
    }

    /// A fresh instance, initialised and ready for requests, with a state for its host functions.
    ///
    /// # Errors
    ///
    /// [`Trap`](crate::ErrorKind::Trap) where the start function, an active segment, `_initialize` or `_start` trapped,
    /// what a host function gave that was called from there, the limits' errors as in [`ProgramSession::call`], and
    /// [`Engine`](crate::ErrorKind::Engine).
    pub fn session_with(&self, state: T) -> Result<ProgramSession<P, B, T>> {
        self.open(Box::new(state), None)
    }

    /// [`Program::session_with`], which another thread can cancel, and the session's calls afterwards.
    ///
    /// # Errors
    ///
    /// As [`Program::session_with`], and [`Cancelled`](crate::ErrorKind::Cancelled).
    pub fn session_with_cancel(&self, state: T, handle: &CancelHandle) -> Result<ProgramSession<P, B, T>> {
        self.open(Box::new(state), Some(handle))
    }

    pub(crate) fn open(
        &self,
        state: Box<dyn Any + Send>,
        cancel: Option<&CancelHandle>,
    ) -> Result<ProgramSession<P, B, T>> {
        let scope = trace::instantiate(self.backend.name());
        let mut session = scope.ended(self.open_untraced(state, cancel))?;
        scope.fuel(|| session.guest.fuel_used());
        Ok(session)
    }

    fn open_untraced(
        &self,
        state: Box<dyn Any + Send>,
        cancel: Option<&CancelHandle>,
    ) -> Result<ProgramSession<P, B, T>> {
        let mut guest = self.instantiate(state, cancel)?;
        if P::INITIALIZES {
            self.initialize(&mut guest)?;
        }
        let exports = self.protocol.resolve(&mut guest)?;
        Ok(ProgramSession { guest, exports, state: PhantomData })
    }

    /// A fresh instance, whose start function has run.
    fn instantiate(&self, state: Box<dyn Any + Send>, cancel: Option<&CancelHandle>) -> Result<Guest<B::Instance>> {
        let store = Box::new(self.protocol.store(&self.limits));
        let budget = Budget::new(&self.limits, cancel.cloned());
        // Instantiating copies segments, which takes its time.
        budget.in_time()?;
        let data = StoreData::new(self.backend.name(), self.interface.clone(), state, store, budget);
        let instance = self.backend.instantiate(&self.module, data)?;
        let mut guest = Guest::new(instance, self.limits, self.internal.fuel.as_deref())?;
        guest.begin()?;
        if let Some(start) = &self.internal.start {
            guest.start(start)?;
        }
        Ok(guest)
    }

    /// Calls `_initialize`, or where the guest exports none its `_start`.
    fn initialize(&self, guest: &mut Guest<B::Instance>) -> Result<()> {
        if self.interface.export(INITIALIZE.name).is_some() {
            let initialize = guest.resolve(&INITIALIZE)?;
            guest.call(&initialize, ())
        } else if self.interface.is_initialised_by_start() {
            guest.start_up(self.internal.unwind.as_deref())
        } else {
            Ok(())
        }
    }
}

impl<P: Protocol, B: Backend, T: 'static> ProgramSession<P, B, T> {
    /// Asks the guest, and copies its answer.
    ///
    /// # Errors
    ///
    /// [`Trap`](crate::ErrorKind::Trap); the limits' [`TimedOut`](crate::ErrorKind::TimedOut),
    /// [`OutOfFuel`](crate::ErrorKind::OutOfFuel) and [`TooDeep`](crate::ErrorKind::TooDeep);
    /// [`Cancelled`](crate::ErrorKind::Cancelled); what a host function gave
    /// ([`Host`](crate::ErrorKind::Host), [`HostPanic`](crate::ErrorKind::HostPanic), [`Exit`](crate::ErrorKind::Exit)
    /// and others); [`Poisoned`](crate::ErrorKind::Poisoned) after any of them; and what else the protocol says. After
    /// an error that did not come from inside a call the session can be used again, unless its handle is cancelled;
    /// [`ProgramSession::fault`] tells.
    #[inline(always)]
    pub fn call(&mut self, request: P::Request<'_>) -> Result<P::Output> {
        self.call_with(request, |response| P::Output::from(response))
    }

    /// Asks the guest, and lends its answer to `respond`, without a copy.
    ///
    /// If `respond` panics, what the call allocated stays allocated in the guest; nothing else is harmed.
    ///
    /// # Errors
    ///
    /// As [`ProgramSession::call`].
    #[inline(always)]
    pub fn call_with<R>(&mut self, request: P::Request<'_>, respond: impl FnOnce(P::Response<'_>) -> R) -> Result<R> {
        let scope = trace::call(self.guest.data().engine);
        scope.ended(self.guest.begin())?;
        let result = P::call(&self.exports, &mut self.guest, request, respond);
        scope.fuel(|| self.guest.fuel_used());
        scope.ended(result)
    }

    /// How much [fuel](Limits::fuel) the latest call has used, also where it failed; `None` where fuel is not counted.
    /// Before the first call, it is what opening the session took.
    ///
    /// # Errors
    ///
    /// [`Engine`](crate::ErrorKind::Engine).
    pub fn fuel_used(&mut self) -> Result<Option<u64>> {
        self.guest.fuel_used()
    }

    /// What poisoned this session, if anything did. After an answered call this is a trap while freeing: the answer was
    /// good, the session is at its end.
    pub fn fault(&self) -> Option<&Error> {
        self.guest.fault()
    }

    /// A handle that cancels this session's calls from another thread.
    pub fn cancel_handle(&mut self) -> CancelHandle {
        self.guest.cancel_handle()
    }

    /// The state that host functions work on.
    pub fn state(&self) -> &T {
        self.guest.data().state()
    }

    /// The state that host functions work on, to be changed between calls.
    pub fn state_mut(&mut self) -> &mut T {
        self.guest.data_mut().state_mut()
    }

    /// What the protocol keeps in the session: [`Protocol::Store`].
    pub fn store_mut(&mut self) -> &mut P::Store {
        self.guest.store_mut()
    }

    /// Ends the session, and gives its state back.
    pub fn into_state(mut self) -> T {
        self.guest.data_mut().take_state()
    }

    pub(crate) fn data(&self) -> &StoreData {
        self.guest.data()
    }

    pub(crate) fn data_mut(&mut self) -> &mut StoreData {
        self.guest.data_mut()
    }
}

impl<P: Protocol, B: Backend, T> ProgramSession<P, B, T> {
    /// Whether it can answer another call, as far as can be known before.
    pub(crate) fn is_usable(&self) -> bool {
        self.guest.fault().is_none()
    }

    pub(crate) fn set_cancel_handle(&mut self, handle: Option<CancelHandle>) {
        self.guest.set_cancel_handle(handle);
    }
}

impl<P: Protocol, B: Backend, T> Clone for Program<P, B, T> {
    fn clone(&self) -> Self {
        Self {
            protocol: self.protocol.clone(),
            backend: self.backend.clone(),
            module: self.module.clone(),
            interface: self.interface.clone(),
            internal: self.internal.clone(),
            compiled: self.compiled,
            limits: self.limits,
            state: PhantomData,
        }
    }
}

impl<P: Protocol, B: Backend, T> fmt::Debug for Program<P, B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("backend", &self.backend.name())
            .field("interface", &self.interface)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<P: Protocol, B: Backend, T> fmt::Debug for ProgramSession<P, B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramSession").field("guest", &self.guest).finish_non_exhaustive()
    }
}

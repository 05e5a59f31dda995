//! Programs and their sessions: from bytes to instances, the same for every protocol.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use crate::backend::Backend;
use crate::backend::instance::Instance;
use crate::backend::store::StoreData;
use crate::backtrace::Recorder;
use crate::cancel::CancelHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::guest::export::{INITIALIZE, START};
use crate::host::func::HostFunc;
use crate::host::imports::Imports;
use crate::host::{metering, toolchain};
use crate::limits::Limits;
use crate::limits::budget::Budget;
use crate::module::{self, Interface, InternalExports, ModuleSource};
use crate::program::start::{Before, Plan, Starts};
use crate::protocol::check::Check;
use crate::protocol::traits::Protocol;
use crate::trace;
use crate::types::Problem;
use mistletoe_module::symbols::Symbols;

pub(crate) mod any;
pub(crate) mod command;
pub(crate) mod erased;
pub(crate) mod handler;
pub(crate) mod middleware;
pub(crate) mod package;
mod start;

/// A module that speaks a [protocol](Protocol), compiled for one backend.
///
/// Threads can share it, and cloning it is cheap. Each session has a state of type `T`, which the linked host functions
/// work on. [`Package`](crate::Package), [`Handler`](crate::Handler), [`Middleware`](crate::Middleware) and
/// [`Command`](crate::Command) are programs.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::{Backend, Imports, Limits, Program, Protocol, Result};
///
/// /// Sends one request to a module that implements any protocol.
/// fn ask<P: Protocol + Default, B: Backend>(
///     backend: &B,
///     wasm: &[u8],
///     request: P::Request<'_>,
/// ) -> Result<P::Output> {
///     let program = Program::<P, B>::with_imports(backend, wasm, &Imports::new(), Limits::default())?;
///     program.session()?.call(request)
/// }
/// ```
pub struct Program<P: Protocol, B: Backend, T = ()> {
    protocol: P,
    backend: B,
    module: B::Module,
    interface: Arc<Interface>,
    internal: InternalExports,
    /// The names for backtraces, if the stack is recorded.
    symbols: Option<Arc<Symbols>>,
    /// The limits that the code is instrumented with.
    compiled: Limits,
    limits: Limits,
    /// What is known of how sessions start.
    starts: Arc<Starts>,
    state: PhantomData<fn(T) -> T>,
}

/// An instance of a [`Program`]. Its memory stays as the last request left it.
///
/// It is `Send` if the engine's instances are.
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
    /// Reads and checks a module.
    ///
    /// The error lists every export that does not fit the protocol, and every import that is not provided by the
    /// protocol, the host program or the layer's functions for toolchains.
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
            // An invalid module is refused as invalid. A reserved import is listed among the problems already.
            match source.instrument() {
                Err(error) if *error.kind() != ErrorKind::Module(module::ErrorKind::ReservedImport) => {
                    return Err(error);
                }
                _ => {}
            }
            return Err(ErrorKind::Interface { problems }.into());
        }
        let mut imports = imports.used(interface);
        imports.extend(metering::functions(source.config()));
        Ok(Self { protocol, source, imports, limits })
    }
}

impl<'a, P: Protocol> Checked<'a, P> {
    /// Casts to another protocol type, if it is the same type.
    pub(crate) fn cast<Q: Protocol>(self) -> Result<Box<Checked<'a, Q>>, Box<Self>> {
        let Self { protocol, source, imports, limits } = self;
        match same(protocol) {
            Ok(protocol) => Ok(Box::new(Checked { protocol, source, imports, limits })),
            Err(protocol) => Err(Box::new(Self { protocol, source, imports, limits })),
        }
    }
}

/// Casts a value to another type, if it is the same type.
pub(crate) fn same<A: 'static, B: 'static>(value: A) -> Result<B, A> {
    let mut value = Some(value);
    match (&mut value as &mut dyn Any).downcast_mut::<Option<B>>().and_then(Option::take) {
        Some(same) => Ok(same),
        None => value.map_or_else(|| unreachable!("it was not taken"), Err),
    }
}

/// Adds the host functions of the protocol and of toolchains to the imports. Returns them with all problems.
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
    /// Checks and compiles a module in the binary format, with the default [`Limits`] and no host functions.
    ///
    /// The module may import only what the protocol itself provides, and the functions that the layer provides for
    /// toolchains.
    ///
    /// # Errors
    ///
    /// As [`Program::with_imports`].
    pub fn new(backend: &B, wasm: &[u8]) -> Result<Self> {
        Self::with_imports(backend, wasm, &Imports::new(), Limits::default())
    }
}

impl<P: Protocol + Default, B: Backend, T: Send + 'static> Program<P, B, T> {
    /// Checks and compiles a module in the binary format, and links it with the host functions that it imports.
    ///
    /// # Errors
    ///
    /// - The errors of [`ModuleSource::validate`](crate::ModuleSource::validate).
    /// - [`Interface`](crate::ErrorKind::Interface) if the module does not speak the protocol, or imports what is not
    ///   provided.
    /// - [`Engine`](crate::ErrorKind::Engine) if the engine fails.
    pub fn with_imports(backend: &B, wasm: &[u8], imports: &Imports<T>, limits: Limits) -> Result<Self> {
        Self::with_protocol(P::default(), backend, wasm, imports, limits)
    }

    /// Lists all problems of a module: exports that do not fit the protocol, and imports that are not provided.
    ///
    /// The list is empty if there are none.
    pub fn problems(interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        problems(&P::default(), interface, imports).1
    }
}

impl<P: Protocol, B: Backend, T: Send + 'static> Program<P, B, T> {
    /// Lists all problems of a module as [`Program::problems`] does, for a protocol value with settings.
    pub fn problems_with(protocol: &P, interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        problems(protocol, interface, imports).1
    }

    /// Checks, compiles and links a module as [`Program::with_imports`] does, for a protocol value with settings.
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
        let symbols = limits.backtrace().then(|| Arc::new(Symbols::new(source.wasm())));
        let (backend, state) = (backend.clone(), PhantomData);
        let starts = Arc::default();
        Ok(Self { protocol, backend, module, interface, internal, symbols, compiled: limits, limits, starts, state })
    }

    /// Returns the module's imports and exports.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Returns the protocol value with its settings.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Returns the same program with other limits for its sessions, without compiling it again.
    ///
    /// The limits on time, on fuel, and on the length of inputs and outputs can differ from the compiled ones.
    ///
    /// # Errors
    ///
    /// [`FixedLimit`](crate::ErrorKind::FixedLimit) if any other limit differs from the one the program was compiled
    /// with. Time can be limited only if the compiled limits limit time or count fuel; fuel only if they count fuel.
    pub fn with_limits(&self, limits: Limits) -> Result<Self> {
        limits.fit(&self.compiled)?;
        // When the guest gets fuel depends on the limit.
        let starts = if limits.fuel() == self.limits.fuel() { self.starts.clone() } else { Arc::default() };
        Ok(Self { limits, starts, ..self.clone() })
    }

    pub(crate) fn map_protocol(mut self, change: impl FnOnce(&mut P)) -> Self {
        change(&mut self.protocol);
        self
    }

    /// Opens a session with the default state: a fresh instance, initialised and ready for requests.
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

    /// Opens a session with a state for its host functions: a fresh instance, initialised and ready for requests.
    ///
    /// A guest that takes long to start may begin where the start of an earlier session ended. The functions that it
    /// calls to start are called all the same; see [`Imports::repeatable_func`].
    ///
    /// # Errors
    ///
    /// - [`Trap`](crate::ErrorKind::Trap) if the start function, an active segment, `_initialize` or `_start` traps.
    /// - The error of a host function that one of them calls.
    /// - The errors of reached limits, as in [`ProgramSession::call`].
    /// - [`Engine`](crate::ErrorKind::Engine) if the engine fails.
    pub fn session_with(&self, state: T) -> Result<ProgramSession<P, B, T>> {
        self.open(Box::new(state), None)
    }

    /// Opens a session as [`Program::session_with`] does, which another thread can cancel.
    ///
    /// The handle cancels the opening of the session and its calls.
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
        self.start(&mut guest)?;
        let exports = self.protocol.resolve(&mut guest)?;
        Ok(ProgramSession { guest, exports, state: PhantomData })
    }

    /// Makes a fresh instance, which has not started.
    fn instantiate(&self, state: Box<dyn Any + Send>, cancel: Option<&CancelHandle>) -> Result<Guest<B::Instance>> {
        let store = Box::new(self.protocol.store(&self.limits));
        let budget = Budget::new(&self.limits, cancel.cloned());
        // Instantiating copies segments, which can take long.
        budget.in_time_so_far()?;
        let mut data = StoreData::new(self.backend.name(), self.interface.clone(), state, store, budget);
        data.recorder = self.symbols.clone().map(Recorder::new);
        let instance = self.backend.instantiate(&self.module, data)?;
        let mut guest = Guest::new(instance, self.limits, &self.internal)?;
        guest.begin()?;
        Ok(guest)
    }

    /// Starts a guest, or lets it begin where the start of another one ended.
    fn start(&self, guest: &mut Guest<B::Instance>) -> Result<()> {
        match self.starts.plan(&self.internal, self.limits.timeout()) {
            Plan::Plain => self.run_start(guest)?,
            Plan::Timed => {
                let begun = Instant::now();
                self.run_start(guest)?;
                self.starts.took(begun.elapsed(), guest.memory().len());
            }
            Plan::Record => {
                let before = Before::new(guest);
                self.run_start(guest).inspect_err(|error| self.starts.failed(error.kind()))?;
                let record = before.map(|before| before.record(guest, &self.internal)).transpose()?;
                self.starts.keep(record.flatten());
            }
            Plan::From(record) => {
                if !record.begin(guest, &self.internal)? {
                    self.starts.missed();
                    self.run_start(guest)?;
                    guest.data_mut().opening = None;
                }
            }
        }
        Ok(())
    }

    /// Runs the start function, and initialises the guest.
    fn run_start(&self, guest: &mut Guest<B::Instance>) -> Result<()> {
        if let Some(start) = &self.internal.start {
            guest.start(start)?;
        }
        if P::INITIALIZES { self.initialize(guest) } else { Ok(()) }
    }

    /// Calls `_initialize`, or `_start` if the guest exports no `_initialize`; both if the protocol starts its guests.
    fn initialize(&self, guest: &mut Guest<B::Instance>) -> Result<()> {
        let initializes = self.interface.export(INITIALIZE.name).is_some();
        if self.interface.has_start() && (P::STARTS || !initializes) {
            guest.enter(START.name);
            guest.start_up(self.internal.unwind.as_deref())?;
        }
        if initializes {
            guest.enter(INITIALIZE.name);
            let initialize = guest.resolve(&INITIALIZE)?;
            guest.call(&initialize, ())?;
        }
        Ok(())
    }
}

impl<P: Protocol, B: Backend, T: 'static> ProgramSession<P, B, T> {
    /// Sends a request to the guest and returns a copy of its response.
    ///
    /// # Errors
    ///
    /// - [`Trap`](crate::ErrorKind::Trap) if the guest traps.
    /// - [`TimedOut`](crate::ErrorKind::TimedOut), [`OutOfFuel`](crate::ErrorKind::OutOfFuel) and
    ///   [`TooDeep`](crate::ErrorKind::TooDeep) if a limit is reached.
    /// - [`Cancelled`](crate::ErrorKind::Cancelled) if the session's handle is cancelled.
    /// - The error of a host function: [`Host`](crate::ErrorKind::Host), [`HostPanic`](crate::ErrorKind::HostPanic),
    ///   [`Exit`](crate::ErrorKind::Exit) and others.
    /// - [`Poisoned`](crate::ErrorKind::Poisoned) after one of these errors has poisoned the session.
    /// - Other errors that the protocol defines.
    ///
    /// After an error that does not come from inside a guest call the session can be used again, unless its handle is
    /// cancelled. [`ProgramSession::fault`] tells whether the session is poisoned.
    #[inline(always)]
    pub fn call(&mut self, request: P::Request<'_>) -> Result<P::Output> {
        self.call_with(request, |response| P::Output::from(response))
    }

    /// Sends a request to the guest and lends its response to `respond`, without a copy.
    ///
    /// If `respond` panics, what the call allocated stays allocated in the guest. The panic has no other effect on the
    /// session.
    ///
    /// # Errors
    ///
    /// As [`ProgramSession::call`].
    #[inline(always)]
    pub fn call_with<R>(&mut self, request: P::Request<'_>, respond: impl FnOnce(P::Response<'_>) -> R) -> Result<R> {
        let scope = trace::call(|| self.guest.data().engine);
        scope.ended(self.guest.begin())?;
        let result = P::call(&self.exports, &mut self.guest, request, respond);
        scope.fuel(|| self.guest.fuel_used());
        scope.ended(result)
    }

    /// Returns the units of [fuel](Limits::fuel) that the latest call used, even if it failed.
    ///
    /// Before the first call it is the fuel that opening the session used. `None` if fuel is not counted.
    ///
    /// # Errors
    ///
    /// [`Engine`](crate::ErrorKind::Engine) if the engine fails.
    pub fn fuel_used(&mut self) -> Result<Option<u64>> {
        self.guest.fuel_used()
    }

    /// Returns the size of the guest's memory, in bytes.
    ///
    /// It is also the most that the session ever had, since a memory never shrinks.
    pub fn memory_size(&self) -> u64 {
        self.guest.memory().len() as u64
    }

    /// Returns the number of host functions that the guest has called, including those while the session was opened.
    ///
    /// Counted are the functions of [`Imports`], of the protocol, and of the layer for toolchains; not counted are calls
    /// that a limit or a [`CancelHandle`] prevented.
    pub fn host_calls(&self) -> u64 {
        self.guest.data().budget.host_calls()
    }

    /// Returns the error that poisoned this session, if any.
    ///
    /// A fault after a successful call happened while freeing: the response is valid, but the session takes no more
    /// calls.
    pub fn fault(&self) -> Option<&Error> {
        self.guest.fault()
    }

    /// Returns a handle that cancels this session's calls from another thread.
    pub fn cancel_handle(&mut self) -> CancelHandle {
        self.guest.cancel_handle()
    }

    /// Returns the state that host functions work on.
    pub fn state(&self) -> &T {
        self.guest.data().state()
    }

    /// Returns the state that host functions work on, for changes between calls.
    pub fn state_mut(&mut self) -> &mut T {
        self.guest.data_mut().state_mut()
    }

    /// Returns the data that the protocol keeps in the session: [`Protocol::Store`].
    pub fn store_mut(&mut self) -> &mut P::Store {
        self.guest.store_mut()
    }

    /// Closes the session and returns its state.
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
    /// Returns whether the session can take another call, as far as can be known in advance.
    pub(crate) fn is_usable(&self) -> bool {
        self.guest.fault().is_none()
    }

    /// Sets the handle that cancels calls from now on, in place of the one before.
    ///
    /// A session that serves one request after the other gets the handle of each.
    pub fn set_cancel_handle(&mut self, handle: Option<CancelHandle>) {
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
            symbols: self.symbols.clone(),
            compiled: self.compiled,
            limits: self.limits,
            starts: self.starts.clone(),
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

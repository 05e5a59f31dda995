//! Programs and sessions for a backend chosen at run time.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::cancel::CancelHandle;
use crate::error::{Error, Operation, Result};
use crate::host::imports::Imports;
use crate::layers::any::AnyBackend;
use crate::limits::Limits;
use crate::module::Interface;
use crate::program::erased::{DynProgram, DynSession};
use crate::program::{Checked, Program, problems, same};
use crate::protocol::command::WasiCommand;
use crate::protocol::http_handler::HttpHandler;
use crate::protocol::httpwasm::HttpWasm;
use crate::protocol::package::PackageInterface;
use crate::protocol::traits::Protocol;
use crate::trace;
use crate::types::Problem;

/// A [`Program`] whose backend is chosen at run time.
///
/// For the protocols of this crate it erases the engine's type once per session. A request then costs one additional
/// virtual call, however many calls it makes into the guest.
pub struct AnyProgram<P: Protocol, T = ()> {
    program: Arc<dyn DynProgram<P>>,
    state: PhantomData<fn(T) -> T>,
}

/// A [`ProgramSession`](crate::ProgramSession) on any backend.
///
/// It is `Send`: threads can share a [`Pool`](crate::Pool) of such sessions.
pub struct AnyProgramSession<P: Protocol, T = ()> {
    session: Box<dyn DynSession<P>>,
    state: PhantomData<Cell<T>>,
}

impl<P: Protocol + Default> AnyProgram<P> {
    /// Checks and compiles a module; see [`Program::new`].
    ///
    /// # Errors
    ///
    /// As [`Program::new`].
    pub fn new(backend: &AnyBackend, wasm: &[u8]) -> Result<Self> {
        Self::with_imports(backend, wasm, &Imports::new(), Limits::default())
    }
}

impl<P: Protocol + Default, T: Send + 'static> AnyProgram<P, T> {
    /// Checks, compiles and links a module; see [`Program::with_imports`].
    ///
    /// # Errors
    ///
    /// As [`Program::with_imports`].
    pub fn with_imports(backend: &AnyBackend, wasm: &[u8], imports: &Imports<T>, limits: Limits) -> Result<Self> {
        Self::with_protocol(P::default(), backend, wasm, imports, limits)
    }

    /// Lists all problems of a module; see [`Program::problems`].
    pub fn problems(interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        problems(&P::default(), interface, imports).1
    }
}

impl<P: Protocol, T: Send + 'static> AnyProgram<P, T> {
    /// Lists all problems of a module; see [`Program::problems_with`].
    pub fn problems_with(protocol: &P, interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        problems(protocol, interface, imports).1
    }

    /// Checks, compiles and links a module for a protocol value; see [`Program::with_protocol`].
    ///
    /// # Errors
    ///
    /// As [`Program::with_protocol`].
    pub fn with_protocol(
        protocol: P,
        backend: &AnyBackend,
        wasm: &[u8],
        imports: &Imports<T>,
        limits: Limits,
    ) -> Result<Self> {
        let scope = trace::compile(backend.name(), wasm.len());
        let checked = Checked::new(protocol, wasm, imports, limits);
        let program = scope.ended(checked.and_then(|checked| compile(backend, checked)))?;
        Ok(Self { program, state: PhantomData })
    }

    /// Returns the module's imports and exports.
    pub fn interface(&self) -> &Interface {
        self.program.interface()
    }

    /// Returns the same program with other limits; see [`Program::with_limits`].
    ///
    /// # Errors
    ///
    /// As [`Program::with_limits`].
    pub fn with_limits(&self, limits: Limits) -> Result<Self> {
        Ok(Self { program: self.program.with_limits(limits)?, state: PhantomData })
    }

    /// Opens a session with the default state; see [`Program::session`].
    ///
    /// # Errors
    ///
    /// As [`Program::session`].
    pub fn session(&self) -> Result<AnyProgramSession<P, T>>
    where
        T: Default,
    {
        self.session_with(T::default())
    }

    /// Opens a session with a state; see [`Program::session_with`].
    ///
    /// # Errors
    ///
    /// As [`Program::session_with`].
    pub fn session_with(&self, state: T) -> Result<AnyProgramSession<P, T>> {
        self.open(state, None)
    }

    /// Opens a session that another thread can cancel; see [`Program::session_with_cancel`].
    ///
    /// # Errors
    ///
    /// As [`Program::session_with_cancel`].
    pub fn session_with_cancel(&self, state: T, handle: &CancelHandle) -> Result<AnyProgramSession<P, T>> {
        self.open(state, Some(handle))
    }

    pub(crate) fn open(&self, state: T, cancel: Option<&CancelHandle>) -> Result<AnyProgramSession<P, T>> {
        Ok(AnyProgramSession { session: self.program.session(Box::new(state), cancel)?, state: PhantomData })
    }
}

impl<P: Protocol, T: 'static> AnyProgramSession<P, T> {
    /// Sends a request to the guest and returns a copy of its response.
    ///
    /// See [`ProgramSession::call`](crate::ProgramSession::call).
    ///
    /// # Errors
    ///
    /// As [`ProgramSession::call`](crate::ProgramSession::call).
    pub fn call(&mut self, request: P::Request<'_>) -> Result<P::Output> {
        self.session.call(request)
    }

    /// Sends a request to the guest and lends its response to `respond`, without a copy.
    ///
    /// See [`ProgramSession::call_with`](crate::ProgramSession::call_with).
    ///
    /// # Errors
    ///
    /// As [`ProgramSession::call_with`](crate::ProgramSession::call_with).
    pub fn call_with<R>(&mut self, request: P::Request<'_>, respond: impl FnOnce(P::Response<'_>) -> R) -> Result<R> {
        let mut respond = Some(respond);
        let mut answer = None;
        self.session.call_with(request, &mut |response| answer = respond.take().map(|respond| respond(response)))?;
        match answer {
            Some(answer) => Ok(answer),
            None => Err(Error::engine(Operation::Call, "the protocol lent no answer")),
        }
    }

    /// Returns the units of fuel that the latest call used.
    ///
    /// See [`ProgramSession::fuel_used`](crate::ProgramSession::fuel_used).
    ///
    /// # Errors
    ///
    /// As [`ProgramSession::fuel_used`](crate::ProgramSession::fuel_used).
    pub fn fuel_used(&mut self) -> Result<Option<u64>> {
        self.session.fuel_used()
    }

    /// Returns the size of the guest's memory, in bytes.
    ///
    /// See [`ProgramSession::memory_size`](crate::ProgramSession::memory_size).
    pub fn memory_size(&self) -> u64 {
        self.session.memory_size()
    }

    /// Returns how many host functions the guest has called.
    ///
    /// See [`ProgramSession::host_calls`](crate::ProgramSession::host_calls).
    pub fn host_calls(&self) -> u64 {
        self.session.data().budget.host_calls()
    }

    /// Returns a handle that cancels this session's calls from another thread.
    ///
    /// See [`ProgramSession::cancel_handle`](crate::ProgramSession::cancel_handle).
    pub fn cancel_handle(&mut self) -> CancelHandle {
        self.session.cancel_handle()
    }

    /// Returns the error that poisoned this session, if any.
    ///
    /// See [`ProgramSession::fault`](crate::ProgramSession::fault).
    pub fn fault(&self) -> Option<&Error> {
        self.session.fault()
    }

    /// Returns the state that host functions work on; see [`ProgramSession::state`](crate::ProgramSession::state).
    pub fn state(&self) -> &T {
        self.session.data().state()
    }

    /// Returns the state that host functions work on, for changes between calls.
    ///
    /// See [`ProgramSession::state_mut`](crate::ProgramSession::state_mut).
    pub fn state_mut(&mut self) -> &mut T {
        self.session.data_mut().state_mut()
    }

    /// Returns the protocol's data; see [`ProgramSession::store_mut`](crate::ProgramSession::store_mut).
    pub fn store_mut(&mut self) -> &mut P::Store {
        self.session.data_mut().protocol_mut()
    }

    /// Closes the session and returns its state; see [`ProgramSession::into_state`](crate::ProgramSession::into_state).
    pub fn into_state(mut self) -> T {
        self.session.data_mut().take_state()
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.session.fault().is_none()
    }

    /// Sets the handle that cancels calls from now on; see
    /// [`ProgramSession::set_cancel_handle`](crate::ProgramSession::set_cancel_handle).
    pub fn set_cancel_handle(&mut self, handle: Option<CancelHandle>) {
        self.session.set_cancel_handle(handle);
    }
}

/// Compiles for an engine whose type is erased: per session for the protocols that every backend knows, else per
/// instance.
fn compile<P: Protocol>(backend: &AnyBackend, checked: Checked<'_, P>) -> Result<Arc<dyn DynProgram<P>>> {
    /// Compiles and returns if `P` is this protocol.
    macro_rules! known {
        ($checked:ident, $protocol:ty, $compile:ident) => {
            match (*$checked).cast::<$protocol>() {
                Ok(checked) => {
                    let program = backend.backend.$compile(*checked)?;
                    match same(program) {
                        Ok(program) => return Ok(program),
                        Err(_) => unreachable!("the protocols are the same"),
                    }
                }
                Err(checked) => checked,
            }
        };
    }
    let checked = Box::new(checked);
    let checked = known!(checked, PackageInterface, package);
    let checked = known!(checked, HttpWasm, handler);
    let checked = known!(checked, HttpHandler, middleware);
    let checked = known!(checked, WasiCommand, command);
    Ok(Arc::new(Program::<P, AnyBackend>::compile(backend, *checked)?))
}

impl<P: Protocol, T> Clone for AnyProgram<P, T> {
    fn clone(&self) -> Self {
        Self { program: self.program.clone(), state: PhantomData }
    }
}

impl<P: Protocol, T> fmt::Debug for AnyProgram<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyProgram").field("interface", self.program.interface()).finish_non_exhaustive()
    }
}

impl<P: Protocol, T> fmt::Debug for AnyProgramSession<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyProgramSession").field("fault", &self.session.fault()).finish_non_exhaustive()
    }
}

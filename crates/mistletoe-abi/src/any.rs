//! A backend chosen at run time.
//!
//! [`AnyBackend`] is a [`Backend`] as any other, at the price of a virtual call for each call into the guest: a
//! `Program<P, AnyBackend>` is one whose engine is not known when the host program is built.
//!
//! [`AnyProgram`] does the same at a lower price for the protocols of this crate: it erases the engine's type once per
//! session, so that a request costs one virtual call more, however many calls it makes into the guest.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::backend::{Artifact, Backend, Instance, Keep};
#[cfg(feature = "cache")]
use crate::cache::{Cache, Cached};
use crate::cancel::CancelHandle;
use crate::erased::{AnyFunc, DynInstance};
use crate::error::{Error, Operation, Result};
use crate::host::{HostFunc, Imports, StoreData};
use crate::limits::Limits;
use crate::module::{Feature, Interface, ModuleSource};
use crate::program::{self, Checked, Program, ProgramSession, same};
use crate::protocol::{HttpWasm, PackageInterface, Protocol, WasiCommand};
use crate::types::{FuncType, Problem};

/// Any [`Backend`].
#[derive(Clone)]
pub struct AnyBackend {
    backend: Arc<dyn DynBackend>,
    /// Puts a cache around the backend, below the erasure, so that nothing is erased twice. `None` where there is one.
    #[cfg(feature = "cache")]
    cached: Option<WithCache>,
}

/// A module compiled for any backend.
#[derive(Clone)]
pub struct AnyModule(Arc<dyn DynModule>);

/// An [`Instance`] on any backend. It is `Send`, as the backend's own instances are.
pub struct AnyInstance(Box<dyn DynInstance + Send>);

/// A function of an [`AnyInstance`].
pub struct AnyInstanceFunc(AnyFunc);

/// A [`Program`] compiled for any backend.
pub struct AnyProgram<P: Protocol, T = ()> {
    program: Arc<dyn DynProgram<P>>,
    state: PhantomData<fn(T) -> T>,
}

/// A [`ProgramSession`] on any backend. It is `Send`: threads can share a [`Pool`](crate::Pool) of them.
pub struct AnyProgramSession<P: Protocol, T = ()> {
    session: Box<dyn DynSession<P>>,
    state: PhantomData<Cell<T>>,
}

#[cfg(feature = "cache")]
type WithCache = fn(&dyn Any, Cache) -> Arc<dyn DynBackend>;

trait DynBackend: Any + Send + Sync {
    fn name(&self) -> &'static str;
    fn warning(&self) -> Option<String>;
    fn supports(&self, feature: Feature) -> bool;
    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<AnyModule>;
    fn package(&self, checked: Checked<'_, PackageInterface>) -> Result<Arc<dyn DynProgram<PackageInterface>>>;
    fn handler(&self, checked: Checked<'_, HttpWasm>) -> Result<Arc<dyn DynProgram<HttpWasm>>>;
    fn command(&self, checked: Checked<'_, WasiCommand>) -> Result<Arc<dyn DynProgram<WasiCommand>>>;
    fn compatibility_key(&self) -> Option<String>;
    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<AnyModule>;
}

trait DynModule: Send + Sync {
    fn serialize(&self) -> Result<Vec<u8>>;
    fn serialize_later(&self, keep: Keep);
    fn instantiate(&self, data: StoreData) -> Result<AnyInstance>;
}

/// Without the type of the state: [`AnyProgram`] has it.
pub(crate) trait DynProgram<P: Protocol>: Send + Sync {
    fn interface(&self) -> &Interface;
    fn with_limits(&self, limits: Limits) -> Result<Arc<dyn DynProgram<P>>>;
    fn session(&self, state: Box<dyn Any + Send>, cancel: Option<&CancelHandle>) -> Result<Box<dyn DynSession<P>>>;
}

pub(crate) trait DynSession<P: Protocol>: Send {
    /// Copies the answer on this side of the virtual call.
    fn call(&mut self, request: P::Request<'_>) -> Result<P::Output>;
    fn call_with(&mut self, request: P::Request<'_>, respond: &mut dyn FnMut(P::Response<'_>)) -> Result<()>;
    fn fault(&self) -> Option<&Error>;
    fn fuel_used(&mut self) -> Result<Option<u64>>;
    fn cancel_handle(&mut self) -> CancelHandle;
    fn set_cancel_handle(&mut self, handle: Option<CancelHandle>);
    fn data(&self) -> &StoreData;
    fn data_mut(&mut self) -> &mut StoreData;
}

/// A backend with a module that it compiled.
struct Compiled<B: Backend> {
    backend: B,
    module: B::Module,
}

impl<B: Backend<Instance: Send>> DynBackend for B {
    fn name(&self) -> &'static str {
        Backend::name(self)
    }

    fn warning(&self) -> Option<String> {
        Backend::warning(self)
    }

    fn supports(&self, feature: Feature) -> bool {
        Backend::supports(self, feature)
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<AnyModule> {
        Ok(AnyModule(Arc::new(Compiled { module: Backend::compile(self, source, imports)?, backend: self.clone() })))
    }

    fn package(&self, checked: Checked<'_, PackageInterface>) -> Result<Arc<dyn DynProgram<PackageInterface>>> {
        Ok(Arc::new(Program::<_, _>::compile(self, checked)?))
    }

    fn handler(&self, checked: Checked<'_, HttpWasm>) -> Result<Arc<dyn DynProgram<HttpWasm>>> {
        Ok(Arc::new(Program::<_, _>::compile(self, checked)?))
    }

    fn command(&self, checked: Checked<'_, WasiCommand>) -> Result<Arc<dyn DynProgram<WasiCommand>>> {
        Ok(Arc::new(Program::<_, _>::compile(self, checked)?))
    }

    fn compatibility_key(&self) -> Option<String> {
        Backend::compatibility_key(self)
    }

    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<AnyModule> {
        Ok(AnyModule(Arc::new(Compiled {
            module: Backend::deserialize(self, artifact, imports)?,
            backend: self.clone(),
        })))
    }
}

impl<B: Backend<Instance: Send>> DynModule for Compiled<B> {
    fn serialize(&self) -> Result<Vec<u8>> {
        self.backend.serialize(&self.module)
    }

    fn serialize_later(&self, keep: Keep) {
        self.backend.serialize_later(&self.module, keep);
    }

    fn instantiate(&self, data: StoreData) -> Result<AnyInstance> {
        Ok(AnyInstance(Box::new(self.backend.instantiate(&self.module, data)?)))
    }
}

impl<P: Protocol, B: Backend<Instance: Send>> DynProgram<P> for Program<P, B> {
    fn interface(&self) -> &Interface {
        self.interface()
    }

    fn with_limits(&self, limits: Limits) -> Result<Arc<dyn DynProgram<P>>> {
        Ok(Arc::new(self.with_limits(limits)?))
    }

    fn session(&self, state: Box<dyn Any + Send>, cancel: Option<&CancelHandle>) -> Result<Box<dyn DynSession<P>>> {
        Ok(Box::new(self.open(state, cancel)?))
    }
}

impl<P: Protocol, B: Backend<Instance: Send>> DynSession<P> for ProgramSession<P, B> {
    fn call(&mut self, request: P::Request<'_>) -> Result<P::Output> {
        self.call(request)
    }

    fn call_with(&mut self, request: P::Request<'_>, respond: &mut dyn FnMut(P::Response<'_>)) -> Result<()> {
        self.call_with(request, respond)
    }

    fn fault(&self) -> Option<&Error> {
        self.fault()
    }

    fn fuel_used(&mut self) -> Result<Option<u64>> {
        self.fuel_used()
    }

    fn cancel_handle(&mut self) -> CancelHandle {
        self.cancel_handle()
    }

    fn set_cancel_handle(&mut self, handle: Option<CancelHandle>) {
        self.set_cancel_handle(handle);
    }

    fn data(&self) -> &StoreData {
        self.data()
    }

    fn data_mut(&mut self) -> &mut StoreData {
        self.data_mut()
    }
}

impl AnyBackend {
    /// Erases the type of a backend whose instances are `Send`. Any other is used with its own type, as
    /// `Package<MyEngine>`: its sessions stay on the threads that opened them.
    pub fn new<B: Backend<Instance: Send>>(backend: B) -> Self {
        Self {
            backend: Arc::new(backend),
            #[cfg(feature = "cache")]
            cached: Some(|backend, cache| match backend.downcast_ref::<B>() {
                Some(backend) => Arc::new(Cached::new(backend.clone(), cache)),
                None => unreachable!("the backend has the type that it was erased with"),
            }),
        }
    }

    /// See [`Backend::name`].
    pub fn name(&self) -> &'static str {
        self.backend.name()
    }

    /// See [`Backend::warning`].
    pub fn warning(&self) -> Option<String> {
        self.backend.warning()
    }

    /// The same backend as [`Cached`], whose type is erased once.
    #[cfg(feature = "cache")]
    pub fn cached(&self, cache: Cache) -> Self {
        let backend = match self.cached {
            Some(cached) => cached(&*self.backend, cache),
            None => Arc::new(Cached::new(self.clone(), cache)),
        };
        Self { backend, cached: None }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for AnyBackend {
    type Module = AnyModule;
    type Instance = AnyInstance;

    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn warning(&self) -> Option<String> {
        self.backend.warning()
    }

    fn supports(&self, feature: Feature) -> bool {
        self.backend.supports(feature)
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<AnyModule> {
        self.backend.compile(source, imports)
    }

    fn instantiate(&self, module: &AnyModule, data: StoreData) -> Result<AnyInstance> {
        module.0.instantiate(data)
    }

    fn compatibility_key(&self) -> Option<String> {
        self.backend.compatibility_key()
    }

    fn serialize(&self, module: &AnyModule) -> Result<Vec<u8>> {
        module.0.serialize()
    }

    fn serialize_later(&self, module: &AnyModule, keep: Keep) {
        module.0.serialize_later(keep);
    }

    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<AnyModule> {
        self.backend.deserialize(artifact, imports)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Instance for AnyInstance {
    type Func = AnyInstanceFunc;

    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<AnyInstanceFunc> {
        self.0.get_func(name, ty).map(AnyInstanceFunc)
    }

    fn call(&mut self, func: &AnyInstanceFunc, slots: &mut [u64]) -> Result<()> {
        self.0.call(&*func.0, slots)
    }

    /// Which engine's room that would be is not known here: each call finds its own.
    fn with_room<R>(call: impl FnOnce() -> R) -> Result<R> {
        Ok(call())
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        self.0.memory_mut()
    }

    fn memory(&self) -> &[u8] {
        self.0.memory()
    }

    fn data(&self) -> &StoreData {
        self.0.data()
    }

    fn data_mut(&mut self) -> &mut StoreData {
        self.0.data_mut()
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        self.0.memory_and_data()
    }
}

impl<P: Protocol + Default> AnyProgram<P> {
    /// See [`Program::new`].
    ///
    /// # Errors
    ///
    /// As [`Program::new`].
    pub fn new(backend: &AnyBackend, wasm: &[u8]) -> Result<Self> {
        Self::with_imports(backend, wasm, &Imports::new(), Limits::default())
    }
}

impl<P: Protocol + Default, T: Send + 'static> AnyProgram<P, T> {
    /// See [`Program::with_imports`].
    ///
    /// # Errors
    ///
    /// As [`Program::with_imports`].
    pub fn with_imports(backend: &AnyBackend, wasm: &[u8], imports: &Imports<T>, limits: Limits) -> Result<Self> {
        Self::with_protocol(P::default(), backend, wasm, imports, limits)
    }

    /// See [`Program::problems`].
    pub fn problems(interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        program::problems(&P::default(), interface, imports).1
    }
}

impl<P: Protocol, T: Send + 'static> AnyProgram<P, T> {
    /// See [`Program::problems_with`].
    pub fn problems_with(protocol: &P, interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        program::problems(protocol, interface, imports).1
    }

    /// See [`Program::with_protocol`].
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
        let program = compile(backend, Checked::new(protocol, wasm, imports, limits)?)?;
        Ok(Self { program, state: PhantomData })
    }

    /// What the module imports and exports.
    pub fn interface(&self) -> &Interface {
        self.program.interface()
    }

    /// See [`Program::with_limits`].
    ///
    /// # Errors
    ///
    /// As [`Program::with_limits`].
    pub fn with_limits(&self, limits: Limits) -> Result<Self> {
        Ok(Self { program: self.program.with_limits(limits)?, state: PhantomData })
    }

    /// See [`Program::session`].
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

    /// See [`Program::session_with`].
    ///
    /// # Errors
    ///
    /// As [`Program::session_with`].
    pub fn session_with(&self, state: T) -> Result<AnyProgramSession<P, T>> {
        self.open(state, None)
    }

    /// See [`Program::session_with_cancel`].
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
    /// See [`ProgramSession::call`].
    ///
    /// # Errors
    ///
    /// As [`ProgramSession::call`].
    pub fn call(&mut self, request: P::Request<'_>) -> Result<P::Output> {
        self.session.call(request)
    }

    /// See [`ProgramSession::call_with`].
    ///
    /// # Errors
    ///
    /// As [`ProgramSession::call_with`].
    pub fn call_with<R>(&mut self, request: P::Request<'_>, respond: impl FnOnce(P::Response<'_>) -> R) -> Result<R> {
        let mut respond = Some(respond);
        let mut answer = None;
        self.session.call_with(request, &mut |response| answer = respond.take().map(|respond| respond(response)))?;
        match answer {
            Some(answer) => Ok(answer),
            None => Err(Error::engine(Operation::Call, "the protocol lent no answer")),
        }
    }

    /// See [`ProgramSession::fuel_used`].
    ///
    /// # Errors
    ///
    /// As [`ProgramSession::fuel_used`].
    pub fn fuel_used(&mut self) -> Result<Option<u64>> {
        self.session.fuel_used()
    }

    /// See [`ProgramSession::cancel_handle`].
    pub fn cancel_handle(&mut self) -> CancelHandle {
        self.session.cancel_handle()
    }

    /// See [`ProgramSession::fault`].
    pub fn fault(&self) -> Option<&Error> {
        self.session.fault()
    }

    /// See [`ProgramSession::state`].
    pub fn state(&self) -> &T {
        self.session.data().state()
    }

    /// See [`ProgramSession::state_mut`].
    pub fn state_mut(&mut self) -> &mut T {
        self.session.data_mut().state_mut()
    }

    /// See [`ProgramSession::store_mut`].
    pub fn store_mut(&mut self) -> &mut P::Store {
        self.session.data_mut().protocol_mut()
    }

    /// See [`ProgramSession::into_state`].
    pub fn into_state(mut self) -> T {
        self.session.data_mut().take_state()
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.session.fault().is_none()
    }

    pub(crate) fn set_cancel_handle(&mut self, handle: Option<CancelHandle>) {
        self.session.set_cancel_handle(handle);
    }
}

/// Compiles for an engine whose type is erased: once per session for the protocols that each backend knows, else once per
/// instance.
fn compile<P: Protocol>(backend: &AnyBackend, checked: Checked<'_, P>) -> Result<Arc<dyn DynProgram<P>>> {
    /// Compiles where `P` is the protocol.
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
    let checked = known!(checked, WasiCommand, command);
    Ok(Arc::new(Program::<P, AnyBackend>::compile(backend, *checked)?))
}

impl fmt::Debug for AnyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyBackend").field(&self.backend.name()).finish()
    }
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

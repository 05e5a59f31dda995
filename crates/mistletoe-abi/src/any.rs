//! A backend chosen at run time.
//!
//! [`AnyBackend`] is a [`Backend`] as any other, at the price of one virtual call for each call into the guest: a
//! `Handler<AnyBackend>` or a `Command<AnyBackend>` is one whose engine is not known when the program is built.
//!
//! For packages there is [`AnyPackage`], which erases the engine's type once per session: a call of
//! [`AnySession::generate`] costs one virtual call more than [`Session::generate`], however many calls it makes into the
//! guest.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::backend::{Artifact, Backend, Instance, Keep};
#[cfg(feature = "cache")]
use crate::cache::{Cache, Cached};
use crate::erased::{AnyFunc, DynInstance};
use crate::error::{Error, Result};
use crate::host::{HostFunc, Imports, StoreData};
use crate::limits::Limits;
use crate::module::{Feature, Interface, ModuleSource};
use crate::package::{Package, Session};
use crate::program::Checked;
use crate::protocol::package::problems;
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

/// An [`Instance`] on any backend. It stays on its thread, since one engine's instances must.
pub struct AnyInstance(Box<dyn DynInstance>);

/// A function of an [`AnyInstance`].
pub struct AnyInstanceFunc(AnyFunc);

/// A [`Package`] compiled for any backend.
pub struct AnyPackage<T = ()> {
    package: Arc<dyn DynPackage>,
    state: PhantomData<fn(T) -> T>,
}

/// A [`Session`] of a package on any backend. It stays on its thread, since one engine's instances must.
pub struct AnySession<T = ()> {
    session: Box<dyn DynSession>,
    state: PhantomData<Cell<T>>,
}

#[cfg(feature = "cache")]
type WithCache = fn(&dyn Any, Cache) -> Arc<dyn DynBackend>;

trait DynBackend: Any + Send + Sync {
    fn name(&self) -> &'static str;
    fn warning(&self) -> Option<String>;
    fn supports(&self, feature: Feature) -> bool;
    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<AnyModule>;
    fn package(&self, checked: Checked<'_>) -> Result<Arc<dyn DynPackage>>;
    fn compatibility_key(&self) -> Option<String>;
    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<AnyModule>;
}

trait DynModule: Send + Sync {
    fn serialize(&self) -> Result<Vec<u8>>;
    fn serialize_later(&self, keep: Keep);
    fn instantiate(&self, data: StoreData) -> Result<AnyInstance>;
}

/// Without the type of the state: [`AnyPackage`] has it.
trait DynPackage: Send + Sync {
    fn interface(&self) -> &Interface;
    fn with_limits(&self, limits: Limits) -> Result<Arc<dyn DynPackage>>;
    fn session(&self, state: Box<dyn Any + Send>) -> Result<Box<dyn DynSession>>;
}

trait DynSession {
    fn info(&mut self) -> Result<String>;
    fn generate(&mut self, input: &str) -> Result<String>;
    fn generate_with(&mut self, input: &str, read: &mut dyn FnMut(&str)) -> Result<()>;
    fn fault(&self) -> Option<&Error>;
    fn fuel_used(&mut self) -> Result<Option<u64>>;
    fn data(&self) -> &StoreData;
    fn data_mut(&mut self) -> &mut StoreData;
}

/// A backend with a module that it compiled.
struct Compiled<B: Backend> {
    backend: B,
    module: B::Module,
}

impl<B: Backend> DynBackend for B {
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

    fn package(&self, checked: Checked<'_>) -> Result<Arc<dyn DynPackage>> {
        Ok(Arc::new(Package::<B>::compile(self, checked)?))
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

impl<B: Backend> DynModule for Compiled<B> {
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

impl<B: Backend> DynPackage for Package<B> {
    fn with_limits(&self, limits: Limits) -> Result<Arc<dyn DynPackage>> {
        Ok(Arc::new(self.with_limits(limits)?))
    }

    fn interface(&self) -> &Interface {
        self.interface()
    }

    fn session(&self, state: Box<dyn Any + Send>) -> Result<Box<dyn DynSession>> {
        Ok(Box::new(self.open(state)?))
    }
}

impl<B: Backend> DynSession for Session<B> {
    fn info(&mut self) -> Result<String> {
        self.info()
    }

    fn generate(&mut self, input: &str) -> Result<String> {
        self.generate(input)
    }

    fn generate_with(&mut self, input: &str, read: &mut dyn FnMut(&str)) -> Result<()> {
        self.generate_with(input, read)
    }

    fn fault(&self) -> Option<&Error> {
        self.fault()
    }

    fn fuel_used(&mut self) -> Result<Option<u64>> {
        self.fuel_used()
    }

    fn data(&self) -> &StoreData {
        self.data()
    }

    fn data_mut(&mut self) -> &mut StoreData {
        self.data_mut()
    }
}

impl AnyBackend {
    /// Erases the type of a backend.
    pub fn new<B: Backend>(backend: B) -> Self {
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

impl AnyPackage {
    /// See [`Package::new`].
    ///
    /// # Errors
    ///
    /// As [`Package::new`].
    pub fn new(backend: &AnyBackend, wasm: &[u8]) -> Result<Self> {
        Self::with_imports(backend, wasm, &Imports::new(), Limits::default())
    }
}

impl<T: Send + 'static> AnyPackage<T> {
    /// See [`Package::with_imports`].
    ///
    /// # Errors
    ///
    /// As [`Package::with_imports`].
    pub fn with_imports(backend: &AnyBackend, wasm: &[u8], imports: &Imports<T>, limits: Limits) -> Result<Self> {
        let package = backend.backend.package(Checked::new(wasm, problems, |_| (), imports, limits)?)?;
        Ok(Self { package, state: PhantomData })
    }

    /// Everything in which a module is no package that `imports` are enough for; empty if it is one.
    pub fn problems(interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        Checked::problems(interface, problems, |_| (), imports).1
    }

    /// See [`Package::interface`].
    pub fn interface(&self) -> &Interface {
        self.package.interface()
    }

    /// See [`Package::with_limits`].
    ///
    /// # Errors
    ///
    /// As [`Package::with_limits`].
    pub fn with_limits(&self, limits: Limits) -> Result<Self> {
        Ok(Self { package: self.package.with_limits(limits)?, state: PhantomData })
    }

    /// See [`Package::session`].
    ///
    /// # Errors
    ///
    /// As [`Package::session`].
    pub fn session(&self) -> Result<AnySession<T>>
    where
        T: Default,
    {
        self.session_with(T::default())
    }

    /// See [`Package::session_with`].
    ///
    /// # Errors
    ///
    /// As [`Package::session_with`].
    pub fn session_with(&self, state: T) -> Result<AnySession<T>> {
        Ok(AnySession { session: self.package.session(Box::new(state))?, state: PhantomData })
    }

    /// See [`Package::generate`].
    ///
    /// # Errors
    ///
    /// As [`Package::generate`].
    pub fn generate(&self, input: &str) -> Result<String>
    where
        T: Default,
    {
        self.session()?.generate(input)
    }
}

impl<T: 'static> AnySession<T> {
    /// See [`Session::info`].
    ///
    /// # Errors
    ///
    /// As [`Session::info`].
    pub fn info(&mut self) -> Result<String> {
        self.session.info()
    }

    /// See [`Session::generate`].
    ///
    /// # Errors
    ///
    /// As [`Session::generate`].
    pub fn generate(&mut self, input: &str) -> Result<String> {
        self.session.generate(input)
    }

    /// See [`Session::generate_with`].
    ///
    /// # Errors
    ///
    /// As [`Session::generate`].
    pub fn generate_with<R>(&mut self, input: &str, read: impl FnOnce(&str) -> R) -> Result<R> {
        let mut read = Some(read);
        let mut answer = None;
        self.session.generate_with(input, &mut |output| answer = read.take().map(|read| read(output)))?;
        match answer {
            Some(answer) => Ok(answer),
            // `Session::generate_with` calls its closure before it answers `Ok`.
            None => unreachable!("an answer that was never read"),
        }
    }

    /// See [`Session::fuel_used`].
    ///
    /// # Errors
    ///
    /// As [`Session::fuel_used`].
    pub fn fuel_used(&mut self) -> Result<Option<u64>> {
        self.session.fuel_used()
    }

    /// See [`Session::fault`].
    pub fn fault(&self) -> Option<&Error> {
        self.session.fault()
    }

    /// See [`Session::state`].
    pub fn state(&self) -> &T {
        self.session.data().state()
    }

    /// See [`Session::state_mut`].
    pub fn state_mut(&mut self) -> &mut T {
        self.session.data_mut().state_mut()
    }
}

impl<T> Clone for AnyPackage<T> {
    fn clone(&self) -> Self {
        Self { package: self.package.clone(), state: PhantomData }
    }
}

impl fmt::Debug for AnyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyBackend").field(&self.backend.name()).finish()
    }
}

impl<T> fmt::Debug for AnyPackage<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyPackage").field("interface", self.package.interface()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for AnySession<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnySession").field("fault", &self.session.fault()).finish_non_exhaustive()
    }
}

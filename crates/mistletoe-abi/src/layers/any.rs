//! A backend chosen at run time.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::backend::erased::{AnyFunc, DynInstance};
use crate::backend::instance::Instance;
use crate::backend::store::StoreData;
use crate::backend::{Artifact, Backend, Keep};
use crate::error::{Error, Operation, Result};
use crate::host::func::HostFunc;
#[cfg(feature = "cache")]
use crate::layers::cache::{Cache, Cached};
use crate::module::{Feature, ModuleSource};
use crate::program::erased::DynProgram;
use crate::program::{Checked, Program};
use crate::protocol::command::WasiCommand;
use crate::protocol::http_handler::HttpHandler;
use crate::protocol::httpwasm::HttpWasm;
use crate::protocol::package::PackageInterface;
use crate::types::FuncType;

/// A [`Backend`] that is chosen at run time.
///
/// It costs one virtual call for each call into the guest. A `Program<P, AnyBackend>` is a program whose engine is not
/// known when the host program is built. [`AnyProgram`](crate::AnyProgram) does the same at a lower cost.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::{AnyBackend, AnyPackage, Backend, Result};
///
/// /// Backends of different types in one list.
/// fn load<B: Backend<Instance: Send>, C: Backend<Instance: Send>>(
///     one: B,
///     other: C,
///     wasm: &[u8],
/// ) -> Result<Vec<AnyPackage>> {
///     let backends = [AnyBackend::new(one), AnyBackend::new(other)];
///     backends.iter().map(|backend| AnyPackage::new(backend, wasm)).collect()
/// }
/// ```
#[derive(Clone)]
pub struct AnyBackend {
    pub(crate) backend: Arc<dyn DynBackend>,
    /// Wraps the backend in a cache before its type is erased, so that no type is erased twice. `None` if the backend
    /// is cached already.
    #[cfg(feature = "cache")]
    cached: Option<WithCache>,
}

/// A module compiled for an [`AnyBackend`].
#[derive(Clone)]
pub struct AnyModule(Arc<dyn DynModule>);

/// An [`Instance`] on an [`AnyBackend`]. It is `Send`, as the instances of the backend itself are.
pub struct AnyInstance(Box<dyn DynInstance + Send>);

/// A function of an [`AnyInstance`].
pub struct AnyInstanceFunc(AnyFunc);

#[cfg(feature = "cache")]
type WithCache = fn(&dyn Any, Cache) -> Arc<dyn DynBackend>;

pub(crate) trait DynBackend: Any + Send + Sync {
    fn name(&self) -> &'static str;
    fn warning(&self) -> Option<String>;
    fn supports(&self, feature: Feature) -> bool;
    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<AnyModule>;
    fn package(&self, checked: Checked<'_, PackageInterface>) -> Result<Arc<dyn DynProgram<PackageInterface>>>;
    fn handler(&self, checked: Checked<'_, HttpWasm>) -> Result<Arc<dyn DynProgram<HttpWasm>>>;
    fn middleware(&self, checked: Checked<'_, HttpHandler>) -> Result<Arc<dyn DynProgram<HttpHandler>>>;
    fn command(&self, checked: Checked<'_, WasiCommand>) -> Result<Arc<dyn DynProgram<WasiCommand>>>;
    fn compatibility_key(&self) -> Option<String>;
    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<AnyModule>;
    fn with_room(&self, call: &mut dyn FnMut()) -> Result<()>;
}

trait DynModule: Send + Sync {
    fn serialize(&self) -> Result<Vec<u8>>;
    fn serialize_later(&self, keep: Keep);
    fn instantiate(&self, data: StoreData) -> Result<AnyInstance>;
}

/// A module and the backend that compiled it.
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

    fn middleware(&self, checked: Checked<'_, HttpHandler>) -> Result<Arc<dyn DynProgram<HttpHandler>>> {
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

    fn with_room(&self, call: &mut dyn FnMut()) -> Result<()> {
        <B::Instance as Instance>::with_room(call)
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

impl AnyBackend {
    /// Erases the type of a backend whose instances are `Send`.
    ///
    /// Use any other backend with its own type, as `Package<MyEngine>`: its sessions stay on the threads that opened
    /// them.
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

    /// Returns the backend's name; see [`Backend::name`].
    pub fn name(&self) -> &'static str {
        self.backend.name()
    }

    /// Returns the backend's warning, if any; see [`Backend::warning`].
    pub fn warning(&self) -> Option<String> {
        self.backend.warning()
    }

    /// Runs `call`, which makes many short calls of sessions, on a stack with room for guests.
    ///
    /// On an engine whose guests have a stack of their own, each call of a session switches to it. Within `call`, the
    /// sessions of this backend need not; those of others do as before. `call` itself runs on that stack, and a panic in
    /// it propagates. See [`Instance::with_room`].
    ///
    /// # Errors
    ///
    /// [`Engine`](crate::ErrorKind::Engine) if there is no memory for a stack. In that case `call` does not run.
    ///
    /// # Examples
    ///
    /// ```
    /// use mistletoe_abi::{AnyBackend, AnySession, Result};
    ///
    /// fn generate(backend: &AnyBackend, session: &mut AnySession, inputs: &[&str]) -> Result<Vec<String>> {
    ///     backend.with_room(|| inputs.iter().map(|input| session.generate(input)).collect())?
    /// }
    /// ```
    pub fn with_room<R>(&self, call: impl FnOnce() -> R) -> Result<R> {
        let (mut call, mut result) = (Some(call), None);
        self.backend.with_room(&mut || {
            if let Some(call) = call.take() {
                result = Some(call());
            }
        })?;
        result.ok_or_else(|| Error::engine(Operation::Call, "the call did not run"))
    }

    /// Returns this backend with a cache, as [`Cached`] does.
    ///
    /// Unless the backend is cached already, its type is erased only once.
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

    /// Runs `call` as it is. The engine is not known here, so each call into the guest makes its own room.
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

impl fmt::Debug for AnyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyBackend").field(&self.backend.name()).finish()
    }
}

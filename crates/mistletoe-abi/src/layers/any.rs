//! A backend chosen at run time.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::backend::erased::{AnyFunc, DynInstance};
use crate::backend::instance::Instance;
use crate::backend::store::StoreData;
use crate::backend::{Artifact, Backend, Keep};
use crate::error::Result;
use crate::host::func::HostFunc;
#[cfg(feature = "cache")]
use crate::layers::cache::{Cache, Cached};
use crate::module::{Feature, ModuleSource};
use crate::program::erased::DynProgram;
use crate::program::{Checked, Program};
use crate::protocol::command::WasiCommand;
use crate::protocol::httpwasm::HttpWasm;
use crate::protocol::package::PackageInterface;
use crate::types::FuncType;

/// Any [`Backend`]: a [`Backend`] as any other, at the price of a virtual call for each call into the guest. A
/// `Program<P, AnyBackend>` is one whose engine is not known when the host program is built;
/// [`AnyProgram`](crate::AnyProgram) does the same at a lower price.
#[derive(Clone)]
pub struct AnyBackend {
    pub(crate) backend: Arc<dyn DynBackend>,
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

#[cfg(feature = "cache")]
type WithCache = fn(&dyn Any, Cache) -> Arc<dyn DynBackend>;

pub(crate) trait DynBackend: Any + Send + Sync {
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

impl fmt::Debug for AnyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyBackend").field(&self.backend.name()).finish()
    }
}

//! What an engine implements: [`Backend`] and [`Instance`]; and what helps its author.
//!
//! - [`ModuleSource`], [`HostFunc`] and [`StoreData`]: what a backend is given.
//! - [`Host`]: what it puts into a store, where the engine lends that to host functions.
//! - [`Values`] and the macro [`values`](crate::values): numbers as the engine's own values.
//! - The macros [`typed_func`] and [`by_signature`]: for engines that are quicker
//!   where they know a function's type at compile time.
//!
//! `docs/write-a-backend.md` goes through a backend step by step.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use crate::error::{Error, ErrorKind, Result};
use crate::module::Instrumented;

pub(crate) mod erased;
pub(crate) mod instance;
mod signature;
pub(crate) mod store;
mod typed_func;
mod values;

pub use crate::error::{Operation, Trap};
pub use crate::host::func::HostFunc;
pub use crate::limits::ENGINE_STACK;
pub use crate::module::{Feature, ModuleSource};
pub use crate::{by_signature, typed_func, values};
pub use instance::Instance;
pub use store::{Host, StoreData};
pub use values::Values;

/// A WebAssembly engine in one configuration: it compiles modules and instantiates them.
///
/// A backend is a handle, cheap to clone. It keeps no state between instances: two instances of one module share
/// nothing that a guest can write.
///
/// # What the layer has done before
///
/// The bytes are [valid within the feature set](ModuleSource::validate), the exports that will be resolved are there
/// with the types they will be resolved with, there is an exported, unshared 32-bit memory, every import has its host
/// function, and there is no start function: the layer calls it itself, as any other. Where an engine fails all the
/// same, that is [`ErrorKind::Engine`], with the engine's error as its source.
///
/// # What an engine must be told
///
/// - Exactly [the feature set](crate::FEATURES); what it has beyond is off or not reachable.
/// - NaN results are canonical, so that the same package gives the same bytes everywhere.
/// - Recursion without end is a trap, not the end of the process, on a thread with 2 MiB of stack too. The default
///   [`Limits::stack`](crate::Limits::stack) must not trip it: 262,144 calls deep, or 2,097,152 values in fewer calls.
///   Compiled code needs [`ENGINE_STACK`] bytes for that.
///
/// A backend does not panic, whatever the module. One whose engine may do so catches it and answers with
/// [`Error::engine`].
pub trait Backend: Clone + Send + Sync + 'static {
    /// Compiled code. Threads share it; every one of them may instantiate it at any time.
    type Module: Clone + Send + Sync + 'static;
    /// A live instance. Where it is `Send`, threads can share a [pool](crate::Pool) of its sessions, and
    /// [`AnyBackend`](crate::AnyBackend) can hide its type.
    type Instance: Instance + 'static;

    /// The name that `--backend` takes: the engine's, with the configuration where it is not the engine's default.
    fn name(&self) -> &'static str;

    /// What this machine has not let the engine have, for whoever wonders why it is slow. `None` where all is as it
    /// should be.
    fn warning(&self) -> Option<String> {
        None
    }

    /// Whether the engine can run a part of [the feature set](crate::FEATURES) that not every engine has. A module that
    /// uses what a backend lacks is refused with [`UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature), before
    /// the engine sees it.
    fn supports(&self, _feature: Feature) -> bool {
        true
    }

    /// Compiles a module, which [`ModuleSource::validate`] gives as the engine is to have it, to be linked with
    /// `imports`: one host function for each function that it imports, without duplicates. An engine whose functions
    /// belong to a store keeps them for [`instantiate`](Backend::instantiate).
    ///
    /// # Errors
    ///
    /// Those of [`ModuleSource::validate`], and [`Error::engine`] with [`Operation::Compile`].
    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<Self::Module>;

    /// Makes an instance with memory, tables and globals of its own. `data` goes into its store, where
    /// [`Instance::data`] finds it.
    ///
    /// # Errors
    ///
    /// [`Error::trap`] where an active segment trapped, else
    /// [`Error::engine`] with [`Operation::Instantiate`].
    fn instantiate(&self, module: &Self::Module, data: StoreData) -> Result<Self::Instance>;

    /// All that compiled code depends on beside the module: the engine, its version, every setting, the target. Code is
    /// loaded only where this is the same as where it was saved. `None` where the engine's code cannot be saved.
    fn compatibility_key(&self) -> Option<String> {
        None
    }

    /// A compiled module as bytes, for [`deserialize`](Backend::deserialize).
    ///
    /// # Errors
    ///
    /// [`Error::engine`] with [`Operation::Serialize`].
    fn serialize(&self, _module: &Self::Module) -> Result<Vec<u8>> {
        Err(Error::engine(Operation::Serialize, "the engine cannot save compiled code"))
    }

    /// The module that was [serialized](Backend::serialize), linked as [`compile`](Backend::compile) does.
    ///
    /// # Errors
    ///
    /// [`Error::engine`] with [`Operation::Deserialize`].
    fn deserialize(&self, _artifact: &Artifact, _imports: &[HostFunc]) -> Result<Self::Module> {
        Err(Error::engine(Operation::Deserialize, "the engine cannot load compiled code"))
    }

    /// Hands a compiled module's bytes to `keep`, as soon as there are any: now, unless the backend is still compiling.
    fn serialize_later(&self, module: &Self::Module, keep: Keep) {
        keep(self.serialize(module));
    }
}

/// Takes the bytes of a compiled module, or the reason why there are none: see [`Backend::serialize_later`].
pub type Keep = Box<dyn FnOnce(Result<Vec<u8>>) + Send>;

/// Compiled code that a backend with the same [`compatibility_key`](Backend::compatibility_key) has
/// [serialized](Backend::serialize), byte for byte: only the cache (feature `cache`) makes one, having compared its
/// digest. That is what a backend's call of an engine's `unsafe` function stands on.
#[derive(Debug)]
pub struct Artifact(File);

impl Artifact {
    #[cfg(feature = "cache")]
    pub(crate) fn new(file: File) -> Self {
        Self(file)
    }

    /// The file, which holds nothing else. Nobody changes it: it may be mapped.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn file(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// What is in it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.0.metadata()?.len().try_into().unwrap_or_default());
        let mut file = &self.0;
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl<'a> ModuleSource<'a> {
    /// The module as a backend's engine compiles it: valid, within the features that the backend
    /// [supports](Backend::supports), and instrumented.
    ///
    /// # Errors
    ///
    /// [`Module`](ErrorKind::Module), or [`UnsupportedFeature`](ErrorKind::UnsupportedFeature) where the
    /// backend lacks a feature that the module uses.
    pub fn validate(&self, backend: &impl Backend) -> Result<&Instrumented<'a>> {
        let instrumented = self.instrument()?;
        let lacking: Vec<_> = Feature::ALL.into_iter().filter(|feature| !backend.supports(*feature)).collect();
        match mistletoe_module::without(self.wasm(), &lacking) {
            Some((feature, offset)) => {
                let (feature, backend) = (feature.name(), backend.name());
                Err(ErrorKind::UnsupportedFeature { feature, offset, backend }.into())
            }
            None => Ok(instrumented),
        }
    }
}

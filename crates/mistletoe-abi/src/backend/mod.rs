//! The traits that an engine implements, [`Backend`] and [`Instance`], and helpers for their authors.
//!
//! - [`ModuleSource`], [`HostFunc`] and [`StoreData`]: the input of a backend.
//! - [`Host`]: the contents of a store, for engines that lend the store to host functions.
//! - [`Values`] and the macro [`values`](crate::values): numbers as the engine's own values.
//! - The macros [`typed_func`] and [`by_signature`]: for engines that are faster if they know a function's type at
//!   compile time.
//!
//! `docs/write-a-backend.md` describes a backend step by step.

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

/// A WebAssembly engine in one configuration: compiles modules and instantiates them.
///
/// A backend is a handle, cheap to clone. It keeps no state between instances: two instances of one module share
/// nothing that a guest can write.
///
/// # What the layer guarantees
///
/// - The bytes are [valid within the feature set](ModuleSource::validate).
/// - The exports that the layer resolves exist, with the types that it resolves them with.
/// - There is an exported, unshared 32-bit memory.
/// - Every import has its host function.
/// - There is no start function. The layer exports it instead, and calls it as any other function.
///
/// If the engine fails nevertheless, the error is [`ErrorKind::Engine`], with the engine's error as its source.
///
/// # How an engine must be configured
///
/// - It supports exactly [the feature set](crate::FEATURES). Any other feature is off or not reachable.
/// - NaN results are canonical, so that the same package gives the same bytes on every engine.
/// - Infinite recursion is a trap and does not end the process, on a thread with 2 MiB of stack too. The default
///   [`Limits::stack`](crate::Limits::stack) must not trip it: 262,144 calls deep, or 2,097,152 values in fewer calls.
///   Compiled code needs [`ENGINE_STACK`] bytes for that.
///
/// A backend does not panic, whatever the module. If the engine may panic, the backend catches the panic and returns
/// [`Error::engine`].
///
/// # Examples
///
/// Code that is generic over the backend runs on any engine:
///
/// ```
/// use mistletoe_abi::{Backend, Package, Result};
///
/// fn generate<B: Backend>(backend: &B, wasm: &[u8], input: &str) -> Result<String> {
///     let package = Package::new(backend, wasm)?;
///     package.generate(input)
/// }
/// ```
pub trait Backend: Clone + Send + Sync + 'static {
    /// Compiled code.
    ///
    /// Threads share it. Each of them may instantiate it at any time.
    type Module: Clone + Send + Sync + 'static;
    /// An instance of a module.
    ///
    /// If it is `Send`, threads can share a [pool](crate::Pool) of its sessions, and [`AnyBackend`](crate::AnyBackend)
    /// can erase its type.
    type Instance: Instance + 'static;

    /// Returns the name that `--backend` takes.
    ///
    /// This is the engine's name, with the configuration if it is not the engine's default.
    fn name(&self) -> &'static str;

    /// Returns what this machine denies the engine, as an explanation of why it is slow.
    ///
    /// `None`, the default, means that nothing is denied.
    fn warning(&self) -> Option<String> {
        None
    }

    /// Returns whether the engine supports a part of [the feature set](crate::FEATURES) that not every engine has.
    ///
    /// A module that uses a feature that the backend lacks is refused with
    /// [`UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature), before the engine sees it. By default, all
    /// features are supported.
    fn supports(&self, _feature: Feature) -> bool {
        true
    }

    /// Compiles a module, to be linked with `imports`.
    ///
    /// [`ModuleSource::validate`] returns the module in the form that the engine compiles. `imports` holds one host
    /// function for each function that the module imports, without duplicates. An engine whose functions belong to a
    /// store keeps them for [`instantiate`](Backend::instantiate).
    ///
    /// # Errors
    ///
    /// Those of [`ModuleSource::validate`], and [`Error::engine`] with [`Operation::Compile`].
    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<Self::Module>;

    /// Makes an instance with its own memory, tables and globals.
    ///
    /// `data` goes into the instance's store, where [`Instance::data`] finds it.
    ///
    /// # Errors
    ///
    /// [`Error::trap`] if an active segment traps, otherwise [`Error::engine`] with [`Operation::Instantiate`].
    fn instantiate(&self, module: &Self::Module, data: StoreData) -> Result<Self::Instance>;

    /// Returns a key of all that compiled code depends on besides the module.
    ///
    /// That is the engine, its version, every setting and the target. Code is loaded only if the key is the same as
    /// when it was saved. `None`, the default, means that the engine's code cannot be saved.
    fn compatibility_key(&self) -> Option<String> {
        None
    }

    /// Returns a compiled module as bytes, for [`deserialize`](Backend::deserialize).
    ///
    /// # Errors
    ///
    /// [`Error::engine`] with [`Operation::Serialize`]. By default, this always fails.
    fn serialize(&self, _module: &Self::Module) -> Result<Vec<u8>> {
        Err(Error::engine(Operation::Serialize, "the engine cannot save compiled code"))
    }

    /// Loads a module that was [serialized](Backend::serialize), linked as [`compile`](Backend::compile) does.
    ///
    /// # Errors
    ///
    /// [`Error::engine`] with [`Operation::Deserialize`]. By default, this always fails.
    fn deserialize(&self, _artifact: &Artifact, _imports: &[HostFunc]) -> Result<Self::Module> {
        Err(Error::engine(Operation::Deserialize, "the engine cannot load compiled code"))
    }

    /// Passes a compiled module's bytes to `keep` as soon as they exist.
    ///
    /// That is at once, unless the backend is still compiling. By default, this calls
    /// [`serialize`](Backend::serialize).
    fn serialize_later(&self, module: &Self::Module, keep: Keep) {
        keep(self.serialize(module));
    }
}

/// Receives the bytes of a compiled module, or the reason why there are none.
///
/// See [`Backend::serialize_later`].
pub type Keep = Box<dyn FnOnce(Result<Vec<u8>>) + Send>;

/// Compiled code as a backend [serialized](Backend::serialize) it, byte for byte.
///
/// That backend has the same [`compatibility_key`](Backend::compatibility_key) as the one that loads the code. Only the
/// cache (feature `cache`) makes an artifact, after it has compared the digest. A backend's call of an engine's
/// `unsafe` function relies on this.
#[derive(Debug)]
pub struct Artifact(File);

impl Artifact {
    #[cfg(feature = "cache")]
    pub(crate) fn new(file: File) -> Self {
        Self(file)
    }

    /// Returns the file, which holds nothing else.
    ///
    /// Nothing changes the file, so it may be mapped.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn file(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// Returns the contents of the file.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.0.metadata()?.len().try_into().unwrap_or_default());
        let mut file = &self.0;
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl<'a> ModuleSource<'a> {
    /// Returns the module in the form that a backend's engine compiles.
    ///
    /// It is valid, uses only features that the backend [supports](Backend::supports), and is instrumented.
    ///
    /// # Errors
    ///
    /// [`Module`](ErrorKind::Module), or [`UnsupportedFeature`](ErrorKind::UnsupportedFeature) if the module uses a
    /// feature that the backend lacks.
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

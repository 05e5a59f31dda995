//! The two traits an engine implements.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use crate::error::{Error, Operation, Result};
use crate::host::{HostFunc, StoreData};
use crate::module::{Feature, ModuleSource};
use crate::types::FuncType;

/// A WebAssembly engine in one configuration: it compiles modules and instantiates them.
///
/// A backend is a handle, cheap to clone. It keeps no state between instances: two instances of one module share
/// nothing that a guest can write.
///
/// # What the layer has done before
///
/// The bytes are [valid within the feature set](ModuleSource::validate), the exports that will be resolved are there with the
/// types they will be resolved with, there is an exported, unshared 32-bit memory, every import has its host function,
/// and there is no start function: the layer calls it itself, as any other. Where an engine fails all the same, that
/// is [`ErrorKind::Engine`](crate::ErrorKind::Engine), with the engine's error as its source.
///
/// # What an engine must be told
///
/// - Exactly [the feature set](crate::FEATURES); what it has beyond is off or not reachable.
/// - NaN results are canonical, so that the same package gives the same bytes everywhere.
/// - Recursion without end is a trap, not the end of the process, on a thread with 2 MiB of stack too. The default
///   [`Limits::stack`](crate::Limits::stack) must not trip it: 262,144 calls deep, or 2,097,152 values in fewer calls.
///   Compiled code needs [`ENGINE_STACK`](crate::ENGINE_STACK) bytes for that.
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

    /// What this machine has not let the engine have, for whoever wonders why it is slow. `None` where all is as it should be.
    fn warning(&self) -> Option<String> {
        None
    }

    /// Whether the engine can run a part of [the feature set](crate::FEATURES) that not every engine has. A module that uses
    /// what a backend lacks is refused with [`UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature), before the
    /// engine sees it.
    fn supports(&self, _feature: Feature) -> bool {
        true
    }

    /// Compiles a module, which [`ModuleSource::validate`] gives as the engine is to have it, to be linked with `imports`: one host function for each function that it imports, without
    /// duplicates. An engine whose functions belong to a store keeps them for [`instantiate`](Backend::instantiate).
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

/// Compiled code that a backend whose [`compatibility_key`](Backend::compatibility_key) are the same has [serialized](Backend::serialize), byte for
/// byte: only the cache (feature `cache`) makes one, having compared its digest. That is what a backend's call of an
/// engine's `unsafe` function stands on.
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

/// A live instance of a module: resolve its functions, call them, see its memory.
///
/// An engine implements this twice, for what [`Backend::instantiate`] makes and for what its host functions are called
/// with: the same instance, seen from inside a call. [`HostFunc::call`] takes the latter. Both have the same
/// [`Func`](Instance::Func).
///
/// # Slots
///
/// Parameters and results cross in slots of 64 bits, one each: an `i32` or the bits of an `f32` in the lower half, an
/// `i64` or the bits of an `f64` in the whole. What the upper half of a 32-bit value holds is not read by anybody.
///
/// # What an engine may rely on
///
/// - A function is called only on the instance that resolved it, with as many slots as it has parameters or results,
///   whichever are more.
/// - After a trap no code of the guest's is called any more: the layer poisons the instance. A function that the layer put
///   there itself may still be, which reads a global and does nothing else: that is how much fuel was used.
///
/// After the error of a host function it may: a guest whose `_start` initialises it goes on when that has exited.
pub trait Instance {
    /// An exported function that was resolved once, so that calling it needs no look-up.
    type Func: Send + Sync + 'static;

    /// Resolves the exported function `name`, which has the type `ty`: numbers only, no references.
    ///
    /// # Errors
    ///
    /// [`Error::engine`] with [`Operation::Resolve`] where there is no
    /// such function.
    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<Self::Func>;

    /// Calls a function with the parameters in `slots`, and leaves its results there, from the first slot on.
    ///
    /// # Errors
    ///
    /// What [`HostFunc::call`] gave, where a host function failed, as it is; [`Error::trap`] for a
    /// trap in the guest; else [`Error::engine`] with
    /// [`Operation::Call`]. After any of them the layer poisons the instance.
    fn call(&mut self, func: &Self::Func, slots: &mut [u64]) -> Result<()>;

    /// Runs `call`, which makes several calls of functions, on a stack with room for them: so that an engine which would
    /// change stacks for each does so once. A call that is made elsewhere has to find its room itself.
    ///
    /// # Errors
    ///
    /// [`Error::engine`] with [`Operation::Call`] where there is no memory for a stack. `call` has not run then.
    fn with_room<R>(call: impl FnOnce() -> R) -> Result<R>
    where
        Self: Sized,
    {
        Ok(call())
    }

    /// The export named [`MEMORY`](crate::protocol::MEMORY), as large as it is now. Any call may grow or move it.
    fn memory(&self) -> &[u8];

    /// The same memory, to be changed.
    #[inline]
    fn memory_mut(&mut self) -> &mut [u8] {
        self.memory_and_data().0
    }

    /// What the layer gave to [`Backend::instantiate`].
    fn data(&self) -> &StoreData;

    /// The same, to be changed.
    fn data_mut(&mut self) -> &mut StoreData;

    /// The memory and the data at once, both to be changed.
    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData);
}

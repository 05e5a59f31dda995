//! The two traits an engine implements.

use crate::error::Result;
use crate::module::ValidModule;
use crate::types::FuncType;

/// A WebAssembly engine in one configuration: it compiles modules and instantiates them.
///
/// A backend is a handle, cheap to clone. It keeps no state between instances: two instances of one module share
/// nothing that a guest can write.
///
/// # What the layer has done before
///
/// The bytes are [valid within the feature set](ValidModule), the exports that will be resolved are there with the
/// types they will be resolved with, there is an exported, unshared 32-bit memory, and no import is left open. Where an
/// engine fails all the same, that is [`ErrorKind::Engine`](crate::ErrorKind::Engine), with the engine's error as its
/// source.
///
/// # What an engine must be told
///
/// - Exactly [the feature set](crate::FEATURES); what it has beyond is off or not reachable.
/// - NaN results are canonical, so that the same package gives the same bytes everywhere.
/// - Recursion without end is a trap, not the end of the process; recursion 500 deep, with a hundred locals in each call,
///   is none.
///
/// A backend does not panic, whatever the module. One whose engine may do so catches it and answers with
/// [`Error::engine`](crate::Error::engine).
pub trait Backend: Clone + Send + Sync + 'static {
    /// Compiled code. Threads share it; every one of them may instantiate it at any time.
    type Module: Clone + Send + Sync + 'static;
    /// A live instance. It is `Send` where the engine's store is.
    type Instance: Instance;

    /// The name that `--backend` takes: the engine's, with the configuration where it is not the engine's default.
    fn name(&self) -> &'static str;

    /// Compiles a module.
    ///
    /// # Errors
    ///
    /// [`Error::engine`](crate::Error::engine) with [`Operation::Compile`](crate::Operation::Compile).
    fn compile(&self, module: &ValidModule<'_>) -> Result<Self::Module>;

    /// Makes an instance with memory, tables and globals of its own, and runs the start function, if there is one.
    ///
    /// Functions that a host offers have their place here, as a second argument: engines bind functions to a store, and
    /// a store is made per instance. Such a function sees the calling instance through this same
    /// [`Instance`] trait, which is why its methods ask for no more than a borrowed view of a store can do.
    ///
    /// # Errors
    ///
    /// [`Error::trap`](crate::Error::trap) where the start function or an active segment trapped, else
    /// [`Error::engine`](crate::Error::engine) with [`Operation::Instantiate`](crate::Operation::Instantiate).
    fn instantiate(&self, module: &Self::Module) -> Result<Self::Instance>;
}

/// A live instance of a module: resolve its functions, call them, see its memory.
///
/// # What an engine may rely on
///
/// - A function is called only on the instance that resolved it, and with as many parameters as it was resolved with.
/// - After a trap nothing is called any more: the layer poisons the instance.
pub trait Instance {
    /// An exported function that was resolved once, so that calling it needs no look-up.
    type Func;

    /// Resolves the exported function `name`, which has the type `ty`: up to two parameters and up to one result, all
    /// of type `i32`.
    ///
    /// # Errors
    ///
    /// [`Error::engine`](crate::Error::engine) with [`Operation::Resolve`](crate::Operation::Resolve) where there is no
    /// such function.
    fn func(&mut self, name: &str, ty: &FuncType) -> Result<Self::Func>;

    /// Calls a function. WebAssembly's `i32` has no sign; here it is `u32`, since what the interface hands around are
    /// addresses and lengths. A function without a result gives 0.
    ///
    /// # Errors
    ///
    /// [`Error::trap`](crate::Error::trap) for a trap in the guest, else [`Error::engine`](crate::Error::engine) with
    /// [`Operation::Call`](crate::Operation::Call). After either the layer poisons the instance.
    fn call<const N: usize>(&mut self, func: &Self::Func, params: [u32; N]) -> Result<u32>;

    /// The export named [`MEMORY`](crate::protocol::MEMORY), as large as it is now. Any call may grow or move it.
    fn memory(&self) -> &[u8];

    /// The same memory, to be written.
    fn memory_mut(&mut self) -> &mut [u8];
}

//! A live instance, as an engine implements it.

use crate::backend::store::StoreData;
use crate::error::Result;
use crate::types::FuncType;

/// A live instance of a module: resolve its functions, call them, see its memory.
///
/// An engine implements this twice, for what [`Backend::instantiate`](crate::Backend::instantiate) makes and for what
/// its host functions are called with: the same instance, seen from inside a call.
/// [`HostFunc::call`](crate::backend::HostFunc::call) takes the latter. Both have the same [`Func`](Instance::Func).
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
/// - After a trap no code of the guest's is called any more: the layer poisons the instance. A function that the layer
///   put
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
    /// [`Error::engine`](crate::Error::engine) with [`Operation::Resolve`](crate::Operation::Resolve) where there is no
    /// such function.
    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<Self::Func>;

    /// Calls a function with the parameters in `slots`, and leaves its results there, from the first slot on.
    ///
    /// # Errors
    ///
    /// What [`HostFunc::call`](crate::backend::HostFunc::call) gave, where a host function failed, as it is;
    /// [`Error::trap`](crate::Error::trap) for a trap in the guest; else [`Error::engine`](crate::Error::engine) with
    /// [`Operation::Call`](crate::Operation::Call). After any of them but a host function's the layer poisons the instance.
    fn call(&mut self, func: &Self::Func, slots: &mut [u64]) -> Result<()>;

    /// Runs `call`, which makes several calls of functions, on a stack with room for them: so that an engine which
    /// would change stacks for each does so once. A call that is made elsewhere has to find its room itself.
    ///
    /// # Errors
    ///
    /// [`Error::engine`](crate::Error::engine) with [`Operation::Call`](crate::Operation::Call) where there is no
    /// memory for a stack. `call` has not run then.
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

    /// What the layer gave to [`Backend::instantiate`](crate::Backend::instantiate).
    fn data(&self) -> &StoreData;

    /// The same, to be changed.
    fn data_mut(&mut self) -> &mut StoreData;

    /// The memory and the data at once, both to be changed.
    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData);
}

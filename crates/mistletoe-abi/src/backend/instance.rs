//! The trait of instances, which an engine implements.

use crate::backend::store::StoreData;
use crate::error::Result;
use crate::types::FuncType;

/// An instance of a module: resolves functions, calls them, and gives access to the memory.
///
/// An engine implements this twice: for the instances that [`Backend::instantiate`](crate::Backend::instantiate) makes,
/// and for the same instances as a host function sees them from inside a call.
/// [`HostFunc::call`](crate::backend::HostFunc::call) takes the latter. Both have the same [`Func`](Instance::Func).
///
/// # Slots
///
/// Parameters and results cross in slots of 64 bits, one slot each. An `i32` or the bits of an `f32` take the lower
/// half of a slot. An `i64` or the bits of an `f64` take the whole slot. The upper half of a slot with a 32-bit value
/// may hold anything; nothing reads it.
///
/// # What an engine may rely on
///
/// - A function is called only on the instance that resolved it, with as many slots as it has parameters or results,
///   whichever are more.
/// - After a trap, no guest code is called any more: the layer poisons the instance. The layer may still call a
///   function that it added itself and that only reads globals, to learn how much fuel was used or where the guest was.
///
/// After an error of a host function, guest code may be called again: a guest that `_start` initialises stays in use
/// after `_start` exits with code 0.
pub trait Instance {
    /// A resolved exported function, which is called without a look-up.
    type Func: Send + Sync + 'static;

    /// Resolves the exported function `name`, which has the type `ty`.
    ///
    /// The type consists of numbers only, no references.
    ///
    /// # Errors
    ///
    /// [`Error::engine`](crate::Error::engine) with [`Operation::Resolve`](crate::Operation::Resolve) if there is no
    /// such function.
    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<Self::Func>;

    /// Calls a function with the parameters in `slots`, and leaves the results there, from the first slot on.
    ///
    /// # Errors
    ///
    /// - The error that [`HostFunc::call`](crate::backend::HostFunc::call) returned, unchanged, if a host function
    ///   failed.
    /// - [`Error::trap`](crate::Error::trap) for a trap in the guest.
    /// - [`Error::engine`](crate::Error::engine) with [`Operation::Call`](crate::Operation::Call) for any other
    ///   failure.
    ///
    /// The layer poisons the instance after each of them. The one exception is a guest that `_start` initialises: it
    /// stays in use if `_start` exits with code 0.
    fn call(&mut self, func: &Self::Func, slots: &mut [u64]) -> Result<()>;

    /// Runs `call`, which calls several functions, on a stack with room for them.
    ///
    /// An engine that switches stacks for each function call then switches once. A function call outside of `with_room`
    /// has to find its room itself. By default, this runs `call` on the current stack.
    ///
    /// # Errors
    ///
    /// [`Error::engine`](crate::Error::engine) with [`Operation::Call`](crate::Operation::Call) if there is no memory
    /// for a stack. In that case `call` does not run.
    fn with_room<R>(call: impl FnOnce() -> R) -> Result<R>
    where
        Self: Sized,
    {
        Ok(call())
    }

    /// Returns the export named [`MEMORY`](crate::protocol::MEMORY), at its current size.
    ///
    /// Any call may grow or move it.
    fn memory(&self) -> &[u8];

    /// Returns the memory, mutably.
    #[inline]
    fn memory_mut(&mut self) -> &mut [u8] {
        self.memory_and_data().0
    }

    /// Returns the data that the layer passed to [`Backend::instantiate`](crate::Backend::instantiate).
    fn data(&self) -> &StoreData;

    /// Returns the same data, mutably.
    fn data_mut(&mut self) -> &mut StoreData;

    /// Returns the memory and the data at once, both mutably.
    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData);
}

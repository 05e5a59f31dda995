//! A memory that is created outside of the engine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tinywasm::LinearMemory;

/// A memory that the engine and the instance hand to each other.
///
/// The engine lends no slice of a memory that it owns, but takes a memory from outside. The bytes are the engine's
/// while the guest runs, and the instance's otherwise. Handing them over moves a `Vec` and copies no bytes.
///
/// The lock exists because the engine may create memories on any thread. It is never contended, but it makes loads and
/// stores slower.
#[derive(Clone, Default)]
pub(crate) struct SharedMemory(Arc<Mutex<Vec<u8>>>);

impl SharedMemory {
    /// Makes the memory one of `len` zeros.
    pub(crate) fn start(&self, len: usize) -> Result<(), tinywasm::Trap> {
        // `vec!` takes pages that cost nothing before they are used, but aborts the process if there are none. So this
        // checks first.
        Vec::<u8>::new().try_reserve_exact(len).map_err(|_| tinywasm::Trap::OutOfMemory)?;
        *self.lock() = vec![0; len];
        Ok(())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinearMemory for SharedMemory {
    fn len(&self) -> usize {
        self.lock().len()
    }

    fn grow_to(&mut self, len: usize) -> Result<(), tinywasm::Trap> {
        let mut bytes = self.lock();
        let more = len.saturating_sub(bytes.len());
        bytes.try_reserve_exact(more).map_err(|_| tinywasm::Trap::OutOfMemory)?;
        bytes.resize(len, 0);
        Ok(())
    }

    fn read(&self, address: usize, to: &mut [u8]) -> usize {
        let bytes = self.lock();
        let from = bytes.get(address..).unwrap_or_default();
        let length = from.len().min(to.len());
        to[..length].copy_from_slice(&from[..length]);
        length
    }

    fn write(&mut self, address: usize, from: &[u8]) -> usize {
        let mut bytes = self.lock();
        let to = bytes.get_mut(address..).unwrap_or_default();
        let length = from.len().min(to.len());
        to[..length].copy_from_slice(&from[..length]);
        length
    }
}

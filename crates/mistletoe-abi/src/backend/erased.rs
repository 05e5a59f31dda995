//! Type-erased instances: host functions receive them, and [`AnyBackend`](crate::AnyBackend) makes them.

use std::any::Any;
use std::sync::Arc;

use crate::backend::instance::Instance;
use crate::backend::store::StoreData;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::host::name::Name;
use crate::host::output::{Output, To};
use crate::types::FuncType;

/// A type-erased [`Instance`].
///
/// Its functions are the engine's [`Instance::Func`]s, erased to [`AnyFunc`].
pub(crate) trait DynInstance {
    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<AnyFunc>;
    fn call(&mut self, func: &(dyn Any + Send + Sync), slots: &mut [u64]) -> Result<()>;
    fn memory(&self) -> &[u8];
    fn memory_mut(&mut self) -> &mut [u8];
    fn data(&self) -> &StoreData;
    fn data_mut(&mut self) -> &mut StoreData;
    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData);
    /// Returns the memory as something to write to, and the session's state.
    fn output_and_state(&mut self) -> (Output<'_>, &mut (dyn Any + Send));
}

/// A type-erased [`Instance::Func`].
pub(crate) type AnyFunc = Arc<dyn Any + Send + Sync>;

impl<I: Instance> DynInstance for I {
    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<AnyFunc> {
        Ok(Arc::new(Instance::get_func(self, name, ty)?))
    }

    fn call(&mut self, func: &(dyn Any + Send + Sync), slots: &mut [u64]) -> Result<()> {
        match func.downcast_ref() {
            Some(func) => I::with_room(|| Instance::call(self, func, slots))?,
            None => Err(Error::engine(Operation::Call, "the function belongs to another engine")),
        }
    }

    fn memory(&self) -> &[u8] {
        Instance::memory(self)
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        Instance::memory_mut(self)
    }

    fn data(&self) -> &StoreData {
        Instance::data(self)
    }

    fn data_mut(&mut self) -> &mut StoreData {
        Instance::data_mut(self)
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        Instance::memory_and_data(self)
    }

    fn output_and_state(&mut self) -> (Output<'_>, &mut (dyn Any + Send)) {
        let (memory, data) = Instance::memory_and_data(self);
        let noted = data.opening.as_mut().and_then(|opening| opening.noted());
        (Output(To::Memory(memory, noted)), &mut *data.state)
    }
}

/// The payload of a panic.
pub(crate) type Panic = Box<dyn Any + Send>;

/// Converts a panic that unwound through a guest into an error.
///
/// The panic of a host function becomes [`HostPanic`](ErrorKind::HostPanic). The payload of an engine's own panic comes
/// back as `Err`.
pub(crate) fn host_panic<I: DynInstance + ?Sized>(instance: &mut I, payload: Panic) -> Result<Error, Panic> {
    match instance.data_mut().panicked.take() {
        Some(name) => Ok(host_panicked(&name, &*payload)),
        None => Err(payload),
    }
}

/// Returns the error for a host function that panicked with `payload`.
#[cold]
pub(crate) fn host_panicked(Name { module, name }: &Name, payload: &(dyn Any + Send)) -> Error {
    let message = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let kind = ErrorKind::HostPanic { module: module.clone(), name: name.clone() };
    Error::with_source(kind, message.unwrap_or("a panic without a message"))
}

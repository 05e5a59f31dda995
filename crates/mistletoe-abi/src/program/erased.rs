//! Programs and sessions with the type of their engine erased.

use std::any::Any;
use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::store::StoreData;
use crate::cancel::CancelHandle;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::module::Interface;
use crate::program::{Program, ProgramSession};
use crate::protocol::traits::Protocol;

/// A program with the types of its engine and state erased. [`AnyProgram`](crate::AnyProgram) keeps the state's type.
pub(crate) trait DynProgram<P: Protocol>: Send + Sync {
    fn interface(&self) -> &Interface;
    fn with_limits(&self, limits: Limits) -> Result<Arc<dyn DynProgram<P>>>;
    fn session(&self, state: Box<dyn Any + Send>, cancel: Option<&CancelHandle>) -> Result<Box<dyn DynSession<P>>>;
}

pub(crate) trait DynSession<P: Protocol>: Send {
    /// Copies the response on this side of the virtual call.
    fn call(&mut self, request: P::Request<'_>) -> Result<P::Output>;
    fn call_with(&mut self, request: P::Request<'_>, respond: &mut dyn FnMut(P::Response<'_>)) -> Result<()>;
    fn fault(&self) -> Option<&Error>;
    fn fuel_used(&mut self) -> Result<Option<u64>>;
    fn memory_size(&self) -> u64;
    fn cancel_handle(&mut self) -> CancelHandle;
    fn set_cancel_handle(&mut self, handle: Option<CancelHandle>);
    fn data(&self) -> &StoreData;
    fn data_mut(&mut self) -> &mut StoreData;
}

impl<P: Protocol, B: Backend<Instance: Send>> DynProgram<P> for Program<P, B> {
    fn interface(&self) -> &Interface {
        self.interface()
    }

    fn with_limits(&self, limits: Limits) -> Result<Arc<dyn DynProgram<P>>> {
        Ok(Arc::new(self.with_limits(limits)?))
    }

    fn session(&self, state: Box<dyn Any + Send>, cancel: Option<&CancelHandle>) -> Result<Box<dyn DynSession<P>>> {
        Ok(Box::new(self.open(state, cancel)?))
    }
}

impl<P: Protocol, B: Backend<Instance: Send>> DynSession<P> for ProgramSession<P, B> {
    fn call(&mut self, request: P::Request<'_>) -> Result<P::Output> {
        self.call(request)
    }

    fn call_with(&mut self, request: P::Request<'_>, respond: &mut dyn FnMut(P::Response<'_>)) -> Result<()> {
        self.call_with(request, respond)
    }

    fn fault(&self) -> Option<&Error> {
        self.fault()
    }

    fn fuel_used(&mut self) -> Result<Option<u64>> {
        self.fuel_used()
    }

    fn memory_size(&self) -> u64 {
        self.memory_size()
    }

    fn cancel_handle(&mut self) -> CancelHandle {
        self.cancel_handle()
    }

    fn set_cancel_handle(&mut self, handle: Option<CancelHandle>) {
        self.set_cancel_handle(handle);
    }

    fn data(&self) -> &StoreData {
        self.data()
    }

    fn data_mut(&mut self) -> &mut StoreData {
        self.data_mut()
    }
}

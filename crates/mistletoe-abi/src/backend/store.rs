//! The data that an engine carries in each instance's store for the layer.

use std::any::Any;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backtrace::Recorder;
use crate::host::name::Name;
use crate::host::opening::Opening;
use crate::limits::budget::Budget;
use crate::module::Interface;

/// The layer's data in an instance's store.
///
/// An engine carries it and never looks inside.
pub struct StoreData {
    /// Identifies the instance: a function of one instance is never called on another.
    pub(crate) id: u64,
    /// The backend's name.
    pub(crate) engine: &'static str,
    pub(crate) interface: Arc<Interface>,
    /// The host program's state, of the type that its [`Imports`](crate::Imports) were made for.
    pub(crate) state: Box<dyn Any + Send>,
    /// The protocol's own state, for a protocol that defines host functions.
    pub(crate) protocol: Box<dyn Any + Send>,
    /// The number of calls in progress from host functions into the guest.
    pub(crate) depth: u32,
    pub(crate) budget: Budget,
    /// The host function that has panicked, while its panic unwinds.
    pub(crate) panicked: Option<Name>,
    /// Whether a host function returned an error, which terminates the guest's call.
    pub(crate) host_failed: bool,
    /// What the guest's code records of its stack.
    pub(crate) recorder: Option<Recorder>,
    /// What happens to calls of host functions, while the session is opened and if that is anything special.
    pub(crate) opening: Option<Box<Opening>>,
}

impl StoreData {
    pub(crate) fn new(
        engine: &'static str,
        interface: Arc<Interface>,
        state: Box<dyn Any + Send>,
        protocol: Box<dyn Any + Send>,
        budget: Budget,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            engine,
            interface,
            state,
            protocol,
            depth: 0,
            budget,
            panicked: None,
            host_failed: false,
            recorder: None,
            opening: None,
        }
    }

    pub(crate) fn state<T: 'static>(&self) -> &T {
        of_type(self.state.downcast_ref())
    }

    pub(crate) fn state_mut<T: 'static>(&mut self) -> &mut T {
        of_type(self.state.downcast_mut())
    }

    pub(crate) fn take_state<T: 'static>(&mut self) -> T {
        *of_type(mem::replace(&mut self.state, Box::new(())).downcast().ok())
    }

    pub(crate) fn protocol_mut<T: 'static>(&mut self) -> &mut T {
        of_type(self.protocol.downcast_mut())
    }
}

/// Unwraps the result of a downcast, which cannot fail.
///
/// The types of a session's state and of its host functions' state are one type parameter, and every type that has it
/// is invariant in it.
pub(crate) fn of_type<T>(state: Option<T>) -> T {
    match state {
        Some(state) => state,
        None => unreachable!("a store with a state of another type"),
    }
}

impl fmt::Debug for StoreData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreData").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The contents of an engine's store, for engines that lend the store to host functions.
///
/// It holds the layer's data and the instance's handles, which reach the instance from inside a call.
#[derive(Debug)]
pub struct Host<E> {
    /// The layer's data.
    pub data: StoreData,
    /// The instance's handles; `None` until the instance exists.
    pub exports: Option<E>,
}

impl<E> Host<E> {
    /// Wraps the data of an instance that does not exist yet.
    pub fn new(data: StoreData) -> Self {
        Self { data, exports: None }
    }
}

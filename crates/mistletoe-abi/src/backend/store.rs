//! What an engine carries in each instance's store for the layer.

use std::any::Any;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::host::name::Name;
use crate::limits::budget::Budget;
use crate::module::Interface;

/// What the layer keeps in each instance's store. An engine carries it and never looks inside.
pub struct StoreData {
    /// Tells instances apart, so that no function of one is called on another.
    pub(crate) id: u64,
    /// The backend's name.
    pub(crate) engine: &'static str,
    pub(crate) interface: Arc<Interface>,
    /// The host program's, of the type that its [`Imports`](crate::Imports) were made for.
    pub(crate) state: Box<dyn Any + Send>,
    /// The protocol's own, for one with functions of its own.
    pub(crate) protocol: Box<dyn Any + Send>,
    /// How many calls from host functions into the guest are under way.
    pub(crate) depth: u32,
    pub(crate) budget: Budget,
    /// The host function that has panicked, while the panic is under way.
    pub(crate) panicked: Option<Name>,
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
        Self { id, engine, interface, state, protocol, depth: 0, budget, panicked: None }
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

/// The types of a session's state and of its host functions' are one type parameter, in which all that have it are
/// invariant, so they cannot differ.
fn of_type<T>(state: Option<T>) -> T {
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

/// What a backend puts into an engine's store, where the engine lends that to host functions: the layer's data, and the
/// instance's handles, with which the instance is found from inside a call.
#[derive(Debug)]
pub struct Host<E> {
    /// The layer's.
    pub data: StoreData,
    /// `None` while the instance is made.
    pub exports: Option<E>,
}

impl<E> Host<E> {
    /// The data of an instance that is not there yet.
    pub fn new(data: StoreData) -> Self {
        Self { data, exports: None }
    }
}

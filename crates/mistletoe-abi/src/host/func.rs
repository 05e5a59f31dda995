//! A host function with its types erased, as backends see it, and what it finds in the store that it is called from.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::Instance;
use crate::erased::DynInstance;
use crate::error::{Error, ErrorKind, Result};
use crate::module::Interface;
use crate::types::FuncType;

/// A function of the host's, ready to be linked. Cheap to clone, and shared by threads.
#[derive(Clone)]
pub struct HostFunc(Arc<Inner<Erased>>);

type Erased = dyn Fn(&Name, &mut dyn DynInstance, &mut [u64]) -> Result<()> + Send + Sync;

struct Inner<F: ?Sized> {
    name: Name,
    ty: FuncType,
    func: F,
}

/// Where a function is imported from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) module: Cow<'static, str>,
    pub(crate) name: Cow<'static, str>,
}

impl HostFunc {
    pub(crate) fn new(
        name: Name,
        ty: FuncType,
        func: impl Fn(&Name, &mut dyn DynInstance, &mut [u64]) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { name, ty, func }))
    }

    /// The module that guests import it from.
    pub fn module(&self) -> &str {
        &self.0.name.module
    }

    /// Its name in that module.
    pub fn name(&self) -> &str {
        &self.0.name.name
    }

    /// Its type: numbers only, no references.
    pub fn ty(&self) -> &FuncType {
        &self.0.ty
    }

    /// For backends that stand in front of another: the same function with `around` it, which is given the slots and the
    /// call itself.
    pub fn wrap(
        &self,
        around: impl Fn(&mut [u64], &mut dyn FnMut(&mut [u64]) -> Result<()>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let inner = self.0.clone();
        Self::new(self.0.name.clone(), self.0.ty.clone(), move |name, instance, slots| {
            around(slots, &mut |slots| (inner.func)(name, instance, slots))
        })
    }

    /// The same function under another name.
    pub(crate) fn named(&self, name: Name) -> Self {
        let inner = self.0.clone();
        Self::new(name, self.0.ty.clone(), move |name, instance, slots| (inner.func)(name, instance, slots))
    }

    /// For backends: calls the function on behalf of `instance`, which called it, with the parameters in `slots`; the
    /// results are left there. There are at least as many slots as parameters, and as results.
    ///
    /// # Errors
    ///
    /// What the function answered with. The engine unwinds the guest and gives this very error to whoever called it. A
    /// panic is an error, too, [`ErrorKind::HostPanic`]: no engine has to unwind one.
    #[inline]
    pub fn call(&self, instance: &mut impl Instance, slots: &mut [u64]) -> Result<()> {
        let Inner { name, func, .. } = &*self.0;
        // A host function that panicked has left nothing half done but its own state; the instance is poisoned.
        match catch_unwind(AssertUnwindSafe(|| func(name, instance, slots))) {
            Ok(result) => result,
            Err(payload) => Err(panicked(name, &*payload)),
        }
    }
}

#[cold]
fn panicked(name: &Name, payload: &(dyn Any + Send)) -> Error {
    let message = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let kind = ErrorKind::HostPanic { module: name.module.clone(), name: name.name.clone() };
    Error::with_source(kind, message.unwrap_or("a panic without a message"))
}

impl fmt::Debug for HostFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, ty, .. } = &*self.0;
        write!(f, "HostFunc({name} {ty})")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

/// What the layer keeps in each instance's store. An engine carries it and never looks inside.
pub struct Data {
    /// Tells instances apart, so that no function of one is called on another.
    pub(crate) id: u64,
    pub(crate) interface: Arc<Interface>,
    /// The host program's, of the type that its [`Imports`](crate::Imports) were made for.
    pub(crate) state: Box<dyn Any + Send>,
    /// The protocol's own, for one with functions of its own.
    pub(crate) protocol: Box<dyn Any + Send>,
    /// How many calls from host functions into the guest are under way.
    pub(crate) depth: u32,
}

impl Data {
    pub(crate) fn new(interface: Arc<Interface>, state: Box<dyn Any + Send>, protocol: Box<dyn Any + Send>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, interface, state, protocol, depth: 0 }
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

/// The types of a session's state and of its host functions' are one type parameter, so they cannot differ.
fn of_type<T>(state: Option<T>) -> T {
    match state {
        Some(state) => state,
        None => unreachable!("a store with a state of another type"),
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data").field("id", &self.id).finish_non_exhaustive()
    }
}

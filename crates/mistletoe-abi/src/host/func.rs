//! A host function with its types erased, as backends see it, and what it finds in the store that it is called from.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::Instance;
use crate::erased::DynInstance;
use crate::error::Result;
use crate::module::Interface;
use crate::types::FuncType;

/// A function of the host's, ready to be linked. Cheap to clone, and shared by threads.
#[derive(Clone)]
pub struct HostFunc(Arc<Inner>);

struct Inner {
    name: Name,
    ty: FuncType,
    entry: Entry,
}

/// The function itself, in one of two forms.
#[derive(Clone)]
pub(crate) enum Entry {
    /// Up to four parameters and one result, which then pass in registers.
    Few(Arc<Few>),
    /// Any number of them, in slots.
    Many(Arc<Many>),
}

type Few = dyn Fn(&Name, &mut dyn DynInstance, u64, u64, u64, u64) -> Result<u64> + Send + Sync;
type Many = dyn Fn(&Name, &mut dyn DynInstance, &mut [u64]) -> Result<()> + Send + Sync;

/// Where a function is imported from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) module: Cow<'static, str>,
    pub(crate) name: Cow<'static, str>,
}

impl HostFunc {
    pub(crate) fn new(name: Name, ty: FuncType, entry: Entry) -> Self {
        Self(Arc::new(Inner { name, ty, entry }))
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
        let entry = Entry::Many(Arc::new(move |name, instance, slots| {
            around(slots, &mut |slots| inner.entry.call(name, instance, slots))
        }));
        Self::new(self.0.name.clone(), self.0.ty.clone(), entry)
    }

    /// The same function under another name.
    pub(crate) fn named(&self, name: Name) -> Self {
        Self::new(name, self.0.ty.clone(), self.0.entry.clone())
    }

    /// For backends: calls the function on behalf of `instance`, which called it, with the parameters in `slots`; the
    /// results are left there. There are at least as many slots as parameters, and as results.
    ///
    /// # Errors
    ///
    /// What the function answered with. The engine unwinds the guest and gives this very error to whoever called it.
    ///
    /// # Panics
    ///
    /// Where the function does. The engine lets the panic pass to whoever called the guest, where the layer makes an
    /// error of it.
    #[inline]
    pub fn call(&self, instance: &mut impl Instance, slots: &mut [u64]) -> Result<()> {
        self.0.entry.call(&self.0.name, instance, slots)
    }

    /// For backends: the same for a function of up to four parameters and one result. This is the quickest way; the
    /// signatures of [`by_signature`](crate::by_signature) are such.
    ///
    /// # Errors
    ///
    /// As [`HostFunc::call`].
    ///
    /// # Panics
    ///
    /// As [`HostFunc::call`].
    #[inline(always)]
    pub fn call_few<const N: usize>(&self, instance: &mut impl Instance, params: [u64; N]) -> Result<u64> {
        let param = |i: usize| params.get(i).copied().unwrap_or_default();
        let Inner { name, entry, .. } = &*self.0;
        match entry {
            Entry::Few(few) => few(name, instance, param(0), param(1), param(2), param(3)),
            Entry::Many(many) => {
                let mut slots = [param(0), param(1), param(2), param(3)];
                many(name, instance, &mut slots).map(|()| slots[0])
            }
        }
    }
}

impl Entry {
    fn call(&self, name: &Name, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()> {
        match self {
            Self::Few(few) => {
                let param = |i: usize| slots.get(i).copied().unwrap_or_default();
                let result = few(name, instance, param(0), param(1), param(2), param(3))?;
                if let [slot, ..] = slots {
                    *slot = result;
                }
                Ok(())
            }
            Self::Many(many) => many(name, instance, slots),
        }
    }
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
    /// The host function that has panicked.
    pub(crate) panicked: Option<Name>,
}

impl Data {
    pub(crate) fn new(interface: Arc<Interface>, state: Box<dyn Any + Send>, protocol: Box<dyn Any + Send>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, interface, state, protocol, depth: 0, panicked: None }
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

//! What a host program offers.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::erased::DynInstance;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Caller;
use crate::host::func::{Entry, HostFunc, Name};
use crate::host::typed::HostFn;
use crate::module::Interface;
use crate::types::{ExternType, Problem};

/// Functions for guests to import, over sessions whose state is a `T`. Cheap to clone.
pub struct Imports<T = ()> {
    funcs: BTreeMap<Name, HostFunc>,
    /// Functions of whatever module, by name.
    anywhere: BTreeMap<Cow<'static, str>, HostFunc>,
    state: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Imports<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { funcs: BTreeMap::new(), anywhere: BTreeMap::new(), state: PhantomData }
    }

    /// Offers a function as `name` of `module`. Its type is the closure's; see [`HostFn`]. It takes the place of one
    /// that was offered under the same name before.
    pub fn func<P, R>(
        &mut self,
        module: impl Into<Cow<'static, str>>,
        name: impl Into<Cow<'static, str>>,
        func: impl HostFn<T, P, R>,
    ) -> &mut Self {
        let name = Name { module: module.into(), name: name.into() };
        self.funcs.insert(name.clone(), host_func(name, func));
        self
    }

    /// Offers a function as `name` of whatever module a guest imports it from, for toolchains that name the module after
    /// the program that they compile. One that [`func`](Imports::func) offers comes first.
    pub fn func_of_any_module<P, R>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        func: impl HostFn<T, P, R>,
    ) -> &mut Self {
        let name = name.into();
        let host = host_func(Name { module: "*".into(), name: name.clone() }, func);
        self.anywhere.insert(name, host);
        self
    }

    /// The function that an import of this module and name gets, if it is offered.
    pub fn get(&self, module: &str, name: &str) -> Option<HostFunc> {
        let full = Name { module: Cow::Owned(module.to_owned()), name: Cow::Owned(name.to_owned()) };
        match self.funcs.get(&full) {
            Some(func) => Some(func.clone()),
            None => self.anywhere.get(name).map(|func| func.named(full)),
        }
    }

    /// Everything that a module imports and that is not offered, or not with that type.
    pub fn problems(&self, interface: &Interface) -> Vec<Problem> {
        let problem = |import: &crate::types::Import| {
            let (module, name, found) = (import.module.clone(), import.name.clone(), import.ty.clone());
            match (self.get(&module, &name), &import.ty) {
                (Some(host), ExternType::Func(Some(ty))) if **ty == *host.ty() => None,
                (Some(host), _) => {
                    let expected = ExternType::Func(Some(host.ty().clone().into()));
                    Some(Problem::MistypedImport { module, name, expected, found })
                }
                (None, _) => Some(Problem::UnknownImport { module, name, found }),
            }
        };
        interface.imports.iter().filter_map(problem).collect()
    }

    /// The functions that a module imports, each once.
    pub(crate) fn used(&self, interface: &Interface) -> Vec<HostFunc> {
        let mut seen = BTreeSet::new();
        let imports = interface.imports.iter().filter(|import| seen.insert((&import.module, &import.name)));
        imports.filter_map(|import| self.get(&import.module, &import.name)).collect()
    }
}

/// A closure with its types erased.
fn host_func<T: 'static, P, R>(name: Name, func: impl HostFn<T, P, R>) -> HostFunc {
    let ty = ty(&func);
    let entry = if ty.params.len() <= 4 && ty.results.len() <= 1 {
        Entry::Few(Arc::new(move |name, instance, a, b, c, d| {
            let mut slots = [a, b, c, d];
            enter(&func, name, instance, &mut slots)?;
            Ok(slots[0])
        }))
    } else {
        Entry::Many(Arc::new(move |name, instance, slots| enter(&func, name, instance, slots)))
    };
    HostFunc::new(name, ty, entry)
}

#[inline(always)]
fn enter<T: 'static, P, R>(
    func: &impl HostFn<T, P, R>,
    name: &Name,
    instance: &mut dyn DynInstance,
    slots: &mut [u64],
) -> Result<()> {
    let mut caller = Caller::new(instance, name);
    let result = func.call(&mut caller, slots);
    match (caller.into_fault(), result) {
        // The guest is poisoned, so it does not go on, even if the closure would have it so.
        (Some(fault), Ok(())) => Err(fault),
        (_, Err(error)) => Err(failed(name, error)),
        (None, Ok(())) => Ok(()),
    }
}

/// The type of a closure whose type has no name.
fn ty<T, P, R, F: HostFn<T, P, R>>(_: &F) -> crate::types::FuncType {
    F::TYPE
}

/// The layer's own error goes on as it is, so that a trap keeps its kind however many host functions it passes.
#[cold]
fn failed(name: &Name, error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => {
            Error::with_source(ErrorKind::Host { module: name.module.clone(), name: name.name.clone() }, error)
        }
    }
}

impl<T: Send + 'static> Default for Imports<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Imports<T> {
    fn clone(&self) -> Self {
        Self { funcs: self.funcs.clone(), anywhere: self.anywhere.clone(), state: PhantomData }
    }
}

impl<T> fmt::Debug for Imports<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.funcs.values().chain(self.anywhere.values())).finish()
    }
}

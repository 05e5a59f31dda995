//! The functions that a host program provides.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use crate::host::closure::{HostFn, host_func};
use crate::host::func::HostFunc;
use crate::host::name::Name;
use crate::host::opening::Repeatable;
use crate::module::Interface;
use crate::types::{ExternType, Problem};

/// Functions that guests can import, for sessions with a state of type `T`.
///
/// The set is cheap to clone.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::{Caller, Imports};
///
/// let mut imports = Imports::<u32>::new();
/// imports
///     .func("env", "add", |_: &mut Caller<'_, u32>, a: u32, b: u32| a.wrapping_add(b))
///     .func("env", "count", |caller: &mut Caller<'_, u32>| {
///         *caller.state_mut() += 1;
///     });
/// assert!(imports.get("env", "add").is_some());
/// ```
pub struct Imports<T = ()> {
    funcs: BTreeMap<Name, HostFunc>,
    /// Functions of any module, by name.
    anywhere: BTreeMap<Cow<'static, str>, HostFunc>,
    state: PhantomData<fn(T) -> T>,
}

impl<T: Send + 'static> Imports<T> {
    /// Creates a set without functions.
    pub fn new() -> Self {
        Self { funcs: BTreeMap::new(), anywhere: BTreeMap::new(), state: PhantomData }
    }

    /// Defines a function as `name` of `module`.
    ///
    /// Its type is the closure's type; see [`HostFn`]. It replaces a function that was defined under the same module
    /// and name.
    ///
    /// A call does not allocate if the function has up to four parameters and up to one result, all of them `i32` or
    /// `i64`. With other types, some engines allocate on each call.
    pub fn func<P: 'static, R: 'static>(
        &mut self,
        module: impl Into<Cow<'static, str>>,
        name: impl Into<Cow<'static, str>>,
        func: impl HostFn<T, P, R>,
    ) -> &mut Self {
        let name = Name { module: module.into(), name: name.into() };
        self.funcs.insert(name.clone(), host_func(name, func));
        self
    }

    /// Defines a function as [`Imports::func`] does, one that depends on nothing in the guest.
    ///
    /// What it does and returns depends on the session's state, its parameters and the length of the guest's memory. It
    /// reads nothing in the memory, writes there only through
    /// [`Caller::output_and_state`](crate::Caller::output_and_state), and calls no function of the guest. It does not
    /// end the guest with the error [`Exit`](crate::ErrorKind::Exit).
    ///
    /// A guest that calls only such functions to start need not start again in each session: see
    /// [`Program::session_with`](crate::Program::session_with). The functions are called in each session all the same,
    /// so they may change its state.
    pub fn repeatable_func<P: 'static, R: 'static>(
        &mut self,
        module: impl Into<Cow<'static, str>>,
        name: impl Into<Cow<'static, str>>,
        func: impl HostFn<T, P, R>,
    ) -> &mut Self {
        let name = Name { module: module.into(), name: name.into() };
        self.funcs.insert(name.clone(), Repeatable::func(host_func(name, func)));
        self
    }

    /// Defines a function as `name` of any module.
    ///
    /// For toolchains that name the module after the program that they compile. A function that [`func`](Imports::func)
    /// defines under the same name takes precedence in its module.
    pub fn func_of_any_module<P: 'static, R: 'static>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        func: impl HostFn<T, P, R>,
    ) -> &mut Self {
        let name = name.into();
        self.anywhere.insert(name.clone(), host_func(any_module(name), func));
        self
    }

    /// Defines a function as [`Imports::func`] does, unless there is one under this module and name.
    pub(crate) fn or_func<P: 'static, R: 'static>(
        &mut self,
        module: &'static str,
        name: &'static str,
        func: impl HostFn<T, P, R>,
    ) {
        let name = Name { module: module.into(), name: name.into() };
        self.funcs.entry(name.clone()).or_insert_with(|| host_func(name, func));
    }

    pub(crate) fn or_func_of_any_module<P: 'static, R: 'static>(
        &mut self,
        name: &'static str,
        func: impl HostFn<T, P, R>,
    ) {
        self.anywhere.entry(name.into()).or_insert_with(|| host_func(any_module(name.into()), func));
    }

    /// Returns the function for an import of this module and name, if there is one.
    pub fn get(&self, module: &str, name: &str) -> Option<HostFunc> {
        // Instrumented code imports from this module, which is reserved for the layer.
        if module == mistletoe_module::MODULE {
            return None;
        }
        let full = Name { module: Cow::Owned(module.to_owned()), name: Cow::Owned(name.to_owned()) };
        match self.funcs.get(&full) {
            Some(func) => Some(func.clone()),
            None => self.anywhere.get(name).map(|func| func.named(full)),
        }
    }

    /// Returns all imports of a module that are not defined, or not with the imported type.
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

    /// Returns the functions that a module imports, each once.
    pub(crate) fn used(&self, interface: &Interface) -> Vec<HostFunc> {
        let mut seen = BTreeSet::new();
        let imports = interface.imports.iter().filter(|import| seen.insert((&import.module, &import.name)));
        imports.filter_map(|import| self.get(&import.module, &import.name)).collect()
    }
}

/// Returns the name of a function of any module in errors, until a guest imports it from one.
fn any_module(name: Cow<'static, str>) -> Name {
    Name { module: "*".into(), name }
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

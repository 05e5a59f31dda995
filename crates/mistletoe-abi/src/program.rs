//! From bytes to live instances, the same for every protocol.

use std::any::Any;
use std::sync::Arc;

use crate::backend::Backend;
use crate::error::{ErrorKind, Result};
use crate::guest::Guest;
use crate::host::{Data, HostFunc, Imports};
use crate::limits::Limits;
use crate::limits::account::{self, Account};
use crate::limits::pass::Plan;
use crate::module::{Interface, ValidModule};
use crate::prepare::Hidden;
use crate::protocol::INITIALIZE;
use crate::types::Problem;

/// A module that speaks a protocol, with the host functions that it imports, before an engine has seen it.
pub(crate) struct Checked<'a> {
    module: ValidModule<'a>,
    imports: Vec<HostFunc>,
    limits: Limits,
}

/// A module compiled for one backend and linked with its host functions.
#[derive(Clone)]
pub(crate) struct Program<B: Backend> {
    backend: B,
    module: B::Module,
    interface: Arc<Interface>,
    hidden: Hidden,
    /// What is in the code.
    plan: Plan,
    limits: Limits,
}

impl<'a> Checked<'a> {
    /// Reads a module, and lists every way in which its exports do not fit a protocol or its imports are not offered:
    /// by the protocol itself, through `offer`, or by the host program.
    pub(crate) fn new<T: Send + 'static>(
        wasm: &'a [u8],
        problems: fn(&Interface) -> Vec<Problem>,
        offer: fn(&mut Imports<T>),
        imports: &Imports<T>,
        limits: &Limits,
    ) -> Result<Self> {
        let bounds = limits.bounds();
        let module = ValidModule::bounded(wasm, &bounds)?;
        let (imports, problems) = Self::problems(module.interface(), problems, offer, imports);
        if !problems.is_empty() {
            return Err(ErrorKind::Interface { problems }.into());
        }
        let mut imports = imports.used(module.interface());
        if bounds.plan.is_anything() {
            imports.extend(account::functions());
        }
        Ok(Self { imports, module, limits: limits.clone() })
    }

    /// The imports with the protocol's own, and what is wrong.
    pub(crate) fn problems<T: Send + 'static>(
        interface: &Interface,
        problems: fn(&Interface) -> Vec<Problem>,
        offer: fn(&mut Imports<T>),
        imports: &Imports<T>,
    ) -> (Imports<T>, Vec<Problem>) {
        let mut imports = imports.clone();
        offer(&mut imports);
        let mut problems = problems(interface);
        problems.extend(imports.problems(interface));
        (imports, problems)
    }
}

impl<B: Backend> Program<B> {
    pub(crate) fn compile(backend: &B, checked: Checked<'_>) -> Result<Self> {
        let Checked { module, imports, limits } = checked;
        let (backend, compiled) = (backend.clone(), backend.compile(&module, &imports)?);
        let (interface, hidden) = module.into_parts();
        let plan = limits.bounds().plan;
        Ok(Self { backend, module: compiled, interface: Arc::new(interface), hidden, plan, limits })
    }

    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    pub(crate) fn interface(&self) -> &Interface {
        &self.interface
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The same compiled code with other limits on time, fuel, inputs and outputs.
    pub(crate) fn with_limits(&self, limits: Limits) -> Result<Self> {
        limits.fit(&self.limits, self.plan)?;
        Ok(Self { limits, ..self.clone() })
    }

    /// A fresh instance, whose start function has run. `protocol` is the protocol's own state.
    pub(crate) fn instantiate(
        &self,
        state: Box<dyn Any + Send>,
        protocol: Box<dyn Any + Send>,
    ) -> Result<Guest<B::Instance>> {
        let data = Data::new(self.interface.clone(), state, protocol, Account::new(&self.limits));
        let mut guest = Guest::new(self.backend.instantiate(&self.module, data)?, self.hidden.fuel.as_deref())?;
        guest.begin()?;
        if let Some(start) = &self.hidden.start {
            guest.start(start)?;
        }
        Ok(guest)
    }

    /// The same with its `_initialize` called, if it exports one: for all guests but commands.
    pub(crate) fn reactor(
        &self,
        state: Box<dyn Any + Send>,
        protocol: Box<dyn Any + Send>,
    ) -> Result<Guest<B::Instance>> {
        let mut guest = self.instantiate(state, protocol)?;
        if self.interface.export(INITIALIZE.name).is_some() {
            let initialize = guest.resolve(&INITIALIZE)?;
            guest.call(&initialize, [])?;
        }
        Ok(guest)
    }
}

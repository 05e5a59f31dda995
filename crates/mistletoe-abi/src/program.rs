//! From bytes to live instances, the same for every protocol.

use std::any::Any;
use std::sync::Arc;

use crate::backend::Backend;
use crate::error::{ErrorKind, Result};
use crate::guest::Guest;
use crate::host::{Data, HostFunc, Imports};
use crate::module::{Interface, ValidModule};
use crate::protocol::INITIALIZE;
use crate::types::Problem;

/// A module that speaks a protocol, with the host functions that it imports, before an engine has seen it.
pub(crate) struct Checked<'a> {
    module: ValidModule<'a>,
    imports: Vec<HostFunc>,
}

/// A module compiled for one backend and linked with its host functions.
#[derive(Clone)]
pub(crate) struct Program<B: Backend> {
    backend: B,
    module: B::Module,
    interface: Arc<Interface>,
    start: Option<Arc<str>>,
}

impl<'a> Checked<'a> {
    /// Reads a module, and lists every way in which its exports do not fit a protocol or its imports are not offered:
    /// by the protocol itself, through `offer`, or by the host program.
    pub(crate) fn new<T: Send + 'static>(
        wasm: &'a [u8],
        problems: fn(&Interface) -> Vec<Problem>,
        offer: fn(&mut Imports<T>),
        imports: &Imports<T>,
    ) -> Result<Self> {
        let module = ValidModule::new(wasm)?;
        let (imports, problems) = Self::problems(module.interface(), problems, offer, imports);
        if !problems.is_empty() {
            return Err(ErrorKind::Interface { problems }.into());
        }
        Ok(Self { imports: imports.used(module.interface()), module })
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
        let Checked { module, imports } = checked;
        let (backend, compiled) = (backend.clone(), backend.compile(&module, &imports)?);
        let (interface, start) = module.into_parts();
        Ok(Self { backend, module: compiled, interface: Arc::new(interface), start })
    }

    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    pub(crate) fn interface(&self) -> &Interface {
        &self.interface
    }

    /// A fresh instance, whose start function has run. `protocol` is the protocol's own state.
    pub(crate) fn instantiate(
        &self,
        state: Box<dyn Any + Send>,
        protocol: Box<dyn Any + Send>,
    ) -> Result<Guest<B::Instance>> {
        let data = Data::new(self.interface.clone(), state, protocol);
        let mut guest = Guest::new(self.backend.instantiate(&self.module, data)?);
        if let Some(start) = &self.start {
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

//! From bytes to live instances, the same for every protocol.

use std::any::Any;
use std::sync::Arc;

use crate::backend::Backend;
use crate::error::{ErrorKind, Result};
use crate::guest::Guest;
use crate::host::{HostFunc, Imports, StoreData, toolchain};
use crate::limits::Limits;
use crate::limits::budget::{self, Budget};
use crate::module::{Interface, InternalExports, ModuleSource};
use crate::protocol::INITIALIZE;
use crate::types::Problem;

/// A module that speaks a protocol, with the host functions that it imports, before an engine has seen it.
pub(crate) struct Checked<'a> {
    module: ModuleSource<'a>,
    imports: Vec<HostFunc>,
    limits: Limits,
}

/// A module compiled for one backend and linked with its host functions.
#[derive(Clone)]
pub(crate) struct Program<B: Backend> {
    backend: B,
    module: B::Module,
    interface: Arc<Interface>,
    internal: InternalExports,
    /// The limits that are in the code.
    compiled: Limits,
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
        limits: Limits,
    ) -> Result<Self> {
        let module = ModuleSource::new(wasm, limits.config());
        let (interface, _) = module.outline()?;
        let (imports, problems) = Self::problems(interface, problems, offer, imports);
        if !problems.is_empty() {
            // A module that is not valid is refused for that.
            module.instrument()?;
            return Err(ErrorKind::Interface { problems }.into());
        }
        let mut imports = imports.used(interface);
        if module.config().is_metered() {
            imports.extend(budget::functions());
        }
        Ok(Self { module, imports, limits })
    }

    /// The imports with the protocol's own and those of toolchains, and what is wrong.
    pub(crate) fn problems<T: Send + 'static>(
        interface: &Interface,
        problems: fn(&Interface) -> Vec<Problem>,
        offer: fn(&mut Imports<T>),
        imports: &Imports<T>,
    ) -> (Imports<T>, Vec<Problem>) {
        let mut imports = imports.clone();
        offer(&mut imports);
        toolchain::provide(&mut imports);
        let mut problems = problems(interface);
        problems.extend(imports.problems(interface));
        (imports, problems)
    }
}

impl<B: Backend> Program<B> {
    pub(crate) fn compile(backend: &B, checked: Checked<'_>) -> Result<Self> {
        let Checked { module, imports, limits } = checked;
        let compiled = backend.compile(&module, &imports)?;
        let (interface, internal) = module.outline()?;
        let (interface, internal) = (Arc::new(interface.clone()), internal.clone());
        Ok(Self { backend: backend.clone(), module: compiled, interface, internal, compiled: limits, limits })
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
        limits.fit(&self.compiled)?;
        Ok(Self { limits, ..self.clone() })
    }

    /// A fresh instance, whose start function has run. `protocol` is the protocol's own state.
    pub(crate) fn instantiate(
        &self,
        state: Box<dyn Any + Send>,
        protocol: Box<dyn Any + Send>,
    ) -> Result<Guest<B::Instance>> {
        let data = StoreData::new(self.interface.clone(), state, protocol, Budget::new(&self.limits));
        let mut guest = Guest::new(self.backend.instantiate(&self.module, data)?, self.internal.fuel.as_deref())?;
        guest.begin()?;
        if let Some(start) = &self.internal.start {
            guest.start(start)?;
        }
        Ok(guest)
    }

    /// The same with its `_initialize` called, or where it exports none its `_start`: for all guests but commands.
    pub(crate) fn reactor(
        &self,
        state: Box<dyn Any + Send>,
        protocol: Box<dyn Any + Send>,
    ) -> Result<Guest<B::Instance>> {
        let mut guest = self.instantiate(state, protocol)?;
        if self.interface.export(INITIALIZE.name).is_some() {
            let initialize = guest.resolve(&INITIALIZE)?;
            guest.call(&initialize, [])?;
        } else if self.interface.is_initialised_by_start() {
            guest.start_up(self.internal.unwind.as_deref())?;
        }
        Ok(guest)
    }
}

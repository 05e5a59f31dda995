//! From bytes to live instances, the same for every protocol.

use std::any::Any;
use std::sync::Arc;

#[cfg(feature = "cache")]
use crate::backend::Artifact;
use crate::backend::Backend;
#[cfg(feature = "cache")]
use crate::cache::{Cache, Key};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::host::{Data, HostFunc, Imports, toolchain};
use crate::limits::Limits;
use crate::limits::account::{self, Account};
use crate::limits::pass::Plan;
use crate::module::{Interface, ValidModule, supported};
#[cfg(feature = "cache")]
use crate::prepare::Bounds;
use crate::prepare::Hidden;
use crate::protocol::INITIALIZE;
use crate::types::Problem;

/// A module that speaks a protocol, with the host functions that it imports, before an engine has seen it.
pub(crate) struct Checked<'a> {
    source: Source<'a>,
    #[cfg(feature = "cache")]
    place: Option<Place>,
    imports: Vec<HostFunc>,
    limits: Limits,
}

/// Where an engine's code comes from.
enum Source<'a> {
    /// It is to be compiled.
    Module(ValidModule<'a>),
    /// It was compiled before, from these bytes for the same bounds.
    #[cfg(feature = "cache")]
    Kept(&'a [u8], Artifact, Interface, Hidden),
}

/// Where compiled code is kept.
#[cfg(feature = "cache")]
struct Place {
    cache: Cache,
    key: Key,
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
        backend: &impl Backend,
        wasm: &'a [u8],
        problems: fn(&Interface) -> Vec<Problem>,
        offer: fn(&mut Imports<T>),
        imports: &Imports<T>,
        limits: &Limits,
    ) -> Result<Self> {
        let bounds = limits.bounds();
        #[cfg(feature = "cache")]
        let place = Place::new(backend, wasm, &bounds);
        #[cfg(feature = "cache")]
        let kept = place.as_ref().and_then(|place| place.kept(wasm, &bounds));
        #[cfg(not(feature = "cache"))]
        let kept = None;
        let source = match kept {
            Some(kept) => kept,
            None => Source::Module(ValidModule::bounded(wasm, &bounds)?),
        };
        let interface = match &source {
            Source::Module(module) => module.interface(),
            #[cfg(feature = "cache")]
            Source::Kept(_, _, interface, _) => interface,
        };
        let (imports, problems) = Self::problems(interface, problems, offer, imports);
        if !problems.is_empty() {
            return Err(ErrorKind::Interface { problems }.into());
        }
        // Last, so that what is wrong on every engine is said on every engine. What was compiled before is supported.
        if matches!(source, Source::Module(_)) {
            supported(wasm, backend)?;
        }
        let mut imports = imports.used(interface);
        if bounds.plan.is_anything() {
            imports.extend(account::functions());
        }
        Ok(Self {
            source,
            #[cfg(feature = "cache")]
            place,
            imports,
            limits: limits.clone(),
        })
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
        let bounds = checked.limits.bounds();
        let fresh = |module: ValidModule<'_>| {
            let compiled = backend.compile(&module, &checked.imports)?;
            #[cfg(feature = "cache")]
            if let Some(place) = &checked.place {
                place.keep(backend.save(&compiled));
            }
            let (interface, hidden) = module.into_parts();
            Ok::<_, Error>((compiled, interface, hidden))
        };
        let (module, interface, hidden) = match checked.source {
            Source::Module(module) => fresh(module)?,
            #[cfg(feature = "cache")]
            Source::Kept(wasm, artifact, interface, hidden) => match backend.load(&artifact, &checked.imports) {
                Ok(module) => (module, interface, hidden),
                Err(error) => {
                    if let Some(place) = &checked.place {
                        place.cache.discard(&place.key, error);
                    }
                    fresh(ValidModule::bounded(wasm, &bounds)?)?
                }
            },
        };
        let (backend, interface) = (backend.clone(), Arc::new(interface));
        Ok(Self { backend, module, interface, hidden, plan: bounds.plan, limits: checked.limits })
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
        } else if self.interface.starts_by_itself() {
            guest.start_up(self.hidden.unwind.as_deref())?;
        }
        Ok(guest)
    }
}

#[cfg(feature = "cache")]
impl Place {
    /// `None` where the backend keeps nothing. A module that is longer than allowed is not even looked up.
    fn new(backend: &impl Backend, wasm: &[u8], bounds: &Bounds) -> Option<Self> {
        let cache = backend.cache().filter(|_| wasm.len() as u64 <= bounds.length)?;
        let key = Key::new(wasm, bounds, format!("{} {}", backend.name(), backend.artifacts()?));
        Some(Self { cache: cache.clone(), key })
    }

    /// What was compiled before.
    fn kept<'a>(&self, wasm: &'a [u8], bounds: &Bounds) -> Option<Source<'a>> {
        let artifact = self.cache.load(&self.key)?;
        let (interface, hidden) = ValidModule::known(wasm, bounds)?;
        Some(Source::Kept(wasm, artifact, interface, hidden))
    }

    fn keep(&self, code: Result<Vec<u8>>) {
        match code {
            Ok(code) => self.cache.store(&self.key, &code),
            Err(error) => self.cache.discard(&self.key, error),
        }
    }
}

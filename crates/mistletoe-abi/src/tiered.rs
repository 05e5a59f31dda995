//! Two engines behind one backend: one that starts at once, and one that is quick in the end.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::backend::{Backend, Instance};
use crate::error::{Error, Operation, Result};
use crate::host::{Data, HostFunc};
use crate::module::ValidModule;
use crate::types::FuncType;

/// A backend that answers on one engine while the other still compiles, in a thread of its own. Sessions that are opened
/// after that are the other's; those that are open stay where they are. Since the same package gives the same answers,
/// errors and fuel on both, nothing but the time tells.
///
/// ```
/// use mistletoe_abi::{Backend, Package, Result, Tiered};
///
/// /// A package that answers at once, and soon as quickly as it can.
/// fn open<F: Backend, P: Backend>(interpreter: F, compiler: P, wasm: &[u8]) -> Result<Package<Tiered<F, P>>> {
///     Package::new(&Tiered::new(interpreter, compiler), wasm)
/// }
/// ```
///
/// Where the second engine fails to compile a module, or there is no thread to be had, the first one goes on. Compiling
/// goes on where the package is dropped meanwhile, and ends with the process.
#[derive(Clone, Debug)]
pub struct Tiered<F, P> {
    fast: F,
    peak: P,
    patience: Option<usize>,
}

/// A module on one engine, and soon on the other.
pub struct TieredModule<F: Backend, P: Backend> {
    fast: F::Module,
    /// Set when the other engine is done: without a module, where it failed.
    peak: Arc<OnceLock<Option<P::Module>>>,
    /// How many instances there were.
    instances: Arc<AtomicUsize>,
}

/// An instance on one of two engines.
#[derive(Debug)]
pub enum TieredInstance<F, P> {
    /// On the one that starts at once.
    Fast(F),
    /// On the one that is quick in the end.
    Peak(P),
}

impl<F, P> Tiered<F, P> {
    /// `fast` until `peak` has compiled.
    pub fn new(fast: F, peak: P) -> Self {
        Self { fast, peak, patience: None }
    }

    /// The same, but after so many instances of a module it waits for `peak`, and before that it does not take what is
    /// ready: so that tests see the engines change at one place.
    pub fn after(self, instances: usize) -> Self {
        Self { patience: Some(instances), ..self }
    }
}

impl<F: Backend, P: Backend> Backend for Tiered<F, P> {
    type Module = TieredModule<F, P>;
    type Instance = TieredInstance<F::Instance, P::Instance>;

    fn name(&self) -> &'static str {
        "tiered"
    }

    fn notice(&self) -> Option<String> {
        self.fast.notice().or_else(|| self.peak.notice())
    }

    fn compile(&self, module: &ValidModule<'_>, imports: &[HostFunc]) -> Result<TieredModule<F, P>> {
        let peak = Arc::new(OnceLock::new());
        let fast = self.fast.compile(module, imports)?;
        let (backend, done) = (self.peak.clone(), peak.clone());
        let (module, imports) = (module.clone().into_owned(), imports.to_vec());
        let compile = move || {
            let compile = std::panic::AssertUnwindSafe(|| backend.compile(&module, &imports).ok());
            // An engine that panics has failed, too, and nobody is to wait for it.
            let _ = done.set(std::panic::catch_unwind(compile).unwrap_or_default());
        };
        if thread::Builder::new().name("mistletoe tier".into()).spawn(compile).is_err() {
            let _ = peak.set(None);
        }
        Ok(TieredModule { fast, peak, instances: Arc::default() })
    }

    fn instantiate(&self, module: &TieredModule<F, P>, data: Data) -> Result<Self::Instance> {
        let peak = match self.patience {
            None => module.peak.get(),
            Some(patience) if module.instances.fetch_add(1, Ordering::Relaxed) < patience => None,
            Some(_) => Some(module.peak.wait()),
        };
        match peak {
            Some(Some(peak)) => self.peak.instantiate(peak, data).map(TieredInstance::Peak),
            _ => self.fast.instantiate(&module.fast, data).map(TieredInstance::Fast),
        }
    }
}

impl<F: Instance, P: Instance> Instance for TieredInstance<F, P> {
    type Func = TieredInstance<F::Func, P::Func>;

    fn func(&mut self, name: &str, ty: &FuncType) -> Result<Self::Func> {
        match self {
            Self::Fast(instance) => instance.func(name, ty).map(TieredInstance::Fast),
            Self::Peak(instance) => instance.func(name, ty).map(TieredInstance::Peak),
        }
    }

    fn call(&mut self, func: &Self::Func, slots: &mut [u64]) -> Result<()> {
        match (self, func) {
            (Self::Fast(instance), TieredInstance::Fast(func)) => instance.call(func, slots),
            (Self::Peak(instance), TieredInstance::Peak(func)) => instance.call(func, slots),
            // A function is called on the instance that resolved it: nobody sees this.
            _ => Err(Error::engine(Operation::Call, "a function of another instance")),
        }
    }

    fn memory(&self) -> &[u8] {
        match self {
            Self::Fast(instance) => instance.memory(),
            Self::Peak(instance) => instance.memory(),
        }
    }

    fn data(&self) -> &Data {
        match self {
            Self::Fast(instance) => instance.data(),
            Self::Peak(instance) => instance.data(),
        }
    }

    fn data_mut(&mut self) -> &mut Data {
        match self {
            Self::Fast(instance) => instance.data_mut(),
            Self::Peak(instance) => instance.data_mut(),
        }
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut Data) {
        match self {
            Self::Fast(instance) => instance.memory_and_data(),
            Self::Peak(instance) => instance.memory_and_data(),
        }
    }
}

impl<F: Backend, P: Backend> Clone for TieredModule<F, P> {
    fn clone(&self) -> Self {
        Self { fast: self.fast.clone(), peak: self.peak.clone(), instances: self.instances.clone() }
    }
}

impl<F: Backend, P: Backend> fmt::Debug for TieredModule<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_ready = self.peak.get().is_some_and(Option::is_some);
        f.debug_struct("TieredModule").field("is_ready", &is_ready).finish_non_exhaustive()
    }
}

//! Two engines behind one backend: one that starts quickly, and one whose code runs quickly.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::instance::Instance;
use crate::backend::store::StoreData;
use crate::backend::{Artifact, Backend, Keep};
use crate::error::{Error, Operation, Result};
use crate::host::func::HostFunc;
use crate::module::{Feature, ModuleSource};
use crate::types::FuncType;

/// Delay before the second engine compiles: its compiler uses all processors, and the first call needs one.
const GRACE: Duration = Duration::from_millis(2);

/// A backend that runs on one engine while a second one compiles in the background.
///
/// Sessions opened after the second engine has compiled run there; sessions that are open stay where they are. The same
/// package gives the same output, errors and fuel on both engines: only the speed differs.
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
/// The second engine compiles one module at a time, in its own thread. It begins at the earliest 2 ms after it got a
/// module, so that the first call has the processors to itself, unless another module is being compiled. A module that
/// is waited for ([`Tiered::after`], [`Backend::serialize`]) is compiled without this delay. A module that is dropped
/// before its compilation begins is not compiled; a compilation that has begun goes on until it is done or the process
/// ends. If the second engine fails to compile a module, the first engine goes on. If the thread cannot be started, the
/// first engine goes on as well, and [`warning`](Backend::warning) says so.
#[derive(Clone, Debug)]
pub struct Tiered<F, P> {
    fast: F,
    peak: P,
    /// Sends to the thread that compiles, if there is one. The thread ends when the last sender is dropped.
    compiler: Option<Sender<Job>>,
    patience: Option<usize>,
}

type Job = Box<dyn FnOnce() + Send>;

/// A module compiled for a [`Tiered`] backend.
pub struct TieredModule<F: Backend, P: Backend> {
    /// `None` if the module was deserialized for the second engine.
    fast: Option<F::Module>,
    peak: Arc<Peak<P::Module>>,
    /// Number of instances made so far.
    instances: Arc<AtomicUsize>,
}

/// The state of a module on the second engine.
struct Peak<M> {
    /// Set when the engine is done; `None` inside if it failed.
    module: OnceLock<Option<M>>,
    /// Makes the compilation begin at once.
    hurry: Sender<()>,
    /// Callbacks that get the serialized code when there is any, even if the module is dropped by then.
    wanted: Arc<Mutex<Vec<Keep>>>,
}

/// An instance on one of the two engines of a [`Tiered`] backend.
#[derive(Debug)]
pub enum TieredInstance<F, P> {
    /// On the engine that starts quickly.
    Fast(F),
    /// On the engine whose code runs quickly.
    Peak(P),
}

impl<F, P> Tiered<F, P> {
    /// Returns a backend that uses `fast` until `peak` has compiled.
    pub fn new(fast: F, peak: P) -> Self {
        let (compiler, jobs) = mpsc::channel::<Job>();
        let compile = move || jobs.into_iter().for_each(|job| job());
        let thread = thread::Builder::new().name("mistletoe tier".into()).spawn(compile);
        Self { fast, peak, compiler: thread.ok().map(|_| compiler), patience: None }
    }

    /// Switches engines at a fixed instance, so that tests are deterministic.
    ///
    /// The first `instances` instances of a module run on `fast`, even if `peak` is ready. Every later one waits for
    /// `peak`.
    pub fn after(self, instances: usize) -> Self {
        Self { patience: Some(instances), ..self }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<F: Backend, P: Backend> Backend for Tiered<F, P> {
    type Module = TieredModule<F, P>;
    type Instance = TieredInstance<F::Instance, P::Instance>;

    fn name(&self) -> &'static str {
        "tiered"
    }

    fn warning(&self) -> Option<String> {
        let alone = || self.compiler.is_none().then(|| format!("{} has no thread to compile in", self.peak.name()));
        self.fast.warning().or_else(|| self.peak.warning()).or_else(alone)
    }

    /// Returns what the first engine supports. If the second lacks a feature that a module uses, the first goes on.
    fn supports(&self, feature: Feature) -> bool {
        self.fast.supports(feature)
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<TieredModule<F, P>> {
        let fast = self.fast.compile(source, imports)?;
        let (hurry, hurried) = mpsc::channel();
        let peak = Arc::new(Peak { module: OnceLock::new(), hurry, wanted: Arc::default() });
        let begin = Instant::now() + GRACE;
        let (backend, owner, wanted) = (self.peak.clone(), Arc::downgrade(&peak), peak.wanted.clone());
        let (source, imports) = (source.clone().into_owned(), imports.to_vec());
        let job = move || {
            if hurried.recv_timeout(begin.saturating_duration_since(Instant::now()))
                == Err(RecvTimeoutError::Disconnected)
            {
                return;
            }
            // A panic of the engine is a failure as well: it must not leave callers waiting.
            let compile = AssertUnwindSafe(|| backend.compile(&source, &imports).ok());
            let compiled = catch_unwind(compile).unwrap_or_default();
            // Before the code is handed out: a later `serialize_later` checks that this is set.
            if let Some(peak) = owner.upgrade() {
                let _ = peak.module.set(compiled.clone());
            }
            // A callback may panic as well. The thread must go on, since other modules wait for it.
            let _ = catch_unwind(AssertUnwindSafe(|| hand_out(&backend, compiled.as_ref(), &wanted)));
        };
        if self.compiler.as_ref().is_none_or(|compiler| compiler.send(Box::new(job)).is_err()) {
            let _ = peak.module.set(None);
        }
        Ok(TieredModule { fast: Some(fast), peak, instances: Arc::default() })
    }

    fn instantiate(&self, module: &TieredModule<F, P>, data: StoreData) -> Result<Self::Instance> {
        let Some(fast) = &module.fast else {
            // Always set: the module was deserialized.
            let Some(peak) = module.peak.module.get().and_then(Option::as_ref) else {
                return Err(Error::engine(Operation::Instantiate, "a module of no engine"));
            };
            return self.peak.instantiate(peak, data).map(TieredInstance::Peak);
        };
        let peak = match self.patience {
            None => module.peak.module.get().and_then(Option::as_ref),
            Some(patience) if module.instances.fetch_add(1, Ordering::Relaxed) < patience => None,
            Some(_) => module.peak.wait(),
        };
        match peak {
            Some(peak) => self.peak.instantiate(peak, data).map(TieredInstance::Peak),
            None => self.fast.instantiate(fast, data).map(TieredInstance::Fast),
        }
    }

    /// Returns the key of the second engine, since only its code is cached.
    fn compatibility_key(&self) -> Option<String> {
        self.peak.compatibility_key().map(|key| format!("{} {key}", self.peak.name()))
    }

    /// Waits until the second engine has compiled.
    fn serialize(&self, module: &TieredModule<F, P>) -> Result<Vec<u8>> {
        match module.peak.wait() {
            Some(peak) => self.peak.serialize(peak),
            None => Err(Error::engine(Operation::Serialize, "the second engine has not compiled the module")),
        }
    }

    fn serialize_later(&self, module: &TieredModule<F, P>, keep: Keep) {
        module.peak.wanted.lock().unwrap_or_else(PoisonError::into_inner).push(keep);
        if module.peak.module.get().is_some() {
            hand_out(&self.peak, module.peak.module.get().and_then(Option::as_ref), &module.peak.wanted);
        }
    }

    /// Loads the second engine's module. The first engine is not needed.
    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<TieredModule<F, P>> {
        let peak = Peak {
            module: Some(self.peak.deserialize(artifact, imports)?).into(),
            hurry: mpsc::channel().0,
            wanted: Arc::default(),
        };
        Ok(TieredModule { fast: None, peak: Arc::new(peak), instances: Arc::default() })
    }
}

impl<M> Peak<M> {
    /// Waits for the second engine. Returns its module, or `None` if it failed.
    fn wait(&self) -> Option<&M> {
        // The send fails if the module is compiled already.
        let _ = self.hurry.send(());
        self.module.wait().as_ref()
    }
}

/// Passes serialized code to the callbacks. If the engine failed they are dropped uncalled: that is no cache error.
fn hand_out<P: Backend>(backend: &P, module: Option<&P::Module>, wanted: &Mutex<Vec<Keep>>) {
    let wanted = std::mem::take(&mut *wanted.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(module) = module {
        wanted.into_iter().for_each(|keep| keep(backend.serialize(module)));
    }
}

#[deny(clippy::missing_trait_methods)]
impl<F: Instance, P: Instance> Instance for TieredInstance<F, P> {
    type Func = TieredInstance<F::Func, P::Func>;

    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<Self::Func> {
        match self {
            Self::Fast(instance) => instance.get_func(name, ty).map(TieredInstance::Fast),
            Self::Peak(instance) => instance.get_func(name, ty).map(TieredInstance::Peak),
        }
    }

    fn call(&mut self, func: &Self::Func, slots: &mut [u64]) -> Result<()> {
        match (self, func) {
            (Self::Fast(instance), TieredInstance::Fast(func)) => instance.call(func, slots),
            (Self::Peak(instance), TieredInstance::Peak(func)) => instance.call(func, slots),
            // Unreachable from outside: the layer calls a function on the instance that resolved it.
            _ => Err(Error::engine(Operation::Call, "a function of another instance")),
        }
    }

    fn with_room<R>(call: impl FnOnce() -> R) -> Result<R> {
        F::with_room(|| P::with_room(call))?
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Fast(instance) => instance.memory_mut(),
            Self::Peak(instance) => instance.memory_mut(),
        }
    }

    fn memory(&self) -> &[u8] {
        match self {
            Self::Fast(instance) => instance.memory(),
            Self::Peak(instance) => instance.memory(),
        }
    }

    fn data(&self) -> &StoreData {
        match self {
            Self::Fast(instance) => instance.data(),
            Self::Peak(instance) => instance.data(),
        }
    }

    fn data_mut(&mut self) -> &mut StoreData {
        match self {
            Self::Fast(instance) => instance.data_mut(),
            Self::Peak(instance) => instance.data_mut(),
        }
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
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
        let is_ready = self.peak.module.get().is_some_and(Option::is_some);
        f.debug_struct("TieredModule").field("is_ready", &is_ready).finish_non_exhaustive()
    }
}

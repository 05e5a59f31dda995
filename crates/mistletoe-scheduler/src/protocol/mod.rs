//! The interface of the scheduler's plugins (kube-scheduler-wasm-extension), as a protocol of the layer.
//!
//! A guest exports functions without parameters, one for each extension point. Within them it asks the host for the pod,
//! the nodes and so on, in a buffer of its own: the result is the length, and the bytes are written if they fit. What
//! there is nothing of at that point is empty. Before it returns, the guest hands over its reason and its results. The
//! host sets the [cycle](State::set_cycle) that the calls of a session are about.
//!
//! The protocol has no waiting pods: a guest that asks for one is told that there is none.

mod call;
mod functions;
mod log;
mod result;
mod state;
mod status;

use std::fmt;
use std::sync::Arc;

use mistletoe_abi::guest::{Func, Guest};
use mistletoe_abi::protocol::{Check, ExportedFunc};
use mistletoe_abi::{Error, Imports, Instance, Limits, Operation, Protocol, Result};

use call::Type;

pub use call::{Call, Function};
pub(crate) use log::Log;
pub use log::{Event, Record, Reference, Severity};
pub use state::State;
pub use status::{Answer, ClusterEvent, Output, Status};

/// The protocol of the scheduler's plugins, with the host's settings.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use mistletoe_abi::{Backend, Imports, Limits, Program, Result};
/// use mistletoe_scheduler::protocol::{Answer, Call, KubeScheduler};
/// use mistletoe_scheduler::Cycle;
///
/// /// Asks a plugin about one node.
/// fn filter<B: Backend>(backend: &B, wasm: &[u8], cycle: Arc<Cycle>, node: &str) -> Result<Answer> {
///     let protocol = KubeScheduler::default().config("{}").log(|record| eprintln!("{record:?}"));
///     let plugin = Program::<_, B>::with_protocol(protocol, backend, wasm, &Imports::new(), Limits::default())?;
///     let mut session = plugin.session()?;
///     session.store_mut().set_cycle(Some(cycle));
///     session.call(Call::PreFilter)?;
///     session.call(Call::Filter(node))
/// }
/// ```
#[derive(Clone, Default)]
pub struct KubeScheduler {
    config: Arc<[u8]>,
    severity: Severity,
    log: Option<Log>,
}

impl KubeScheduler {
    /// Sets the guest's configuration, in a form that the guest defines. It is empty by default.
    #[must_use]
    pub fn config(self, config: impl AsRef<[u8]>) -> Self {
        Self { config: config.as_ref().into(), ..self }
    }

    /// Sets the lowest severity of messages that are logged; all are by default.
    #[must_use]
    pub fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    /// Sets where the guest's messages and events go. By default they are dropped.
    ///
    /// `log` is called on the thread that calls the guest.
    #[must_use]
    pub fn log(self, log: impl Fn(Record<'_>) + Send + Sync + 'static) -> Self {
        Self { log: Some(Arc::new(log)), ..self }
    }
}

/// A guest's functions, in the order of [`Function::ALL`].
pub struct Exports<F>([Export<F>; Function::ALL.len()]);

enum Export<F> {
    Missing,
    Nothing(Func<F, (), ()>),
    Status(Func<F, (), i32>),
    Pair(Func<F, (), u64>),
}

impl Protocol for KubeScheduler {
    type Exports<F: Send + Sync + 'static> = Exports<F>;
    type Store = State;
    type Request<'a> = Call<'a>;
    type Response<'a> = Answer;
    type Output = Answer;

    fn check(&self, exports: &mut Check<'_>) {
        Function::check(exports);
    }

    fn provide<T: Send + 'static>(&self, imports: &mut Imports<T>) {
        functions::provide(imports);
    }

    fn store(&self, limits: &Limits) -> State {
        State::new(self.clone(), limits)
    }

    fn resolve<I: Instance>(&self, guest: &mut Guest<I>) -> Result<Exports<I::Func>> {
        let mut exports = Function::ALL.map(|_| Export::Missing);
        for (function, export) in Function::ALL.into_iter().zip(&mut exports) {
            let name = function.name();
            if guest.interface().export(name).is_some() {
                *export = match function.ty() {
                    Type::Nothing => Export::Nothing(guest.resolve(&ExportedFunc::new(name))?),
                    Type::Status => Export::Status(guest.resolve(&ExportedFunc::new(name))?),
                    Type::Pair => Export::Pair(guest.resolve(&ExportedFunc::new(name))?),
                };
            }
        }
        Ok(Exports(exports))
    }

    fn call<I: Instance, R>(
        exports: &Exports<I::Func>,
        guest: &mut Guest<I>,
        call: Call<'_>,
        respond: impl FnOnce(Answer) -> R,
    ) -> Result<R> {
        let function = call.function();
        guest.store_mut::<State>().begin(&call);
        let result = match &exports.0[function as usize] {
            Export::Missing => {
                Err(Error::engine(Operation::Call, format!("the guest has no function `{}`", function.name())))
            }
            Export::Nothing(func) => guest.call(func, ()).map(|()| 0),
            Export::Status(func) => guest.call(func, ()).map(|status| u64::from(status.cast_unsigned())),
            Export::Pair(func) => guest.call(func, ()),
        };
        let state = guest.store_mut::<State>();
        state.end();
        Ok(respond(result::answer(&call, result?, state)))
    }
}

impl fmt::Debug for KubeScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeScheduler")
            .field("config", &self.config.len())
            .field("severity", &self.severity)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Exports<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = Function::ALL.into_iter().zip(&self.0);
        let functions =
            functions.filter(|(_, export)| !matches!(export, Export::Missing)).map(|(function, _)| function);
        f.debug_list().entries(functions).finish()
    }
}

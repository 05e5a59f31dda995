//! A plugin: a module with its settings, and its idle instances.

use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mistletoe_abi::{AnyBackend, AnyProgram, CancelHandle, Error, Limits, Result};
use mistletoe_wasi::Wasi;

use super::instance::Instance;
use crate::protocol::{Answer, Call, Function, KubeScheduler, Log, Record, Severity, Status};

/// The maximum length of what a failure has of a guest's output, in bytes.
const MAX_OUTPUT: usize = 1 << 10;
/// The maximum number of idle instances.
const MAX_IDLE: usize = 8;
/// The default limit on the time of a call.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What becomes of a request if a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The request fails.
    #[default]
    Fail,
    /// The request goes on without the plugin.
    Ignore,
}

/// The settings of a plugin.
#[derive(Clone)]
pub struct PluginOptions {
    name: Arc<str>,
    protocol: KubeScheduler,
    log: Option<Log>,
    limits: Limits,
    weight: u32,
    on_failure: OnFailure,
}

/// A plugin, which threads can share.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::{AnyBackend, Limits, Result};
/// use mistletoe_scheduler::{OnFailure, Plugin};
///
/// fn load(backend: &AnyBackend, wasm: &[u8]) -> Result<Plugin> {
///     Plugin::options("nodenumber").config(r#"{"reverse": true}"#).on_failure(OnFailure::Ignore).load(backend, wasm)
/// }
/// ```
pub struct Plugin {
    pub(super) name: Arc<str>,
    pub(super) weight: u32,
    pub(super) on_failure: OnFailure,
    backend: AnyBackend,
    program: AnyProgram<KubeScheduler, Wasi>,
    pub(super) is_fuel_counted: bool,
    /// Whether there is each [function](Function::ALL).
    functions: [bool; Function::ALL.len()],
    log: Option<Log>,
    /// The idle instances, and when each was last used. The latest is the last.
    idle: Mutex<Vec<(Instant, Instance)>>,
}

impl PluginOptions {
    /// Sets the plugin's configuration, in a form that the plugin defines. It is empty by default.
    #[must_use]
    pub fn config(self, config: impl AsRef<[u8]>) -> Self {
        Self { protocol: self.protocol.config(config), ..self }
    }

    /// Sets the weight of the plugin's scores; 1 by default.
    #[must_use]
    pub fn weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// Sets what becomes of a request if the plugin fails. By default, it fails.
    #[must_use]
    pub fn on_failure(self, on_failure: OnFailure) -> Self {
        Self { on_failure, ..self }
    }

    /// Sets the limits of each call. By default, these are those of [`Limits`], and a second of time.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets where the plugin's messages and events go, and what it writes to its standard output and error. By default
    /// they are dropped.
    #[must_use]
    pub fn log(self, severity: Severity, log: impl Fn(Record<'_>) + Clone + Send + Sync + 'static) -> Self {
        let protocol = self.protocol.severity(severity).log(log.clone());
        Self { protocol, log: Some(Arc::new(log)), ..self }
    }

    /// Compiles the plugin and makes a first instance.
    ///
    /// # Errors
    ///
    /// Those of [`AnyProgram::with_protocol`] and of [`AnyProgram::session_with`].
    pub fn load(self, backend: &AnyBackend, wasm: &[u8]) -> Result<Plugin> {
        let Self { name, protocol, log, limits, weight, on_failure } = self;
        let program = AnyProgram::with_protocol(protocol, backend, wasm, &mistletoe_wasi::imports(), limits)?;
        let functions = Function::ALL.map(|function| program.interface().export(function.name()).is_some());
        let is_fuel_counted = limits.fuel().is_some();
        let (backend, idle) = (backend.clone(), Mutex::default());
        let plugin = Plugin { name, weight, on_failure, backend, program, is_fuel_counted, functions, log, idle };
        let instance = plugin.open(&CancelHandle::new()).map_err(|(error, _)| error)?;
        plugin.close(instance);
        Ok(plugin)
    }
}

impl Plugin {
    /// Returns the settings of a plugin with this name.
    pub fn options(name: impl Into<Arc<str>>) -> PluginOptions {
        PluginOptions {
            name: name.into(),
            protocol: KubeScheduler::default(),
            log: None,
            limits: Limits::default().with_timeout(TIMEOUT),
            weight: 1,
            on_failure: OnFailure::default(),
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the plugin has a function.
    #[inline]
    pub fn has(&self, function: Function) -> bool {
        self.functions[function as usize]
    }

    /// Returns the number of idle instances.
    pub fn idle_instances(&self) -> usize {
        self.idle().len()
    }

    /// Returns an instance that nobody else uses, an idle one if there is one. If it does not start, the error comes with
    /// what it has written, which is logged, too.
    pub(super) fn open(&self, cancel: &CancelHandle) -> Result<Instance, (Error, String)> {
        if let Some((_, mut instance)) = self.idle().pop() {
            instance.set_cancel_handle(Some(cancel.clone()));
            return Ok(instance);
        }
        Instance::new(&self.program, &self.name, cancel).inspect_err(|(_, output)| self.log_lines(output))
    }

    /// Keeps an instance for later, if it can be used again.
    pub(super) fn close(&self, mut instance: Instance) {
        self.log_lines(&instance.take_output());
        instance.set_cycle(None);
        instance.set_cancel_handle(None);
        let mut idle = self.idle();
        if instance.is_usable() && idle.len() < MAX_IDLE {
            idle.push((Instant::now(), instance));
        }
    }

    /// Closes the idle instances whose last use ended before `time`.
    pub(super) fn prune(&self, time: Instant) {
        let mut idle = self.idle();
        let count = idle.partition_point(|(last_use, _)| *last_use < time);
        let closed: Vec<_> = idle.drain(..count).collect();
        // Closing takes a while.
        drop(idle);
        drop(closed);
    }

    /// Calls a function that the plugin has. Its failure is a status.
    ///
    /// Inlined with its caller: an answer is large, and each function that returns it copies it.
    #[inline(always)]
    pub(super) fn call(&self, instance: &mut Instance, call: Call<'_>) -> Result<Answer, Status> {
        match instance.call(call) {
            Ok(answer) => {
                if instance.has_output() {
                    self.log_lines(&instance.take_output());
                }
                Ok(answer)
            }
            Err(error) => Err(self.failed(instance, call, &error)),
        }
    }

    #[cold]
    fn failed(&self, instance: &mut Instance, call: Call<'_>, error: &Error) -> Status {
        let output = instance.take_output();
        self.log_lines(&output);
        failure(call.function().name(), &output, error)
    }

    /// Logs a failure that is ignored.
    pub(super) fn ignored(&self, node: Option<&str>, status: &Status) {
        if let Some(log) = &self.log {
            log(Record::Ignored { node, status });
        }
    }

    #[cold]
    fn log_lines(&self, output: &str) {
        if let Some(log) = &self.log {
            for text in output.lines() {
                log(Record::Message { severity: Severity::Info, text });
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Instance)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work`, which calls plugins for one node after the other, where all their engines have room for guests.
pub(super) fn with_room<R>(plugins: &[Plugin], work: impl FnOnce() -> R) -> R {
    fn run(plugins: &[Plugin], work: &mut dyn FnMut()) {
        match plugins.split_first() {
            Some((plugin, others)) => {
                // Without memory for a stack, each call fails by itself.
                if plugin.backend.with_room(|| run(others, work)).is_err() {
                    run(others, work);
                }
            }
            None => work(),
        }
    }
    let (mut work, mut result) = (Some(work), None);
    run(plugins, &mut || {
        if let Some(work) = work.take() {
            result = Some(work());
        }
    });
    match result {
        Some(result) => result,
        None => unreachable!("the work runs once"),
    }
}

/// Returns the status of a call that did not return.
pub(super) fn failure(function: &str, output: &str, error: &Error) -> Status {
    let mut reason = format!("wasm: {function} error: {}", &output[..output.floor_char_boundary(MAX_OUTPUT)]);
    if !output.is_empty() {
        reason.push_str(": ");
    }
    reason.push_str(&error.to_string());
    // A trap's source is the engine's own words.
    let mut source = error.source().filter(|_| error.as_trap().is_none());
    while let Some(error) = source {
        reason.push_str(&format!(": {error}"));
        source = error.source();
    }
    Status::error(reason)
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, weight, on_failure, .. } = self;
        f.debug_struct("Plugin")
            .field("name", name)
            .field("weight", weight)
            .field("on_failure", on_failure)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PluginOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, protocol, limits, weight, on_failure, .. } = self;
        f.debug_struct("PluginOptions")
            .field("name", name)
            .field("protocol", protocol)
            .field("limits", limits)
            .field("weight", weight)
            .field("on_failure", on_failure)
            .finish_non_exhaustive()
    }
}

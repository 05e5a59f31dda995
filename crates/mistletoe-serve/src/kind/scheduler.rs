//! Plugins of the Kubernetes scheduler, behind the webhook of a scheduler extender.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use mistletoe::AnyBackend;
use mistletoe_scheduler::extender::{self, Verb};
use mistletoe_scheduler::protocol::{Event, Record, Severity};
use mistletoe_scheduler::{Bounds, Plugin, Scheduler};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Call, Collected, Context, Kind, Responding, buffer, bytes_of, collect, permits};
use crate::body::Body;
use crate::budget::units;
use crate::config::{self, Pool, Problem};
use crate::failure::Failure;
use crate::log::Log;
use crate::metrics::{Instances, RouteMetrics};

/// Maximum length of a line in the log, in bytes. What is longer is several lines.
const MAX_LINE: usize = 8 << 10;
/// Maximum number of bytes that plugins may log for one request.
const MAX_LOG: usize = super::MAX_LOG as usize;

thread_local! {
    /// The request whose plugins run on this thread, and how many bytes they may still log.
    static REQUEST: RefCell<(Option<Arc<str>>, usize)> = const { RefCell::new((None, MAX_LOG)) };
}

struct Extender {
    context: Context,
    scheduler: Arc<Scheduler>,
    time: Duration,
    max_body: u64,
    max_output: u64,
    pool: Pool,
    /// A permit for each request that runs.
    running: Arc<Semaphore>,
    /// A permit for each request that runs, waits or is on its way.
    admission: Arc<Semaphore>,
    /// Room for the bodies that are held at once.
    bodies: Arc<Semaphore>,
}

/// Compiles the plugins of a route.
pub(crate) fn compile(
    context: &Context,
    config: &config::Scheduler,
    modules: Vec<(&config::Plugin, AnyBackend, Vec<u8>)>,
) -> Result<Arc<dyn Kind>, Problem> {
    let mut plugins = Vec::new();
    for (plugin, backend, wasm) in modules {
        let problem = |key: &str, message: String| Problem::of_plugin(&context.route, &plugin.name, key, message);
        let bytes = bytes_of(&plugin.config).map_err(|error| problem("config_file", error))?;
        let lines = Lines {
            log: context.log.clone(),
            metrics: context.metrics.clone(),
            route: context.name.clone(),
            plugin: plugin.name.as_str().into(),
        };
        let options = Plugin::options(plugin.name.as_str())
            .config(bytes)
            .weight(plugin.weight)
            .on_failure(plugin.on_failure)
            .limits(plugin.limits)
            .log(Severity::Info, move |record| lines.record(&record));
        let loaded = options.load(&backend, &wasm);
        plugins.push(loaded.map_err(|error| problem("module", format!("{}: {error}", plugin.module.display())))?);
    }
    let pool = config.pool;
    let requests = pool.size.saturating_add(pool.queue);
    let room = usize::try_from(units(config.max_body)).unwrap_or(usize::MAX);
    Ok(Arc::new(Extender {
        context: context.clone(),
        scheduler: Arc::new(Scheduler::new(plugins).keep(config.kept_cycles, config.keep_time).idle(pool.idle)),
        time: config.time(),
        max_body: config.max_body,
        max_output: config.max_output,
        pool,
        running: permits(pool.size),
        admission: permits(requests),
        bodies: permits(requests.saturating_mul(room)),
    }))
}

impl Kind for Extender {
    fn respond(self: Arc<Self>, call: Call) -> Responding {
        Box::pin(async move { self.run(call).await })
    }

    fn instances(&self) -> Option<Instances> {
        let limit = self.pool.size;
        let in_use = limit.saturating_sub(self.running.available_permits());
        let admitted = limit.saturating_add(self.pool.queue).saturating_sub(self.admission.available_permits());
        let waiting = admitted.saturating_sub(in_use);
        Some(Instances { in_use, idle: self.scheduler.kept_cycles(), waiting, limit })
    }

    fn prune(&self, now: Instant) {
        self.scheduler.prune(now);
    }
}

impl Extender {
    async fn run(&self, call: Call) -> Result<Response<Body>, Failure> {
        let bounds = Bounds::new(self.time);
        let end = bounds.end().map(tokio::time::Instant::from_std);
        let left = || end.map_or(Duration::MAX, |end| end.saturating_duration_since(tokio::time::Instant::now()));
        let verb = self.context.route.path.rest(call.request.uri().path()).and_then(|rest| rest.strip_prefix('/'));
        let verb = Verb::ALL.into_iter().find(|known| Some(known.name()) == verb).ok_or(Failure::NoRoute)?;
        let wait = self.pool.wait;

        let admission = self.admission.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
        let body = call.request.into_body();
        let Collected { bytes, room } = collect(body, self.max_body, &self.bodies, wait.min(left()), left()).await?;
        let permit = timeout(wait.min(left()), self.running.clone().acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(Failure::Busy)?;

        let guard = bounds.cancel_handle().clone().drop_guard();
        let (scheduler, max_output, id) = (self.scheduler.clone(), self.max_output, call.id);
        let responses = self.context.responses.clone();
        let (metrics, usage) = (self.context.metrics.clone(), call.usage);
        let running = self.context.threads.run(move || {
            // Until the plugins have ended, also if nobody waits for them any more.
            let _held = (permit, admission, room);
            let _request = OfRequest::new(id);
            let response = verb.respond(&scheduler, bytes.into(), &bounds, max_output);
            let used = bounds.used();
            metrics.memory(used.memory);
            if let Some(units) = used.fuel {
                metrics.fuel(units);
                usage.fuel(units);
            }
            let response = response.map_err(failure)?;
            let left = bounds.end().map_or(wait, |end| end.saturating_duration_since(Instant::now()));
            let body = buffer(response.body, &responses, wait.min(left))?;
            Ok::<_, Failure>((body, response.failure.map(|failure| Failure::Plugin(failure.to_string()))))
        });
        let result = running.await;
        guard.disarm();
        let (body, failure): (Bytes, _) = result??;
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(failure) = failure {
            response.extensions_mut().insert(failure);
        }
        Ok(response)
    }
}

fn failure(error: extender::Error) -> Failure {
    match error {
        extender::Error::Failure(failure) => Failure::Plugin(failure.to_string()),
        extender::Error::TooLong(_) => Failure::Output(error.to_string().into()),
        error => Failure::Document(error.to_string()),
    }
}

/// Names the request in the lines that plugins log on this thread, until this is dropped.
struct OfRequest;

impl OfRequest {
    fn new(id: Arc<str>) -> Self {
        REQUEST.set((Some(id), MAX_LOG));
        Self
    }
}

impl Drop for OfRequest {
    fn drop(&mut self) {
        REQUEST.set((None, MAX_LOG));
    }
}

/// What a plugin writes for people, as lines of the log.
#[derive(Clone)]
struct Lines {
    log: Log,
    metrics: Arc<RouteMetrics>,
    route: Arc<str>,
    plugin: Arc<str>,
}

impl Lines {
    fn record(&self, record: &Record<'_>) {
        match record {
            Record::Message { severity, text } => self.lines(&severity.to_string(), text),
            Record::Event(event) => {
                let level = if event.event_type == "Warning" { "warning" } else { "info" };
                self.lines(level, &described(event));
            }
            Record::Ignored { node, status } => {
                self.metrics.failure("ignored".into());
                let node = node.map(|node| format!("node {node}: ")).unwrap_or_default();
                // Whatever the plugin itself has written: there are few of these.
                let mut room = MAX_LOG;
                let text = format!("ignored: {node}{status}");
                REQUEST.with_borrow(|(request, _)| self.write("error", &text, request.as_deref(), &mut room));
            }
            _ => {}
        }
    }

    fn lines(&self, level: &str, text: &str) {
        REQUEST.with_borrow_mut(|(request, room)| self.write(level, text, request.as_deref(), room));
    }

    /// Writes lines while there is room, which an empty line takes, too.
    fn write(&self, level: &str, text: &str, request: Option<&str>, room: &mut usize) {
        for line in text.lines() {
            let mut rest = line;
            loop {
                let (now, later) = rest.split_at(rest.floor_char_boundary(MAX_LINE));
                let Some(left) = room.checked_sub(now.len() + 1) else { return };
                *room = left;
                self.log.entry("guest", |fields| {
                    fields.text("route", &self.route);
                    fields.text("plugin", &self.plugin);
                    fields.optional("request", request);
                    fields.text("level", level);
                    fields.text("line", now);
                });
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
        }
    }
}

/// Returns an event as one line.
fn described(event: &Event) -> String {
    let object =
        event.regarding.as_ref().map(|object| format!(" about {} {}/{}", object.kind, object.namespace, object.name));
    let Event { reason, action, note, .. } = event;
    format!("event {reason} ({action}){}: {note}", object.unwrap_or_default()).replace(['\n', '\r'], " ")
}

//! The service: finds a request's route, lets its guest respond, and can exchange all routes at once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
#[cfg(feature = "otel")]
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Context as TaskContext, Poll};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body as HttpBody;
use mistletoe::AnyBackend;

use crate::body::{Body, BoxError, Sender};
use crate::budget::{Budget, Share, UNIT};
use crate::config::{self, Config, Error, Guest, Handler, Listener, Problem, Route};
use crate::connection::Ambiguous;
use crate::failure::Failure;
use crate::files;
use crate::headers::is_chunked;
use crate::kind::{self, Call, Context, Kind, Responding};
use crate::log::Log;
use crate::metrics::{HandlerStatus, Metrics, MiddlewareStatus, RouteStatus};
#[cfg(feature = "otel")]
use crate::otel::Spans;
use crate::record::{self, REQUEST_ID, Record, Recorded, Usage};
use crate::route::Table;
use crate::threads::Threads;
use crate::trace::Span;

/// Maximum length of a module, in bytes.
const MAX_MODULE: u64 = 256 << 20;

/// Where modules and engines come from.
pub trait Source: Send + Sync + 'static {
    /// Reads a module, in the binary format.
    ///
    /// # Errors
    ///
    /// Any, as a text for the user that names the path.
    fn module(&self, path: &Path) -> Result<Vec<u8>, BoxError>;

    /// Starts an engine; the first one that is compiled in, if there is no name.
    ///
    /// # Errors
    ///
    /// As [`mistletoe::backend()`].
    fn backend(&self, name: Option<&str>) -> mistletoe::Result<AnyBackend>;
}

/// The usual [`Source`]: modules are regular files, of at most 256 MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files;

impl Files {
    /// Reads a module. Waits for no writer of a pipe, whatever the path names by then.
    ///
    /// # Errors
    ///
    /// The errors of reading, and one for anything but a regular file of at most 256 MiB.
    pub fn read(self, path: &Path) -> io::Result<Vec<u8>> {
        files::read(path, MAX_MODULE)
    }
}

impl Source for Files {
    fn module(&self, path: &Path) -> Result<Vec<u8>, BoxError> {
        self.read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()).into())
    }

    fn backend(&self, name: Option<&str>) -> mistletoe::Result<AnyBackend> {
        mistletoe::backend(name.unwrap_or_else(|| mistletoe::default_backend().name()))
    }
}

/// Address of a request's client. A server sets it as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct RemoteAddr(pub SocketAddr);

/// A `tower::Service` whose responses are made by WebAssembly guests.
///
/// It needs tokio, and has threads of its own for guests. Cloning is cheap; clones are the same service. It is always
/// ready: a request that has to wait for an instance waits in its future, within the route's limits.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    state: RwLock<Arc<State>>,
    /// One reload after the other.
    reloading: Mutex<()>,
    source: Arc<dyn Source>,
    shared: Arc<Shared>,
    /// Whether a thread still compiles. It holds a clone.
    compiling: Mutex<Weak<()>>,
    #[cfg(feature = "otel")]
    spans: OnceLock<Spans>,
}

/// What all routes share, also over a reload.
struct Shared {
    log: Log,
    metrics: Arc<Metrics>,
    /// Requests under way.
    requests: Budget,
    /// Memory for responses.
    responses: Budget,
    threads: Threads,
}

/// The routes between two reloads. The handlers of a route end with the last request that they respond to.
struct State {
    table: Table,
    routes: Vec<Served>,
    listener: Listener,
    admin: Option<SocketAddr>,
}

/// A route, and what responds to its requests.
struct Served {
    context: Context,
    /// The middleware in its order, and then the handler.
    stages: Vec<Stage>,
    requests: Share,
}

/// Middleware, or the handler.
struct Stage {
    name: Option<String>,
    engine: Option<&'static str>,
    /// The file of the module, or the upstream.
    target: Option<String>,
    compile_seconds: f64,
    kind: Arc<dyn Kind>,
}

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reload {
    /// Number of routes now.
    pub routes: usize,
    /// Whether the listeners' settings differ from those at the start. A reload does not change listeners.
    pub listeners_differ: bool,
}

impl Service {
    /// Compiles the modules of a configuration. This takes as long as the engines take: seconds, for large modules.
    ///
    /// An engine that compiles cannot be interrupted. So this happens on a thread of its own, which ends by itself even
    /// where nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// All problems of the modules, engines and directories, and one if they take longer than
    /// [`compile_timeout`](Config::compile_timeout). One problem if the system gives it no thread for guests.
    pub fn new(config: &Config, source: impl Source, log: Log) -> Result<Self, Error> {
        let Listener { max_requests, response_memory, .. } = config.listener;
        let shared = Arc::new(Shared {
            log,
            metrics: Arc::new(Metrics::new()),
            requests: Budget::new(max_requests),
            responses: Budget::new(usize::try_from(response_memory.div_ceil(UNIT)).unwrap_or(usize::MAX)),
            threads: Threads::new().map_err(|error| Problem::new(format!("no thread for guests: {error}")))?,
        });
        let (source, compiling): (Arc<dyn Source>, _) = (Arc::new(source), Mutex::default());
        let state = State::load_in_time(config, &source, &shared, &compiling)?;
        Ok(Self(Arc::new(Inner {
            state: RwLock::new(Arc::new(state)),
            reloading: Mutex::new(()),
            source,
            shared,
            compiling,
            #[cfg(feature = "otel")]
            spans: OnceLock::new(),
        })))
    }

    /// Exports a span of each request from now on. The first destination stays.
    #[cfg(feature = "otel")]
    #[cfg_attr(docsrs, doc(cfg(feature = "otel")))]
    pub fn export_spans(&self, spans: Spans) {
        let _ = self.0.spans.set(spans);
    }

    /// Waits until no guest runs, for at most `time`. Returns whether that is so. This blocks.
    ///
    /// Guests that are cancelled take some milliseconds to end. A program that ends before they do may lose what they log.
    pub fn wait_for_guests(&self, time: Duration) -> bool {
        self.0.shared.threads.wait(time)
    }

    /// Returns the number of spans that were lost, if they are exported.
    fn lost_spans(&self) -> Option<u64> {
        #[cfg(feature = "otel")]
        let lost = self.0.spans.get().map(Spans::lost);
        #[cfg(not(feature = "otel"))]
        let lost = None;
        lost
    }

    /// Returns whether spans are exported.
    fn exports(&self) -> bool {
        self.lost_spans().is_some()
    }

    /// Compiles the modules of another configuration, and then exchanges all routes at once.
    ///
    /// Requests under way end on the routes that they began on. This blocks as [`Service::new`] does.
    ///
    /// # Errors
    ///
    /// As [`Service::new`], and one problem if modules of an earlier reload that took too long still compile. The routes
    /// are then unchanged.
    pub fn reload(&self, config: &Config) -> Result<Reload, Error> {
        let _one = self.0.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { source, shared, compiling, .. } = &*self.0;
        let state = State::load_in_time(config, source, shared, compiling).inspect_err(|_| {
            self.failed_reload();
            self.forget_others();
        })?;
        let (reload, old) = {
            let mut current = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
            let listeners_differ = current.listener != state.listener || current.admin != state.admin;
            let reload = Reload { routes: state.routes.len(), listeners_differ };
            // What the listeners do is what they were bound with.
            let (listener, admin) = (current.listener.clone(), current.admin);
            (reload, mem::replace(&mut *current, Arc::new(State { listener, admin, ..state })))
        };
        // It takes time to free instances and code. Requests do not wait for it.
        drop(old);
        self.forget_others();
        shared.metrics.reloads.fetch_add(1, Ordering::Relaxed);
        Ok(reload)
    }

    /// Forgets the numbers of all routes but those there are.
    fn forget_others(&self) {
        let state = self.state();
        self.0.shared.metrics.retain(|name| state.routes.iter().any(|route| *route.context.name == *name));
    }

    /// Counts a reload whose configuration could not be read.
    pub fn failed_reload(&self) {
        self.0.shared.metrics.failed_reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let Shared { log, metrics, .. } = &*self.0.shared;
        metrics.prometheus(&self.statuses(), log.dropped(), self.lost_spans())
    }

    /// Returns the state of the service as a JSON object, which `docs/serve.md` describes.
    pub fn status(&self) -> String {
        self.0.shared.metrics.status(&self.statuses())
    }

    pub(crate) fn numbers(&self) -> &Arc<Metrics> {
        &self.0.shared.metrics
    }

    /// Records what a client sent that did not become a request.
    pub(crate) fn refused(&self, remote: SocketAddr, failure: &Failure) {
        let Shared { log, metrics, .. } = &*self.0.shared;
        record::refused(log, metrics, remote, failure);
    }

    /// Returns the number of guests that run now.
    pub fn running(&self) -> usize {
        let state = self.state();
        let guests = state.routes.iter().flat_map(|route| &route.stages).filter(|stage| stage.engine.is_some());
        guests.filter_map(|stage| stage.kind.instances()).map(|instances| instances.in_use).sum()
    }

    /// Closes the reused instances that have been idle for longer than their route's
    /// [`idle`](crate::config::Pool::idle), as of `now`.
    ///
    /// A [`Server`](crate::Server) does so every 8 seconds. A program with a server of its own calls this at an interval.
    /// It blocks for as long as the engine takes to free the instances.
    pub fn prune(&self, now: Instant) {
        for stage in self.state().routes.iter().flat_map(|route| &route.stages) {
            stage.kind.prune(now);
        }
    }

    fn state(&self) -> Arc<State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn statuses(&self) -> Vec<RouteStatus> {
        let handler = |stage: &Stage| HandlerStatus {
            engine: stage.engine,
            target: stage.target.clone(),
            instances: stage.kind.instances(),
            compile_seconds: stage.compile_seconds,
        };
        let status = |route: &Served| {
            let (requests, failures) = route.context.metrics.totals();
            let (last, middleware) = route.stages.split_last()?;
            let middleware = middleware
                .iter()
                .filter_map(|stage| Some(MiddlewareStatus { name: stage.name.clone()?, handler: handler(stage) }));
            Some(RouteStatus {
                name: route.context.name.to_string(),
                kind: route.context.route.handler.kind(),
                handler: handler(last),
                middleware: middleware.collect(),
                requests,
                failures,
                metrics: route.context.metrics.clone(),
            })
        };
        self.state().routes.iter().filter_map(status).collect()
    }

    /// Responds to a request of this client.
    ///
    /// The future is small, since it is moved before it is polled. That of an `async fn` would hold the request twice.
    pub(crate) fn respond(
        &self,
        mut request: Request<Body>,
        remote: Option<SocketAddr>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let state = self.state();
        let (log, metrics) = (self.0.shared.log.clone(), self.0.shared.metrics.clone());
        let host = host(&request).unwrap_or_default();
        let usage = Arc::default();
        let span = Span::of(request.headers_mut(), self.exports());
        let mut record = Record::new(&request, remote, host, span, log, metrics);
        #[cfg(feature = "otel")]
        if let Some(spans) = self.0.spans.get() {
            record.export(spans, &usage);
        }
        let mut request = Some(request);
        let responding = state.begin(&mut request, remote, usage, &mut record);
        let unread = request.map(Request::into_body);
        async move {
            // Not earlier: a body that nobody reads ends the connection, unless all of it has come by then.
            drop(unread);
            let result = match responding {
                Ok(responding) => responding.await,
                Err(failure) => Err(failure),
            };
            finish(record, result)
        }
    }
}

/// Makes the response to a request, which takes its record with it.
fn finish(mut record: Box<Record>, result: Result<Response<Body>, Failure>) -> Response<Body> {
    let is_head = record.method == Method::HEAD;
    let is_failure = result.is_err();
    let mut response = match result {
        Ok(mut response) => {
            if let Some(failure) = response.extensions_mut().remove::<Failure>() {
                record.failure(failure);
            }
            response
        }
        Err(failure) => {
            let mut response = failure.response(record.show_errors);
            // Who sends one malformed request may send another one in its body.
            if matches!(failure, Failure::Request(_)) && record.version < Version::HTTP_2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            record.sent(if is_head { 0 } else { response.body().size_hint().lower() });
            record.failure(failure);
            response
        }
    };
    record.status(response.status());
    if let Ok(id) = HeaderValue::from_str(&record.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if is_head {
        let (mut parts, body) = response.into_parts();
        // The length that a GET would have had, if it is known.
        if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
            parts.headers.entry(CONTENT_LENGTH).or_insert(length.into());
        }
        response = Response::from_parts(parts, Body::empty());
    }
    // A failure is a short text. What is kept of the request does not wait until the client reads it.
    if is_failure {
        return response;
    }
    response.map(|body| Body::new(Recorded::new(body, record)))
}

impl<B> tower_service::Service<Request<B>> for Service
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let remote = request.extensions().get::<RemoteAddr>().map(|RemoteAddr(address)| *address);
        let response = self.respond(request.map(Body::new), remote);
        Box::pin(async move { Ok(response.await) })
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("routes", &self.state().routes.len()).finish_non_exhaustive()
    }
}

impl State {
    /// Loads a configuration on a thread of its own, and waits as long as it allows.
    fn load_in_time(
        config: &Config,
        source: &Arc<dyn Source>,
        shared: &Arc<Shared>,
        compiling: &Mutex<Weak<()>>,
    ) -> Result<Self, Error> {
        let mut compiling = compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // Each thread that is left behind takes a processor and memory.
        if compiling.strong_count() > 0 {
            return Err(Problem::new("modules of an earlier reload still compile").into());
        }
        let own = Arc::new(());
        *compiling = Arc::downgrade(&own);
        let (sender, receiver) = mpsc::channel();
        let load = {
            let (config, source, shared) = (config.clone(), source.clone(), shared.clone());
            move || {
                let state = Self::load(&config, &*source, &shared);
                // Before the end of this reload is known, so that it does not hold up the next one.
                drop(own);
                // If nobody waits for it, the state ends here.
                let _ = sender.send(state);
            }
        };
        let spawned = thread::Builder::new().name("compile".to_owned()).spawn(load);
        spawned.map_err(|error| Problem::new(format!("no thread to compile on: {error}")))?;
        let time = config.compile_timeout;
        receiver.recv_timeout(time).map_err(|error| {
            Problem::in_server(
                "compile_timeout",
                match error {
                    RecvTimeoutError::Timeout => format!("the modules take longer than {time:?} to read and compile"),
                    RecvTimeoutError::Disconnected => "the thread that compiles the modules ended".to_owned(),
                },
            )
        })?
    }

    fn load(config: &Config, source: &dyn Source, shared: &Shared) -> Result<Self, Error> {
        let mut engines = BTreeMap::new();
        let mut problems = Vec::new();
        let mut routes = Vec::new();
        for route in &config.routes {
            match Served::load(route, config.routes.len(), &mut engines, source, shared) {
                Ok(served) => routes.push(served),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(Error::new(problems));
        }
        let (listener, admin) = (config.listener.clone(), config.admin);
        Ok(Self { table: Table::new(&config.routes), routes, listener, admin })
    }

    /// Finds the route of a request, and lets it respond, unless it has too many requests. Leaves the request if it fails.
    fn begin(
        &self,
        unread: &mut Option<Request<Body>>,
        remote: Option<SocketAddr>,
        usage: Arc<Usage>,
        record: &mut Record,
    ) -> Result<Responding, Failure> {
        let Some(request) = unread else { return Err(Failure::NoRoute) };
        framing(request)?;
        // What comes after this server may see another one of several than this server does.
        let has_several = request.headers().get_all(HOST).iter().nth(1).is_some();
        if has_several || (record.host.is_empty() && request.version() == Version::HTTP_11) {
            return Err(Failure::Request("the request does not name one host"));
        }
        let route = self.table.find(&record.host, request.uri().path(), request.method())?;
        let Served { context, stages, requests } = self.routes.get(route).ok_or(Failure::NoRoute)?;
        let Stage { kind, .. } = stages.first().ok_or(Failure::NoRoute)?;
        record.route(&context.name, &context.metrics, context.route.show_errors);
        #[cfg(feature = "otel")]
        record.served(&context.route, stages.last().and_then(|stage| stage.engine));
        record.admit(requests.try_acquire(1).ok_or(Failure::Crowded)?);
        // Before any of the body is asked for.
        let limit = context.route.max_body();
        if request.body().size_hint().lower() > limit {
            return Err(Failure::TooLarge);
        }
        let Some(request) = unread.take() else { return Err(Failure::NoRoute) };
        let request = request.map(|body| body.guarded(limit, context.route.body_timeout, Sender::Client));
        Ok(kind.clone().respond(Call { request, remote, id: record.id.clone(), usage }))
    }
}

impl Served {
    fn load(
        route: &Route,
        routes: usize,
        engines: &mut BTreeMap<Option<String>, AnyBackend>,
        source: &dyn Source,
        shared: &Shared,
    ) -> Result<Self, Problem> {
        let name: Arc<str> = route.name.as_str().into();
        let context = Context {
            route: Arc::new(route.clone()),
            metrics: shared.metrics.route(&name),
            name,
            log: shared.log.clone(),
            responses: shared.responses.share(routes),
            threads: shared.threads.clone(),
        };
        let last = match &route.handler {
            Handler::Scheduler(scheduler) => Some(Stage::plugins(&context, scheduler, engines, source)?),
            handler => kind::without_module(&context).map(|kind| Stage::without_module(handler, kind)),
        };
        let mut stages: Vec<_> = last.into_iter().collect();
        let guests: Vec<_> = route.guests().collect();
        for guest in guests.into_iter().rev() {
            let next = stages.last().map(|stage| stage.kind.clone());
            stages.push(Stage::load(&context, guest, next, engines, source)?);
        }
        stages.reverse();
        Ok(Self { context, stages, requests: shared.requests.share(routes) })
    }
}

impl Stage {
    fn load(
        context: &Context,
        guest: &Guest,
        next: Option<Arc<dyn Kind>>,
        engines: &mut BTreeMap<Option<String>, AnyBackend>,
        source: &dyn Source,
    ) -> Result<Self, Problem> {
        let problem = |key: &str, message: String| Problem::of_guest(&context.route, guest, key, message);
        let backend = engine(&guest.engine, engines, source).map_err(|error| problem("engine", error.to_string()))?;
        let wasm = source.module(&guest.module).map_err(|error| problem("module", error.to_string()))?;
        let begun = Instant::now();
        let kind = kind::compile(context, guest, next, &backend, &wasm)?;
        Ok(Self {
            name: guest.name.clone(),
            engine: Some(backend.name()),
            target: Some(guest.module.display().to_string()),
            compile_seconds: begun.elapsed().as_secs_f64(),
            kind,
        })
    }

    fn plugins(
        context: &Context,
        scheduler: &config::Scheduler,
        engines: &mut BTreeMap<Option<String>, AnyBackend>,
        source: &dyn Source,
    ) -> Result<Self, Problem> {
        let mut modules = Vec::new();
        for plugin in &scheduler.plugins {
            let problem = |key: &str, message: String| Problem::of_plugin(&context.route, &plugin.name, key, message);
            let backend =
                engine(&plugin.engine, engines, source).map_err(|error| problem("engine", error.to_string()))?;
            let wasm = source.module(&plugin.module).map_err(|error| problem("module", error.to_string()))?;
            modules.push((plugin, backend, wasm));
        }
        let begun = Instant::now();
        let names: Vec<_> = scheduler.plugins.iter().map(|plugin| plugin.module.display().to_string()).collect();
        let engine = modules.first().map(|(_, backend, _)| backend.name());
        let kind = kind::compile_plugins(context, scheduler, modules)?;
        let compile_seconds = begun.elapsed().as_secs_f64();
        Ok(Self { name: None, engine, target: Some(names.join(", ")), compile_seconds, kind })
    }

    fn without_module(handler: &Handler, kind: Arc<dyn Kind>) -> Self {
        let target = match handler {
            Handler::Upstream(upstream) => Some(format!("http://{}", upstream.authority)),
            _ => None,
        };
        Self { name: None, engine: None, target, compile_seconds: 0.0, kind }
    }
}

/// Returns an engine, and starts it if it is the first module on it.
fn engine(
    name: &Option<String>,
    engines: &mut BTreeMap<Option<String>, AnyBackend>,
    source: &dyn Source,
) -> mistletoe::Result<AnyBackend> {
    if let Some(backend) = engines.get(name) {
        return Ok(backend.clone());
    }
    let backend = source.backend(name.as_deref())?;
    engines.insert(name.clone(), backend.clone());
    Ok(backend)
}

/// Checks that a request's body has one meaning: its length is given, or it is chunked and not encoded otherwise.
fn framing<B>(request: &Request<B>) -> Result<(), Failure> {
    if request.extensions().get::<Ambiguous>().is_some() {
        return Err(Failure::Request("the head has both Content-Length and Transfer-Encoding, or a line without CRLF"));
    }
    is_chunked(request.headers()).map(drop).ok_or(Failure::Request("the transfer coding is not `chunked` alone"))
}

/// Returns the host that a request names, in lower case and without a port; nothing if it names none, or several.
fn host<B>(request: &Request<B>) -> Option<String> {
    let mut headers = request.headers().get_all(HOST).iter();
    let header = match (headers.next(), headers.next()) {
        (_, Some(_)) => return None,
        (header, None) => header.and_then(|value| value.to_str().ok()),
    };
    let authority = request.uri().authority().map(|authority| authority.as_str()).or(header)?;
    let (_, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
    Some(kind::split_port(authority).0.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One module is a command, and all others are garbage.
    struct Modules;

    impl Source for Modules {
        fn module(&self, path: &Path) -> Result<Vec<u8>, BoxError> {
            let command = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
            Ok(if path.ends_with("good") { wat::parse_str(command)? } else { b"garbage".to_vec() })
        }

        fn backend(&self, name: Option<&str>) -> mistletoe::Result<AnyBackend> {
            Files.backend(name)
        }
    }

    #[test]
    fn a_failed_reload_leaves_no_numbers() {
        let config = |name: &str| {
            let text = format!("[[route]]\npath = '/{name}'\nmodule = '{name}'\nkind = 'command'");
            Config::parse(&text, Path::new("")).expect("a configuration")
        };
        let service = Service::new(&config("good"), Modules, Log::default()).expect("a service");
        assert!(service.reload(&config("bad")).is_err());
        let metrics = format!("{:?}", service.0.shared.metrics);
        assert!(metrics.contains("/good") && !metrics.contains("/bad"), "{metrics}");
    }
}

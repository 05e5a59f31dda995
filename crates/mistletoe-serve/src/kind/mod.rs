//! The kinds of routes: how a request becomes a guest's input, and its output a response. One file each.

mod cgi;
mod command;
mod exchange;
mod httpwasm;
mod middleware;
mod package;
mod queue;
mod response;
mod scheduler;
mod upstream;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use mistletoe::protocol::Protocol;
use mistletoe::wasi::{self, Access, Builder, Clock, OutputStream, Random, Wasi};
use mistletoe::{AnyBackend, AnyProgram, AnyProgramSession, CancelHandle, ErrorKind, Pool, PooledSession, Reused};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::body::Body;
use crate::budget::{Share, Units, units};
use crate::config::{self, Dir, Guest, GuestConfig, Handler, MAX_FILE, Problem, Route};
use crate::failure::{Failure, guest_kind};
use crate::files;
use crate::log::{GuestLog, Log};
use crate::metrics::{Instances, RouteMetrics};
use crate::record::Usage;
use crate::threads::Threads;

pub(crate) use cgi::split_port;
use queue::{Permit, Queue, Turn};
pub(crate) use scheduler::compile as compile_plugins;

/// Maximum number of bytes that a guest may log for one request, for each of its streams.
const MAX_LOG: u64 = 1 << 20;

/// A request on its way to a guest.
pub(crate) struct Call {
    pub(crate) request: Request<Body>,
    /// Address of the client, if known.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) id: Arc<str>,
    pub(crate) usage: Arc<Usage>,
}

pub(crate) type Responding = Pin<Box<dyn Future<Output = Result<Response<Body>, Failure>> + Send>>;

/// What responds to the requests of a route, or of the middleware before it.
pub(crate) trait Kind: Send + Sync {
    /// Responds to a request. Dropping the future, or else the response's body, cancels all guests of the request.
    ///
    /// If a failure was turned into a response, the [`Failure`] is an extension of it.
    fn respond(self: Arc<Self>, call: Call) -> Responding;

    /// Returns the instances now, if there is a limit on their number.
    fn instances(&self) -> Option<Instances>;

    /// Closes the instances that have been idle for too long by now.
    fn prune(&self, now: Instant);
}

/// What a kind gets of its route.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) route: Arc<Route>,
    pub(crate) name: Arc<str>,
    pub(crate) metrics: Arc<RouteMetrics>,
    pub(crate) log: Log,
    /// Room for responses until their clients have read them.
    pub(crate) responses: Share,
    pub(crate) threads: Threads,
}

/// Compiles the module of a guest. Middleware passes requests on to `next`.
pub(crate) fn compile(
    context: &Context,
    guest: &Guest,
    next: Option<Arc<dyn Kind>>,
    backend: &AnyBackend,
    wasm: &[u8],
) -> Result<Arc<dyn Kind>, Problem> {
    let problem = |key: &str, message: String| Problem::of_guest(&context.route, guest, key, message);
    for Dir { host, guest, writable } in &guest.dirs {
        grant(Wasi::builder(), host, guest, *writable)
            .map_err(|error| problem("dirs", format!("{}: {error}", host.display())))?;
    }
    let (context, guest) = (context.clone(), Arc::new(guest.clone()));
    let kind: mistletoe::Result<Arc<dyn Kind>> = match guest.kind {
        config::Kind::Httpwasm => httpwasm::new(context, guest.clone(), backend, wasm),
        config::Kind::HttpWasm => {
            let config = bytes_of(&guest.config).map_err(|error| problem("config_file", error))?;
            let next = next.unwrap_or_else(|| Arc::new(response::NotFound));
            middleware::new(context, guest.clone(), &config, next, backend, wasm)
        }
        config::Kind::Command => command::new(context, guest.clone(), backend, wasm),
        config::Kind::Package => package::new(context, guest.clone(), backend, wasm),
    };
    kind.map_err(|error| problem("module", format!("{}: {error}", guest.module.display())))
}

/// Returns what responds to the requests of a route without a module; nothing for a guest.
pub(crate) fn without_module(context: &Context) -> Option<Arc<dyn Kind>> {
    match &context.route.handler {
        Handler::Guest(_) | Handler::Scheduler(_) => None,
        Handler::Response(fixed) => Some(Arc::new(response::Fixed(fixed.clone()))),
        Handler::Upstream(upstream) => Some(upstream::new(context, upstream.clone())),
    }
}

fn bytes_of(config: &GuestConfig) -> Result<Bytes, String> {
    let file = match config {
        GuestConfig::Bytes(bytes) => return Ok(bytes.clone()),
        GuestConfig::File(file) => file,
    };
    let read = files::read(file, MAX_FILE).map(bytes::Bytes::from);
    read.map_err(|error| format!("{} cannot be read: {error}", file.display()))
}

/// A compiled module, and the instances that respond to requests.
struct Guests<P: Protocol> {
    context: Context,
    guest: Arc<Guest>,
    /// Name of middleware.
    name: Option<Arc<str>>,
    /// Whether the guest sees anything of what it gets through WASI.
    has_wasi: bool,
    /// Empty if the module does not import WASI.
    dirs: Arc<[Dir]>,
    /// Sessions that are not to be used again are discarded after use.
    pool: Pool<AnyProgram<P, Wasi>, Reused>,
    /// Requests that wait for an instance.
    queue: Arc<Queue<P>>,
    /// A permit for each request that runs or waits.
    admission: Arc<Semaphore>,
    /// Room for the bodies that are held at once.
    bodies: Arc<Semaphore>,
}

/// A whole body, which takes room until it is dropped.
struct Collected {
    bytes: Bytes,
    /// `None` if there is not a byte.
    room: Option<OwnedSemaphorePermit>,
}

/// A response or a part of one, which takes room until it is dropped.
struct Buffered {
    bytes: Vec<u8>,
    _room: Units,
}

impl AsRef<[u8]> for Buffered {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

type Session<P> = AnyProgramSession<P, Wasi>;

/// How a guest is cancelled, and why it was.
#[derive(Clone)]
struct Ending {
    handle: CancelHandle,
    why: Arc<Why>,
}

/// Why a guest was cancelled, and where its end is counted.
struct Why {
    failure: Mutex<Option<Failure>>,
    metrics: Arc<RouteMetrics>,
    usage: Arc<Usage>,
}

impl Ending {
    fn new(metrics: &Arc<RouteMetrics>, usage: &Arc<Usage>) -> Self {
        let why = Why { failure: Mutex::default(), metrics: metrics.clone(), usage: usage.clone() };
        Self { handle: CancelHandle::new(), why: Arc::new(why) }
    }

    /// Cancels the guest, for this reason unless there is another one already.
    fn fail(&self, failure: Failure) {
        let mut first = self.failure();
        if first.is_none() {
            if !failure.is_counted() {
                self.why.metrics.failure(failure.kind());
            }
            *first = Some(Failure::Ended(Box::new(failure)));
        }
        drop(first);
        self.handle.cancel();
    }

    /// Counts how a guest failed. Nobody waits for a guest whose client has left, so that this is done where it ends.
    fn count(&self, error: &mistletoe::Error) {
        // What made the server cancel the guest is counted in its place.
        if !(matches!(error.kind(), ErrorKind::Cancelled { .. }) && self.failure().is_some()) {
            self.why.metrics.failure(guest_kind(error));
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.why.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that may run now.
struct Admitted<P: Protocol> {
    permit: Permit<P>,
    reuse: bool,
    admission: OwnedSemaphorePermit,
}

impl<P: Protocol> Guests<P> {
    fn new(
        context: Context,
        guest: Arc<Guest>,
        protocol: P,
        backend: &AnyBackend,
        wasm: &[u8],
    ) -> mistletoe::Result<Self> {
        let imports = wasi::imports::<Wasi>();
        let program = AnyProgram::with_protocol(protocol, backend, wasm, &imports, guest.limits)?;
        let config::Pool { size, queue, .. } = guest.pool;
        let pool = Pool::new(&program, size).reused();
        let requests = size.saturating_add(queue);
        let units = usize::try_from(units(guest.limits.max_input())).unwrap_or(usize::MAX);
        let (admission, bodies) = (permits(requests), permits(requests.saturating_mul(units)));
        let name = guest.name.as_deref().map(Arc::from);
        let has_wasi = program.interface().imports.iter().any(|import| import.module == wasi::MODULE);
        let dirs = if has_wasi { guest.dirs.iter().cloned().collect() } else { Arc::default() };
        let queue = Queue::new(&pool, &context.threads);
        Ok(Self { context, guest, name, has_wasi, dirs, queue, pool, admission, bodies })
    }

    fn instances(&self) -> Option<Instances> {
        let Self { pool, queue, .. } = self;
        Some(Instances { in_use: pool.in_use(), idle: pool.idle(), waiting: queue.len(), limit: pool.limit() })
    }

    fn prune(&self, now: Instant) {
        if let Some(time) = now.checked_sub(self.guest.pool.idle) {
            self.pool.prune(time);
        }
    }

    /// Reads the whole body, of at most the route's limit. Waits for room for it first.
    ///
    /// A body takes no instance of this guest while it is on its way, but those of the middleware before. So it has no
    /// more time than the guest has.
    fn collect(&self, body: Body) -> impl Future<Output = Result<Collected, Failure>> + Send {
        let (limit, wait) = (self.guest.limits.max_input(), self.guest.pool.wait);
        collect(body, limit, &self.bodies, wait, self.timeout())
    }

    /// Runs a guest on a thread for guests. If the future is dropped, the guest is cancelled.
    fn run<R: Send + 'static>(
        &self,
        usage: &Arc<Usage>,
        wasi: Option<Box<Builder>>,
        call: impl FnOnce(&mut Session<P>) -> mistletoe::Result<R> + Send + 'static,
    ) -> impl Future<Output = Result<R, Failure>> + Send {
        let ending = Ending::new(&self.context.metrics, usage);
        let guard = ending.handle.clone().drop_guard();
        let dirs = self.dirs.clone();
        let result = self.with_instance(move |admitted| called(admitted, granted(wasi, &dirs)?, ending, call));
        async move {
            let result = result.await?;
            // It has ended. To cancel it now would cost a system call.
            guard.disarm();
            result
        }
    }

    /// Does work with an instance on a thread for guests, unless too many requests wait already.
    ///
    /// It has its place among them from this call on. What the work captures is large, and a future of an `async fn` would
    /// hold it several times.
    fn with_instance<R: Send + 'static>(
        &self,
        work: impl FnOnce(Admitted<P>) -> R + Send + 'static,
    ) -> impl Future<Output = Result<R, Failure>> + Send {
        let admission = self.admission.clone().try_acquire_owned();
        let config::Pool { wait, reuse, .. } = self.guest.pool;
        let result =
            admission.map(|admission| self.queue.run(wait, move |permit| work(Admitted { permit, reuse, admission })));
        async move { result.map_err(|_| Failure::Busy)?.await }
    }

    /// Waits for room for a whole response. This blocks, so call it on the guest's thread: until there is room, the guest
    /// keeps its instance, and no further one produces another response.
    fn buffer(&self, bytes: Vec<u8>) -> Result<Bytes, Failure> {
        buffer(bytes, &self.context.responses, self.guest.pool.wait)
    }

    /// Returns what every guest of the route gets for a request, with these variables, without a standard output and
    /// without its directories, which [`granted`] opens; nothing if the guest would not see it.
    fn wasi<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        id: &Arc<str>,
        variables: impl FnOnce() -> Vec<(N, V)>,
    ) -> Option<Box<Builder>> {
        if !self.has_wasi {
            return None;
        }
        let (guest, variables) = (&self.guest, variables());
        let log = || OutputStream::limited_stream(self.log(id), MAX_LOG);
        // Of two variables with one name, some guests would see the first and some the last.
        let own = guest.env.iter().filter(|(name, _)| !variables.iter().any(|(other, _)| other.as_ref() == *name));
        let mut builder = Wasi::builder()
            .stdout(log())
            .stderr(log())
            .env(own.map(|(name, value)| (name.as_str(), value.as_str())))
            .env(variables.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
        // Packages give the same output for the same input.
        if guest.kind != config::Kind::Package {
            builder = builder.clock(Clock::System).random(Random::System);
        }
        // It goes from one future and one thread to the next, and is large.
        Some(Box::new(builder))
    }

    /// Returns a writer of the guest's lines for a request.
    fn log(&self, id: &Arc<str>) -> GuestLog {
        self.context.log.of_guest(&self.context.name, self.name.as_ref(), Some(id))
    }

    fn timeout(&self) -> Duration {
        self.guest.limits.timeout().unwrap_or(Duration::MAX)
    }
}

/// Waits for room for a body of at most `limit` bytes, and reads it.
async fn collect(
    body: Body,
    limit: u64,
    bodies: &Arc<Semaphore>,
    wait: Duration,
    time: Duration,
) -> Result<Collected, Failure> {
    if body.is_end_stream() {
        return Ok(Collected { bytes: Bytes::new(), room: None });
    }
    let length = body.size_hint().exact().unwrap_or(limit).min(limit);
    let room = timeout(wait, bodies.clone().acquire_many_owned(units(length))).await;
    let room = room.ok().and_then(Result::ok).ok_or(Failure::Busy)?;
    let bytes = timeout(time, body.collect(limit)).await.map_err(|_| Failure::SlowBody)??;
    Ok(Collected { bytes, room: Some(room) })
}

/// Waits for room for a whole response. This blocks.
fn buffer(mut bytes: Vec<u8>, responses: &Share, wait: Duration) -> Result<Bytes, Failure> {
    if bytes.is_empty() {
        return Ok(Bytes::new());
    }
    bytes.shrink_to_fit();
    let units = units(bytes.len() as u64);
    let room = match responses.try_acquire(units) {
        Some(room) => room,
        None => {
            let acquire = async { timeout(wait, responses.acquire(units)).await };
            let room = Handle::current().block_on(acquire);
            room.ok().and_then(Result::ok).ok_or(Failure::Full)?
        }
    };
    Ok(Bytes::from_owner(Buffered { bytes, _room: room }))
}

/// Opens a session and calls its guest. This blocks.
fn called<P: Protocol, R>(
    admitted: Admitted<P>,
    wasi: Option<Wasi>,
    ending: Ending,
    call: impl FnOnce(&mut Session<P>) -> mistletoe::Result<R>,
) -> Result<R, Failure> {
    let mut instance = Instance::open(admitted, wasi, ending)?;
    let result = call(instance.session());
    instance.count(&result);
    instance.close();
    Ok(result?)
}

/// An instance that a request has for itself. One that is dropped before it is closed is not used again.
struct Instance<P: Protocol> {
    /// `Some` until this is closed.
    session: Option<PooledSession<AnyProgram<P, Wasi>, Reused>>,
    ending: Ending,
    reuse: bool,
    has_wasi: bool,
    _admission: OwnedSemaphorePermit,
    /// Dropped last: the permit is free by then, and the next work begins.
    turn: Option<Turn<P>>,
}

impl<P: Protocol> Instance<P> {
    /// Opens a session. This blocks, as calls do.
    fn open(admitted: Admitted<P>, wasi: Option<Wasi>, ending: Ending) -> mistletoe::Result<Self> {
        let Admitted { permit, reuse, admission } = admitted;
        let has_wasi = wasi.is_some();
        let session = match wasi {
            Some(wasi) => permit.session_with_state(wasi, &ending.handle),
            None => permit.session_with_cancel(&ending.handle),
        };
        let session = session.inspect_err(|error| ending.count(error))?;
        Ok(Self { session: Some(session), ending, reuse, has_wasi, _admission: admission, turn: None })
    }

    fn session(&mut self) -> &mut Session<P> {
        match &mut self.session {
            Some(session) => session,
            None => unreachable!("an instance that was closed"),
        }
    }

    /// Keeps the instance when the work that got it ends.
    fn keep(&mut self, queue: &Arc<Queue<P>>) {
        self.turn = Some(Turn::new(queue));
    }

    /// Counts what the latest call has used, and how it failed.
    fn count<R>(&mut self, result: &mistletoe::Result<R>) {
        if let Err(error) = result {
            self.ending.count(error);
        }
        if let Ok(Some(units)) = self.session().fuel_used() {
            self.ending.why.metrics.fuel(units);
            self.ending.why.usage.fuel(units);
        }
        let memory = self.session().memory_size();
        self.ending.why.metrics.memory(memory);
    }

    /// Gives the instance back.
    fn close(mut self) {
        if let Some(mut session) = self.session.take() {
            if !self.reuse {
                session.discard();
            } else if self.has_wasi {
                // Closes the streams of this request.
                *session.state_mut() = Wasi::default();
            }
        }
    }
}

impl<P: Protocol> Drop for Instance<P> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.discard();
        }
    }
}

/// Returns a semaphore. More permits than one can have are a panic.
fn permits(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
}

fn grant(builder: Builder, host: &std::path::Path, guest: &str, writable: bool) -> std::io::Result<Builder> {
    builder.dir(host, guest, if writable { Access::ReadWrite } else { Access::ReadOnly })
}

/// Opens the directories that a guest may use. This blocks for as long as their file system does, and takes
/// descriptors: call it on the guest's thread, when the guest may run.
fn granted(wasi: Option<Box<Builder>>, dirs: &[Dir]) -> Result<Option<Wasi>, Failure> {
    let Some(builder) = wasi else { return Ok(None) };
    let all = dirs.iter().try_fold(*builder, |builder, Dir { host, guest, writable }| {
        grant(builder, host, guest, *writable)
            .map_err(|error| Failure::Host(format!("{} cannot be granted: {error}", host.display())))
    });
    all.map(|builder| Some(builder.build()))
}

/// Returns whether a response with this status has no body.
pub(crate) fn is_without_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RESET_CONTENT)
}

/// Returns the host that a request names, with its port: the URI's, or else the header's.
pub(crate) fn authority(parts: &Parts) -> &str {
    let header = || parts.headers.get(HOST).and_then(|value| value.to_str().ok());
    parts.uri.authority().map(|authority| authority.as_str()).or_else(header).unwrap_or_default()
}

/// Returns the time of a response's end, if that can be represented.
fn deadline(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

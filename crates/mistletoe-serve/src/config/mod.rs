//! The configuration of a server: a TOML file, checked whole before anything starts.

mod file;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, uri::Authority};
use mistletoe::protocol::httpwasm::Delimiter;
use mistletoe::wasi::{self, Wasi};
use mistletoe::{AnyCommand, AnyHandler, AnyMiddleware, AnyPackage, Limits, module};
pub use mistletoe_scheduler::OnFailure;

use crate::route::Pattern;

/// The JSON schema of a configuration (draft 2020-12), for editors. The server itself checks more than it can say.
pub const SCHEMA: &str = include_str!("schema.json");
/// Maximum length of a configuration, in bytes.
pub const MAX_FILE: u64 = 1 << 20;
/// Maximum number of routes.
pub const MAX_ROUTES: usize = 1_000;
/// Maximum number of guests that may run at once, over all routes. Each of them takes a thread.
pub const MAX_GUESTS: usize = 4_096;
/// Maximum number of plugins of a scheduler's route.
pub const MAX_PLUGINS: usize = 100;
/// Maximum length of a request's body by default, in bytes.
const MAX_BODY: u64 = 1 << 20;
/// Number of concurrent requests to an upstream by default.
const UPSTREAM_REQUESTS: usize = 100;
/// Maximum length of a request's body for a scheduler's plugins by default, in bytes: some thousands of nodes.
const SCHEDULER_BODY: u64 = 32 << 20;
/// Number of a scheduler's requests that wait by default. A scheduler sends one after the other.
const SCHEDULER_QUEUE: usize = 8;
/// How long a scheduler waits for its extender by default.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// Default of [`Config::compile_timeout`].
const COMPILE_TIMEOUT: Duration = Duration::from_secs(60);

/// The configuration of a server. `docs/serve.md` lists the keys of the file, their values and defaults.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The listener and what it accepts.
    pub listener: Listener,
    /// Address of the administration's listener, if there is one.
    pub admin: Option<SocketAddr>,
    /// How long all modules may take to compile, at the start and at a reload.
    pub compile_timeout: Duration,
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
}

/// The listener, and what it accepts from clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// The address. Port 0 is a free port that the system chooses.
    pub address: SocketAddr,
    /// Maximum number of open connections. Further ones wait to be accepted.
    pub max_connections: usize,
    /// Maximum length of a request's head, in bytes; at least 8 KiB.
    pub max_header_bytes: u32,
    /// Maximum number of a request's header fields. HTTP/2 limits their length alone.
    pub max_headers: usize,
    /// Maximum number of concurrent requests of an HTTP/2 connection.
    pub max_streams: u32,
    /// How long a request's head may take, and how long a connection may be idle. A connection of HTTP/2 on which nothing
    /// comes for so long gets a ping, and has as long to respond to it.
    pub header_timeout: Duration,
    /// How long a client may take to accept any part of a response.
    pub write_timeout: Duration,
    /// Whether HTTP/1.1 connections serve more than one request.
    pub keep_alive: bool,
    /// How long requests may go on after the server was told to stop.
    pub grace: Duration,
    /// Maximum number of requests under way, of all connections. Where there are several routes, one of them may have
    /// half of it.
    pub max_requests: usize,
    /// Memory for responses of guests until their clients have read them, in bytes. Where there are several routes, one
    /// of them may have half of it.
    pub response_memory: u64,
}

/// A route: which requests it takes, the middleware that they pass, and what responds to them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Route {
    /// Name in logs and metrics. Unique.
    pub name: String,
    /// The paths.
    pub path: Pattern,
    /// The host, in lower case and without a port; `None` for all.
    pub host: Option<String>,
    /// The methods; empty for all.
    pub methods: Vec<Method>,
    /// Guests of the kind [`Kind::HttpWasm`], in the order in which a request passes them. A response passes them in
    /// the reverse order.
    pub middleware: Vec<Guest>,
    /// What responds to the requests that pass the middleware.
    pub handler: Handler,
    /// Whether responses to failures have the kind of the error in a header.
    pub show_errors: bool,
    /// How long a client, or an upstream, may take to send any part of a body.
    pub body_timeout: Duration,
    /// Line of the route in its file, counted from 1; 0 if there is no file.
    pub line: usize,
}

/// What responds to the requests of a route.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "there is one for each route")]
pub enum Handler {
    /// A guest.
    Guest(Guest),
    /// The same response for every request.
    Response(FixedResponse),
    /// Another server.
    Upstream(Upstream),
    /// Plugins of the Kubernetes scheduler.
    Scheduler(Scheduler),
}

/// Plugins of the Kubernetes scheduler, behind the webhook of a scheduler extender.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scheduler {
    /// The plugins, in order.
    pub plugins: Vec<Plugin>,
    /// How long the scheduler waits for a response: its extender's `httpTimeout`.
    pub http_timeout: Duration,
    /// Number of pods whose instances are kept between `filter` and `prioritize` or `preempt`.
    pub kept_cycles: usize,
    /// How long they are kept.
    pub keep_time: Duration,
    /// Maximum length of a request's body, in bytes.
    pub max_body: u64,
    /// Maximum length of a response's body, in bytes.
    pub max_output: u64,
    /// Number of concurrent requests, each of which has an instance of each plugin. `reuse` has no meaning: instances are
    /// always used again.
    pub pool: Pool,
}

/// A plugin of the Kubernetes scheduler.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plugin {
    /// Name in logs and responses: the module's file name without its extension, with a number if the route has another
    /// one of that name.
    pub name: String,
    /// File of the module, or a reference to it that the [`Source`](crate::Source) reads.
    pub module: PathBuf,
    /// Name of the engine; `None` for the first one that is compiled in.
    pub engine: Option<String>,
    /// Configuration of the plugin, in a form that the plugin defines.
    pub config: GuestConfig,
    /// Weight of its scores, 1 or more.
    pub weight: u32,
    /// What becomes of a request if the plugin fails.
    pub on_failure: OnFailure,
    /// Limits of each call. The one on outputs is that of what the plugin hands over in a call.
    pub limits: Limits,
}

/// A module, and what its instances get.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Guest {
    /// Name of middleware in logs and metrics: the module's file name without its extension, with a number if the route
    /// has another one of that name. `None` for the guest that responds.
    pub name: Option<String>,
    /// File of the module, or a reference to it that the [`Source`](crate::Source) reads.
    pub module: PathBuf,
    /// The interface of the module.
    pub kind: Kind,
    /// Name of the engine; `None` for the first one that is compiled in.
    pub engine: Option<String>,
    /// Configuration of a guest of the kind [`Kind::HttpWasm`], in a form that the guest defines.
    pub config: GuestConfig,
    /// Arguments of a command, after its name.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Granted directories.
    pub dirs: Vec<Dir>,
    /// What ends a record of a plugin's input.
    pub delimiter: Delimiter,
    /// Media type of a plugin's responses; `None` depends on whether a response is UTF-8.
    pub content_type: Option<HeaderValue>,
    /// Limits of an instance. There is always one on time. The one on inputs is the limit of a request's body.
    pub limits: Limits,
    /// Number of instances, and their use.
    pub pool: Pool,
}

/// The configuration of a guest: bytes that it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuestConfig {
    /// The bytes.
    Bytes(Bytes),
    /// A file, of at most [`MAX_FILE`] bytes. A reload reads it again.
    File(PathBuf),
}

/// No bytes.
impl Default for GuestConfig {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

/// The same response for every request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FixedResponse {
    /// The status, from 200 to 599.
    pub status: StatusCode,
    /// The header fields, without those that belong to the connection.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Maximum length of a request's body, in bytes. Only middleware reads it.
    pub max_body: u64,
}

/// A server that gets the requests of a route, over HTTP/1.1 without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upstream {
    /// Host and port.
    pub authority: Authority,
    /// How long the upstream may take to begin its response.
    pub timeout: Duration,
    /// Maximum length of a request's body, in bytes.
    pub max_body: u64,
    /// Maximum length of a response's body, in bytes.
    pub max_output: u64,
    /// Number of concurrent requests. `reuse` has no meaning.
    pub pool: Pool,
}

/// The interface of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A plugin of the httpwasm interface.
    Httpwasm,
    /// Middleware of the http-wasm interface.
    HttpWasm,
    /// A WASI command, which is a CGI program.
    Command,
    /// A package: a YAML document in, a YAML document out.
    Package,
}

/// A directory that guests may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir {
    /// The directory.
    pub host: PathBuf,
    /// Its name for the guest.
    pub guest: String,
    /// Whether the guest may change what is in it.
    pub writable: bool,
}

/// Instances of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Maximum number of guests that run at once, 1 or more.
    pub size: usize,
    /// Maximum number of requests that wait for an instance.
    pub queue: usize,
    /// How long a request waits for an instance.
    pub wait: Duration,
    /// Whether instances respond to more than one request.
    pub reuse: bool,
    /// How long a reused instance may be idle before it is closed.
    pub idle: Duration,
}

/// Why a configuration cannot be used: at least one problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    file: Option<PathBuf>,
    problems: Vec<Problem>,
}

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The line, counted from 1, if known.
    pub line: Option<usize>,
    /// The key, if known.
    pub key: Option<String>,
    /// The problem.
    pub message: String,
}

impl Config {
    /// Reads and checks a file. Paths in it are relative to its directory.
    ///
    /// # Errors
    ///
    /// A problem for the file if it cannot be read or is longer than [`MAX_FILE`], and the problems of
    /// [`Config::parse`].
    pub fn read(file: &Path) -> Result<Self, Error> {
        let in_file = |mut error: Error| {
            error.file = Some(file.to_owned());
            error
        };
        let read = || String::from_utf8(crate::files::read(file, MAX_FILE)?).map_err(std::io::Error::other);
        let text = read().map_err(|error| in_file(Problem::new(format!("it cannot be read: {error}")).into()))?;
        Self::parse(&text, file.parent().unwrap_or(Path::new(""))).map_err(in_file)
    }

    /// Parses and checks a text. Paths in it are relative to `directory`.
    ///
    /// # Errors
    ///
    /// The first problem of the syntax, or else all problems of the values. A module is checked when a
    /// [`Service`](crate::Service) is made of the configuration.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Error> {
        file::parse(text, directory)
    }

    /// Returns the configuration of one module that responds to every path, with all defaults.
    pub fn of_module(module: impl Into<PathBuf>, kind: Kind) -> Self {
        let route = Route::new(Pattern::default(), Handler::Guest(Guest::new(module, kind)));
        Self::of_route(route)
    }

    /// Returns the configuration of a scheduler's plugins at `/scheduler/...`, with all defaults. All of them have the
    /// same configuration.
    pub fn of_plugins(modules: impl IntoIterator<Item = PathBuf>, config: &GuestConfig) -> Self {
        let mut scheduler = Scheduler::default();
        for module in modules {
            let plugin = scheduler.plugin(module);
            scheduler.plugins.push(Plugin { config: config.clone(), ..plugin });
        }
        let path = Pattern::parse("/scheduler/...").unwrap_or_default();
        Self::of_route(Route::new(path, Handler::Scheduler(scheduler)))
    }

    fn of_route(route: Route) -> Self {
        Self { listener: Listener::default(), admin: None, compile_timeout: COMPILE_TIMEOUT, routes: vec![route] }
    }

    /// Returns the files that the configuration names: all modules, and the guests' configurations.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let guests = self.routes.iter().flat_map(|route| {
            let guests = route.guests().map(|guest| (guest.module.as_path(), &guest.config));
            guests.chain(route.plugins().iter().map(|plugin| (plugin.module.as_path(), &plugin.config)))
        });
        guests.flat_map(|(module, config)| {
            let config = match config {
                GuestConfig::File(file) => Some(file.as_path()),
                GuestConfig::Bytes(_) => None,
            };
            std::iter::once(module).chain(config)
        })
    }
}

impl Route {
    fn new(path: Pattern, handler: Handler) -> Self {
        Self {
            name: path.as_str().to_owned(),
            path,
            host: None,
            methods: handler.methods(),
            middleware: Vec::new(),
            handler,
            show_errors: false,
            body_timeout: Duration::from_secs(10),
            line: 0,
        }
    }

    /// Returns the guests, in the order in which a request passes them.
    pub fn guests(&self) -> impl Iterator<Item = &Guest> {
        let last = match &self.handler {
            Handler::Guest(guest) => Some(guest),
            _ => None,
        };
        self.middleware.iter().chain(last)
    }

    /// Returns the plugins of a scheduler, in order.
    pub fn plugins(&self) -> &[Plugin] {
        match &self.handler {
            Handler::Scheduler(scheduler) => &scheduler.plugins,
            _ => &[],
        }
    }

    /// Returns the maximum length of a request's body, in bytes.
    pub fn max_body(&self) -> u64 {
        match &self.handler {
            Handler::Guest(guest) => guest.limits.max_input(),
            Handler::Response(response) => response.max_body,
            Handler::Upstream(upstream) => upstream.max_body,
            Handler::Scheduler(scheduler) => scheduler.max_body,
        }
    }
}

impl Handler {
    /// Returns the methods of a route that names none; empty for all.
    fn methods(&self) -> Vec<Method> {
        match self {
            Self::Guest(Guest { kind: Kind::Package, .. }) | Self::Scheduler(_) => vec![Method::POST],
            _ => Vec::new(),
        }
    }

    /// Returns how long its response may take to its end where nobody gets the body. A guest has a limit of its own on
    /// this; an upstream might send a byte at a time for hours.
    pub(crate) fn drain_time(&self) -> Duration {
        match self {
            Self::Guest(_) | Self::Response(_) | Self::Scheduler(_) => Duration::MAX,
            Self::Upstream(upstream) => upstream.timeout,
        }
    }

    /// Returns the instances of a guest, or the requests to an upstream.
    pub fn pool(&self) -> Option<&Pool> {
        match self {
            Self::Guest(guest) => Some(&guest.pool),
            Self::Response(_) => None,
            Self::Upstream(upstream) => Some(&upstream.pool),
            Self::Scheduler(scheduler) => Some(&scheduler.pool),
        }
    }

    /// Returns the name of its kind in configurations.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Guest(guest) => guest.kind.name(),
            Self::Response(_) => "response",
            Self::Upstream(_) => "upstream",
            Self::Scheduler(_) => "scheduler",
        }
    }
}

impl Guest {
    fn new(module: impl Into<PathBuf>, kind: Kind) -> Self {
        Self {
            name: None,
            module: module.into(),
            kind,
            engine: None,
            config: GuestConfig::Bytes(Bytes::new()),
            args: Vec::new(),
            env: BTreeMap::new(),
            dirs: Vec::new(),
            delimiter: Delimiter::default(),
            content_type: None,
            limits: Limits::default().with_max_input(MAX_BODY),
            pool: Pool::default(),
        }
    }
}

impl Scheduler {
    /// Returns the time of a request from its head to its response: the scheduler's less a fifth, in which the response
    /// is on its way.
    pub fn time(&self) -> Duration {
        self.http_timeout - self.http_timeout / 5
    }

    /// Returns a further plugin with all defaults.
    fn plugin(&self, module: PathBuf) -> Plugin {
        let others = self.plugins.iter().map(|plugin| &plugin.module);
        Plugin {
            name: name(&module, others),
            module,
            engine: None,
            config: GuestConfig::default(),
            weight: 1,
            on_failure: OnFailure::default(),
            // A plugin that hangs leaves time for the others, if its failures are ignored.
            limits: Limits::default().with_timeout(self.time() / 4),
        }
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            plugins: Vec::new(),
            http_timeout: HTTP_TIMEOUT,
            kept_cycles: 4,
            keep_time: Duration::from_secs(30),
            max_body: SCHEDULER_BODY,
            max_output: Limits::default().max_output(),
            pool: Pool { queue: SCHEDULER_QUEUE, ..Pool::default() },
        }
    }
}

/// Returns the name of a module among others of its route.
fn name<'a>(module: &Path, others: impl Iterator<Item = &'a PathBuf>) -> String {
    let stem = module.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match others.filter(|other| other.file_stem() == module.file_stem()).count() {
        0 => stem,
        others => format!("{stem}-{}", others + 1),
    }
}

impl Kind {
    /// Returns the interface that a module implements, with WASI preview 1 as its host functions. Of several it is the
    /// first of package, httpwasm, http-wasm and command.
    pub fn of(wasm: &[u8]) -> Option<Self> {
        let interface = module::inspect(wasm).interface;
        let imports = wasi::imports::<Wasi>();
        if AnyPackage::problems(&interface, &imports).is_empty() {
            Some(Self::Package)
        } else if AnyHandler::problems(&interface, &imports).is_empty() {
            Some(Self::Httpwasm)
        } else if AnyMiddleware::problems(&interface, &imports).is_empty() {
            Some(Self::HttpWasm)
        } else if AnyCommand::problems(&interface, &imports).is_empty() {
            Some(Self::Command)
        } else {
            None
        }
    }

    /// Returns the name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Httpwasm => "httpwasm",
            Self::HttpWasm => "http-wasm",
            Self::Command => "command",
            Self::Package => "package",
        }
    }
}

impl Default for FixedResponse {
    fn default() -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::new(), max_body: MAX_BODY }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            max_connections: 1_024,
            max_header_bytes: 64 << 10,
            max_headers: 100,
            max_streams: 100,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            keep_alive: true,
            grace: Duration::from_secs(10),
            max_requests: 4_096,
            response_memory: 256 << 20,
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        let size = available_parallelism().map_or(1, NonZero::get);
        Self { size, queue: 100, wait: Duration::from_secs(1), reuse: false, idle: Duration::from_secs(60) }
    }
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { line: None, key: None, message: message.into() }
    }

    pub(crate) fn in_server(key: &str, message: String) -> Self {
        Self { line: None, key: Some(format!("server, {key}")), message }
    }

    pub(crate) fn of(route: &Route, key: &str, message: impl Into<String>) -> Self {
        let line = Some(route.line).filter(|line| *line > 0);
        Self { line, key: Some(format!("route `{}`, {key}", route.name)), message: message.into() }
    }

    pub(crate) fn of_guest(route: &Route, guest: &Guest, key: &str, message: impl Into<String>) -> Self {
        match &guest.name {
            Some(name) => Self::of(route, &format!("middleware `{name}`, {key}"), message),
            None => Self::of(route, key, message),
        }
    }
}

impl Problem {
    pub(crate) fn of_plugin(route: &Route, plugin: &str, key: &str, message: impl Into<String>) -> Self {
        Self::of(route, &format!("plugin `{plugin}`, {key}"), message)
    }
}

impl Error {
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self { file: None, problems }
    }

    /// Returns the same error for a configuration from this file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Returns the problems, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::new(vec![problem])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// One line for each problem.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match &self.file {
                Some(file) => write!(f, "{}: {problem}", file.display())?,
                None => problem.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;

//! The file of a configuration: its keys, and how they become a [`Config`].

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mistletoe::Limits;
use serde::Deserialize;
use toml::Spanned;

use super::value::{
    Fuel, GuestBytes, Headers, Host, MediaType, Methods, RecordEnd, Size, SizeOrNone, Stack, Status, Time, Url,
};
use super::{
    COMPILE_TIMEOUT, Config, Dir, Error, FixedResponse, Guest, GuestConfig, Handler, Kind, Listener, MAX_BODY,
    MAX_FILE, MAX_GUESTS, MAX_PLUGINS, MAX_ROUTES, OnFailure, Pool, Problem, Route, Scheduler, UPSTREAM_REQUESTS,
    Upstream, name as name_of,
};
use crate::budget;
use crate::kind::is_without_body;
use crate::route::{self, Pattern};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    server: ServerTable,
    admin: Option<AdminTable>,
    engine: Option<String>,
    #[serde(default)]
    route: Vec<Spanned<RouteTable>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerTable {
    listen: Option<SocketAddr>,
    max_connections: Option<usize>,
    max_header_bytes: Option<Size>,
    max_headers: Option<usize>,
    max_streams: Option<u32>,
    header_timeout: Option<Time>,
    write_timeout: Option<Time>,
    keep_alive: Option<bool>,
    grace: Option<Time>,
    max_requests: Option<usize>,
    response_memory: Option<Size>,
    compile_timeout: Option<Time>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdminTable {
    listen: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteTable {
    path: Pattern,
    kind: RouteKind,
    module: Option<String>,
    response: Option<ResponseTable>,
    url: Option<Url>,
    plugins: Option<Vec<PluginTable>>,
    http_timeout: Option<Time>,
    kept_cycles: Option<usize>,
    keep_time: Option<Time>,
    #[serde(default)]
    middleware: Vec<MiddlewareTable>,
    name: Option<String>,
    host: Option<Host>,
    methods: Option<Methods>,
    engine: Option<String>,
    config: Option<GuestBytes>,
    config_file: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    dirs: Vec<DirTable>,
    delimiter: Option<RecordEnd>,
    content_type: Option<MediaType>,
    #[serde(default)]
    show_errors: bool,
    body_timeout: Option<Time>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    pool: PoolTable,
}

/// What responds: the interface of a module, or no module at all.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RouteKind {
    Httpwasm,
    HttpWasm,
    Command,
    Package,
    Response,
    Upstream,
    Scheduler,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MiddlewareTable {
    module: String,
    engine: Option<String>,
    config: Option<GuestBytes>,
    config_file: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    dirs: Vec<DirTable>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    pool: PoolTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginTable {
    module: String,
    engine: Option<String>,
    config: Option<GuestBytes>,
    config_file: Option<String>,
    weight: Option<u32>,
    on_failure: Option<FailureKey>,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FailureKey {
    Fail,
    Ignore,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResponseTable {
    status: Option<Status>,
    headers: Option<Headers>,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DirTable {
    host: String,
    guest: String,
    #[serde(default)]
    writable: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    timeout: Option<Time>,
    memory: Option<SizeOrNone>,
    fuel: Option<Fuel>,
    stack: Option<Stack>,
    body: Option<Size>,
    output: Option<Size>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolTable {
    size: Option<usize>,
    queue: Option<usize>,
    wait: Option<Time>,
    reuse: Option<bool>,
    idle: Option<Time>,
}

pub(super) fn parse(text: &str, directory: &Path) -> Result<Config, Error> {
    if text.len() as u64 > MAX_FILE {
        return Err(Problem::new(format!("it is longer than {} MiB", MAX_FILE >> 20)).into());
    }
    let line = |offset: usize| text.get(..offset).map(|before| before.matches('\n').count() + 1);
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().and_then(|span| line(span.start));
        Problem { line, key: line.and_then(|line| key(text, line)), message: error.message().to_owned() }
    })?;
    let mut problems = Vec::new();
    let compile_timeout = file.server.compile_timeout.as_ref().map_or(COMPILE_TIMEOUT, |Time(time)| *time);
    let listener = listener(file.server, &mut problems);
    match file.route.len() {
        0 => problems.push(Problem::new("it has no `[[route]]`")),
        1..=MAX_ROUTES => {}
        count => problems.push(Problem::new(format!("it has {count} routes, more than {MAX_ROUTES}"))),
    }
    let routes: Vec<Route> = file
        .route
        .into_iter()
        .take(MAX_ROUTES)
        .map(|table| {
            let line = line(table.span().start).unwrap_or_default();
            table.into_inner().route(line, file.engine.as_deref(), directory, &mut problems)
        })
        .collect();
    let scheduler = |route: &Route| match &route.handler {
        Handler::Scheduler(scheduler) => scheduler.pool.size,
        _ => 0,
    };
    let sizes = routes.iter().flat_map(Route::guests).map(|guest| guest.pool.size).chain(routes.iter().map(scheduler));
    let guests = sizes.fold(0usize, usize::saturating_add);
    if guests > MAX_GUESTS {
        problems.push(Problem::new(format!("the pools have {guests} instances together, more than {MAX_GUESTS}")));
    }
    let room = budget::share(usize::try_from(listener.response_memory).unwrap_or(usize::MAX), routes.len()) as u64;
    for route in &routes {
        // What of a response is in memory as a whole: all output but that of commands.
        let whole = |guest: &&Guest| guest.kind != Kind::Command;
        for guest in route.guests().filter(whole).filter(|guest| guest.limits.max_output() > room) {
            let output = guest.limits.max_output();
            let message =
                format!("{output} bytes are more than the {room} that a route may have of `server.response_memory`");
            problems.push(Problem::of_guest(route, guest, "limits.output", message));
        }
        if let Handler::Scheduler(Scheduler { max_output, .. }) = route.handler
            && max_output > room
        {
            let message = format!(
                "{max_output} bytes are more than the {room} that a route may have of `server.response_memory`"
            );
            problems.push(Problem::of(route, "limits.output", message));
        }
    }
    let mut names = HashSet::new();
    for route in &routes {
        if !names.insert(&route.name) {
            problems.push(Problem::of(route, "name", "another route has this name"));
        }
    }
    for (first, second) in route::conflicts(&routes) {
        problems.push(Problem::of(second, "path", format!("the route `{}` takes the same requests", first.name)));
    }
    if problems.is_empty() {
        Ok(Config { listener, admin: file.admin.map(|admin| admin.listen), compile_timeout, routes })
    } else {
        Err(Error::new(problems))
    }
}

fn listener(table: ServerTable, problems: &mut Vec<Problem>) -> Listener {
    let default = Listener::default();
    let mut range = |key: &str, value: u64, least: u64, most: u64| {
        if !(least..=most).contains(&value) {
            let message = format!("{value} is not from {least} to {most}");
            problems.push(Problem::in_server(key, message));
        }
    };
    let time = |time: Option<Time>, default| time.map_or(default, |Time(time)| time);
    let bytes = table.max_header_bytes.map_or(u64::from(default.max_header_bytes), |Size(bytes)| bytes);
    let listener = Listener {
        address: table.listen.unwrap_or(default.address),
        max_connections: table.max_connections.unwrap_or(default.max_connections),
        max_header_bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        max_headers: table.max_headers.unwrap_or(default.max_headers),
        max_streams: table.max_streams.unwrap_or(default.max_streams),
        header_timeout: time(table.header_timeout, default.header_timeout),
        write_timeout: time(table.write_timeout, default.write_timeout),
        keep_alive: table.keep_alive.unwrap_or(default.keep_alive),
        grace: time(table.grace, default.grace),
        max_requests: table.max_requests.unwrap_or(default.max_requests),
        response_memory: table.response_memory.map_or(default.response_memory, |Size(bytes)| bytes),
    };
    range("max_connections", listener.max_connections as u64, 1, 1_000_000);
    range("max_header_bytes", bytes, 8 << 10, 1 << 20);
    range("max_headers", listener.max_headers as u64, 1, 10_000);
    range("max_streams", listener.max_streams.into(), 1, 10_000);
    range("max_requests", listener.max_requests as u64, 1, 1_000_000);
    range("response_memory", listener.response_memory, 1 << 20, 1 << 40);
    for (key, time) in [("header_timeout", listener.header_timeout), ("write_timeout", listener.write_timeout)] {
        if time.is_zero() {
            problems.push(Problem::in_server(key, MORE_THAN_0.to_owned()));
        }
    }
    listener
}

impl RouteKind {
    fn name(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Upstream => "upstream",
            Self::Scheduler => "scheduler",
            Self::Httpwasm => Kind::Httpwasm.name(),
            Self::HttpWasm => Kind::HttpWasm.name(),
            Self::Command => Kind::Command.name(),
            Self::Package => Kind::Package.name(),
        }
    }
}

/// A time in which nothing can happen is a mistake.
const MORE_THAN_0: &str = "expected more than 0";

/// The kinds with a module.
const GUESTS: &[RouteKind] = &[RouteKind::Httpwasm, RouteKind::HttpWasm, RouteKind::Command, RouteKind::Package];

impl RouteTable {
    fn route(mut self, line: usize, engine: Option<&str>, directory: &Path, problems: &mut Vec<Problem>) -> Route {
        let mut found = self.misplaced();
        let engine = self.engine.take().or_else(|| engine.map(str::to_owned));
        let middleware = std::mem::take(&mut self.middleware);
        let (path, name, host, methods) = (self.path.clone(), self.name.take(), self.host.take(), self.methods.take());
        let (show_errors, body_timeout) = (self.show_errors, self.body_timeout.take());
        let handler = self.handler(engine.clone(), directory, &mut found);

        let mut route = Route::new(path, handler);
        route.line = line;
        if let Some(Host(host)) = host {
            route.host = Some(host);
        }
        if let Some(Methods(methods)) = methods {
            let names: Vec<_> = methods.iter().map(http::Method::as_str).collect();
            route.name = format!("{} {}", names.join(","), route.path.as_str());
            route.methods = methods;
        }
        route.name = match (name, &route.host) {
            (Some(name), _) => name,
            (None, Some(host)) => format!("{host} {}", route.name),
            (None, None) => route.name,
        };
        route.show_errors = show_errors;
        if let Some(Time(time)) = body_timeout {
            route.body_timeout = time;
        }
        // Requests that run at once in the handler pass the middleware at once.
        let size = route.handler.pool().map_or(Pool::default().size, |pool| pool.size.clamp(1, MAX_GUESTS));
        for table in middleware {
            let mut guest = table.guest(engine.as_deref(), directory, size);
            guest.name = Some(name_of(&guest.module, route.middleware.iter().map(|other| &other.module)));
            route.middleware.push(guest);
        }
        problems.extend(found.into_iter().map(|(key, message)| Problem::of(&route, key, message)));
        problems.extend(check(&route));
        route
    }

    /// Returns problems of keys that have no effect, since somebody expects one, and of keys that are missing.
    fn misplaced(&self) -> Vec<(&'static str, String)> {
        use RouteKind::{Command, HttpWasm, Httpwasm, Package, Response, Scheduler, Upstream};
        let mut problems = Vec::new();
        let mut only = |key: &'static str, kinds: &[RouteKind], is_set: bool| {
            if is_set && !kinds.contains(&self.kind) {
                let names: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
                let kinds = if kinds.len() == 1 { "kind" } else { "kinds" };
                problems.push((key, format!("only routes of the {kinds} {} have it", names.join(", "))));
            }
        };
        let Self { limits, pool, .. } = self;
        only("module", GUESTS, self.module.is_some());
        only("response", &[Response], self.response.is_some());
        only("url", &[Upstream], self.url.is_some());
        only("plugins", &[Scheduler], self.plugins.is_some());
        only("http_timeout", &[Scheduler], self.http_timeout.is_some());
        only("kept_cycles", &[Scheduler], self.kept_cycles.is_some());
        only("keep_time", &[Scheduler], self.keep_time.is_some());
        only(
            "engine",
            &[Httpwasm, HttpWasm, Command, Package, Scheduler],
            self.engine.is_some() && self.middleware.is_empty(),
        );
        only("config", &[HttpWasm], self.config.is_some());
        only("config_file", &[HttpWasm], self.config_file.is_some());
        only("args", &[Command], !self.args.is_empty());
        only("env", GUESTS, !self.env.is_empty());
        only("dirs", GUESTS, !self.dirs.is_empty());
        only("delimiter", &[Httpwasm], self.delimiter.is_some());
        only("content_type", &[Httpwasm], self.content_type.is_some());
        only("limits.memory", GUESTS, limits.memory.is_some());
        only("limits.fuel", GUESTS, limits.fuel.is_some());
        only("limits.stack", GUESTS, limits.stack.is_some());
        only("limits.timeout", &[Httpwasm, HttpWasm, Command, Package, Upstream], limits.timeout.is_some());
        let served = &[Httpwasm, HttpWasm, Command, Package, Upstream, Scheduler];
        only("limits.output", served, limits.output.is_some());
        only("pool", served, pool.size.is_some() || pool.queue.is_some() || pool.wait.is_some());
        only("pool.reuse", &[Httpwasm, HttpWasm, Package], pool.reuse.is_some());
        // Instances of plugins of a scheduler are always used again.
        if pool.idle.is_some() && pool.reuse != Some(true) && self.kind != Scheduler {
            problems.push(("pool.idle", "only instances with `pool.reuse` are idle".to_owned()));
        }
        if self.config.is_some() && self.config_file.is_some() {
            problems.push(("config_file", "there is a `config` already".to_owned()));
        }
        problems
    }

    fn handler(self, engine: Option<String>, directory: &Path, problems: &mut Vec<(&'static str, String)>) -> Handler {
        let missing = |key, kind: RouteKind, problems: &mut Vec<_>| {
            problems.push((key, format!("missing: routes of the kind `{}` need it", kind.name())));
        };
        let kind = match self.kind {
            RouteKind::Httpwasm => Kind::Httpwasm,
            RouteKind::HttpWasm => Kind::HttpWasm,
            RouteKind::Command => Kind::Command,
            RouteKind::Package => Kind::Package,
            RouteKind::Response => {
                let max_body = self.limits.body.map_or(MAX_BODY, |Size(bytes)| bytes);
                let mut response = FixedResponse { max_body, ..FixedResponse::default() };
                match self.response {
                    None => missing("response", self.kind, problems),
                    Some(table) => {
                        response.status = table.status.map_or(response.status, |Status(status)| status);
                        response.headers = table.headers.map_or(response.headers, |Headers(headers)| headers);
                        response.body = table.body.into();
                    }
                }
                return Handler::Response(response);
            }
            RouteKind::Scheduler => {
                if self.plugins.as_ref().is_none_or(Vec::is_empty) {
                    missing("plugins", self.kind, problems);
                }
                return Handler::Scheduler(self.scheduler(engine.as_deref(), directory, problems));
            }
            RouteKind::Upstream => {
                let Some(Url(authority)) = self.url else {
                    missing("url", self.kind, problems);
                    return Handler::Response(FixedResponse::default());
                };
                let limits = self.limits.limits();
                return Handler::Upstream(Upstream {
                    authority,
                    timeout: limits.timeout().unwrap_or(Duration::MAX),
                    max_body: limits.max_input(),
                    max_output: limits.max_output(),
                    pool: self.pool.pool(Pool { size: UPSTREAM_REQUESTS, ..Pool::default() }),
                });
            }
        };
        if self.module.is_none() {
            missing("module", self.kind, problems);
        }
        let mut guest = Guest::new(module(directory, &self.module.unwrap_or_default()), kind);
        guest.engine = engine;
        guest.config = guest_config(self.config, self.config_file, directory);
        guest.args = self.args;
        guest.env = self.env;
        guest.dirs = dirs(self.dirs, directory);
        guest.delimiter = self.delimiter.map_or(guest.delimiter, |RecordEnd(delimiter)| delimiter);
        guest.content_type = self.content_type.map(|MediaType(value)| value);
        guest.limits = self.limits.limits();
        guest.pool = self.pool.pool(guest.pool);
        Handler::Guest(guest)
    }
}

impl RouteTable {
    fn scheduler(
        self,
        engine: Option<&str>,
        directory: &Path,
        problems: &mut Vec<(&'static str, String)>,
    ) -> Scheduler {
        let default = Scheduler::default();
        let mut scheduler = Scheduler {
            http_timeout: self.http_timeout.map_or(default.http_timeout, |Time(time)| time),
            kept_cycles: self.kept_cycles.unwrap_or(default.kept_cycles),
            keep_time: self.keep_time.map_or(default.keep_time, |Time(time)| time),
            max_body: self.limits.body.map_or(default.max_body, |Size(bytes)| bytes),
            max_output: self.limits.output.map_or(default.max_output, |Size(bytes)| bytes),
            pool: self.pool.pool(default.pool),
            ..default
        };
        for table in self.plugins.unwrap_or_default() {
            let mut plugin = scheduler.plugin(module(directory, &table.module));
            let mut problem =
                |key: &str, message: &str| problems.push(("plugins", format!("`{}`, {key}: {message}", plugin.name)));
            if table.config.is_some() && table.config_file.is_some() {
                problem("config_file", "there is a `config` already");
            }
            if table.limits.body.is_some() {
                problem("limits.body", "it is the route's");
            }
            plugin.engine = table.engine.or_else(|| engine.map(str::to_owned));
            plugin.config = guest_config(table.config, table.config_file, directory);
            plugin.weight = table.weight.unwrap_or(plugin.weight);
            plugin.on_failure = match table.on_failure {
                Some(FailureKey::Ignore) => OnFailure::Ignore,
                Some(FailureKey::Fail) | None => OnFailure::Fail,
            };
            let has_time = table.limits.timeout.is_some();
            let limits = table.limits.limits();
            plugin.limits = match plugin.limits.timeout() {
                Some(time) if !has_time => limits.with_timeout(time),
                _ => limits,
            };
            scheduler.plugins.push(plugin);
        }
        scheduler
    }
}

impl MiddlewareTable {
    fn guest(self, engine: Option<&str>, directory: &Path, size: usize) -> Guest {
        let mut guest = Guest::new(module(directory, &self.module), Kind::HttpWasm);
        guest.engine = self.engine.or_else(|| engine.map(str::to_owned));
        guest.config = guest_config(self.config, self.config_file, directory);
        guest.env = self.env;
        guest.dirs = dirs(self.dirs, directory);
        guest.limits = self.limits.limits();
        guest.pool = self.pool.pool(Pool { size, ..guest.pool });
        guest
    }
}

impl LimitsTable {
    fn limits(self) -> Limits {
        let mut limits = Limits::default().with_max_input(MAX_BODY);
        if let Some(Time(time)) = self.timeout {
            limits = limits.with_timeout(time);
        }
        if let Some(SizeOrNone(bytes)) = self.memory {
            limits = limits.with_memory(bytes);
        }
        if let Some(Fuel(units)) = self.fuel {
            limits = limits.with_fuel(units);
        }
        if let Some(Stack(height)) = self.stack {
            limits = limits.with_stack(height);
        }
        if let Some(Size(bytes)) = self.body {
            limits = limits.with_max_input(bytes);
        }
        if let Some(Size(bytes)) = self.output {
            limits = limits.with_max_output(bytes);
        }
        limits
    }
}

impl PoolTable {
    fn pool(self, default: Pool) -> Pool {
        Pool {
            size: self.size.unwrap_or(default.size),
            queue: self.queue.unwrap_or(default.queue),
            wait: self.wait.map_or(default.wait, |Time(time)| time),
            reuse: self.reuse.unwrap_or(default.reuse),
            idle: self.idle.map_or(default.idle, |Time(time)| time),
        }
    }
}

fn guest_config(bytes: Option<GuestBytes>, file: Option<String>, directory: &Path) -> GuestConfig {
    match (bytes, file) {
        (None, Some(file)) => GuestConfig::File(directory.join(file)),
        (bytes, _) => GuestConfig::Bytes(bytes.map(|GuestBytes(bytes)| bytes).unwrap_or_default()),
    }
}

fn dirs(tables: Vec<DirTable>, directory: &Path) -> Vec<Dir> {
    let dir = |DirTable { host, guest, writable }| Dir { host: directory.join(host), guest, writable };
    tables.into_iter().map(dir).collect()
}

/// Returns where a module is: a path relative to the directory, or a reference, which the source of modules reads.
fn module(directory: &Path, text: &str) -> PathBuf {
    if text.contains(':') && !text.starts_with(['.', '/']) { text.into() } else { directory.join(text) }
}

/// Checks what involves more than one value.
fn check(route: &Route) -> Vec<Problem> {
    let mut problems = Vec::new();
    if route.name.is_empty() || route.name.len() > 200 || route.name.chars().any(char::is_control) {
        problems.push(Problem::of(route, "name", "expected 1 to 200 bytes without control characters"));
    }
    if route.body_timeout.is_zero() {
        problems.push(Problem::of(route, "body_timeout", MORE_THAN_0));
    }
    for guest in route.guests() {
        let mut problem = |key: &str, message: &str| problems.push(Problem::of_guest(route, guest, key, message));
        check_served(&guest.pool, guest.limits.timeout(), &mut problem);
        let nul = |text: &String| text.contains('\0');
        if guest.env.iter().any(|(name, value)| name.is_empty() || name.contains('=') || nul(name) || nul(value)) {
            problem("env", "the name of a variable is not empty and has no `=`, and there is no NUL in name or value");
        }
        if guest.args.iter().any(nul) {
            problem("args", "an argument has no NUL");
        }
        if guest.dirs.iter().any(|dir| dir.guest.is_empty()) {
            problem("dirs", "the name for the guest is empty");
        }
    }
    if let Handler::Response(response) = &route.handler
        && is_without_body(response.status)
        && !response.body.is_empty()
    {
        let message = format!("a response with the status {} has no body", response.status.as_u16());
        problems.push(Problem::of(route, "response", message));
    }
    if let Handler::Upstream(upstream) = &route.handler {
        let mut problem = |key: &str, message: &str| problems.push(Problem::of(route, key, message));
        check_served(&upstream.pool, Some(upstream.timeout), &mut problem);
    }
    if let Handler::Scheduler(scheduler) = &route.handler {
        check_scheduler(route, scheduler, &mut problems);
    }
    problems
}

fn check_scheduler(route: &Route, scheduler: &Scheduler, problems: &mut Vec<Problem>) {
    let time = scheduler.time();
    let mut problem = |key: &str, message: &str| problems.push(Problem::of(route, key, message));
    if route.path.is_exact() {
        problem("path", "expected `/PATH/...`: the verbs are below it");
    }
    if time.is_zero() {
        problem("http_timeout", MORE_THAN_0);
    }
    if scheduler.plugins.len() > MAX_PLUGINS {
        problem("plugins", &format!("expected at most {MAX_PLUGINS}"));
    }
    if scheduler.kept_cycles > MAX_GUESTS {
        problem("kept_cycles", &format!("expected at most {MAX_GUESTS}"));
    }
    check_served(&scheduler.pool, None, &mut problem);
    for plugin in &scheduler.plugins {
        let mut problem =
            |key: &str, message: String| problems.push(Problem::of_plugin(route, &plugin.name, key, message));
        if plugin.weight == 0 {
            problem("weight", MORE_THAN_0.to_owned());
        }
        match plugin.limits.timeout() {
            Some(limit) if limit.is_zero() => problem("limits.timeout", MORE_THAN_0.to_owned()),
            Some(limit) if limit > time => problem(
                "limits.timeout",
                format!(
                    "{limit:?} is more than a request has: {time:?} of the `http_timeout` {:?}",
                    scheduler.http_timeout
                ),
            ),
            _ => {}
        }
    }
}

/// Checks what guests and upstreams have in common.
fn check_served(pool: &Pool, timeout: Option<Duration>, problem: &mut impl FnMut(&str, &str)) {
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        problem("limits.timeout", MORE_THAN_0);
    }
    if !(1..=MAX_GUESTS).contains(&pool.size) {
        problem("pool.size", &format!("expected 1 to {MAX_GUESTS}"));
    }
    if pool.queue > 1_000_000 {
        problem("pool.queue", "expected at most 1000000");
    }
}

/// Returns the key of a line, if it has one.
fn key(text: &str, line: usize) -> Option<String> {
    let (key, _) = text.lines().nth(line.checked_sub(1)?)?.split_once('=')?;
    let key = key.trim();
    let is_plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    (!key.is_empty() && key.len() <= 100 && key.chars().all(is_plain)).then(|| key.to_owned())
}

//! The file of a configuration: its keys, and how they become a [`Config`].

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::value::{Fuel, Host, MediaType, Methods, RecordEnd, Size, SizeOrNone, Stack, Time};
use super::{
    COMPILE_TIMEOUT, Config, Dir, Error, Kind, Listener, MAX_FILE, MAX_GUESTS, MAX_ROUTES, Pool, Problem, Route,
};
use crate::budget;
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
    module: String,
    kind: Kind,
    name: Option<String>,
    host: Option<Host>,
    methods: Option<Methods>,
    engine: Option<String>,
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
    if file.route.len() > MAX_ROUTES {
        problems.push(Problem::new(format!("it has {} routes, more than {MAX_ROUTES}", file.route.len())));
    }
    let routes: Vec<Route> = file
        .route
        .into_iter()
        .take(MAX_ROUTES)
        .map(|table| {
            let line = line(table.span().start).unwrap_or_default();
            route(table.into_inner(), line, file.engine.as_deref(), directory, &mut problems)
        })
        .collect();
    if routes.is_empty() {
        problems.push(Problem::new("it has no `[[route]]`"));
    }
    let guests = routes.iter().fold(0usize, |sum, route| sum.saturating_add(route.pool.size));
    if guests > MAX_GUESTS {
        problems.push(Problem::new(format!("the pools have {guests} instances together, more than {MAX_GUESTS}")));
    }
    let room = budget::share(usize::try_from(listener.response_memory).unwrap_or(usize::MAX), routes.len()) as u64;
    for route in routes.iter().filter(|route| route.kind != Kind::Command && route.limits.max_output() > room) {
        let message = format!(
            "{} bytes are more than the {room} that a route may have of `server.response_memory`",
            route.limits.max_output()
        );
        problems.push(Problem::of(route, "limits.output", message));
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
    listener
}

fn route(table: RouteTable, line: usize, engine: Option<&str>, directory: &Path, problems: &mut Vec<Problem>) -> Route {
    let mut route = Route::new(table.path.as_str(), directory.join(&table.module), table.kind);
    route.line = line;
    if let Some(Host(host)) = table.host {
        route.host = Some(host);
    }
    if let Some(Methods(methods)) = table.methods {
        let names: Vec<_> = methods.iter().map(http::Method::as_str).collect();
        route.name = format!("{} {}", names.join(","), table.path.as_str());
        route.methods = methods;
    }
    route.name = match (table.name, &route.host) {
        (Some(name), _) => name,
        (None, Some(host)) => format!("{host} {}", route.name),
        (None, None) => route.name,
    };
    route.path = table.path;
    route.engine = table.engine.or_else(|| engine.map(str::to_owned));
    route.args = table.args;
    route.env = table.env;
    for DirTable { host, guest, writable } in table.dirs {
        route.dirs.push(Dir { host: directory.join(host), guest, writable });
    }
    // A key that has no effect is an error, since somebody expects one.
    let mut only = |key: &str, kind: Kind, is_set: bool| {
        if is_set && route.kind != kind {
            problems.push(Problem::of(&route, key, format!("only routes of the kind `{}` have it", kind.name())));
        }
    };
    only("args", Kind::Command, !route.args.is_empty());
    only("delimiter", Kind::Httpwasm, table.delimiter.is_some());
    only("content_type", Kind::Httpwasm, table.content_type.is_some());
    if let Some(RecordEnd(delimiter)) = table.delimiter {
        route.delimiter = delimiter;
    }
    route.content_type = table.content_type.map(|MediaType(value)| value);
    route.show_errors = table.show_errors;
    if let Some(Time(time)) = table.body_timeout {
        route.body_timeout = time;
    }
    let limits = table.limits;
    if let Some(Time(time)) = limits.timeout {
        route.limits = route.limits.with_timeout(time);
    }
    if let Some(SizeOrNone(bytes)) = limits.memory {
        route.limits = route.limits.with_memory(bytes);
    }
    if let Some(Fuel(units)) = limits.fuel {
        route.limits = route.limits.with_fuel(units);
    }
    if let Some(Stack(height)) = limits.stack {
        route.limits = route.limits.with_stack(height);
    }
    if let Some(Size(bytes)) = limits.body {
        route.limits = route.limits.with_max_input(bytes);
    }
    if let Some(Size(bytes)) = limits.output {
        route.limits = route.limits.with_max_output(bytes);
    }
    route.pool = Pool {
        size: table.pool.size.unwrap_or(route.pool.size),
        queue: table.pool.queue.unwrap_or(route.pool.queue),
        wait: table.pool.wait.map_or(route.pool.wait, |Time(time)| time),
        reuse: table.pool.reuse.unwrap_or(route.pool.reuse),
        idle: table.pool.idle.as_ref().map_or(route.pool.idle, |Time(time)| *time),
    };
    if table.pool.idle.is_some() && !route.pool.reuse {
        problems.push(Problem::of(&route, "pool.idle", "only instances with `pool.reuse` are idle"));
    }
    problems.extend(check(&route));
    route
}

/// Checks what involves more than one value.
fn check(route: &Route) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem = |key: &str, message: &str| problems.push(Problem::of(route, key, message));
    if route.name.is_empty() || route.name.len() > 200 || route.name.chars().any(char::is_control) {
        problem("name", "expected 1 to 200 bytes without control characters");
    }
    if !(1..=MAX_GUESTS).contains(&route.pool.size) {
        problem("pool.size", &format!("expected 1 to {MAX_GUESTS}"));
    }
    if route.pool.queue > 1_000_000 {
        problem("pool.queue", "expected at most 1000000");
    }
    if route.pool.reuse && route.kind == Kind::Command {
        problem("pool.reuse", "an instance of a command runs once");
    }
    if route.limits.timeout().is_some_and(|timeout| timeout.is_zero()) {
        problem("limits.timeout", "expected more than 0");
    }
    let nul = |text: &String| text.contains('\0');
    if route.env.iter().any(|(name, value)| name.is_empty() || name.contains('=') || nul(name) || nul(value)) {
        problem("env", "the name of a variable is not empty and has no `=`, and there is no NUL in name or value");
    }
    if route.args.iter().any(nul) {
        problem("args", "an argument has no NUL");
    }
    if route.dirs.iter().any(|dir| dir.guest.is_empty()) {
        problem("dirs", "the name for the guest is empty");
    }
    problems
}

/// Returns the key of a line, if it has one.
fn key(text: &str, line: usize) -> Option<String> {
    let (key, _) = text.lines().nth(line.checked_sub(1)?)?.split_once('=')?;
    let key = key.trim();
    let is_plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    (!key.is_empty() && key.len() <= 100 && key.chars().all(is_plain)).then(|| key.to_owned())
}

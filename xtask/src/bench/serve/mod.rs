//! The group `serve`: `mistctl serve`, servers by hand and others under load.

mod report;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Executables, go};

pub(super) use report::{document, groups, tables};
use server::{Exchange, Run, Server};

/// The name of the group.
pub(super) const NAME: &str = "serve";

/// Modules of the servers in Go.
const PEERS: [&str; 2] = ["github.com/tetratelabs/wazero", "github.com/http-wasm/http-wasm-host-go"];

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Each server responds for a second.
    Check,
    Quick,
    Whole,
}

impl Effort {
    fn connections(self) -> &'static [u32] {
        if self == Self::Check { &[16] } else { &[1, 16, 256] }
    }

    /// Lengths of bodies, in bytes.
    fn bodies(self) -> &'static [usize] {
        if self == Self::Whole { &[0, 4 << 10, 1 << 20] } else { &[4 << 10] }
    }

    /// Rounds that count. One more comes before, except for a check.
    fn rounds(self) -> usize {
        match self {
            Self::Check => 1,
            Self::Quick => 3,
            Self::Whole => 7,
        }
    }
}

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) whole: bool,
    rounds: usize,
    cells: Vec<Cell>,
}

/// Servers that were loaded alternately. The first one is the base of the ratios.
#[derive(Debug, Serialize, Deserialize)]
struct Cell {
    kind: String,
    engine: String,
    instances: String,
    /// Length of the request's body, in bytes.
    body: usize,
    connections: u32,
    servers: Vec<Measured>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    name: String,
    /// Time of the run per request, in nanoseconds.
    time: Spread,
    /// Ratio of `time` to the base's in the same round.
    ratio: Spread,
    /// Percentiles of the latency in microseconds: medians of the rounds'.
    p50: f64,
    p99: f64,
    p999: f64,
    /// Ratio of the 99th percentile to the base's in the same round.
    p99_ratio: f64,
    /// Processor time of the server per request, in microseconds.
    processor: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Spread {
    median: f64,
    quartiles: [f64; 2],
}

/// The built programs.
struct Programs {
    mistctl: PathBuf,
    by_hand: PathBuf,
    /// None without Go.
    peers: Option<PathBuf>,
    /// Where configurations, bodies and responses are written.
    directory: PathBuf,
}

/// Servers that are compared, and what they are asked.
struct Scenario {
    kind: &'static str,
    engine: &'static str,
    instances: &'static str,
    servers: Vec<(&'static str, Command)>,
    header: Option<&'static str>,
    /// The path, and the request's and the response's body for a length.
    path: &'static str,
    exchange: fn(usize) -> (String, String),
    /// Whether it is measured with one length and one number of connections only.
    is_one: bool,
}

/// Builds all programs, and loads the servers. Returns the versions of what takes part, too.
pub(super) fn measure(effort: Effort) -> Result<(Load, Vec<String>)> {
    let mut versions = vec![server::version()?];
    let programs = Programs::build(effort)?;
    match &programs.peers {
        Some(peers) => versions.extend(go::versions(peers, &PEERS)?),
        None => eprintln!("without the servers in Go: there is no Go compiler"),
    }
    let mut cells = Vec::new();
    for scenario in scenarios(&programs)? {
        cells.extend(scenario.run(effort, &programs.directory)?);
    }
    // Engines next to each other.
    cells.sort_by_key(|cell| (cell.body, cell.connections));
    Ok((Load { whole: effort == Effort::Whole, rounds: effort.rounds(), cells }, versions))
}

impl Scenario {
    fn run(self, effort: Effort, directory: &Path) -> Result<Vec<Cell>> {
        let Self { kind, engine, instances, servers, header, path, exchange, is_one } = self;
        let started: Vec<(&str, Server)> = servers
            .into_iter()
            .map(|(name, command)| Ok((name, Server::start(command, path)?)))
            .collect::<Result<_>>()?;
        let (bodies, all_connections): (&[usize], &[u32]) =
            if is_one { (&[4 << 10], &[16]) } else { (effort.bodies(), effort.connections()) };
        let mut cells = Vec::new();
        for &body in bodies {
            let (request, response) = exchange(body);
            let exchange = Exchange::new(directory, &format!("{kind}-{body}"), header, &request, &response)?;
            for &connections in all_connections {
                let about = format!("{kind}, {engine}, {instances}, {body} bytes, {connections} connections");
                eprintln!("{about}");
                let runs = rounds(effort, &started, &exchange, connections).with_context(|| about)?;
                cells.push(Cell {
                    kind: kind.to_owned(),
                    engine: engine.to_owned(),
                    instances: instances.to_owned(),
                    body: request.len(),
                    connections,
                    servers: started.iter().zip(&runs).map(|((name, _), own)| measured(name, own, &runs[0])).collect(),
                });
            }
        }
        Ok(cells)
    }
}

/// A run, and the processor time of the server during it.
type Turn = (Run, Option<f64>);

/// Loads all servers in each round, beginning with another one each time. Returns the turns of each server.
fn rounds(effort: Effort, servers: &[(&str, Server)], exchange: &Exchange, connections: u32) -> Result<Vec<Vec<Turn>>> {
    let mut turns: Vec<Vec<Turn>> = servers.iter().map(|_| Vec::new()).collect();
    let first = if effort == Effort::Check { 1 } else { 0 };
    for round in first..=effort.rounds() {
        for at in (0..servers.len()).map(|at| (at + round) % servers.len()) {
            let (name, server) = &servers[at];
            let before = server.processor_time();
            let run = exchange.load(server, connections).with_context(|| (*name).to_owned())?;
            let used = server.processor_time().zip(before).map(|(after, before)| after - before);
            // The first one warms up.
            if round > 0 {
                turns[at].push((run, used));
            }
        }
    }
    Ok(turns)
}

fn measured(name: &str, turns: &[Turn], base: &[Turn]) -> Measured {
    let time = |(run, _): &Turn| run.microseconds * 1e3 / run.requests as f64;
    let over = |of: &dyn Fn(&Turn) -> f64| spread(turns.iter().map(of).collect());
    let ratio = |of: &dyn Fn(&Turn) -> f64| {
        spread(turns.iter().zip(base).map(|(own, base)| of(own) / of(base).max(f64::MIN_POSITIVE)).collect())
    };
    let requests: u64 = turns.iter().map(|(run, _)| run.requests).sum();
    let used = turns.iter().map(|(_, used)| *used).sum::<Option<f64>>();
    Measured {
        name: name.to_owned(),
        time: over(&time),
        ratio: ratio(&time),
        p50: over(&|(run, _)| run.p50).median,
        p99: over(&|(run, _)| run.p99).median,
        p999: over(&|(run, _)| run.p999).median,
        p99_ratio: ratio(&|(run, _)| run.p99).median,
        processor: used.map(|used| used / requests as f64),
    }
}

fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let [low, median, high] =
        [last / 4, last.div_ceil(2), last - last / 4].map(|at| values.get(at).copied().unwrap_or(f64::NAN));
    Spread { median, quartiles: [low, high] }
}

impl Programs {
    fn build(effort: Effort) -> Result<Self> {
        let mut arguments = vec!["--bin", "mistctl", "--bin", "by-hand"];
        if effort == Effort::Check {
            // As `.ci/run` builds the tests of all features, so that `mistctl` is not built again.
            arguments.extend(["--profile", "test", "--workspace", "--test", "serve", "--features"]);
            arguments.push(
                "mistctl/cache,mistctl/schema,mistctl/debug-info,mistctl/otel,mistctl/registry,mistletoe/tracing",
            );
        } else {
            arguments.extend(["--profile", "bench", "-p", "mistctl", "-p", "mistletoe-benches", "--features"]);
            arguments.push("mistctl/serve,mistctl/wasmtime,mistctl/wasmer");
        }
        let built = Executables::build(&arguments)?;
        let (mistctl, by_hand) = (built.find("bin", "mistctl")?, built.find("bin", "by-hand")?);
        let directory = mistctl.with_file_name("bench-serve");
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let peers = go::build("benches/peers", &directory.join("peers"))?;
        ensure!(peers.is_some() || effort != Effort::Check, "there is no Go compiler");
        Ok(Self { mistctl, by_hand, peers, directory })
    }
}

fn scenarios(programs: &Programs) -> Result<Vec<Scenario>> {
    let module = |name: &str| crate::root().join("examples/packages").join(name);
    let mut scenarios = Vec::new();
    for engine in ["wasmtime", "wasmer", "wasmi"] {
        for instances in ["fresh", "reused"] {
            let plugin = module("httpwasm-c.wasm");
            let mut by_hand = Command::new(&programs.by_hand);
            by_hand.args([engine, instances]).arg(&plugin);
            let mut servers =
                vec![("by hand", by_hand), ("mistctl serve", programs.serve("httpwasm", engine, instances, &plugin)?)];
            if let Some(peers) = programs.peers.as_ref().filter(|_| engine == "wasmtime") {
                let mut peer = Command::new(peers);
                peer.args(["httpwasm", instances]).arg(&plugin);
                servers.push(("net/http and wazero", peer));
            }
            scenarios.push(Scenario {
                kind: "httpwasm",
                engine,
                instances,
                servers,
                header: None,
                path: "/",
                exchange: |length| {
                    let body = "x".repeat(length);
                    let response = if body.is_empty() { String::new() } else { format!("hello, {body}\n") };
                    (body, response)
                },
                is_one: false,
            });
        }
    }
    let one = |kind, instances, name: &str, exchange| -> Result<Scenario> {
        let command = programs.serve(kind, "wasmtime", instances, &module(name))?;
        let servers = vec![("mistctl serve", command)];
        Ok(Scenario { kind, engine: "wasmtime", instances, servers, header: None, path: "/", exchange, is_one: true })
    };
    scenarios.push(one("command", "fresh", "cgi-c.wasm", |length| {
        ("x".repeat(length), format!("POST /\n{length} bytes of body\n"))
    })?);
    scenarios.push(one("package", "fresh", "namespace-c.wasm", |_| {
        let [input, result] =
            ["Input", "Result"].map(|kind| format!("apiVersion: mistletoe.dev/v1alpha1\nkind: Mist{kind}\ndata:\n"));
        let files = "  result: Ok\n  files:\n    namespace.yaml: |\n      apiVersion: v1\n      kind: Namespace\n";
        (format!("{input}  name: web\n"), format!("{result}{files}      metadata:\n        name: web\n"))
    })?);
    scenarios.push(middleware(programs, &module("http-handler-c.wasm"))?);
    Ok(scenarios)
}

/// Middleware that requires a key, in front of a fixed response. In Go, it runs on http-wasm's own host.
fn middleware(programs: &Programs, module: &Path) -> Result<Scenario> {
    let keys = format!(
        "kind = 'response'\nresponse = {{ headers = {{ content-type = 'text/plain' }}, body = 'hello' }}\n\
        middleware = [{{ engine = 'wasmtime', module = '{}', config = 'key', pool = {{ reuse = true, {WAITS} }} }}]\n",
        module.display()
    );
    let mut servers = vec![("mistctl serve", programs.route("http-wasm", &keys)?)];
    if let Some(peers) = &programs.peers {
        let mut peer = Command::new(peers);
        peer.arg("http-wasm").arg(module).args(["key", "hello"]);
        servers.push(("net/http and http-wasm-host-go", peer));
    }
    Ok(Scenario {
        kind: "http-wasm",
        engine: "wasmtime",
        instances: "reused",
        servers,
        header: Some("x-api-key: key"),
        path: "/",
        exchange: |_| (String::new(), "hello".to_owned()),
        is_one: true,
    })
}

/// Keys of a pool: requests wait for as long as it takes, as they do by hand.
const WAITS: &str = "queue = 1000, wait = '60s'";

impl Programs {
    /// Returns a command that serves one module at every path, with the default limits.
    fn serve(&self, kind: &str, engine: &str, instances: &str, module: &Path) -> Result<Command> {
        let reuse = if instances == "reused" { "reuse = true, " } else { "" };
        let keys = format!(
            "kind = '{kind}'\nengine = '{engine}'\nmodule = '{}'\npool = {{ {reuse}{WAITS} }}\n",
            module.display()
        );
        self.route(&format!("{kind}-{engine}-{instances}"), &keys)
    }

    /// Returns a command that serves a route with these keys at every path.
    fn route(&self, name: &str, keys: &str) -> Result<Command> {
        let path = self.directory.join(format!("{name}.toml"));
        let config = format!("[[route]]\npath = '/...'\n{keys}");
        fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = Command::new(&self.mistctl);
        command.args(["serve", "--listen", "127.0.0.1:0"]).arg(path);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(requests: u64, latency: f64, processor: f64) -> Turn {
        (Run::of(requests, 1e6, [latency, 2.0 * latency, 3.0 * latency]), Some(processor))
    }

    /// Returns the results of two engines, on which the second server takes twice as long.
    pub(super) fn load() -> Load {
        let turns = [vec![turn(10_000, 100.0, 1e5)], vec![turn(5_000, 200.0, 1e5)]];
        let names = ["by hand", "mistctl serve"];
        let cell = |engine: &str| Cell {
            kind: "httpwasm".to_owned(),
            engine: engine.to_owned(),
            instances: "fresh".to_owned(),
            body: 4 << 10,
            connections: 16,
            servers: names.iter().zip(&turns).map(|(name, own)| measured(name, own, &turns[0])).collect(),
        };
        Load { whole: true, rounds: 1, cells: vec![cell("wasmtime"), cell("wasmi")] }
    }

    #[test]
    fn ratios_are_of_one_round() {
        // The machine was slower in the second round, for both.
        let base = [turn(1_000, 10.0, 5e5), turn(500, 20.0, 5e5), turn(1_000, 10.0, 5e5)];
        let own = [turn(500, 30.0, 4e5), turn(250, 60.0, 4e5), turn(500, 30.0, 4e5)];
        let measured = measured("own", &own, &base);
        assert_eq!((measured.ratio.median, measured.ratio.quartiles), (2.0, [2.0, 2.0]));
        assert_eq!((measured.p99_ratio, measured.p50), (3.0, 30.0));
        assert_eq!(measured.processor, Some(1.2e6 / 1_250.0));
        // Nanoseconds per request.
        assert_eq!(measured.time.median, 2e6);
    }

    #[test]
    fn results_are_read_back() {
        let results = super::super::measured::Results::Load { environment: report::tests::environment(), load: load() };
        let text = serde_json::to_string(&results).expect("JSON");
        let again = serde_json::from_str(&text).expect("the same");
        assert!(matches!(again, super::super::measured::Results::Load { load, .. } if load.cells.len() == 2));
    }
}

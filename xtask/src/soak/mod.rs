//! `cargo xtask soak`: `mistctl serve` for minutes, with everything that guests, clients and files do wrong at once.
//!
//! Neighbours are routes that get requests all the time, and have to respond to each of them. Three kinds of phases
//! take turns, so that all meet the same machine. `docs/serve-faults.md` has the results.

mod attacks;
mod client;
mod guests;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde::Deserialize;

use attacks::{ATTACKS, Attack};
use client::Client;
use server::{Server, Usage};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Time under load, in minutes
    #[arg(long, default_value_t = 10.0, value_name = "MINUTES")]
    minutes: f64,
    /// Less than a minute, with fewer connections and without the rule on times, as CI runs it
    #[arg(long, conflicts_with = "minutes")]
    short: bool,
    /// Engine of all routes
    #[arg(long, default_value = "wasmi", value_name = "NAME")]
    backend: String,
    /// A `mistctl` with the feature `serve` and the engine, instead of a build of it
    #[arg(long, value_name = "FILE")]
    mistctl: Option<PathBuf>,
}

/// How long and how much.
struct Plan {
    /// Number of times that each phase comes.
    cycles: usize,
    /// Time of a phase.
    phase: Duration,
    /// Time at the start of a phase that does not count as one or the other.
    between: Duration,
    /// Number of connections that are opened in each attack, and do nothing.
    crowd: usize,
    /// How long the server lets these stay: longer than a cycle.
    header_timeout: Duration,
    /// Time between reloads.
    reload: Duration,
    /// Maximum ratio of the memory in the last quarter, or after a short run, to that in the second quarter.
    memory: f64,
    has_times: bool,
}

/// Time between two requests of a neighbour's client.
const PACE: Duration = Duration::from_millis(5);
/// Time between two attempts of an attacker.
const ATTEMPT: Duration = Duration::from_millis(20);
/// How long everything may take to be as it was.
const SETTLE: Duration = Duration::from_secs(60);
/// Maximum ratio of a neighbour's median time, while one route is attacked, to that in calm.
const SLOWER: f64 = 2.0;

/// A client of a neighbour.
struct Neighbour {
    name: &'static str,
    path: &'static str,
    body: &'static str,
    /// What the response contains.
    part: &'static str,
    /// Whether each request has a connection of its own.
    connects: bool,
}

impl Neighbour {
    /// Sends a request, on the connection that is kept if there is one.
    fn exchange(&self, kept: &mut Option<Client>, address: SocketAddr) -> io::Result<(u16, String)> {
        let mut client = match kept.take() {
            Some(client) if !self.connects => client,
            _ => Client::connect(address)?,
        };
        client.request(self.path, self.body)?;
        let (status, body) = client.response()?;
        *kept = Some(client);
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

const NEIGHBOURS: &[Neighbour] = &[
    Neighbour { name: "plugin", path: "plugin", body: "x", part: "hello, x\n", connects: false },
    Neighbour { name: "plugin, reused", path: "reused", body: "x", part: "hello, x\n", connects: false },
    Neighbour { name: "plugin, middleware", path: "middleware", body: "x", part: "hello, x\n", connects: false },
    Neighbour { name: "plugin, connecting", path: "plugin", body: "y", part: "hello, y\n", connects: true },
    Neighbour { name: "command", path: "command", body: "x", part: "1 bytes of body\n", connects: false },
    Neighbour { name: "package", path: "package", body: "data:\n  name: web\n", part: "name: web", connects: false },
];

/// The kinds of phases, in their order.
const PHASES: [&str; 3] = ["calm", "one route attacked", "all at once"];
const CALM: usize = 0;
const ONE: usize = 1;
const ALL: usize = 2;

/// What all threads see.
struct Shared {
    begun: Instant,
    /// Index of the phase. Nothing goes on after the last one.
    phase: AtomicUsize,
    phases: usize,
    /// Whether the time of this phase counts.
    counts: AtomicBool,
    /// Times in microseconds, by neighbour and kind of phase.
    times: Mutex<BTreeMap<&'static str, [Vec<u32>; PHASES.len()]>>,
    lost: Mutex<Vec<String>>,
    outcomes: Mutex<BTreeMap<(&'static str, u16), u64>>,
    wrong: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

impl Shared {
    fn phase(&self) -> usize {
        self.phase.load(Ordering::Relaxed)
    }

    /// Returns the kind of the phase.
    fn kind(&self) -> usize {
        self.phase() % PHASES.len()
    }

    fn is_over(&self) -> bool {
        self.phase() >= self.phases
    }

    fn note(&self, list: &Mutex<Vec<String>>, text: String) {
        let at = self.begun.elapsed().as_secs_f64();
        lock(list).push(format!("{at:.1} s, {}: {text}", PHASES[self.kind()]));
    }

    /// Sends requests to a neighbour until the end.
    fn load(&self, neighbour: &'static Neighbour, address: SocketAddr) {
        let mut kept = None;
        while !self.is_over() {
            let (phase, counts) = (self.phase(), self.counts.load(Ordering::Relaxed));
            let begun = Instant::now();
            match neighbour.exchange(&mut kept, address) {
                Ok((200, body)) if body.contains(neighbour.part) => {
                    let time = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
                    if counts && phase == self.phase() {
                        lock(&self.times).entry(neighbour.name).or_default()[phase % PHASES.len()].push(time);
                    }
                }
                Ok((status, body)) => self.note(&self.lost, format!("{}: status {status}, {body}", neighbour.name)),
                Err(error) => self.note(&self.lost, format!("{}: {error}", neighbour.name)),
            }
            thread::sleep(PACE);
        }
    }

    /// Attacks in each phase of all attacks, and the first attack also in those of one.
    fn attack(&self, attack: &'static Attack, address: SocketAddr) {
        while !self.is_over() {
            if self.kind() == ALL || (self.kind() != CALM && attack.name == ATTACKS[0].name) {
                match (attack.run)(address) {
                    Ok(status) => {
                        *lock(&self.outcomes).entry((attack.name, status)).or_default() += 1;
                        if !attack.statuses.contains(&status) {
                            self.note(&self.wrong, format!("{}: status {status}", attack.name));
                        }
                    }
                    Err(error) => self.note(&self.wrong, format!("{}: {error}", attack.name)),
                }
            }
            thread::sleep(ATTEMPT);
        }
    }

    /// Opens many connections, half of them with the beginning of a request, and keeps them until the cycle ends.
    fn crowd(&self, size: usize, address: SocketAddr) {
        while !self.is_over() {
            let (mut crowd, cycle) = (Vec::new(), self.phase() / PHASES.len());
            while self.phase() / PHASES.len() == cycle && !self.is_over() {
                // Most are opened in calm, when that is quick, and none while the times of an attack count.
                if crowd.len() < size && self.kind() != ONE {
                    match Client::connect(address) {
                        Ok(mut client) => {
                            if crowd.len() % 2 == 0 {
                                let _ = client.send(b"GET /plugin HTTP/1.1\r\n");
                            }
                            crowd.push(client);
                        }
                        Err(error) => {
                            self.note(&self.wrong, format!("connection {} of many: {error}", crowd.len()));
                            break;
                        }
                    }
                } else {
                    thread::sleep(ATTEMPT);
                }
            }
            drop(crowd);
            thread::sleep(ATTEMPT);
        }
    }

    /// Reloads again and again: a new configuration, a new file in the place of a module, and at times garbage.
    fn reloads(&self, server: &Server, errors: &Receiver<String>, directory: &Path, plan: &Plan) -> Result<[u64; 2]> {
        let mut counts = [0; 2];
        let module = directory.join("httpwasm-c.wasm");
        let wasm = fs::read(&module)?;
        // By renaming, so that no reload sees a half of it.
        let replace = |to: &Path, contents: &[u8]| {
            let new = to.with_extension("new");
            fs::write(&new, contents).and_then(|()| fs::rename(new, to))
        };
        for generation in 1.. {
            if self.is_over() {
                break;
            }
            let is_good = generation % 8 != 0;
            replace(&directory.join("serve.toml"), plan.configuration(generation).as_bytes())?;
            replace(&module, if is_good { &wasm[..] } else { &b"garbage"[..] })?;
            let begun = Instant::now();
            if server.reload(errors)? != is_good {
                self.note(&self.wrong, format!("reload {generation} is not as expected"));
            }
            counts[usize::from(!is_good)] += 1;
            thread::sleep(plan.reload.saturating_sub(begun.elapsed()));
        }
        Ok(counts)
    }

    /// Goes through all phases, and watches the server meanwhile.
    fn conduct(&self, server: &Server, plan: &Plan) -> Result<Vec<Usage>> {
        let mut usages = Vec::new();
        for phase in 0..self.phases {
            self.counts.store(false, Ordering::Relaxed);
            self.phase.store(phase, Ordering::Relaxed);
            let begun = Instant::now();
            while begun.elapsed() < plan.phase {
                thread::sleep(Duration::from_millis(250));
                self.counts.store(begun.elapsed() >= plan.between, Ordering::Relaxed);
                usages.push(server.usage()?);
                if usages.len() % 4 == 0 {
                    let connections = server.metric("mistletoe_connections")? as usize;
                    self.connections.fetch_max(connections, Ordering::Relaxed);
                }
            }
        }
        Ok(usages)
    }
}

impl Plan {
    fn new(args: &Args) -> Self {
        let (seconds, milliseconds) = (Duration::from_secs, Duration::from_millis);
        if args.short {
            let (header_timeout, reload) = (seconds(10), milliseconds(100));
            return Self {
                cycles: 4,
                phase: seconds(3),
                between: seconds(1),
                crowd: 1_000,
                header_timeout,
                reload,
                memory: 1.5,
                has_times: false,
            };
        }
        let (phase, header_timeout, reload) = (seconds(5), seconds(20), milliseconds(500));
        // A quarter of the time is a number of whole cycles.
        let quarter = args.minutes * 60.0 / phase.as_secs_f64() / PHASES.len() as f64 / 4.0;
        let cycles = 4 * quarter.ceil().max(1.0) as usize;
        Self { cycles, phase, between: seconds(2), crowd: 10_000, header_timeout, reload, memory: 1.1, has_times: true }
    }

    fn configuration(&self, generation: usize) -> String {
        guests::configuration(generation, self.connections(), self.header_timeout)
    }

    /// Returns the maximum number of connections of the server, which is never reached.
    fn connections(&self) -> usize {
        self.crowd + 1_000
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let plan = Plan::new(args);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("cannot open more files")?;
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(files > plan.connections() as u64, "{files} open files are too few for {} connections", plan.crowd);

    let mistctl = match &args.mistctl {
        Some(file) => file.clone(),
        None => build(&args.backend)?,
    };
    let directory = tempfile::tempdir()?;
    guests::write(directory.path())?;
    let file = directory.path().join("serve.toml");
    fs::write(&file, plan.configuration(0))?;
    let has_disk = server::can_mount(&file);
    let attacks: Vec<_> = ATTACKS.iter().filter(|attack| has_disk || attack.name != attacks::DISK).collect();
    let (server, log, errors) = Server::start(&mistctl, &args.backend, &file, has_disk)?;
    let shared = Shared {
        begun: Instant::now(),
        phase: AtomicUsize::new(0),
        phases: PHASES.len() * plan.cycles,
        counts: AtomicBool::new(false),
        times: Mutex::default(),
        lost: Mutex::default(),
        outcomes: Mutex::default(),
        wrong: Mutex::default(),
        connections: AtomicUsize::new(0),
    };
    let address = server.address;
    // The first guest has started a thread.
    let mut first = Client::connect(address)?;
    first.request("plugin", "")?;
    ensure!(first.response()?.0 == 200, "the first request fails");
    drop(first);
    // After a reload, compiled code is mapped from files of the cache, which stay open.
    ensure!(server.reload(&errors)?, "the first reload failed");
    let before = server.usage()?;
    let (usages, reloads, after) = thread::scope(|scope| {
        let (shared, server, plan, directory) = (&shared, &server, &plan, directory.path());
        // The log's reader stalls in the phases of all attacks.
        scope.spawn(move || server::drain(log, || shared.kind() != ALL || shared.is_over()));
        for neighbour in NEIGHBOURS {
            scope.spawn(move || shared.load(neighbour, address));
        }
        for &attack in &attacks {
            for _ in 0..attack.clients {
                scope.spawn(move || shared.attack(attack, address));
            }
        }
        scope.spawn(move || shared.crowd(plan.crowd, address));
        let reloads = scope.spawn(move || shared.reloads(server, &errors, directory, plan));
        let usages = shared.conduct(server, plan);
        // Whatever has happened, the other threads end, and with the server its log.
        shared.phase.store(shared.phases, Ordering::Relaxed);
        let reloads = reloads.join().expect("it does not panic");
        let after = settled(server, before);
        server.signal(Signal::TERM)?;
        anyhow::Ok((usages?, reloads?, after?))
    })?;
    let status = server.wait()?;

    let mut failed = Vec::new();
    let requests: usize = lock(&shared.times).values().flatten().map(Vec::len).sum();
    println!(
        "| neighbour | requests | p50, p99 calm | p50, p99 with one route attacked | ratio | p50, p99 all at once |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, times) in &mut *lock(&shared.times) {
        let count: usize = times.iter().map(Vec::len).sum();
        let quantiles = times.each_mut().map(|times| {
            times.sort_unstable();
            [0.5, 0.99].map(|quantile| f64::from(at(times, quantile)) / 1e3)
        });
        let [calm, one, all] = quantiles.map(|[half, most]| format!("{half:.2}, {most:.1} ms"));
        let ratio = quantiles[1][0] / quantiles[CALM][0];
        println!("| {name} | {count} | {calm} | {one} | {ratio:.2} | {all} |");
        if plan.has_times && ratio > SLOWER {
            failed.push(format!("{name}: {ratio:.2} times as slow with one route attacked, and {SLOWER} are allowed"));
        }
    }
    println!("\n| attack | responses by status (0: none is owed) |\n|---|---|");
    let outcomes = lock(&shared.outcomes);
    for attack in &attacks {
        let statuses = outcomes.iter().filter(|((name, _), _)| *name == attack.name);
        let statuses: Vec<_> = statuses.map(|((_, status), count)| format!("{status}: {count}")).collect();
        println!("| {} | {} |", attack.name, statuses.join(", "));
        if statuses.is_empty() {
            failed.push(format!("{}: it was never tried", attack.name));
        }
    }
    if !has_disk {
        println!("| {} | not tried: the system lets nobody mount |", attacks::DISK);
    }
    let quarter = usages.len() / 4;
    let memory = |from: usize| {
        let mut part: Vec<_> = usages.iter().skip(from * quarter).take(quarter).map(|usage| usage.memory).collect();
        part.sort_unstable();
        at(&part, 0.5) as f64 / f64::from(1 << 20)
    };
    let (second, last) = (memory(1), memory(3));
    let peak = usages.iter().map(|usage| usage.memory).max().unwrap_or_default() >> 20;
    let (lost, wrong) = (lock(&shared.lost), lock(&shared.wrong));
    println!("\n| | |\n|---|--:|");
    println!("| time under load | {:.0} s |", shared.begun.elapsed().as_secs_f64());
    println!("| reloads, and reloads of garbage | {}, {} |", reloads[0], reloads[1]);
    println!("| requests to neighbours whose time counts, and lost requests | {requests}, {} |", lost.len());
    println!("| connections, at most | {} |", shared.connections.load(Ordering::Relaxed));
    let (first, end) = (before.memory >> 20, after.memory >> 20);
    let memory = format!("{first}, {second:.0}, {last:.0}, {peak}, {end}");
    println!("| memory in MiB: start, second quarter, last quarter, peak, end | {memory} |");
    let files = most(&usages, |usage| usage.files);
    println!("| open files: start, peak, end | {}, {files}, {} |", before.files, after.files);
    let threads = most(&usages, |usage| usage.threads);
    println!("| threads: start, peak, end | {}, {threads}, {} |", before.threads, after.threads);

    if !lost.is_empty() {
        failed.push(format!("{} requests were lost: {:#?}", lost.len(), lost.iter().take(10).collect::<Vec<_>>()));
    }
    if !wrong.is_empty() {
        failed.push(format!("{} wrong outcomes: {:#?}", wrong.len(), wrong.iter().take(10).collect::<Vec<_>>()));
    }
    if shared.connections.load(Ordering::Relaxed) < plan.crowd {
        failed.push(format!("there were never {} connections", plan.crowd));
    }
    // A short run ends while the heap still grows: what is left of it afterwards counts.
    let late = if plan.has_times { last } else { after.memory as f64 / f64::from(1 << 20) };
    if late > second * plan.memory {
        failed.push(format!("the memory grew from {second:.0} MiB to {late:.0} MiB"));
    }
    if !is_settled(after, before) {
        failed.push(format!("files and threads are not as they were: {before:?}, {after:?}"));
    }
    if !status.success() {
        failed.push(format!("the server ended with {status}"));
    }
    for rule in &failed {
        eprintln!("failed: {rule}");
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until the server takes what it took before, and returns what it takes.
fn settled(server: &Server, before: Usage) -> Result<Usage> {
    let begun = Instant::now();
    loop {
        let usage = server.usage()?;
        if is_settled(usage, before) || begun.elapsed() > SETTLE {
            return Ok(usage);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn is_settled(usage: Usage, before: Usage) -> bool {
    usage.files <= before.files && usage.threads <= before.threads
}

fn most(usages: &[Usage], what: impl Fn(&Usage) -> usize) -> usize {
    usages.iter().map(what).max().unwrap_or_default()
}

/// Returns a quantile of sorted numbers.
fn at<T: Copy + Default>(sorted: &[T], quantile: f64) -> T {
    sorted.get((sorted.len() as f64 * quantile) as usize).copied().unwrap_or_default()
}

/// Builds `mistctl`, and returns its path.
fn build(backend: &str) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        target: Option<Target>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let features = if backend.starts_with("wasmi") { "serve".to_owned() } else { format!("serve,{backend}") };
    let output = Command::new(env!("CARGO"))
        .current_dir(crate::root())
        .args(["build", "--quiet", "-p", "mistctl", "--features", &features, "--message-format", "json"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "mistctl cannot be built");
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let mut executables = messages.rev().filter_map(|line| {
        let message: Message = serde_json::from_slice(line).ok()?;
        (message.target?.name == "mistctl").then_some(message.executable).flatten()
    });
    executables.next().context("cargo names no program")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics")
}

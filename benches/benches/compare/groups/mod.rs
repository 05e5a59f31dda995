//! The groups of the benchmark, and their candidates.

mod artifacts;
pub(crate) mod memory;
mod tiered;

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use mistletoe::Limits;
use mistletoe_benches::interleaved::Comparison;
use mistletoe_benches::measured::{self, Chart, Unit};
use mistletoe_benches::run::{Run, candidates, timed_candidates};

use crate::hosts::{self, Base, Host, Loaded, hosts, layer};
use crate::names::NAMES;
use crate::packages::{CALLS, EXAMPLES, Package};

const ENGINES: [&str; 3] = ["wasmtime", "wasmer", "wasmi"];

/// A question to measure.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    title: &'static str,
    about: &'static str,
    column: &'static str,
    unit: Unit,
    chart: Chart,
    measure: fn(&mut Run),
}

pub(crate) const GROUPS: [Group; NAMES.len()] = [
    Group {
        name: "round-trip",
        title: "A call on an open session",
        about: "`Session::generate` on an instance that has been called before. Sizes are the input lengths of a \
            package that outputs its input unchanged, so that little more than the calls and the copies is measured. \
            The other packages are examples that generate a manifest. `tiered` is `Tiered<Wasmi, Wasmtime>` after \
            wasmtime has compiled, compared with the layer on wasmtime alone.",
        column: "host",
        unit: Unit::Time,
        chart: Chart::Ratio,
        measure: round_trip,
    },
    Group {
        name: "instance",
        title: "A call on a fresh instance",
        about: "`Package::generate` on a compiled package. Each call creates an instance and drops it afterwards. On \
            wasmtime, instances come from a pool, by hand and on the layer, and wasmtime keeps memory and address \
            space for it. `by hand, no pool` uses no pool.",
        column: "host",
        unit: Unit::Time,
        chart: Chart::Ratio,
        measure: instance,
    },
    Group {
        name: "cold-start",
        title: "From bytes to the first output",
        about: "A package is checked, compiled and instantiated, called once, and dropped. The engine exists before. \
            The hand-written hosts leave all checks to the engine. If the engine can serialise compiled code, two \
            more hosts load that code: the hand-written host from a file, without any check, and the layer from its \
            cache, which compares a digest of it. The ratio of the latter is to the former. `tiered` is \
            `Tiered<Wasmi, Wasmtime>`. Its first output comes from wasmi, while wasmtime compiles in another thread. \
            It is compared with the layer on wasmi alone. Both are timed until the output. wasmtime has just compiled \
            the package before each measurement, so that both begin with the same processor caches.",
        column: "host",
        unit: Unit::Time,
        chart: Chart::Value,
        measure: cold_start,
    },
    Group {
        name: "host-call",
        title: "Calls of host functions",
        about: "A guest calls a host function a thousand times. The times are per call. `nothing` has no parameters \
            and no result. `add` takes two 32-bit numbers and returns one. `wide` does the same with 64 bits. `count` \
            changes the session's state and can fail. `text` reads a string of 16 bytes from the guest's memory.",
        column: "host",
        unit: Unit::Time,
        chart: Chart::Ratio,
        measure: host_call,
    },
    Group {
        name: "limits",
        title: "The cost of limits",
        about: "A call on an open session without limits, with the default limits (time, memory, stack), and with \
            these and fuel. Ratios are to the layer without limits. `cargo bench -p mistletoe-benches --bench limits` \
            measures more: purely computational code, and wasmtime's own limits.",
        column: "limits",
        unit: Unit::Time,
        chart: Chart::Ratio,
        measure: limits,
    },
    Group {
        name: "threads",
        title: "Calls per second on one and two threads",
        about: "`namespace-rust`, compiled once and shared. Each thread has its own session, or a fresh instance for \
            each call. The rate is that of all threads together. Ratios are of times, as everywhere, to the \
            hand-written host on as many threads.",
        column: "host",
        unit: Unit::Rate,
        chart: Chart::Ratio,
        measure: threads,
    },
    Group {
        name: "compile",
        title: "Compiling a package",
        about: "From bytes to a package that can be instantiated. The hand-written hosts rely on the engine to check \
            the module. The layer checks it before the engine does. wasmi does not check a module again that passed \
            the layer's checks.",
        column: "host",
        unit: Unit::Time,
        chart: Chart::Value,
        measure: compile,
    },
    Group {
        name: "artifacts",
        title: "The size of compiled code",
        about: "The size of what the layer's cache stores for a package, as the engine serialises it: without limits, \
            with the default limits, and with these and fuel, since limits are part of the code. Ratios are to the \
            size of the module.",
        column: "limits",
        unit: Unit::Bytes,
        chart: Chart::Value,
        measure: artifacts::artifacts,
    },
    Group {
        name: "memory",
        title: "Memory",
        about: "The memory of one more compiled package, and of one more open session that has been called once: the \
            mean of 64 sessions, of 16 packages, or of 4 large packages, with one that exists before them. The last \
            rows show the whole memory of a process after a thousand calls and after many more, with a pool of one \
            session. Each row is a process of its own. Only memory that the process has written to or shares with no \
            other is counted (`Pss_Anon` and `Pss_Shmem` of `/proc/self/smaps_rollup`). The rest of the resident \
            memory is pages of the program's file, which do not depend on the number of packages or sessions.",
        column: "host",
        unit: Unit::Bytes,
        chart: Chart::Value,
        measure: memory::measure,
    },
];

impl Group {
    pub(crate) fn measure(&self, quick: bool) -> measured::Group {
        let mut run = Run::new(quick);
        (self.measure)(&mut run);
        measured::Group {
            name: self.name,
            title: self.title,
            about: self.about,
            column: self.column,
            unit: self.unit,
            chart: self.chart,
            notes: run.notes,
            rows: run.rows,
        }
    }
}

/// Returns the example packages. A quick run leaves out the large one, which takes seconds to compile.
fn packages(run: &mut Run) -> Vec<Package> {
    let mut packages = Vec::new();
    for (name, _, is_large) in EXAMPLES {
        if is_large && run.quick {
            run.notes.push(format!("`{name}` is left out of a quick run."));
        } else if let Some(package) = Package::find(name) {
            packages.push(package);
        } else {
            run.notes.push(format!("`{name}` is not built: run `cargo xtask packages`."));
        }
    }
    packages
}

/// Measures calls on open sessions.
fn sessions(run: &mut Run, package: &Package, engine: &str, pieces: u32) {
    let loaded = package.loaded(engine, Base::Plain);
    let works = loaded.iter().map(|(name, loaded)| (*name, answers(package, &**loaded)));
    let comparison = candidates(Duration::from_millis(1), works);
    run.compare(&package.what, engine, pieces, comparison);
}

/// Returns the work of a call on an open session.
fn answers<'a>(package: &'a Package, loaded: &dyn Loaded) -> Box<dyn FnMut() + 'a> {
    let mut session = loaded.open();
    for _ in 0..2 {
        package.check(&session.answer(&package.input));
    }
    Box::new(move || drop(black_box(session.answer(black_box(&package.input)))))
}

/// Makes `count` calls on one host, and little else, for a tool that counts the instructions of a process.
///
/// `what` is an example's name, a host function that is called [`CALLS`] times, or the length in bytes of an input to
/// output as it is.
pub(crate) fn answer(engine: &str, host: &str, what: &str, count: u32) {
    let package = match what.parse() {
        Ok(bytes) => Package::echo("echo", bytes),
        Err(_) => Package::host_call(what).or_else(|| Package::find(what)).expect("an example that was built"),
    };
    let mut hosts = hosts(engine, package.offer, Base::Plain);
    hosts.push(("default limits", layer(engine, package.offer, &Limits::default(), None)));
    let (_, host) = hosts.into_iter().find(|(name, _)| *name == host).expect("a host");
    let loaded = host.load(&package.wasm);
    let mut work = answers(&package, &*loaded);
    (0..count).for_each(|_| work());
}

fn round_trip(run: &mut Run) {
    let sizes = [("64 B", 64), ("4 KiB", 4 << 10), ("256 KiB", 256 << 10), ("4 MiB", 4 << 20)];
    let sizes = sizes.map(|(what, size)| Package::echo(what, size));
    for package in sizes.into_iter().chain(packages(run)) {
        for engine in ENGINES {
            sessions(run, &package, engine, 1);
        }
        tiered::in_the_end(run, &package);
    }
}

fn instance(run: &mut Run) {
    for package in [Package::echo("echo, 4 KiB", 4 << 10)].into_iter().chain(packages(run)) {
        for engine in ENGINES {
            let loaded = package.loaded(engine, Base::Pooled);
            let works = loaded.iter().map(|(name, loaded)| {
                let work = || drop(black_box(loaded.answer(black_box(&package.input))));
                (*name, Box::new(work) as Box<dyn FnMut()>)
            });
            let comparison = candidates(Duration::from_millis(2), works);
            run.compare(&package.what, engine, 1, comparison);
        }
    }
}

fn cold_start(run: &mut Run) {
    for package in [Package::echo("echo, 4 KiB", 4 << 10)].into_iter().chain(packages(run)) {
        for backend in mistletoe::backends() {
            let (_folder, cache) = artifacts::cache();
            let kept = hosts::kept(backend.name(), package.offer, &package.wasm, &cache);
            from_bytes(run, &package, backend.name(), kept, |package, host| {
                drop(black_box(host.load(black_box(&package.wasm)).answer(&package.input)));
            });
        }
        tiered::first_answer(run, &package);
    }
}

fn compile(run: &mut Run) {
    for package in packages(run) {
        for backend in mistletoe::backends() {
            from_bytes(run, &package, backend.name(), Vec::new(), |package, host| {
                drop(black_box(host.load(black_box(&package.wasm))));
            });
        }
    }
}

/// Measures what hosts do with the bytes of a package, and then hosts that load compiled code.
///
/// The first of the latter is their base.
fn from_bytes(
    run: &mut Run,
    package: &Package,
    engine: &str,
    kept: Vec<(&'static str, Box<dyn Host>)>,
    work: fn(&Package, &dyn Host),
) {
    let mut comparison = Comparison::new().turn(Duration::from_millis(5));
    for hosts in [hosts(engine, package.offer, Base::Plain), kept] {
        for (at, (name, host)) in hosts.into_iter().enumerate() {
            // This call also fills the cache.
            package.check(&host.load(&package.wasm).answer(&package.input));
            let work = move || work(package, &*host);
            if at == 0 { comparison.base(name, work) } else { comparison.add(name, work) }
        }
    }
    run.compare(&package.what, engine, 1, comparison);
}

/// Measures a guest that calls a host function in a loop in `generate`.
fn host_call(run: &mut Run) {
    for package in Package::host_calls() {
        for engine in ENGINES {
            sessions(run, &package, engine, CALLS);
        }
    }
}

fn limits_to_compare() -> [(&'static str, Limits); 3] {
    [
        ("none", Limits::unlimited()),
        ("default", Limits::default()),
        ("with fuel", Limits::default().with_fuel(u64::MAX / 2)),
    ]
}

fn limits(run: &mut Run) {
    let limits = limits_to_compare();
    for package in packages(run) {
        for engine in ENGINES {
            let works = limits.iter().map(|(name, limits)| {
                let loaded = layer(engine, package.offer, limits, None).load(&package.wasm);
                (*name, answers(&package, &*loaded))
            });
            let comparison = candidates(Duration::from_millis(1), works);
            run.compare(&package.what, engine, 1, comparison);
        }
    }
}

fn threads(run: &mut Run) {
    let packages = packages(run);
    let package = packages.iter().find(|package| package.name() == "namespace-rust").expect("it is committed");
    for fresh in [false, true] {
        for count in [1, 2] {
            for engine in ENGINES {
                let loaded = package.loaded(engine, if fresh { Base::Pooled } else { Base::Plain });
                let works = loaded.iter().map(|(name, loaded)| {
                    let work = move |repetitions| on_threads(count, package, &**loaded, fresh, repetitions);
                    (*name, Box::new(work) as Box<dyn FnMut(u32) -> Duration>)
                });
                let comparison = timed_candidates(Duration::from_millis(20), works);
                let instance = if fresh { "fresh instances" } else { "open sessions" };
                let threads = if count == 1 { "1 thread" } else { "2 threads" };
                run.compare(&format!("{instance}, {threads}"), engine, count, comparison);
            }
        }
    }
}

/// Makes `repetitions` calls on each thread.
///
/// Returns the time from the start of the first to the end of the last thread.
fn on_threads(count: u32, package: &Package, loaded: &dyn Loaded, fresh: bool, repetitions: u32) -> Duration {
    let barrier = Barrier::new(count as usize);
    let work = || {
        let mut session = loaded.open();
        package.check(&session.answer(&package.input));
        barrier.wait();
        let begin = Instant::now();
        for _ in 0..repetitions {
            let input = black_box(&package.input);
            black_box(if fresh { loaded.answer(input) } else { session.answer(input) });
        }
        (begin, Instant::now())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let times = threads.into_iter().map(|thread| thread.join().expect("a thread that answers"));
        let all = times.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)));
        all.map_or(Duration::ZERO, |(begin, end)| end - begin)
    })
}

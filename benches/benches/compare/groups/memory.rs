//! The memory of packages, of sessions, and after many calls.
//!
//! Each candidate has a process of its own, so that no allocator state carries over.

use std::fs;
use std::process::{Command, Stdio};

use mistletoe::wasi::{self, Wasi};
use mistletoe::{Imports, Limits, Pool};
use mistletoe_benches::measured::Row;
use serde::{Deserialize, Serialize};

use super::{ENGINES, Run, packages};
use crate::hosts::{Base, Host, hosts};
use crate::packages::{Package, size};

/// The work of a child process.
#[derive(Serialize, Deserialize)]
struct Task<'a> {
    piece: Piece,
    package: &'a str,
    engine: &'a str,
    host: &'a str,
    /// After how many pieces to read the memory.
    looks: [u32; 2],
}

/// A piece of work.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Piece {
    /// A compiled package that is kept.
    Package,
    /// A session that has been called once and stays open.
    Session,
    /// A call on a pool of fresh sessions.
    Fresh,
    /// A call on a pool that reuses its session.
    Reused,
}

impl Task<'_> {
    /// Runs the task in a child process, and returns the memory of the process at the two points.
    fn measure(&self) -> [f64; 2] {
        eprintln!("{}, {}, {}", self.package, self.engine, self.host);
        let program = std::env::current_exe().expect("a program");
        let task = serde_json::to_string(self).expect("names and numbers");
        let output = Command::new(program).args(["--child", &task]).stderr(Stdio::inherit()).output();
        let output = output.expect("a process");
        assert!(output.status.success(), "{}", output.status);
        serde_json::from_slice(&output.stdout).expect("two numbers")
    }
}

/// Runs a [`Task`], and prints the memory of the process at the two points.
pub(crate) fn child(task: &str) {
    let task: Task<'_> = serde_json::from_str(task).expect("a task");
    let package = Package::find(task.package).expect("a package that was built");
    let looks = task.looks;
    let mut work = work(&task, package);
    let mut done = 0;
    let memory = looks.map(|look| {
        (done..look).for_each(|_| work());
        done = look;
        memory().expect("it was there before")
    });
    println!("{}", serde_json::to_string(&memory).expect("two numbers"));
}

fn work(task: &Task<'_>, package: Package) -> Box<dyn FnMut()> {
    let host = || -> Box<dyn Host> {
        let mut hosts = hosts(task.engine, package.offer, Base::Plain).into_iter();
        hosts.find(|(name, _)| *name == task.host).expect("a host").1
    };
    let most = task.looks[1] as usize;
    match task.piece {
        Piece::Package => {
            let (host, mut held) = (host(), Vec::with_capacity(most));
            Box::new(move || held.push(host.load(&package.wasm)))
        }
        Piece::Session => {
            let (loaded, mut held) = (host().load(&package.wasm), Vec::with_capacity(most));
            Box::new(move || {
                let mut session = loaded.open();
                package.check(&session.answer(&package.input));
                held.push(session);
            })
        }
        Piece::Fresh => {
            let pool = pool(task.engine, &package);
            Box::new(move || package.check(&pool.generate(&package.input).expect("an answer")))
        }
        Piece::Reused => {
            let pool = pool(task.engine, &package).reused();
            Box::new(move || package.check(&pool.generate(&package.input).expect("an answer")))
        }
    }
}

fn pool(engine: &str, package: &Package) -> Pool<mistletoe::Package<mistletoe::AnyBackend, Wasi>> {
    let backend = mistletoe::backend(engine).expect("an engine");
    let imports: Imports<Wasi> = wasi::imports();
    let package = mistletoe::Package::with_imports(&backend, &package.wasm, &imports, Limits::unlimited());
    Pool::new(&package.expect("a package"), 1)
}

/// Returns the memory of the process in bytes, if the system reports it, which only Linux does.
///
/// Counts anonymous pages, and once each the pages of in-memory files, in which wasmtime keeps the images of instances.
/// Pages of programs and libraries do not depend on the candidate.
fn memory() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let kibibytes = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some((kibibytes("Pss_Anon:")? + kibibytes("Pss_Shmem:")?) * 1024.0)
}

pub(super) fn measure(run: &mut Run) {
    if memory().is_none() {
        run.notes.push("This system does not report the memory of a process, as Linux does.".to_owned());
        return;
    }
    let [rust, go] = ["namespace-rust", "namespace-go"];
    let packages = packages(run);
    for package in packages.iter().filter(|package| [rust, go].contains(&package.name())) {
        // Compiling the large package takes seconds.
        held(run, package, Piece::Package, if package.name() == go { 4 } else { 16 });
        held(run, package, Piece::Session, 64);
    }
    let package = packages.iter().find(|package| package.name() == rust).expect("it is committed");
    let many = if run.quick { 20_000 } else { 1_000_000 };
    for piece in [Piece::Fresh, Piece::Reused] {
        answered(run, package, piece, [1_000, many]);
    }
}

/// Measures the memory that each of `count` pieces holds. One more piece exists before, with what all of them share.
fn held(run: &mut Run, package: &Package, piece: Piece, count: u32) {
    let what = match piece {
        Piece::Package => format!("a package: {}", package.what),
        _ => format!("a session: {}", package.what),
    };
    for engine in ENGINES {
        let mut base = None;
        for (host, _) in hosts(engine, package.offer, Base::Plain) {
            let task = Task { piece, package: package.name(), engine, host, looks: [1, 1 + count] };
            let [one, all] = task.measure();
            let bytes = (all - one) / f64::from(count);
            run.rows.push(Row::bytes(&what, engine, host, bytes, *base.get_or_insert(bytes)));
        }
    }
}

/// Measures the memory of a process after few and after many calls.
fn answered(run: &mut Run, package: &Package, piece: Piece, looks: [u32; 2]) {
    let sessions = if piece == Piece::Fresh { "fresh sessions" } else { "sessions used again" };
    let what = format!("all of a process: {}, {sessions}", package.what);
    let mut grown = Vec::new();
    for engine in ENGINES {
        let memory = Task { piece, package: package.name(), engine, host: "pool", looks }.measure();
        for (look, bytes) in looks.into_iter().zip(memory) {
            run.rows.push(Row::bytes(&what, engine, &format!("after {} answers", words(look)), bytes, memory[0]));
        }
        let [few, many] = memory;
        let sign = if many < few { "-" } else { "" };
        grown.push(format!("{engine} {sign}{}", size((many - few).abs() as usize)));
    }
    let [few, many] = looks.map(words);
    run.notes.push(format!("Growth from {few} to {many} calls, {sessions}: {}.", grown.join(", ")));
}

fn words(count: u32) -> String {
    match count % 1_000_000 {
        0 => format!("{} million", count / 1_000_000),
        _ => format!("{} thousand", count / 1_000),
    }
}

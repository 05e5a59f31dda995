//! What packages, sessions and many answers hold of memory. Each candidate has a process of its own, so that none finds
//! what another has left to the allocator.

use std::fs;
use std::process::{Command, Stdio};

use mistletoe::wasi::{self, Wasi};
use mistletoe::{Imports, Limits, Pool};
use serde::{Deserialize, Serialize};

use super::{ENGINES, Package, Run, size};
use crate::hosts::{Base, Host, hosts};
use crate::measured::Row;

/// What a process is to do.
#[derive(Serialize, Deserialize)]
struct Task<'a> {
    piece: Piece,
    package: &'a str,
    engine: &'a str,
    host: &'a str,
    /// After how many pieces it is to look.
    looks: [u32; 2],
}

/// A piece of work.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Piece {
    /// A compiled package that stays.
    Package,
    /// A session that has answered, and stays open.
    Session,
    /// An answer on a pool of fresh sessions.
    Fresh,
    /// An answer on a pool that uses its session again.
    Reused,
}

impl Task<'_> {
    /// Has it done by a process of its own, which says what memory it had at the two looks.
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

/// Does a [`Task`], and prints what memory the process had at the two looks.
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

/// What the process has of memory, in bytes: pages that are no file's, and those of files in memory, which wasmtime has
/// the images of instances in, each once. Pages of programs and libraries are not the candidates' doing. Only Linux says
/// so.
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
        run.notes.push("This system does not say what memory a process has, as Linux does.".to_owned());
        return;
    }
    let [rust, go] = ["namespace-rust", "namespace-go"];
    let packages = run.packages();
    for package in packages.iter().filter(|package| [rust, go].contains(&package.name())) {
        // Compiling the large one takes seconds.
        held(run, package, Piece::Package, if package.name() == go { 4 } else { 16 });
        held(run, package, Piece::Session, 64);
    }
    let package = packages.iter().find(|package| package.name() == rust).expect("it is committed");
    let many = if run.quick { 20_000 } else { 1_000_000 };
    for piece in [Piece::Fresh, Piece::Reused] {
        answered(run, package, piece, [1_000, many]);
    }
}

/// What each of so many holds. One more was there before, with what they have in common.
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

/// What a process has after few answers and after many.
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
    run.notes.push(format!("Grown from {few} to {many} answers, {sessions}: {}.", grown.join(", ")));
}

fn words(count: u32) -> String {
    match count % 1_000_000 {
        0 => format!("{} million", count / 1_000_000),
        _ => format!("{} thousand", count / 1_000),
    }
}

//! What a module can cost an engine to compile, in time and memory, compared with real modules of the same length.
//!
//! Shows whether the budget that the layer checks (`docs/compile-cost.md`) bounds the cost.
//!
//! Each module is compiled in a process of its own, which is terminated after a minute, or at 5 GB of memory. The
//! modules of a family have the requested length, and contain as much of the expensive construct as the layer accepts.
//! The rest is plain code.
//!
//! Arguments: `--size BYTES` (100,000 by default), `--engine NAME`, `--limits none|default|fuel`, `--family TEXT` for
//! the families whose names contain it, `--patience SECONDS` for another time than a minute, `--refused` for modules
//! that consist only of the expensive construct, accepted or not, and the names of real modules.

mod bombs;
mod no_engine;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::{Duration, Instant};

use bombs::{FAMILIES, Family};
use mistletoe::backend::ModuleSource;
use mistletoe::wasi::{Wasi, imports};
use mistletoe::{Backend, Command, Error, ErrorKind, Limits, Package, module};
use no_engine::NoEngine;

const ENGINES: [&str; 6] = ["wasmi", "wasmi-lazy", "wasmtime", "wasmtime-winch", "wasmtime-pulley", "wasmer"];
/// The default time and the memory that a compilation may take.
const PATIENCE: Duration = Duration::from_secs(60);
const ROOM: f64 = 5e9;

#[derive(Default)]
struct Arguments {
    size: Option<usize>,
    engines: Vec<String>,
    limits: Vec<String>,
    family: String,
    refused: bool,
    patience: Option<u64>,
    modules: Vec<PathBuf>,
    child: Option<PathBuf>,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        match word.as_str() {
            "--size" => arguments.size = value().parse().ok(),
            "--engine" => arguments.engines.push(value()),
            "--limits" => arguments.limits.push(value()),
            "--family" => arguments.family = value(),
            "--patience" => arguments.patience = value().parse().ok(),
            "--refused" => arguments.refused = true,
            "--child" => arguments.child = Some(value().into()),
            "--bench" => {}
            _ => arguments.modules.push(word.into()),
        }
    }
    arguments
}

fn limits(name: &str) -> Limits {
    match name {
        "none" => Limits::unlimited(),
        "fuel" => Limits::default().with_fuel(u64::MAX),
        _ => Limits::default(),
    }
}

/// The cost of a compilation.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    bytes: f64,
}

fn main() {
    let mut arguments = arguments();
    if arguments.limits.is_empty() {
        arguments.limits.push("default".to_owned());
    }
    if let Some(path) = &arguments.child {
        return child(&arguments.engines[0], &arguments.limits[0], path);
    }
    if arguments.engines.is_empty() {
        arguments.engines = ENGINES.iter().map(|name| (*name).to_owned()).collect();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("module.wasm");
    let header: String = arguments.engines.iter().map(|name| format!(" {name} |")).collect();
    for limits in &arguments.limits {
        println!(
            "\nlimits: {limits}\n\n| | bytes | dear |{header}\n|---|---|---|{}",
            "---|".repeat(arguments.engines.len())
        );
        for module in &arguments.modules {
            let length = fs::metadata(module).expect("a module").len() as usize;
            let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
            row(&arguments, limits, &name, length, length, module);
        }
        for family in FAMILIES.iter().filter(|family| family.name.contains(&arguments.family)) {
            let size = arguments.size.unwrap_or(100_000);
            let Some((dose, wasm)) = dose(family, size, limits, arguments.refused) else {
                println!("| {} | {size} | refused |", family.name);
                continue;
            };
            fs::write(&path, &wasm).expect("a file");
            row(&arguments, limits, family.name, wasm.len(), dose, &path);
        }
    }
}

/// Returns the module of a family with the largest accepted dose of the expensive construct, and that dose.
fn dose(family: &Family, size: usize, limits_name: &str, refused: bool) -> Option<(usize, Vec<u8>)> {
    let module = |dose| (family.make)(dose).finish(size);
    let whole = module(size);
    let accepted = |wasm: &[u8]| {
        let package = Package::with_imports(&NoEngine, wasm, &imports::<Wasi>(), limits(limits_name));
        match package.map_err(|error| error.kind().clone()) {
            Ok(_) => true,
            Err(ErrorKind::Module(module::ErrorKind::TooMany { .. } | module::ErrorKind::TooCostly { .. })) => false,
            Err(error) => panic!("{}: {error}", family.name),
        }
    };
    if refused || accepted(&whole) {
        return Some((size, whole));
    }
    let (mut least, mut most) = (0, size);
    while most - least > size / 200 {
        let middle = least.midpoint(most);
        if accepted(&module(middle)) { least = middle } else { most = middle }
    }
    (least != 0).then(|| (least, module(least)))
}

fn row(arguments: &Arguments, limits: &str, name: &str, length: usize, dose: usize, path: &Path) {
    use std::io::Write as _;
    print!("| {name} | {length} | {dose} |");
    for engine in &arguments.engines {
        let patience = arguments.patience.map_or(PATIENCE, Duration::from_secs);
        match compile(engine, limits, path, patience) {
            Ok(Cost { seconds, bytes }) => print!(" {:.0} ms, {:.1} MB |", seconds * 1e3, bytes / 1e6),
            Err(reason) => print!(" {reason} |"),
        }
        let _ = std::io::stdout().flush();
    }
    println!();
}

/// Compiles a module in another process.
fn compile(engine: &str, limits: &str, path: &Path, patience: Duration) -> Result<Cost, String> {
    let program = std::env::current_exe().expect("a program");
    let mut command = process::Command::new(program);
    command.args(["--engine", engine, "--limits", limits, "--child"]).arg(path);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a process");
    let begun = Instant::now();
    let mut most = 0.0_f64;
    while begun.elapsed() < patience && most < ROOM {
        if child.try_wait().expect("a process").is_some() {
            let output = child.wait_with_output().expect("a process");
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let mut numbers = text.split(' ').filter_map(|number| number.parse().ok());
            return match (numbers.next(), numbers.next()) {
                (Some(seconds), Some(bytes)) => Ok(Cost { seconds, bytes }),
                _ if text.is_empty() => Err(format!("{}", output.status)),
                _ => Err(text),
            };
        }
        most = most.max(fs::read_to_string(format!("/proc/{}/status", child.id())).map_or(0.0, |status| peak(&status)));
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("more than {:.0} s, {:.0} MB", begun.elapsed().as_secs_f64(), most / 1e6))
}

/// Returns the peak memory of a process in bytes.
fn peak(status: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() * 1024.0
}

/// Compiles a module, and prints the time and the growth of the process.
fn child(engine: &str, limits_name: &str, path: &Path) {
    let wasm = fs::read(path).expect("a module");
    if engine == "none" {
        return measured(&NoEngine, &wasm, limits_name);
    }
    let backend = mistletoe::backend(engine).expect("an engine");
    // What an engine initialises once does not count.
    compiled(&backend, &bombs::smallest(), limits_name).expect("a package");
    measured(&backend, &wasm, limits_name);
}

fn measured(backend: &impl Backend, wasm: &[u8], limits_name: &str) {
    let before = peak(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let begun = processor_time();
    let result = compiled(backend, wasm, limits_name);
    let seconds = processor_time() - begun;
    let after = peak(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    match result {
        Ok(()) => println!("{seconds} {}", after - before),
        Err(error) => println!("{}", error.to_string().chars().take(60).collect::<String>()),
    }
}

/// Returns the processor time of this process in seconds, which other processes do not affect.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Compiles a package or a command. Without limits, compiles any module, even if imports are missing.
fn compiled(backend: &impl Backend, wasm: &[u8], limits_name: &str) -> mistletoe::Result<()> {
    let limits = limits(limits_name);
    let offered = imports::<Wasi>();
    let package = Package::with_imports(backend, wasm, &offered, limits).map(drop);
    let Err(ErrorKind::Interface { .. }) = package.as_ref().map_err(Error::kind) else { return package };
    let command = Command::with_imports(backend, wasm, &offered, limits).map(drop);
    let Err(ErrorKind::Interface { .. }) = command.as_ref().map_err(Error::kind) else { return command };
    if limits_name != "none" {
        return command;
    }
    match backend.compile(&ModuleSource::new(wasm, module::Config::default()), &[]) {
        Err(error) if matches!(error.kind(), ErrorKind::Engine { .. }) => Ok(()),
        compiled => compiled.map(drop),
    }
}

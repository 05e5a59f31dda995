//! `cargo xtask fuzz`: runs modules until the time is over.

use std::panic::resume_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use mistletoe::AnyBackend;
use mistletoe_conformance::Observation;

use crate::judge::{Tally, judge};
use crate::{Error, found, generate};

/// The interval of progress messages.
const NEWS: Duration = Duration::from_secs(60);

/// How many modules run on the same backends. wasmi and wasmer keep compiled code until the engine is dropped.
const BATCH: u64 = 64;

/// Run generated modules on every backend, and save disagreements as fixtures.
#[derive(Parser)]
#[command(name = "cargo xtask fuzz", bin_name = "cargo xtask fuzz")]
struct Arguments {
    /// Duration in minutes.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    minutes: f64,
    /// Seed of the first module; each later module has the next seed. Taken from the clock by default.
    #[arg(long, value_name = "S", value_parser = seed)]
    seed: Option<u64>,
    /// Maximum number of modules.
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    modules: u64,
    /// Number of threads; one per processor by default.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Run only on this backend; may be repeated.
    #[arg(long, value_name = "NAME")]
    backend: Vec<String>,
    /// Print the first module instead, as a fixture without expectations.
    #[arg(long)]
    show: bool,
}

/// Parses a seed in decimal digits, or in hexadecimal ones with the prefix `0x`, as it is printed.
fn seed(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

pub(crate) fn run() -> Result<ExitCode, Error> {
    let arguments = Arguments::parse_from(std::env::args().skip(1));
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64;
    let first = arguments.seed.unwrap_or(clock);
    let (begin, length) = (Instant::now(), Duration::try_from_secs_f64(arguments.minutes * 60.0)?);
    if arguments.show {
        let fuzzed = generate::case(first)?.ok_or("the seed makes no module")?;
        print!("{}", found::fixture(&fuzzed.case, &Observation::default())?);
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("seeds from {first:#x}");

    let selected = |backend: &AnyBackend| {
        arguments.backend.is_empty() || arguments.backend.iter().any(|name| name == backend.name())
    };
    let (next, tally, news) = (AtomicU64::new(0), Mutex::new(Tally::default()), Mutex::new(begin));
    let judge = |seed: u64, backends: &[AnyBackend]| {
        let mut own = Tally::default();
        let result = judge(seed, backends, &mut own);
        let mut tally = lock(&tally);
        tally.add(own);
        if let Err(disagreement) = result {
            println!("{disagreement}");
            match found::save(&disagreement) {
                Ok(Some(path)) => println!("    saved as {}", path.display()),
                Ok(None) => {}
                Err(error) => println!("    not saved: {error}"),
            }
        }
        let mut news = lock(&news);
        if news.elapsed() >= NEWS {
            *news = Instant::now();
            eprintln!("{:.0} s: {tally}", begin.elapsed().as_secs_f64());
        }
    };
    let work = || -> Result<(), Error> {
        while begin.elapsed() < length {
            let batch = next.fetch_add(BATCH, Relaxed);
            let modules = batch..arguments.modules.min(batch.saturating_add(BATCH));
            if modules.is_empty() {
                break;
            }
            let mut backends = crate::backends()?;
            backends.retain(selected);
            for module in modules.take_while(|_| begin.elapsed() < length) {
                judge(first.wrapping_add(module), &backends);
            }
        }
        Ok(())
    };
    let jobs = arguments.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;

    let tally = lock(&tally);
    println!("{tally}; {:.1} modules a second", tally.modules as f64 / begin.elapsed().as_secs_f64());
    Ok(if tally.disagreements == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The counts of a thread that panicked are valid.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

//! `cargo xtask fuzz`: module after module, until the time is over.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use mistletoe_conformance::Observation;

use crate::judge::{Tally, judge};
use crate::{Error, found, generate};

/// How often is told how far it is.
const NEWS: Duration = Duration::from_secs(60);

/// Runs generated modules on every backend, and saves as a fixture what they do not agree on.
#[derive(Parser)]
#[command(name = "cargo xtask fuzz", bin_name = "cargo xtask fuzz")]
struct Arguments {
    /// How long, in minutes.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    minutes: f64,
    /// The first module's seed; those after it have the next. From the clock by default.
    #[arg(long, value_name = "S", value_parser = seed)]
    seed: Option<u64>,
    /// At most so many modules.
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    modules: u64,
    /// How many threads; one a processor by default.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Only on this backend; may be repeated.
    #[arg(long, value_name = "NAME")]
    backend: Vec<String>,
    /// Print the first module instead, as a fixture without expectations.
    #[arg(long)]
    show: bool,
}

/// A seed in decimal digits or, as it is shown, in hexadecimal ones.
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

    let mut backends = crate::backends()?;
    if !arguments.backend.is_empty() {
        backends.retain(|backend| arguments.backend.iter().any(|name| name == backend.name()));
    }
    let (next, tally, news) = (AtomicU64::new(0), Mutex::new(Tally::default()), Mutex::new(begin));
    let work = || {
        while begin.elapsed() < length {
            let module = next.fetch_add(1, Relaxed);
            if module >= arguments.modules {
                break;
            }
            let mut own = Tally::default();
            let result = judge(first.wrapping_add(module), &backends, &mut own);
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
        }
    };
    let jobs = arguments.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    thread::scope(|scope| (0..jobs).try_for_each(|_| crate::thread().spawn_scoped(scope, work).map(drop)))?;

    let tally = lock(&tally);
    println!("{tally}; {:.1} modules a second", tally.modules as f64 / begin.elapsed().as_secs_f64());
    Ok(if tally.disagreements == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a thread that panicked has counted, counts.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

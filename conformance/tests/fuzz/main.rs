//! Generated modules on every backend: with limits all of them have to do the same, down to the fuel; and the same as
//! without limits, where none is reached. As tests on seeds that are always the same, and for as long as one likes with
//! `cargo xtask fuzz`.

mod drive;
mod found;
mod gauge;
mod generate;
mod judge;
mod long;
mod parts;
mod random;

use std::panic::resume_unwind;
use std::process::ExitCode;
use std::thread;

use libtest_mimic::{Arguments, Failed, Trial};
use mistletoe::AnyBackend;

use crate::judge::{Tally, judge};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How many tests there are, and with how many modules each: half a minute for all on two cores.
const TESTS: (u64, u64) = (16, 64);

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("long") => long::run(),
        _ => Ok(tests()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn tests() -> ExitCode {
    let (tests, modules) = TESTS;
    let trials = (0..tests).map(|test| {
        let seeds = test * modules..(test + 1) * modules;
        let work = move || {
            let (backends, mut tally) = (backends()?, Tally::default());
            for seed in seeds.clone() {
                judge(seed, &backends, &mut tally).map_err(|disagreement| Failed::from(disagreement.to_string()))?;
            }
            Ok(())
        };
        Trial::test(format!("seeds::{:03}-{:03}", test * modules, (test + 1) * modules - 1), move || {
            thread::scope(|scope| {
                thread().spawn_scoped(scope, work)?.join().unwrap_or_else(|panic| resume_unwind(panic))
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// A thread that modules are run on. wasmi 2.0.0 takes some of the host's stack for each `memory.grow` and `table.grow`
/// until the guest's function returns, so that a loop of them needs more of it than any thread has by default.
fn thread() -> thread::Builder {
    thread::Builder::new().stack_size(1 << 29)
}

fn backends() -> Result<Vec<AnyBackend>, mistletoe::Error> {
    let enabled = mistletoe::backends().iter().filter(|info| info.is_enabled());
    enabled.map(|info| mistletoe::backend(info.name())).collect()
}

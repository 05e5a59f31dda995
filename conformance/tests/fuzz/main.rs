//! Generated modules on every backend.
//!
//! With limits, all backends have to do the same, down to the fuel. If no limit is reached, they also have to do the
//! same as without limits.
//!
//! Runs as tests with fixed seeds, and for any length of time with `cargo xtask fuzz`.

mod drive;
mod found;
mod generate;
mod judge;
mod long;
mod parts;
mod random;
mod reference_calls;
mod reference_meter;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use mistletoe::AnyBackend;

use crate::judge::{Tally, judge};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The number of tests, and of modules per test. All tests take half a minute on two cores.
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
        Trial::test(format!("seeds::{:03}-{:03}", seeds.start, seeds.end - 1), move || {
            let (backends, mut tally) = (backends()?, Tally::default());
            for seed in seeds {
                judge(seed, &backends, &mut tally).map_err(|disagreement| Failed::from(disagreement.to_string()))?;
            }
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn backends() -> Result<Vec<AnyBackend>, mistletoe::Error> {
    let enabled = mistletoe::backends().iter().filter(|info| info.is_enabled());
    enabled.map(|info| mistletoe::backend(info.name())).collect()
}

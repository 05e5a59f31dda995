//! The tasks of the project, run as `cargo xtask <task>`.

#![forbid(unsafe_code)]

mod bench;
mod instructions;
mod packages;
#[cfg(target_os = "linux")]
mod soak;
mod suite;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The tasks of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compare the layer with hand-written hosts for one engine each.
    Bench(bench::Args),
    /// Run the conformance suite, as a matrix of cases and backends.
    Conformance(suite::Args),
    /// Run generated modules on every backend, and compare the results.
    Fuzz(suite::Args),
    /// Count the instructions of a call, on the layer and by hand (needs valgrind).
    Instructions(instructions::Args),
    /// Build the example packages that are not written in WebAssembly text.
    Packages(packages::Args),
    /// Run `mistctl serve` under faults and reloads for minutes, and check that nothing is lost or leaks.
    #[cfg(target_os = "linux")]
    Soak(soak::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().task {
        Task::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Conformance(args) => suite::conformance(&args),
        Task::Fuzz(args) => suite::fuzz(&args),
        Task::Instructions(args) => instructions::run(&args),
        Task::Packages(args) => packages::run(&args).map(|()| ExitCode::SUCCESS),
        #[cfg(target_os = "linux")]
        Task::Soak(args) => soak::run(&args),
    }
}

/// Returns the project's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
}

//! The project's own tasks, run as `cargo xtask <task>`. Each has a file of its own.

#![forbid(unsafe_code)]

mod conformance;
mod fuzz;
mod packages;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the conformance suite, as a matrix of cases and backends.
    Conformance(conformance::Args),
    /// Run generated modules on every backend, and compare.
    Fuzz(fuzz::Args),
    /// Build the example packages that are not written in WebAssembly text.
    Packages(packages::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().task {
        Task::Conformance(args) => conformance::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Packages(args) => packages::run(&args).map(|()| ExitCode::SUCCESS),
    }
}

/// The project's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
}

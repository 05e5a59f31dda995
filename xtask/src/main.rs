//! The project's own tasks, run as `cargo xtask <task>`. Each has a file of its own.

mod packages;

use std::path::Path;

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
    /// Build the example packages that are not written in WebAssembly text.
    Packages(packages::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Packages(args) => packages::run(&args),
    }
}

/// The project's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
}

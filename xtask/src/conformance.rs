//! `cargo xtask conformance`: runs the conformance suite as a matrix of cases and backends.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// What the suite takes; `--help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The suite's own test program does the work, built just as `cargo test --workspace` builds it: with the engines in it,
/// of which this program needs none, and without building them a second time.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let status = Command::new(env!("CARGO"))
        .current_dir(crate::root())
        .args(["test", "--quiet", "--workspace", "--test", "conformance", "--", "matrix"])
        .args(&args.arguments)
        // Cargo runs a test in its package's folder; files are named from where the user is.
        .env("CONFORMANCE_FOLDER", env::current_dir().context("the current folder is gone")?)
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

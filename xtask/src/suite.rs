//! `cargo xtask conformance` and `cargo xtask fuzz`: the test programs of the conformance suite, by themselves.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// What the test program takes; `--help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The matrix of cases and backends.
pub(crate) fn conformance(args: &Args) -> Result<ExitCode> {
    run("conformance", "matrix", args)
}

/// Generated modules on every backend until the time is over.
pub(crate) fn fuzz(args: &Args) -> Result<ExitCode> {
    run("fuzz", "long", args)
}

/// Runs a test program, built just as `cargo test --workspace` builds it: with the engines in it, of which this program
/// needs none, and without building them a second time.
fn run(test: &str, verb: &str, args: &Args) -> Result<ExitCode> {
    let status = Command::new(env!("CARGO"))
        .current_dir(crate::root())
        .args(["test", "--quiet", "--workspace", "--test", test, "--", verb])
        .args(&args.arguments)
        // Cargo runs a test in its package's folder; files are named from where the user is.
        .env("CONFORMANCE_FOLDER", env::current_dir().context("the current folder is gone")?)
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

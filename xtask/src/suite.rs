//! `cargo xtask conformance` and `cargo xtask fuzz`: run the test programs of the conformance suite on their own.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Arguments of the test program; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the matrix of cases and backends.
pub(crate) fn conformance(args: &Args) -> Result<ExitCode> {
    run("conformance", "matrix", args)
}

/// Runs generated modules on every backend until the time is over.
pub(crate) fn fuzz(args: &Args) -> Result<ExitCode> {
    run("fuzz", "long", args)
}

/// Runs a test program, built exactly as `cargo test --workspace` builds it.
///
/// It contains the engines, which xtask does not need, and is not built a second time.
fn run(test: &str, verb: &str, args: &Args) -> Result<ExitCode> {
    let status = Command::new(env!("CARGO"))
        .current_dir(crate::root())
        .args(["test", "--quiet", "--workspace", "--test", test, "--", verb])
        .args(&args.arguments)
        // Cargo runs a test in its package's directory, but file names are relative to the user's.
        .env("CONFORMANCE_FOLDER", env::current_dir().context("the current folder is gone")?)
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

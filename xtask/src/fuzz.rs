//! `cargo xtask fuzz`: runs generated modules on every backend until the time is over.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// How long and from which seed; `--help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// As with the conformance suite, the test program does the work, built just as `cargo test --workspace` builds it.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let status = Command::new(env!("CARGO"))
        .current_dir(crate::root())
        .args(["test", "--quiet", "--workspace", "--test", "fuzz", "--", "long"])
        .args(&args.arguments)
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

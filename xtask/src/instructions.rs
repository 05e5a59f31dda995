//! `cargo xtask instructions`: how many instructions an answer takes, on the layer and by hand.
//!
//! Unlike times, these do not change with what else the machine does, so that a check can hold a line. valgrind counts
//! them for a whole process; the difference between two numbers of answers is what the answers took.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail where the layer takes more than 1.05 times the instructions of the host by hand, 1.18 times on wasmtime
    #[arg(long)]
    check: bool,
}

/// The engines, and what the layer may take there, static and erased, of what the host by hand does. Guests of wasmtime
/// have a stack of the layer's own, which the host by hand does not make; and whether wasmtime's generic functions are put into each
/// other changes from build to build, by a tenth.
const ENGINES: [(&str, [f64; 2]); 3] = [("wasmtime", [1.18, 1.18]), ("wasmer", [1.05, 1.05]), ("wasmi", [1.05, 1.05])];
/// Above a kilobyte the allocator does more or less, as its heap happens to be.
const SIZES: [(&str, u32); 2] = [("64 B", 64), ("1,000 B", 1_000)];
/// The host that others are compared with, and those that are held to the line.
const HOSTS: [&str; 3] = ["by hand", "static", "erased"];
/// So many that what an engine's threads do in between is little beside them.
const ANSWERS: [u32; 2] = [2_000, 22_000];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let program = build()?;
    println!("| input | engine | host | instructions | ratio |");
    println!("|---|---|---|--:|--:|");
    let mut above = false;
    for (size, bytes) in SIZES {
        for (engine, most) in ENGINES {
            let mut base = None;
            for host in HOSTS {
                let count = instructions(&program, engine, host, bytes)?;
                let ratio = count / *base.get_or_insert(count);
                println!("| {size} | {engine} | {host} | {count:.0} | {ratio:.3} |");
                above |= ratio > if host == "erased" { most[1] } else { most[0] };
            }
        }
    }
    if args.check && above {
        eprintln!("the layer takes more instructions than it may");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// What one answer of a host's takes.
fn instructions(program: &Path, engine: &str, host: &str, bytes: u32) -> Result<f64> {
    let [few, many] = ANSWERS.map(|answers| count(program, engine, host, bytes, answers));
    Ok((many? - few?) / f64::from(ANSWERS[1] - ANSWERS[0]))
}

/// What a whole process takes.
fn count(program: &Path, engine: &str, host: &str, bytes: u32, answers: u32) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--answers", engine, host, &bytes.to_string(), &answers.to_string()])
        .current_dir(crate::root().join("benches"))
        .output()
        .context("cannot run valgrind, which counts the instructions")?;
    let report = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the benchmark failed under valgrind:\n{report}");
    let collected = report.lines().find_map(|line| line.split_once("Collected :"));
    let (_, collected) = collected.with_context(|| format!("valgrind did not say how many they are:\n{report}"))?;
    collected.trim().parse().with_context(|| format!("valgrind said {collected}"))
}

/// Builds the benchmark for the engines that tests are built with, and everything of the project's own as a release is.
fn build() -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["bench", "--profile", "dev", "--workspace", "--bench", "compare", "--no-run", "--quiet"])
        .args(["--message-format", "json"])
        .envs([
            ("CARGO_PROFILE_DEV_OPT_LEVEL", "3"),
            ("CARGO_PROFILE_DEV_DEBUG_ASSERTIONS", "false"),
            ("CARGO_PROFILE_DEV_OVERFLOW_CHECKS", "false"),
            ("CARGO_INCREMENTAL", "0"),
        ])
        .current_dir(crate::root())
        .stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    ensure!(output.status.success(), "the benchmark was not built");
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().rev().find_map(|line| serde_json::from_str::<Message>(line).ok()?.executable);
    executable.context("cargo did not say what it built")
}

//! `cargo xtask instructions`: counts the instructions of a call, on the layer and by hand.
//!
//! Unlike times, these counts do not depend on the load of the machine, so a check can enforce a limit. valgrind counts
//! the instructions of a whole process. The difference between two numbers of calls is the cost of the calls.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail if the layer takes more than 1.05 times the instructions of the hand-written host, or 1.18 times on
    /// wasmtime
    #[arg(long)]
    check: bool,
}

/// The engines, and the maximum ratios of the layer, static and erased, to the hand-written host.
///
/// Guests of wasmtime run on a stack that the layer creates, and the hand-written host does not. And whether wasmtime's
/// generic functions are inlined varies between builds, by a tenth.
const ENGINES: [(&str, [f64; 2]); 3] = [("wasmtime", [1.18, 1.18]), ("wasmer", [1.05, 1.05]), ("wasmi", [1.05, 1.05])];
/// Above a kilobyte, the allocator's work depends on the state of its heap.
const SIZES: [(&str, u32); 2] = [("64 B", 64), ("1,000 B", 1_000)];
/// The host that others are compared with, and the hosts that are checked.
const HOSTS: [&str; 3] = ["by hand", "static", "erased"];
/// Enough calls that the work of an engine's threads in the meantime is negligible.
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

/// Returns the instructions of one call on a host.
fn instructions(program: &Path, engine: &str, host: &str, bytes: u32) -> Result<f64> {
    let [few, many] = ANSWERS.map(|answers| count(program, engine, host, bytes, answers));
    Ok((many? - few?) / f64::from(ANSWERS[1] - ANSWERS[0]))
}

/// Returns the instructions of a whole process.
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

/// Builds the benchmark with the engines as built for tests, and the project's own crates as built for a release.
fn build() -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["bench", "--profile", "test", "--workspace", "--bench", "compare", "--no-run", "--quiet"])
        .args(["--message-format", "json"])
        .envs([
            ("CARGO_PROFILE_TEST_OPT_LEVEL", "3"),
            ("CARGO_PROFILE_TEST_DEBUG_ASSERTIONS", "false"),
            ("CARGO_PROFILE_TEST_OVERFLOW_CHECKS", "false"),
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

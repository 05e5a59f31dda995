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
    /// Fail if the layer takes more than its maximum, which is part of the table
    #[arg(long)]
    check: bool,
}

const ENGINES: [&str; 3] = ["wasmtime", "wasmer", "wasmi"];
/// The host that others are compared with.
const BASE: &str = "by hand";

/// What is counted.
struct Case {
    name: &'static str,
    /// How the benchmark calls it.
    what: &'static str,
    /// Two numbers of outputs. The greater is enough for the work of an engine's threads in the meantime to be negligible.
    outputs: [u32; 2],
    /// The number of calls in an output.
    calls: u32,
    /// The hosts that are compared, with the maximum of the ratio to the hand-written host on each of the [engines](ENGINES).
    hosts: &'static [(&'static str, [f64; 3])],
}

/// Guests of wasmtime run on a stack that the layer creates, and the hand-written host does not. And whether wasmtime's
/// generic functions are inlined varies between builds, by a tenth.
///
/// Above a kilobyte, the allocator's work depends on the state of its heap.
const CASES: [Case; 5] = [
    Case { name: "64 B", what: "64", outputs: [2_000, 22_000], calls: 1, hosts: OUTPUT },
    Case { name: "1,000 B", what: "1000", outputs: [2_000, 22_000], calls: 1, hosts: OUTPUT },
    Case { name: "`add`", what: "add", outputs: [20, 220], calls: 1_000, hosts: HOST_CALL },
    Case { name: "`count`", what: "count", outputs: [20, 220], calls: 1_000, hosts: HOST_CALL },
    Case { name: "`text`", what: "text", outputs: [20, 220], calls: 1_000, hosts: HOST_CALL },
];
const OUTPUT: &[(&str, [f64; 3])] =
    &[("static", [1.18, 1.05, 1.05]), ("erased", [1.18, 1.05, 1.05]), ("default limits", [1.25, 1.12, 1.28])];
const HOST_CALL: &[(&str, [f64; 3])] = &[("static", [2.05, 1.42, 1.4]), ("default limits", [2.1, 1.45, 1.5])];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let program = build()?;
    println!("| call | engine | host | instructions | ratio | maximum |");
    println!("|---|---|---|--:|--:|--:|");
    let mut above = false;
    for case in &CASES {
        for (at, engine) in ENGINES.into_iter().enumerate() {
            let base = case.instructions(&program, engine, BASE)?;
            println!("| {} | {engine} | {BASE} | {base:.0} | | |", case.name);
            for (host, maxima) in case.hosts {
                let (count, maximum) = (case.instructions(&program, engine, host)?, maxima[at]);
                let ratio = count / base;
                println!("| {} | {engine} | {host} | {count:.0} | {ratio:.3} | {maximum} |", case.name);
                above |= ratio > maximum;
            }
        }
    }
    if args.check && above {
        eprintln!("the layer takes more instructions than it may");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

impl Case {
    /// Returns the instructions of one call on a host.
    fn instructions(&self, program: &Path, engine: &str, host: &str) -> Result<f64> {
        let [few, many] = self.outputs.map(|outputs| count(program, engine, host, self.what, outputs));
        Ok((many? - few?) / f64::from((self.outputs[1] - self.outputs[0]) * self.calls))
    }
}

/// Returns the instructions of a whole process.
fn count(program: &Path, engine: &str, host: &str, what: &str, outputs: u32) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--answers", engine, host, what, &outputs.to_string()])
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

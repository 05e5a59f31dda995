//! The group `scheduler`: plugins of the Kubernetes scheduler, and whole requests of a scheduler extender.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::measured::{Environment, Measured};
use super::tables::{environment_of, sections};
use super::{Executables, go};

/// The name of the group.
pub(super) const NAME: &str = "scheduler";

/// Builds all programs, and runs the benchmark. Returns the versions of what takes part, too.
pub(super) fn measure(quick: bool) -> Result<(Measured, Vec<String>)> {
    // All of the workspace, so that the engines are those of the other benchmarks.
    let built = Executables::build(&[
        "--profile",
        "bench",
        "--workspace",
        "--bench",
        "scheduler",
        "--bin",
        "mistctl",
        "--features",
        "mistctl/serve,mistctl/wasmtime,mistctl/wasmer",
    ])?;
    let (benchmark, mistctl) = (built.find("bench", "scheduler")?, built.find("bin", "mistctl")?);
    let peer = go::build("benches/peers/scheduler", &mistctl.with_file_name("bench-scheduler-peer"))?;
    let mut command = Command::new(benchmark);
    command.args(quick.then_some("--quick")).arg("--mistctl").arg(mistctl);
    let mut versions = Vec::new();
    match &peer {
        Some(peer) => {
            command.arg("--peer").arg(peer);
            versions.extend(go::versions(peer, &["github.com/tetratelabs/wazero", "k8s.io/api"])?);
        }
        None => eprintln!("without the host in Go: there is no Go compiler"),
    }
    let output = command.stderr(std::process::Stdio::inherit()).output().context("cannot run the benchmark")?;
    ensure!(output.status.success(), "the benchmark failed");
    let measured = serde_json::from_slice(&output.stdout).context("the benchmark printed something else than JSON")?;
    Ok((measured, versions))
}

/// Returns the whole document. Charts are linked as files in a directory beside it.
pub(super) fn document(measured: &Measured, environment: &Environment, charts: &str) -> String {
    format!(
        "# The speed of the scheduler's plugins

This document measures [plugins of the Kubernetes scheduler](scheduler.md). The plugin looks at one label of each node
([`rank.wat`](../benches/benches/scheduler/rank.wat)), which is little work: most of the time is the host's. A
[node](../benches/benches/scheduler/objects.rs) has ten labels and eight images. One node of four is refused, with a
reason.

`by hand` is a host that is written for one engine ([`benches/src/scheduler`](../benches/src/scheduler)). It resolves
everything once, accesses the memory as a slice, and has no limits, no uniform errors, no WASI and no log. The layer has
its defaults. [The host in Go](../benches/peers/scheduler) writes Kubernetes' own types into the plugin's memory as that of
kube-scheduler-wasm-extension does, and has no limits. It has only the functions that this plugin imports.

Rows of the same subject and engine ran alternately, so ratios are more reliable than times. A ratio is the median of the
ratios to the first row within one round. Above 1.00 is slower. Half of the values lie between the two numbers in
brackets. Each result was checked before it was timed.

`cargo xtask bench --group scheduler --report docs/scheduler-speed.md` updates this file.

{}{}",
        environment_of(environment),
        sections(&measured.groups, charts)
    )
}

#[cfg(test)]
mod tests {
    use super::super::measured::{Results, sample};
    use super::super::tables::tests::environment;
    use super::*;

    fn measured() -> Measured {
        Measured { quick: false, optimised: true, peers: true, groups: vec![sample()] }
    }

    #[test]
    fn the_document_has_the_charts_that_are_written() {
        let text = document(&measured(), &environment(), "scheduler-speed");
        assert!(
            text.contains("\n- A processor, 4 cores") && text.contains("![An answer](scheduler-speed/round-trip.svg)")
        );
    }

    #[test]
    fn results_are_read_back() {
        let results = Results::Scheduler { environment: environment(), scheduler: measured() };
        let text = serde_json::to_string(&results).expect("JSON");
        let again = serde_json::from_str(&text).expect("the same");
        assert!(matches!(again, Results::Scheduler { scheduler, .. } if scheduler.groups.len() == 1));
    }
}

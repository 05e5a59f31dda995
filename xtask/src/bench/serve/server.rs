//! Servers as processes of their own, and the generator of load.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// How long a server may take to compile its module and to listen.
const START: Duration = Duration::from_secs(120);
/// The duration of a run, in seconds. wrk takes whole ones.
const SECONDS: u32 = 1;

/// A server that listens. It is killed when it is dropped.
pub(super) struct Server {
    process: Child,
    url: String,
}

impl Server {
    /// Starts a server that prints its URL to standard error, and waits for it.
    pub(super) fn start(mut command: Command, path: &str) -> Result<Self> {
        let shown = format!("{command:?}");
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {shown}"))?;
        let stderr = process.stderr.take();
        let mut server = Self { process, url: String::new() };
        let mut stderr = BufReader::new(stderr.context("no standard error")?);
        let (sender, started) = mpsc::channel();
        // Also reads what the server says later, so that it is never blocked.
        thread::spawn(move || {
            let mut said = String::new();
            while stderr.read_line(&mut said).is_ok_and(|length| length > 0) {
                if let Some((_, url)) = said.rsplit_once("http://") {
                    let _ = sender.send(Ok(format!("http://{}", url.trim_end())));
                    let _ = stderr.read_to_end(&mut Vec::new());
                    return;
                }
            }
            let _ = sender.send(Err(said));
        });
        match started.recv_timeout(START) {
            Ok(Ok(url)) => server.url = url + path,
            Ok(Err(said)) => bail!("{shown} did not start:\n{said}"),
            Err(_) => bail!("{shown} did not start within {} s", START.as_secs()),
        }
        Ok(server)
    }

    /// Returns the processor time that the server has used, in microseconds, where the system tells it.
    pub(super) fn processor_time(&self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        // After the program's name, which may contain spaces. `utime` and `stime` are the 14th and 15th field of all, in
        // hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) * 1e4)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A request, and the response that is expected.
pub(super) struct Exchange {
    /// The script, and the files of the body and of the response.
    files: [PathBuf; 3],
    header: Option<&'static str>,
}

/// The results of a run of wrk.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Run {
    pub(super) requests: u64,
    pub(super) microseconds: f64,
    wrong: u64,
    failed: u64,
    /// Percentiles of latencies, in microseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

#[cfg(test)]
impl Run {
    pub(super) fn of(requests: u64, microseconds: f64, [p50, p99, p999]: [f64; 3]) -> Self {
        Self { requests, microseconds, wrong: 0, failed: 0, p50, p99, p999 }
    }
}

impl Exchange {
    /// Keeps the texts as files in a directory, under a name.
    pub(super) fn new(
        directory: &Path,
        name: &str,
        header: Option<&'static str>,
        body: &str,
        response: &str,
    ) -> Result<Self> {
        let write = |suffix: &str, text: &str| -> Result<PathBuf> {
            let path = directory.join(format!("{name}.{suffix}"));
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let script = write("lua", include_str!("wrk.lua"))?;
        Ok(Self { files: [script, write("body", body)?, write("response", response)?], header })
    }

    /// Loads a server over this many connections. Fails if a request fails, or a response is not the expected one.
    pub(super) fn load(&self, server: &Server, connections: u32) -> Result<Run> {
        let [script, body, response] = &self.files;
        let mut command = Command::new("wrk");
        command.args(["--threads", "1", "--timeout", "20s", "--connections", &connections.to_string()]);
        command.args(["--duration", &format!("{SECONDS}s"), "--script"]).arg(script);
        if let Some(header) = self.header {
            command.args(["--header", header]);
        }
        command.arg(&server.url).arg("--").args([body, response]);
        let output = command.output().context("cannot run wrk; Debian has it: apt-get install wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = || format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "wrk failed:\n{}", said());
        let line = text.lines().find(|line| line.starts_with('{'));
        let line = line.with_context(|| format!("wrk printed no results:\n{}", said()))?;
        let run: Run = serde_json::from_str(line).with_context(|| format!("wrk printed {line}"))?;
        ensure!(run.wrong == 0 && run.failed == 0 && run.requests > 0, "not every response is right: {line}");
        Ok(run)
    }
}

/// Returns the version of wrk.
pub(super) fn version() -> Result<String> {
    let output = Command::new("wrk").arg("--version").output();
    let output = output.context("cannot run wrk; Debian has it: apt-get install wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

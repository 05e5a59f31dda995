//! The process of the server: its files, its signals, and what it takes of the system.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::client::Client;
use super::guests::DISK;

/// How long a reload or a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns whether the system lets the server have a disk of its own.
pub(super) fn can_mount(file: &Path) -> bool {
    with_disk(file, Path::new("true")).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs a program in a mount namespace of its own, in which [`DISK`] beside the configuration has 1 MiB.
fn with_disk(file: &Path, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    command.arg("mount -t tmpfs -o size=1m tmpfs \"$0\" && exec \"$@\"");
    command.arg(file.with_file_name(DISK)).arg(program);
    command
}

/// A server, which is killed when this is dropped.
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
    admin: SocketAddr,
}

/// What a process takes of the system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Resident memory in bytes.
    pub(super) memory: u64,
    pub(super) files: usize,
    pub(super) threads: usize,
}

impl Server {
    /// Starts a server, with a small disk for a guest or without. Also returns its log and, without the first one, the
    /// lines of its standard error.
    pub(super) fn start(
        mistctl: &Path,
        backend: &str,
        file: &Path,
        has_disk: bool,
    ) -> Result<(Self, ChildStdout, Receiver<String>)> {
        let mut command = if has_disk { with_disk(file, mistctl) } else { Command::new(mistctl) };
        let mut child = command
            .args(["serve", "--backend", backend])
            .arg(file)
            // One heap for all threads: with several, glibc keeps more and more free memory, which looks like a leak.
            .env("MALLOC_ARENA_MAX", "1")
            // It also keeps freed memory, sometimes as much again as is in use. What is given back at once shows a leak.
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .env("MALLOC_TRIM_THRESHOLD_", "131072")
            // Compiled code is kept where the run ends.
            .env("MISTLETOE_CACHE", file.with_file_name("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", mistctl.display()))?;
        let (log, stderr) = (child.stdout.take().context("no pipe")?, child.stderr.take().context("no pipe")?);
        let (lines, errors) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let line = errors.recv_timeout(PATIENCE).context("the server does not start")?;
        let mut addresses =
            line.split("http://").skip(1).map(|rest| rest.split(',').next().unwrap_or_default().parse());
        let (Some(Ok(address)), Some(Ok(admin))) = (addresses.next(), addresses.next()) else {
            child.kill()?;
            bail!("the server says: {line}");
        };
        Ok((Self { child, address, admin }, log, errors))
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Reloads, and waits until the server says that it has. Returns whether the routes are new ones.
    pub(super) fn reload(&self, errors: &Receiver<String>) -> Result<bool> {
        self.signal(Signal::HUP)?;
        loop {
            let line = errors.recv_timeout(PATIENCE).context("a reload has no end")?;
            if line.starts_with("info: reloaded") || line.starts_with("warning: the reload failed") {
                return Ok(line.starts_with("info"));
            }
        }
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        let process = Path::new("/proc").join(self.child.id().to_string());
        let status = fs::read_to_string(process.join("status"))?;
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok()).context("no number")
        };
        let files = fs::read_dir(process.join("fd"))?.count();
        Ok(Usage { memory: field("VmRSS")? << 10, files, threads: field("Threads")? as usize })
    }

    /// Returns the sum of a metric, over all of its labels.
    pub(super) fn metric(&self, name: &str) -> Result<f64> {
        let mut client = Client::connect(self.admin)?;
        client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let (_, body) = client.response()?;
        let text = String::from_utf8(body)?;
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Waits for the end.
    pub(super) fn wait(mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log while `is_read`, and then to its end.
pub(super) fn drain(mut log: ChildStdout, is_read: impl Fn() -> bool) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if !is_read() {
            thread::sleep(Duration::from_millis(50));
        } else if !matches!(log.read(&mut buffer), Ok(1..)) {
            return;
        }
    }
}

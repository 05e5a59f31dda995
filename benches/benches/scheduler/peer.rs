//! The host in Go, as processes.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Subject;

/// The host, which calls the plugin for as long as it is told to.
pub(crate) struct Peer {
    _process: Process,
    commands: ChildStdin,
    responses: BufReader<ChildStdout>,
}

/// A process that is killed when this is dropped.
pub(crate) struct Process(Child);

impl Peer {
    /// Starts the host, with the plugin and all objects.
    pub(crate) fn calls(program: &Path, subject: &Subject) -> Self {
        let objects = subject.directory.path().join("objects");
        let lines: Vec<&str> = [&subject.pod].into_iter().chain(&subject.nodes).map(|text| &**text).collect();
        fs::write(&objects, lines.join("\n")).expect("a file");
        let mut command = Command::new(program);
        command.arg("calls").arg(subject.module()).arg(objects).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process(command.spawn().expect("the host in Go starts"));
        let commands = process.0.stdin.take().expect("it is piped");
        let responses = BufReader::new(process.0.stdout.take().expect("it is piped"));
        Self { _process: process, commands, responses }
    }

    /// Lets the host do something about the first `count` nodes. Returns the time, and a sum to check.
    pub(crate) fn work(&mut self, what: &str, count: usize, repetitions: u32) -> (Duration, u64) {
        writeln!(self.commands, "{what} {count} {repetitions}").expect("the host in Go runs");
        let mut line = String::new();
        self.responses.read_line(&mut line).expect("a response");
        let mut numbers = line.split_whitespace().map(|number| number.parse().expect("a number"));
        let (Some(nanoseconds), Some(sum)) = (numbers.next(), numbers.next()) else { panic!("no response: {line:?}") };
        (Duration::from_nanos(nanoseconds), sum)
    }
}

impl Process {
    /// Starts a server that prints its URL to standard error. Returns its address, too.
    pub(crate) fn server(mut command: Command) -> (Self, String) {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Self(command.spawn().expect("the server starts"));
        let stderr = process.0.stderr.take().expect("it is piped");
        let address = address(stderr).unwrap_or_else(|said| panic!("{command:?} did not start:\n{said}"));
        (process, address)
    }
}

/// Returns the address that a server prints, or what it prints if there is none. The rest is read by another thread.
fn address(stderr: ChildStderr) -> Result<String, String> {
    let (mut stderr, mut said) = (BufReader::new(stderr), String::new());
    while stderr.read_line(&mut said).is_ok_and(|length| length > 0) {
        if let Some((_, url)) = said.rsplit_once("http://") {
            let address = url.trim_end().to_owned();
            std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
            return Ok(address);
        }
    }
    Err(said)
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

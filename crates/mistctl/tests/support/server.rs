//! A `mistctl serve` of its own for a test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::command;

/// Longer than anything here takes. A test that waits for this long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(100);

/// A server, which is killed when this is dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    /// What standard error had before the line that says where it listens.
    pub(crate) warnings: Vec<String>,
    pub(crate) errors: Receiver<String>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) log: Option<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts the server on a free port, with its log in a pipe.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = command(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat());
        Self::spawn(command.stdout(Stdio::piped()))
    }

    /// Starts a command that becomes the server.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("mistctl starts");
        let (lines, errors) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let log = child.stdout.take().map(BufReader::new);
        let mut warnings = Vec::new();
        let line = loop {
            match errors.recv_timeout(LONG).expect("a line") {
                line if line.starts_with("warning: ") => warnings.push(line),
                line => break line,
            }
        };
        let mut addresses = line.split("http://").skip(1).map(|rest| {
            let address = rest.split(',').next().expect("an address");
            address.parse().unwrap_or_else(|_| panic!("{line}"))
        });
        let address = addresses.next().unwrap_or_else(|| panic!("{line}"));
        Self { child, address, admin: addresses.next(), warnings, errors, log }
    }

    pub(crate) fn error(&self) -> String {
        self.errors.recv_timeout(LONG).expect("a line on standard error")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a number")).expect("a process")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is there");
    }

    /// Sends a request with this body, and returns status and body of the response.
    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, String) {
        request(self.address, path, body)
    }

    /// Returns the number in the line of the metrics that begins like this.
    pub(crate) fn number(&self, beginning: &str) -> f64 {
        let mut stream = TcpStream::connect(self.admin.expect("a second listener")).expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).expect("a response");
        let number = metrics.lines().find_map(|line| line.strip_prefix(beginning)?.trim().parse().ok());
        number.unwrap_or_else(|| panic!("{beginning} is not in:\n{metrics}"))
    }

    /// Waits until this is true of a number in the metrics.
    pub(crate) fn wait_for(&self, beginning: &str, is_so: impl Fn(f64) -> bool) {
        let begun = Instant::now();
        while !is_so(self.number(beginning)) {
            assert!(begun.elapsed() < LONG, "{beginning} is {}", self.number(beginning));
        }
    }

    /// Waits for the end, and returns the exit status.
    pub(crate) fn status(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

/// Sends a request with this body, and returns status and body of the response.
pub(crate) fn request(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    let (head, body) = response.split_once("\r\n\r\n").expect("a header");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

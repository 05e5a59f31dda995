//! A server in this process, and what tests ask of it.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use mistletoe_serve::config::Config;
use mistletoe_serve::{Files, Log, Server, Service};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::client::{LONG, Reply};
use crate::guests;

/// A server in this process, which ends when this is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) service: Service,
    pub(crate) directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    log: std::sync::mpsc::Receiver<String>,
}

/// Passes the log on, line by line.
pub(crate) struct Lines(pub(crate) std::sync::mpsc::Sender<String>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines() {
            let _ = self.0.send(line.to_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The listeners' part of a configuration: free ports.
const LISTENERS: &str = "[server]\nlisten = '127.0.0.1:0'\nSERVER\n[admin]\nlisten = '127.0.0.1:0'\n";

/// A list of middleware: the name of each, and more of its keys.
pub(crate) fn through(middleware: &[(&str, &str)]) -> String {
    let entries: Vec<_> = middleware
        .iter()
        .map(|(name, more)| {
            let comma = if more.is_empty() { "" } else { ", " };
            format!("{{ module = 'middleware-{name}.wasm'{comma}{more} }}")
        })
        .collect();
    format!("middleware = [{}]\n", entries.join(", "))
}

/// A route to a guest of its own, and more of its keys.
pub(crate) fn route(path: &str, module: &str, more: &str) -> String {
    let kind = match module.split('-').next() {
        Some("plugin" | "httpwasm") => "httpwasm",
        Some("command") => "command",
        Some("middleware") => "http-wasm",
        _ => "package",
    };
    format!("[[route]]\npath = '{path}'\nmodule = '{module}.wasm'\nkind = '{kind}'\n{more}\n")
}

pub(crate) fn config(server: &str, routes: &str, directory: &Path) -> Config {
    let grace = if server.contains("grace") { "" } else { "grace = '60s'\n" };
    let text = format!("{}{routes}", LISTENERS.replace("SERVER", &format!("{grace}{server}")));
    Config::parse(&text, directory).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Starts a server with these keys of `[server]` and these routes.
pub(crate) fn start(server: &str, routes: &str) -> Running {
    start_in(tempfile::tempdir().expect("a directory"), server, routes)
}

pub(crate) fn start_in(directory: TempDir, server: &str, routes: &str) -> Running {
    guests::write(directory.path());
    let config = config(server, routes, directory.path());
    let (lines, log) = std::sync::mpsc::channel();
    let service = Service::new(&config, Files, Log::to_writer(Lines(lines)).expect("a log")).expect("a service");
    let runtime = runtime();
    let server = runtime.block_on(Server::bind(&config, service.clone())).expect("a server");
    let (address, admin) = (server.address(), server.admin_address().expect("a second listener"));
    let (stop, stopped) = oneshot::channel();
    let thread = thread::spawn(move || {
        runtime.block_on(server.run(async {
            let _ = stopped.await;
        }));
        runtime.shutdown_timeout(LONG);
    });
    Running { address, admin, service, directory, stop: Some(stop), thread: Some(thread), log }
}

impl Running {
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops the server, and waits for its end.
    pub(crate) fn end(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }

    /// Waits until the metrics have this line.
    pub(crate) fn wait_for(&self, line: &str) {
        self.until(&format!("`{line}`"), || self.service.metrics().lines().any(|found| found == line));
    }

    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < LONG, "{what} does not come about:\n{}", self.service.metrics());
            thread::yield_now();
        }
    }

    /// Returns the number of failures of a route. What is noticed first of a client that leaves decides the kind.
    pub(crate) fn failures(&self, path: &str) -> u64 {
        let metrics = self.service.metrics();
        let lines =
            metrics.lines().filter(|line| line.starts_with(&format!("mistletoe_failures_total{{route=\"{path}\"")));
        lines.map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")).sum()
    }

    /// Waits for a line of the log that has these texts.
    pub(crate) fn logged(&self, texts: &[&str]) -> String {
        loop {
            let line = self.log.recv_timeout(LONG).unwrap_or_else(|_| panic!("no line of the log has {texts:?}"));
            if texts.iter().all(|text| line.contains(text)) {
                return line;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}

pub(crate) fn assert_reply(reply: &Reply, status: u16, body: &str) {
    assert_eq!((reply.status, reply.text().as_str(), reply.complete), (status, body, true), "{reply:?}");
}

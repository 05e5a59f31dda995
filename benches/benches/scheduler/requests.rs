//! The requests of a scheduler for a pod, with and without HTTP.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mistletoe_benches::interleaved::{Comparison, Effort};
use mistletoe_benches::measured::{Chart, Group, Unit};
use mistletoe_benches::run::Run;
use mistletoe_scheduler::{Plugin, Scheduler, extender};

use crate::peer::Process;
use crate::{COUNTS, ENGINES, Subject, nodes, objects};

/// The bodies of the requests for a pod: `filter` about all nodes, and `prioritize` about those that are left.
struct Bodies {
    filter: Vec<u8>,
    prioritize: Vec<u8>,
    /// How many nodes are left.
    left: usize,
}

pub(crate) fn measure(subject: &Subject) -> Group {
    let mut run = Run::new(subject.quick);
    for count in COUNTS {
        let bodies = Bodies::new(subject, count);
        for engine in ENGINES {
            let what =
                format!("{}, {:.1} MB", nodes(count), (bodies.filter.len() + bodies.prioritize.len()) as f64 / 1e6);
            eprintln!("{what}, {engine}");
            let mut comparison = Comparison::new().turn(Duration::from_millis(20));
            comparison.base("without HTTP", without_http(engine, subject, &bodies));
            let mut servers = Vec::new();
            if let Some(mistctl) = &subject.mistctl {
                servers.push(("mistctl serve", serve(mistctl, engine, subject)));
            }
            if let Some(peer) = subject.peer.as_ref().filter(|_| engine == "wasmtime") {
                let mut command = Command::new(peer);
                command.arg("extender").arg(subject.module());
                servers.push(("in Go, on wazero", command));
            }
            let servers: Vec<_> = servers.into_iter().map(|(name, command)| (name, Process::server(command))).collect();
            for (name, (_, address)) in &servers {
                comparison.add(*name, over_http(address, &bodies));
            }
            // A server in Go takes a second.
            let effort = match run.quick {
                true => Effort { time: Duration::from_secs(1), rounds: [3, 300] },
                false => Effort { time: Duration::from_secs(8), rounds: [7, 1000] },
            };
            run.compare_for(effort, &what, engine, 1, comparison);
        }
    }
    if subject.mistctl.is_none() {
        run.notes.push("Without servers: no program was named.".to_owned());
    }
    Group {
        name: "requests",
        title: "The requests for a pod",
        about: "A scheduler asks about a pod: `filter` with all nodes, and then `prioritize` with those that are left. Both \
            are from the bytes of a request to those of its response: the objects are read from JSON, written in protobuf, \
            and copied into the plugin's memory, and the nodes are a part of the response to `filter`. `without HTTP` is \
            `mistletoe_scheduler::extender`. `mistctl serve` is a process of its own, with its defaults; a simple client \
            sends requests to it over one connection on the loopback interface, and reads the responses. `in Go, on \
            wazero` is a server with net/http, `encoding/json` and Kubernetes' types, without limits.",
        column: "host",
        unit: Unit::Time,
        chart: Chart::Value,
        notes: run.notes,
        rows: run.rows,
    }
}

impl Bodies {
    fn new(subject: &Subject, count: usize) -> Self {
        let left: Vec<_> = (0..count).filter(|at| objects::rank(*at).is_some()).collect();
        Self {
            filter: objects::request(&subject.pod, subject.nodes[..count].iter().map(|node| &**node)),
            prioritize: objects::request(&subject.pod, left.iter().map(|at| &*subject.nodes[*at])),
            left: left.len(),
        }
    }

    /// Checks what is left, and how many nodes have scores.
    fn check(&self, filtered: &[u8], scores: &[u8]) {
        let filtered: serde_json::Value = serde_json::from_slice(filtered).expect("JSON");
        assert_eq!(filtered["Nodes"]["items"].as_array().map(Vec::len), Some(self.left));
        assert_eq!(filtered["Error"], "");
        let scores: Vec<serde_json::Value> = serde_json::from_slice(scores).expect("JSON");
        let expected = objects::rank(1).map(|rank| rank / 10);
        assert_eq!((scores.len(), scores[1]["Score"].as_i64()), (self.left, expected));
    }
}

fn without_http<'a>(engine: &str, subject: &Subject, bodies: &'a Bodies) -> impl FnMut() + 'a {
    let backend = mistletoe::backend(engine).expect("an engine");
    let plugin = Plugin::options("rank").load(&backend, &subject.wasm).expect("a plugin");
    let scheduler = Scheduler::new([plugin]);
    let both = move || {
        let filtered = extender::filter(&scheduler, bodies.filter.clone()).expect("a response");
        (filtered, extender::prioritize(&scheduler, bodies.prioritize.clone()).expect("a response"))
    };
    let (filtered, scores) = both();
    bodies.check(&filtered, &scores);
    move || drop(black_box(both()))
}

/// Returns a command that serves the plugin with the defaults.
fn serve(mistctl: &Path, engine: &str, subject: &Subject) -> Command {
    let config = subject.directory.path().join(format!("{engine}.toml"));
    let module = subject.module();
    let text = format!(
        "[[route]]\npath = '/scheduler/...'\nkind = 'scheduler'\n\
        plugins = [{{ engine = '{engine}', module = '{}' }}]\n",
        module.display()
    );
    fs::write(&config, text).expect("a file");
    let mut command = Command::new(mistctl);
    command.args(["serve", "--listen", "127.0.0.1:0"]).arg(config);
    command
}

fn over_http<'a>(address: &str, bodies: &'a Bodies) -> impl FnMut() + 'a {
    let mut client = Client::new(address);
    let mut both = move || {
        let filtered = client.post("/scheduler/filter", &bodies.filter);
        (filtered, client.post("/scheduler/prioritize", &bodies.prioritize))
    };
    let (filtered, scores) = both();
    bodies.check(&filtered, &scores);
    move || drop(black_box(both()))
}

/// A client with one connection that stays open.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address.trim_end_matches('/')).expect("the server listens");
        stream.set_nodelay(true).expect("a connection");
        Self(BufReader::with_capacity(1 << 18, stream))
    }

    /// Returns the body of the response.
    fn post(&mut self, path: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let stream = self.0.get_mut();
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("the server reads");
        let (mut status, mut length, mut is_chunked) = (String::new(), 0, false);
        self.0.read_line(&mut status).expect("a response");
        assert!(status.contains(" 200 "), "{status}");
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a response");
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().expect("a length"),
                Some(("transfer-encoding", _)) => is_chunked = true,
                Some(_) => {}
                None => break,
            }
        }
        if is_chunked { self.chunks() } else { self.exactly(length) }
    }

    fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("a body");
        bytes
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a chunk");
            let length = usize::from_str_radix(line.trim_end(), 16).expect("a length");
            let chunk = self.exactly(length + 2);
            body.extend_from_slice(&chunk[..length]);
            if length == 0 {
                return body;
            }
        }
    }
}

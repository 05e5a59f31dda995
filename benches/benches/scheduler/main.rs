//! Plugins of the Kubernetes scheduler: the calls, the objects, and whole requests.
//!
//! `cargo xtask bench --group scheduler` builds and runs this program, and turns its output into tables and charts. The
//! program prints one line of JSON on standard output: [`Measured`].
//!
//! `--quick` measures less. `--mistctl PATH` and `--peer PATH` are the programs beside it: a server, and a host in Go.

mod calls;
mod json;
mod objects;
mod peer;
mod requests;

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use mistletoe_benches::measured::Measured;
use peer::Peer;

const ENGINES: [&str; 3] = ["wasmtime", "wasmer", "wasmi"];
/// Numbers of nodes. A cluster of Kubernetes has up to 5,000.
const COUNTS: [usize; 2] = [1_000, 5_000];

/// What all groups have in common.
struct Subject {
    quick: bool,
    /// The plugin.
    wasm: Vec<u8>,
    pod: String,
    /// As many as the largest number.
    nodes: Vec<String>,
    /// Where the plugin and the objects are files.
    directory: tempfile::TempDir,
    mistctl: Option<PathBuf>,
    peer: Option<PathBuf>,
}

fn main() -> ExitCode {
    let (mut quick, mut mistctl, mut peer) = (false, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--mistctl" => mistctl = arguments.next().map(PathBuf::from),
            "--peer" => peer = arguments.next().map(PathBuf::from),
            // Cargo passes this to every benchmark.
            "--bench" => {}
            other => {
                eprintln!("what is {other}?\nusage: scheduler [--quick] [--mistctl PATH] [--peer PATH]");
                return ExitCode::from(2);
            }
        }
    }
    let subject = Subject {
        quick,
        wasm: wat::parse_str(include_str!("rank.wat")).expect("the plugin assembles"),
        pod: objects::pod(),
        nodes: (0..COUNTS[1]).map(objects::node).collect(),
        directory: tempfile::tempdir().expect("a directory"),
        mistctl,
        peer,
    };
    fs::write(subject.module(), &subject.wasm).expect("a file");
    let peer = subject.peer.as_ref().map(|program| RefCell::new(Peer::calls(program, &subject)));
    let groups = vec![
        calls::measure(&subject, peer.as_ref()),
        json::measure(&subject, peer.as_ref()),
        requests::measure(&subject),
    ];
    let measured = Measured { quick, optimised: !cfg!(debug_assertions), peers: peer.is_some(), groups };
    println!("{}", serde_json::to_string(&measured).expect("numbers and names"));
    ExitCode::SUCCESS
}

impl Subject {
    /// Returns the plugin's file.
    fn module(&self) -> PathBuf {
        self.directory.path().join("rank.wasm")
    }
}

/// Formats a number of nodes.
fn nodes(count: usize) -> String {
    format!("{},000 nodes", count / 1_000)
}

//! The example plugins, built by real toolchains. Those in Go have to answer like those in Rust.
//!
//! The modules in Go are not committed; `cargo xtask packages` builds them. A test whose module is missing is ignored,
//! and its name says so. `--include-ignored` makes it fail.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};
use mistletoe_abi::{AnyBackend, AnyProgram, Limits};
use mistletoe_scheduler::protocol::{Call, ClusterEvent, KubeScheduler, Output, Record, Severity};
use mistletoe_scheduler::{Node, Nodes, Plugin, Pod, Scheduler};
use mistletoe_wasi::Wasi;
use mistletoe_wasmi::Wasmi;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;
type Test = fn(&[u8]) -> Result<()>;

const PACKAGES: [(&str, Test); 4] = [
    ("node-number-sdk", node_number),
    ("node-number-sdk-go", node_number),
    ("image-locality-sdk", image_locality),
    ("image-locality-sdk-go", image_locality),
];

fn main() -> ExitCode {
    let trials = PACKAGES.into_iter().map(|(name, test)| {
        let path = find(name);
        let what = if path.is_some() { "" } else { " (not built: run `cargo xtask packages`)" };
        let ignored = path.is_none();
        let run = move || {
            let path = path.ok_or("it was not built: run `cargo xtask packages`")?;
            fs::read(&path)
                .map_err(Into::into)
                .and_then(|wasm| test(&wasm))
                .map_err(|error| Failed::from(error.to_string()))
        };
        Trial::test(format!("{name}{what}"), run).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Returns the path of an example's module: the committed one, or else the built one.
fn find(name: &str) -> Option<PathBuf> {
    let this = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [this.join("tests/data"), this.join("../../target/packages")];
    folders.into_iter().map(|folder| folder.join(format!("{name}.wasm"))).find(|path| path.is_file())
}

fn backend() -> AnyBackend {
    AnyBackend::new(Wasmi::new())
}

#[track_caller]
fn expect<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let line = std::panic::Location::caller().line();
    Err(format!("line {line}: expected\n{expected:?}\nfound\n{found:?}").into())
}

/// Filters and scores nodes. Returns the refused nodes as `name: status`, and the scores of all.
fn schedule(scheduler: &Scheduler, pod: &str, nodes: &[&str]) -> Result<(Vec<String>, Vec<i64>)> {
    let nodes = || -> Result<Nodes> {
        Ok(Nodes::new(nodes.iter().map(|json| Node::new(*json)).collect::<Result<Vec<_>, _>>()?))
    };
    let refused = scheduler.filter(Pod::new(pod)?, nodes()?)?.refused;
    let refused = refused.into_iter().map(|refusal| format!("{}: {}", refusal.node, refusal.status)).collect();
    Ok((refused, scheduler.prioritize(Pod::new(pod)?, nodes()?)?))
}

fn node_number(wasm: &[u8]) -> Result<()> {
    let nodes = ["node-7", "node-17", "node-8", "node"].map(|name| format!(r#"{{"metadata":{{"name":"{name}"}}}}"#));
    let nodes = nodes.each_ref().map(|json| &**json);
    let web_7 = r#"{"metadata":{"name":"web-7","uid":"1"}}"#;
    let web = r#"{"metadata":{"name":"web","uid":"2"}}"#;
    let load = |config: &str| Plugin::options("node-number").config(config).load(&backend(), wasm);

    for config in ["", "{}"] {
        let scheduler = Scheduler::new([load(config)?]);
        expect(schedule(&scheduler, web_7, &nodes)?, (vec![], vec![10, 10, 0, 0]))?;
        // The next cycle of the instance knows nothing of the last one.
        expect(schedule(&scheduler, web, &nodes)?, (vec![], vec![10; 4]))?;
    }

    let scheduler = Scheduler::new([load(r#"{"reverse": true}"#)?]);
    expect(schedule(&scheduler, web_7, &nodes)?, (vec![], vec![0, 0, 10, 10]))?;
    expect(schedule(&scheduler, web, &nodes)?, (vec![], vec![0; 4]))?;

    let refused = |names: [&str; 2], reason: &str| -> Vec<String> {
        names.map(|name| format!("{name}: unschedulable and unresolvable: the name of the node {reason}")).into()
    };
    let scheduler = Scheduler::new([load(r#"{"required": true}"#)?]);
    let expected = refused(["node-8", "node"], "does not end in 7");
    expect(schedule(&scheduler, web_7, &nodes)?, (expected, vec![10, 10, 0, 0]))?;
    expect(schedule(&scheduler, web, &nodes)?, (vec![], vec![10; 4]))?;
    let scheduler = Scheduler::new([load(r#"{"required": true, "reverse": true}"#)?]);
    let expected = refused(["node-7", "node-17"], "does end in 7");
    expect(schedule(&scheduler, web_7, &nodes)?, (expected, vec![0, 0, 10, 10]))?;

    // A wrong configuration ends the instance, and the log says why.
    let messages = Arc::new(Mutex::new(Vec::new()));
    let log = {
        let messages = Arc::clone(&messages);
        move |record: Record<'_>| {
            if let (Record::Message { severity, text }, Ok(mut messages)) = (record, messages.lock()) {
                messages.push((severity, text.to_owned()));
            }
        }
    };
    let options = Plugin::options("node-number").config(r#"{"revers": true}"#).log(Severity::Error, log);
    expect(options.load(&backend(), wasm).is_err(), true)?;
    let messages = messages.lock().map_err(|error| error.to_string())?.clone();
    expect(messages.len(), 1)?;
    expect((messages[0].0, messages[0].1.contains("revers")), (Severity::Fatal, true))?;

    let imports = mistletoe_wasi::imports::<Wasi>();
    let program = AnyProgram::with_protocol(KubeScheduler::default(), &backend(), wasm, &imports, Limits::default())?;
    let added = Output::Events(vec![ClusterEvent { resource: 1, action: 1 }]);
    expect(program.session_with(Wasi::builder().build())?.call(Call::Enqueue)?.output, added)
}

fn image_locality(wasm: &[u8]) -> Result<()> {
    /// Returns a node with these images and their sizes in MiB.
    fn node(name: &str, images: &[(&str, u64)]) -> String {
        let images = images.iter().map(|(name, size)| format!(r#"{{"names":["{name}"],"sizeBytes":{}}}"#, size << 20));
        let images = images.collect::<Vec<_>>().join(",");
        format!(r#"{{"metadata":{{"name":"{name}"}},"status":{{"images":[{images}]}}}}"#)
    }

    let nodes = [
        node("a", &[("web:1", 1000), ("base:latest", 400)]),
        node("b", &[("web:1", 1000)]),
        node("c", &[("tiny:1", 10)]),
        node("d", &[]),
    ];
    let nodes = nodes.each_ref().map(|json| &**json);
    let scheduler = Scheduler::new([Plugin::options("image-locality").load(&backend(), wasm)?]);
    for (number, (spec, scores)) in [
        // web:1 is on half of the nodes and counts 500 MiB, base:latest on a quarter and counts 100 MiB:
        // a (600 - 23) / (2000 - 23), b (500 - 23) / (2000 - 23).
        (r#"{"initContainers":[{"image":"base"}],"containers":[{"image":"web:1"}]}"#, [29, 24, 0, 0]),
        // (500 - 23) / (1000 - 23)
        (r#"{"containers":[{"image":"web:1"}]}"#, [48, 48, 0, 0]),
        // Twice 500 MiB.
        (r#"{"containers":[{"image":"web:1"},{"image":"web:1"}]}"#, [49, 49, 0, 0]),
        // 10 / 4 MiB are less than 23.
        (r#"{"containers":[{"image":"tiny:1"}]}"#, [0; 4]),
        (r#"{"containers":[{"image":"web"}]}"#, [0; 4]),
        (r#"{"containers":[]}"#, [0; 4]),
    ]
    .into_iter()
    .enumerate()
    {
        let pod = format!(r#"{{"metadata":{{"name":"p","uid":"{number}"}},"spec":{spec}}}"#);
        expect(schedule(&scheduler, &pod, &nodes)?, (vec![], scores.to_vec()))?;
    }
    Ok(())
}

//! Filtering and scoring, with objects that are in protobuf already.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use mistletoe_benches::measured::{Chart, Group, Unit};
use mistletoe_benches::run::{Run, timed_candidates};
use mistletoe_benches::scheduler::{self as by_hand, Host, Session as _, wasmer, wasmi, wasmtime};
use mistletoe_scheduler::{Node, Nodes, Plugin, Pod, Scheduler, protobuf};

use crate::{COUNTS, ENGINES, Peer, Subject, nodes, objects};

type Work<'a> = Box<dyn FnMut(u32) -> Duration + 'a>;

pub(crate) fn measure(subject: &Subject, peer: Option<&RefCell<Peer>>) -> Group {
    let mut run = Run::new(subject.quick);
    for count in COUNTS {
        for what in ["filter", "prioritize"] {
            for engine in ENGINES {
                let mut works = vec![("by hand", by_hand_on(engine, subject, what, count))];
                works.push(("Scheduler", layer(engine, subject, what, count)));
                if let Some(peer) = peer.filter(|_| engine == "wasmtime") {
                    works.push(("in Go, on wazero", in_go(peer, what, count)));
                }
                // The longest work takes some tens of milliseconds.
                let comparison = timed_candidates(Duration::from_millis(5), works);
                run.compare(&format!("`{what}`, {}", nodes(count)), engine, 1, comparison);
            }
        }
    }
    if peer.is_none() {
        run.notes.push("Without the host in Go: there is no Go compiler.".to_owned());
    }
    Group {
        name: "calls",
        title: "Calls of a plugin",
        about: "One request about all nodes: `Scheduler::filter` or `Scheduler::prioritize` with one plugin, and the same \
            by hand. An instance has been used before, and the objects are in protobuf already, so that a plugin's calls \
            and the copies of nodes into its memory are measured. The layer has its default limits, of the whole request \
            and of each call, and WASI. `in Go, on wazero` is a process that measures its own time.",
        column: "host",
        unit: Unit::Time,
        chart: Chart::Ratio,
        notes: run.notes,
        rows: run.rows,
    }
}

fn timed<'a>(mut work: impl FnMut() + 'a) -> Work<'a> {
    Box::new(move |repetitions| {
        let begin = std::time::Instant::now();
        (0..repetitions).for_each(|_| work());
        begin.elapsed()
    })
}

/// Returns the positions of nodes that have a rank.
fn ranked(count: usize) -> Vec<usize> {
    (0..count).filter(|at| objects::rank(*at).is_some()).collect()
}

fn ranks(count: usize) -> Vec<i64> {
    (0..count).map(|at| objects::rank(at).unwrap_or_default()).collect()
}

fn layer<'a>(engine: &str, subject: &Subject, what: &str, count: usize) -> Work<'a> {
    let backend = mistletoe::backend(engine).expect("an engine");
    let plugin = Plugin::options("rank").load(&backend, &subject.wasm).expect("a plugin");
    let scheduler = Scheduler::new([plugin]);
    let pod = Arc::new(Pod::new(&*subject.pod).expect("a pod"));
    // As in a request: the JSON is in memory before the first node is read, so that it is not between their names.
    let texts = subject.nodes[..count].to_vec();
    let nodes = Arc::new(Nodes::new(texts.into_iter().map(|json| Node::new(json).expect("a node"))));
    if what == "filter" {
        let filter = move || scheduler.filter(pod.clone(), nodes.clone()).expect("nodes");
        let filtered = filter();
        assert_eq!(filtered.fits, ranked(count));
        assert_eq!(filtered.fits.len() + filtered.refused.len(), count);
        assert!(filtered.refused.iter().all(|refusal| refusal.status.reason == "the node has no rank"));
        timed(move || drop(black_box(filter())))
    } else {
        let prioritize = move || scheduler.prioritize(pod.clone(), nodes.clone()).expect("scores");
        assert_eq!(prioritize(), ranks(count));
        timed(move || drop(black_box(prioritize())))
    }
}

fn by_hand_on<'a>(engine: &str, subject: &Subject, what: &str, count: usize) -> Work<'a> {
    fn on<'a, H: Host<Session: 'a>>(subject: &Subject, what: &str, count: usize) -> Work<'a> {
        let mut session = H::compile(&subject.wasm).expect("a plugin").session().expect("an instance");
        let message = |json: &String| protobuf::node(json.as_bytes()).expect("a node");
        let nodes = subject.nodes[..count].iter().enumerate();
        let nodes = nodes.map(|(at, json)| by_hand::Node { name: objects::name(at), message: message(json) }).collect();
        let pod = protobuf::pod(subject.pod.as_bytes()).expect("a pod");
        let cycle = Arc::new(by_hand::Cycle::new(pod, nodes));
        if what == "filter" {
            let filtered = session.filter(&cycle).expect("nodes");
            assert_eq!(filtered.fits, ranked(count));
            assert!(
                filtered.refused.iter().all(|(_, status, reason)| (*status, &**reason) == (2, "the node has no rank"))
            );
            timed(move || drop(black_box(session.filter(&cycle).expect("nodes"))))
        } else {
            assert_eq!(session.prioritize(&cycle).expect("scores"), ranks(count));
            timed(move || drop(black_box(session.prioritize(&cycle).expect("scores"))))
        }
    }
    match engine {
        "wasmtime" => on::<wasmtime::Plugin>(subject, what, count),
        "wasmer" => on::<wasmer::Plugin>(subject, what, count),
        "wasmi" => on::<wasmi::Plugin>(subject, what, count),
        _ => panic!("no host was written by hand for {engine}"),
    }
}

fn in_go<'a>(peer: &'a RefCell<Peer>, what: &'a str, count: usize) -> Work<'a> {
    let expected = match what {
        "filter" => ranked(count).len() as u64,
        _ => ranks(count).iter().sum::<i64>().cast_unsigned(),
    };
    Box::new(move |repetitions| {
        let (time, sum) = peer.borrow_mut().work(what, count, repetitions);
        assert_eq!(sum, expected, "{what}, in Go");
        time
    })
}

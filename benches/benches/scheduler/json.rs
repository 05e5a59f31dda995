//! From JSON to protobuf.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use mistletoe_benches::interleaved::Comparison;
use mistletoe_benches::measured::{Chart, Group, Unit};
use mistletoe_benches::run::Run;
use mistletoe_scheduler::protobuf;
use serde::de::IgnoredAny;

use crate::{COUNTS, Peer, Subject, nodes};

pub(crate) fn measure(subject: &Subject, peer: Option<&RefCell<Peer>>) -> Group {
    let mut run = Run::new(subject.quick);
    for count in COUNTS {
        let objects = &subject.nodes[..count];
        let (from, to) = lengths(objects);
        let mut comparison = Comparison::new().turn(Duration::from_millis(20));
        comparison.base("serde_json, to a Value", || {
            for json in objects {
                black_box(serde_json::from_str::<serde_json::Value>(black_box(json)).expect("JSON"));
            }
        });
        comparison.add("serde_json, to nothing", || {
            for json in objects {
                black_box(serde_json::from_str::<IgnoredAny>(black_box(json)).expect("JSON"));
            }
        });
        comparison.add("protobuf::node", || {
            for json in objects {
                black_box(protobuf::node(black_box(json.as_bytes())).expect("a node"));
            }
        });
        if let Some(peer) = peer {
            comparison.add_timed("in Go, by way of v1.Node", move |repetitions| {
                let (time, sum) = peer.borrow_mut().work("json", count, repetitions);
                assert_eq!(sum, to as u64, "the length of the nodes in protobuf, in Go");
                time
            });
        }
        let megabytes = |bytes: usize| format!("{:.1} MB", bytes as f64 / 1e6);
        run.compare(&format!("{}, {} to {}", nodes(count), megabytes(from), megabytes(to)), "", 1, comparison);
    }
    Group {
        name: "json",
        title: "From JSON to protobuf",
        about: "Each node of a request is read from its JSON and written in protobuf, as plugins get it \
            (`mistletoe_scheduler::protobuf::node`). Beside it, serde_json reads the same JSON to a `Value`, and to nothing \
            (`IgnoredAny`), which writes nothing. In Go, `encoding/json` reads it to Kubernetes' type, and the type's own \
            `Marshal` writes it.",
        column: "how",
        unit: Unit::Time,
        chart: Chart::Ratio,
        notes: run.notes,
        rows: run.rows,
    }
}

/// Returns the length of all objects in JSON and in protobuf.
fn lengths(objects: &[String]) -> (usize, usize) {
    let message = |json: &String| protobuf::node(json.as_bytes()).expect("a node").len();
    (objects.iter().map(String::len).sum(), objects.iter().map(message).sum())
}

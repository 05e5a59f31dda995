//! The webhook of a scheduler extender on every backend: the same bytes, also where a plugin fails.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mistletoe::Limits;
use mistletoe_scheduler::extender;
use mistletoe_scheduler::{OnFailure, Plugin, Scheduler};

/// Does with a node what the first letter of its name says.
const GUEST: &str = r#"(module
    (import "k8s.io/scheduler" "currentNodeName" (func $currentNodeName (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "\20\00\00\00\05\00\00\00")
    (data (i32.const 32) "hello no room")
    (func $is (param i32) (result i32)
        (drop (call $currentNodeName (i32.const 0) (i32.const 8)))
        (i32.eq (i32.load8_u (i32.const 0)) (local.get 0)))
    (func $deep (result i32) (i32.add (call $deep) (i32.const 1)))
    (func (export "filter") (result i32)
        (if (call $is (i32.const 98)) (then
            (call $reason (i32.const 38) (i32.const 7))
            (return (i32.const 2))))
        (if (call $is (i32.const 99)) (then (return (i32.const 3))))
        (if (call $is (i32.const 100)) (then (unreachable)))
        (if (call $is (i32.const 101)) (then (drop (i32.div_u (i32.const 1) (i32.load (i32.const 64))))))
        (if (call $is (i32.const 102)) (then (drop (i32.load (i32.const -1)))))
        (if (call $is (i32.const 103)) (then (loop $again (br $again))))
        (if (call $is (i32.const 104)) (then (drop (call $deep))))
        (if (call $is (i32.const 105)) (then (drop (call $currentNodeName (i32.const 65536) (i32.const 8)))))
        (if (call $is (i32.const 106)) (then (call $exit (i32.const 3))))
        (if (call $is (i32.const 107)) (then
            (drop (call $write (i32.const 2) (i32.const 16) (i32.const 1) (i32.const 64)))
            (unreachable)))
        (i32.const 0))
    (func (export "score") (result i64)
        (if (call $is (i32.const 97)) (then (return (i64.const 0x3700000000))))
        (i64.const 0x6400000000)))"#;

/// The nodes on which the plugin fails, with what it is said to have done, or how that begins.
const FAILURES: [(&str, &str); 8] = [
    ("d", "trap in `filter`: unreachable executed"),
    ("e", "trap in `filter`: integer divide by zero"),
    ("f", "trap in `filter`: out of bounds memory access"),
    ("g", "out of fuel in `filter`: "),
    ("h", "call stack exhausted in `filter`: depth "),
    ("i", "the argument `buf` of the host function `k8s.io/scheduler.currentNodeName` is out of bounds: "),
    ("j", "the guest exited with code 3"),
    ("k", "hello: trap in `filter`: unreachable executed"),
];

fn on_every_backend(on_failure: OnFailure, test: impl Fn(&Scheduler)) {
    let wasm = wat::parse_str(GUEST).expect("it assembles");
    let limits = Limits::default().with_fuel(100_000).with_stack(10_000);
    let enabled: Vec<_> = mistletoe::backends().iter().filter(|info| info.is_enabled()).collect();
    assert!(!enabled.is_empty());
    for info in enabled {
        let backend = mistletoe::backend(info.name()).expect("it is enabled");
        let plugin = Plugin::options("one").limits(limits).on_failure(on_failure).load(&backend, &wasm);
        test(&Scheduler::new([plugin.expect("a plugin")]));
    }
}

/// Returns the response to a request about these nodes.
fn respond(
    scheduler: &Scheduler,
    verb: fn(&Scheduler, Vec<u8>) -> Result<Vec<u8>, extender::Error>,
    names: &[&str],
) -> String {
    let request = format!(r#"{{"Pod":{{"metadata":{{"name":"p","uid":"u"}}}},"Nodes":null,"NodeNames":{names:?}}}"#);
    String::from_utf8(verb(scheduler, request.into()).expect("a response")).expect("a text")
}

#[test]
fn nodes_are_filtered_and_scored() {
    on_every_backend(OnFailure::Fail, |scheduler| {
        assert_eq!(
            respond(scheduler, extender::filter, &["a", "b", "c", "z"]),
            r#"{"Nodes":null,"NodeNames":["a","z"],"FailedNodes":{"b":"no room"},"FailedAndUnresolvableNodes":{"c":"plugin one: unschedulable and unresolvable"},"Error":""}"#
        );
        assert_eq!(
            respond(scheduler, extender::prioritize, &["a", "z"]),
            r#"[{"Host":"a","Score":5},{"Host":"z","Score":10}]"#
        );
    });
}

#[test]
fn a_plugin_that_fails_is_an_error_with_the_same_words() {
    let responses = RefCell::new(BTreeMap::new());
    on_every_backend(OnFailure::Fail, |scheduler| {
        for (node, reason) in FAILURES {
            let response = respond(scheduler, extender::filter, &["a", node]);
            let begin = format!(
                r#"{{"Nodes":null,"NodeNames":null,"FailedNodes":null,"FailedAndUnresolvableNodes":null,"Error":"plugin one: node {node}: error: wasm: filter error: {reason}"#
            );
            assert!(response.starts_with(&begin), "{response}");
            assert_eq!(*responses.borrow_mut().entry(node).or_insert_with(|| response.clone()), response);
        }
    });
}

#[test]
fn a_plugin_that_is_ignored_refuses_no_further_node() {
    on_every_backend(OnFailure::Ignore, |scheduler| {
        for (node, _) in FAILURES {
            assert_eq!(
                respond(scheduler, extender::filter, &["b", node, "c"]),
                format!(
                    r#"{{"Nodes":null,"NodeNames":["{node}","c"],"FailedNodes":{{"b":"no room"}},"FailedAndUnresolvableNodes":{{}},"Error":""}}"#
                )
            );
        }
    });
}

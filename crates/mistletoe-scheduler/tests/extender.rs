//! The webhook of an extender, from bytes to bytes.

use std::time::Duration;

use mistletoe_abi::AnyBackend;
use mistletoe_scheduler::extender::{self, Error, MAX_NODES, Verb};
use mistletoe_scheduler::{Bounds, Plugin, Scheduler, protobuf};
use mistletoe_wasmi::Wasmi;

/// A scheduler with a plugin: status 2 for `b`, 3 for `c`, 1 for `e`, and scores of ten times the length of the node's
/// message, up to 100.
fn scheduler() -> Scheduler {
    let wasm = wat::parse_str(
        r#"(module
            (import "k8s.io/api" "node" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "k8s.io/scheduler" "currentNodeName" (func $currentNodeName (param i32 i32) (result i32)))
            (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "no \"room\"")
            (func $is (param i32) (result i32)
                (drop (call $currentNodeName (i32.const 0) (i32.const 8)))
                (i32.eq (i32.load8_u (i32.const 0)) (local.get 0)))
            (func (export "removepod") (result i32) (i32.const 0))
            (func (export "filter") (result i32)
                (if (call $is (i32.const 98)) (then
                    (call $reason (i32.const 16) (i32.const 9)) (return (i32.const 2))))
                (if (call $is (i32.const 99)) (then (return (i32.const 3))))
                (call $is (i32.const 101)))
            (func (export "score") (result i64)
                (local i32)
                (drop (call $is (i32.const 0)))
                (local.set 0 (call $read (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)))
                (if (call $is (i32.const 101)) (then unreachable))
                (select (i64.const 0x6300000000) (i64.const 0) (local.get 0))))"#,
    )
    .expect("a module");
    Scheduler::new([Plugin::options("one").load(&AnyBackend::new(Wasmi::new()), &wasm).expect("a plugin")])
}

const POD: &str = r#"{"metadata":{"name":"p","uid":"u"}}"#;

/// The arguments with objects, as a scheduler sends them.
fn with_nodes(names: &[&str]) -> String {
    let nodes: Vec<_> = names.iter().map(|name| format!(r#"{{"metadata":{{"name":"{name}"}},"x":1}}"#)).collect();
    format!(r#"{{"Pod":{POD},"Nodes":{{"metadata":{{}},"items":[{}]}},"NodeNames":null}}"#, nodes.join(","))
}

/// The arguments with names.
fn with_names(names: &[&str]) -> String {
    format!(r#"{{"Pod":{POD},"Nodes":null,"NodeNames":{names:?}}}"#)
}

#[track_caller]
fn text(response: Result<Vec<u8>, Error>) -> String {
    String::from_utf8(response.expect("a response")).expect("a text")
}

#[test]
fn filter_responds_in_the_form_of_its_request() {
    let failed = r#""FailedNodes":{"b":"no \"room\""},"FailedAndUnresolvableNodes":{"c":"plugin one: unschedulable and unresolvable"},"Error":"""#;
    let scheduler = scheduler();
    assert_eq!(
        text(extender::filter(&scheduler, with_nodes(&["a", "b", "c", "d"]).into())),
        format!(
            r#"{{"Nodes":{{"items":[{{"metadata":{{"name":"a"}},"x":1}},{{"metadata":{{"name":"d"}},"x":1}}]}},"NodeNames":null,{failed}}}"#
        )
    );
    assert_eq!(
        text(extender::filter(&scheduler, with_names(&["a", "b", "c", "d"]).into())),
        format!(r#"{{"Nodes":null,"NodeNames":["a","d"],{failed}}}"#)
    );
    let none = format!(r#"{{"Pod":{POD},"Nodes":{{"items":null}}}}"#);
    assert_eq!(
        text(extender::filter(&scheduler, none.into())),
        r#"{"Nodes":{"items":[]},"NodeNames":null,"FailedNodes":{},"FailedAndUnresolvableNodes":{},"Error":""}"#
    );
    // A failure of a plugin is an error in the response.
    assert_eq!(
        text(extender::filter(&scheduler, with_names(&["a", "e"]).into())),
        r#"{"Nodes":null,"NodeNames":null,"FailedNodes":null,"FailedAndUnresolvableNodes":null,"Error":"plugin one: node e: error"}"#
    );
}

#[test]
fn prioritize_has_scores_up_to_ten() {
    let scheduler = scheduler();
    assert_eq!(
        text(extender::prioritize(&scheduler, with_nodes(&["a", "b"]).into())),
        r#"[{"Host":"a","Score":9},{"Host":"b","Score":9}]"#
    );
    // Of a name alone, guests get no node.
    assert_eq!(text(extender::prioritize(&scheduler, with_names(&["a"]).into())), r#"[{"Host":"a","Score":0}]"#);
    let error = extender::prioritize(&scheduler, with_nodes(&["e"]).into()).expect_err("a failure");
    assert_eq!(
        error.to_string(),
        "plugin one: node e: error: wasm: score error: trap in `score`: unreachable executed"
    );
}

#[test]
fn preempt_passes_victims_through() {
    let scheduler = scheduler();
    let victims = r#"{"Pods":[{"metadata":{"uid":"v1"}},{"metadata":{"uid":"v2"}}],"NumPDBViolations":1}"#;
    let request =
        format!(r#"{{"Pod":{POD},"NodeNameToVictims":{{"b":{victims},"a":{victims}}},"NodeNameToMetaVictims":null}}"#);
    let meta = r#"{"Pods":[{"UID":"v1"},{"UID":"v2"}],"NumPDBViolations":1}"#;
    let both = format!(r#"{{"NodeNameToMetaVictims":{{"a":{meta},"b":{meta}}}}}"#);
    assert_eq!(text(extender::preempt(&scheduler, (&*request).into())), both);
    let request_with_meta =
        format!(r#"{{"Pod":{POD},"NodeNameToVictims":null,"NodeNameToMetaVictims":{{"a":{meta},"b":{meta}}}}}"#);
    assert_eq!(text(extender::preempt(&scheduler, (&*request_with_meta).into())), both);

    // After `filter`, the plugin is asked about the nodes without the victims, if it can see these.
    let filter = || extender::filter(&scheduler, with_nodes(&["a", "b"]).into()).expect("a response");
    filter();
    let one = format!(r#"{{"NodeNameToMetaVictims":{{"a":{meta}}}}}"#);
    assert_eq!(text(extender::preempt(&scheduler, (&*request).into())), one);
    filter();
    assert_eq!(text(extender::preempt(&scheduler, (&*request_with_meta).into())), both);
}

#[test]
fn what_is_no_request_is_an_error() {
    let scheduler = scheduler();
    for (body, expected) in [
        ("", "EOF while parsing a value"),
        ("[]", "invalid length 0"),
        ("{}", "missing field `Pod`"),
        (r#"{"Pod": {}}"#, "there are neither Nodes nor NodeNames"),
        (r#"{"Pod": 1, "NodeNames": []}"#, "Pod: invalid type: integer `1`"),
        (r#"{"Pod": {}, "NodeNames": [1]}"#, "invalid type: integer `1`, expected a string"),
        (r#"{"Pod": {}, "Nodes": {"items": [{}, {"metadata": {"name": 1}}]}}"#, "Nodes.items[1]: invalid type"),
    ] {
        for respond in [extender::filter, extender::prioritize] {
            let error = respond(&scheduler, body.into()).expect_err(body).to_string();
            assert!(error.starts_with(&format!("the request is not one of a scheduler's: {expected}")), "{error}");
        }
    }
    let victims = format!(r#"{{"Pod":{POD},"NodeNameToVictims":{{"a":{{"Pods":[1]}}}}}}"#);
    let error = extender::preempt(&scheduler, victims.into()).expect_err("no pod").to_string();
    assert!(error.contains("a: invalid type: integer `1`"), "{error}");
}

#[test]
fn guests_get_the_objects_of_the_request() {
    // Whoever asks for all nodes gets what these are alone.
    let wasm = wat::parse_str(
        r#"(module
            (import "k8s.io/api" "nodeList" (func $nodeList (param i32 i32) (result i32)))
            (import "k8s.io/scheduler" "currentPod" (func $currentPod (param i32 i32) (result i32)))
            (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
            (memory (export "memory") 1)
            (func (export "filter") (result i32)
                (local i32)
                (local.set 0 (call $nodeList (i32.const 0) (i32.const 512)))
                (local.set 0 (i32.add (local.get 0) (call $currentPod (local.get 0) (i32.const 512))))
                (call $reason (i32.const 0) (local.get 0))
                (i32.const 2)))"#,
    )
    .expect("a module");
    let scheduler =
        Scheduler::new([Plugin::options("one").load(&AnyBackend::new(Wasmi::new()), &wasm).expect("a plugin")]);
    let response = text(extender::filter(&scheduler, with_nodes(&["a", "ä"]).into()));
    let nodes = ["a", "ä"].map(|name| format!(r#"{{"metadata":{{"name":"{name}"}}}}"#));
    let nodes = nodes.map(|json| protobuf::node(json.as_bytes()).expect("a node"));
    let mut expected = protobuf::node_list(nodes.iter().map(Vec::as_slice));
    expected.extend(protobuf::pod(POD.as_bytes()).expect("a pod"));
    let expected = serde_json::to_string(&String::from_utf8_lossy(&expected)).expect("a string");
    assert!(
        response.contains(&format!(r#""FailedNodes":{{"a":{expected},"ä":{expected}}}"#)),
        "{response}\n{expected}"
    );
}

#[test]
fn a_response_has_a_limit() {
    let scheduler = scheduler();
    let bounds = Bounds::new(Duration::from_secs(100));
    let respond = |verb: Verb, body: String, limit| verb.respond(&scheduler, body.into(), &bounds, limit);
    for verb in [Verb::Filter, Verb::Prioritize] {
        let response = respond(verb, with_names(&["a", "b"]), 1_000).expect("a response");
        assert_eq!(response.failure, None);
        let length = response.body.len() as u64;
        assert_eq!(respond(verb, with_names(&["a", "b"]), length), Ok(response));
        assert_eq!(respond(verb, with_names(&["a", "b"]), length - 1), Err(Error::TooLong(length - 1)));
    }
    let failed = respond(Verb::Filter, with_names(&["e"]), 1_000).expect("a response");
    assert_eq!(failed.failure.map(|failure| failure.to_string()).as_deref(), Some("plugin one: node e: error"));
    // A name takes four bytes of a request, and much more of a response.
    let many = format!(r#"{{"Pod":{POD},"NodeNames":["b"{}]}}"#, r#","b""#.repeat(MAX_NODES));
    for verb in [Verb::Filter, Verb::Prioritize] {
        let error = respond(verb, many.clone(), u64::MAX).expect_err("an error").to_string();
        assert!(error.contains("there are more than 100000 nodes"), "{error}");
    }
}

/// What a short element takes in memory is a multiple of its length in a request.
#[test]
fn a_request_with_too_many_elements_is_not_read_to_its_end() {
    let list = |element: &str, count| vec![element; count].join(",");
    let nodes = (0..=MAX_NODES).map(|at| format!("\"{at}\":{{}}")).collect::<Vec<_>>().join(",");
    let victims = |first, second| {
        let (first, second) = (list("{}", first), list("{}", second));
        format!(r#"{{"Pod":{{}},"NodeNameToVictims":{{"a":{{"Pods":[{first}]}},"b":{{"Pods":[{second}]}}}}}}"#)
    };
    let uids = list(r#"{"UID":""}"#, MAX_NODES + 1);
    for (verb, body, expected) in [
        // These end in the middle: an element later, they would be malformed.
        (Verb::Filter, format!(r#"{{"Pod":{{}},"NodeNames":[{}"#, list("\"\"", MAX_NODES + 1)), "nodes"),
        (Verb::Filter, format!(r#"{{"Pod":{{}},"Nodes":{{"items":[{}"#, list("{}", MAX_NODES + 1)), "nodes"),
        (Verb::Preempt, format!(r#"{{"Pod":{{}},"NodeNameToVictims":{{{nodes}"#), "nodes"),
        (Verb::Preempt, format!(r#"{{"Pod":{{}},"NodeNameToMetaVictims":{{{nodes}"#), "nodes"),
        (Verb::Preempt, format!(r#"{{"Pod":{{}},"NodeNameToMetaVictims":{{"a":{{"Pods":[{uids}]}}}}}}"#), "victims"),
        (Verb::Preempt, victims(MAX_NODES, 1), "victims"),
    ] {
        let response = verb.respond(&scheduler(), body.into(), &Bounds::new(Duration::from_secs(100)), u64::MAX);
        let error = response.expect_err("an error").to_string();
        assert!(error.contains(&format!("there are more than 100000 {expected}")), "{error}");
    }
    let most = victims(MAX_NODES - 1, 1).into();
    assert!(Verb::Preempt.respond(&scheduler(), most, &Bounds::new(Duration::from_secs(100)), u64::MAX).is_ok());
}

//! The interface of plugins, function by function.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mistletoe_abi::{Caller, Error, ErrorKind, Imports, Limits, Program, ProgramSession};
use mistletoe_scheduler::protocol::{Answer, Call, ClusterEvent, Function, KubeScheduler, Output, Record, Severity};
use mistletoe_scheduler::{Cycle, Node, Nodes, Pod, protobuf};
use mistletoe_wasmi::Wasmi;

type Session = ProgramSession<KubeScheduler, Wasmi>;

const POD: &str = r#"{"metadata": {"name": "pod", "namespace": "default", "uid": "u-1"}, "spec": {"nodeName": "b"}}"#;

fn node(name: &str) -> String {
    format!(
        r#"{{"metadata": {{"name": "{name}"}}, "status": {{"images": [{{"names": ["all:1", "{name}:1"], "sizeBytes": 7}}]}}}}"#
    )
}

fn cycle() -> Arc<Cycle> {
    let nodes = ["a", "b", "c"].map(|name| Node::new(node(name)).expect("a node"));
    Arc::new(Cycle { pod: Arc::new(Pod::new(POD).expect("a pod")), nodes: Arc::new(Nodes::new(nodes)) })
}

fn open(protocol: KubeScheduler, text: &str) -> Result<Session, Error> {
    let wasm = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let limits = Limits::default().with_timeout(Duration::from_millis(200));
    let program = Program::with_protocol(protocol, &Wasmi::new(), &wasm, &Imports::new(), limits)?;
    let mut session: Session = program.session()?;
    session.store_mut().set_cycle(Some(cycle()));
    Ok(session)
}

/// All imports with their types.
const IMPORTS: &str = r#"
    (import "k8s.io/api" "node" (func $node (param i32 i32 i32 i32) (result i32)))
    (import "k8s.io/api" "nodeList" (func $nodeList (param i32 i32) (result i32)))
    (import "k8s.io/klog" "log" (func $log (param i32 i32 i32)))
    (import "k8s.io/klog" "logs" (func $logs (param i32 i32 i32 i32 i32)))
    (import "k8s.io/klog" "severity" (func $severity (result i32)))
    (import "k8s.io/scheduler" "get_config" (func $get_config (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "currentPod" (func $currentPod (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "targetPod" (func $targetPod (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "currentNodeName" (func $currentNodeName (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "filteredNodeList" (func $filteredNodeList (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "nodeImageStates" (func $nodeImageStates (param i32 i32 i32 i32) (result i32)))
    (import "k8s.io/scheduler" "nodeToStatusMap" (func $nodeToStatusMap (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "nodeScoreList" (func $nodeScoreList (param i32 i32) (result i32)))
    (import "k8s.io/scheduler" "result.cluster_events" (func $cluster_events (param i32 i32)))
    (import "k8s.io/scheduler" "result.node_names" (func $node_names (param i32 i32)))
    (import "k8s.io/scheduler" "result.nominated_node_name" (func $nominated_node_name (param i32 i32)))
    (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
    (import "k8s.io/scheduler" "result.normalized_score_list" (func $normalized_score_list (param i32 i32)))
    (import "k8s.io/scheduler" "handle.eventrecorder.eventf" (func $eventf (param i32 i32)))
    (import "k8s.io/scheduler" "handle.reject_waiting_pod" (func $reject_waiting_pod (param i32 i32 i32 i32)))
    (import "k8s.io/scheduler" "handle.get_waiting_pod" (func $get_waiting_pod (param i32 i32 i32 i32)))
    (memory (export "memory") 2)"#;

/// A guest whose functions all run `body` and return `number`, with `data` at the address 16.
fn guest(data: &str, body: &str, number: u64) -> String {
    let mut text = format!("(module {IMPORTS} (data (i32.const 16) \"{data}\")\n");
    for function in Function::ALL {
        let result = match function.name() {
            "enqueue" | "unreserve" | "postbind" => String::new(),
            "postfilter" | "score" | "permit" => format!("(result i64) {body} (i64.const {number})"),
            _ => format!("(result i32) {body} (i32.const {})", number as u32),
        };
        let body = if result.is_empty() { body } else { "" };
        text.push_str(&format!("(func (export \"{}\") {result} {body})\n", function.name()));
    }
    text + ")"
}

/// A guest whose functions return what `get` reads to the address 1024, as the reason.
fn reader(data: &str, get: &str) -> String {
    guest(data, &format!("(call $reason (i32.const 1024) {get})"), 0)
}

/// Calls each function once, in the order of `Function::ALL`.
fn call_all(session: &mut Session) -> Vec<Answer> {
    let other = Arc::new(Pod::new(r#"{"metadata": {"name": "other"}}"#).expect("a pod"));
    let calls = [
        Call::Enqueue,
        Call::PreFilter,
        Call::Filter("b"),
        Call::PostFilter(&[("a", 2), ("b", 3)]),
        Call::AddPod(&other, "b"),
        Call::RemovePod(&other, "b"),
        Call::PreScore(&["a", "c"]),
        Call::Score("b"),
        Call::NormalizeScore(&[("c", -1), ("a", 100)]),
        Call::Reserve("b"),
        Call::Unreserve("b"),
        Call::Permit("b"),
        Call::PreBind("b"),
        Call::Bind("b"),
        Call::PostBind("b"),
    ];
    assert_eq!(calls.map(|call| call.function()), Function::ALL);
    calls.into_iter().map(|call| session.call(call).unwrap_or_else(|error| panic!("{call:?}: {error}"))).collect()
}

#[track_caller]
fn reads(data: &str, get: &str, expected: &[u8], only_in: impl Fn(&str) -> bool) {
    let mut session = open(KubeScheduler::default().config("some {config}"), &reader(data, get)).expect("a guest");
    let expected = String::from_utf8_lossy(expected);
    for (function, answer) in Function::ALL.into_iter().zip(call_all(&mut session)) {
        let expected = if only_in(function.name()) { &*expected } else { "" };
        assert_eq!(answer.status.reason, expected, "{get} in {}", function.name());
    }
}

#[test]
fn a_guest_reads_what_there_is_at_that_point() {
    let to = |name: &str| format!("(call ${name} (i32.const 1024) (i32.const 60000))");
    let pod = protobuf::pod(POD.as_bytes()).expect("a pod");
    reads("", &to("currentPod"), &pod, |function| function != "enqueue");
    let other = protobuf::pod(br#"{"metadata": {"name": "other"}}"#).expect("a pod");
    reads("", &to("targetPod"), &other, |function| ["addpod", "removepod"].contains(&function));
    let about_a_node = "filter addpod removepod score reserve unreserve permit prebind bind postbind";
    reads("", &to("currentNodeName"), b"b", |function| about_a_node.split(' ').any(|name| name == function));
    reads("", &to("filteredNodeList"), br#"["a","c"]"#, |function| function == "prescore");
    reads("", &to("nodeToStatusMap"), br#"{"a":2,"b":3}"#, |function| function == "postfilter");
    reads("", &to("nodeScoreList"), br#"{"a":100,"c":-1}"#, |function| function == "normalizescore");
    reads("", &to("get_config"), b"some {config}", |_| true);
    let nodes = ["a", "b", "c"].map(|name| protobuf::node(node(name).as_bytes()).expect("a node"));
    reads("", &to("nodeList"), &protobuf::node_list(nodes.iter().map(Vec::as_slice)), |_| true);

    let of = |name: &str, length| {
        format!("(call ${name} (i32.const 16) (i32.const {length}) (i32.const 1024) (i32.const 60000))")
    };
    reads("c", &of("node", 1), &nodes[2], |_| true);
    reads("d", &of("node", 1), b"", |_| true);
    reads("", &of("node", 254), b"", |_| true);
    let images = br#"{"all:1":{"Size":7,"NumNodes":3},"c:1":{"Size":7,"NumNodes":1}}"#;
    reads("c", &of("nodeImageStates", 1), images, |_| true);
    reads("d", &of("nodeImageStates", 1), b"null", |_| true);
    reads("", &of("nodeImageStates", 254), b"null", |_| true);
}

#[test]
fn what_does_not_fit_is_not_written_and_has_its_length() {
    // The length of the name, then what the first byte of the buffer is.
    for (limit, expected) in [(0, "\u{1}\0"), (1, "\u{1}b")] {
        let get = format!(
            "(i32.store8 (i32.const 1024) (call $currentNodeName (i32.const 1025) (i32.const {limit}))) (i32.const 2)"
        );
        let body = format!("(call $reason (i32.const 1024) (block (result i32) {get}))");
        let mut session = open(KubeScheduler::default(), &guest("", &body, 0)).expect("a guest");
        assert_eq!(session.call(Call::Filter("b")).expect("a status").status.reason, expected);
    }
    // The address of nothing is not looked at, and neither is that of what does not fit.
    for get in ["(call $targetPod (i32.const -1) (i32.const -1))", "(call $currentPod (i32.const -1) (i32.const 5))"] {
        let mut session = open(KubeScheduler::default(), &guest("", &format!("(drop {get})"), 0)).expect("a guest");
        assert!(session.call(Call::Filter("b")).expect("a status").status.is_success());
    }
}

#[test]
fn a_status_is_passed_on_as_it_is() {
    for code in [0, 1, 2, 3, 4, 5, 6, -1, i32::MIN, i32::MAX] {
        let number = u64::from(code.cast_unsigned());
        let mut session = open(KubeScheduler::default(), &guest("", "", number)).expect("a guest");
        assert_eq!(session.call(Call::Filter("b")).expect("a status").status.code, code);
        // The halves are signed each.
        for high in [0, 100, -7, i32::MIN, i32::MAX] {
            let pair = u64::from(high.cast_unsigned()) << 32 | number;
            let mut session = open(KubeScheduler::default(), &guest("", "", pair)).expect("a guest");
            let answer = session.call(Call::Score("b")).expect("a score");
            assert_eq!((answer.status.code, answer.output), (code, Output::Score(high)));
            // These are the other way round.
            let answer = session.call(Call::Permit("b")).expect("a permit");
            let wait = Duration::from_millis(code.cast_unsigned().into());
            assert_eq!((answer.status.code, answer.output), (high, Output::Wait(wait)));
        }
    }
}

#[test]
fn a_guest_hands_over_results() {
    let answer = |data: &str, import: &str, length: usize, number, call: Call<'_>| {
        let body = format!("(call ${import} (i32.const 16) (i32.const {length}))");
        let mut session = open(KubeScheduler::default(), &guest(data, &body, number)).expect("a guest");
        session.call(call).expect("an answer")
    };
    let events = answer(r"\01\00\00\00\10\00\00\00\0a\00\00\00\3f\00\00\00\01", "cluster_events", 17, 0, Call::Enqueue);
    let expected = [ClusterEvent { resource: 1, action: 16 }, ClusterEvent { resource: 10, action: 63 }];
    assert_eq!(events.output, Output::Events(expected.into()));

    let nodes = |data, length| answer(data, "node_names", length, 0, Call::PreFilter).output;
    assert_eq!(nodes(r"c\00unknown\00a\00c\00\ff", 15), Output::Nodes(Some(vec![0, 2])));
    assert_eq!(nodes("", 0), Output::Nodes(Some(Vec::new())));
    let mut session = open(KubeScheduler::default(), &guest("", "", 0)).expect("a guest");
    assert_eq!(session.call(Call::PreFilter).expect("an answer").output, Output::Nodes(None));
    // What another function hands over is not its result.
    assert_eq!(answer("a", "nominated_node_name", 1, 0, Call::PreFilter).output, Output::Nodes(None));

    let post = answer("a", "nominated_node_name", 1, 1 << 32, Call::PostFilter(&[("a", 2)]));
    assert_eq!(post.output, Output::Nomination { overrides: true, node: "a".into() });

    let before = [("a", 1), ("b", 2)];
    let scores = |data: &str| answer(data, "normalized_score_list", data.len(), 0, Call::NormalizeScore(&before));
    let quoted = |text: &str| text.replace('\'', "\\22");
    let normalized = |text: &str| {
        let body = format!("(call $normalized_score_list (i32.const 16) (i32.const {}))", text.len());
        let mut session = open(KubeScheduler::default(), &guest(&quoted(text), &body, 0)).expect("a guest");
        session.call(Call::NormalizeScore(&before)).expect("an answer")
    };
    assert_eq!(scores("").output, Output::Scores(vec![1, 2]));
    assert_eq!(normalized("{'b': 20, 'a': -3}").output, Output::Scores(vec![-3, 20]));
    for (text, expected) in [
        ("{'a': 1}", "normalized_score_list: 1 scores for 2 nodes"),
        ("{'a': 1, 'c': 1}", "normalized_score_list: a node that has no score at line 1 column 16"),
        ("{'a': 1.5}", "normalized_score_list: invalid type: floating point `1.5`"),
        ("[]", "normalized_score_list: invalid type: sequence, expected an object"),
        ("{}{}", "normalized_score_list: trailing characters"),
    ] {
        let Answer { status, output } = normalized(text);
        assert_eq!((status.code, output), (1, Output::None));
        assert!(status.reason.starts_with(expected), "{text}: {}", status.reason);
    }
}

#[test]
fn messages_and_events_go_to_the_log() {
    let records = Arc::new(Mutex::new(Vec::new()));
    let log = {
        let records = records.clone();
        move |record: Record<'_>| {
            records.lock().expect("no panic").push(match record {
                Record::Message { severity, text } => format!("{severity}: {text}"),
                Record::Event(event) => format!("{event:?}"),
                _ => "?".into(),
            });
        }
    };
    let run = |data: &str, body: &str| {
        let protocol = KubeScheduler::default().severity(Severity::Warning).log(log.clone());
        open(protocol, &guest(data, body, 0))?.call(Call::PreFilter)?;
        Ok::<_, Error>(std::mem::take(&mut *records.lock().expect("no panic")))
    };
    let log_at = |severity: i32| format!("(call $log (i32.const {severity}) (i32.const 16) (i32.const 5))");
    for (severity, expected) in [
        (-1, None),
        (0, None),
        (1, Some("warning: hello")),
        (2, Some("error: hello")),
        (3, Some("fatal: hello")),
        (99, Some("fatal: hello")),
    ] {
        assert_eq!(run("hello", &log_at(severity)).expect("no error"), Vec::from_iter(expected));
    }
    let logs = "(call $logs (i32.const 2) (i32.const 16) (i32.const 3) (i32.const 19) (i32.const 8))";
    assert_eq!(run(r"msgk\00v w\00k\00", logs).expect("no error"), [r#"error: msg k="v w" k"#]);
    // A range that cannot be read is no error.
    let logs = "(call $logs (i32.const 2) (i32.const 131072) (i32.const 1) (i32.const -1) (i32.const -1))";
    let records = run("", logs).expect("no error");
    assert!(records[0].starts_with("error: the argument `msg` of the host function"), "{records:?}");
    let log = "(call $log (i32.const 2) (i32.const 0) (i32.const 131072))";
    assert_eq!(run("", log).expect("no error")[0].len(), "error: ".len() + (64 << 10));

    let event = "{\\22RegardingReference\\22:{\\22Kind\\22:\\22Pod\\22,\\22UID\\22:\\22u\\22},\\22RelatedReference\\22:null,\
                 \\22Eventtype\\22:\\22Normal\\22,\\22Note\\22:\\22n\\22}";
    let length = event.replace("\\22", "'").len();
    let records = run(event, &format!("(call $eventf (i32.const 16) (i32.const {length}))")).expect("no error");
    assert!(records[0].contains(r#"regarding: Some(Reference { kind: "Pod""#), "{records:?}");
    assert!(records[0].contains(r#"related: None, event_type: "Normal""#), "{records:?}");
    run("[", "(call $eventf (i32.const 16) (i32.const 1))").expect_err("no JSON");
    run("", "(call $eventf (i32.const 16) (i32.const 65537))").expect_err("too long");

    let severity = "(call $reason (i32.add (call $severity) (i32.const 16)) (i32.const 1))";
    let protocol = KubeScheduler::default().severity(Severity::Error);
    let mut session = open(protocol, &guest("012", severity, 0)).expect("a guest");
    assert_eq!(session.call(Call::PreFilter).expect("an answer").status.reason, "2");
}

#[test]
fn there_are_no_waiting_pods() {
    for import in ["get_waiting_pod", "reject_waiting_pod"] {
        let body = format!(
            "(call ${import} (i32.const 16) (i32.const 1) (i32.const 1024) (i32.const 8))
             (call $reason (i32.const 1024) (i32.const 9))"
        );
        let text = guest("u", &body, 0).replacen(")\n", ") (data (i32.const 1024) \"123456789\")\n", 1);
        let mut session = open(KubeScheduler::default(), &text).expect("a guest");
        assert_eq!(session.call(Call::Permit("b")).expect("an answer").status.reason, "\0\0\0\0\0\0\0\x009");
    }
}

#[test]
fn a_reason_has_a_maximum_length_and_need_not_be_readable() {
    let reason = |address: i64, length: i64| {
        let body = format!("(call $reason (i32.const {address}) (i32.const {length}))");
        let mut session = open(KubeScheduler::default(), &guest("", &body, 2)).expect("a guest");
        session.call(Call::Filter("b")).expect("a status").status.reason
    };
    assert_eq!(reason(0, 131_072).len(), 1024);
    for (address, length) in [(131_072, 1), (-1, 2), (0, -1), (1, 131_072)] {
        let reason = reason(address, length);
        assert!(reason.starts_with("the argument `buf` of the host function"), "{reason}");
    }
}

#[test]
fn a_range_outside_the_memory_is_an_error() {
    let name = "(i32.const 131072) (i32.const 1) (i32.const 1024) (i32.const 9)";
    let buffer = "(i32.const 131072) (i32.const 60000)";
    for body in [
        format!("(drop (call $node {name}))"),
        format!("(drop (call $nodeImageStates {name}))"),
        format!("(call $get_waiting_pod {name})"),
        "(call $reject_waiting_pod (i32.const 0) (i32.const 0) (i32.const 131071) (i32.const 1))".into(),
        format!("(drop (call $currentPod {buffer}))"),
        format!("(drop (call $nodeList {buffer}))"),
        format!("(drop (call $get_config {buffer}))"),
        format!("(drop (call $currentNodeName {buffer}))"),
        "(drop (call $currentNodeName (i32.const -1) (i32.const -1)))".into(),
        format!("(call $eventf {buffer})"),
        format!("(call $node_names {buffer})"),
        format!("(call $cluster_events {buffer})"),
        "(call $normalized_score_list (i32.const 0) (i32.const -1))".into(),
        "(call $nominated_node_name (i32.const -1) (i32.const 1))".into(),
    ] {
        let mut session = open(KubeScheduler::default().config("c"), &guest("", &body, 0)).expect("a guest");
        let error = session.call(Call::Filter("b")).expect_err(&body);
        assert!(matches!(error.kind(), ErrorKind::OutOfBounds { .. }), "{body}: {error}");
        // A failed call poisons the instance.
        let error = session.call(Call::Filter("b")).expect_err(&body);
        assert!(matches!(error.kind(), ErrorKind::Poisoned), "{body}: {error}");
    }
}

#[test]
fn a_guest_that_hangs_is_ended() {
    let mut session = open(KubeScheduler::default(), &guest("", "(loop (br 0))", 0)).expect("a guest");
    let error = session.call(Call::Filter("b")).expect_err("a limit");
    assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error}");
}

#[test]
fn an_object_that_is_none_fails_the_guest_that_asks() {
    let (pod, nodes) = (Pod::new(r#"{"metadata": {}, "spec": 1}"#).expect("metadata"), Arc::default());
    let text = guest("", "(drop (call $currentPod (i32.const 0) (i32.const 0)))", 0);
    let mut session = open(KubeScheduler::default(), &text).expect("a guest");
    session.store_mut().set_cycle(Some(Arc::new(Cycle { pod: Arc::new(pod), nodes })));
    let error = session.call(Call::Filter("b")).expect_err("no pod");
    let source = error.downcast_ref::<protobuf::Error>().expect("the encoder's error");
    assert!(source.to_string().starts_with("spec: invalid type: integer `1`"), "{source}");
}

#[test]
fn start_runs_once_and_initialize_instead_of_it() {
    let start = |exports: &str| {
        let text = format!(
            r#"(module
                (import "k8s.io/scheduler" "get_config" (func $config (param i32 i32) (result i32)))
                (memory (export "memory") 1)
                (global $status (mut i32) (i32.const 0))
                {exports}
                (func (export "filter") (result i32) (global.get $status)))"#
        );
        let mut session = open(KubeScheduler::default().config("four"), &text).expect("a guest");
        session.call(Call::Filter("a")).expect("a status");
        session.call(Call::Filter("a")).expect("a status").status.code
    };
    let add = "(global.set $status (i32.add (global.get $status) (call $config (i32.const 0) (i32.const 0))))";
    assert_eq!(start(&format!(r#"(func (export "_start") {add})"#)), 4);
    assert_eq!(start(&format!(r#"(func (export "_initialize") {add} {add}) (func (export "_start") {add})"#)), 8);
}

#[test]
fn a_guest_has_functions_that_belong_together() {
    let problems = |exports: &[(&str, &str)], memory: &str| {
        let functions = exports.iter().map(|(name, ty)| format!("(func (export \"{name}\") {ty} unreachable)"));
        let text = format!("(module {memory} {})", functions.collect::<String>());
        match open(KubeScheduler::default(), &text) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    let memory = r#"(memory (export "memory") 1)"#;
    let status = "(result i32)";
    for exports in [
        &[("prefilter", status)][..],
        &[("filter", status), ("addpod", status), ("removepod", status), ("postfilter", "(result i64)")],
        &[("enqueue", ""), ("score", "(result i64)"), ("prescore", status)],
        &[("bind", status), ("prebind", status), ("postbind", "")],
    ] {
        assert_eq!(problems(exports, memory), "");
    }
    for (exports, memory, expected) in [
        (&[("filter", status)][..], "", "memory"),
        (&[], memory, "filter"),
        (&[("enqueue", "")], memory, "filter"),
        (&[("prescore", status)], memory, "score"),
        (&[("postfilter", "(result i64)")], memory, "filter"),
        (&[("removepod", status)], memory, "filter"),
        (&[("postbind", "")], memory, "bind"),
        (&[("filter", status), ("postfilter", status)], memory, "postfilter"),
        (&[("filter", "(param i32) (result i32)")], memory, "filter"),
        (&[("score", status)], memory, "score"),
    ] {
        let error = problems(exports, memory);
        assert!(error.contains(&format!("`{expected}`")), "{exports:?}: {error:?}");
    }
}

#[test]
fn a_function_that_is_not_there_is_an_error_of_the_host() {
    let text = r#"(module (memory (export "memory") 1) (func (export "filter") (result i32) (i32.const 0)))"#;
    let mut session = open(KubeScheduler::default(), text).expect("a guest");
    assert!(matches!(session.call(Call::Score("a")).expect_err("no function").kind(), ErrorKind::Engine { .. }));
    assert!(session.call(Call::Filter("a")).expect("a status").status.is_success());
}

/// Calls each import many times with the numbers that hurt most, in each function.
#[test]
fn no_argument_makes_the_host_panic() {
    let mut calls = String::new();
    let mut count = 0;
    for line in IMPORTS.lines().filter(|line| line.contains("(func ")) {
        let name = line.split('$').nth(1).and_then(|rest| rest.split([' ', ')']).next()).expect("a name");
        let params = line.split("(param").nth(1).map_or(0, |rest| rest.matches("i32").count());
        let (params, drops) =
            if line.contains("(result") { (params - usize::from(params > 0), true) } else { (params, false) };
        let args: String = (0..params).map(|at| format!("(call $arg (i32.const {}))", at + 1)).collect();
        let call = format!("(call ${name} {args})");
        let call = if drops { format!("(drop {call})") } else { call };
        calls.push_str(&format!("(if (i32.eq (call $arg (i32.const 0)) (i32.const {count})) (then {call}))\n"));
        count += 1;
    }
    assert_eq!(count, 21);
    let text = guest("node\\00{}", &calls, 0).replacen(
        "(memory",
        r#"(import "test" "arg" (func $arg (param i32) (result i32))) (memory"#,
        1,
    );
    let mut imports = Imports::<[u32; 6]>::new();
    imports.func("test", "arg", |caller: &mut Caller<'_, [u32; 6]>, at: u32| caller.state()[at as usize]);
    let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let protocol = KubeScheduler::default().config("config").log(|_| ());
    let program = Program::with_protocol(protocol, &Wasmi::new(), &wasm, &imports, Limits::default()).expect("a guest");

    let mut random = 1_u64;
    let mut pick = |from: &[u32]| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        from[(random % from.len() as u64) as usize]
    };
    let numbers = [0, 1, 2, 4, 16, 17, 1024, 65_536, 131_071, 131_072, 131_073, 1 << 31, u32::MAX - 7, u32::MAX];
    let other = Arc::new(Pod::new(r#"{"metadata": {"name": "other"}}"#).expect("a pod"));
    let (mut session, mut failed) = (program.session().expect("a session"), 0);
    for round in 0..4000 {
        if session.fault().is_some() {
            session = program.session().expect("a session");
        }
        *session.state_mut() = [0; 6].map(|_| pick(&numbers));
        session.state_mut()[0] = round % count;
        session.store_mut().set_cycle((round % 3 > 0).then(cycle));
        let call = match round % 7 {
            0 => Call::PreFilter,
            1 => Call::PostFilter(&[("a", 2)]),
            2 => Call::RemovePod(&other, "a"),
            3 => Call::PreScore(&["a"]),
            4 => Call::NormalizeScore(&[("a", 1)]),
            5 => Call::Enqueue,
            _ => Call::Filter("a"),
        };
        if let Err(error) = session.call(call) {
            failed += 1;
            let is_expected = matches!(
                error.kind(),
                ErrorKind::OutOfBounds { .. } | ErrorKind::TooLong { .. } | ErrorKind::Host { .. }
            );
            assert!(is_expected, "{:?} in {call:?}: {error}", session.state());
        }
    }
    // Some do what they should.
    assert!((500..3500).contains(&failed), "{failed}");
}

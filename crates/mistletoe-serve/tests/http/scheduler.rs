//! Plugins of a scheduler behind its webhook.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Reply, post, request};
use crate::server::{Running, assert_reply, config, start_in};

/// Plugins in the text format. A node's name begins with what they do.
const PLUGINS: &[(&str, &str)] = &[
    // Waits on `h…`, for as long as it may.
    (
        "hang",
        r#"(func (export "filter") (result i32) (if (call $is (i32.const 104)) (then (loop (br 0)))) (i32.const 0))"#,
    ),
    // Traps on `t…`, refuses `r…`, and scores its number of calls.
    (
        "trap",
        r#"(global $n (mut i32) (i32.const 0))
        (func $next (global.set $n (i32.add (global.get $n) (i32.const 1))))
        (func (export "prefilter") (result i32) (global.set $n (i32.const 0)) (i32.const 0))
        (func (export "filter") (result i32)
            (call $next)
            (if (call $is (i32.const 116)) (then unreachable))
            (if (call $is (i32.const 114)) (then
                (call $reason (i32.const 16) (i32.const 7)) (return (i32.const 2))))
            (i32.const 0))
        (func (export "score") (result i64)
            (call $next)
            (if (call $is (i32.const 116)) (then unreachable))
            (i64.shl (i64.extend_i32_u (i32.mul (global.get $n) (i32.const 10))) (i64.const 32)))
        (func (export "removepod") (result i32) (if (call $is (i32.const 116)) (then unreachable)) (i32.const 0))"#,
    ),
    // Logs as much as a request may, in lines of 8 KiB with their ends, and traps.
    (
        "flood",
        r#"(func (export "filter") (result i32)
            (local $left i32)
            (local.set $left (i32.const 128))
            (loop $more
                (call $log (i32.const 1) (i32.const 0x400) (i32.const 0x1fff))
                (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            unreachable)"#,
    ),
    // Logs a message and an event.
    (
        "log",
        r#"(func (export "prefilter") (result i32)
            (call $log (i32.const 1) (i32.const 16) (i32.const 7))
            (call $event (i32.const 64) (i32.const EVENT_LENGTH))
            (i32.const 0))"#,
    ),
];

const EVENT: &str = r#"{"RegardingReference":{"Kind":"Pod","Name":"p","Namespace":"d"},"RelatedReference":null,"Eventtype":"Warning","Reason":"Full","Action":"Waits","Note":"not\nnow"}"#;

fn start(routes: &str) -> Running {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path());
    start_in(directory, "", routes)
}

fn write(directory: &Path) {
    let event: String = EVENT.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    for (name, functions) in PLUGINS {
        let functions = functions.replace("EVENT_LENGTH", &EVENT.len().to_string());
        let text = format!(
            r#"(module
                (import "k8s.io/scheduler" "currentNodeName" (func $node (param i32 i32) (result i32)))
                (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
                (import "k8s.io/scheduler" "handle.eventrecorder.eventf" (func $event (param i32 i32)))
                (import "k8s.io/klog" "log" (func $log (param i32 i32 i32)))
                (memory (export "memory") 1)
                (data (i32.const 16) "no room")
                (data (i32.const 64) "{event}")
                (func $is (param i32) (result i32)
                    (drop (call $node (i32.const 0) (i32.const 8)))
                    (i32.eq (i32.load8_u (i32.const 0)) (local.get 0)))
                {functions})"#
        );
        let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        fs::write(directory.join(name).with_extension("wasm"), wasm).expect("a file");
    }
    fs::write(directory.join("number.wasm"), data("node-number-c.wasm")).expect("a file");
}

fn data(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).expect("a file")
}

/// A route with these plugins, and more of its keys.
fn route(plugins: &str, more: &str) -> String {
    format!("[[route]]\npath = '/scheduler/...'\nkind = 'scheduler'\nplugins = [{plugins}]\n{more}\n")
}

/// The arguments for these nodes, by name.
fn names(uid: &str, names: &[&str]) -> String {
    format!(r#"{{"Pod":{{"metadata":{{"name":"p","uid":"{uid}"}}}},"NodeNames":{names:?}}}"#)
}

#[track_caller]
fn value(reply: &Reply) -> Value {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{}", reply.text());
    serde_json::from_slice(&reply.body).expect("JSON")
}

#[track_caller]
fn filtered(reply: &Reply) -> (Value, String) {
    let value = value(reply);
    (value["NodeNames"].clone(), value["Error"].as_str().expect("a text").to_owned())
}

#[test]
fn each_verb_responds_to_a_scheduler() {
    let server = start(&route("{ module = 'number.wasm' }", ""));
    let send = |verb: &str, name: &str| post(server.address, &format!("/scheduler/{verb}"), data(name));
    let reason = "the node's name does not end with a digit";
    let nodes: Value = serde_json::from_slice(&data("scheduler-nodes.json")).expect("JSON");
    let items = nodes["Nodes"]["items"].as_array().expect("nodes");
    let expected = |nodes: Value, names: Value| {
        json!({
            "Nodes": nodes, "NodeNames": names, "Error": "",
            "FailedNodes": {}, "FailedAndUnresolvableNodes": { "control": reason },
        })
    };
    let scores =
        json!([{"Host": "node-1", "Score": 0}, {"Host": "node-2", "Score": 10}, {"Host": "control", "Score": 0}]);
    let remaining = json!({"NodeNameToMetaVictims": {"node-1": {
        "Pods": [{"UID": "0a9c2f0e-8a0e-4e43-a2f5-1fdd4e4f6a77"}], "NumPDBViolations": 0,
    }}});
    for (request, filtered) in [
        ("scheduler-nodes.json", expected(json!({"items": &items[..2]}), Value::Null)),
        ("scheduler-names.json", expected(Value::Null, json!(["node-1", "node-2"]))),
    ] {
        assert_eq!(value(&send("filter", request)), filtered);
        assert_eq!(value(&send("prioritize", request)), scores);
        assert_eq!(value(&send("filter", request)), filtered);
        assert_eq!(value(&send("preempt", "scheduler-preempt.json")), remaining);
    }
    server.logged(&[r#""event":"guest""#, r#""plugin":"number""#, r#""level":"info","line":"the pod's digit is 2""#]);
}

#[test]
fn what_plugins_use_is_counted() {
    let server = start(&route("{ module = 'trap.wasm', limits = { fuel = '1M' } }", "pool = { idle = '1h' }"));
    let fuel = || -> u64 {
        let metrics = server.service.metrics();
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(r#"mistletoe_fuel_total{route="/scheduler/..."} "#));
        line.and_then(|units| units.parse().ok()).expect("a number")
    };
    assert_eq!(fuel(), 0);
    assert_eq!(filtered(&post(server.address, "/scheduler/filter", names("u", &["a"]))).0, json!(["a"]));
    let filter = fuel();
    assert!(filter > 0);
    server.wait_for(r#"mistletoe_memory_peak_bytes{route="/scheduler/..."} 65536"#);
    // Also where a plugin fails.
    assert_reply(&post(server.address, "/scheduler/prioritize", names("u", &["t"])), 500, "Internal Server Error\n");
    assert!(fuel() > filter);
}

#[test]
fn what_is_no_request_of_a_scheduler_is_refused() {
    let server = start(&route("{ module = 'number.wasm' }", "limits = { body = '1kB' }"));
    for path in ["/scheduler", "/scheduler/", "/scheduler/bind", "/scheduler/filter/", "/scheduler//filter"] {
        assert_reply(&post(server.address, path, names("u", &[])), 404, "Not Found\n");
    }
    assert_eq!(request(server.address, "GET", "/scheduler/filter", "").header("allow"), Some("POST"));
    for verb in ["filter", "prioritize", "preempt"] {
        for body in ["", "{", "[]", "null", r#"{"Pod":1,"NodeNames":[]}"#, "\u{0}", &"[".repeat(1_000)] {
            let reply = post(server.address, &format!("/scheduler/{verb}"), body);
            assert_reply(&reply, 400, "Bad Request\n");
        }
        server.logged(&[r#""error":"document","message":"the request is not one of a scheduler's: "#]);
        let long = post(server.address, &format!("/scheduler/{verb}"), names(&"u".repeat(1_000), &["a"]));
        assert_reply(&long, 413, "Payload Too Large\n");
    }
    // Afterwards it still responds.
    assert_eq!(filtered(&post(server.address, "/scheduler/filter", names("u", &["1"]))), (json!(["1"]), "".to_owned()));
}

#[test]
fn a_plugin_that_hangs_ends_in_time() {
    let ignored = "{ module = 'hang.wasm', on_failure = 'ignore', limits = { timeout = '1s' } }";
    let longest = "{ module = 'hang.wasm', limits = { timeout = '1600ms' } }";
    let server = start(
        &[
            route("{ module = 'hang.wasm', limits = { timeout = '50ms' } }", ""),
            route(&format!("{ignored}, {longest}"), "http_timeout = '2s'").replace("/scheduler", "/two"),
        ]
        .concat(),
    );
    let reply = post(server.address, "/scheduler/filter", names("u", &["a", "h"]));
    let error = "plugin hang: node h: error: wasm: filter error: timed out after 50 ms";
    assert!(matches!(filtered(&reply), (Value::Null, text) if text.starts_with(error)), "{}", reply.text());
    server.wait_for(r#"mistletoe_failures_total{route="/scheduler/...",kind="plugin"} 1"#);

    // The second call begins in time, and its own limit alone would end after the scheduler's.
    let begun = Instant::now();
    let reply = post(server.address, "/two/filter", names("u", &["h"]));
    let elapsed = begun.elapsed();
    let error = "plugin hang-2: node h: error: the request takes more than 1.6s";
    assert_eq!(filtered(&reply), (Value::Null, error.to_owned()));
    assert!(elapsed < Duration::from_millis(2_500), "{elapsed:?}");
    server.wait_for(r#"mistletoe_failures_total{route="/two/...",kind="ignored"} 1"#);
    // The next pods are not held up.
    assert_eq!(filtered(&post(server.address, "/two/filter", names("v", &["a"]))).0, json!(["a"]));
}

#[test]
fn a_trap_fails_the_request_or_is_ignored() {
    let routes = ["fail", "ignore"].map(|on_failure| {
        let plugin = format!("{{ module = 'trap.wasm', on_failure = '{on_failure}' }}, {{ module = 'number.wasm' }}");
        route(&plugin, "show_errors = true").replace("/scheduler", &format!("/{on_failure}"))
    });
    let server = start(&routes.concat());
    let send = |path: &str, nodes: &[&str]| post(server.address, path, names("u", nodes));
    let trap =
        |function: &str| format!("node t0: error: wasm: {function} error: trap in `{function}`: unreachable executed");
    let reply = send("/fail/filter", &["r0", "t0", "a1"]);
    assert_eq!(filtered(&reply), (Value::Null, format!("plugin trap: {}", trap("filter"))));
    server.logged(&[r#""status":200"#, r#""error":"plugin","message":"plugin trap: node t0: error: "#]);
    let reply = send("/fail/prioritize", &["a1", "t0"]);
    assert_reply(&reply, 500, "Internal Server Error\n");
    assert_eq!(reply.header("x-mistletoe-error"), Some("plugin"));
    server.logged(&[r#""status":500"#, r#""error":"plugin","message":"plugin trap: node t0: error: "#]);

    let reply = value(&send("/ignore/filter", &["r0", "t0", "r1", "a"]));
    let expected = json!({"r0": "no room"});
    assert_eq!((&reply["NodeNames"], &reply["FailedNodes"]), (&json!(["t0", "r1"]), &expected));
    let line = server.logged(&[r#""event":"guest""#, &format!("ignored: {}", trap("filter"))]);
    assert!(line.contains(r#""plugin":"trap","request":""#) && line.contains(r#""level":"error""#), "{line}");
    server.wait_for(r#"mistletoe_failures_total{route="/ignore/...",kind="ignored"} 1"#);
    assert_eq!(value(&send("/ignore/prioritize", &["t0"])), json!([{"Host": "t0", "Score": 0}]));
}

/// However much the plugin has written before.
#[test]
fn a_failure_that_is_ignored_is_in_the_log() {
    let plugins = "{ module = 'flood.wasm', on_failure = 'ignore' }, { module = 'number.wasm' }";
    let server = start(&route(plugins, ""));
    let reply = post(server.address, "/scheduler/filter", names("u", &["node-1"]));
    assert_eq!(reply.status, 200, "{reply:?}");
    server.logged(&[r#""plugin":"flood""#, "ignored: node node-1: "]);
}

#[test]
fn what_plugins_write_is_in_the_log() {
    let server = start(&route("{ module = 'log.wasm' }", ""));
    assert_eq!(filtered(&post(server.address, "/scheduler/filter", names("u", &["a"]))).0, json!(["a"]));
    let route = r#""route":"/scheduler/...","plugin":"log","request":""#;
    server.logged(&[route, r#""level":"warning","line":"no room""#]);
    server.logged(&[route, r#""level":"warning","line":"event Full (Waits) about Pod d/p: not now""#]);
}

#[test]
fn many_pods_leave_as_many_cycles_as_may_be_kept() {
    let plugin = "{ module = 'trap.wasm' }";
    let server =
        start(&route(plugin, "kept_cycles = 3\nkeep_time = '1h'\npool = { size = 4, queue = 100, wait = '100s' }"));
    let address = server.address;
    let clients: Vec<_> = (0..8)
        .map(|client| {
            thread::spawn(move || {
                for pod in 0..5 {
                    let uid = format!("{client}-{pod}");
                    let reply = post(address, "/scheduler/filter", names(&uid, &["a", "r"]));
                    assert_eq!(filtered(&reply).0, json!(["a"]));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("no panic"));
    server.wait_for(r#"mistletoe_instances_in_use{route="/scheduler/..."} 0"#);
    server.wait_for(r#"mistletoe_instances_waiting{route="/scheduler/..."} 0"#);
    server.wait_for(r#"mistletoe_instances_limit{route="/scheduler/..."} 4"#);
    assert!(server.service.metrics().contains("mistletoe_instances_idle{route=\"/scheduler/...\"} 3\n"));
    // They end when their time is over.
    server.service.prune(Instant::now() + Duration::from_secs(2 * 60 * 60));
    assert!(server.service.metrics().contains("mistletoe_instances_idle{route=\"/scheduler/...\"} 0\n"));
}

#[test]
fn requests_for_one_pod_do_not_meet_in_one_instance() {
    let server = start(&route("{ module = 'trap.wasm' }", "pool = { size = 4, queue = 100, wait = '100s' }"));
    let address = server.address;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..5 {
                    let reply = post(address, "/scheduler/filter", names("u", &["a", "b", "r"]));
                    assert_eq!(filtered(&reply).0, json!(["a", "b"]));
                    // Either the cycle of a `filter`, after three calls, or a new one: never the cycle of two requests.
                    let scores = value(&post(address, "/scheduler/prioritize", names("u", &["a", "b"])));
                    let scores: Vec<_> =
                        scores.as_array().expect("scores").iter().map(|s| s["Score"].clone()).collect();
                    assert!([vec![4, 5], vec![1, 2]].iter().any(|known| scores == *known), "{scores:?}");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("no panic"));
    // One after the other, there is one cycle.
    post(address, "/scheduler/filter", names("v", &["a", "b", "r"]));
    let scores = value(&post(address, "/scheduler/prioritize", names("v", &["a"])));
    assert_eq!(scores, json!([{"Host": "a", "Score": 4}]));
}

#[test]
fn a_client_that_leaves_cancels_its_plugins() {
    let more = "http_timeout = '1h'\npool = { size = 1, queue = 1, wait = '100s' }";
    let server = start(&route("{ module = 'hang.wasm', on_failure = 'ignore' }", more));
    let mut client = Client::new(server.address);
    let body = names("u", &["h"]);
    client.send(format!("POST /scheduler/filter HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    server.wait_for(r#"mistletoe_instances_in_use{route="/scheduler/..."} 1"#);
    drop(client);
    // The plugin would take a quarter of the hour.
    server.wait_for(r#"mistletoe_instances_in_use{route="/scheduler/..."} 0"#);
    server.logged(&[r#""status":499"#]);
    assert_eq!(filtered(&post(server.address, "/scheduler/filter", names("u", &["a"]))).0, json!(["a"]));
}

#[test]
fn a_reload_gives_plugins_another_configuration() {
    let routes = route("{ module = 'number.wasm', config_file = 'c' }", "");
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path());
    fs::write(directory.path().join("c"), "").expect("a file");
    let server = start_in(directory, "", &routes);
    let scores = || {
        let scores = value(&post(server.address, "/scheduler/prioritize", data("scheduler-names.json")));
        [0, 1].map(|at| scores[at]["Score"].as_i64().expect("a score"))
    };
    assert_eq!(scores(), [0, 10]);
    fs::write(server.directory.path().join("c"), "reverse").expect("a file");
    server.service.reload(&config("", &routes, server.directory.path())).expect("a reload");
    assert_eq!(scores(), [10, 0]);
}

//! Plugins in order, with their cycles, failures and limits.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mistletoe_abi::{AnyBackend, Limits};
use mistletoe_scheduler::protocol::{Record, Severity, Status};
use mistletoe_scheduler::{
    Bounds, Candidate, Failure, Filtered, Node, Nodes, OnFailure, Plugin, PluginOptions, Pod, Scheduler,
};
use mistletoe_wasmi::Wasmi;

/// Loads a plugin with these functions. It has the counter `$n`, which starts with 0 in each instance, and the first
/// byte of the node's name.
fn load(options: PluginOptions, functions: &str) -> Plugin {
    let text = format!(
        r#"(module
            (import "k8s.io/scheduler" "currentNodeName" (func $currentNodeName (param i32 i32) (result i32)))
            (import "k8s.io/scheduler" "filteredNodeList" (func $filteredNodeList (param i32 i32) (result i32)))
            (import "k8s.io/scheduler" "nodeToStatusMap" (func $nodeToStatusMap (param i32 i32) (result i32)))
            (import "k8s.io/scheduler" "targetPod" (func $targetPod (param i32 i32) (result i32)))
            (import "k8s.io/scheduler" "result.node_names" (func $node_names (param i32 i32)))
            (import "k8s.io/scheduler" "result.nominated_node_name" (func $nominated (param i32 i32)))
            (import "k8s.io/scheduler" "result.normalized_score_list" (func $normalized (param i32 i32)))
            (import "k8s.io/scheduler" "result.status_reason" (func $reason (param i32 i32)))
            (import "k8s.io/klog" "log" (func $log (param i32 i32 i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "no room")
            (data (i32.const 32) "a\00c\00")
            (data (i32.const 64) "\48\00\00\00\05\00\00\00hello")
            (global $n (mut i32) (i32.const 0))
            (func $next (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
            (func $node (result i32)
                (drop (call $currentNodeName (i32.const 0) (i32.const 8))) (i32.load8_u (i32.const 0)))
            (func $is (param i32) (result i32) (i32.eq (call $node) (local.get 0)))
            {functions})"#
    );
    let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    options.load(&AnyBackend::new(Wasmi::new()), &wasm).expect("a plugin")
}

fn plugin(name: &str, functions: &str) -> Plugin {
    load(Plugin::options(name), functions)
}

fn pod(uid: &str) -> Pod {
    Pod::new(format!(r#"{{"metadata": {{"name": "p", "uid": "{uid}"}}}}"#)).expect("a pod")
}

fn nodes(names: &[&str]) -> Nodes {
    Nodes::new(names.iter().map(|name| Node::new(format!(r#"{{"metadata":{{"name":"{name}"}}}}"#)).expect("a node")))
}

/// The refused nodes as `node by plugin: status`.
fn refused(filtered: &Filtered) -> Vec<String> {
    filtered
        .refused
        .iter()
        .map(|refusal| format!("{} by {}: {}", refusal.node, refusal.plugin, refusal.status))
        .collect()
}

const REFUSE_B: &str = r#"(func (export "filter") (result i32)
    (call $reason (i32.const 16) (i32.const 7)) (i32.mul (call $is (i32.const 98)) (i32.const 2)))"#;

#[test]
fn the_first_plugin_that_refuses_a_node_decides() {
    let second = r#"(func (export "filter") (result i32)
        (i32.mul (i32.const 3) (i32.or (call $is (i32.const 98)) (call $is (i32.const 99)))))"#;
    let scheduler = Scheduler::new([plugin("one", REFUSE_B), plugin("two", second)]);
    let filtered = scheduler.filter(pod("u"), nodes(&["a", "b", "c", "d"])).expect("no failure");
    assert_eq!(filtered.fits, [0, 3]);
    assert_eq!(refused(&filtered), ["b by one: unschedulable: no room", "c by two: unschedulable and unresolvable"]);
}

#[test]
fn prefilter_decides_about_nodes_that_filter_is_not_asked_about() {
    let filter = |prefilter: &str| {
        let functions = format!(
            r#"(func (export "prefilter") (result i32) {prefilter})
               (func (export "filter") (result i32) (i32.const 2))"#
        );
        let scheduler = Scheduler::new([plugin("one", &functions)]);
        let filtered = scheduler.filter(pod("u"), nodes(&["a", "b", "c"])).expect("no failure");
        (filtered.fits.clone(), refused(&filtered))
    };
    assert_eq!(filter("(i32.const 5)"), (vec![0, 1, 2], vec![]));
    let (fits, reasons) = filter("(call $reason (i32.const 16) (i32.const 7)) (i32.const 3)");
    assert_eq!((fits.len(), &*reasons[0]), (0, "a by one: unschedulable and unresolvable: no room"));
    assert_eq!(reasons.len(), 3);

    let names = r#"(func (export "prefilter") (result i32)
        (call $node_names (i32.const 32) (i32.const 4)) (i32.const 0))"#;
    let scheduler = Scheduler::new([plugin("one", names), plugin("two", REFUSE_B)]);
    let filtered = scheduler.filter(pod("u"), nodes(&["a", "b", "c"])).expect("no failure");
    assert_eq!(filtered.fits, [0, 2]);
    assert_eq!(filtered.refused[0].status.code, Status::UNRESOLVABLE);
    assert_eq!(&*filtered.refused[0].plugin, "one");
}

#[test]
fn a_plugin_that_fails_fails_the_request_or_is_ignored() {
    let traps = r#"(func (export "filter") (result i32)
        (if (call $is (i32.const 98)) (then
            (drop (call $fd_write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 128))) unreachable))
        (i32.const 0))"#;
    let status = r#"(func (export "filter") (result i32)
        (call $reason (i32.const 16) (i32.const 7)) (call $is (i32.const 98)))"#;
    let unknown = r#"(func (export "filter") (result i32) (i32.const -3))"#;
    let names = ["a", "b", "c"];
    for (functions, node, reason) in [
        (traps, "b", "error: wasm: filter error: hello: trap in `filter`: unreachable executed"),
        (status, "b", "error: no room"),
        (unknown, "a", "status -3: "),
    ] {
        let scheduler = Scheduler::new([plugin("bad", functions)]);
        let failure = scheduler.filter(pod("u"), nodes(&names)).expect_err("a failure");
        assert_eq!(failure.to_string(), format!("plugin bad: node {node}: {reason}"));
        // The next request has another instance.
        let again = scheduler.filter(pod("u"), nodes(&["c"]));
        assert_eq!(again.is_ok(), functions != unknown, "{again:?}");

        let log = Arc::new(Mutex::new(Vec::new()));
        let records = log.clone();
        let options = Plugin::options("bad").on_failure(OnFailure::Ignore).log(Severity::Info, move |record| {
            if let Record::Ignored { node, status } = record {
                let record = format!("{}: {status}", node.unwrap_or_default());
                records.lock().expect("no panic").push(record);
            }
        });
        let scheduler = Scheduler::new([load(options, functions), plugin("good", REFUSE_B)]);
        let filtered = scheduler.filter(pod("u"), nodes(&names)).expect("no failure");
        assert_eq!(refused(&filtered), ["b by good: unschedulable: no room"]);
        // The plugin is out for the rest of the cycle.
        assert_eq!(*log.lock().expect("no panic"), [format!("{node}: {reason}")]);
    }
}

#[test]
fn a_call_and_a_request_have_a_time() {
    let hangs = r#"(func (export "filter") (result i32) (loop (br 0)) (i32.const 0))"#;
    let options = || Plugin::options("slow").limits(Limits::default().with_timeout(Duration::from_millis(800)));
    let scheduler = Scheduler::new([load(options(), hangs)]);
    let failure = scheduler.filter(pod("u"), nodes(&["a"])).expect_err("a failure");
    assert!(failure.status.reason.starts_with("wasm: filter error: timed out after 800 ms"), "{failure}");

    // The call that begins in time has its own limit; there is no time to go on without its plugin.
    let ignored = load(options().on_failure(OnFailure::Ignore), hangs);
    let scheduler = Scheduler::new([ignored, plugin("one", REFUSE_B)]).time_limit(Duration::from_millis(400));
    let failure = scheduler.filter(pod("u"), nodes(&["n0", "n1"])).expect_err("a failure");
    assert_eq!(failure.to_string(), "plugin slow: node n0: error: the request takes more than 400ms");
}

#[test]
fn the_time_of_a_request_ends_the_call_under_way() {
    let loops = "(func (export \"filter\") (result i32) (loop (br 0)) (i32.const 0))";
    let calls = r#"(func (export "filter") (result i32)
        (loop (call $log (i32.const 0) (i32.const 16) (i32.const 7)) (br 0)) (i32.const 0))"#;
    for body in [loops, calls] {
        let options = Plugin::options("slow").limits(Limits::default().with_timeout(Duration::from_secs(100)));
        let limit = Duration::from_millis(50);
        let scheduler = Scheduler::new([load(options.on_failure(OnFailure::Ignore), body)]).time_limit(limit);
        let started = Instant::now();
        let failure = scheduler.filter(pod("u"), nodes(&["a"])).expect_err("a failure");
        assert_eq!(failure.to_string(), "plugin slow: node a: error: the request takes more than 50ms");
        assert!(started.elapsed() < Duration::from_secs(50), "the call has ended");
    }
}

#[test]
fn a_request_is_cancelled_in_a_call() {
    let hangs = r#"(func (export "filter") (result i32)
        (call $log (i32.const 0) (i32.const 16) (i32.const 7)) (loop (br 0)) (i32.const 0))"#;
    let bounds = Bounds::new(Duration::from_secs(100));
    let cancel = bounds.cancel_handle().clone();
    let options = Plugin::options("slow").limits(Limits::default().with_timeout(Duration::from_secs(100)));
    // As soon as the guest runs.
    let options = options.on_failure(OnFailure::Ignore).log(Severity::Info, {
        let cancel = cancel.clone();
        move |_| cancel.cancel()
    });
    let scheduler = Scheduler::new([load(options, hangs)]);
    let failure = scheduler.filter_within(pod("u"), nodes(&["a"]), &bounds).expect_err("a failure");
    assert_eq!(failure.to_string(), "plugin slow: node a: error: the request was cancelled");
    assert_eq!(scheduler.plugins()[0].idle_instances(), 0, "the instance is closed");
}

#[test]
fn the_end_of_a_request_does_not_reach_the_cycle_that_is_kept() {
    let scheduler = Scheduler::new([plugin("one", COUNTS)]);
    let bounds = Bounds::new(Duration::from_secs(100));
    scheduler.filter_within(pod("u"), nodes(&["a", "b"]), &bounds).expect("no failure");
    assert_eq!(scheduler.kept_cycles(), 1);
    bounds.cancel_handle().cancel();
    assert_eq!(scheduler.prioritize(pod("u"), nodes(&["a"])).expect("no failure"), [3]);

    // The cycle and idle instances have the bounds of the request that goes on with them.
    for verb in ["filter", "prioritize"] {
        scheduler.filter(pod("u"), nodes(&["a", "b"])).expect("no failure");
        let failure = match verb {
            "filter" => scheduler.filter_within(pod("v"), nodes(&["a"]), &bounds).map(drop),
            _ => scheduler.prioritize_within(pod("u"), nodes(&["a"]), &bounds).map(drop),
        };
        let failure = failure.expect_err("a failure").to_string();
        assert!(failure.ends_with("the request was cancelled"), "{failure}");
    }
}

#[test]
fn cycles_are_not_kept_for_longer_than_they_may_be() {
    let keep = Duration::from_secs(1_000);
    let scheduler = Scheduler::new([plugin("one", COUNTS)]).keep(2, keep).idle(3 * keep);
    for uid in ["u", "v", "w"] {
        scheduler.filter(pod(uid), nodes(&["a"])).expect("no failure");
    }
    let now = Instant::now();
    scheduler.prune(now);
    assert_eq!((scheduler.kept_cycles(), scheduler.plugins()[0].idle_instances()), (2, 1));
    scheduler.prune(now + 2 * keep);
    assert_eq!((scheduler.kept_cycles(), scheduler.plugins()[0].idle_instances()), (0, 3));
}

/// Counts its calls: `prefilter` starts again, and a node's score is the number of calls since.
const COUNTS: &str = r#"(func (export "prefilter") (result i32) (global.set $n (i32.const 0)) (i32.const 0))
    (func (export "filter") (result i32) (drop (call $next)) (i32.const 0))
    (func (export "score") (result i64) (i64.shl (i64.extend_i32_u (call $next)) (i64.const 32)))"#;

#[test]
fn prioritize_goes_on_with_the_instance_of_filter() {
    let scheduler = Scheduler::new([plugin("one", COUNTS)]);
    let three = ["a", "b", "c"];
    scheduler.filter(pod("u"), nodes(&three)).expect("no failure");
    // Another pod has another instance.
    scheduler.filter(pod("v"), nodes(&["a"])).expect("no failure");
    assert_eq!(scheduler.prioritize(pod("u"), nodes(&["a", "c"])).expect("no failure"), [4, 5]);
    // Then the cycle is over.
    assert_eq!(scheduler.prioritize(pod("u"), nodes(&["a", "c"])).expect("no failure"), [1, 2]);
    assert_eq!(scheduler.prioritize(pod("v"), nodes(&["a"])).expect("no failure"), [2]);

    // Another version of the pod, a node that was not there, and a pod without a UID start again.
    scheduler.filter(pod("u"), nodes(&three)).expect("no failure");
    let other = Pod::new(r#"{"metadata": {"uid": "u", "name": "other"}}"#).expect("a pod");
    assert_eq!(scheduler.prioritize(other, nodes(&["a"])).expect("no failure"), [1]);
    scheduler.filter(pod("u"), nodes(&three)).expect("no failure");
    assert_eq!(scheduler.prioritize(pod("u"), nodes(&["d"])).expect("no failure"), [1]);
    scheduler.filter(pod(""), nodes(&three)).expect("no failure");
    assert_eq!(scheduler.prioritize(pod(""), nodes(&["a"])).expect("no failure"), [1]);
}

#[test]
fn an_idle_instance_is_used_again() {
    let counts = r#"(func (export "score") (result i64) (i64.shl (i64.extend_i32_u (call $next)) (i64.const 32)))"#;
    let scheduler = Scheduler::new([plugin("one", counts)]);
    // Without `prefilter`, a guest starts nothing anew.
    assert_eq!(scheduler.prioritize(pod("u"), nodes(&["a"])), Ok(vec![1]));
    assert_eq!(scheduler.prioritize(pod("v"), nodes(&["a"])), Ok(vec![2]));
}

#[test]
fn an_instance_that_was_idle_for_too_long_is_closed() {
    let counts = r#"(func (export "score") (result i64) (i64.shl (i64.extend_i32_u (call $next)) (i64.const 32)))"#;
    let minute = Duration::from_secs(60);
    let scheduler = Scheduler::new([plugin("one", counts)]).idle(minute);
    let score = || scheduler.prioritize(pod("u"), nodes(&["a"])).expect("no failure");
    let begun = Instant::now();
    assert_eq!((score(), score()), (vec![1], vec![2]));
    scheduler.prune(begun + minute);
    assert_eq!((score(), scheduler.plugins()[0].idle_instances()), (vec![3], 1));
    // The clock may not have moved since.
    scheduler.prune(Instant::now() + minute + Duration::from_nanos(1));
    assert_eq!((scheduler.plugins()[0].idle_instances(), score()), (0, vec![1]));
}

#[test]
fn a_request_says_what_its_plugins_have_used() {
    let fits = r#"(func (export "filter") (result i32) (i32.mul (call $is (i32.const 98)) (i32.const 2)))
        (func (export "score") (result i64) unreachable)"#;
    // Grows before it fails.
    let traps = r#"(func (export "filter") (result i32)
        (if (call $is (i32.const 98)) (then (drop (memory.grow (i32.const 2))) unreachable)) (i32.const 0))"#;
    let limited = || Plugin::options("one").limits(Limits::default().with_fuel(1_000_000));
    let used = |scheduler: &Scheduler, names: &[&str]| {
        let bounds = Bounds::new(Duration::from_secs(60));
        let is_success = scheduler.filter_within(pod("u"), nodes(names), &bounds.clone()).is_ok();
        let used = bounds.used();
        (is_success, used.fuel, used.memory >> 16)
    };
    let scheduler = Scheduler::new([load(limited(), fits), plugin("two", fits)]);
    let (is_success, one, pages) = used(&scheduler, &["a"]);
    let one = one.expect("fuel is counted");
    assert!(is_success && one > 0);
    assert_eq!(pages, 1);
    // Each request counts from the beginning, and all of its calls.
    assert_eq!(used(&scheduler, &["a", "c", "d"]), (true, Some(3 * one), 1));
    let bounds = Bounds::new(Duration::from_secs(60));
    scheduler.prioritize_within(pod("u"), nodes(&["a"]), &bounds).expect_err("a trap");
    assert!(bounds.used().fuel.is_some_and(|fuel| fuel > 0) && bounds.used().memory == 1 << 16, "{bounds:?}");
    for on_failure in [OnFailure::Fail, OnFailure::Ignore] {
        let options = Plugin::options("one").on_failure(on_failure);
        let scheduler = Scheduler::new([load(options, traps)]);
        assert_eq!(used(&scheduler, &["a", "c"]), (true, None, 1));
        assert_eq!(used(&scheduler, &["b"]), (on_failure == OnFailure::Ignore, None, 3));
    }
}

/// Writes in its start, which traps for one random byte of two.
const STARTS_OR_NOT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "\48\00\00\00\05\00\00\00hello")
    (func (export "_initialize")
        (drop (call $fd_write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 128)))
        (drop (call $random (i32.const 0) (i32.const 1)))
        (if (i32.and (i32.load8_u (i32.const 0)) (i32.const 1)) (then unreachable)))
    (func (export "filter") (result i32) (i32.const 0)))"#;

#[test]
fn what_a_plugin_writes_before_it_fails_to_start_is_not_lost() {
    let (backend, wasm) = (AnyBackend::new(Wasmi::new()), wat::parse_str(STARTS_OR_NOT).expect("it assembles"));
    let log = Arc::new(Mutex::new(Vec::new()));
    let load = || {
        let records = log.clone();
        let options = Plugin::options("one").log(Severity::Info, move |record| {
            if let Record::Message { text, .. } = record {
                records.lock().expect("no panic").push(text.to_owned());
            }
        });
        options.load(&backend, &wasm)
    };
    let lines = || std::mem::take(&mut *log.lock().expect("no panic"));
    // Of a hundred starts, one fails and one does not.
    let mut loaded = (0..100).map(|_| (load(), lines()));
    let plugin = loaded.find_map(|(plugin, lines)| {
        assert_eq!(lines, ["hello"], "{plugin:?}");
        plugin.ok()
    });
    assert!(loaded.any(|(plugin, lines)| lines == ["hello"] && plugin.is_err()));

    // Each pod has an instance of its own.
    let scheduler = Scheduler::new(plugin).keep(100, Duration::from_secs(3600));
    let failure = (0..100).find_map(|uid| scheduler.filter(pod(&uid.to_string()), nodes(&["a"])).err());
    let trap = "trap in `_initialize`: unreachable executed";
    assert_eq!(
        failure.expect("a failure").to_string(),
        format!("plugin one: error: wasm: instantiate error: hello: {trap}")
    );
    assert!(lines().iter().all(|line| line == "hello"));
}

#[test]
fn kept_cycles_are_bounded_in_number_and_time() {
    let scheduler = Scheduler::new([plugin("one", COUNTS)]).keep(1, Duration::from_secs(3600));
    scheduler.filter(pod("u"), nodes(&["a"])).expect("no failure");
    scheduler.filter(pod("v"), nodes(&["a"])).expect("no failure");
    assert_eq!(scheduler.prioritize(pod("u"), nodes(&["a"])).expect("no failure"), [1]);
    assert_eq!(scheduler.prioritize(pod("v"), nodes(&["a"])).expect("no failure"), [2]);

    let scheduler = Scheduler::new([plugin("one", COUNTS)]).keep(8, Duration::ZERO);
    scheduler.filter(pod("u"), nodes(&["a"])).expect("no failure");
    assert_eq!(scheduler.prioritize(pod("u"), nodes(&["a"])).expect("no failure"), [1]);
    let scheduler = Scheduler::new([plugin("one", COUNTS)]).keep(0, Duration::from_secs(3600));
    scheduler.filter(pod("u"), nodes(&["a"])).expect("no failure");
    assert_eq!(scheduler.prioritize(pod("u"), nodes(&["a"])).expect("no failure"), [1]);
}

#[test]
fn no_two_cycles_have_one_instance() {
    let scheduler = Scheduler::new([plugin("one", COUNTS)]);
    let names: Vec<_> = (0..40).map(|at| format!("n{at}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (scheduler, names) = (&scheduler, &names);
            scope.spawn(move || {
                for round in 0..5 {
                    let uid = format!("{thread}-{round}");
                    scheduler.filter(pod(&uid), nodes(names)).expect("no failure");
                    let scores = scheduler.prioritize(pod(&uid), nodes(names)).expect("no failure");
                    // The calls of no other thread are counted.
                    assert!(scores[0] == 41 || scores[0] == 1, "{scores:?}");
                    assert!(scores.windows(2).all(|two| two[1] == two[0] + 1), "{scores:?}");
                }
            });
        }
    });
}

#[test]
fn scores_are_the_mean_by_weight() {
    let score = |number: i64| format!(r#"(func (export "score") (result i64) (i64.const {}))"#, number << 32);
    let prescore = |code| format!(r#"{} (func (export "prescore") (result i32) (i32.const {code}))"#, score(50));
    let of = |plugins: Vec<Plugin>| Scheduler::new(plugins).prioritize(pod("u"), nodes(&["a", "b"]));
    let weight = |weight, functions: &str| load(Plugin::options("w").weight(weight), functions);
    assert_eq!(of(vec![plugin("one", &score(100)), weight(3, &score(20))]), Ok(vec![40, 40]));
    assert_eq!(of(vec![plugin("one", &prescore(0))]), Ok(vec![50, 50]));
    // A plugin that skips has scores of 0.
    assert_eq!(of(vec![plugin("one", &prescore(5)), plugin("two", &score(100))]), Ok(vec![50, 50]));
    assert_eq!(of(vec![weight(0, &score(100))]), Ok(vec![0, 0]));
    assert_eq!(of(vec![plugin("one", REFUSE_B)]), Ok(vec![0, 0]));
    assert_eq!(of(vec![plugin("one", &prescore(2))]).expect_err("a failure").status.code, 2);
    for number in [101, -1, i64::from(i32::MAX)] {
        let failure = of(vec![plugin("one", &score(number))]).expect_err("a failure");
        assert_eq!(
            failure.to_string(),
            format!("plugin one: node a: error: the score {number} is not between 0 and 100")
        );
        let ignored = load(Plugin::options("one").on_failure(OnFailure::Ignore), &score(number));
        assert_eq!(of(vec![ignored, plugin("two", &score(60))]), Ok(vec![60, 60]));
    }
}

#[test]
fn scores_are_normalized_and_prescore_has_the_nodes() {
    let functions = r#"(data (i32.const 256) "{\"a\":10,\"b\":90}")
        (func (export "prescore") (result i32)
            ;; The length of ["a","b"] is 9.
            (i32.sub (call $filteredNodeList (i32.const 0) (i32.const 0)) (i32.const 9)))
        (func (export "score") (result i64) (i64.const -1))
        (func (export "normalizescore") (result i32)
            (call $normalized (i32.const 256) (i32.const 15)) (i32.const 0))"#;
    // Out of range before, and a status that is not success.
    let scheduler = Scheduler::new([plugin("one", functions)]);
    let failure = scheduler.prioritize(pod("u"), nodes(&["a", "b"])).expect_err("a status");
    assert_eq!(failure.status.code, -1);
    let functions = functions.replace("(i64.const -1)", "(i64.shl (i64.const -7) (i64.const 32))");
    let scheduler = Scheduler::new([plugin("one", &functions)]);
    assert_eq!(scheduler.prioritize(pod("u"), nodes(&["b", "a"])), Ok(vec![90, 10]));
    let failure = scheduler.prioritize(pod("u"), nodes(&["a", "b", "c"])).expect_err("a status of prescore");
    assert_eq!((failure.node, failure.status.code), (None, 4));
}

#[test]
fn a_guest_can_say_which_candidates_remain() {
    let victims = [Arc::new(pod("v1")), Arc::new(pod("v2"))];
    let candidates = ["a", "b", "c", "elsewhere"].map(|node| Candidate { node, victims: &victims });
    let ask = |functions: &str| {
        let scheduler = Scheduler::new([plugin("one", functions)]);
        let all: Result<_, Failure> = scheduler.preempt(pod("u"), &candidates);
        assert_eq!(all, Ok(vec![true; 4]), "there is no cycle");
        scheduler.filter(pod("u"), nodes(&["a", "b", "c"])).expect("no failure");
        scheduler.preempt(pod("u"), &candidates)
    };
    let refuse = r#"(func (export "filter") (result i32) (i32.const 2))"#;
    assert_eq!(ask(refuse), Ok(vec![true; 4]));

    // Fits `a` and `c` if both victims are gone: `filter` is the third call after `prefilter`.
    let removes = r#"(func (export "prefilter") (result i32) (global.set $n (i32.const 0)) (i32.const 0))
        (func (export "removepod") (result i32)
            (if (i32.eqz (call $targetPod (i32.const 0) (i32.const 0))) (then unreachable))
            (drop (call $next)) (i32.const 0))
        (func (export "filter") (result i32)
            (i32.mul (i32.const 2) (i32.or (call $is (i32.const 98)) (i32.ne (global.get $n) (i32.const 2)))))"#;
    assert_eq!(ask(removes), Ok(vec![true, false, true, true]));

    // What `prefilter` says then counts, and not what it said when the cycle began.
    let removes = |prefilter: &str, status: i32| {
        format!(
            r#"(func (export "prefilter") (result i32) {prefilter})
            (func (export "removepod") (result i32) (i32.const 0))
            (func (export "filter") (result i32) (i32.const {status}))"#
        )
    };
    let skips = "(select (i32.const 5) (i32.const 0) (i32.eq (call $next) (i32.const 1)))";
    assert_eq!(ask(&removes(skips, 2)), Ok(vec![false, false, false, true]));
    let leaves = "(if (i32.gt_u (call $next) (i32.const 1)) (then (call $node_names (i32.const 32) (i32.const 4))))
        (i32.const 0)";
    assert_eq!(ask(&removes(leaves, 0)), Ok(vec![true, false, true, true]));

    let nominates = |mode: u64, name: &str, status: u64| {
        format!(
            r#"{refuse} (func (export "postfilter") (result i64)
                ;; The length of {{"a":2,"b":2,"c":2}} is 19.
                (if (i32.ne (call $nodeToStatusMap (i32.const 0) (i32.const 0)) (i32.const 19)) (then unreachable))
                {name} (i64.const {}))"#,
            mode << 32 | status
        )
    };
    let c = "(call $nominated (i32.const 34) (i32.const 1))";
    assert_eq!(ask(&nominates(1, c, 0)), Ok(vec![false, false, true, false]));
    assert_eq!(ask(&nominates(1, "", 0)), Ok(vec![false; 4]));
    // No candidate: the module's text at this address is the name.
    let other = "(call $nominated (i32.const 16) (i32.const 2))";
    assert_eq!(ask(&nominates(1, other, 0)), Ok(vec![true; 4]));
    assert_eq!(ask(&nominates(0, c, 0)), Ok(vec![true; 4]));
    assert_eq!(ask(&nominates(1, c, 2)), Ok(vec![true; 4]));
    assert_eq!(ask(&nominates(1, c, 1)).expect_err("a failure").status.code, 1);
}

/// A plugin after one whose `prefilter` refuses the pod has no state of the pod before.
#[test]
fn each_plugin_starts_each_cycle() {
    let refuses = r#"(func (export "prefilter") (result i32) (i32.mul (i32.const 2) (i32.eq (call $next) (i32.const 2))))
        (func (export "filter") (result i32) (i32.const 0))"#;
    let counts = r#"(func (export "prefilter") (result i32) (drop (call $next)) (i32.const 0))
        (func (export "filter") (result i32) (i32.const 0))
        (func (export "score") (result i64) (i64.shl (i64.extend_i32_u (global.get $n)) (i64.const 32)))"#;
    let scheduler = Scheduler::new([plugin("one", refuses), plugin("two", counts)]);
    for cycle in 1..=3 {
        assert_eq!(scheduler.prioritize(pod("u"), nodes(&["a"])), Ok(vec![cycle]));
    }
}

#[test]
fn what_replaces_bytes_that_are_not_utf8_counts_in_the_length_of_a_reason() {
    let functions = r#"(func (export "filter") (result i32)
        (memory.fill (i32.const 4096) (i32.const 255) (i32.const 2048))
        (call $reason (i32.const 4096) (i32.const 2048)) (i32.const 2))"#;
    let filtered = Scheduler::new([plugin("one", functions)]).filter(pod("u"), nodes(&["a"])).expect("no failure");
    // Three bytes each.
    assert_eq!(filtered.refused[0].status.reason, "\u{fffd}".repeat(341));
}

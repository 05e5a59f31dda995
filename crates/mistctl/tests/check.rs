//! `mistctl check`: what it finds in packages that are broken in one way each, and that it finds nothing in good ones.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, answering, backends, describing, escaped, example, mistctl, result, text};

/// A package with an allocator that keeps free blocks of 1,024 bytes in a list, and with parts to replace.
///
/// `IMPORTS` are further fields of the module, `LIMIT` is the memory's maximum. `BEFORE` runs first in `generate`, and
/// `AFTER` when the output is in a block of its own. `DEALLOC` runs first when a block is freed.
const PACKAGE: &str = r#"(module
  IMPORTS
  (memory (export "memory") 1 LIMIT)
  (data (i32.const 16) "\80\00\00\00INFOLENGTH")
  (data (i32.const 128) "INFO")
  (data (i32.const 512) "OUTPUT")
  (global $top (mut i32) (i32.const 4096))
  (global $free (mut i32) (i32.const 0))
  (global $calls (mut i32) (i32.const 0))
  (global $kept (mut i32) (i32.const 0))
  (func $alloc (export "__mistletoe_alloc") (param $length i32) (result i32)
    (local $block i32)
    (if (i32.gt_u (local.get $length) (i32.const 1024)) (then (return (call $bump (local.get $length)))))
    (if (result i32) (local.tee $block (global.get $free))
      (then (global.set $free (i32.load (local.get $block))) (local.get $block))
      (else (call $bump (i32.const 1024)))))
  (func $bump (param $length i32) (result i32)
    (local $block i32)
    (local.set $block (global.get $top))
    (global.set $top (i32.add (global.get $top) (i32.and (i32.add (local.get $length) (i32.const 7)) (i32.const -8))))
    (loop $grow
      (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
        (then
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (return (i32.const 0))))
          (br $grow))))
    (local.get $block))
  (func $dealloc (export "__mistletoe_dealloc") (param $block i32) (param $length i32)
    DEALLOC
    (i32.store (local.get $block) (global.get $free))
    (global.set $free (local.get $block)))
  (func (export "__mistletoe_info") (result i32) (i32.const 16))
  (func (export "__mistletoe_generate") (param $input i32) (param $length i32) (result i32)
    (local $output i32) (local $i i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    BEFORE
    (local.set $output (call $alloc (i32.const LENGTH)))
    (memory.copy (local.get $output) (i32.const 512) (i32.const LENGTH))
    AFTER
    (i32.store (i32.const 8) (local.get $output))
    (i32.store (i32.const 12) (i32.const LENGTH))
    (i32.const 8)))"#;

const INFO: &str = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\nmetadata:\n  name: bad\n";

/// The package with these parts.
fn package(parts: &[(&str, &str)]) -> String {
    let output = result("  result: Ok\n  files: {a.yaml: 'a: 1'}\n");
    let part = |name: &str| parts.iter().find(|(part, _)| *part == name).map_or("", |(_, text)| text);
    let info = parts.iter().find(|(part, _)| *part == "INFO").map_or(INFO, |(_, text)| text);
    let output = parts.iter().find(|(part, _)| *part == "OUTPUT").map_or(output.as_str(), |(_, text)| text);
    PACKAGE
        .replace("INFOLENGTH", &escaped((info.len() as u32).to_le_bytes()))
        .replace("\"INFO\"", &format!("\"{}\"", escaped(info)))
        .replace("OUTPUT", &escaped(output))
        .replace("LENGTH", &output.len().to_string())
        .replace("IMPORTS", part("IMPORTS"))
        .replace("LIMIT", part("LIMIT"))
        .replace("DEALLOC", part("DEALLOC"))
        .replace("BEFORE", part("BEFORE"))
        .replace("AFTER", part("AFTER"))
}

/// The listing of a check as JSON, and the status.
fn checked(module: &str, arguments: &[&str]) -> (Value, Option<i32>) {
    let output = mistctl(&[&["check", module, "-o", "json"], arguments].concat());
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let ids = ids(&listing, &["error", "warning"]);
    let expected = match ids.is_empty() {
        true => String::new(),
        false => format!("error: {module}: the check found: {}\n", ids.join(", ")),
    };
    let stderr = text(&output.stderr).lines().filter(|line| !line.starts_with("log:"));
    assert_eq!(stderr.map(|line| format!("{line}\n")).collect::<String>(), expected);
    (listing, output.status.code())
}

/// The ids of the findings of these severities.
fn ids<'a>(listing: &'a Value, severities: &[&str]) -> Vec<&'a str> {
    let findings = listing["findings"].as_array().expect("a list").iter();
    let findings = findings.filter(|finding| severities.contains(&finding["severity"].as_str().expect("text")));
    findings.map(|finding| finding["id"].as_str().expect("text")).collect()
}

const ALL: [&str; 3] = ["error", "warning", "note"];

fn message<'a>(listing: &'a Value, id: &str) -> &'a str {
    let mut findings = listing["findings"].as_array().expect("a list").iter();
    let finding = findings.find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("{id}: {listing:#}"));
    assert!(finding["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{id}");
    finding["message"].as_str().expect("text")
}

#[test]
fn nothing_is_found_in_a_good_package_on_any_backend() {
    let scratch = Scratch::new();
    let own = scratch.file("good.wat", package(&[]));
    for backend in backends() {
        for module in [&own, &example("namespace.wat"), &example("namespace-c.wasm"), &example("namespace-rust.wasm")] {
            let (listing, status) = checked(module, &["--backend", &backend]);
            assert_eq!((ids(&listing, &ALL), status), (vec![], Some(0)), "{module}: {listing:#}");
            assert!(listing["calls"].as_u64() >= Some(1_000), "{module}");
            assert_eq!(listing["engines"][0], *backend, "{module}");
            assert_eq!(listing["engines"].as_array().map(Vec::len), Some(backends().len()), "{module}");
            let memory = &listing["memory"];
            assert_eq!(memory["after 10"], memory["after 1000"], "{module}");
            assert!(listing["fuel"]["call"].as_u64() > Some(10), "{module}: {listing:#}");
        }
    }
}

#[test]
fn a_listing_says_what_the_module_is_made_of_and_what_it_used() {
    let scratch = Scratch::new();
    let module = scratch.file("good.wat", package(&[("LIMIT", "64")]));
    let (listing, _) = checked(&module, &[]);
    assert_eq!(listing["package"], "bad");
    assert_eq!(listing["interfaces"], json!(["package"]));
    assert_eq!(listing["features"], json!(["bulk-memory-operations"]));
    assert_eq!(listing["imports"], json!([]));
    assert_eq!((&listing["result"], &listing["files"]), (&json!("Ok"), &json!(1)));
    let sum: u64 = listing["sections"].as_object().expect("a mapping").values().filter_map(Value::as_u64).sum();
    let size = listing["size"].as_u64().expect("a number");
    assert!(sum < size && size - sum < 100, "{listing:#}");
    // The module's own maximum is lower than the default limit.
    assert_eq!(listing["limits"]["memory"], json!({"used": 65_536, "limit": 64 * 65_536}));
    assert_eq!(listing["limits"]["fuel"]["limit"], Value::Null);
    assert_eq!(listing["limits"]["stack"]["limit"], 2_097_152);
    let stack = listing["limits"]["stack"]["used"].as_u64().expect("a number");
    // Two frames: `generate`, and the allocator's.
    assert!((16..100).contains(&stack), "{stack}");
}

#[test]
fn each_fault_is_found_and_no_other() {
    let scratch = Scratch::new();
    let grows = "(global.set $kept (i32.add (global.get $kept) (i32.const 10)))
        (local.set $i (global.get $kept))
        (loop $more (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))";
    let import = r#"(import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))"#;
    let digit = "(i32.store8 (local.get $output) (i32.add (i32.const 48) (global.get $calls)))";
    let late = "(if (i32.gt_u (global.get $calls) (i32.const 500)) (then (unreachable)))";
    let late_digit =
        "(if (i32.gt_u (global.get $calls) (i32.const 500)) (then (i32.store8 (local.get $output) (i32.const 48))))";
    for (parts, id, part) in [
        (
            &[("BEFORE", "(drop (call $bump (i32.const 16)))")][..],
            "leak",
            "memory grows with every call: by 16 bytes per call over the last 32000 calls",
        ),
        // It frees its input, which the host frees again.
        (
            &[("AFTER", "(call $dealloc (local.get $input) (local.get $length))")],
            "heap-corrupt",
            "after 10 calls, two blocks that are allocated at once overlap: ",
        ),
        (
            &[("DEALLOC", "(if (i32.ne (local.get $length) (i32.const 1000)) (then (unreachable)))")],
            "dealloc-trap",
            "trap in `__mistletoe_dealloc`: unreachable",
        ),
        (&[("BEFORE", late)], "fails-later", "call 501 of one session failed, unlike the first: "),
        (&[("AFTER", late_digit)], "output-changes", "call 501 of one session returned another output"),
        (&[("BEFORE", "(unreachable)")], "fails", "trap in `__mistletoe_generate`: unreachable"),
        (&[("IMPORTS", "(func $boom (unreachable)) (start $boom)")], "fails", "unreachable"),
        (&[("OUTPUT", "a: 1")], "output", "MistResult, `apiVersion`: the field is missing"),
        (&[("INFO", "a: [")], "info", "MistPackage, line"),
        (&[("IMPORTS", import)], "unused-imports", "these imports: wasi_snapshot_preview1.fd_write"),
        (&[("BEFORE", grows)], "slows-down", "call 10 of one session used "),
        (&[("IMPORTS", r#"(import "env" "f" (func))"#)], "interface", "unknown import `env` `f`"),
    ] {
        let (listing, status) = checked(&scratch.file("bad.wat", package(parts)), &[]);
        assert!(message(&listing, id).contains(part), "{id}: {listing:#}");
        assert_eq!((ids(&listing, &["error", "warning"]), status), (vec![id], Some(1)), "{listing:#}");
    }
    // A fault that has several effects: the host frees the module's own data.
    let (listing, status) =
        checked(&scratch.file("bad.wat", package(&[("AFTER", "(local.set $output (i32.const 512))")])), &[]);
    assert!(message(&listing, "heap-corrupt").contains("overlap"), "{listing:#}");
    assert_eq!(status, Some(1));
    // A page in every call, until there are no more.
    let page = "(if (i32.eqz (call $bump (i32.const 65536))) (then (unreachable)))";
    let (listing, status) = checked(&scratch.file("bad.wat", package(&[("BEFORE", page)])), &[]);
    assert_eq!((ids(&listing, &ALL), status), (vec!["leak", "fails-later", "near-limit"], Some(1)), "{listing:#}");
    assert!(
        message(&listing, "leak").starts_with("memory grows with every call: by 65536 bytes per call"),
        "{listing:#}"
    );
    // What differs in the second call may also differ in later ones.
    let (listing, _) = checked(&scratch.file("bad.wat", package(&[("AFTER", digit)])), &[]);
    assert_eq!(message(&listing, "output-changes"), "call 2 of one session returned another output for the same input");
}

#[test]
fn a_heap_that_grows_until_it_is_full_is_no_leak() {
    let scratch = Scratch::new();
    // Takes a block in each of the first 2,000 calls.
    let warms_up = "(if (i32.lt_u (global.get $calls) (i32.const 2000)) (then (drop (call $bump (i32.const 512)))))";
    let (listing, status) = checked(&scratch.file("good.wat", package(&[("BEFORE", warms_up)])), &[]);
    assert_eq!((ids(&listing, &ALL), status), (vec![], Some(0)), "{listing:#}");
    assert!(listing["calls"].as_u64() > Some(2_000), "{listing:#}");
    assert_ne!(listing["memory"]["after 10"], listing["memory"]["after 1000"], "{listing:#}");
}

#[test]
fn a_limit_that_is_nearly_reached_is_found() {
    let scratch = Scratch::new();
    let module = scratch.file("good.wat", package(&[]));
    let (listing, _) = checked(&module, &[]);
    let used = |limit: &str| listing["limits"][limit]["used"].as_u64().expect("a number");
    let enough = |used: u64| (used + used / 10).to_string();
    for (flag, limit) in [("--fuel", "fuel"), ("--max-output", "output"), ("--max-memory", "memory")] {
        let (listing, status) = checked(&module, &[flag, &enough(used(limit))]);
        assert_eq!((ids(&listing, &ALL), status), (vec!["near-limit"], Some(1)), "{listing:#}");
        assert!(
            message(&listing, "near-limit").starts_with(&format!("the package used {} of ", used(limit))),
            "{limit}"
        );
    }
    // The stack that is reported suffices, and a little less does not.
    let stack = used("stack");
    let (listing, _) = checked(&module, &["--max-stack", &stack.to_string()]);
    assert_eq!(ids(&listing, &ALL), ["near-limit"], "{listing:#}");
    let (listing, _) = checked(&module, &["--max-stack", &(stack - stack / 16 - 2).to_string()]);
    assert_eq!(ids(&listing, &ALL), ["fails"], "{listing:#}");
}

#[test]
fn an_err_is_a_result_like_any_other() {
    let scratch = Scratch::new();
    let output = result("  result: Err\n  message: no such tier\n");
    let (listing, status) = checked(&scratch.file("err.wat", package(&[("OUTPUT", &output)])), &[]);
    assert_eq!((ids(&listing, &ALL), status), (vec![], Some(0)), "{listing:#}");
    assert_eq!(listing["result"], "Err: no such tier");
}

#[test]
fn a_panic_is_an_error_whatever_the_package_says_of_it() {
    let scratch = Scratch::new();
    let output = result("  result: Err\n  message: panicked at lib.rs:1\n");
    let panics = format!(
        "(i32.store (i32.const 24) (i32.const 512)) (i32.store (i32.const 28) (i32.const {})) (unreachable)",
        output.len()
    );
    let global = r#"(global (export "__mistletoe_panic") i32 (i32.const 24))"#;
    let parts = [("OUTPUT", output.as_str()), ("IMPORTS", global), ("BEFORE", &panics)];
    let (listing, status) = checked(&scratch.file("panics.wat", package(&parts)), &[]);
    assert_eq!((ids(&listing, &ALL), status), (vec!["panic"], Some(1)), "{listing:#}");
    assert_eq!(listing["result"], "Err: panicked at lib.rs:1");
}

#[test]
fn a_description_that_traps_is_a_failure_of_the_package() {
    let scratch = Scratch::new();
    let trap = "\"__mistletoe_info\") (result i32) (unreachable)";
    let module = package(&[]).replace("\"__mistletoe_info\") (result i32) (i32.const 16)", trap);
    let (listing, status) = checked(&scratch.file("info.wat", module), &[]);
    assert_eq!((ids(&listing, &ALL), status), (vec!["fails"], Some(1)), "{listing:#}");
    assert!(message(&listing, "fails").starts_with("trap in `__mistletoe_info`: unreachable"), "{listing:#}");
}

#[test]
fn a_call_that_takes_too_long_is_not_repeated() {
    let scratch = Scratch::new();
    let module = scratch.file("loop.wat", package(&[("BEFORE", "(loop $again (br $again))")]));
    let begin = Instant::now();
    let (listing, status) = checked(&module, &["--timeout", "3s", "--backend", "wasmi"]);
    assert_eq!((ids(&listing, &ALL), status), (vec!["fails"], Some(1)), "{listing:#}");
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
}

#[test]
fn a_stack_that_there_was_no_time_to_measure_is_not_listed() {
    let scratch = Scratch::new();
    let (listing, status) = checked(&scratch.file("good.wat", package(&[])), &["--budget", "0s"]);
    assert_eq!((ids(&listing, &ALL), status), (vec!["cut-short"], Some(0)), "{listing:#}");
    assert_eq!(listing["limits"].get("stack"), None);
}

#[test]
fn a_block_of_no_bytes_overlaps_nothing() {
    let scratch = Scratch::new();
    // The address lies in the package's description.
    let parts = [("OUTPUT", ""), ("DEALLOC", "(if (i32.eqz (local.get $length)) (then (return)))")];
    let module = package(&parts).replace(
        "(local $block i32)\n    (if (i32.gt_u (local.get $length)",
        "(local $block i32)\n    (if (i32.eqz (local.get $length)) (then (return (i32.const 130))))
        (if (i32.gt_u (local.get $length)",
    );
    assert!(module.contains("(i32.const 130)"));
    let (listing, status) = checked(&scratch.file("empty.wat", module), &[]);
    assert_eq!((ids(&listing, &ALL), status), (vec!["output"], Some(1)), "{listing:#}");
}

#[cfg(feature = "schema")]
#[test]
fn a_schema_and_what_does_not_fit_it_are_findings() {
    let scratch = Scratch::new();
    let described = |rest: &str| package(&[("INFO", &format!("{INFO}{rest}"))]);
    let tier = "inputSchema: {properties: {tier: {enum: [a, b]}, n: {type: integer}}, required: [tier]}\n";
    for (rest, arguments, found) in [
        ("inputSchema: {$ref: '#/none'}\n", &[][..], &[("schema", "the reference \"#/none\" is not")][..]),
        (tier, &[], &[("values", "data.tier: the value is missing")]),
        (tier, &["--set", "tier=c,n=x"], &[("values", "; data.")]),
        (&format!("{tier}defaults: {{n: 1}}\n"), &["--set", "tier=a"], &[]),
        (
            &format!("{tier}defaults: {{n: x}}\n"),
            &["--set", "tier=a"],
            &[("defaults", "data.n: expected an integer"), ("values", "data.n: expected an integer")],
        ),
        (
            &format!("{tier}defaults: {{n: x}}\n"),
            &["--set", "tier=a,n=1"],
            &[("defaults", "data.n: expected an integer")],
        ),
        // Names of values may be those of keywords; what values of a user may add is not missing.
        (
            "inputSchema: {properties: {not: {type: integer}}, additionalProperties: false, \
            oneOf: [{required: [a]}, {required: [not]}]}\ndefaults: {not: 1}\n",
            &["--name", "x"],
            &[("values", "data.name: the schema has no such value")],
        ),
    ] {
        let (listing, status) = checked(&scratch.file("p.wat", described(rest)), arguments);
        let expected: Vec<_> = found.iter().map(|(id, _)| *id).collect();
        assert_eq!((ids(&listing, &ALL), status), (expected, Some(i32::from(!found.is_empty()))), "{listing:#}");
        for (id, part) in found {
            assert!(message(&listing, id).contains(part), "{listing:#}");
        }
        assert!(listing["sections"].is_object(), "{listing:#}");
    }
}

#[test]
fn blocks_that_share_memory_by_design_are_a_note() {
    let scratch = Scratch::new();
    // Its allocator returns one address, always.
    let module = scratch.file("fixed.wat", answering(&result("  result: Ok\n")));
    let (listing, status) = checked(&module, &[]);
    assert_eq!((ids(&listing, &ALL), status), (vec!["shared-blocks"], Some(0)), "{listing:#}");
}

#[test]
fn what_is_no_package_is_an_error() {
    let scratch = Scratch::new();
    for (module, id, part) in [
        (example("httpwasm-c.wasm"), "interface", "it is a plugin, not a package"),
        (example("command-c.wasm"), "interface", "it is a command, not a package"),
        (scratch.file("empty.wasm", ""), "invalid", "empty"),
        (scratch.file("open.wat", "(module (memory 1)"), "invalid", "open.wat:1:"),
        (scratch.file("cut.wasm", b"\0asm\x01\0\0\0\x01\x05"), "invalid", "unexpected end of module"),
        (
            scratch.file("none.wat", "(module (memory (export \"memory\") 1) (func (export \"__mistletoe_info\")))"),
            "interface",
            "",
        ),
    ] {
        let (listing, status) = checked(&module, &[]);
        assert_eq!((ids(&listing, &ALL), status), (vec![id], Some(1)), "{module}");
        assert!(message(&listing, id).contains(part), "{module}: {listing:#}");
    }
}

#[test]
fn a_slow_package_is_checked_for_as_long_as_the_budget_allows() {
    let scratch = Scratch::new();
    let slow = "(local.set $i (i32.const 3000000))
        (loop $more (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))";
    let (listing, status) = checked(&scratch.file("slow.wat", package(&[("BEFORE", slow)])), &["--budget", "100ms"]);
    assert_eq!((ids(&listing, &ALL), status), (vec!["cut-short"], Some(0)), "{listing:#}");
    let calls = listing["calls"].as_u64().expect("a number");
    assert!(calls < 1_000, "{calls}");
    assert_eq!(message(&listing, "cut-short"), format!("there was time for {calls} of 1000 calls of one session"));
}

#[test]
fn the_input_is_built_as_for_generate() {
    let scratch = Scratch::new();
    let values = scratch.file("values.yaml", "a: 1\n");
    let module = example("namespace-c.wasm");
    let (listing, status) = checked(&module, &["--name", "web", "-f", &values, "--set", "b=2"]);
    assert_eq!((listing["result"].as_str(), status), (Some("Ok"), Some(0)));
    let output = mistctl(&["check", &module, "-f", "missing.yaml"]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_listing_in_yaml_is_the_same() {
    let output = mistctl(&["check", &example("namespace-c.wasm")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("size: "), "{}", text(&output.stdout));
    assert!(text(&output.stdout).ends_with("findings: []\n"), "{}", text(&output.stdout));
    let scratch = Scratch::new();
    let output = mistctl(&["check", &scratch.file("p.wat", describing("\u{1b}[2J"))]);
    assert!(!output.stdout.contains(&0x1b), "{}", text(&output.stdout));
}

/// A plugin of the Kubernetes scheduler, with further imports and functions.
#[cfg(feature = "serve")]
fn plugin(fields: &str) -> String {
    format!(
        r#"(module
            (import "k8s.io/scheduler" "result.status_reason" (func (param i32 i32)))
            {fields}
            (memory (export "memory") 1)
            (func (export "prefilter") (result i32) (i32.const 0))
            (func (export "filter") (result i32) (i32.const 0)))"#
    )
}

#[test]
#[cfg(feature = "serve")]
fn a_plugin_of_a_scheduler_is_checked_as_one() {
    let scratch = Scratch::new();
    let (listing, status) = checked(&scratch.file("good.wat", plugin("")), &[]);
    assert_eq!(
        (&listing["interfaces"], &listing["extensionPoints"], &listing["imports"]),
        (
            &json!(["scheduler plugin"]),
            &json!(["prefilter", "filter"]),
            &json!(["k8s.io/scheduler.result.status_reason"])
        )
    );
    assert_eq!((&listing["findings"], status), (&json!([]), Some(0)));

    for (fields, id, severity, found) in [
        (r#"(import "k8s.io/scheduler" "unknown" (func))"#, "interface", "error", "unknown"),
        (r#"(func (export "postfilter") (result i32) (i32.const 0))"#, "interface", "error", "postfilter"),
        (r#"(func (export "prescore") (result i32) (i32.const 0))"#, "interface", "error", "score"),
        (r#"(func (export "_start") unreachable)"#, "fails", "error", "unreachable"),
        (
            r#"(import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))"#,
            "no-start",
            "warning",
            "neither `_start` nor `_initialize`",
        ),
        (r#"(func (export "permit") (result i64) (i64.const 0))"#, "never-called", "note", "permit"),
        (
            r#"(import "k8s.io/scheduler" "handle.get_waiting_pod" (func (param i32 i32 i32 i32)))"#,
            "no-waiting-pods",
            "note",
            "waiting pods",
        ),
    ] {
        // Imports come first.
        let (listing, status) = checked(&scratch.file("bad.wat", plugin(fields)), &[]);
        assert_eq!(ids(&listing, &["error", "warning", "note"]), [id], "{listing:#}");
        assert!(message(&listing, id).contains(found), "{listing:#}");
        assert_eq!((ids(&listing, &[severity]).len(), status), (1, Some(i32::from(severity != "note"))), "{id}");
    }
    let alone = r#"(module (memory (export "memory") 1) (func (export "filter") (result i32) (i32.const 2)))"#;
    let (listing, status) = checked(&scratch.file("alone.wat", alone), &[]);
    assert_eq!((ids(&listing, &["note"]), status), (vec!["no-reason", "no-prefilter"], Some(0)));
}

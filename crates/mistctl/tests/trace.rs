//! Traces: where a guest was when it failed.

use serde_json::{Value, json};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, answering, backends, command, escaped, example, mistctl, result, text};

/// A package whose `generate` calls `$outer` first.
fn failing(functions: &str) -> String {
    answering(&result("  result: Ok\n"))
        .replace(r#"(func (export "__mistletoe_generate")"#, r#"(func $generate (export "__mistletoe_generate")"#)
        .replace("(i64.store (i32.const 8)", "(call $outer) (i64.store (i32.const 8)")
        .replacen(r#"(data (i32.const 16)"#, &format!("{functions} (data (i32.const 16)"), 1)
}

const TRAPS: &str = "(func $inner (unreachable)) (func $outer (call $inner))";

/// The names in the lines of a trace, which follow the error.
fn names(stderr: &[u8]) -> Vec<&str> {
    let lines = text(stderr).lines().skip_while(|line| !line.starts_with("error: ")).skip(1);
    lines.map(|line| line.split_whitespace().nth(1).expect("a name")).collect()
}

#[test]
fn a_trace_has_the_lines_of_the_document() {
    // `docs/debugging.md` shows both.
    let lines = match cfg!(feature = "debug-info") {
        true => "  0: digit at replicas.c:5:37\n  1: replicas at replicas.c:11:50\n  2: generate at replicas.c:28:21\n",
        false => "  0: replicas (offset 0x158)\n  1: generate (offset 0xe2)\n",
    };
    let package = example("replicas.wasm");
    for backend in backends() {
        let output = mistctl(&["generate", "web", "-p", &package, "--backend", &backend]);
        let error = "trap in `__mistletoe_generate`: unreachable executed";
        assert_eq!(text(&output.stderr), format!("error: {package}: {error}\n{lines}"), "{backend}");
        assert_eq!(output.status.code(), Some(3), "{backend}");
    }
}

#[test]
fn a_trace_is_a_list_in_json() {
    let scratch = Scratch::new();
    let package = scratch.file("p.wat", failing(TRAPS));
    let output = mistctl(&["generate", "x", "-p", &package, "--error-format", "json"]);
    let error: Value = serde_json::from_slice(&output.stderr).expect("one object");
    let mut frames = error["trace"].as_array().expect("a list").clone();
    for frame in &mut frames {
        let offset = frame.as_object_mut().and_then(|frame| frame.remove("offset")).expect("an offset");
        assert!(offset.as_u64().is_some_and(|offset| offset > 8), "{offset}");
    }
    let expected = json!([
        { "function": 0, "name": "inner" },
        { "function": 1, "name": "outer" },
        { "function": 5, "name": "generate" },
    ]);
    assert_eq!(Value::from(frames), expected);
}

#[test]
fn a_limit_has_a_trace_and_a_call_whose_time_ran_out_only_if_it_was_asked_for() {
    let scratch = Scratch::new();
    let ever = scratch.file("ever.wat", failing("(func $outer (loop $ever (br $ever)))"));
    let expected = ["outer", "generate"];
    let output = mistctl(&["generate", "x", "-p", &ever, "--fuel", "1k"]);
    assert_eq!(names(&output.stderr), expected);
    let late = ["generate", "x", "-p", &ever, "--timeout", "1s"];
    assert_eq!(names(&mistctl(&late).stderr), [""; 0]);
    let output = command(&late).arg("--trace").output().expect("it starts");
    assert_eq!(names(&output.stderr), expected);
    assert!(text(&output.stderr).contains("timed out after 1 s"), "{}", text(&output.stderr));
}

#[test]
fn a_panic_has_a_trace_and_its_own_status() {
    let scratch = Scratch::new();
    let answer = result("  result: Err\n  message: at the wall\n");
    let panics = format!(
        r#"(global (export "__mistletoe_panic") i32 (i32.const 512))
           (data (i32.const 512) "{}") (data (i32.const 520) "{}") {TRAPS}"#,
        escaped([520_u32.to_le_bytes(), (answer.len() as u32).to_le_bytes()].concat()),
        escaped(&answer)
    );
    let output = mistctl(&["generate", "x", "-p", &scratch.file("p.wat", failing(&panics))]);
    assert!(text(&output.stderr).starts_with("error: at the wall\n"), "{}", text(&output.stderr));
    assert_eq!(names(&output.stderr), ["inner", "outer", "generate"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_repeated_call_logs_nothing() {
    let scratch = Scratch::new();
    let logs = r#"(data (i32.const 600) "\60\02\00\00\05\00\00\00") (data (i32.const 608) "once\n")
        (func $outer
          (drop (call $write (i32.const 2) (i32.const 600) (i32.const 1) (i32.const 700)))
          (unreachable))"#;
    let import = r#"(module (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))"#;
    let package = scratch.file("p.wat", failing(logs).replacen("(module", import, 1));
    let output = mistctl(&["generate", "x", "-p", &package]);
    assert!(text(&output.stderr).starts_with("log: once\nerror: "), "{}", text(&output.stderr));
    assert_eq!(names(&output.stderr), ["outer", "generate"]);
}

#[test]
fn a_call_that_cannot_be_repeated_is_said_to_have_no_trace() {
    let scratch = Scratch::new();
    // With what records, the second function is longer than engines accept.
    let calls = "call 1 ".repeat(400_000);
    let package = scratch.file("p.wat", failing(&format!("(func) (func {calls}) (func $outer unreachable)")));
    let output = mistctl(&["generate", "x", "-p", &package]);
    let lines: Vec<_> = text(&output.stderr).lines().collect();
    let [warning, error] = lines[..] else { panic!("{lines:?}") };
    let begins =
        format!("warning: {package}: there is no trace, because the call was repeated and failed in another way: ");
    assert!(warning.starts_with(&begins), "{warning}");
    assert_eq!(error, format!("error: {package}: trap in `__mistletoe_generate`: unreachable executed"));
}

#[test]
fn a_program_has_a_trace_if_it_was_asked_for() {
    let scratch = Scratch::new();
    let command = scratch.file(
        "command.wat",
        r#"(module (memory (export "memory") 1) (func $inner (unreachable)) (func (export "_start") (call $inner)))"#,
    );
    let plugin = scratch.file(
        "plugin.wat",
        r#"(module (import "httpwasm" "igets" (func $igets (result i64))) (memory (export "memory") 1)
             (func (export "malloc") (param i32) (result i32) (i32.const 1024)) (func (export "free") (param i32))
             (func $inner (unreachable)) (func (export "run") (drop (call $igets)) (call $inner)))"#,
    );
    for (verb, module, outer) in [("run", command, "_start"), ("call", plugin, "run")] {
        assert_eq!(names(&mistctl(&[verb, &module]).stderr), [""; 0], "{verb}");
        let output = mistctl(&[verb, &module, "--trace"]);
        assert_eq!(names(&output.stderr), ["inner", outer], "{verb}");
        assert_eq!(output.status.code(), Some(3), "{verb}");
    }
}

//! What a limit says when it is reached, and the time of a compilation.

use serde_json::{Value, json};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, answering, backends, command, mistctl, result, text};

/// Standard error without the lines of a trace, which `trace.rs` tests.
fn without_trace(stderr: &[u8]) -> String {
    let is_frame = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '(');
    text(stderr).lines().filter(|line| !is_frame(line)).map(|line| format!("{line}\n")).collect()
}

/// A package whose `generate` does this first.
fn doing(first: &str) -> String {
    answering(&result("  result: Ok\n"))
        .replace("(i64.store (i32.const 8)", &format!("{first} (i64.store (i32.const 8)"))
        .replacen("(module", "(module (func $deep (call $deep))", 1)
}

#[test]
fn a_limit_that_is_reached_says_where_how_much_is_allowed_and_which_flag_raises_it() {
    let scratch = Scratch::new();
    let ever = scratch.file("ever.wat", doing("(loop $ever (br $ever))"));
    for backend in backends() {
        for (module, limit, message) in [
            (&ever, ["--timeout", "1s"], "timed out after 1 s in `__mistletoe_generate` (raise it with --timeout)"),
            (
                &ever,
                ["--fuel", "1k"],
                "out of fuel in `__mistletoe_generate`: 1,001 units exceed the limit of 1,000 (raise it with --fuel)",
            ),
            (
                &ever,
                ["--max-memory", "1000"],
                "the initial memory is too large: 65,536 bytes exceed the limit of 0 (raise it with --max-memory)",
            ),
            (
                &scratch.file("good.wat", doing("")),
                ["--max-output", "10"],
                "the package's info is too long: 73 bytes exceed the limit of 10 (raise it with --max-output)",
            ),
            (
                &scratch.file("long.wat", answering(&result("  result: Ok\n  message: longer than the description\n"))),
                ["--max-output", "75"],
                "the output is too long: 110 bytes exceed the limit of 75 (raise it with --max-output)",
            ),
        ] {
            let arguments = ["generate", "x", "-p", module, "--backend", &backend];
            let output = command(&arguments).args(limit).output().expect("it starts");
            assert_eq!(without_trace(&output.stderr), format!("error: {module}: {message}\n"), "{backend}");
            assert_eq!(output.status.code(), Some(3), "{backend}");
            if backend != backends()[0] {
                continue;
            }
            let output = command(&arguments).args(limit).args(["--error-format", "json"]).output().expect("it starts");
            let error: Value = serde_json::from_slice(&output.stderr).expect("an object");
            assert_eq!(error["message"], message, "{backend}");
            let export =
                if message.contains("__mistletoe_generate") { json!("__mistletoe_generate") } else { Value::Null };
            assert_eq!(error["export"], export, "{backend}");
        }
    }
}

#[test]
fn a_stack_that_becomes_too_high_says_so_likewise() {
    let scratch = Scratch::new();
    let deep = scratch.file("deep.wat", doing("(call $deep)"));
    for backend in backends() {
        let arguments = ["generate", "x", "-p", &deep, "--backend", &backend, "--max-stack", "1000"];
        let output = command(&arguments).args(["--error-format", "json"]).output().expect("it starts");
        let error: Value = serde_json::from_slice(&output.stderr).expect("an object");
        assert_eq!((&error["export"], &error["limit"]), (&json!("__mistletoe_generate"), &json!(1_000)), "{backend}");
        let depth = error["depth"].as_u64().filter(|depth| (1_001..1_100).contains(depth)).expect("a depth");
        let message = format!(
            "call stack exhausted in `__mistletoe_generate`: depth 1,{:03} exceeds the limit of 1,000 units \
             (raise it with --max-stack)",
            depth - 1_000
        );
        assert_eq!(error["message"], message, "{backend}");
        let output = mistctl(&arguments);
        assert_eq!(without_trace(&output.stderr), format!("error: {deep}: {message}\n"), "{backend}");
    }
}

#[test]
fn a_limit_that_is_reached_before_a_call_says_so() {
    let scratch = Scratch::new();
    let start = answering("x").replacen("(module", "(module (start $s) (func $s (loop $ever (br $ever)))", 1);
    let module = scratch.file("p.wat", start);
    let output = mistctl(&["generate", "x", "-p", &module, "--timeout", "500ms"]);
    let expected = format!("error: {module}: timed out after 500 ms while instantiating (raise it with --timeout)\n");
    assert_eq!((text(&output.stderr), output.status.code()), (&*expected, Some(3)));
}

/// A module that no machine compiles in a millisecond.
fn large() -> String {
    let body = "(drop (i32.add (i32.const 1) (i32.const 2)))".repeat(50);
    let functions = format!("(func {body})").repeat(2_000);
    answering(&result("  result: Ok\n")).replacen(
        "(module",
        &format!("(module {functions} (func (export \"_start\"))"),
        1,
    )
}

#[test]
fn the_time_ends_a_compilation() {
    let scratch = Scratch::new();
    let module = scratch.file("large.wat", large());
    for backend in backends() {
        for verb in
            [&["generate", "x", "-p", &module][..], &["run", &module], &["call", &module], &["inspect", &module]]
        {
            let late = [verb, &["--backend", &backend, "--timeout", "1ms"]].concat();
            let output = mistctl(&late);
            let expected = format!("error: {module}: timed out after 1 ms while compiling (raise it with --timeout)\n");
            assert_eq!((text(&output.stdout), text(&output.stderr)), ("", &*expected), "{backend}: {verb:?}");
            assert_eq!(output.status.code(), Some(3), "{backend}: {verb:?}");
            let output = command(&late).args(["--error-format", "json"]).output().expect("it starts");
            let error: Value = serde_json::from_slice(&output.stderr).expect("an object");
            let found = (&error["kind"], &error["limit_ms"], &error["export"]);
            assert_eq!(found, (&json!("timed-out"), &json!(1), &Value::Null), "{backend}: {verb:?}");
        }
    }
    let output = mistctl(&["run", &module, "--timeout", "unlimited"]);
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
}

#[test]
fn more_memory_than_a_guest_can_have_is_no_wrong_usage() {
    let scratch = Scratch::new();
    let module = scratch.file("p.wat", doing(""));
    let output = mistctl(&["generate", "x", "-p", &module, "--max-memory", "4GiB"]);
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
    let missing = scratch.path("missing").display().to_string();
    let output = mistctl(&["generate", "x", "-p", &missing, "--max-memory", "1000GiB"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
}

//! The log: what packages and plugins write to WASI, and how it stands beside errors.

use std::process::Output;

use serde_json::{Value, json};

use crate::closed;
use crate::guests::{doing, plugin, print, program};
use crate::support::{Scratch, backends, command, mistctl, result, text};

const LOG: &str = "to one\nto two\n";

/// Prints [`LOG`] in pieces, to both streams.
fn logging() -> String {
    [print(1, 2048, 3), print(2, 2055, 3), print(1, 2051, 4), print(2, 2058, 4)].concat()
}

fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn what_a_package_writes_to_wasi_is_its_log_on_stderr_alone() {
    let scratch = Scratch::new();
    let good = scratch.file("good.wat", doing(LOG, &logging(), &result("  result: Ok\n  files: {a: 'a: 1'}\n")));
    let bad = scratch.file("bad.wat", doing(LOG, &logging(), &result("  result: Err\n  message: no\n")));
    let trap = scratch.file("trap.wat", doing(LOG, &(logging() + "(unreachable)"), ""));
    for backend in backends() {
        let output = mistctl(&["generate", "x", "-p", &good, "--backend", &backend]);
        assert_eq!((text(&output.stdout), output.status.code()), ("a: 1\n", Some(0)), "{backend}");
        assert_eq!(sorted_lines(text(&output.stderr)), ["log: to one", "log: to two"], "{backend}");
        // Before the error that it may explain.
        for (package, error, status) in [(&bad, "error: no", 1), (&trap, "error: ", 3)] {
            let output = mistctl(&["generate", "x", "-p", package, "--backend", &backend]);
            assert_eq!((text(&output.stdout), output.status.code()), ("", Some(status)), "{backend}");
            let lines: Vec<_> = text(&output.stderr).lines().collect();
            assert_eq!(sorted_lines(&lines[..2].join("\n")), ["log: to one", "log: to two"], "{backend}");
            assert!(lines[2].starts_with(error), "{backend}: {lines:?}");
        }
        let output = mistctl(&["inspect", &good, "-o", "json", "--backend", &backend]);
        let listing: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&listing["info"]["kind"], output.status.code()), (&json!("MistPackage"), Some(0)), "{backend}");
    }
}

#[test]
fn the_log_is_there_also_where_the_guest_fails_before_it_is_asked_and_without_a_last_line_feed() {
    let scratch = Scratch::new();
    let log = "why";
    let failing = |guest: &str| {
        let initialize = format!("(func (export \"_initialize\") {} (unreachable))", print(2, 2048, log.len()));
        format!("{}{initialize})", guest.trim_end().strip_suffix(')').expect("a module"))
    };
    let package = scratch.file("package.wat", failing(&doing(log, "", "")));
    let plugin = scratch.file("plugin.wat", failing(&plugin(log, "")));
    for arguments in [&["generate", "x", "-p", &package][..], &["inspect", &package], &["call", &plugin]] {
        let output = mistctl(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let lines: Vec<_> = text(&output.stderr).lines().collect();
        assert_eq!(lines[0], "log: why", "{arguments:?}");
        assert!(lines[1].starts_with("error: ") && lines[1].contains("_initialize"), "{arguments:?}: {lines:?}");
    }
}

#[test]
fn an_error_begins_a_line_of_its_own_and_is_the_guests_rather_than_the_outputs() {
    let scratch = Scratch::new();
    let run = "(call $oputs (i32.const 2048) (i32.const 3)) (call $eputs (i32.const 2048) (i32.const 3)) (unreachable)";
    let plugin = scratch.file("plugin.wat", plugin("abc", run));
    let program = scratch.file("program.wat", program("abc", &format!("{} (unreachable)", print(2, 2048, 3))));
    for arguments in [["call", &plugin], ["run", &program]] {
        let output = command(&arguments).stdout(closed()).output().expect("mistctl starts");
        let expected = format!("abc\nerror: {}: trap in ", arguments[1]);
        assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
        let output = command(&arguments).args(["--error-format", "json"]).output().expect("mistctl starts");
        let (wrote, error) = text(&output.stderr).split_once('\n').expect("two lines");
        assert_eq!(wrote, r#"{"level":"stderr","message":"abc"}"#);
        let error: Value = serde_json::from_str(error).expect("JSON");
        assert_eq!((&error["trap"], output.status.code()), (&json!("unreachable"), Some(3)));
    }
}

#[test]
fn a_log_cannot_steer_the_terminal() {
    let scratch = Scratch::new();
    let log = "\x1b[31mred\rover\u{9b}2J\n";
    let ok = result("  result: Ok\n  files: {}\n");
    let package = scratch.file("package.wat", doing(log, &print(2, 2048, log.len()), &ok));
    let plugin = scratch.file("plugin.wat", plugin(log, &print(1, 2048, log.len())));
    let shown = "\\u{1b}[31mred\\rover\\u{9b}2J\n";
    for arguments in [&["generate", "x", "-p", &package][..], &["call", &plugin]] {
        assert_eq!(text(&mistctl(arguments).stderr), format!("log: {shown}"), "{arguments:?}");
        // What is asked for colours does not strip them on the way out.
        let output = command(arguments).env("CLICOLOR_FORCE", "1").output().expect("mistctl starts");
        let (label, line) = text(&output.stderr).split_once(' ').expect("a label");
        assert!(label.starts_with('\x1b'), "{arguments:?}: {label:?}");
        assert_eq!(line, shown, "{arguments:?}");
    }
}

#[test]
fn a_log_in_json_is_one_object_a_line_and_comes_before_the_error() {
    let scratch = Scratch::new();
    let good = scratch.file("good.wat", doing(LOG, &logging(), &result("  result: Ok\n  files: {a: 'a: 1'}\n")));
    let trap = logging() + "(unreachable)";
    let package = scratch.file("package.wat", doing(LOG, &trap, ""));
    let plugin = scratch.file("plugin.wat", plugin(LOG, &trap));
    let log = [json!({"level": "log", "message": "to one"}), json!({"level": "log", "message": "to two"})];
    let lines = |output: &Output| -> Vec<Value> {
        text(&output.stderr).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    for backend in backends() {
        for arguments in [&["generate", "x", "-p", &package][..], &["inspect", &package], &["call", &plugin]] {
            let mut command = command(arguments);
            let output = command.args(["--backend", &backend, "--error-format", "json"]).output();
            let mut lines = lines(&output.expect("mistctl starts"));
            let error = lines.pop().expect("an error");
            assert_eq!(
                (&error["level"], &error["kind"]),
                (&json!("error"), &json!("trap")),
                "{arguments:?} on {backend}"
            );
            // The streams are two.
            lines.sort_by_key(Value::to_string);
            assert_eq!(lines, log, "{arguments:?} on {backend}");
        }
    }
    let output = mistctl(&["generate", "x", "-p", &good, "--error-format", "json"]);
    assert_eq!((text(&output.stdout), output.status.code(), lines(&output).len()), ("a: 1\n", Some(0), 2));
}

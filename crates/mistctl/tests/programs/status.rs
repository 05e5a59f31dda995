//! How a guest ends: its own status, traps, and modules that are none that can be run.

use serde_json::{Value, json};

use crate::guests::{doing, plugin, print, program};
use crate::support::{Scratch, backends, command, example, mistctl, text};
use crate::{all_bytes, ended, report, run_on};

#[test]
fn a_program_ends_mistctl_with_its_own_status() {
    let scratch = Scratch::new();
    let returning = scratch.file("returning.wat", program("", ""));
    for backend in backends() {
        assert_eq!(ended(&run_on(&backend, &returning, &[])), ("", "", Some(0)), "{backend}");
        for (code, status) in [(0, 0), (1, 1), (7, 7), (255, 255), (256, 255), (u32::MAX, 255)] {
            let exit = format!("{} (call $exit (i32.const {code})) {}", print(1, 2048, 1), print(1, 2049, 1));
            let module = scratch.file("exit.wat", program("ab", &exit));
            assert_eq!(ended(&run_on(&backend, &module, &[])), ("a", "", Some(status)), "{code} on {backend}");
            // Also an end before the program's start.
            let start = program("ab", "unreachable")
                .replace("(func (export", &format!("(start $s) (func $s {exit}) (func (export"));
            let module = scratch.file("start.wat", start);
            assert_eq!(ended(&run_on(&backend, &module, &[])), ("a", "", Some(status)), "{code} on {backend}");
        }
    }
}

#[test]
fn a_programs_trap_is_status_3_and_named_and_what_it_printed_stays() {
    let scratch = Scratch::new();
    for (code, trap, words) in [
        ("(unreachable)", "unreachable", "unreachable executed"),
        ("(drop (i32.div_u (i32.const 1) (i32.load (i32.const 1020))))", "integer-division-by-zero", "divide by zero"),
        ("(drop (i32.load (i32.const -1)))", "memory-out-of-bounds", "out of bounds"),
    ] {
        let module = scratch.file("trap.wat", program("out", &(print(1, 2048, 3) + code)));
        for backend in backends() {
            let output = run_on(&backend, &module, &[]);
            assert_eq!((text(&output.stdout), output.status.code()), ("out", Some(3)), "{trap} on {backend}");
            let first = text(&output.stderr).lines().next().expect("a line");
            assert!(first.starts_with(&format!("error: {module}: trap in `_start`: ")), "{backend}: {first}");
            assert!(first.contains(words), "{backend}: {first}");
            let output = run_on(&backend, &module, &["--error-format", "json"]);
            assert_eq!(text(&output.stdout), "out", "{trap} on {backend}");
            let report = report(&output);
            let found = (&report["kind"], &report["trap"], &report["export"], &report["file"]);
            let expected = (&json!("trap"), &json!(trap), &json!("_start"), &json!(module));
            assert_eq!(found, expected, "{backend}");
        }
    }
}

#[test]
fn what_is_no_program_or_plugin_is_status_3_and_told_apart() {
    let scratch = Scratch::new();
    let missing = scratch.path("missing").display().to_string();
    for verb in ["run", "call"] {
        for (module, kind) in [
            (&missing, "file"),
            (&scratch.file("text", "hello"), "assembly"),
            (&scratch.file("empty", ""), "not-a-module"),
            (&scratch.file("bytes", all_bytes()), "not-a-module"),
            (&example("namespace-c.wasm"), "interface"),
        ] {
            let output = mistctl(&[verb, module]);
            assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)), "{verb} {kind}");
            assert!(text(&output.stderr).starts_with(&format!("error: {module}")), "{}", text(&output.stderr));
            let report = report(&mistctl(&[verb, module, "--error-format", "json"]));
            assert_eq!((&report["kind"], &report["file"]), (&json!(kind), &json!(module)), "{verb}");
        }
    }
}

#[test]
fn every_export_and_import_that_is_not_there_is_listed() {
    let scratch = Scratch::new();
    let module = r#"
        (module
          (import "env" "one" (func (param i32)))
          (import "env" "two" (func (result i64)))
          (import "wasi_snapshot_preview1" "no_such" (func))
          (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func (param i64))))"#;
    let module = scratch.file("p.wat", module);
    let imports = [
        json!({"problem": "unknown-import", "module": "env", "name": "one", "found": {"kind": "func", "params": ["I32"], "results": []}}),
        json!({"problem": "unknown-import", "module": "env", "name": "two", "found": {"kind": "func", "params": [], "results": ["I64"]}}),
        json!({"problem": "unknown-import", "module": "wasi_snapshot_preview1", "name": "no_such",
               "found": {"kind": "func", "params": [], "results": []}}),
        json!({"problem": "mistyped-import", "module": "wasi_snapshot_preview1", "name": "proc_exit",
               "expected": {"kind": "func", "params": ["I32"], "results": []}, "found": {"kind": "func", "params": ["I64"], "results": []}}),
    ];
    for (verb, exports) in [("run", &["memory", "_start"][..]), ("call", &["memory", "malloc", "free", "run"])] {
        let report = report(&mistctl(&[verb, &module, "--error-format", "json"]));
        assert_eq!(report["kind"], "interface", "{verb}");
        let problems = report["problems"].as_array().expect("a list");
        for import in &imports {
            assert!(problems.contains(import), "{verb}: {import} in {problems:?}");
        }
        for export in exports {
            let missing = |problem: &&Value| problem["problem"] == "missing-export" && problem["export"] == *export;
            assert_eq!(problems.iter().filter(missing).count(), 1, "{verb}: {export} in {problems:?}");
        }
        assert_eq!(problems.len(), imports.len() + exports.len(), "{verb}: {problems:?}");

        let output = mistctl(&[verb, &module]);
        for name in exports.iter().chain(&["one", "two", "no_such", "proc_exit"]) {
            assert!(text(&output.stderr).contains(&format!("`{name}`")), "{verb}: {}", text(&output.stderr));
        }
        assert!(!text(&output.stderr).contains("sched_yield"), "{verb}: {}", text(&output.stderr));
    }
}

#[test]
fn a_guest_that_owes_an_answer_and_exits_is_status_3_with_the_code() {
    let scratch = Scratch::new();
    for code in [0, 7] {
        let exit = format!("(call $exit (i32.const {code}))");
        let package = scratch.file("package.wat", doing("", &exit, ""));
        let plugin = scratch.file("plugin.wat", plugin("", &exit));
        for backend in backends() {
            for arguments in [&["generate", "x", "-p", &package][..], &["inspect", &package], &["call", &plugin]] {
                let mut command = command(arguments);
                let output = command.args(["--backend", &backend, "--error-format", "json"]).output();
                let report = report(&output.expect("mistctl starts"));
                let found = (&report["kind"], &report["code"]);
                assert_eq!(found, (&json!("exit"), &json!(code)), "{arguments:?} on {backend}");
            }
        }
    }
}

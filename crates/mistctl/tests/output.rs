//! What the built program writes where, whoever chose its length: standard output that cannot be written, and standard
//! error, which has an end and is the same on every engine.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, answering, backends, command, describing, escaped, example, fed, mistctl, result, text};

/// A program with data at address 2048, whose `_start` does this.
fn program(data: &str, start: &str) -> String {
    let data = escaped(data);
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 2048) "{data}")
  (func $write (param $fd i32) (param $address i32) (param $length i32) (result i32)
    (i32.store (i32.const 1000) (local.get $address))
    (i32.store (i32.const 1004) (local.get $length))
    (call $fd_write (local.get $fd) (i32.const 1000) (i32.const 1) (i32.const 1008)))
  (func $open (param $path i32) (param $length i32)
    (drop (call $path_open (i32.const 3) (i32.const 0) (local.get $path) (local.get $length) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 1012))))
  (func (export "_start") {start}))"#
    )
}

/// A package that first does something, with WASI's `fd_write` as `$fd_write`, and then gives this answer.
fn doing(first: &str, answer: &str) -> String {
    let import =
        r#"(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
    answering(answer)
        .replacen("(module", &format!("(module {import}"), 1)
        .replace("(i64.store (i32.const 8)", &format!("{first} (i64.store (i32.const 8)"))
}

/// The lines of standard error, each one JSON object with a level.
fn objects(output: &Output) -> Vec<Value> {
    let parse = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(object["level"].is_string() && object["message"].is_string(), "{line}");
        object
    };
    text(&output.stderr).lines().map(parse).collect()
}

/// What is run with a standard output that nothing can be written to.
type Unwritable = fn(&[&str]) -> Command;

/// With each what its error is called.
const UNWRITABLE: [(&str, Unwritable); 3] =
    [("Broken pipe", unread), ("Bad file descriptor", closed), ("No space left on device", full)];

fn unread(arguments: &[&str]) -> Command {
    let (_, writer) = io::pipe().expect("a pipe");
    let mut command = command(arguments);
    command.stdout(writer);
    command
}

fn closed(arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" >&-", env!("CARGO_BIN_EXE_mistctl")]).args(arguments).stdin(Stdio::null());
    command
}

fn full(arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.stdout(File::options().write(true).open("/dev/full").expect("a device that is full"));
    command
}

fn unwritable() -> impl Iterator<Item = (&'static str, Unwritable)> {
    UNWRITABLE.into_iter().filter(|(cause, _)| *cause != "No space left on device" || Path::new("/dev/full").exists())
}

#[test]
fn an_answer_that_cannot_be_written_is_status_3_whatever_it_is() {
    let scratch = Scratch::new();
    let package = example("namespace-c.wasm");
    // It makes light of the error.
    let program = scratch
        .file("program.wat", program("out\n", "(drop (call $write (i32.const 1) (i32.const 2048) (i32.const 4)))"));
    let plugin = example("httpwasm-direct-c.wasm");
    let request = scratch.file("request", "ann\n");
    for (cause, with) in unwritable() {
        for arguments in [
            &["--help"][..],
            &["--version"],
            &["help", "run"],
            &["generate", "--help"],
            &["completions", "bash"],
            &["backends"],
            &["inspect", &package],
            &["inspect", &package, "-o", "json"],
            &["generate", "x", "-p", &package],
            &["generate", "x", "-p", &package, "-o", "raw"],
            &["call", &plugin, "--stdin", &request],
            &["run", &program],
        ] {
            let output = with(arguments).output().expect("it starts");
            assert_eq!(output.status.code(), Some(3), "{cause}: {arguments:?}");
            let expected = format!("error: standard output cannot be written\n  caused by: {cause}");
            assert!(text(&output.stderr).starts_with(&expected), "{arguments:?}: {}", text(&output.stderr));
        }
        let errors = objects(&with(&["backends", "--error-format", "json"]).output().expect("it starts"));
        let found = errors.iter().map(|error| (&error["level"], &error["kind"], &error["file"])).collect::<Vec<_>>();
        assert_eq!(found, [(&json!("error"), &json!("file"), &json!("standard output"))], "{cause}");
    }
}

#[test]
fn a_program_that_is_told_of_a_closed_output_ends_with_its_own_status() {
    const IO: i32 = 29;
    let scratch = Scratch::new();
    let start = "(call $exit (call $write (i32.const 1) (i32.const 2048) (i32.const 4)))";
    let program = scratch.file("program.wat", program("out\n", start));
    let output = closed(&["run", &program]).output().expect("it starts");
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(IO)));
}

#[test]
fn a_null_device_is_no_closed_output() {
    let null = File::options().read(true).write(true).open("/dev/null").expect("a device");
    let output = command(&["backends"]).stdout(null).output().expect("it starts");
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
}

/// Tries to leave its directory by so many paths, `../000` and so on, each this many times.
fn leaving(paths: u32, times: u32) -> String {
    let digit = |at: u32, of: &str| {
        format!("(i32.store8 (i32.const {at}) (i32.add (i32.const 48) (i32.rem_u {of} (i32.const 10))))")
    };
    let digits = [
        digit(2051, "(i32.div_u (local.get $i) (i32.const 100))"),
        digit(2052, "(i32.div_u (local.get $i) (i32.const 10))"),
        digit(2053, "(local.get $i)"),
    ];
    let start = format!(
        "(local $i i32) (local $times i32)
        (loop $again
          (local.set $i (i32.const 0))
          (loop $next {} (call $open (i32.const 2048) (i32.const 6))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {paths}))))
          (br_if $again (i32.lt_u (local.tee $times (i32.add (local.get $times) (i32.const 1))) (i32.const {times}))))",
        digits.concat()
    );
    program("../000", &start)
}

#[test]
fn each_denial_is_shown_once_and_no_more_than_a_hundred_and_then_counted() {
    let scratch = Scratch::new();
    let folder = format!("{}::/d", scratch.0.path().display());
    for (paths, times, shown, more) in
        [(2, 1, 2, None), (2, 3, 2, Some(4)), (100, 2, 100, Some(100)), (300, 2, 100, Some(500))]
    {
        let module = scratch.file("p.wat", leaving(paths, times));
        for backend in backends() {
            let arguments = ["run", &module, "--dir", &folder, "--backend", &backend];
            let output = mistctl(&arguments);
            let mut expected: Vec<_> =
                (0..shown).map(|i| format!("denied: path_open: ../{i:03}: not granted")).collect();
            expected.extend(more.map(|more| format!("denied: {more} more times, the same or beyond the first 100")));
            let found: Vec<_> = text(&output.stderr).lines().collect();
            assert_eq!((found, output.status.code()), (expected.iter().map(String::as_str).collect(), Some(0)));

            let output = command(&arguments).args(["--error-format", "json"]).output().expect("it starts");
            let objects = objects(&output);
            assert!(objects.iter().all(|object| object["level"] == "denied"));
            assert_eq!(objects[1]["function"], "path_open");
            assert_eq!(objects[1]["paths"], json!(["../001"]));
            assert_eq!(objects.len(), shown + usize::from(more.is_some()));
            assert_eq!(objects.last().map(|last| last["more"].as_u64()), Some(more), "{paths} {times}");
        }
    }
}

#[test]
fn a_denied_path_is_cut() {
    let scratch = Scratch::new();
    let folder = format!("{}::/d", scratch.0.path().display());
    // Control characters, which are six times as long where they are shown.
    let path = format!("../{}", "\u{1}".repeat(4_000));
    let start = format!("(call $open (i32.const 2048) (i32.const {}))", path.len());
    let module = scratch.file("p.wat", program(&path, &start));
    let output = mistctl(&["run", &module, "--dir", &folder]);
    let line = text(&output.stderr);
    assert!(line.starts_with(r"denied: path_open: ../\u{1}\u{1}") && line.ends_with("…: not granted\n"), "{line}");
    assert!(line.len() < 3_000, "{} bytes", line.len());
}

/// A module of a thousand imports, each with a long name and a type of a hundred parameters.
fn sprawling() -> String {
    let name = "ä".repeat(2_000);
    let mut module = format!("(module (type $t (func (param{}) (result{})))", " i64".repeat(100), " f32".repeat(100));
    for i in 0..1_000 {
        module.push_str(&format!("(import \"m{name}\" \"{i:03}{name}\" (func (type $t)))"));
    }
    for i in 0..1_500 {
        module.push_str(&format!("(export \"{i:04}{name}\" (func 0))"));
    }
    module + ")"
}

#[test]
fn names_types_and_lists_of_a_module_are_cut_where_they_are_shown() {
    let scratch = Scratch::new();
    let module = scratch.file("sprawling.wat", sprawling());
    for arguments in [&["run", &module][..], &["generate", "x", "-p", &module], &["call", &module]] {
        let output = mistctl(arguments);
        assert_eq!(output.status.code(), Some(3));
        let error = text(&output.stderr);
        assert_eq!(error.lines().count(), 1, "{arguments:?}");
        assert!(error.contains("I64, 68 more] -> [F32, ") && error.contains("ä…`"), "{error}");
        // One or more exports are missing besides.
        assert!(error.trim_end().ends_with(" more") && error.contains("; and 98"), "{error}");
        assert!(error.len() < 32_000, "{} bytes", error.len());

        let output = command(arguments).args(["--error-format", "json"]).output().expect("it starts");
        let error = &objects(&output)[0];
        let problems = error["problems"].as_array().expect("a list");
        assert_eq!((problems.len(), error["more"].as_u64() > Some(900)), (100, true));
        let found = &problems[50]["found"];
        assert_eq!((found["params"].as_array().map(Vec::len), &found["more"]), (Some(32), &json!(68 * 2)));
        assert!(output.stderr.len() < 300_000, "{} bytes", output.stderr.len());
    }
}

#[test]
fn what_inspect_lists_has_an_end() {
    let scratch = Scratch::new();
    let module = scratch.file("sprawling.wat", sprawling());
    let output = mistctl(&["inspect", &module, "-o", "json"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.len() < 6_000_000, "{} bytes", output.stdout.len());
    let listing: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(listing["imports"]["functions"].as_array().map(Vec::len), Some(1_000));
    assert_eq!(listing["exports"]["functions"].as_object().map(serde_json::Map::len), Some(1_000));
    assert_eq!(listing["exports"]["more"], 500);
    let problems = listing["problems"].as_array().expect("a list");
    assert_eq!(problems.len(), 1_001);
    let last = problems.last().and_then(Value::as_str);
    assert_eq!(last, Some("and 2 more"), "two exports and a thousand imports");

    let output = mistctl(&["inspect", &module]);
    assert!(output.stdout.len() < 3_000_000, "{} bytes", output.stdout.len());
    let listing = mistletoe::documents::yaml::parse(text(&output.stdout)).expect("YAML");
    let exports =
        listing.as_mapping().and_then(|listing| listing.get("exports")).and_then(|exports| exports.as_mapping());
    assert_eq!(exports.and_then(|exports| exports.get("more")), Some(&mistletoe::documents::yaml::Value::Int(500)));
}

#[test]
fn a_long_description_is_shown_in_part() {
    let scratch = Scratch::new();
    let labels: String =
        (0..3_000).map(|i| format!("    label{i}: {}\n", "x".repeat(if i == 0 { 5_000 } else { 1 }))).collect();
    let info =
        format!("apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\nmetadata:\n  name: n\n  labels:\n{labels}");
    let module = describing(&info);
    let output = mistctl(&["inspect", &scratch.file("p.wat", module), "-o", "json"]);
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
    let listing: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let labels = listing["info"]["metadata"]["labels"].as_object().expect("labels");
    assert_eq!(labels["label0"].as_str().map(str::len), Some(2_000 + "…".len()));
    assert_eq!(labels["label7"], "x");
    assert_eq!(labels["…"].as_str(), Some(&*format!("and {} more", 3_000 + 1 - labels.len())));
}

#[test]
fn a_packages_message_is_shown_in_part_where_it_is_long() {
    let scratch = Scratch::new();
    let long = "ä".repeat(50_000);
    let fat = |answer: &str| (answer.len() as u64) << 32 | 65_536;
    for (word, label) in [("Ok", "package: "), ("Err", "error: ")] {
        let answer = result(&format!("  result: {word}\n  message: {long}\n"));
        let module = answering("")
            .replace(r#"(memory (export "memory") 1)"#, r#"(memory (export "memory") 9)"#)
            .replace(r#"(data (i32.const 64) "")"#, &format!(r#"(data (i32.const 65536) "{}")"#, escaped(&answer)))
            .replace("(i64.const 64)", &format!("(i64.const {})", fat(&answer)));
        let module = scratch.file("p.wat", module);
        let output = mistctl(&["generate", "x", "-p", &module]);
        assert_eq!(text(&output.stderr), format!("{label}{}…\n", "ä".repeat(32 << 10)));
    }
}

#[test]
fn with_json_every_line_on_standard_error_is_an_object() {
    let scratch = Scratch::new();
    let json = ["--error-format", "json"];
    let ended = |arguments: &[&str]| {
        let output = command(arguments).args(json).output().expect("it starts");
        (objects(&output), output.status.code(), text(&output.stdout).to_owned())
    };
    let level = |objects: &[Value]| objects.iter().map(|object| object["level"].clone()).collect::<Vec<_>>();

    // Wrong usage, of which clap says seven lines.
    let (errors, status, _) = ended(&["generate", "--set", "a"]);
    let message = "the following required arguments were not provided: --package <PKG> <NAME>";
    assert_eq!(errors, [json!({"level": "error", "kind": "usage", "message": message, "causes": []})]);
    assert_eq!(status, Some(2));

    // The package's message, and its log.
    let write = "(i32.store (i32.const 40) (i32.const 0x8000)) (i32.store (i32.const 44) (i32.const 10))
        (drop (call $fd_write (i32.const 2) (i32.const 40) (i32.const 1) (i32.const 48)))";
    let package = scratch.file(
        "package.wat",
        doing(write, &result("  result: Ok\n  message: \"done\\nit is\"\n  files: {a: 'a: 1'}\n")),
    );
    let (notes, status, stdout) = ended(&["generate", "x", "-p", &package]);
    assert_eq!(
        notes,
        [json!({"level": "log", "message": "apiVersion"}), json!({"level": "package", "message": "done\nit is"})]
    );
    assert_eq!((status, &*stdout), (Some(0), "a: 1\n"));

    // A warning.
    let freeing = answering(&result("  result: Ok\n  files: {a: 'a: 1'}\n"))
        .replace("(param i32 i32))\n", "(param i32 i32) (unreachable))\n");
    let (notes, status, stdout) = ended(&["generate", "x", "-p", &scratch.file("freeing.wat", freeing)]);
    assert_eq!((level(&notes), status, &*stdout), (vec![json!("warning")], Some(0), "a: 1\n"));

    // What a program writes itself, also a line that looks like mistctl's and one that does not end, and what it was
    // denied.
    let data = "{\"level\":\"error\"}\nend../x";
    let start = "(drop (call $write (i32.const 2) (i32.const 2048) (i32.const 21))) (call $open (i32.const 2069) (i32.const 4)) unreachable";
    let program = scratch.file("program.wat", program(data, start));
    let folder = format!("{}::/d", scratch.0.path().display());
    let (notes, status, _) = ended(&["run", &program, "--dir", &folder]);
    let mut found = notes[..notes.len() - 1].to_vec();
    found.sort_by_key(|object| object["message"].to_string());
    assert_eq!(
        found,
        [
            json!({"level": "stderr", "message": "end"}),
            json!({"level": "denied", "function": "path_open", "paths": ["../x"], "message": "path_open: ../x: not granted"}),
            json!({"level": "stderr", "message": "{\"level\":\"error\"}"}),
        ]
    );
    let last = notes.last().expect("the error");
    assert_eq!((&last["level"], &last["kind"], status), (&json!("error"), &json!("trap"), Some(3)));

    // A plugin's standard error.
    let plugin = example("httpwasm-c.wasm");
    let output = fed(command(&["call", &plugin]).args(json), b"ann\n\n");
    assert_eq!(objects(&output), [json!({"level": "stderr", "message": "empty record"})]);
    assert_eq!(text(&output.stdout), "hello, ann\n");
}

#[test]
fn wrong_usage_has_an_end_too() {
    // As long as the system lets an argument be.
    let long = "x".repeat(120_000);
    for format in ["text", "json"] {
        let output = mistctl(&["generate", &format!("--{long}"), "--error-format", format]);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stderr.len() < 70_000, "{} bytes", output.stderr.len());
        assert!(text(&output.stderr).contains("unexpected argument '--xxx"));
    }
}

/// Guests that trap, each in its own way.
const TRAPS: [(&str, &str); 6] = [
    ("(unreachable)", "unreachable executed"),
    ("(drop (i32.div_u (i32.const 1) (i32.load (i32.const 1020))))", "integer divide by zero"),
    ("(drop (i32.load (i32.const -1)))", "out of bounds memory access"),
    ("(call_indirect (type $t) (i32.const 0))", "indirect call to null"),
    ("(call_indirect (type $t) (i32.const 9))", "out of bounds table access"),
    ("(drop (i32.trunc_f32_s (f32.const nan)))", "invalid conversion to integer"),
];

#[test]
fn standard_error_is_the_same_on_every_engine_and_an_engines_words_come_when_they_are_asked_for() {
    let scratch = Scratch::new();
    for (code, words) in TRAPS {
        let module = program("", code).replacen("(memory", "(type $t (func)) (table 1 funcref) (memory", 1);
        let module = scratch.file("trap.wat", module);
        let expected = format!("error: {module}: trap in `_start`: {words}\n");
        for backend in backends() {
            let run = ["run", &module, "--backend", &backend];
            assert_eq!(text(&mistctl(&run).stderr), expected, "{backend}");
            let output = command(&run).arg("-v").output().expect("it starts");
            let (error, cause) = text(&output.stderr).split_at(expected.len());
            assert_eq!(error, expected, "{backend}");
            assert!(cause.starts_with("  caused by: "), "{backend}: {cause}");
            let output = command(&run).args(["--error-format", "json"]).output().expect("it starts");
            assert_eq!(objects(&output)[0]["causes"].as_array().map(Vec::is_empty), Some(false), "{backend}");
        }
    }
}

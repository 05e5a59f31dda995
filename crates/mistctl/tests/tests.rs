//! `mistctl test`: tests of packages in files, and `generate --stats` and `--cross-check`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, answering, backends, command, example, mistctl, result, text};

/// A directory with the namespace package and these tests.
fn directory(tests: &[(&str, &str)]) -> Scratch {
    let scratch = Scratch::new();
    fs::copy(example("namespace-c.wasm"), scratch.path("namespace.wasm")).expect("copied");
    fs::create_dir(scratch.path("tests")).expect("a directory");
    for (name, text) in tests {
        scratch.file(&format!("tests/{name}"), text);
    }
    scratch
}

fn run(scratch: &Scratch, arguments: &[&str]) -> (String, String, Option<i32>) {
    let directory = scratch.0.path().display().to_string();
    let output = mistctl(&[&["test", &directory], arguments].concat());
    (text(&output.stdout).to_owned(), text(&output.stderr).to_owned(), output.status.code())
}

const GOOD: &str = "# a namespace
name: web
files:
  namespace.yaml: |
    apiVersion: v1
    kind: Namespace
    metadata:
      name: web
";

#[test]
fn tests_pass_and_fail_with_a_diff() {
    let scratch = directory(&[
        ("good.yaml", GOOD),
        ("other.yaml", &GOOD.replace("kind: Namespace", "kind: Other")),
        ("notes.txt", "not a test"),
        ("unknown.yaml", "vaules: {}"),
    ]);
    let (stdout, stderr, status) = run(&scratch, &[]);
    let unknown = scratch.path("tests/unknown.yaml").display().to_string();
    let expected = format!(
        "ok       good
FAILED   other: files: 1 changed
--- expected/namespace.yaml
+++ output/namespace.yaml
@@ -1,4 +1,4 @@
 apiVersion: v1
-kind: Other
+kind: Namespace
 metadata:
   name: web
FAILED   unknown: {unknown}: unknown field `vaules`; expected `name`, `values`, `files` or `error`
1 passed, 2 failed
"
    );
    assert_eq!(stdout, expected);
    assert_eq!((stderr.as_str(), status), ("error: 2 of 3 tests failed\n", Some(1)));
    for filter in ["good", "oo"] {
        let (stdout, _, status) = run(&scratch, &["--filter", filter]);
        assert_eq!((stdout.as_str(), status), ("ok       good\n1 passed, 0 failed\n", Some(0)));
    }
}

#[test]
fn an_update_writes_what_comes_back_and_only_where_it_differs() {
    let scratch = directory(&[
        ("good.yaml", GOOD),
        ("new.yaml", "# why\nname: new\nvalues:\n  a: 1 # note\n"),
        ("old.yaml", "files:\n  x: y\n"),
    ]);
    let before = fs::metadata(scratch.path("tests/good.yaml")).and_then(|file| file.modified()).expect("a time");
    let (stdout, _, status) = run(&scratch, &["--update"]);
    let expected = "ok       good\nupdated  new\nupdated  old\n3 passed, 0 failed, 2 updated\n";
    assert_eq!((stdout.as_str(), status), (expected, Some(0)));
    let read = |name: &str| fs::read_to_string(scratch.path(name)).expect("text");
    assert_eq!(read("tests/good.yaml"), GOOD);
    let after = fs::metadata(scratch.path("tests/good.yaml")).and_then(|file| file.modified()).expect("a time");
    assert_eq!(before, after);
    assert!(
        read("tests/new.yaml").starts_with("# why\nname: new\nvalues:\n  a: 1 # note\nfiles:\n  namespace.yaml: |\n")
    );
    assert_eq!(fs::read_dir(scratch.path("tests")).expect("a directory").count(), 3);
    assert_eq!(run(&scratch, &[]).2, Some(0));
}

#[test]
fn an_err_can_be_expected() {
    let scratch = directory(&[("tier.yaml", "error: no such tier\n"), ("wrong.yaml", "error: no such size\n")]);
    fs::remove_file(scratch.path("namespace.wasm")).expect("removed");
    scratch.file("p.wat", answering(&result("  result: Err\n  message: no such tier\n")));
    let (stdout, _, status) = run(&scratch, &[]);
    let expected = "ok       tier
FAILED   wrong: the package returned `Err` with another message
--- expected error
+++ error
@@ -1 +1 @@
-no such size
\\ No newline at end of file
+no such tier
\\ No newline at end of file
1 passed, 1 failed
";
    assert_eq!((stdout.as_str(), status), (expected, Some(1)));
    assert_eq!(run(&scratch, &["--update"]).2, Some(0));
    assert_eq!(fs::read_to_string(scratch.path("tests/wrong.yaml")).expect("text"), "error: no such tier\n");
}

#[test]
fn a_trap_fails_a_test_and_is_never_expected() {
    let scratch = directory(&[("a.yaml", GOOD), ("b.yaml", GOOD)]);
    let trap = answering("").replace("(i64.store", "(unreachable) (i64.store");
    let package = scratch.file("trap.wat", trap);
    for update in [&[][..], &["--update"]] {
        let (stdout, _, status) = run(&scratch, &[&["-p", &package], update].concat());
        let line = |name| format!("FAILED   {name}: trap in `__mistletoe_generate`: unreachable executed\n");
        assert_eq!(stdout, format!("{}{}0 passed, 2 failed\n", line("a"), line("b")));
        assert_eq!(status, Some(1));
        assert_eq!(fs::read_to_string(scratch.path("tests/a.yaml")).expect("text"), GOOD);
    }
}

#[test]
fn a_panic_fails_a_test_and_is_never_expected() {
    let expected = "error: panicked at lib.rs:1\n";
    let scratch = directory(&[("a.yaml", GOOD), ("b.yaml", expected)]);
    let output = result("  result: Err\n  message: panicked at lib.rs:1\n");
    let panics = format!(
        "(i32.store (i32.const 24) (i32.const 64)) (i32.store (i32.const 28) (i32.const {})) (unreachable) (i64.store",
        output.len()
    );
    let package = answering(&output)
        .replacen("(memory", r#"(global (export "__mistletoe_panic") i32 (i32.const 24)) (memory"#, 1)
        .replace("(i64.store", &panics);
    let package = scratch.file("panics.wat", package);
    let (stdout, _, status) = run(&scratch, &["-p", &package, "--update"]);
    let line = |name| format!("FAILED   {name}: the package panicked: panicked at lib.rs:1\n");
    assert_eq!((stdout, status), (format!("{}{}0 passed, 2 failed\n", line("a"), line("b")), Some(1)));
    assert_eq!(fs::read_to_string(scratch.path("tests/a.yaml")).expect("text"), GOOD);
    assert_eq!(fs::read_to_string(scratch.path("tests/b.yaml")).expect("text"), expected);
}

#[cfg(unix)]
#[test]
fn an_update_replaces_files_and_follows_no_link() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let scratch = directory(&[("mode.yaml", "name: x\n")]);
    let outside = scratch.file("outside.yaml", "name: x\n");
    symlink(&outside, scratch.path("tests/link.yaml")).expect("a link");
    // A second name shows whether the old file is written to.
    fs::hard_link(scratch.path("tests/mode.yaml"), scratch.path("old.yaml")).expect("a second name");
    fs::set_permissions(scratch.path("tests/mode.yaml"), fs::Permissions::from_mode(0o640)).expect("set");
    let (stdout, _, status) = run(&scratch, &["--update"]);
    let link = scratch.path("tests/link.yaml").display().to_string();
    let expected = format!(
        "FAILED   link: {link} is behind a symbolic link, which --update does not follow\n\
        updated  mode\n1 passed, 1 failed, 1 updated\n"
    );
    assert_eq!((stdout, status), (expected, Some(1)));
    let read = |name: &str| fs::read_to_string(scratch.path(name)).expect("text");
    assert_eq!((read("outside.yaml").as_str(), read("old.yaml").as_str()), ("name: x\n", "name: x\n"));
    assert!(read("tests/mode.yaml").starts_with("name: x\nfiles:\n"));
    let mode = fs::metadata(scratch.path("tests/mode.yaml")).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(fs::read_dir(scratch.path("tests")).expect("a directory").count(), 2);
    // Nor where the directory itself is one.
    fs::rename(scratch.path("tests"), scratch.path("elsewhere")).expect("renamed");
    scratch.file("elsewhere/mode.yaml", "name: x\n");
    symlink(scratch.path("elsewhere"), scratch.path("tests")).expect("a link");
    assert_eq!(run(&scratch, &["--update", "--filter", "mode"]).2, Some(1));
    assert_eq!(read("elsewhere/mode.yaml"), "name: x\n");
}

#[test]
fn a_test_that_cannot_be_read_fails_alone() {
    let scratch = directory(&[("good.yaml", GOOD)]);
    scratch.file("tests/z.yaml", b"name: \xe9\n");
    fs::create_dir(scratch.path("tests/dir.yaml")).expect("a directory");
    let (stdout, _, status) = run(&scratch, &[]);
    let lines: Vec<_> = stdout.lines().collect();
    assert!(lines[0].starts_with("FAILED   dir: ") && lines[0].contains("dir.yaml cannot be read: "), "{stdout}");
    assert_eq!(lines[1], "ok       good");
    assert!(lines[2].ends_with("z.yaml cannot be read: it is not UTF-8 from byte 6 on"), "{stdout}");
    assert_eq!((lines[3], status), ("1 passed, 2 failed", Some(1)));
}

#[test]
fn two_tests_of_one_name_are_an_error() {
    let scratch = directory(&[("good.yaml", GOOD), ("good.yml", GOOD)]);
    let (stdout, stderr, status) = run(&scratch, &[]);
    let second = scratch.path("tests/good.yml").display().to_string();
    let expected = format!("error: {second} cannot be read\n  caused by: there is another test of this name\n");
    assert_eq!((stdout.as_str(), stderr, status), ("", expected, Some(3)));
}

#[test]
fn a_package_that_cannot_be_opened_is_an_error_in_the_report() {
    let scratch = directory(&[("good.yaml", GOOD)]);
    let report = scratch.path("report.xml");
    let trap = answering("").replace("(memory", "(func $boom (unreachable)) (start $boom) (memory");
    for (name, content) in [("trap.wat", trap.as_str()), ("open.wat", "(module"), ("empty.wasm", "")] {
        let arguments = ["-p", &scratch.file(name, content), "--junit", &report.display().to_string()];
        let (stdout, _, status) = run(&scratch, &arguments);
        assert_eq!((stdout.as_str(), status), ("", Some(3)), "{name}");
        let xml = fs::read_to_string(&report).expect("a report");
        assert!(xml.contains("tests=\"1\" failures=\"0\" errors=\"1\""), "{xml}");
        assert!(xml.contains("      <error message=\"") && xml.contains(name), "{xml}");
        fs::remove_file(&report).expect("removed");
    }
}

#[test]
fn tests_are_for_packages() {
    let scratch = directory(&[("good.yaml", GOOD)]);
    let (_, stderr, status) = run(&scratch, &["-p", &example("command-c.wasm")]);
    assert!(stderr.ends_with("command-c.wasm is a program; tests are for packages\n"), "{stderr}");
    assert_eq!(status, Some(2));
}

#[test]
fn a_watch_that_updates_sees_what_changes_meanwhile() {
    let scratch = directory(&[("a.yaml", "{}\n"), ("b.yaml", "{}\n")]);
    let slow = "(local $i i32) (local.set $i (i32.const 30000000))
        (loop $more (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1))))) (i64.store";
    let slow = scratch.file("slow.wat", answering(&result("  result: Ok\n")).replace("(i64.store", slow));
    let directory = scratch.0.path().display().to_string();
    let mut child = command(&["test", &directory, "-p", &slow, "--watch", "--update", "--timeout", "60s"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (sender, lines) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    // A change that is not seen leads to no line at all.
    let next = || lines.recv_timeout(Duration::from_secs(60)).ok();
    assert_eq!(next().as_deref(), Some("updated  a"));
    // The other test runs now. Should it be quick, the change comes later, and is seen as well.
    scratch.file("tests/a.yaml", "# changed\nfiles: {}\n");
    assert_eq!(next().as_deref(), Some("updated  b"));
    assert_eq!(next().as_deref(), Some("2 passed, 0 failed, 2 updated"));
    let seen = next();
    child.kill().expect("killed");
    child.wait().expect("it ends");
    assert_eq!(seen.as_deref(), Some("ok       a"));
}

#[test]
fn a_trap_while_freeing_fails_a_test_although_the_output_is_as_expected() {
    let scratch = directory(&[("a.yaml", "files: {}\n")]);
    let trap = answering(&result("  result: Ok\n"))
        .replace("\"__mistletoe_dealloc\") (param i32 i32)", "\"__mistletoe_dealloc\") (param i32 i32) (unreachable)");
    let (stdout, _, status) = run(&scratch, &["-p", &scratch.file("trap.wat", trap)]);
    assert!(stdout.starts_with("FAILED   a: the output is complete, but freeing it failed: trap in "), "{stdout}");
    assert_eq!(status, Some(1));
}

#[test]
fn the_package_is_the_only_one_there_or_the_one_named() {
    let scratch = directory(&[("good.yaml", GOOD)]);
    // A text next to it is its source.
    scratch.file("namespace.wat", "(module)");
    assert_eq!(run(&scratch, &[]).2, Some(0));
    scratch.file("second.wasm", "");
    let (_, stderr, status) = run(&scratch, &[]);
    assert!(
        stderr.starts_with("error: there are several packages, such as ") && stderr.ends_with("name one with -p\n")
    );
    assert_eq!(status, Some(2));
    assert_eq!(run(&scratch, &["-p", &example("namespace-rust.wasm")]).2, Some(0));
    for name in ["namespace.wasm", "namespace.wat", "second.wasm"] {
        fs::remove_file(scratch.path(name)).expect("removed");
    }
    let (_, stderr, status) = run(&scratch, &[]);
    assert!(stderr.starts_with("error: there is no package in "), "{stderr}");
    assert_eq!(status, Some(2));
}

#[test]
fn no_tests_are_wrong_usage() {
    let scratch = directory(&[]);
    let (_, stderr, status) = run(&scratch, &[]);
    assert!(stderr.starts_with("error: there are no tests: "), "{stderr}");
    assert_eq!(status, Some(2));
    let scratch = directory(&[("good.yaml", GOOD)]);
    assert_eq!(run(&scratch, &["--filter", "bad"]).2, Some(2));
}

#[test]
fn a_report_is_junit_xml() {
    let scratch = directory(&[("good.yaml", GOOD), ("other.yaml", &GOOD.replace("kind: Namespace", "kind: <Other>"))]);
    let report = scratch.path("report.xml");
    let (_, _, status) = run(&scratch, &["--junit", &report.display().to_string()]);
    assert_eq!(status, Some(1));
    let xml = fs::read_to_string(report).expect("a report");
    assert!(xml.contains("<testsuite name=\"namespace\" tests=\"2\" failures=\"1\" errors=\"0\""), "{xml}");
    assert!(xml.contains("<failure message=\"files: 1 changed\">--- expected"), "{xml}");
    assert!(xml.contains("-kind: &lt;Other&gt;&#10;+kind: Namespace"), "{xml}");
}

#[test]
fn a_watch_runs_again_when_a_test_changes() {
    let scratch = directory(&[("good.yaml", GOOD)]);
    let directory = scratch.0.path().display().to_string();
    let mut child = command(&["test", &directory, "--watch"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("a line"));
    assert_eq!(lines.nth(1).as_deref(), Some("1 passed, 0 failed"));
    scratch.file("tests/good.yaml", GOOD.replace("name: web\nfiles", "name: changed\nfiles"));
    assert_eq!(lines.next().as_deref(), Some("FAILED   good: files: 1 changed"));
    scratch.file("tests/good.yaml", GOOD);
    assert_eq!(lines.find(|line| line.starts_with("1 passed")).as_deref(), Some("1 passed, 0 failed"));
    child.kill().expect("killed");
    child.wait().expect("it ends");
}

#[test]
fn the_figures_of_a_call_go_to_standard_error() {
    for backend in backends() {
        let arguments = ["generate", "x", "-p", &example("namespace-c.wasm"), "--stats", "--backend", &backend];
        let output = mistctl(&arguments);
        assert!(text(&output.stdout).contains("kind: Namespace"), "{backend}");
        let line = text(&output.stderr);
        assert!(line.starts_with("stats: fuel 0 to open, ") && line.ends_with("0 calls of host functions\n"), "{line}");
        let output = command(&arguments).args(["--error-format", "json"]).output().expect("it starts");
        let stats: Value = serde_json::from_slice(&output.stderr).expect("an object");
        assert_eq!((&stats["level"], &stats["host_calls"]), (&"stats".into(), &0.into()), "{backend}");
        assert!(stats["fuel"].as_u64() > Some(100), "{stats}");
        assert!(stats["memory_bytes"].as_u64() >= Some(65_536), "{stats}");
        assert!(line.contains(&format!("{} to call; time", stats["fuel"])), "{line}");
        for time in ["compile_us", "open_us", "call_us"] {
            assert!(stats[time].is_u64(), "{stats}");
        }
    }
}

#[test]
fn figures_are_printed_of_a_call_that_failed() {
    let scratch = Scratch::new();
    let trap = answering("").replace("(i64.store", "(unreachable) (i64.store");
    let package = scratch.file("trap.wat", trap);
    let output = mistctl(&["generate", "x", "-p", &package, "--stats"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).starts_with("stats: fuel "), "{}", text(&output.stderr));
}

#[test]
fn a_cross_check_prints_the_output_if_the_engines_agree() {
    let package = example("namespace-rust.wasm");
    let plain = mistctl(&["generate", "x", "-p", &package]);
    let output = mistctl(&["generate", "x", "-p", &package, "--cross-check"]);
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
    assert_eq!(output.stdout, plain.stdout);
    // An error that is the same everywhere is reported as it is without the flag.
    let scratch = Scratch::new();
    let trap = scratch.file("trap.wat", answering("").replace("(i64.store", "(unreachable) (i64.store"));
    let plain = mistctl(&["generate", "x", "-p", &trap]);
    let output = mistctl(&["generate", "x", "-p", &trap, "--cross-check"]);
    assert_eq!((&output.stderr, output.status.code()), (&plain.stderr, Some(3)));
}

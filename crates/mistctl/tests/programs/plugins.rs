//! Plugins (`call`): their requests, what they write, what they have from WASI, and their traps.

use serde_json::json;

use crate::guests::{BADF, READ, bracketing, listing, plugin, print};
use crate::support::{Scratch, backends, command, fed, mistctl, text};
use crate::{a_mebibyte, all_bytes, call_on, ended, report};

#[test]
fn a_plugin_has_its_request_record_by_record() {
    let scratch = Scratch::new();
    let module = scratch.file("p.wat", bracketing());
    for backend in backends() {
        for (delimiter, request, expected) in [
            (None, "a\nb\n", "[a\n][b\n]"),
            (None, "\n\na\0;b", "[\n][\n][a\0;b\n]"),
            (Some("newline"), "a\nb", "[a\n][b\n]"),
            (Some("nul"), "a\0b\nc", "[a\0][b\nc\0]"),
            (Some("none"), "a\nb\0", "[a\nb\0]"),
            (Some(";"), "a;b\n;c", "[a;][b\n;][c;]"),
            (Some("n"), "nun", "[n][un]"),
            (None, "", ""),
            (Some("none"), "", ""),
            (Some(";"), "", ""),
        ] {
            let arguments = delimiter.map(|delimiter| vec!["--delimiter", delimiter]).unwrap_or_default();
            let output = call_on(&backend, &module, &arguments, request);
            assert_eq!(ended(&output), (expected, "", Some(0)), "{delimiter:?}, {request:?} on {backend}");
        }
    }
}

#[test]
fn a_request_is_standard_input_or_a_file() {
    let scratch = Scratch::new();
    let module = scratch.file("p.wat", bracketing());
    let file = scratch.file("request", "of the file");
    let missing = scratch.path("missing").display().to_string();
    for (arguments, expected) in
        [(&["--stdin", &file][..], "[of the file\n]"), (&["--stdin", "-"], "[of the pipe\n]"), (&[], "[of the pipe\n]")]
    {
        let output = fed(command(&["call", &module]).args(arguments), b"of the pipe");
        assert_eq!(ended(&output), (expected, "", Some(0)), "{arguments:?}");
    }
    let output = mistctl(&["call", &module, "--stdin", &missing]);
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)));
    assert!(text(&output.stderr).contains(&missing), "{}", text(&output.stderr));
}

#[test]
fn a_plugin_that_takes_its_request_has_it_whole_and_unchanged() {
    let scratch = Scratch::new();
    // Nothing is left for `igets`.
    let run = "(param $address i32) (param $length i32)
        (call $oputs (local.get $address) (local.get $length))
        (if (i64.ne (call $igets) (i64.const 0)) (then (unreachable)))
        (call $oputs (i32.const 2048) (i32.const 1))";
    let module = scratch.file("p.wat", plugin("!", run));
    let large = a_mebibyte();
    for backend in backends() {
        for request in [&b""[..], b"a\nb", b"\xff\0\n", &large] {
            for arguments in [&[][..], &["--delimiter", "nul"]] {
                let output = call_on(&backend, &module, arguments, request);
                assert!(output.stdout == [request, b"!"].concat(), "{} bytes on {backend}", request.len());
                assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)), "{backend}");
            }
        }
    }
}

#[test]
fn what_a_plugin_writes_is_byte_for_byte_and_apart() {
    let scratch = Scratch::new();
    let run = "
        (call $oputs (i32.const 2048) (i32.const 256))
        (call $eputs (i32.const 2176) (i32.const 128))
        (call $oputs (i32.const 2048) (i32.const 1))
        (call $eputs (i32.const 2048) (i32.const 2))";
    let bytes = all_bytes();
    let module = scratch.file("p.wat", plugin(&bytes, run));
    for backend in backends() {
        let output = call_on(&backend, &module, &[], "");
        assert_eq!(output.stdout, [&bytes[..], &[0]].concat(), "{backend}");
        assert_eq!(output.stderr, [&bytes[128..], &[0, 1]].concat(), "{backend}");
        assert_eq!(output.status.code(), Some(0), "{backend}");
    }
}

#[test]
fn a_plugin_has_from_wasi_its_environment_and_a_log_and_nothing_more() {
    let scratch = Scratch::new();
    let environment = listing("environ").replace("(call $print (i32.const 1)", "(call $oputs");
    let run = format!(
        "{environment}
        (if (call $args_sizes_get (i32.const 1016) (i32.const 1020)) (then (unreachable)))
        (if (i32.load (i32.const 1016)) (then (unreachable)))
        (if (call $read (i32.const 0)) (then (unreachable)))
        (if (i32.ne (call $open (i32.const 3) (i32.const 2048) (i32.const 3) (i32.const 0) (i64.const {READ}))
                    (i32.const {BADF}))
          (then (unreachable)))
        {} {}",
        print(1, 2048, 3),
        print(2, 2052, 3)
    );
    let module = scratch.file("p.wat", plugin("one\ntwo", &run));
    let request = scratch.file("request", "the request");
    for backend in backends() {
        for (arguments, expected) in [
            (&[][..], ""),
            (&["--env", "METHOD=POST"], "METHOD=POST\0"),
            (&["--env", "B=2", "--env", "A=x=y"], "B=2\0A=x=y\0"),
        ] {
            let mut command = command(&["call", &module, "--backend", &backend, "--stdin", &request]);
            let output = fed(command.args(arguments).env("SECRET", "inherited"), b"mistctl's own input");
            assert_eq!(ended(&output), (expected, "log: one\nlog: two\n", Some(0)), "{backend}");
        }
    }
}

#[test]
fn a_plugins_trap_is_status_3_and_what_it_wrote_before_stays() {
    let scratch = Scratch::new();
    let run = "
        (call $oputs (i32.const 2048) (i32.const 4))
        (call $eputs (i32.const 2052) (i32.const 4))
        unreachable";
    let module = scratch.file("p.wat", plugin("out\nerr\n", run));
    let quiet =
        scratch.file("quiet.wat", plugin("out\n", &run.replace("(call $eputs (i32.const 2052) (i32.const 4))", "")));
    for backend in backends() {
        let output = call_on(&backend, &module, &[], "");
        assert_eq!((text(&output.stdout), output.status.code()), ("out\n", Some(3)), "{backend}");
        let expected = format!("err\nerror: {module}: trap in `run`: unreachable executed\n");
        assert!(text(&output.stderr).starts_with(&expected), "{backend}: {}", text(&output.stderr));
        let output = call_on(&backend, &quiet, &["--error-format", "json"], "");
        assert_eq!(text(&output.stdout), "out\n", "{backend}");
        let report = report(&output);
        let found = (&report["kind"], &report["trap"], &report["export"]);
        assert_eq!(found, (&json!("trap"), &json!("unreachable"), &json!("run")), "{backend}");
    }
}

#[test]
fn a_trap_while_a_plugin_frees_is_a_warning() {
    let scratch = Scratch::new();
    let freeing =
        |free: &str| bracketing().replace(r#""free") (param i32))"#, &format!(r#""free") (param i32) {free})"#));
    let module = scratch.file("p.wat", freeing("unreachable"));
    for backend in backends() {
        let output = call_on(&backend, &module, &[], "a");
        assert_eq!((text(&output.stdout), output.status.code()), ("[a\n]", Some(0)), "{backend}");
        assert!(text(&output.stderr).starts_with("warning: "), "{backend}: {}", text(&output.stderr));
        // Where nothing was given, there is nothing to free.
        assert_eq!(ended(&call_on(&backend, &module, &[], "")), ("", "", Some(0)), "{backend}");
    }
    let module = scratch.file("p.wat", freeing(""));
    assert_eq!(ended(&fed(&mut command(&["call", &module]), b"a")), ("[a\n]", "", Some(0)));
}

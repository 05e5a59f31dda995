//! Standard input, output and error: their bytes, terminals, and pipes that nobody reads.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::pty::{self, OpenptFlags};
use serde_json::json;

use crate::guests::{PIPE, echo, plugin, print, program};
use crate::support::{Scratch, answering, backends, command, fed, result, text};
use crate::{a_mebibyte, all_bytes, closed, ended, report, run_on};

#[test]
fn a_program_reads_mistctls_input_or_a_file_and_its_output_is_byte_for_byte() {
    let scratch = Scratch::new();
    let module = scratch.file("echo.wat", echo());
    let bytes = a_mebibyte();
    let file = scratch.file("input", &bytes);
    for backend in backends() {
        let arguments = ["run", &module, "--backend", &backend];
        for output in [
            fed(&mut command(&arguments), &bytes),
            fed(command(&arguments).args(["--stdin", "-"]), &bytes),
            fed(command(&arguments).args(["--stdin", &file]), b"not this"),
        ] {
            assert!(output.stdout == bytes, "{backend}: {} bytes", output.stdout.len());
            assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)), "{backend}");
        }
        assert_eq!(ended(&run_on(&backend, &module, &[])), ("", "", Some(0)), "{backend}");
    }
}

#[test]
fn a_program_converses() {
    let scratch = Scratch::new();
    let module = scratch.file("echo.wat", echo());
    let mut command = command(&["run", &module]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("mistctl starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = child.stdout.take().expect("a pipe");
    let (sender, answers) = mpsc::channel();
    thread::spawn(move || {
        let mut byte = [0];
        while let Ok(1) = stdout.read(&mut byte) {
            let _ = sender.send(byte[0]);
        }
    });
    // Without a line's end, and without an end of the input.
    for byte in *b"ab\nc" {
        stdin.write_all(&[byte]).expect("written");
        assert_eq!(answers.recv_timeout(Duration::from_secs(60)), Ok(byte));
    }
    drop(stdin);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn standard_output_and_error_are_the_programs_and_stay_apart() {
    let scratch = Scratch::new();
    let bytes = all_bytes();
    let writes = [print(1, 2048, 256), print(2, 2048 + 128, 128), print(1, 2048, 1), print(2, 2048, 2)].concat();
    let module = scratch.file("p.wat", program(&bytes, &writes));
    for backend in backends() {
        let output = run_on(&backend, &module, &[]);
        assert_eq!(output.stdout, [&bytes[..], &[0]].concat(), "{backend}");
        assert_eq!(output.stderr, [&bytes[128..], &[0, 1]].concat(), "{backend}");
        assert_eq!(output.status.code(), Some(0), "{backend}");
    }
}

/// A program that reads four bytes and prints them.
fn reading_four() -> String {
    program(
        "",
        "(i64.store (i32.const 1000) (i64.const 0x0000_0004_0001_0000))
        (if (call $fd_read (i32.const 0) (i32.const 1000) (i32.const 1) (i32.const 1008)) (then (unreachable)))
        (call $print (i32.const 1) (i32.const 65536) (i32.load (i32.const 1008)))",
    )
}

#[test]
fn input_goes_on_for_others_where_the_program_stopped() {
    let scratch = Scratch::new();
    let module = scratch.file("program.wat", reading_four());
    let lines = scratch.file("lines", "one\ntwo\n");
    for backend in backends() {
        let run = |stdin: Stdio| command(&["run", &module, "--backend", &backend]).stdin(stdin).output();
        let (mut pipe, mut writer) = io::pipe().expect("a pipe");
        writer.write_all(b"one\ntwo\n").expect("written");
        drop(writer);
        let output = run(pipe.try_clone().expect("another end").into()).expect("mistctl starts");
        let mut rest = String::new();
        pipe.read_to_string(&mut rest).expect("read");
        assert_eq!((ended(&output), &*rest), (("one\n", "", Some(0)), "two\n"), "a pipe on {backend}");

        let mut file = fs::File::open(&lines).expect("opened");
        let output = run(file.try_clone().expect("another end").into()).expect("mistctl starts");
        let mut rest = String::new();
        file.read_to_string(&mut rest).expect("read");
        assert_eq!((ended(&output), &*rest), (("one\n", "", Some(0)), "two\n"), "a file on {backend}");
    }
}

/// Both ends of a terminal, and its path.
fn terminal() -> (OwnedFd, fs::File, String) {
    let ours = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    pty::grantpt(&ours).expect("granted");
    pty::unlockpt(&ours).expect("unlocked");
    let name = pty::ptsname(&ours, Vec::new()).expect("its name").into_string().expect("text");
    let mut options = fs::File::options();
    // It is not to become the terminal of the tests themselves.
    let theirs = options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed()).open(&name);
    (ours, theirs.expect("opened"), name)
}

#[test]
fn a_program_is_told_what_is_a_terminal() {
    let scratch = Scratch::new();
    // Ends with a bit for each stream that is one.
    let stream = |fd: u32| {
        format!(
            "(if (call $fd_fdstat_get (i32.const {fd}) (i32.const 1016)) (then (unreachable)))
            (if (i32.eq (i32.load8_u (i32.const 1016)) (i32.const 2))
              (then (local.set $bits (i32.or (local.get $bits) (i32.const {})))))",
            1 << fd
        )
    };
    let start = format!("(local $bits i32) {} {} {} (call $exit (local.get $bits))", stream(0), stream(1), stream(2));
    let module = scratch.file("program.wat", program("", &start));
    let (_ours, terminal, path) = terminal();
    let stdio = || Stdio::from(terminal.try_clone().expect("another end"));
    let status = |command: &mut Command| command.status().expect("mistctl starts").code();
    let piped = |command: &mut Command| command.output().expect("mistctl starts").status.code();
    assert_eq!(piped(&mut command(&["run", &module])), Some(0));
    assert_eq!(piped(command(&["run", &module]).stdin(stdio())), Some(1));
    assert_eq!(piped(command(&["run", &module]).stdout(stdio())), Some(2));
    assert_eq!(piped(command(&["run", &module]).stderr(stdio())), Some(4));
    assert_eq!(status(command(&["run", &module]).stdin(stdio()).stdout(stdio()).stderr(stdio())), Some(7));
    assert_eq!(piped(command(&["run", &module]).args(["--stdin", &path])), Some(1));
}

#[test]
fn a_closed_stream_is_an_error_number_for_a_program_and_no_panic() {
    let scratch = Scratch::new();
    for (fd, other) in [(1, 2), (2, 1)] {
        let start = format!(
            "(local $errno i32)
            (local.set $errno (call $write (i32.const {fd}) (i32.const 2048) (i32.const 3)))
            {}
            (call $exit (local.get $errno))",
            print(other, 2048, 3)
        );
        let module = scratch.file("p.wat", program("out", &start));
        for backend in backends() {
            let mut command = command(&["run", &module, "--backend", &backend]);
            let command = if fd == 1 { command.stdout(closed()) } else { command.stderr(closed()) };
            let output = command.output().expect("mistctl starts");
            let other = if fd == 1 { &output.stderr } else { &output.stdout };
            assert_eq!((text(other), output.status.code()), ("out", Some(PIPE)), "{fd} on {backend}");
        }
    }
    // mistctl's own errors have nowhere to go, and are errors all the same.
    let module = scratch.file("p.wat", program("", "unreachable"));
    let output = command(&["run", &module]).stderr(closed()).output().expect("mistctl starts");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn an_answer_that_nobody_reads_is_status_3_and_no_panic() {
    let scratch = Scratch::new();
    let plugin = scratch.file("plugin.wat", plugin("out", "(call $oputs (i32.const 2048) (i32.const 3))"));
    let package = scratch.file("package.wat", answering(&result("  result: Ok\n  files: {a: 'a: 1'}\n")));
    for arguments in [&["call", &plugin][..], &["generate", "x", "-p", &package]] {
        let output = command(arguments).stdout(closed()).output().expect("mistctl starts");
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let message = text(&output.stderr);
        assert!(message.starts_with("error: standard output cannot be written\n"), "{arguments:?}: {message}");
        let mut command = command(arguments);
        let report = report(&command.args(["--error-format", "json"]).stdout(closed()).output().expect("it starts"));
        let found = (&report["kind"], &report["file"]);
        assert_eq!(found, (&json!("file"), &json!("standard output")), "{arguments:?}");
    }
}

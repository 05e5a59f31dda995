//! The example program and the example plugins.

use std::fs;

use crate::support::{Scratch, backends, example};
use crate::{call_on, ended, run_on};

/// As `command-c/command.c` says at its head.
#[test]
fn the_example_program_prints_what_it_should_on_every_backend() {
    let scratch = Scratch::new();
    // Its first argument is its file's name.
    let module = scratch.file("command", fs::read(example("command-c.wasm")).expect("read"));
    fs::create_dir_all(scratch.path("data/notes")).expect("folders");
    fs::write(scratch.path("data/notes/a.txt"), "").expect("written");
    fs::write(scratch.path("data/greeting.txt"), "Hello from the host.\n").expect("written");
    fs::write(scratch.path("secret"), "secret").expect("written");
    let data = format!("{}::/data", scratch.path("data").display());
    let input = example("command.stdin.txt");
    let expected = fs::read_to_string(example("command.expected.txt")).expect("read");
    // `/etc/passwd` is below no directory that there is, so that the C library does not even ask for it.
    let log = "denied: path_open: ../secret: not granted\ndenied: path_open: escape: not granted\ncommand: done\n";
    for backend in backends() {
        let mut arguments = vec!["--dir", &data, "--stdin", &input];
        for variable in ["LANG=C", "EMPTY=", "GREETING=hello there", "EXIT=3"] {
            arguments.extend(["--env", variable]);
        }
        arguments.extend(["--", "--flag", "two words", ""]);
        assert_eq!(ended(&run_on(&backend, &module, &arguments)), (&*expected, log, Some(3)), "{backend}");
        assert_eq!(fs::read_dir(scratch.path("data")).expect("read").count(), 2, "{backend}");
    }
}

#[test]
fn the_example_plugins_greet_on_every_backend() {
    let (asking, taking) = (example("httpwasm-c.wasm"), example("httpwasm-direct-c.wasm"));
    for backend in backends() {
        for (module, arguments, request, stdout, stderr) in [
            (&asking, &[][..], "ann\nbob\n", "hello, ann\nhello, bob\n", ""),
            (&asking, &[], "last", "hello, last\n", ""),
            (&asking, &[], "", "", ""),
            (&asking, &[], "ann\n\n", "hello, ann\n", "empty record\n"),
            (&asking, &["--delimiter", "nul"], "ann\0bob", "hello, ann\nhello, bob\n", ""),
            (&asking, &["--delimiter", "none"], "ann\nbob\n", "hello, ann\nbob\n", ""),
            (&taking, &[], "ann\n", "hello, ann\n", ""),
            (&taking, &[], "ann\nbob\n", "hello, ann\nbob\n", ""),
            (&taking, &[], "", "", "empty record\n"),
        ] {
            let output = call_on(&backend, module, arguments, request);
            assert_eq!(ended(&output), (stdout, stderr, Some(0)), "{module} {request:?} on {backend}");
        }
    }
}

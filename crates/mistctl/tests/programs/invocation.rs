//! What is given to a guest on the command line: arguments, the environment, and what is malformed there.

use serde_json::{Value, json};

use crate::guests::{listing, plugin, print, program};
use crate::support::{Scratch, backends, command, mistctl, text};
use crate::{ended, run_on};

#[test]
fn a_program_has_its_file_name_and_what_stands_after_two_dashes_as_arguments() {
    let scratch = Scratch::new();
    let module = scratch.file("tool.wat", program("", &listing("args")));
    for backend in backends() {
        assert_eq!(ended(&run_on(&backend, &module, &[])), ("tool.wat\0", "", Some(0)), "{backend}");
        let output = run_on(&backend, &module, &["--", "--env", "A=1", "two words", "", "--", "ü"]);
        assert_eq!(ended(&output), ("tool.wat\0--env\0A=1\0two words\0\0--\0ü\0", "", Some(0)), "{backend}");
    }
    // Those that begin with no hyphen need no dashes in front of them.
    let output = mistctl(&["run", &module, "one", "--env", "A=1", "two words", "--", "--three"]);
    assert_eq!(ended(&output), ("tool.wat\0one\0two words\0--three\0", "", Some(0)));
    // An unknown option is mistctl's.
    assert_eq!(mistctl(&["run", &module, "--option"]).status.code(), Some(2));
}

#[test]
fn a_program_has_the_environment_that_it_is_given_and_no_other() {
    let scratch = Scratch::new();
    let module = scratch.file("p.wat", program("", &listing("environ")));
    for backend in backends() {
        for (arguments, expected) in [
            (&[][..], ""),
            (&["--env", "LANG=en"], "LANG=en\0"),
            (&["--env", "B=2=3", "--env", "A=", "--env", "C=two words"], "B=2=3\0A=\0C=two words\0"),
            // A name alone takes the value that mistctl has.
            (&["--env", "B"], "B=inherited\0"),
        ] {
            let mut command = command(&["run", &module, "--backend", &backend]);
            let output = command.args(arguments).env("B", "inherited").env("SECRET", "inherited").output();
            assert_eq!(ended(&output.expect("mistctl starts")), (expected, "", Some(0)), "{backend}");
        }
    }
}

#[test]
fn malformed_variables_directories_and_delimiters_are_status_2() {
    let scratch = Scratch::new();
    let program = scratch.file("program.wat", program("ran", &print(1, 2048, 3)));
    let plugin = scratch.file("plugin.wat", plugin("ran", "(call $oputs (i32.const 2048) (i32.const 3))"));
    for arguments in [
        &["run"][..],
        &["run", &program, "--env", "NAME"],
        &["run", &program, "--env", "=value"],
        &["run", &program, "--env", "=value=value"],
        &["run", &program, "--env", ""],
        &["run", &program, "--dir", ""],
        &["run", &program, "--dir", ":ro"],
        &["run", &program, "--dir", "::/data"],
        &["run", &program, "--dir", ".::"],
        &["run", &program, "--dir", ".:::ro"],
        &["run", &program, "--dir", ".::/:RO"],
        &["run", &program, "--dir", ".::/:ro/"],
        &["run", &program, "--delimiter", "nul"],
        &["call"],
        &["call", &plugin, "--env", "NAME"],
        &["call", &plugin, "--dir", "."],
        &["call", &plugin, "--delimiter", ""],
        &["call", &plugin, "--delimiter", "ab"],
        &["call", &plugin, "--delimiter", "ü"],
        &["call", &plugin, "--", "argument"],
    ] {
        let output = mistctl(arguments);
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(2)), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
        // Before the arguments, so that no `--` is in front of it.
        let output = command(&["--error-format", "json"]).args(arguments).output().expect("mistctl starts");
        let report: Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
        assert_eq!((&report["kind"], output.status.code()), (&json!("usage"), Some(2)), "{arguments:?}");
    }
    // Nothing but the malformed parts was wrong.
    assert_eq!(ended(&mistctl(&["run", &program, "--env", "A=", "--dir", ".::x:ro"])), ("ran", "", Some(0)));
    assert_eq!(ended(&mistctl(&["call", &plugin, "--env", "A=", "--delimiter", ";"])), ("ran", "", Some(0)));
}

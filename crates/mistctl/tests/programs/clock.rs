//! Clocks, random numbers, and waiting for input or for a time.

use std::io::{self, Write};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::guests::{plugin, print, program, waiting};
use crate::run_on;
use crate::support::{Scratch, backends, command, text};

#[test]
fn a_program_waits_for_input_or_for_a_time() {
    let scratch = Scratch::new();
    let soon = scratch.file("soon.wat", waiting(1_000_000));
    let late = scratch.file("late.wat", waiting(3_600_000_000_000));
    let file = scratch.file("file", "input");
    for backend in backends() {
        let run = |module: &str, stdin: Stdio| {
            let output = command(&["run", module, "--backend", &backend]).stdin(stdin).output().expect("it starts");
            assert_eq!((text(&output.stdout), text(&output.stderr)), ("", ""), "{backend}");
            output.status.code()
        };
        // The writer is still there, so that there may be something to come.
        let (reader, mut writer) = io::pipe().expect("a pipe");
        assert_eq!(run(&soon, reader.try_clone().expect("another end").into()), Some(12), "{backend}");
        writer.write_all(b"x").expect("written");
        assert_eq!(run(&late, reader.try_clone().expect("another end").into()), Some(11), "{backend}");
        // Nobody took it.
        assert_eq!(run(&late, reader.into()), Some(11), "{backend}");
        // The end is something to read, too.
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(writer);
        assert_eq!(run(&late, reader.into()), Some(11), "{backend}");
        assert_eq!(run_on(&backend, &late, &["--stdin", &file]).status.code(), Some(11), "{backend}");
    }
}

/// Puts the time and a random number, 8 bytes each, to address 1016.
const TELLING: &str = "
    (if (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 1016)) (then (unreachable)))
    (if (call $random_get (i32.const 1024) (i32.const 8)) (then (unreachable)))";

#[test]
fn programs_have_the_systems_clock_and_random_numbers_and_plugins_the_same_ones_always() {
    let scratch = Scratch::new();
    let program = scratch.file("program.wat", program("", &(TELLING.to_owned() + &print(1, 1016, 16))));
    let oputs = "(call $oputs (i32.const 1016) (i32.const 16))";
    let plugin = scratch.file("plugin.wat", plugin("", &(TELLING.to_owned() + oputs)));
    let told = |verb: &str, module: &str, backend: &str| {
        let mut command = command(&[verb, module, "--backend", backend]);
        let output = command.env("SOURCE_DATE_EPOCH", "1000").output().expect("mistctl starts");
        let bytes: [u8; 16] = output.stdout.try_into().expect("16 bytes");
        let (time, number) = bytes.split_at(8);
        (u64::from_le_bytes(time.try_into().expect("8")), u64::from_le_bytes(number.try_into().expect("8")))
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    for backend in backends() {
        let before = now();
        let (first, second) = (told("run", &program, &backend), told("run", &program, &backend));
        assert!(before <= first.0 && first.0 < second.0 && second.0 <= now(), "{backend}: {first:?} {second:?}");
        assert_ne!(first.1, second.1, "{backend}");
        // SplitMix64's first number from the seed 0.
        assert_eq!(told("call", &plugin, &backend), (1_000_000_000_000, 0xe220_a839_7b1d_cdaf), "{backend}");
    }
}

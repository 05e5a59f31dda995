//! Limits on time, fuel, output, memory and the stack.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::guests::{READ, doing, echo, plugin, print, program, waiting};
use crate::support::{Scratch, backends, command, mistctl, text};
use crate::{ended, report, run_on};

#[test]
fn a_program_that_waits_for_input_is_ended_in_time() {
    let scratch = Scratch::new();
    let reading = scratch.file("reading.wat", echo());
    let waiting = scratch.file("waiting.wat", waiting(3_600_000_000_000));
    for backend in backends() {
        for module in [&reading, &waiting] {
            let (reader, _writer) = io::pipe().expect("a pipe");
            let mut command = command(&["run", module, "--backend", &backend, "--error-format", "json"]);
            let output = command.args(["--timeout", "50ms"]).stdin(reader).output().expect("it starts");
            assert_eq!(report(&output)["kind"], json!("timed-out"), "{module} on {backend}");
        }
    }
}

#[test]
fn a_program_whose_output_nobody_reads_is_ended_in_time() {
    let scratch = Scratch::new();
    let ever = format!("(loop $ever {} (br $ever))", print(1, 2048, 60_000));
    let module = scratch.file("program.wat", program("abc", &ever));
    for backend in backends() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let mut command = command(&["run", &module, "--backend", &backend, "--error-format", "json"]);
        let output = command.args(["--timeout", "50ms"]).stdout(writer).output().expect("it starts");
        assert_eq!(report(&output)["kind"], json!("timed-out"), "{backend}");
    }
}

#[test]
fn a_program_that_has_the_host_work_is_ended_in_time() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    fs::create_dir(&data).expect("a folder");
    for name in 0..5_000 {
        fs::write(data.join(name.to_string()), "").expect("written");
    }
    // It takes no room.
    fs::File::create(data.join("f")).and_then(|file| file.set_len(8 << 30)).expect("written");
    let open = format!(
        "(if (call $open (i32.const 3) (i32.const 2048) (i32.const 1) (i32.const 0) (i64.const {}))
          (then (unreachable)))",
        READ | 1 << 2
    );
    // 64 buffers of 64 MiB, all the same.
    let buffers = "
        (local.set $at (i32.const 4096))
        (loop $more
          (i32.store (local.get $at) (i32.const 65536))
          (i32.store offset=4 (local.get $at) (i32.const 0x400_0000))
          (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 4608))))";
    for (function, first, call) in [
        ("random_get", "", "(call $random_get (i32.const 65536) (i32.const 0x400_0000))"),
        (
            "fd_pread",
            &*(open + buffers),
            "(call $fd_pread (i32.load (i32.const 1012)) (i32.const 4096) (i32.const 64) (i64.const 0) (i32.const 1016))",
        ),
        (
            "fd_readdir",
            "",
            "(call $fd_readdir (i32.const 3) (i32.const 4096) (i32.const 1024) (i64.const 0) (i32.const 1016))",
        ),
        // Clocks, for as many zeros.
        (
            "poll_oneoff",
            "",
            "(call $poll_oneoff (i32.const 65536) (i32.const 0x10_0000) (i32.const 10000) (i32.const 1016))",
        ),
    ] {
        let ever = format!("(local $at i32) {first} (loop $ever (drop {call}) (br $ever))");
        let module =
            program("f", &ever).replace(r#"(memory (export "memory") 2)"#, r#"(memory (export "memory") 1100)"#);
        let module = scratch.file("program.wat", module);
        for backend in backends() {
            let grant = format!("{}::/data:ro", data.display());
            let before = Instant::now();
            let arguments = ["--dir", &grant, "--timeout", "200ms", "--error-format", "json"];
            let report = report(&run_on(&backend, &module, &arguments));
            assert_eq!(report["kind"], json!("timed-out"), "{function} on {backend}");
            // To compile and to give the memory back may take long, too, on a busy machine; ten thousand such calls
            // take minutes.
            assert!(before.elapsed() < Duration::from_secs(10), "{function} on {backend}: {:?}", before.elapsed());
        }
    }
}

#[test]
fn a_guest_without_an_end_is_ended_by_the_limit_on_time_and_by_that_on_fuel() {
    let scratch = Scratch::new();
    let ever = "(loop $ever (br $ever))";
    let program = scratch.file("program.wat", program("", ever));
    let plugin = scratch.file("plugin.wat", plugin("", ever));
    let package = scratch.file("package.wat", doing("", ever, ""));
    for backend in backends() {
        for arguments in [&["run", &program][..], &["call", &plugin], &["generate", "x", "-p", &package]] {
            let ended = |limit: [&str; 2]| {
                let mut command = command(arguments);
                report(
                    &command
                        .args(["--backend", &backend, "--error-format", "json"])
                        .args(limit)
                        .output()
                        .expect("it starts"),
                )
            };
            let late = ended(["--timeout", "100ms"]);
            assert_eq!(
                (&late["kind"], &late["limit_ms"]),
                (&json!("timed-out"), &json!(100)),
                "{backend} {arguments:?}"
            );
            let dry = ended(["--fuel", "20k"]);
            let found = (&dry["kind"], &dry["limit"], &dry["used"]);
            assert_eq!(found, (&json!("out-of-fuel"), &json!(20_000), &json!(20_001)), "{backend} {arguments:?}");
        }
    }
}

#[test]
fn a_program_that_prints_more_than_it_may_is_told_that_there_is_no_space_left() {
    const NOSPC: i32 = 51;
    let scratch = Scratch::new();
    let write = |length: u32| format!("(call $write (i32.const 1) (i32.const 2048) (i32.const {length}))");
    let module = scratch.file("two.wat", program("abcdef", &format!("(drop {}) (call $exit {})", write(4), write(2))));
    let warning = |limit: u32| {
        format!("warning: the standard output is longer than {limit} bytes; --max-output raises the limit\n")
    };
    for backend in backends() {
        let run = |limit| run_on(&backend, &module, &["--max-output", limit]);
        assert_eq!(ended(&run("6")), ("abcdab", "", Some(0)), "{backend}");
        // The last write is done in part, and says so.
        assert_eq!(ended(&run("5")), ("abcda", &*warning(5), Some(0)), "{backend}");
        assert_eq!(ended(&run("4")), ("abcd", &*warning(4), Some(NOSPC)), "{backend}");
        assert_eq!(ended(&run("unlimited")), ("abcdab", "", Some(0)), "{backend}");
    }
}

#[test]
fn a_program_is_told_once_of_output_that_is_too_long_and_of_each_stream() {
    let scratch = Scratch::new();
    let write = |fd: u32| format!("(drop (call $write (i32.const {fd}) (i32.const 2048) (i32.const 3)))");
    let writes = [1, 2, 1, 2, 1, 2].map(write).concat();
    let module = scratch.file("program.wat", program("abc", &writes));
    let output = mistctl(&["run", &module, "--max-output", "4"]);
    let stderr = "\
abc
warning: the standard output is longer than 4 bytes; --max-output raises the limit
a
warning: the standard error is longer than 4 bytes; --max-output raises the limit
";
    assert_eq!(ended(&output), ("abca", stderr, Some(0)));
}

#[test]
fn a_program_that_waits_is_ended_in_time_too() {
    let scratch = Scratch::new();
    let wait = r#"
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll_oneoff (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 512)))"#;
    let module = program("", wait);
    let module = scratch.file("program.wat", module);
    let output = mistctl(&["run", &module, "--timeout", "50ms", "--error-format", "json"]);
    assert_eq!(report(&output)["kind"], json!("timed-out"));
}

#[test]
fn memory_and_stack_are_as_large_as_is_said() {
    let scratch = Scratch::new();
    // Ends with the number of pages that its memory could grow to.
    let grow =
        "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (call $exit (memory.size))";
    let grow = scratch.file("grow.wat", program("", grow));
    let deep = program("", "(call $deep)").trim_end().strip_suffix(')').expect("a module").to_owned()
        + "(func $deep (call $deep)))";
    let deep = scratch.file("deep.wat", deep);
    for backend in backends() {
        let run = |arguments: &[&str]| {
            command(&["run"]).args(arguments).args(["--backend", &backend, "--error-format", "json"]).output()
        };
        let output = run(&[&grow, "--max-memory", "8MiB"]).expect("it starts");
        assert_eq!(output.status.code(), Some(128), "{backend}: {}", text(&output.stderr));
        let output = report(&run(&[&grow, "--max-memory", "64KiB"]).expect("it starts"));
        assert_eq!((&output["kind"], &output["limit"]), (&json!("too-much-memory"), &json!(65_536)), "{backend}");
        // Frames of 8 each.
        let output = report(&run(&[&deep, "--max-stack", "1000"]).expect("it starts"));
        assert_eq!((&output["kind"], &output["depth"]), (&json!("too-deep"), &json!(1_008)), "{backend}");
        let output = report(&run(&[&deep, "--max-stack", "unlimited"]).expect("it starts"));
        assert_eq!((&output["kind"], &output["trap"]), (&json!("trap"), &json!("stack-overflow")), "{backend}");
    }
}

#[test]
fn malformed_limits_are_status_2() {
    let scratch = Scratch::new();
    let program = scratch.file("program.wat", program("", ""));
    for limit in
        [["--timeout", "2"], ["--timeout", "-1s"], ["--fuel", "many"], ["--max-memory", "64mb"], ["--max-stack", "1k"]]
    {
        let output = command(&["run", &program]).args(limit).output().expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{limit:?}: {}", text(&output.stderr));
    }
}

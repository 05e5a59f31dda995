//! The built program with guests that do more than answer: programs (`run`), plugins (`call`), packages with a log.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use rustix::pty::{self, OpenptFlags};
use serde_json::{Value, json};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, answering, backends, command, escaped, example, fed, mistctl, result, text};

/// What guests here have from WASI. Addresses from 1000 on are theirs.
const WASI: &str = r#"
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fd_fdstat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))

  ;; Writes so many bytes at an address to a descriptor; answers with the error number.
  (func $write (param $fd i32) (param $address i32) (param $length i32) (result i32)
    (i32.store (i32.const 1000) (local.get $address))
    (i32.store (i32.const 1004) (local.get $length))
    (call $fd_write (local.get $fd) (i32.const 1000) (i32.const 1) (i32.const 1008)))
  ;; The same, where nothing can go wrong.
  (func $print (param $fd i32) (param $address i32) (param $length i32)
    (if (call $write (local.get $fd) (local.get $address) (local.get $length)) (then (unreachable))))
  ;; Reads up to 64 KiB to the address 65536; answers with how many bytes.
  (func $read (param $fd i32) (result i32)
    (i64.store (i32.const 1000) (i64.const 0x0001_0000_0001_0000))
    (if (call $fd_read (local.get $fd) (i32.const 1000) (i32.const 1) (i32.const 1008)) (then (unreachable)))
    (i32.load (i32.const 1008)))
  ;; Prints all that can be read from a descriptor.
  (func $copy (param $fd i32)
    (local $length i32)
    (loop $more
      (if (local.tee $length (call $read (local.get $fd)))
        (then (call $print (i32.const 1) (i32.const 65536) (local.get $length)) (br $more)))))
  ;; Opens a path; the new descriptor is put to 1012. Answers with the error number.
  (func $open (param $fd i32) (param $path i32) (param $length i32) (param $how i32) (param $rights i64) (result i32)
    (call $path_open (local.get $fd) (i32.const 1) (local.get $path) (local.get $length) (local.get $how)
      (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 1012)))
"#;

/// A program: what its `_start` does, and data at address 2048.
fn program(data: impl AsRef<[u8]>, start: &str) -> String {
    format!(
        r#"(module {WASI} (memory (export "memory") 2) (data (i32.const 2048) "{}") (func (export "_start") {start}))"#,
        escaped(data)
    )
}

/// A program that makes one call, and ends with its error number.
fn calling(data: impl AsRef<[u8]>, call: &str) -> String {
    program(data, &format!("(call $exit {call})"))
}

/// Copies standard input to standard output.
fn echo() -> String {
    program("", "(call $copy (i32.const 0))")
}

/// A program that opens a path below the first directory, and ends with the error number.
fn opening(path: &str, how: u32, rights: u64) -> String {
    let length = path.len();
    calling(
        path,
        &format!(
            "(call $open (i32.const 3) (i32.const 2048) (i32.const {length}) (i32.const {how}) (i64.const {rights}))"
        ),
    )
}

// The specification's numbers.
const CREATE: u32 = 1;
const TRUNCATE: u32 = 8;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 6;
const BADF: i32 = 8;
const PIPE: i32 = 64;
const NOTCAPABLE: i32 = 76;
const NOTSUP: i32 = 58;

/// A plugin: what its `run` does, and data at address 2048. Its `malloc` gives the bytes from 65536 on, and takes none
/// back.
fn plugin(data: impl AsRef<[u8]>, run: &str) -> String {
    format!(
        r#"
(module
  (import "httpwasm" "igets" (func $igets (result i64)))
  (import "httpwasm" "oputs" (func $oputs (param i32 i32)))
  (import "httpwasm" "eputs" (func $eputs (param i32 i32)))
  {WASI}
  (memory (export "memory") 18)
  (data (i32.const 2048) "{}")
  (global $next (mut i32) (i32.const 65536))
  (func (export "malloc") (param $length i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get $length))))
  (func (export "free") (param i32))
  (func (export "run") {run}))
"#,
        escaped(data)
    )
}

/// A plugin that writes each record in brackets.
fn bracketing() -> String {
    plugin(
        "[]",
        "(local $record i64)
        (loop $more
          (local.set $record (call $igets))
          (if (i32.wrap_i64 (local.get $record))
            (then
              (call $oputs (i32.const 2048) (i32.const 1))
              (call $oputs (i32.wrap_i64 (i64.shr_u (local.get $record) (i64.const 32)))
                (i32.wrap_i64 (local.get $record)))
              (call $oputs (i32.const 2049) (i32.const 1))
              (br $more))))",
    )
}

/// A package that does something before it gives its description or its answer. The data is at address 2048.
fn doing(data: &str, first: &str, answer: &str) -> String {
    let data = escaped(data);
    answering(answer)
        .replacen("(module", &format!(r#"(module {WASI} (data (i32.const 2048) "{data}")"#), 1)
        .replace("(result i32) (i32.const 16))", &format!("(result i32) {first} (i32.const 16))"))
        .replace("(i64.store (i32.const 8)", &format!("{first} (i64.store (i32.const 8)"))
}

/// WebAssembly text that prints bytes of the data.
fn print(fd: u32, address: u32, length: usize) -> String {
    format!("(call $print (i32.const {fd}) (i32.const {address}) (i32.const {length}))")
}

fn run_on(backend: &str, module: &str, arguments: &[&str]) -> Output {
    command(&["run", "--backend", backend, module]).args(arguments).output().expect("mistctl starts")
}

fn call_on(backend: &str, module: &str, arguments: &[&str], request: impl AsRef<[u8]>) -> Output {
    fed(command(&["call", "--backend", backend, module]).args(arguments), request.as_ref())
}

/// What was printed, which is text, and the status.
fn ended(output: &Output) -> (&str, &str, Option<i32>) {
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// The error as JSON, which has to be alone on standard error, with status 3.
fn report(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stderr).expect("one JSON object")
}

/// More than any buffer or pipe on the way holds, and no text.
fn a_mebibyte() -> Vec<u8> {
    (0u32..1 << 20).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// Every byte there is, and no text.
fn all_bytes() -> Vec<u8> {
    (0..=255).collect()
}

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

/// Prints what `sizes` and `get` tell: strings with a NUL after each.
fn listing(strings: &str) -> String {
    format!(
        "(if (call ${strings}_sizes_get (i32.const 1016) (i32.const 1020)) (then (unreachable)))
        (if (call ${strings}_get (i32.const 4096) (i32.const 65536)) (then (unreachable)))
        (call $print (i32.const 1) (i32.const 65536) (i32.load (i32.const 1020)))"
    )
}

#[test]
fn a_program_has_its_file_name_and_what_stands_after_two_dashes_as_arguments() {
    let scratch = Scratch::new();
    let module = scratch.file("tool.wat", program("", &listing("args")));
    for backend in backends() {
        assert_eq!(ended(&run_on(&backend, &module, &[])), ("tool.wat\0", "", Some(0)), "{backend}");
        let output = run_on(&backend, &module, &["--", "--env", "A=1", "two words", "", "--", "ü"]);
        assert_eq!(ended(&output), ("tool.wat\0--env\0A=1\0two words\0\0--\0ü\0", "", Some(0)), "{backend}");
    }
    // Without the dashes, arguments are mistctl's.
    assert_eq!(mistctl(&["run", &module, "argument"]).status.code(), Some(2));
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
        ] {
            let mut command = command(&["run", &module, "--backend", &backend]);
            let output = command.args(arguments).env("B", "inherited").env("SECRET", "inherited").output();
            assert_eq!(ended(&output.expect("mistctl starts")), (expected, "", Some(0)), "{backend}");
        }
    }
}

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
        ("(unreachable)", "unreachable", "unreachable code was reached"),
        (
            "(drop (i32.div_u (i32.const 1) (i32.load (i32.const 1020))))",
            "integer-division-by-zero",
            "division by zero",
        ),
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

/// Prints of each granted directory its name, and its file `f`.
fn surveying() -> String {
    program(
        "\nf",
        "(local $fd i32)
        (local.set $fd (i32.const 3))
        (loop $more
          (if (i32.eqz (call $fd_prestat_get (local.get $fd) (i32.const 1016)))
            (then
              (drop (call $fd_prestat_dir_name (local.get $fd) (i32.const 65536) (i32.load (i32.const 1020))))
              (call $print (i32.const 1) (i32.const 65536) (i32.load (i32.const 1020)))
              (call $print (i32.const 1) (i32.const 2048) (i32.const 1))
              (if (call $open (local.get $fd) (i32.const 2049) (i32.const 1) (i32.const 0) (i64.const 2))
                (then (unreachable)))
              (call $copy (i32.load (i32.const 1012)))
              (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
              (br $more))))",
    )
}

#[test]
fn directories_are_granted_under_their_own_names_or_others() {
    let scratch = Scratch::new();
    let module = scratch.file("p.wat", surveying());
    for name in ["one", "two"] {
        fs::create_dir(scratch.path(name)).expect("a folder");
        fs::write(scratch.path(name).join("f"), format!("the file in {name}\n")).expect("written");
    }
    let absolute = scratch.path("two").display().to_string();
    let renamed = format!("{absolute}::/srv/data");
    let own = format!("{absolute}\nthe file in two\n");
    for backend in backends() {
        for (directories, expected) in [
            (&[][..], ""),
            (&["one"], "one\nthe file in one\n"),
            (&[&absolute], &own),
            (&[&renamed], "/srv/data\nthe file in two\n"),
            (
                &["two::/two:ro", "one:ro", "one::."],
                "/two\nthe file in two\none\nthe file in one\n.\nthe file in one\n",
            ),
        ] {
            let mut command = command(&["run", &module, "--backend", &backend]);
            for directory in directories {
                command.args(["--dir", directory]);
            }
            let output = command.current_dir(&scratch.0).output().expect("mistctl starts");
            assert_eq!(ended(&output), (expected, "", Some(0)), "{directories:?} on {backend}");
        }
    }
}

#[test]
fn a_program_writes_below_a_directory() {
    let scratch = Scratch::new();
    let start = format!(
        "(if (call $open (i32.const 3) (i32.const 2048) (i32.const 1) (i32.const {CREATE}) (i64.const {WRITE}))
          (then (unreachable)))
        (call $print (i32.load (i32.const 1012)) (i32.const 2050) (i32.const 256))
        (if (call $path_create_directory (i32.const 3) (i32.const 2049) (i32.const 1)) (then (unreachable)))"
    );
    let module = scratch.file("p.wat", program([b"fd", &all_bytes()[..]].concat(), &start));
    for backend in backends() {
        let data = scratch.path(&backend);
        fs::create_dir(&data).expect("a folder");
        let output = run_on(&backend, &module, &["--dir", &data.display().to_string()]);
        assert_eq!(ended(&output), ("", "", Some(0)), "{backend}");
        assert_eq!(fs::read(data.join("f")).expect("read"), all_bytes(), "{backend}");
        assert!(data.join("d").is_dir(), "{backend}");
    }
}

#[test]
fn a_directory_granted_for_reading_is_read_and_not_changed() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    fs::create_dir(&data).expect("a folder");
    fs::write(data.join("f"), "as it was").expect("written");
    let path = "(i32.const 3) (i32.const 2048) (i32.const 1)";
    let reading = program(
        "f",
        &format!(
            "(if (call $open {path} (i32.const 0) (i64.const {READ})) (then (unreachable)))
        (call $copy (i32.load (i32.const 1012)))"
        ),
    );
    let reading = scratch.file("reading.wat", reading);
    let changing = [
        ("path_open: f", opening("f", 0, WRITE)),
        ("path_open: f", opening("f", 0, READ | WRITE)),
        ("path_open: f", opening("f", TRUNCATE, READ)),
        ("path_open: g", opening("g", CREATE, READ)),
        ("path_create_directory: g", calling("g", &format!("(call $path_create_directory {path})"))),
        ("path_unlink_file: f", calling("f", &format!("(call $path_unlink_file {path})"))),
    ];
    for (index, (call, module)) in changing.iter().enumerate() {
        let module = scratch.file("p.wat", module);
        for backend in backends() {
            let grant = format!("{}::/data:ro", data.display());
            let output = run_on(&backend, &reading, &["--dir", &grant]);
            assert_eq!(ended(&output), ("as it was", "", Some(0)), "{backend}");
            let output = run_on(&backend, &module, &["--dir", &grant]);
            let denied = format!("denied: {call}: not granted\n");
            assert_eq!(ended(&output), ("", &*denied, Some(NOTCAPABLE)), "{index} on {backend}");
            assert_eq!(fs::read(data.join("f")).expect("read"), b"as it was", "{index} on {backend}");
            assert!(!data.join("g").exists(), "{index} on {backend}");
        }
        // The same is no trouble where it was granted, so that it is the grant that decides.
        let copy = scratch.path(&format!("copy{index}"));
        fs::create_dir(&copy).expect("a folder");
        fs::copy(data.join("f"), copy.join("f")).expect("copied");
        let output = mistctl(&["run", &module, "--dir", &copy.display().to_string()]);
        assert_eq!(ended(&output), ("", "", Some(0)), "{index}");
    }
}

#[test]
fn no_path_leads_out_of_a_directory() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("data/sub")).expect("folders");
    fs::write(scratch.path("data/inside"), "").expect("written");
    let secret = scratch.file("secret", "secret");
    symlink("../secret", scratch.path("data/link")).expect("a link");
    let grant = format!("{}::/data", scratch.path("data").display());
    for (path, shown) in [
        ("../secret", "../secret"),
        ("sub/../../secret", "sub/../../secret"),
        ("link", "link"),
        (&secret, &secret),
        // A path is no terminal's command, and no line of its own.
        ("../\x1b[31m\nerror: no", "../\\u{1b}[31m\\nerror: no"),
    ] {
        let module = scratch.file("p.wat", opening(path, 0, READ));
        let denied = format!("denied: path_open: {shown}: not granted\n");
        for backend in backends() {
            let output = run_on(&backend, &module, &["--dir", &grant]);
            assert_eq!(ended(&output), ("", &*denied, Some(NOTCAPABLE)), "{path} on {backend}");
        }
    }
    let module = scratch.file("p.wat", opening("sub/../inside", 0, READ));
    assert_eq!(ended(&mistctl(&["run", &module, "--dir", &grant])), ("", "", Some(0)));
}

#[test]
fn a_pipe_in_a_directory_is_not_opened() {
    let scratch = Scratch::new();
    let pipe = scratch.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    // Opening it for reading would let this go on.
    let mut writer =
        std::process::Command::new("sh").args(["-c", "echo precious > \"$0\""]).arg(&pipe).spawn().expect("sh");
    let grant = format!("{}::/:ro", scratch.0.path().display());
    let module = scratch.file("program.wat", opening("pipe", 0, READ));
    let output = mistctl(&["run", &module, "--dir", &grant]);
    assert_eq!(ended(&output), ("", "denied: path_open: pipe: not granted\n", Some(NOTSUP)));
    // Not for ever: there is nobody left to wait for, if the writer has written already.
    let kept = std::process::Command::new("timeout").arg("10").arg("cat").arg(&pipe).output().expect("timeout");
    assert_eq!(text(&kept.stdout), "precious\n");
    assert!(writer.wait().expect("the writer ends").success());
}

#[test]
fn of_devices_only_those_are_opened_that_give_or_take_bytes() {
    let scratch = Scratch::new();
    for (device, denied, code) in [
        ("null", "", 0),
        ("zero", "", 0),
        ("urandom", "", 0),
        ("full", "denied: path_open: full: not granted\n", NOTSUP),
        ("tty", "denied: path_open: tty: not granted\n", NOTSUP),
    ] {
        let module = scratch.file("program.wat", opening(device, 0, READ | WRITE));
        let output = mistctl(&["run", &module, "--dir", "/dev::/dev"]);
        assert_eq!(ended(&output), ("", denied, Some(code)), "{device}");
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

/// A program that waits for its input (1) or for so many nanoseconds (2), and ends with the number of events, and which
/// the first is.
fn waiting(nanoseconds: u64) -> String {
    program(
        "",
        &format!(
            "(i64.store (i32.const 4096) (i64.const 1))
            (i32.store8 (i32.const 4104) (i32.const 1))
            (i64.store (i32.const 4144) (i64.const 2))
            (i32.store (i32.const 4160) (i32.const 1))
            (i64.store (i32.const 4168) (i64.const {nanoseconds}))
            (if (call $poll_oneoff (i32.const 4096) (i32.const 8192) (i32.const 2) (i32.const 1016))
              (then (unreachable)))
            (call $exit (i32.add (i32.mul (i32.load (i32.const 1016)) (i32.const 10)) (i32.load (i32.const 8192))))"
        ),
    )
}

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
            // To compile and to give the memory back may take long, too, on a busy machine; ten thousand such calls take
            // minutes.
            assert!(before.elapsed() < Duration::from_secs(10), "{function} on {backend}: {:?}", before.elapsed());
        }
    }
}

#[test]
fn without_a_directory_there_is_no_descriptor_to_open_from() {
    let scratch = Scratch::new();
    let module = scratch.file("p.wat", opening("f", 0, READ));
    for backend in backends() {
        assert_eq!(ended(&run_on(&backend, &module, &[])), ("", "", Some(BADF)), "{backend}");
    }
}

#[test]
fn what_cannot_be_granted_is_status_3_and_named_and_the_program_does_not_run() {
    let scratch = Scratch::new();
    let module = scratch.file("p.wat", program("ran", &print(1, 2048, 3)));
    let missing = scratch.path("missing").display().to_string();
    for (arguments, file) in [
        (&["--dir", &missing][..], &missing),
        (&["--dir", &format!("{missing}::/data:ro")], &missing),
        // A file is no directory.
        (&["--dir", &module], &module),
        (&["--stdin", &missing], &missing),
    ] {
        let output = command(&["run", &module]).args(arguments).output().expect("mistctl starts");
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)), "{arguments:?}");
        let message = text(&output.stderr);
        assert!(message.starts_with(&format!("error: {file} cannot be ")), "{arguments:?}: {message}");
        let mut command = command(&["run", &module, "--error-format", "json"]);
        let report = report(&command.args(arguments).output().expect("mistctl starts"));
        assert_eq!((&report["kind"], &report["file"]), (&json!("file"), &json!(file)), "{arguments:?}");
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

/// A pipe that nobody reads.
fn closed() -> Stdio {
    let (_, writer) = io::pipe().expect("a pipe");
    writer.into()
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
        let expected = format!("err\nerror: {module}: trap in `run`: unreachable code was reached\n");
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
        assert_eq!((&output["kind"], &output["height"]), (&json!("too-deep"), &json!(1_008)), "{backend}");
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

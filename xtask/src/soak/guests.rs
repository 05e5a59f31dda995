//! The guests, as WebAssembly text, and the configuration of the server.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

const PLUGIN: &str = r#"
    (import "httpwasm" "oputs" (func $oputs (param i32 i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 4)
    (func (export "malloc") (param i32) (result i32) (i32.const 0x20000))
    (func (export "free") (param i32))
    (func (export "run")"#;

const COMMAND: &str = r#"
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (data (i32.const 64) "Content-Type: text/plain\n\n")
    (data (i32.const 96) "file")
    ;; A subscription to the monotonic clock: 10 ms.
    (data (i32.const 144) "\01\00\00\00\00\00\00\00\80\96\98\00")
    (func $write (param $fd i32) (param $address i32) (param $length i32) (result i32)
        (i32.store (i32.const 8) (local.get $address))
        (i32.store (i32.const 12) (local.get $length))
        (call $fd_write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 16)))
    (func $read (param $length i32) (result i32)
        (i32.store (i32.const 8) (i32.const 0x10000))
        (i32.store (i32.const 12) (local.get $length))
        (if (call $fd_read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 16)) (then unreachable))
        (i32.load (i32.const 16)))
    (func $sleep (drop (call $poll_oneoff (i32.const 128) (i32.const 192) (i32.const 1) (i32.const 16))))
    (func $header (drop (call $write (i32.const 1) (i32.const 64) (i32.const 26))))
    (func (export "_start")"#;

/// Middleware that lets everything through.
const PASS: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "handle_request") (result i64) (i64.const 1))
    (func (export "handle_response") (param i32 i32)))"#;

/// A route to a guest that fails in its own way: name, whether it is a command, and what it does.
const FAULTS: &[(&str, bool, &str)] = &[
    ("loop", false, "(loop $ever (br $ever))"),
    ("trap", false, "unreachable"),
    ("exit", false, "(call $exit (i32.const 3))"),
    // Touches each page that it gets.
    (
        "fill",
        false,
        "(local $page i32)
        (loop $more
            (local.set $page (memory.grow (i32.const 1)))
            (if (i32.eq (local.get $page) (i32.const -1)) (then unreachable))
            (i64.store (i32.shl (local.get $page) (i32.const 16)) (i64.const -1))
            (br $more))",
    ),
    ("flood", false, "(loop $ever (call $oputs (i32.const 0) (i32.const 0x10000)) (br $ever))"),
    (
        "stream",
        true,
        "(call $header)
        (loop $ever (br_if $ever (i32.eqz (call $write (i32.const 1) (i32.const 0) (i32.const 0x10000)))))",
    ),
    (
        "log",
        true,
        "(call $header)
        (loop $more (br_if $more (i32.eqz (call $write (i32.const 2) (i32.const 0) (i32.const 0x10000)))))",
    ),
    ("deaf", true, "(call $header)"),
    ("reads", true, "(call $header) (loop $more (br_if $more (call $read (i32.const 0x8000))))"),
    ("slow", true, "(loop $more (call $sleep) (br_if $more (call $read (i32.const 0x400)))) (call $header)"),
    // Writes until there is no more room: `nospc`.
    (
        "disk",
        true,
        "(local $errno i32)
        (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 96) (i32.const 4) (i32.const 1) (i64.const 64)
            (i64.const 0) (i32.const 1) (i32.const 24)) (then unreachable))
        (loop $more
            (local.set $errno (call $write (i32.load (i32.const 24)) (i32.const 0) (i32.const 0x10000)))
            (br_if $more (i32.eqz (local.get $errno))))
        (if (i32.ne (local.get $errno) (i32.const 51)) (then unreachable))
        (call $header)",
    ),
];

/// Routes that are loaded all the time: name, kind, and module.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    ("plugin", "httpwasm", "httpwasm-c.wasm"),
    ("reused", "httpwasm", "httpwasm-c.wasm"),
    ("middleware", "httpwasm", "httpwasm-c.wasm"),
    ("command", "command", "cgi-c.wasm"),
    ("package", "package", "namespace-c.wasm"),
];

/// Writes all modules into a directory.
pub(super) fn write(directory: &Path) -> Result<()> {
    for (name, is_command, run) in FAULTS {
        let fields = if *is_command { COMMAND } else { PLUGIN };
        fs::write(directory.join(format!("{name}.wat")), format!("(module {fields} {run}))"))?;
    }
    fs::write(directory.join("pass.wat"), PASS)?;
    fs::create_dir(directory.join(DISK))?;
    for (_, _, module) in NEIGHBOURS {
        fs::copy(crate::root().join("examples/packages").join(module), directory.join(module))?;
    }
    Ok(())
}

/// The directory that the guest `disk` fills, with a disk of its own if the system lets everybody mount.
pub(super) const DISK: &str = "disk";

/// Returns the configuration. Each `generation` is another one, and the routes are the same.
pub(super) fn configuration(generation: usize, connections: usize, header_timeout: Duration) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!(
        "[server]\nlisten = '127.0.0.1:0'\nmax_connections = {connections}\nheader_timeout = '{}s'\n\
         write_timeout = '2s'\ngrace = '10s'\n[admin]\nlisten = '127.0.0.1:0'\n",
        header_timeout.as_secs()
    );
    for (name, kind, module) in NEIGHBOURS {
        let reuse = if *name == "reused" { "reuse = true, " } else { "" };
        let middleware = match *name {
            "middleware" => "middleware = [{ module = 'pass.wat', pool = { reuse = true, wait = '10s' } }]\n",
            _ => "",
        };
        let _ = writeln!(
            text,
            "[[route]]\npath = '/{name}'\nkind = '{kind}'\nmodule = '{module}'\nenv = {{ GENERATION = '{generation}' }}\n\
             {middleware}pool = {{ {reuse}wait = '10s' }}"
        );
    }
    for (name, is_command, _) in FAULTS {
        let dirs = match *name {
            "disk" => format!("dirs = [{{ host = '{DISK}', guest = '/disk', writable = true }}]\n"),
            _ => String::new(),
        };
        let kind = if *is_command { "command" } else { "httpwasm" };
        let _ = writeln!(
            text,
            "[[route]]\npath = '/{name}'\nkind = '{kind}'\nmodule = '{name}.wat'\nbody_timeout = '2s'\n{dirs}\
             pool = {{ size = {}, queue = 8, wait = '200ms' }}\n\
             limits = {{ timeout = '500ms', memory = '64MiB', output = '8MiB' }}",
            // The route that is attacked may use half of the processors.
            if *name == "loop" { processors.div_ceil(2) } else { 1 }
        );
    }
    text
}

//! Guests, as WebAssembly text.

use std::fs;
use std::path::Path;

/// What plugins import and export. `malloc` returns the same address for each record.
const PLUGIN: &str = r#"
    (import "httpwasm" "igets" (func $igets (result i64)))
    (import "httpwasm" "oputs" (func $oputs (param i32 i32)))
    (import "httpwasm" "eputs" (func $eputs (param i32 i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 40)
    (func (export "malloc") (param i32) (result i32) (i32.const 0x100000))
    (func (export "free") (param i32))"#;

/// What commands import and export.
const COMMAND: &str = r#"
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 40)
    (func $write (param $fd i32) (param $address i32) (param $length i32) (result i32)
        (i32.store (i32.const 8) (local.get $address))
        (i32.store (i32.const 12) (local.get $length))
        (call $fd_write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 16)))
    (func $put (param $address i32) (param $length i32)
        (if (call $write (i32.const 1) (local.get $address) (local.get $length)) (then unreachable)))
    (func $read (result i32)
        (i32.store (i32.const 8) (i32.const 0x10000))
        (i32.store (i32.const 12) (i32.const 0x8000))
        (if (call $fd_read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 16)) (then unreachable))
        (i32.load (i32.const 16)))
    (func $text (call $put (i32.const 0x400) (i32.const 26)))
    (data (i32.const 0x400) "Content-Type: text/plain\n\n")"#;

/// Writes the environment, each variable with a NUL.
const ENVIRONMENT: &str = r#"
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $environ (i32.const 0x80000) (i32.const 0x90000)))"#;

/// All plugins: name, module fields, and the body of `run`.
const PLUGINS: &[(&str, &str, &str)] = &[
    (
        "echo",
        "",
        r#"(local $record i64)
        (loop $next
            (local.set $record (call $igets))
            (if (i64.ne (local.get $record) (i64.const 0)) (then
                (call $oputs (i32.wrap_i64 (i64.shr_u (local.get $record) (i64.const 32)))
                    (i32.wrap_i64 (local.get $record)))
                (br $next))))"#,
    ),
    ("trap", "", "unreachable"),
    ("loop", "", "(loop $ever (br $ever))"),
    ("exit", "", "(call $exit (i32.const 3))"),
    ("fill", "", "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"),
    ("flood", "", "(loop $ever (call $oputs (i32.const 0) (i32.const 0x10000)) (br $ever))"),
    ("log", r#"(data (i32.const 64) "one line\nanother")"#, "(call $eputs (i32.const 64) (i32.const 16))"),
    // 1 MiB.
    (
        "large",
        "(global $left (mut i32) (i32.const 16))",
        "(loop $more
            (call $oputs (i32.const 0) (i32.const 0x10000))
            (global.set $left (i32.sub (global.get $left) (i32.const 1)))
            (br_if $more (global.get $left)))",
    ),
    ("bytes", r#"(data (i32.const 64) "\ff\00")"#, "(call $oputs (i32.const 64) (i32.const 2))"),
    ("environment", "", "ENVIRONMENT (call $oputs (i32.const 0x90000) (i32.load (i32.const 4)))"),
    (
        "count",
        r#"(global $count (mut i32) (i32.const 0x30))"#,
        "(global.set $count (i32.add (global.get $count) (i32.const 1)))
         (i32.store8 (i32.const 64) (global.get $count))
         (call $oputs (i32.const 64) (i32.const 1))",
    ),
];

/// All commands: name, module fields, and the body of `_start`.
const COMMANDS: &[(&str, &str, &str)] = &[
    (
        "cat",
        "",
        r#"(local $length i32)
        (call $text)
        (loop $next
            (local.set $length (call $read))
            (if (local.get $length) (then
                (call $put (i32.const 0x10000) (local.get $length))
                (br $next))))"#,
    ),
    (
        "variables",
        "",
        "(call $text) ENVIRONMENT (call $put (i32.const 0x90000) (i32.load (i32.const 4)))
         (drop (call $args_sizes (i32.const 0) (i32.const 4)))
         (drop (call $args (i32.const 0x80000) (i32.const 0x90000)))
         (call $put (i32.const 0x90000) (i32.load (i32.const 4)))",
    ),
    (
        "missing",
        r#"(data (i32.const 64) "Status: 404 Gone\nX-Own: a\nX-Own: b\nConnection: close\n\nnothing\n")"#,
        "(call $put (i32.const 64) (i32.const 62))",
    ),
    ("elsewhere", r#"(data (i32.const 64) "Location: /x\r\n\r\n")"#, "(call $put (i32.const 64) (i32.const 16))"),
    ("no-content", r#"(data (i32.const 64) "Status: 204\n\nbody")"#, "(call $put (i32.const 64) (i32.const 17))"),
    (
        "sized",
        r#"(data (i32.const 64) "Status: 200\nContent-Length: 5\n\nhello!")"#,
        "(call $put (i32.const 64) (i32.const 36))",
    ),
    (
        "short",
        r#"(data (i32.const 64) "Status: 200\nContent-Length: 5\n\nhello!")"#,
        "(call $put (i32.const 64) (i32.const 35))",
    ),
    (
        "long",
        r#"(data (i32.const 64) "Status: 200\nContent-Length: 5\n\nhello!")"#,
        "(call $put (i32.const 64) (i32.const 37))",
    ),
    ("headless", r#"(data (i32.const 64) "text")"#, "(call $put (i32.const 64) (i32.const 4))"),
    ("malformed", r#"(data (i32.const 64) "Status: 700\n\n")"#, "(call $put (i32.const 64) (i32.const 13))"),
    ("endless-header", "", "(loop $ever (call $put (i32.const 0x400) (i32.const 25)) (br $ever))"),
    ("fails", "", "(call $exit (i32.const 3))"),
    ("fails-late", "", "(call $text) (call $put (i32.const 0x400) (i32.const 7)) (call $exit (i32.const 3))"),
    ("traps-late", "", "(call $text) (call $put (i32.const 0x400) (i32.const 7)) unreachable"),
    (
        "flood",
        "",
        "(call $text) (loop $ever (drop (call $write (i32.const 1) (i32.const 0) (i32.const 0x10000))) (br $ever))",
    ),
    ("loop", "", "(loop $ever (br $ever))"),
    // Creates a file when it has read everything.
    (
        "keep",
        r#"(data (i32.const 64) "kept")"#,
        "(loop $next (br_if $next (call $read)))
         (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 1)
             (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 96)) (then unreachable))
         (call $text)",
    ),
    ("deaf", "", "(call $text)"),
];

/// A package with one output for any input.
const PACKAGE: &str = r#"(module
    (memory (export "memory") 1)
    (data (i32.const 16) "\00\01\00\00LENGTH")
    (data (i32.const 256) "OUTPUT")
    (func (export "__mistletoe_info") (result i32) (i32.const 16))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 0x8000))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32) (i32.const 16)))"#;

/// Writes all guests into a directory, as `plugin-NAME.wasm`, `command-NAME.wasm` and `package-NAME.wasm`.
pub(crate) fn write(directory: &Path) {
    let assembled = |name: String, text: &str| {
        let wasm = wat::parse_str(text.replace("ENVIRONMENT", ENVIRONMENT)).unwrap_or_else(|e| panic!("{name}: {e}"));
        fs::write(directory.join(name), wasm).expect("a file");
    };
    for (name, fields, run) in PLUGINS {
        let text = format!(r#"(module {PLUGIN} {fields} (func (export "run") {run}))"#);
        assembled(format!("plugin-{name}.wasm"), &text);
    }
    for (name, fields, start) in COMMANDS {
        let text = format!(r#"(module {COMMAND} {fields} (func (export "_start") {start}))"#);
        assembled(format!("command-{name}.wasm"), &text);
    }
    let result = |data: &str| format!("apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\ndata:\n{data}");
    for (name, output) in
        [("fails", result("  result: Err\n  message: no such version\n")), ("garbage", "a: [".to_owned())]
    {
        let length: String = (output.len() as u32).to_le_bytes().iter().map(|byte| format!("\\{byte:02x}")).collect();
        let output: String = output.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        assembled(format!("package-{name}.wasm"), &PACKAGE.replace("LENGTH", &length).replace("OUTPUT", &output));
    }
    for name in ["httpwasm-c.wasm", "namespace.wat"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        let wasm = wat::parse_file(path).expect("a module");
        fs::write(directory.join(Path::new(name).with_extension("wasm")), wasm).expect("a file");
    }
}

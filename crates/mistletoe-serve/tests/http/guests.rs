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
    // 256 KiB, as much as waits for a client after the end of a command.
    (
        "large",
        "(global $left (mut i32) (i32.const 4))",
        "(call $text)
         (loop $more
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 0x10000)))
            (global.set $left (i32.sub (global.get $left) (i32.const 1)))
            (br_if $more (global.get $left)))",
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

/// What middleware imports and exports. A guest adds `handle_request` and `handle_response`.
const MIDDLEWARE: &str = r#"
    (import "http_handler" "enable_features" (func $enable (param i32) (result i32)))
    (import "http_handler" "get_config" (func $config (param i32 i32) (result i32)))
    (import "http_handler" "log" (func $log (param i32 i32 i32)))
    (import "http_handler" "get_method" (func $method (param i32 i32) (result i32)))
    (import "http_handler" "set_method" (func $set_method (param i32 i32)))
    (import "http_handler" "get_uri" (func $uri (param i32 i32) (result i32)))
    (import "http_handler" "set_uri" (func $set_uri (param i32 i32)))
    (import "http_handler" "get_protocol_version" (func $version (param i32 i32) (result i32)))
    (import "http_handler" "get_source_addr" (func $source (param i32 i32) (result i32)))
    (import "http_handler" "get_header_names" (func $names (param i32 i32 i32) (result i64)))
    (import "http_handler" "get_header_values" (func $values (param i32 i32 i32 i32 i32) (result i64)))
    (import "http_handler" "set_header_value" (func $set (param i32 i32 i32 i32 i32)))
    (import "http_handler" "add_header_value" (func $add (param i32 i32 i32 i32 i32)))
    (import "http_handler" "remove_header" (func $remove (param i32 i32 i32)))
    (import "http_handler" "read_body" (func $read (param i32 i32 i32) (result i64)))
    (import "http_handler" "write_body" (func $write (param i32 i32 i32)))
    (import "http_handler" "get_status_code" (func $status (result i32)))
    (import "http_handler" "set_status_code" (func $set_status (param i32)))
    (memory (export "memory") 40)
    (global $next i64 (i64.const 0x700000001))
    (data (i32.const 0x400) "x-trail")
    ;; Writes all that can be read of a body back to it.
    (func $echo (param $kind i32)
        (local $read i64)
        (loop $more
            (local.set $read (call $read (local.get $kind) (i32.const 0x10000) (i32.const 0x8000)))
            (call $write (local.get $kind) (i32.const 0x10000) (i32.wrap_i64 (local.get $read)))
            (br_if $more (i64.eqz (i64.shr_u (local.get $read) (i64.const 32))))))
    ;; Appends a line to the response.
    (func $line (param $length i32)
        (i32.store8 (i32.add (i32.const 0x10000) (local.get $length)) (i32.const 0x0a))
        (call $write (i32.const 1) (i32.const 0x10000) (i32.add (local.get $length) (i32.const 1))))"#;

/// Writes 1 MiB of zeros as the response's body.
const LARGE: &str = "(func $large (local $left i32)
    (local.set $left (i32.const 16))
    (loop $more
        (call $write (i32.const 1) (i32.const 0x10000) (i32.const 0x10000))
        (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))";

/// All middleware: name, features, module fields, and the bodies of `handle_request` and `handle_response`. In the
/// latter, `$context` is 7 and `$failed` says whether the next handler failed.
const ALL_MIDDLEWARE: &[(&str, u32, &str, &str, &str)] = &[
    ("pass", 0, "", "(global.get $next)", ""),
    // Adds its configuration to a header of the request, and to one of the response.
    (
        "mark",
        2,
        "(func $mark (param $kind i32)
            (call $add (local.get $kind) (i32.const 0x400) (i32.const 7)
                (i32.const 0x500) (call $config (i32.const 0x500) (i32.const 0x100))))",
        "(call $mark (i32.const 0)) (global.get $next)",
        "(if (i32.ne (local.get $context) (i32.const 7)) (then unreachable)) (call $mark (i32.const 1))",
    ),
    // Responds with what it sees.
    (
        "show",
        0,
        "",
        "(call $line (call $method (i32.const 0x10000) (i32.const 0x8000)))
         (call $line (call $uri (i32.const 0x10000) (i32.const 0x8000)))
         (call $line (call $version (i32.const 0x10000) (i32.const 0x8000)))
         (call $line (call $source (i32.const 0x10000) (i32.const 0x8000)))
         (call $line (call $config (i32.const 0x10000) (i32.const 0x8000)))
         (call $line (i32.wrap_i64 (call $names (i32.const 0) (i32.const 0x10000) (i32.const 0x8000))))
         (call $set_status (i32.const 203))
         (i64.const 0)",
        "unreachable",
    ),
    (
        "rewrite",
        0,
        r#"(data (i32.const 64) "PUT/rewritten?to=this")"#,
        "(call $set_method (i32.const 64) (i32.const 3)) (call $set_uri (i32.const 67) (i32.const 18)) (global.get $next)",
        "",
    ),
    (
        "head",
        0,
        r#"(data (i32.const 64) "HEAD")"#,
        "(call $set_method (i32.const 64) (i32.const 4)) (global.get $next)",
        "",
    ),
    // `[`, the body, `]`.
    (
        "wrap-request",
        1,
        r#"(data (i32.const 64) "[]")"#,
        "(call $write (i32.const 0) (i32.const 64) (i32.const 1)) (call $echo (i32.const 0))
         (call $write (i32.const 0) (i32.const 65) (i32.const 1)) (global.get $next)",
        "",
    ),
    (
        "wrap-response",
        2,
        r#"(data (i32.const 64) "[]")"#,
        "(global.get $next)",
        "(call $write (i32.const 1) (i32.const 64) (i32.const 1)) (call $echo (i32.const 1))
         (call $write (i32.const 1) (i32.const 65) (i32.const 1))",
    ),
    // Reads two bytes of the request's body, which the next handler gets, too, or does not.
    ("peek", 1, "", "(drop (call $read (i32.const 0) (i32.const 64) (i32.const 2))) (global.get $next)", ""),
    ("bite", 0, "", "(drop (call $read (i32.const 0) (i32.const 64) (i32.const 2))) (global.get $next)", ""),
    // Reads all of a body, and lets it go on as it is.
    (
        "read-request",
        1,
        "",
        "(loop $more (br_if $more (i64.eqz (i64.shr_u
            (call $read (i32.const 0) (i32.const 0x10000) (i32.const 0x8000)) (i64.const 32)))))
         (global.get $next)",
        "",
    ),
    (
        "read-response",
        2,
        "",
        "(global.get $next)",
        "(loop $more (br_if $more (i64.eqz (i64.shr_u
            (call $read (i32.const 1) (i32.const 0x10000) (i32.const 0x8000)) (i64.const 32)))))",
    ),
    ("replace-response", 2, "", "(global.get $next)", "(call $write (i32.const 1) (i32.const 0x400) (i32.const 7))"),
    // A response of 1 MiB, before the next handler and after it.
    ("large-request", 0, LARGE, "(call $large) (i64.const 0)", "unreachable"),
    ("large-response", 2, LARGE, "(global.get $next)", "(call $large)"),
    // Makes a response of a failure.
    (
        "rescue",
        2,
        r#"(data (i32.const 64) "rescued")"#,
        "(global.get $next)",
        "(if (local.get $failed) (then
            (call $set_status (i32.const 299)) (call $write (i32.const 1) (i32.const 64) (i32.const 7))))",
    ),
    // Logs `ok` or `failed` with the last digit of the status, at the end of a response that is not held back.
    (
        "observe",
        0,
        r#"(data (i32.const 64) "ok     0failed 0")"#,
        "(global.get $next)",
        "(i32.store8 (i32.const 71) (i32.add (i32.const 0x30) (i32.rem_u (call $status) (i32.const 10))))
         (i32.store8 (i32.const 79) (i32.load8_u (i32.const 71)))
         (call $log (i32.const 1) (if (result i32) (local.get $failed) (then (i32.const 72)) (else (i32.const 64)))
             (i32.const 8))",
    ),
    // Sets a field of the kind 0 to 3 that its configuration has first: `0name:value`.
    (
        "set",
        6,
        r#"(func $field (param $kind i32)
            (local $length i32) (local $colon i32)
            (local.set $length (call $config (i32.const 0x500) (i32.const 0x2000)))
            (if (i32.ne (i32.and (i32.load8_u (i32.const 0x500)) (i32.const 3)) (local.get $kind)) (then return))
            (loop $more
                (local.set $colon (i32.add (local.get $colon) (i32.const 1)))
                (br_if $more (i32.ne
                    (i32.load8_u (i32.add (i32.const 0x500) (local.get $colon))) (i32.const 0x3a))))
            (call $set (local.get $kind)
                (i32.const 0x501) (i32.sub (local.get $colon) (i32.const 1))
                (i32.add (i32.const 0x501) (local.get $colon))
                (i32.sub (i32.sub (local.get $length) (local.get $colon)) (i32.const 1))))"#,
        "(call $field (i32.const 0)) (call $field (i32.const 2)) (global.get $next)",
        "(call $field (i32.const 1)) (call $field (i32.const 3))",
    ),
    // Sets a field of the response, and a status, and then lets the request go on.
    (
        "early",
        0,
        "",
        "(call $set (i32.const 1) (i32.const 0x400) (i32.const 7) (i32.const 0x400) (i32.const 7))
         (call $set_status (i32.const 201))
         (call $write (i32.const 1) (i32.const 0x400) (i32.const 7))
         (global.get $next)",
        "",
    ),
    // Adds the trailers that it sees after a body to the headers that follow: their names, and one of its own.
    (
        "trailers",
        7,
        r#"(data (i32.const 64) "x-seenx-own")
           (func $seen (param $body i32) (param $to i32)
            (local $list i64)
            (loop $more (br_if $more (i64.eqz (i64.shr_u
                (call $read (local.get $body) (i32.const 0x10000) (i32.const 0x8000)) (i64.const 32)))))
            (local.set $list (call $names (i32.add (local.get $body) (i32.const 2))
                (i32.const 0x10000) (i32.const 0x8000)))
            (if (i64.ne (local.get $list) (i64.const 0)) (then
                ;; The last name, without its end.
                (call $set (local.get $to) (i32.const 64) (i32.const 6)
                    (i32.const 0x10000) (i32.sub (i32.wrap_i64 (local.get $list)) (i32.const 1)))))
            (call $set (i32.add (local.get $body) (i32.const 2)) (i32.const 70) (i32.const 5)
                (i32.const 0x400) (i32.const 7)))"#,
        "(call $seen (i32.const 0) (i32.const 0)) (global.get $next)",
        "(call $seen (i32.const 1) (i32.const 1))",
    ),
    ("no-content", 2, "", "(global.get $next)", "(call $set_status (i32.const 204))"),
    ("trap-request", 0, "", "unreachable", ""),
    ("trap-response", 0, "", "(global.get $next)", "unreachable"),
    ("trap-buffered", 2, "", "(global.get $next)", "unreachable"),
    ("misuse", 0, "", "(call $set_status (i32.const 99)) (global.get $next)", ""),
    ("loop-request", 0, "", "(loop $ever (br $ever)) (global.get $next)", ""),
    // Logs that it has begun.
    (
        "loop-response",
        2,
        "",
        "(global.get $next)",
        "(call $log (i32.const 1) (i32.const 0x400) (i32.const 7)) (loop $ever (br $ever))",
    ),
    (
        "flood-request",
        1,
        "",
        "(loop $ever (call $write (i32.const 0) (i32.const 0) (i32.const 0x10000)) (br $ever)) (global.get $next)",
        "",
    ),
    // Counts its requests, in a header of each response.
    (
        "count",
        2,
        "(global $count (mut i32) (i32.const 0x30))",
        "(global.set $count (i32.add (global.get $count) (i32.const 1))) (global.get $next)",
        "(i32.store8 (i32.const 64) (global.get $count))
         (call $set (i32.const 1) (i32.const 0x400) (i32.const 7) (i32.const 64) (i32.const 1))",
    ),
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

/// Writes all guests into a directory, as `plugin-NAME.wasm`, `command-NAME.wasm`, `middleware-NAME.wasm` and
/// `package-NAME.wasm`.
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
    for (name, features, fields, request, response) in ALL_MIDDLEWARE {
        let text = format!(
            r#"(module {MIDDLEWARE} {fields}
                (func (export "_start") (drop (call $enable (i32.const {features}))))
                (func (export "handle_request") (result i64) {request})
                (func (export "handle_response") (param $context i32) (param $failed i32) {response}))"#
        );
        assembled(format!("middleware-{name}.wasm"), &text);
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

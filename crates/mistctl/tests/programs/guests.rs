//! The guests of these tests, as WebAssembly text.

use crate::support::{answering, escaped};

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
pub(crate) fn program(data: impl AsRef<[u8]>, start: &str) -> String {
    format!(
        r#"(module {WASI} (memory (export "memory") 2) (data (i32.const 2048) "{}") (func (export "_start") {start}))"#,
        escaped(data)
    )
}

/// A program that makes one call, and ends with its error number.
pub(crate) fn calling(data: impl AsRef<[u8]>, call: &str) -> String {
    program(data, &format!("(call $exit {call})"))
}

/// Copies standard input to standard output.
pub(crate) fn echo() -> String {
    program("", "(call $copy (i32.const 0))")
}

/// A program that opens a path below the first directory, and ends with the error number.
pub(crate) fn opening(path: &str, how: u32, rights: u64) -> String {
    let length = path.len();
    calling(
        path,
        &format!(
            "(call $open (i32.const 3) (i32.const 2048) (i32.const {length}) (i32.const {how}) (i64.const {rights}))"
        ),
    )
}

// The specification's numbers.
pub(crate) const CREATE: u32 = 1;
pub(crate) const TRUNCATE: u32 = 8;
pub(crate) const READ: u64 = 1 << 1;
pub(crate) const WRITE: u64 = 1 << 6;
pub(crate) const BADF: i32 = 8;
pub(crate) const PIPE: i32 = 64;
pub(crate) const NOTCAPABLE: i32 = 76;
pub(crate) const NOTSUP: i32 = 58;

/// A plugin: what its `run` does, and data at address 2048. Its `malloc` gives the bytes from 65536 on, and takes none
/// back.
pub(crate) fn plugin(data: impl AsRef<[u8]>, run: &str) -> String {
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
pub(crate) fn bracketing() -> String {
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
pub(crate) fn doing(data: &str, first: &str, answer: &str) -> String {
    let data = escaped(data);
    answering(answer)
        .replacen("(module", &format!(r#"(module {WASI} (data (i32.const 2048) "{data}")"#), 1)
        .replace("(result i32) (i32.const 16))", &format!("(result i32) {first} (i32.const 16))"))
        .replace("(i64.store (i32.const 8)", &format!("{first} (i64.store (i32.const 8)"))
}

/// WebAssembly text that prints bytes of the data.
pub(crate) fn print(fd: u32, address: u32, length: usize) -> String {
    format!("(call $print (i32.const {fd}) (i32.const {address}) (i32.const {length}))")
}

/// Prints what `sizes` and `get` tell: strings with a NUL after each.
pub(crate) fn listing(strings: &str) -> String {
    format!(
        "(if (call ${strings}_sizes_get (i32.const 1016) (i32.const 1020)) (then (unreachable)))
        (if (call ${strings}_get (i32.const 4096) (i32.const 65536)) (then (unreachable)))
        (call $print (i32.const 1) (i32.const 65536) (i32.load (i32.const 1020)))"
    )
}

/// A program that waits for its input (1) or for so many nanoseconds (2), and ends with the number of events, and which
/// the first is.
pub(crate) fn waiting(nanoseconds: u64) -> String {
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

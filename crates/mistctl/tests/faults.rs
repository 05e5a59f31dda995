//! `mistctl serve` where the system fails: disks, files, descriptors and threads. `docs/serve-faults.md` has the table.

#![cfg(all(feature = "serve", target_os = "linux"))]

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "support/server.rs"]
mod server;
#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Resource, Signal, getrlimit, getuid};
use server::{LONG, Server, request};
use support::{Scratch, example};

/// A command that writes to a descriptor until that fails, and responds with the number of the error.
const WRITES: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 64) "file")
    (data (i32.const 128) "Content-Type: text/plain\n\n00\n")
    (func $write (param $fd i32) (param $address i32) (param $length i32) (result i32)
        (i32.store (i32.const 8) (local.get $address))
        (i32.store (i32.const 12) (local.get $length))
        (call $fd_write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 16)))
    (func $respond (param $errno i32)
        (i32.store8 (i32.const 154) (i32.add (i32.const 48) (i32.div_u (local.get $errno) (i32.const 10))))
        (i32.store8 (i32.const 155) (i32.add (i32.const 48) (i32.rem_u (local.get $errno) (i32.const 10))))
        (drop (call $write (i32.const 1) (i32.const 128) (i32.const 29))))
    (func $until_it_fails (param $fd i32) (local $errno i32)
        (loop $more
            (local.set $errno (call $write (local.get $fd) (i32.const 0x10000) (i32.const 0x1000)))
            (br_if $more (i32.eqz (local.get $errno))))
        (call $respond (local.get $errno)))
    (func (export "_start") START))"#;

/// Writes to standard error, which is the log.
const LOGS: &str = "(call $until_it_fails (i32.const 2))";
/// Writes to a file in the first granted directory.
const FILLS: &str = "
    (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 1)
        (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 96)) (then unreachable))
    (call $until_it_fails (i32.load (i32.const 96)))";
/// Removes that file.
const FREES: &str = "(call $respond (call $unlink (i32.const 3) (i32.const 64) (i32.const 4)))";

/// A plugin that runs until it is ended.
const LOOP: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "malloc") (param i32) (result i32) (i32.const 64))
    (func (export "free") (param i32))
    (func (export "run") (loop $ever (br $ever))))"#;

/// Writes `serve.toml`, and a module for each of its routes; returns its path.
fn configuration(scratch: &Scratch, server: &str, more: &str) -> String {
    for (name, start) in [("logs", LOGS), ("fills", FILLS), ("frees", FREES)] {
        scratch.file(&format!("{name}.wat"), WRITES.replace("START", start));
    }
    scratch.file("loop.wat", LOOP);
    scratch.file("hello.wasm", fs::read(example("httpwasm-c.wasm")).expect("read"));
    let hello = "[[route]]\npath = '/hello'\nmodule = 'hello.wasm'\nkind = 'httpwasm'\n";
    scratch.file("serve.toml", format!("[server]\n{server}\n{hello}{more}"))
}

fn route(path: &str, module: &str, kind: &str, more: &str) -> String {
    format!("[[route]]\npath = '{path}'\nmodule = '{module}'\nkind = '{kind}'\n{more}\n")
}

/// A shell that does this, and then becomes the server.
fn shell(script: &str, file: &str) -> Command {
    let mut shell = Command::new("sh");
    let script = format!(r#"{script}; exec "$0" serve --listen 127.0.0.1:0 --admin 127.0.0.1:0 "$@""#);
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_mistctl"), file]).stdin(Stdio::null()).stdout(Stdio::null());
    shell
}

/// Reloads, and returns the first line about why that fails.
fn failed_reload(server: &Server) -> String {
    server.signal(Signal::HUP);
    // Some problems before it have several lines.
    while server.error() != "warning: the reload failed; the routes are unchanged" {}
    server.error()
}

fn hello() -> (u16, String) {
    (200, "hello, x\n".to_owned())
}

/// Sends requests on one connection.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        Self(BufReader::new(stream))
    }

    /// Returns the body of the response, or nothing if the connection ended before its first byte.
    fn hello(&mut self) -> Option<String> {
        self.0.get_mut().write_all(b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").ok()?;
        let (mut line, mut length) = (String::new(), 0);
        if self.0.read_line(&mut line).unwrap_or_default() == 0 {
            assert_eq!(line, "", "a response is cut");
            return None;
        }
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        while line != "\r\n" {
            line.clear();
            assert!(self.0.read_line(&mut line).expect("a header") > 0, "a response is cut");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a whole body");
        Some(String::from_utf8(body).expect("UTF-8"))
    }
}

#[test]
fn a_log_on_a_full_disk_holds_up_no_request() {
    let scratch = Scratch::new();
    let file = configuration(&scratch, "", "");
    let full = File::options().write(true).open("/dev/full").expect("it is there");
    let mut server = Server::spawn(shell(":", &file).stdout(full));
    assert_eq!(server.post("/hello", "x"), hello());
    server.wait_for("mistletoe_log_lines_lost_total ", |lost| lost == 1.0);
    assert_eq!(server.post("/hello", "x"), hello());
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
}

#[test]
fn a_log_whose_reader_has_gone_holds_up_no_request() {
    let scratch = Scratch::new();
    let file = configuration(&scratch, "", "");
    let mut server = Server::spawn(shell(":", &file).stdout(Stdio::piped()));
    assert_eq!(server.post("/hello", "x"), hello());
    let mut line = String::new();
    server.log.take().expect("a pipe").read_line(&mut line).expect("a line");
    assert!(line.contains(r#""route":"/hello""#), "{line}");
    assert_eq!(server.post("/hello", "x"), hello());
    server.wait_for("mistletoe_log_lines_lost_total ", |lost| lost == 1.0);
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
}

/// Nor does a guest that writes to the log for ever.
#[test]
fn a_log_that_nobody_reads_holds_up_no_request() {
    let scratch = Scratch::new();
    let file = configuration(&scratch, "", &route("/logs", "logs.wat", "command", ""));
    let mut server = Server::spawn(shell(":", &file).stdout(Stdio::piped()));
    // Each writes 1 MiB, in 128 lines, and then has no room (`nospc`).
    for _ in 0..40 {
        assert_eq!(server.post("/logs", ""), (200, "51\n".to_owned()));
    }
    server.wait_for("mistletoe_log_lines_lost_total ", |lost| lost > 0.0);
    assert_eq!(server.post("/hello", "x"), hello());
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
}

#[test]
fn a_full_directory_is_its_guests_matter_and_the_log_goes_on_once_there_is_room() {
    let disk = ["--user", "--map-root-user", "--mount", "sh", "-c"];
    let mount = "mount -t tmpfs -o size=1m tmpfs";
    let scratch = Scratch::new();
    let path = scratch.path("disk");
    fs::create_dir(&path).expect("a directory");
    let mounts = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(disk).args([script, env!("CARGO_BIN_EXE_mistctl")]);
        command
    };
    if !mounts(&format!("{mount} '{}'", path.display())).status().is_ok_and(|status| status.success()) {
        eprintln!("not tested: the system lets nobody mount");
        return;
    }
    let dirs = "dirs = [{ host = 'disk', guest = '/disk', writable = true }]";
    let routes = [route("/fills", "fills.wat", "command", dirs), route("/frees", "frees.wat", "command", dirs)];
    let file = configuration(&scratch, "", &routes.concat());
    let (start, log) = ("serve --listen 127.0.0.1:0 --admin 127.0.0.1:0", path.join("log"));
    let script = format!("{mount} '{}'; exec \"$0\" {start} '{file}' >> '{}'", path.display(), log.display());
    let mut server = Server::spawn(&mut mounts(&script));
    assert_eq!(server.post("/hello", "x"), hello());
    assert_eq!(server.post("/fills", ""), (200, "51\n".to_owned()));
    // What is left of the last block may take some lines.
    while server.number("mistletoe_log_lines_lost_total ") < 3.0 {
        assert_eq!(server.post("/hello", "x"), hello());
    }
    assert_eq!(server.post("/frees", ""), (200, "00\n".to_owned()));
    assert_eq!(server.post("/hello", "x"), hello());
    // The disk is gone with the server, except for files that are open.
    let log = log.strip_prefix("/").expect("an absolute path");
    let mut log =
        File::open(Path::new("/proc").join(server.child.id().to_string()).join("root").join(log)).expect("open");
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
    let mut text = String::new();
    log.read_to_string(&mut text).expect("UTF-8");
    let targets: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).ok().map(|line| line["target"].clone()))
        .collect();
    assert!(targets.iter().filter(|target| target.is_none()).count() <= 1, "at most one line is cut:\n{text}");
    assert_eq!(targets.last(), Some(&Some("/hello".into())), "{text}");
}

#[test]
fn a_limit_on_the_size_of_files_ends_no_server() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("data")).expect("a directory");
    let dirs = "dirs = [{ host = 'data', guest = '/data', writable = true }]";
    let file = configuration(&scratch, "", &route("/fills", "fills.wat", "command", dirs));
    let log = File::create(scratch.path("log")).expect("a file");
    // In blocks of 512 bytes.
    let mut server = Server::spawn(shell("ulimit -f 8", &file).stdout(log));
    assert_eq!(server.post("/fills", ""), (200, "22\n".to_owned()), "`fbig`");
    while server.number("mistletoe_log_lines_lost_total ") < 3.0 {
        assert_eq!(server.post("/hello", "x"), hello());
    }
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
}

#[test]
fn what_takes_the_place_of_a_file_does_not_take_the_place_of_its_routes() {
    let scratch = Scratch::new();
    let file = configuration(&scratch, "", "");
    let server = Server::start(&[&file]);
    let wasm = fs::read(scratch.path("hello.wasm")).expect("read");
    let toml = fs::read(&file).expect("read");
    for name in ["hello.wasm", "serve.toml"] {
        let path = scratch.path(name);
        type Replace<'a> = &'a dyn Fn(&Path);
        let faults: [(&str, Replace<'_>); 9] = [
            ("garbage", &|path| fs::write(path, [0xff; 100]).expect("written")),
            ("empty, or without its routes", &|path| fs::write(path, &wasm[..8]).expect("written")),
            ("half", &|path| {
                let whole = if name == "hello.wasm" { &wasm } else { &toml };
                fs::write(path, &whole[..whole.len() / 2]).expect("written");
            }),
            ("a pipe without a writer", &|path| {
                assert!(Command::new("mkfifo").arg(path).status().expect("it starts").success());
            }),
            ("a directory", &|path| fs::create_dir(path).expect("a directory")),
            ("a file with a hole of 5 GB", &|path| {
                File::create(path).and_then(|file| file.set_len(5_000_000_000)).expect("a file");
            }),
            ("a device without an end", &|path| symlink("/dev/zero", path).expect("a link")),
            ("a link to itself", &|path| symlink(path, path).expect("a link")),
            ("nothing", &|_| ()),
        ];
        for (what, replace) in faults {
            fs::remove_file(&path).expect("removed");
            replace(&path);
            let error = failed_reload(&server);
            assert!(error.starts_with("error: ") && error.contains(name), "{name}: {what}: {error}");
            assert_eq!(server.post("/hello", "x"), hello(), "{name}: {what}");
            let _ = if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
            fs::write(&path, if name == "hello.wasm" { &wasm } else { &toml }).expect("written");
        }
    }
    for (text, problem) in [
        (route("/hello", "hello.wasm", "httpwasm", "engine = 'v8'"), "unknown backend `v8`"),
        (route("/hello", "loop.wat", "package", ""), "route `/hello`, module: "),
        (route("/hello", "hello.wasm", "httpwasm", "dirs = [{ host = 'none', guest = '/d' }]"), "dirs: "),
    ] {
        scratch.file("serve.toml", text);
        let error = failed_reload(&server);
        assert!(error.contains(problem), "{error}");
        assert_eq!(server.post("/hello", "x"), hello());
    }
    scratch.file("serve.toml", toml);
    server.signal(Signal::HUP);
    while server.error() != "info: reloaded: 1 routes" {}
    assert_eq!(server.post("/hello", "x"), hello());
}

#[test]
fn a_module_that_is_being_written_is_taken_once_it_is_whole() {
    let scratch = Scratch::new();
    let file = configuration(&scratch, "", "");
    let server = Server::start(&["--watch", &file]);
    let wasm = fs::read(example("httpwasm-c.wasm")).expect("read");
    let (first, second) = wasm.split_at(wasm.len() / 2);
    let mut module = File::create(scratch.path("hello.wasm")).expect("a file");
    module.write_all(first).expect("written");
    assert_eq!(server.error(), "warning: the reload failed; the routes are unchanged");
    assert!(server.error().starts_with("error: "));
    assert_eq!(server.post("/hello", "x"), hello());
    module.write_all(second).expect("written");
    while server.error() != "info: reloaded: 1 routes" {}
    assert_eq!(server.post("/hello", "x"), hello());
}

#[test]
fn without_free_descriptors_open_connections_are_served_and_others_wait() {
    let scratch = Scratch::new();
    let file = configuration(&scratch, "header_timeout = '1h'", "");
    let mut server = Server::spawn(&mut shell("ulimit -n 40", &file));
    let warning = "warning: `max_connections` is 1024, but the process may open only 40 files";
    assert_eq!(server.warnings, [warning]);
    let mut first = Kept::new(server.address);
    assert_eq!(first.hello().as_deref(), Some("hello, x\n"));
    let waiting: Vec<_> = (0..60).map(|_| Kept::new(server.address)).collect();
    // A reload needs a descriptor, too.
    loop {
        server.signal(Signal::HUP);
        if server.error().starts_with("warning: the reload failed") {
            break;
        }
    }
    let error = server.error();
    assert!(error.contains("Too many open files"), "{error}");
    for _ in 0..10 {
        assert_eq!(first.hello().as_deref(), Some("hello, x\n"));
    }
    drop(waiting);
    assert_eq!(server.post("/hello", "x"), hello());
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
}

#[test]
fn without_further_threads_guests_take_turns() {
    let scratch = Scratch::new();
    let file = configuration(
        &scratch,
        "grace = '0s'",
        &route("/loop", "loop.wat", "httpwasm", "limits = { timeout = '100s' }"),
    );
    fs::set_permissions(scratch.0.path(), Permissions::from_mode(0o755)).expect("set");
    // The system limits everybody but root. The user needs no access to the directory of the program.
    let program = File::open(env!("CARGO_BIN_EXE_mistctl")).expect("open");
    let as_user = |mut command: Command| {
        if getuid().is_root() {
            command.uid(54_321).gid(54_321);
        }
        command
    };
    let mut command = as_user(Command::new("sh"));
    let start = "exec /proc/self/fd/0 serve --listen 127.0.0.1:0 --admin 127.0.0.1:0 \"$0\"";
    command.args(["-c", start, &file]).stdin(program).stdout(Stdio::null()).current_dir("/");
    let mut server = Server::spawn(&mut command);
    let limit = |most: &str| {
        let mut command = as_user(Command::new("prlimit"));
        command.args(["--pid", &server.child.id().to_string(), &format!("--nproc={most}:")]);
        assert!(command.status().expect("it starts").success());
    };
    limit("0");
    for _ in 0..3 {
        assert_eq!(server.post("/hello", "x"), hello());
    }
    // One guest has the thread, and the other gets it when the first one's client leaves.
    let mut busy = TcpStream::connect(server.address).expect("a connection");
    busy.write_all(b"POST /loop HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("sent");
    server.wait_for("mistletoe_instances_in_use{route=\"/loop\"} ", |count| count == 1.0);
    let address = server.address;
    let other = thread::spawn(move || request(address, "/hello", "x"));
    server.wait_for("mistletoe_instances_in_use{route=\"/hello\"} ", |count| count == 1.0);
    drop(busy);
    assert_eq!(other.join().expect("no panic"), hello());
    limit(&getrlimit(Resource::Nproc).maximum.map_or("unlimited".to_owned(), |most| most.to_string()));
    assert_eq!(server.post("/hello", "x"), hello());
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
}

#[test]
fn a_stop_under_load_cuts_no_response() {
    let scratch = Scratch::new();
    let file = configuration(&scratch, "", "");
    let mut server = Server::spawn(&mut shell(":", &file));
    let (address, count) = (server.address, &AtomicUsize::new(0));
    thread::scope(|scope| {
        for client in 0..8 {
            scope.spawn(move || {
                let mut connection = Kept::new(address);
                loop {
                    // Half of the clients connect for each request.
                    if client % 2 == 0 {
                        let Ok(stream) = TcpStream::connect(address) else { return };
                        connection = Kept(BufReader::new(stream));
                    }
                    let Some(body) = connection.hello() else { return };
                    assert_eq!(body, "hello, x\n");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while count.load(Ordering::Relaxed) < 500 {
            thread::yield_now();
        }
        server.signal(Signal::TERM);
    });
    assert_eq!(server.status(), Some(0));
}

#[test]
fn a_second_signal_ends_the_grace_time() {
    let scratch = Scratch::new();
    let routes = route("/loop", "loop.wat", "httpwasm", "limits = { timeout = '1h' }");
    let file = configuration(&scratch, "grace = '1h'", &routes);
    let mut server = Server::spawn(&mut shell(":", &file));
    let mut busy = TcpStream::connect(server.address).expect("a connection");
    busy.write_all(b"POST /loop HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("sent");
    server.wait_for("mistletoe_instances_in_use{route=\"/loop\"} ", |count| count == 1.0);
    server.signal(Signal::TERM);
    // It listens no more: the first signal has arrived.
    while TcpStream::connect(server.address).is_ok() {
        thread::yield_now();
    }
    server.signal(Signal::INT);
    assert_eq!(server.status(), Some(0));
    let mut response = Vec::new();
    let _ = busy.read_to_end(&mut response);
    assert_eq!(response, b"", "the guest was cancelled");
}

//! `mistctl serve`: starting, signals, and what goes to which stream. The server itself is tested in its own crate.

#![cfg(all(feature = "serve", unix))]

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "support/server.rs"]
mod server;
#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use std::fs;
use std::io::BufRead as _;
use std::path::Path;

use rustix::process::Signal;
use server::Server;
use support::{Scratch, example, mistctl, text};

#[test]
fn the_example_has_a_route_for_each_kind() {
    // The example's own ports may be in use. Its modules are links next to this test's.
    let scratch = Scratch::new();
    let text = fs::read_to_string(example("serve.toml")).expect("read");
    let text = text.replace("127.0.0.1:8081", "127.0.0.1:0").replace("../packages/", "");
    let file = scratch.file("serve.toml", text);
    for module in ["hello-c.wasm", "cgi-c.wasm", "namespace-c.wasm", "auth-sdk.wasm", "rate-limit-sdk-c.wasm"] {
        scratch.file(module, fs::read(example(module)).expect("read"));
    }
    let mut server = Server::start(&[&file]);
    assert_eq!(server.post("/hello", "world"), (200, "hello, world\n".to_owned()));
    let response = "POST /cgi/a/path?and=query\n9 bytes of body\n";
    assert_eq!(server.post("/cgi/a/path?and=query", "some body"), (200, response.to_owned()));
    let (status, manifests) = server.post("/namespace", "data:\n  name: web\n");
    assert!(status == 200 && manifests.contains("kind: Namespace"), "{manifests}");
    assert_eq!(server.post("/private/hello", "world"), (401, "credentials are required\n".to_owned()));
    for (status, body) in [(200, "within the limit\n"), (200, "within the limit\n"), (429, "too many requests\n")] {
        assert_eq!(server.post("/limited", ""), (status, body.to_owned()));
    }
    // The log is on standard output, and a stop has the status 0.
    let mut line = String::new();
    server.log.as_mut().expect("a pipe").read_line(&mut line).expect("a line");
    assert!(
        line.starts_with('{') && line.contains(r#""event":"request""#) && line.contains(r#""route":"/hello""#),
        "{line}"
    );
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
    let checked = mistctl(&["serve", "check", &file]);
    assert_eq!((checked.status.code(), support::text(&checked.stderr)), (Some(0), ""));
}

#[test]
fn a_module_responds_at_every_path() {
    for (module, path, body, response) in [
        ("httpwasm-c.wasm", "/", "a", "hello, a\n"),
        ("httpwasm-c.wasm", "/any/path", "a", "hello, a\n"),
        ("cgi-c.wasm", "/a", "bc", "POST /a\n2 bytes of body\n"),
    ] {
        let mut server = Server::start(&[&example(module)]);
        assert_eq!(server.post(path, body), (200, response.to_owned()), "{module}");
        server.signal(Signal::INT);
        assert_eq!(server.status(), Some(0));
    }
}

#[test]
fn a_hangup_reloads_what_is_right() {
    let scratch = Scratch::new();
    let wasm = scratch.file("m.wasm", fs::read(example("httpwasm-c.wasm")).expect("read"));
    let route = |path: &str| format!("[[route]]\npath = '{path}'\nmodule = 'm.wasm'\nkind = 'httpwasm'\n");
    let file = scratch.file("serve.toml", route("/a"));
    let server = Server::start(&[&file]);
    assert_eq!(server.post("/a", "x").0, 200);

    scratch.file("serve.toml", route("/b"));
    server.signal(Signal::HUP);
    assert_eq!(server.error(), "info: reloaded: 1 routes");
    assert_eq!((server.post("/a", "x").0, server.post("/b", "x").0), (404, 200));

    for (name, contents, problem) in
        [("serve.toml", "[[rout]]\n", "line 1: unknown field `rout`"), ("m.wasm", "garbage", "route `/b`, module: ")]
    {
        let before = fs::read(Path::new(&file).with_file_name(name)).expect("read");
        scratch.file(name, contents);
        server.signal(Signal::HUP);
        assert_eq!(server.error(), "warning: the reload failed; the routes are unchanged");
        let error = server.error();
        assert!(error.starts_with("error: ") && error.contains(problem), "{error}");
        assert_eq!(server.post("/b", "x").0, 200);
        scratch.file(name, before);
    }
    assert!(Path::new(&wasm).exists());
}

#[test]
fn changed_files_are_watched() {
    let scratch = Scratch::new();
    let wasm = scratch.file("m.wasm", fs::read(example("httpwasm-c.wasm")).expect("read"));
    let server = Server::start(&["--watch", &wasm]);
    assert_eq!(server.post("/", "x").1, "hello, x\n");
    // At once, so that no half of it is ever seen.
    let new = scratch.file("new", fs::read(example("cgi-c.wasm")).expect("read"));
    fs::rename(new, &wasm).expect("renamed");
    assert_eq!(server.error(), "info: reloaded: 1 routes");
    assert_eq!(server.post("/", "x").1, "POST /\n1 bytes of body\n");
}

/// As what an image or an archive contains, whose files all have the same time.
#[test]
fn a_file_of_the_same_length_and_time_is_another_one() {
    let scratch = Scratch::new();
    let wasm = scratch.file("m.wasm", fs::read(example("httpwasm-c.wasm")).expect("read"));
    let server = Server::start(&["--watch", &wasm]);
    let mut module = fs::read(&wasm).expect("read");
    let greeting = module.windows(7).position(|bytes| bytes == b"hello, ").expect("a greeting");
    module[greeting + 1] = b'a';
    let new = scratch.file("new", module);
    let time = fs::metadata(&wasm).and_then(|metadata| metadata.modified()).expect("a time");
    fs::File::options().write(true).open(&new).and_then(|file| file.set_modified(time)).expect("set");
    fs::rename(new, &wasm).expect("renamed");
    assert_eq!(server.error(), "info: reloaded: 1 routes");
    assert_eq!(server.post("/", "x").1, "hallo, x\n");
}

/// A registry that never responds stands for what takes long before the server listens.
#[cfg(feature = "registry")]
#[test]
fn a_server_that_is_not_ready_yet_stops() {
    let registry = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let reference = format!("http://{}/m.wasm#sha256={}", registry.local_addr().expect("bound"), "0".repeat(64));
    let mut child = support::command(&["serve", "--listen", "127.0.0.1:0", &reference]).spawn().expect("it starts");
    registry.set_nonblocking(true).expect("set");
    let begun = std::time::Instant::now();
    let _request = loop {
        match registry.accept() {
            Ok(request) => break request,
            Err(_) => assert!(begun.elapsed() < server::LONG && child.try_wait().expect("a child").is_none()),
        }
        std::thread::yield_now();
    };
    let pid = rustix::process::Pid::from_raw(child.id().try_into().expect("a number")).expect("a process");
    for signal in [Signal::HUP, Signal::TERM] {
        rustix::process::kill_process(pid, signal).expect("it is there");
    }
    assert_eq!(child.wait().expect("it ended").code(), Some(0));
}

/// What it failed for may pass without a change of a watched file.
#[test]
fn a_watched_reload_that_failed_is_tried_again() {
    let scratch = Scratch::new();
    scratch.file("m.wasm", fs::read(example("cgi-c.wasm")).expect("read"));
    let route = "[[route]]\npath = '/a'\nmodule = 'm.wasm'\nkind = 'command'\n";
    let file = scratch.file("serve.toml", route);
    let server = Server::start(&["--watch", &file]);
    let changed = scratch.file("new", format!("{route}dirs = [{{ host = 'data', guest = '/data' }}]\n"));
    fs::rename(changed, &file).expect("renamed");
    assert_eq!(server.error(), "warning: the reload failed; the routes are unchanged");
    fs::create_dir(Path::new(&file).with_file_name("data")).expect("a directory");
    while server.error() != "info: reloaded: 1 routes" {}
}

#[test]
fn nothing_starts_with_a_problem() {
    let scratch = Scratch::new();
    let route = "[[route]]\npath = '/a'\nmodule = 'none.wasm'\nkind = 'httpwasm'\n";
    let file = scratch.file("serve.toml", format!("{route}engine = 'v8'\n{}", route.replace("/a", "/b")));
    for arguments in [&["serve", &file][..], &["serve", "check", &file]] {
        let output = mistctl(arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{errors}");
        for problem in ["line 1: route `/a`, engine: unknown backend `v8`", "line 6: route `/b`, module: "] {
            assert!(errors.contains(problem), "{errors}");
        }
    }
    let bad = scratch.file("bad.wasm", "(module)");
    let output = mistctl(&["serve", &bad]);
    assert!(
        text(&output.stderr).contains("it is not a plugin, middleware, command or package"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(mistctl(&["serve"]).status.code(), Some(2));
    // An address that is in use.
    let server = Server::start(&[&example("httpwasm-c.wasm")]);
    let output = mistctl(&["serve", &example("httpwasm-c.wasm"), "--listen", &server.address.to_string()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains(&server.address.to_string()), "{}", text(&output.stderr));
}

#[test]
fn plugins_of_a_scheduler_need_no_configuration() {
    let scratch = Scratch::new();
    let config = scratch.file("config", "reverse");
    let number = example("node-number-c.wasm");
    let start = |more: &[&str]| {
        let arguments = ["serve", "scheduler", "--listen", "127.0.0.1:0", "--plugin", &number];
        let mut command = support::command(&[&arguments[..], more].concat());
        Server::spawn(command.stdout(std::process::Stdio::piped()))
    };
    let request = fs::read_to_string(example("scheduler-names.json")).expect("read");
    for (more, scores) in [(&[][..], [0, 10]), (&["--config", &config], [10, 0]), (&["--plugin", &number], [0, 10])] {
        let mut server = start(more);
        assert_eq!(server.error(), format!("info: the extender's urlPrefix is http://{}/scheduler", server.address));
        let (status, filtered) = server.post("/scheduler/filter", &request);
        assert!(status == 200 && filtered.contains(r#""NodeNames":["node-1","node-2"]"#), "{filtered}");
        let (status, found) = server.post("/scheduler/prioritize", &request);
        let expected = scores.map(|score| format!(r#""Score":{score}}}"#));
        assert!(status == 200 && expected.iter().all(|score| found.contains(score)), "{found}");
        assert!(found.starts_with(&format!(r#"[{{"Host":"node-1",{}"#, expected[0])), "{found}");
        server.signal(Signal::TERM);
        assert_eq!(server.status(), Some(0));
    }

    // What changes is read again.
    let server = start(&["--config", &config]);
    server.error();
    fs::write(&config, "").expect("written");
    server.signal(Signal::HUP);
    assert_eq!(server.error(), "info: reloaded: 1 routes");
    assert!(server.post("/scheduler/prioritize", &request).1.starts_with(r#"[{"Host":"node-1","Score":0}"#));

    for (arguments, problem) in [
        (vec!["serve", "scheduler"], "--plugin"),
        (vec!["serve", "scheduler", "--plugin", "no.wasm"], "no.wasm"),
        (vec!["serve", &number], "mistctl serve scheduler --plugin"),
    ] {
        let output = mistctl(&arguments);
        assert!(!output.status.success() && support::text(&output.stderr).contains(problem), "{output:?}");
    }
    let other = example("hello-c.wasm");
    let output = mistctl(&["serve", "scheduler", "--plugin", &other]);
    assert!(support::text(&output.stderr).contains("plugin `hello-c`, module: "), "{output:?}");
}

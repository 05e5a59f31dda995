//! The server over real sockets, with clients that behave and clients that do not.

mod client;
mod guests;
mod http2;
mod idle;
mod memory;
#[cfg(feature = "otel")]
mod otel;
mod refusals;
mod reload;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mistletoe_serve::config::Config;
use mistletoe_serve::{Files, Log, Server, Service};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use client::{Client, LONG, Reply, get, post};

/// A server in this process, which ends when this is dropped.
struct Running {
    address: SocketAddr,
    admin: SocketAddr,
    service: Service,
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    log: std::sync::mpsc::Receiver<String>,
}

/// Passes the log on, line by line.
struct Lines(std::sync::mpsc::Sender<String>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines() {
            let _ = self.0.send(line.to_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The listeners' part of a configuration: free ports.
const LISTENERS: &str = "[server]\nlisten = '127.0.0.1:0'\nSERVER\n[admin]\nlisten = '127.0.0.1:0'\n";

/// A route to a guest of its own, and more of its keys.
fn route(path: &str, module: &str, more: &str) -> String {
    let kind = match module.split('-').next() {
        Some("plugin" | "httpwasm") => "httpwasm",
        Some("command") => "command",
        _ => "package",
    };
    format!("[[route]]\npath = '{path}'\nmodule = '{module}.wasm'\nkind = '{kind}'\n{more}\n")
}

fn config(server: &str, routes: &str, directory: &Path) -> Config {
    let grace = if server.contains("grace") { "" } else { "grace = '60s'\n" };
    let text = format!("{}{routes}", LISTENERS.replace("SERVER", &format!("{grace}{server}")));
    Config::parse(&text, directory).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).max_blocking_threads(500).enable_all().build().expect("a runtime")
}

/// Starts a server with these keys of `[server]` and these routes.
fn start(server: &str, routes: &str) -> Running {
    start_in(tempfile::tempdir().expect("a directory"), server, routes)
}

fn start_in(directory: TempDir, server: &str, routes: &str) -> Running {
    guests::write(directory.path());
    let config = config(server, routes, directory.path());
    let (lines, log) = std::sync::mpsc::channel();
    let service = Service::new(&config, Files, Log::to_writer(Lines(lines)).expect("a log")).expect("a service");
    let runtime = runtime();
    let server = runtime.block_on(Server::bind(&config, service.clone())).expect("a server");
    let (address, admin) = (server.address(), server.admin_address().expect("a second listener"));
    let (stop, stopped) = oneshot::channel();
    let thread = thread::spawn(move || {
        runtime.block_on(server.run(async {
            let _ = stopped.await;
        }));
        runtime.shutdown_timeout(LONG);
    });
    Running { address, admin, service, directory, stop: Some(stop), thread: Some(thread), log }
}

impl Running {
    fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops the server, and waits for its end.
    fn end(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }

    /// Waits until the metrics have this line.
    fn wait_for(&self, line: &str) {
        self.until(&format!("`{line}`"), || self.service.metrics().lines().any(|found| found == line));
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < LONG, "{what} does not come about:\n{}", self.service.metrics());
            thread::yield_now();
        }
    }

    /// Returns the number of failures of a route. What is noticed first of a client that leaves decides the kind.
    fn failures(&self, path: &str) -> u64 {
        let metrics = self.service.metrics();
        let lines =
            metrics.lines().filter(|line| line.starts_with(&format!("mistletoe_failures_total{{route=\"{path}\"")));
        lines.map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")).sum()
    }

    /// Waits for a line of the log that has these texts.
    fn logged(&self, texts: &[&str]) -> String {
        loop {
            let line = self.log.recv_timeout(LONG).unwrap_or_else(|_| panic!("no line of the log has {texts:?}"));
            if texts.iter().all(|text| line.contains(text)) {
                return line;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}

fn assert_reply(reply: &Reply, status: u16, body: &str) {
    assert_eq!((reply.status, reply.text().as_str(), reply.complete), (status, body, true), "{reply:?}");
}

#[test]
fn each_kind_responds() {
    let routes = [
        route("/hello", "httpwasm-c", ""),
        route("/cat", "command-cat", ""),
        route("/namespace", "namespace", ""),
        route("/bytes", "plugin-bytes", ""),
        route("/html", "plugin-echo", "content_type = 'text/html'"),
    ];
    let server = start("", &routes.concat());
    let hello = post(server.address, "/hello", "world");
    assert_reply(&hello, 200, "hello, world\n");
    assert_eq!(hello.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(get(server.address, "/bytes").header("content-type"), Some("application/octet-stream"));
    // The record is ended by the host.
    let html = post(server.address, "/html", "<p>");
    assert_reply(&html, 200, "<p>\n");
    assert_eq!(html.header("content-type"), Some("text/html"));

    let cat = post(server.address, "/cat", "a body");
    assert_reply(&cat, 200, "a body");
    assert_eq!(cat.header("content-type"), Some("text/plain"));

    let input = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistInput\ndata:\n  name: web\n";
    let manifests = post(server.address, "/namespace", input);
    assert_eq!((manifests.status, manifests.header("content-type")), (200, Some("application/yaml")));
    assert!(manifests.text().contains("kind: MistResult") && manifests.text().contains("name: web"), "{manifests:?}");
}

#[test]
fn a_plugin_sees_its_request_in_its_environment() {
    let routes = [
        route("/environment/...", "plugin-environment", "env = { A = '1', HTTP_PATH = 'mine' }"),
        route("/log", "plugin-log", ""),
        route("/reused/...", "plugin-environment", "pool = { size = 1, reuse = true }"),
    ];
    let server = start("", &routes.concat());
    let mut client = Client::new(server.address);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client.send(format!(
        "PUT /environment/a%20b?x=1&y HTTP/1.1\r\nHost: A.example:81\r\ntraceparent: {trace}\r\n\
         X-Request-Id: mine\r\n\r\n"
    ));
    let reply = client.reply();
    let text = reply.text();
    let variables: Vec<_> = text.split_terminator('\0').collect();
    for variable in
        ["A=1", "HTTP_PATH=/environment/a%20b", "HTTP_METHOD=PUT", "HTTP_HOST=A.example:81", "HTTP_QUERY=x=1&y"]
    {
        assert!(variables.contains(&variable), "{variable} is not in {variables:?}");
    }
    assert!(variables.iter().any(|variable| variable.starts_with("REMOTE_ADDR=127.0.0.1:")), "{variables:?}");
    // A new span of the same trace.
    let variable = variables.iter().find_map(|variable| variable.strip_prefix("TRACEPARENT=")).expect("a trace");
    let span = &variable[36..52];
    assert!(variable.len() == trace.len() && variable[..36] == trace[..36] && span != &trace[36..52], "{variable}");
    // The request's own come last, where a reader that takes the last of two sees them, and only once.
    assert_eq!(variables.iter().filter(|variable| variable.starts_with("HTTP_PATH=")).count(), 1, "{variables:?}");
    assert_eq!(reply.header("x-request-id"), Some("mine"));
    let line = server.logged(&["\"request\"", "\"mine\""]);
    for text in [
        &format!("\"trace_id\":\"{}\",\"span_id\":\"{span}\"", &trace[3..35]),
        "\"status\":200",
        "\"route\":\"/environment/...\"",
        "/environment/a%20b?x=1&y",
        "\"method\":\"PUT\"",
    ] {
        assert!(line.contains(text), "{text} is not in {line}");
    }

    // An instance that is used again gets the variables of each request.
    for path in ["/reused/1", "/reused/2"] {
        let text = get(server.address, path).text();
        let paths: Vec<_> = text.split_terminator('\0').filter(|line| line.starts_with("HTTP_PATH=")).collect();
        assert_eq!(paths, [format!("HTTP_PATH={path}")]);
    }

    let reply = get(server.address, "/log");
    let id = reply.header("x-request-id").expect("an identifier").to_owned();
    for text in ["one line", "another"] {
        server.logged(&["\"guest\"", &format!("\"line\":\"{text}\""), &id, "\"route\":\"/log\""]);
    }
}

#[test]
fn a_command_is_a_cgi_program() {
    let routes = [
        route("/v/...", "command-variables", "args = ['-x']\nenv = { A = '1', REQUEST_METHOD = 'mine' }"),
        route("/missing", "command-missing", ""),
        route("/elsewhere", "command-elsewhere", ""),
        route("/no-content", "command-no-content", ""),
        route("/fails-late", "command-fails-late", ""),
    ];
    let server = start("", &routes.concat());
    let mut client = Client::new(server.address);
    client.send(
        "POST /v/a%2Fb/c?q=1&r HTTP/1.1\r\nHost: a.example:81\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\
         X-Own-Field: 1\r\nX-Own-Field: 2\r\nProxy: evil\r\nAuthorization: secret\r\nX_Own: no\r\n\r\nhi",
    );
    let text = client.reply().text();
    let variables: Vec<_> = text.split_terminator('\0').collect();
    for variable in [
        "A=1",
        "AUTH_TYPE=",
        "CONTENT_LENGTH=2",
        "CONTENT_TYPE=text/x",
        "GATEWAY_INTERFACE=CGI/1.1",
        "HTTP_HOST=a.example:81",
        "HTTP_X_OWN_FIELD=1, 2",
        "PATH_INFO=/a/b/c",
        "QUERY_STRING=q=1&r",
        "REMOTE_ADDR=127.0.0.1",
        "REMOTE_HOST=127.0.0.1",
        "REQUEST_METHOD=POST",
        "SCRIPT_NAME=/v",
        "SERVER_NAME=a.example",
        "SERVER_PORT=81",
        "SERVER_PROTOCOL=HTTP/1.1",
        "X_FULL_URL=http://a.example:81/v/a%2Fb/c?q=1&r",
        "X_MATCHED_ROUTE=/v/...",
        "X_RAW_PATH_INFO=/a%2Fb/c",
        // The arguments.
        "command-variables.wasm",
        "-x",
    ] {
        assert!(variables.contains(&variable), "{variable} is not in {variables:?}");
    }
    for text in ["evil", "secret", "HTTP_X_OWN=", "REQUEST_METHOD=mine"] {
        assert!(!text.is_empty() && !variables.iter().any(|variable| variable.contains(text)), "{text}: {variables:?}");
    }

    let missing = get(server.address, "/missing");
    assert_reply(&missing, 404, "nothing\n");
    assert_eq!(missing.headers.iter().filter(|(name, _)| name == "x-own").count(), 2, "{missing:?}");
    let elsewhere = get(server.address, "/elsewhere");
    assert_reply(&elsewhere, 302, "");
    assert_eq!(elsewhere.header("location"), Some("/x"));
    assert_reply(&get(server.address, "/no-content"), 204, "");
    // The program's status is in the log, and changes nothing for the client.
    assert_reply(&get(server.address, "/fails-late"), 200, "Content");
}

#[test]
fn a_failure_has_its_status_and_a_fixed_text() {
    let limits = "show_errors = true\nlimits = { timeout = '200ms', memory = '8MiB', body = 10, output = '100kB' }";
    let routes: String = [
        ("/plugin-echo", "plugin-echo"),
        ("/plugin-trap", "plugin-trap"),
        ("/plugin-loop", "plugin-loop"),
        ("/plugin-exit", "plugin-exit"),
        ("/plugin-fill", "plugin-fill"),
        ("/plugin-flood", "plugin-flood"),
        ("/headless", "command-headless"),
        ("/malformed", "command-malformed"),
        ("/endless-header", "command-endless-header"),
        ("/fails", "command-fails"),
        ("/command-loop", "command-loop"),
        ("/command-cat", "command-cat"),
        ("/package-fails", "package-fails"),
        ("/package-garbage", "package-garbage"),
    ]
    .iter()
    .map(|(path, module)| route(path, module, limits))
    .chain([route("/quiet", "plugin-trap", "")])
    .collect();
    let server = start("", &routes);
    for (path, status, kind, text) in [
        ("/plugin-trap", 500, "trap-unreachable", "Internal Server Error\n"),
        ("/plugin-fill", 500, "trap-unreachable", "Internal Server Error\n"),
        ("/plugin-exit", 500, "exit", "Internal Server Error\n"),
        ("/plugin-loop", 504, "timed-out", "Gateway Timeout\n"),
        ("/plugin-flood", 502, "too-long", "Bad Gateway\n"),
        ("/headless", 502, "output", "Bad Gateway\n"),
        ("/malformed", 502, "output", "Bad Gateway\n"),
        ("/endless-header", 502, "output", "Bad Gateway\n"),
        ("/fails", 500, "exit", "Internal Server Error\n"),
        ("/command-loop", 504, "timed-out", "Gateway Timeout\n"),
        ("/package-fails", 422, "package", "no such version\n"),
        ("/package-garbage", 502, "output", "Bad Gateway\n"),
    ] {
        let reply = post(server.address, path, "x");
        assert_reply(&reply, status, text);
        assert_eq!(reply.header("x-mistletoe-error"), Some(kind), "{path}");
        server.logged(&[
            &format!("\"route\":\"{path}\""),
            &format!("\"status\":{status}"),
            &format!("\"error\":\"{kind}\""),
        ]);
    }
    let quiet = get(server.address, "/quiet");
    assert_reply(&quiet, 500, "Internal Server Error\n");
    assert_eq!(quiet.header("x-mistletoe-error"), None);

    assert_reply(&get(server.address, "/none"), 404, "Not Found\n");
    let method = get(server.address, "/package-fails");
    assert_reply(&method, 405, "Method Not Allowed\n");
    assert_eq!(method.header("allow"), Some("POST"));
    for path in ["/plugin-echo", "/command-cat"] {
        assert_reply(
            &post(server.address, path, "0123456789"),
            200,
            if path == "/command-cat" { "0123456789" } else { "0123456789\n" },
        );
        let reply = post(server.address, path, "0123456789a");
        assert_reply(&reply, 413, "Payload Too Large\n");
        // A length that is not known in advance.
        let mut client = Client::new(server.address);
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
        client.send("6\r\n012345\r\n");
        client.try_send("6\r\n012345\r\n0\r\n\r\n");
        let status = client.reply().status;
        // The command may have begun to respond.
        assert!(status == 413 || (path == "/command-cat" && status == 200), "{status}");
    }
    for (path, kind) in [("/plugin-trap", "trap-unreachable"), ("/fails", "exit"), ("/endless-header", "output")] {
        server.wait_for(&format!("mistletoe_failures_total{{route=\"{path}\",kind=\"{kind}\"}} 1"));
        let one = format!("mistletoe_failures_total{{route=\"{path}\"");
        assert_eq!(server.service.metrics().matches(&one).count(), 1, "each failure has one kind");
    }
    server.wait_for(r#"mistletoe_requests_total{route="/plugin-loop",status="504"} 1"#);
    server.wait_for(r#"mistletoe_memory_peak_bytes{route="/plugin-fill"} 8388608"#);
}

#[test]
fn a_request_that_finds_no_instance_in_time_is_refused() {
    let limits = "limits = { timeout = '100s' }";
    let routes = [
        route("/full", "plugin-loop", &format!("{limits}\npool = {{ size = 1, queue = 0 }}")),
        route("/late", "plugin-loop", &format!("{limits}\npool = {{ size = 1, queue = 1, wait = '1ms' }}")),
        route("/free", "plugin-echo", ""),
    ];
    let mut server = start("grace = '0s'", &routes.concat());
    for path in ["/full", "/late"] {
        let mut busy = Client::new(server.address);
        busy.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        server.wait_for(&format!("mistletoe_instances_in_use{{route=\"{path}\"}} 1"));
        let reply = get(server.address, path);
        assert_reply(&reply, 503, "Service Unavailable\n");
        assert_eq!(reply.header("retry-after"), Some("1"));
        // Another route has instances and threads of its own.
        assert_reply(&post(server.address, "/free", "x"), 200, "x\n");
        drop(busy);
        server.wait_for(&format!("mistletoe_instances_in_use{{route=\"{path}\"}} 0"));
    }
    server.end();
}

/// Bodies that are on their way take a bounded amount of memory, and no instance.
#[test]
fn bodies_wait_for_room() {
    let keys = "limits = { body = '1MiB' }\npool = { size = 1, queue = 1, wait = '1ms' }";
    let server = start("", &[route("/a", "plugin-echo", keys), route("/b", "plugin-echo", "")].concat());
    let mut slow: Vec<_> = (0..2)
        .map(|_| {
            let mut client = Client::new(server.address);
            client.send("POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1048576\r\n\r\n");
            // The server has begun to read.
            assert_eq!(client.reply().status, 100);
            client
        })
        .collect();
    assert_reply(&post(server.address, "/a", "x"), 503, "Service Unavailable\n");
    assert_reply(&get(server.address, "/a"), 200, "");
    assert_reply(&post(server.address, "/b", "x"), 200, "x\n");
    slow[0].send("x".repeat(1 << 20));
    assert_eq!(slow[0].reply().body.len(), (1 << 20) + 1);
    assert_reply(&post(server.address, "/a", "x"), 200, "x\n");
}

#[test]
fn connections_are_kept_and_bodies_come_in_chunks() {
    let server = start("", &[route("/cat", "command-cat", ""), route("/hello", "httpwasm-c", "")].concat());
    let mut client = Client::new(server.address);
    for i in 0..3 {
        client.send(format!("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n{i}"));
        assert_reply(&client.reply(), 200, &format!("hello, {i}\n"));
    }
    // Both bodies stream: each part comes back before the next one is sent.
    client.send("POST /cat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\none\r\n");
    let head = client.head().expect("a header");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
    assert_eq!(client.chunk().as_deref(), Some(&b"one"[..]));
    client.send("3\r\ntwo\r\n");
    assert_eq!(client.chunk().as_deref(), Some(&b"two"[..]));
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk().as_deref(), Some(&b""[..]));
    // And the connection goes on.
    client.send("POST /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx");
    assert_reply(&client.reply(), 200, "hello, x\n");
    assert!(client.is_closed());
    // A client that does not want to keep it.
    let mut client = Client::new(server.address);
    client.send("GET /hello HTTP/1.0\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    assert!(client.is_closed());
}

#[test]
fn http2_is_spoken_without_an_upgrade() {
    let routes =
        [route("/cat", "command-cat", ""), route("/v", "command-variables", ""), route("/bytes", "plugin-bytes", "")];
    let server = start("", &routes.concat());
    let (address, runtime) = (server.address, runtime());
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = |method: &str, path: &str, body: &'static str| {
            let uri = format!("http://a.example{path}");
            http::Request::builder().method(method).uri(uri).body(Full::new(Bytes::from(body))).expect("a request")
        };
        let requests = ["a", "b", "c"].map(|body| (body, sender.send_request(request("POST", "/cat", body))));
        for (body, response) in requests {
            let response = response.await.expect("a response");
            assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
            assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), body);
        }
        for (path, length) in [("/cat", None), ("/bytes", Some("2"))] {
            let response = sender.send_request(request("HEAD", path, "")).await.expect("a response");
            let found = response.headers().get("content-length").map(|value| value.to_str().expect("text"));
            assert_eq!((response.status().as_u16(), found), (200, length), "{path}");
            assert!(response.into_body().collect().await.expect("a body").to_bytes().is_empty());
        }
        let response = sender.send_request(request("GET", "/v", "")).await.expect("a response");
        let text = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&text);
        for variable in ["HTTP_HOST=a.example\0", "SERVER_PROTOCOL=HTTP/2.0\0", "SERVER_NAME=a.example\0"] {
            assert!(text.contains(variable), "{variable} is not in {text}");
        }
    });
}

#[test]
fn a_head_request_gets_a_header_alone() {
    let routes = [
        route("/hello", "httpwasm-c", "methods = ['GET']"),
        route("/cat", "command-cat", ""),
        route("/bytes", "plugin-bytes", ""),
        route("/trap", "command-traps-late", ""),
    ];
    let server = start("", &routes.concat());
    let mut client = Client::new(server.address);
    for (path, status, length) in [("/cat", 200, None), ("/bytes", 200, Some("2")), ("/none", 404, Some("10"))] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let reply = client.reply_to("HEAD").expect("a response");
        assert_eq!((reply.status, reply.header("content-length").filter(|l| *l != "0")), (status, length), "{path}");
    }
    // The program has run to its end before.
    client.send("HEAD /trap HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply_to("HEAD").map(|reply| reply.status), Some(500));
    client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_reply(&client.reply(), 200, "");
}

#[test]
fn a_client_can_ask_before_it_sends_a_body() {
    let server = start("", &route("/hello", "httpwasm-c", "limits = { body = 10 }"));
    let expecting = |length: usize| {
        let mut client = Client::new(server.address);
        client.send(format!(
            "POST /hello HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ));
        client
    };
    let mut client = expecting(5);
    assert_eq!(client.reply().status, 100);
    client.send("world");
    assert_reply(&client.reply(), 200, "hello, world\n");
    // Nothing is asked for that would be refused.
    assert_reply(&expecting(11).reply(), 413, "Payload Too Large\n");
}

#[test]
fn a_header_has_limits() {
    let server = start("max_headers = 20\nmax_header_bytes = '8KiB'", &route("/hello", "httpwasm-c", ""));
    let many: String = (0..20).map(|i| format!("X-{i}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(9_000));
    for headers in [many, long] {
        let mut client = Client::new(server.address);
        client.try_send(format!("GET /hello HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
        assert_eq!(client.reply().status, 431);
        assert!(client.is_closed());
    }
}

#[test]
fn a_client_that_is_too_slow_is_let_go() {
    let server = start(
        "header_timeout = '300ms'\nwrite_timeout = '300ms'",
        &[
            route("/hello", "httpwasm-c", "body_timeout = '300ms'"),
            route("/cat", "command-cat", "body_timeout = '300ms'"),
            route("/flood", "command-flood", "limits = { timeout = '100s', output = '1GiB' }"),
        ]
        .concat(),
    );
    // No word, the beginning of a header, the beginning of HTTP/2, and a connection that is not used again.
    for begun in ["", "GET /hello HT", "PRI * HTTP/2.0\r\n"] {
        let mut client = Client::new(server.address);
        client.send(begun);
        assert!(client.is_closed(), "{begun:?}");
    }
    let mut client = Client::new(server.address);
    client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    assert!(client.is_closed());
    // A body that does not come.
    for path in ["/hello", "/cat"] {
        let mut client = Client::new(server.address);
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf"));
        let reply = client.reply();
        // The command has begun to respond, with what there was.
        assert!(reply.status == 408 || (path == "/cat" && !reply.complete), "{path}: {reply:?}");
        server.wait_for(&format!("mistletoe_failures_total{{route=\"{path}\",kind=\"slow-body\"}} 1"));
    }
    // A response that is not read.
    let mut client = Client::new(server.address);
    client.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for(r#"mistletoe_requests_total{route="/flood",status="499"} 1"#);
    server.wait_for(r#"mistletoe_instances_in_use{route="/flood"} 0"#);
    drop(client);
}

#[test]
fn a_client_that_leaves_cancels_its_guest() {
    let limits = "limits = { timeout = '100s' }\npool = { size = 1 }";
    let routes = [
        route("/plugin", "plugin-loop", limits),
        route("/command", "command-loop", limits),
        route("/reads", "command-cat", limits),
        route("/writes", "command-flood", limits),
    ];
    let server = start("", &routes.concat());
    for path in ["/plugin", "/command", "/reads", "/writes"] {
        let mut client = Client::new(server.address);
        client.send(match path {
            "/reads" => format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf"),
            _ => format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
        });
        server.wait_for(&format!("mistletoe_instances_in_use{{route=\"{path}\"}} 1"));
        drop(client);
        server.wait_for(&format!("mistletoe_instances_in_use{{route=\"{path}\"}} 0"));
        server.until(&format!("a failure of {path}"), || server.failures(path) == 1);
    }
}

/// What a program does with a whole body, it must not do with a half of one.
#[test]
fn a_body_that_breaks_off_is_not_taken_for_a_whole_one() {
    let keys = "dirs = [{ host = 'data', guest = '/data', writable = true }]";
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("data")).expect("a directory");
    let server = start_in(directory, "", &route("/keep", "command-keep", keys));
    let kept = server.directory.path().join("data/kept");
    for (count, head) in
        ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"].iter().enumerate()
    {
        let mut client = Client::new(server.address);
        client.send(format!("POST /keep HTTP/1.1\r\nHost: a\r\n{head}"));
        server.wait_for(r#"mistletoe_instances_in_use{route="/keep"} 1"#);
        drop(client);
        server.wait_for(r#"mistletoe_instances_in_use{route="/keep"} 0"#);
        server.until("a failure", || server.failures("/keep") == count as u64 + 1);
        assert!(!kept.exists());
    }
    assert_eq!(post(server.address, "/keep", "whole").status, 200);
    assert!(kept.exists());
}

#[test]
fn a_client_of_http2_that_leaves_cancels_its_guest() {
    let server = start("", &route("/loop", "plugin-loop", "limits = { timeout = '100s' }"));
    let (address, runtime) = (server.address, runtime());
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = || http::Request::get("http://a.example/loop").body(Full::new(Bytes::new())).expect("a request");
        // One request alone, and then the whole connection.
        let response = tokio::spawn(sender.send_request(request()));
        server.wait_for(r#"mistletoe_instances_in_use{route="/loop"} 1"#);
        response.abort();
        server.wait_for(r#"mistletoe_failures_total{route="/loop",kind="cancelled"} 1"#);
        tokio::spawn(sender.send_request(request()));
        server.wait_for(r#"mistletoe_instances_in_use{route="/loop"} 1"#);
    });
    runtime.shutdown_background();
    server.wait_for(r#"mistletoe_failures_total{route="/loop",kind="cancelled"} 2"#);
}

#[test]
fn a_response_that_breaks_off_is_not_taken_for_a_whole_one() {
    let limits = "limits = { output = '1MiB' }";
    let routes = [
        route("/trap", "command-traps-late", limits),
        route("/flood", "command-flood", limits),
        route("/sized", "command-sized", ""),
        route("/short", "command-short", ""),
        route("/long", "command-long", ""),
    ];
    let server = start("", &routes.concat());
    let reply = get(server.address, "/trap");
    assert_eq!((reply.status, reply.text().as_str(), reply.complete), (200, "Content", false));
    server.logged(&["\"route\":\"/trap\"", "\"error\":\"trap-unreachable\""]);
    // A length that is not the body's.
    for path in ["/short", "/long"] {
        let reply = get(server.address, path);
        assert!(reply.status == 200 && !reply.complete, "{path}: {reply:?}");
        server.logged(&[&format!("\"route\":\"{path}\""), "\"error\":\"output\""]);
    }
    assert_reply(&get(server.address, "/sized"), 200, "hello");
    server.logged(&["\"route\":\"/sized\"", "\"status\":200", "\"bytes\":5"]);
    assert!(!server.service.metrics().contains(r#"{route="/sized",kind"#), "the guest was not cancelled");

    let reply = get(server.address, "/flood");
    assert!(reply.status == 200 && !reply.complete && reply.body.len() <= 1 << 20, "{} bytes", reply.body.len());
    server.logged(&["\"route\":\"/flood\"", "\"error\":\"output\""]);
}

#[test]
fn instances_are_fresh_or_reused() {
    let routes = [
        route("/fresh", "plugin-count", "pool = { size = 1 }"),
        route("/reused", "plugin-count", "pool = { size = 1, reuse = true }"),
    ];
    let server = start("", &routes.concat());
    for i in 1..4 {
        assert_reply(&get(server.address, "/fresh"), 200, "1");
        assert_reply(&get(server.address, "/reused"), 200, &i.to_string());
    }
}

#[test]
fn a_reload_loses_no_request() {
    let server = start("", &route("/a", "plugin-echo", ""));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (address, stop) = (server.address, &stop);
                scope.spawn(move || {
                    let mut count = 0;
                    let mut connection = Client::new(address);
                    while !stop.load(Ordering::Relaxed) {
                        let body = format!("{client}.{count}");
                        connection.send(format!(
                            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        ));
                        assert_reply(&connection.reply(), 200, &format!("{body}\n"));
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for i in 0..20 {
            let more = format!("env = {{ I = '{i}' }}");
            let config = config("", &route("/a", "plugin-echo", &more), server.directory.path());
            server.service.reload(&config).expect("a reload");
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().expect("no failure") > 0);
        }
    });
    server.wait_for("mistletoe_reloads_total{result=\"ok\"} 20");
}

#[test]
fn a_reload_exchanges_all_routes_or_none() {
    let slow = "limits = { timeout = '100s' }";
    let server = start(
        "",
        &[route("/a", "plugin-count", "pool = { reuse = true }"), route("/slow", "command-cat", slow)].concat(),
    );
    assert_reply(&get(server.address, "/a"), 200, "1");
    let mut old = Client::new(server.address);
    old.send("POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    assert_eq!((old.head().map(|head| head.status), old.chunk()), (Some(200), Some(b"a".to_vec())));

    let directory = server.directory.path();
    std::fs::write(directory.join("plugin-bad.wasm"), "garbage").expect("a file");
    let bad = [route("/new", "plugin-echo", ""), route("/bad", "plugin-bad", ""), route("/none", "plugin-none", "")];
    let error = server.service.reload(&config("", &bad.concat(), directory)).expect_err("a bad module");
    assert_eq!(error.problems().len(), 2, "{error}");
    assert!(error.to_string().contains("route `/bad`, module: "), "{error}");
    assert_reply(&get(server.address, "/a"), 200, "2");
    assert_eq!(get(server.address, "/new").status, 404);

    let good = route("/new", "plugin-echo", "");
    let reload = server.service.reload(&config("max_headers = 7", &good, directory)).expect("a reload");
    assert_eq!((reload.routes, reload.listeners_differ), (1, true));
    assert_eq!(get(server.address, "/a").status, 404);
    assert_reply(&post(server.address, "/new", "x"), 200, "x\n");
    // What began before goes on.
    old.send("1\r\nb\r\n0\r\n\r\n");
    assert_eq!((old.chunk(), old.chunk()), (Some(b"b".to_vec()), Some(Vec::new())));
    // A route that is gone leaves no numbers, also for a later one of its name.
    server.service.reload(&config("", &route("/a", "plugin-echo", ""), directory)).expect("a reload");
    let numbers = |path: &str| server.service.metrics().contains(&format!("requests_total{{route=\"{path}\""));
    assert!(!numbers("/a") && !numbers("/new"), "{}", server.service.metrics());
    server.wait_for("mistletoe_reloads_total{result=\"failed\"} 1");
}

#[test]
fn a_server_that_stops_finishes_what_it_began() {
    let mut server = start("", &route("/cat", "command-cat", ""));
    let mut busy = Client::new(server.address);
    busy.send("POST /cat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    assert_eq!((busy.head().map(|head| head.status), busy.chunk()), (Some(200), Some(b"a".to_vec())));
    let mut idle = Client::new(server.address);
    idle.send("POST /cat HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_reply(&idle.reply(), 200, "x");
    server.stop();
    assert!(idle.is_closed());
    let readiness = get(server.admin, "/readyz");
    assert_reply(&readiness, 503, "stopping\n");
    assert_reply(&get(server.admin, "/healthz"), 200, "ok\n");
    assert!(std::net::TcpStream::connect(server.address).is_err(), "it listens no more");
    busy.send("1\r\nb\r\n0\r\n\r\n");
    assert_eq!((busy.chunk(), busy.chunk()), (Some(b"b".to_vec()), Some(Vec::new())));
    server.end();
}

#[test]
fn a_server_that_stops_cancels_what_takes_too_long() {
    let routes = [route("/loop", "plugin-loop", "limits = { timeout = '100s' }")];
    let mut server = start("grace = '50ms'", &routes.concat());
    let mut busy = Client::new(server.address);
    busy.send("GET /loop HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for(r#"mistletoe_instances_in_use{route="/loop"} 1"#);
    let begun = Instant::now();
    server.end();
    assert!(busy.reply_to("").is_none(), "it gets no response");
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    server.wait_for(r#"mistletoe_failures_total{route="/loop",kind="cancelled"} 1"#);
}

#[test]
fn administrators_have_a_listener_of_their_own() {
    let server = start("", &route("/a", "plugin-echo", ""));
    post(server.address, "/a", "x");
    server.wait_for(r#"mistletoe_requests_total{route="/a",status="200"} 1"#);
    assert_reply(&get(server.admin, "/healthz"), 200, "ok\n");
    assert_reply(&get(server.admin, "/readyz"), 200, "ready\n");
    let metrics = get(server.admin, "/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(
        metrics.text().contains("\nmistletoe_requests_total{route=\"/a\",status=\"200\"} 1\n"),
        "{}",
        metrics.text()
    );
    let status: serde_json::Value = serde_json::from_slice(&get(server.admin, "/status.json").body).expect("JSON");
    assert_eq!(status["routes"][0]["name"], "/a");
    assert_eq!(status["routes"][0]["instances"]["in_use"], 0);
    let page = get(server.admin, "/");
    assert!(page.status == 200 && page.text().starts_with("<!doctype html>"), "{page:?}");
    assert!(page.header("content-security-policy").is_some());
    assert_eq!(post(server.admin, "/metrics", "").status, 405);
    assert_eq!(get(server.admin, "/none").status, 404);
    // And clients do not reach it.
    assert_eq!(get(server.address, "/metrics").status, 404);
}

#[test]
fn connections_beyond_the_limit_wait() {
    let server = start("max_connections = 1", &route("/a", "plugin-echo", ""));
    let mut first = Client::new(server.address);
    first.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1");
    assert_reply(&first.reply(), 200, "1\n");
    let mut second = Client::new(server.address);
    second.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n2");
    first.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n3");
    assert_reply(&first.reply(), 200, "3\n");
    server.wait_for("mistletoe_connections 1");
    drop(first);
    assert_reply(&second.reply(), 200, "2\n");
}

#[test]
fn a_program_mounts_the_service_in_a_server_of_its_own() {
    use tower_service::Service as _;
    let directory = tempfile::tempdir().expect("a directory");
    guests::write(directory.path());
    let config = config("", &route("/a", "plugin-echo", ""), directory.path());
    let mut service = Service::new(&config, Files, Log::default()).expect("a service");
    let request = http::Request::post("http://a.example/a").body(Full::new(Bytes::from("x"))).expect("a request");
    let body = runtime().block_on(async {
        let response = service.call(request).await.expect("never fails");
        response.into_body().collect().await.expect("a body").to_bytes()
    });
    assert_eq!(body, "x\n");
}

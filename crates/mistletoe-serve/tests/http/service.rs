//! The service: reloads, the end of a server, and what administrators see.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use mistletoe_serve::{Files, Log, Service};

use crate::client::{Client, LONG, get, post};
use crate::guests;
use crate::server::{Lines, assert_reply, config, route, runtime, start};

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
fn a_service_with_reused_middleware_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    guests::write(directory.path());
    let config = |keys: &str| config("", &route("/a", "middleware-pass", keys), directory.path());
    let reused = config("pool = { reuse = true }");
    let (lines, log) = std::sync::mpsc::channel();
    let service = Service::new(&reused, Files, Log::to_writer(Lines(lines)).expect("a log")).expect("a service");
    // A later state of the service does not keep the first one.
    runtime().block_on(async {
        use tower_service::Service as _;
        let request = http::Request::post("http://a.example/a").body(Full::new(Bytes::from("x")));
        let response = service.clone().call(request.expect("a request")).await.expect("never fails");
        assert_eq!(response.status(), 404);
        response.into_body().collect().await.expect("a body");
    });
    assert!(service.wait_for_guests(LONG));
    assert!(service.metrics().contains("instances_idle{route=\"/a\"} 1\n"), "{}", service.metrics());
    service.reload(&config("")).expect("a reload");
    drop(service);
    // All that is of a service has its log.
    let end = loop {
        if let Err(end) = log.recv_timeout(LONG) {
            break end;
        }
    };
    assert_eq!(end, RecvTimeoutError::Disconnected);
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

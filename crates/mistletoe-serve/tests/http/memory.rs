//! What clients can make the server keep in memory, and that one route's clients leave room for the others.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::client::{Client, get, post};
use crate::server::{Running, assert_reply, route, runtime, start, through};

/// Connects a client of HTTP/2 that accepts 16 KiB of a response until it reads it.
async fn small_window(server: &Running) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(server.address).await.expect("a connection");
    let handshake =
        Builder::new(TokioExecutor::new()).initial_stream_window_size(16 << 10).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn fetch(sender: &mut SendRequest<Full<Bytes>>, path: &str) -> http::Response<Incoming> {
    let request = http::Request::get(format!("http://a.example{path}")).body(Full::default()).expect("a request");
    sender.send_request(request).await.expect("a response")
}

#[test]
fn responses_that_are_not_read_take_bounded_room() {
    let keys = "limits = { output = '2MiB' }\npool = { size = 4, wait = '1ms' }";
    let server = start(
        "response_memory = '4MiB'",
        &[route("/a", "plugin-large", keys), route("/b", "plugin-large", keys)].concat(),
    );
    let length = 1 << 20;
    runtime().block_on(async {
        let mut sender = small_window(&server).await;
        // What one route may have, while the other one goes on.
        let mut held = vec![fetch(&mut sender, "/a").await, fetch(&mut sender, "/a").await];
        let refused = fetch(&mut sender, "/a").await;
        assert_eq!((refused.status().as_u16(), refused.headers().get("retry-after").is_some()), (503, true));
        server.wait_for(r#"mistletoe_failures_total{route="/a",kind="full"} 1"#);
        assert_eq!(get(server.address, "/b").body.len(), length);
        held.push(fetch(&mut sender, "/b").await);
        held.push(fetch(&mut sender, "/b").await);
        assert_eq!(fetch(&mut sender, "/b").await.status().as_u16(), 503);
        assert!(held.iter().all(|response| response.status().as_u16() == 200));
        // A response that is read, and one that is given up.
        let read = held.remove(0).into_body().collect().await.expect("a body").to_bytes();
        assert!(read.len() == length && read.iter().all(|byte| *byte == 0));
        drop(held.pop());
        for path in ["/a", "/b"] {
            server.until("room", || get(server.address, path).status == 200);
        }
    });
    // Nothing is left when the client has gone.
    for path in ["/a", "/a", "/b", "/b"] {
        server.until("room", || get(server.address, path).status == 200);
    }
}

/// Starts a server with room for four responses of a command.
fn with_room_for_four(timeout: &str) -> Running {
    let keys = format!("limits = {{ timeout = '{timeout}' }}\npool = {{ size = 1 }}");
    start("response_memory = '1MiB'\nwrite_timeout = '100s'", &route("/a", "command-large", &keys))
}

/// Returns four responses, of which the client reads nothing.
async fn four(server: &Running, sender: &mut SendRequest<Full<Bytes>>) -> Vec<http::Response<Incoming>> {
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(fetch(sender, "/a").await);
        server.wait_for(r#"mistletoe_instances_in_use{route="/a"} 0"#);
    }
    held
}

#[test]
fn responses_of_commands_that_have_ended_take_bounded_room() {
    let server = with_room_for_four("3s");
    runtime().block_on(async {
        let mut sender = small_window(&server).await;
        let mut held = four(&server, &mut sender).await;
        // Its head needs no room. It waits for as long as its guest has time.
        let refused = fetch(&mut sender, "/a").await;
        assert!(refused.into_body().collect().await.is_err());
        server.wait_for(r#"mistletoe_failures_total{route="/a",kind="full"} 1"#);
        let read = held.remove(0).into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(read.len(), 256 << 10);
        let response = fetch(&mut sender, "/a").await;
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes().len(), 256 << 10);
    });
}

#[test]
fn a_command_that_waits_for_room_ends_when_its_client_leaves() {
    let server = with_room_for_four("100s");
    runtime().block_on(async {
        let mut sender = small_window(&server).await;
        let _held = four(&server, &mut sender).await;
        let waiting = fetch(&mut sender, "/a").await;
        server.wait_for(r#"mistletoe_instances_in_use{route="/a"} 1"#);
        drop(waiting);
        server.wait_for(r#"mistletoe_instances_in_use{route="/a"} 0"#);
        assert!(!server.service.metrics().contains(r#"kind="full""#), "{}", server.service.metrics());
    });
}

#[test]
fn responses_that_middleware_writes_take_bounded_room() {
    let keys = "limits = { output = '2MiB' }, pool = { size = 4, wait = '1ms' }";
    let routes = ["request", "response"].map(|name| {
        let middleware = through(&[(&format!("large-{name}"), keys)]);
        format!("[[route]]\npath = '/{name}'\nkind = 'response'\nresponse = {{}}\n{middleware}")
    });
    let server = start("response_memory = '4MiB'", &routes.concat());
    runtime().block_on(async {
        let mut sender = small_window(&server).await;
        for path in ["/request", "/response"] {
            let held = [fetch(&mut sender, path).await, fetch(&mut sender, path).await];
            assert!(held.iter().all(|response| response.status().as_u16() == 200));
            assert_eq!(fetch(&mut sender, path).await.status().as_u16(), 503);
            server.wait_for(&format!("mistletoe_failures_total{{route=\"{path}\",kind=\"full\"}} 1"));
            let [read, _] = held;
            let read = read.into_body().collect().await.expect("a body").to_bytes();
            assert!(read.len() == 1 << 20 && read.iter().all(|byte| *byte == 0));
            server.until("room", || get(server.address, path).status == 200);
        }
    });
}

#[test]
fn a_request_waits_for_room_for_its_response() {
    let keys = "limits = { output = '1MiB' }\npool = { size = 1, wait = '100s' }";
    let server = start("response_memory = '1MiB'", &route("/a", "plugin-large", keys));
    runtime().block_on(async {
        let mut sender = small_window(&server).await;
        let first = fetch(&mut sender, "/a").await;
        let second = tokio::spawn(async move { fetch(&mut sender, "/a").await.status() });
        // It keeps its instance, so that no other response comes into being.
        server.wait_for(r#"mistletoe_instances_in_use{route="/a"} 1"#);
        assert!(!second.is_finished());
        drop(first);
        assert_eq!(second.await.expect("a response").as_u16(), 200);
    });
}

#[test]
fn the_number_of_requests_under_way_is_limited() {
    let keys = "show_errors = true\nlimits = { timeout = '100s' }\npool = { size = 4 }";
    let server =
        start("max_requests = 4", &[route("/a", "plugin-loop", keys), route("/b", "plugin-echo", keys)].concat());
    let mut busy: Vec<_> = (0..2)
        .map(|_| {
            let mut client = Client::new(server.address);
            client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    server.wait_for(r#"mistletoe_instances_in_use{route="/a"} 2"#);
    let refused = get(server.address, "/a");
    assert_reply(&refused, 503, "Service Unavailable\n");
    assert_eq!((refused.header("retry-after"), refused.header("x-mistletoe-error")), (Some("1"), Some("crowded")));
    server.wait_for(r#"mistletoe_failures_total{route="/a",kind="crowded"} 1"#);
    assert_reply(&post(server.address, "/b", "x"), 200, "x\n");
    busy.pop();
    server.wait_for(r#"mistletoe_instances_in_use{route="/a"} 1"#);
    let mut next = Client::new(server.address);
    next.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for(r#"mistletoe_instances_in_use{route="/a"} 2"#);
    drop((busy, next));
    server.wait_for(r#"mistletoe_instances_in_use{route="/a"} 0"#);
}

/// The message of a package is the one text of a failure that a guest decides.
#[test]
fn a_failed_request_leaves_its_record_at_once() {
    let server = start("", &route("/a", "package-fails", ""));
    runtime().block_on(async {
        let mut sender = small_window(&server).await;
        let request = http::Request::post("http://a.example/a").body(Full::default()).expect("a request");
        let unread = sender.send_request(request).await.expect("a response");
        assert_eq!(unread.status().as_u16(), 422);
        server.logged(&["\"status\":422", "\"error\":\"package\""]);
        assert!(tokio::time::timeout(Duration::from_secs(100), unread.into_body().collect()).await.is_ok());
    });
}

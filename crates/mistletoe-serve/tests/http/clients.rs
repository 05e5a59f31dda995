//! Clients that are slow, or leave.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::client::{Client, post};
use crate::server::{route, runtime, start, start_in};

#[test]
fn a_client_that_is_too_slow_is_let_go() {
    let server = start(
        "header_timeout = '300ms'\nwrite_timeout = '300ms'",
        &[
            route("/hello", "httpwasm-c", "body_timeout = '300ms'"),
            route("/cat", "command-cat", "body_timeout = '300ms'"),
            route("/whole", "plugin-echo", "body_timeout = '100s'\nlimits = { timeout = '300ms' }"),
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
    // However often a part of it comes.
    let mut client = Client::new(server.address);
    client.send("POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.reply().status, 408);
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
        server.wait_for(r#"mistletoe_instances_in_use{route="/loop"} 0"#);
        tokio::spawn(sender.send_request(request()));
        server.wait_for(r#"mistletoe_instances_in_use{route="/loop"} 1"#);
    });
    runtime.shutdown_background();
    server.wait_for(r#"mistletoe_failures_total{route="/loop",kind="cancelled"} 2"#);
}

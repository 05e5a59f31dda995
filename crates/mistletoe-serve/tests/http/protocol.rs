//! HTTP/1.1 and HTTP/2, as clients speak them.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::client::Client;
use crate::server::{assert_reply, route, runtime, start};

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

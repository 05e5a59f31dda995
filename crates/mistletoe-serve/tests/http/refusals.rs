//! What the server refuses before a guest sees it: requests that can be read in two ways, heads that are too large or
//! too slow. Each leaves a line in the log and a number in the metrics.

use crate::client::{Client, get};
use crate::server::{Running, assert_reply, route, start};

/// A request that nobody sent by itself. If the server takes it for one, it was smuggled.
const SMUGGLED: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn echo() -> Running {
    start("", &[route("/echo", "plugin-echo", ""), route("/smuggled", "plugin-echo", "")].concat())
}

/// Checks that a client gets 400 and the end of its connection, that this is logged, and that no request came after.
fn assert_refused(server: &Running, mut client: Client, what: &str) {
    let reply = client.reply_to("").unwrap_or_else(|| panic!("no response to {what:?}"));
    assert_eq!(reply.status, 400, "{what:?}");
    assert!(client.is_closed(), "{what:?}");
    let line = server.logged(&["\"request\"", "\"status\":400"]);
    assert!(line.contains("\"remote\":\"127.0.0.1:") && line.contains("\"message\":\""), "{what:?}: {line}");
}

/// Two clients behind one proxy must not get each other's responses.
#[test]
fn a_request_with_two_lengths_is_refused() {
    let server = echo();
    let length = SMUGGLED.len();
    for headers in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
        format!("content-length:{length}\r\nX: y\r\ntransfer-encoding:chunked"),
        "Transfer-Encoding: chunked\r\nContent-Length: 0".to_owned(),
        format!("Content-Length: {length}\r\nTransfer-Encoding: {}chunked", " ".repeat(200)),
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n{SMUGGLED}");
        let mut client = Client::new(server.address);
        client.send(&request);
        assert_refused(&server, client, &headers);

        // Behind others on its connection, whose bodies look like it.
        client = Client::new(server.address);
        let chunk =
            format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", request.len());
        client.send(
            [
                "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
                &format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{request}", request.len()),
                &format!("{chunk}{request}\r\n0\r\n\r\n{request}"),
            ]
            .concat(),
        );
        assert_reply(&client.reply(), 200, "");
        for _ in 0..2 {
            let reply = client.reply();
            assert!(reply.status == 200 && reply.text().contains("GET /smuggled"), "{reply:?}");
        }
        assert_refused(&server, client, &headers);
    }
    server.wait_for(r#"mistletoe_failures_total{route="",kind="request"} 10"#);
    server.wait_for(r#"mistletoe_requests_total{route="",status="400"} 10"#);
    assert!(!server.service.metrics().contains(r#"{route="/smuggled",status="#), "{}", server.service.metrics());
}

#[test]
fn a_malformed_head_is_refused() {
    let server = echo();
    let heads = [
        // The length: RFC 9112, section 6.3.
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
        // Transfer codings: section 6.1.
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        // Lines: sections 2.2 and 5.
        "GET /echo HTTP/1.1\r\nHost: a\r\nX: y\r\n folded: 1\r\n\r\n",
        "GET /echo HTTP/1.1\r\n folded: 1\r\nHost: a\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 40\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\nContent-Length: 40\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\n\n",
        "GET /echo HTTP/1.1\nHost: a\n\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 40\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nBad Name: 1\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nno field\r\n\r\n",
        // The request line, and the host: sections 3 and 3.2.
        "GET  /echo HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /echo HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET /echo\r\nHost: a\r\n\r\n",
        "G@T /echo HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /echo HTTP/1.1\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /echo HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n",
    ];
    for head in heads {
        let mut client = Client::new(server.address);
        client.send([head, SMUGGLED].concat());
        assert_refused(&server, client, head);
    }
    server.wait_for(&format!("mistletoe_failures_total{{route=\"\",kind=\"request\"}} {}", heads.len()));
    server.wait_for(&format!("mistletoe_requests_total{{route=\"\",status=\"400\"}} {}", heads.len()));
    assert!(!server.service.metrics().contains(r#"{route="/smuggled",status="#), "{}", server.service.metrics());
    // What is equal twice has one meaning.
    let mut client = Client::new(server.address);
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx");
    assert_reply(&client.reply(), 200, "x\n");
}

/// Section 7.1 of RFC 9112.
#[test]
fn a_malformed_chunk_is_refused() {
    let server = echo();
    for body in [
        "10000000000000000\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "-1\r\n",
        "0x1\r\na\r\n",
        "1 1\r\na\r\n",
        "\r\n",
        ";\r\n",
        "1\na\r\n",
        "1;a\nb\r\na\r\n",
        "1\r\nab",
        "1\r\na\n0\r\n\r\n",
        "0\r\n \r\n",
    ] {
        let mut client = Client::new(server.address);
        client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}"));
        assert_refused(&server, client, body);
    }
    assert!(!server.service.metrics().contains(r#"{route="/smuggled",status="#), "{}", server.service.metrics());
    assert!(!server.service.metrics().contains(r#"{route="/echo",status="200""#), "{}", server.service.metrics());
}

/// The request has its response by then. The next one is refused.
#[test]
fn nothing_follows_trailers_that_end_in_two_ways() {
    let server = echo();
    for trailers in ["\nX: 1\r\n\r\n", "X: 1\n\r\nY: 2\r\n\r\n"] {
        let mut client = Client::new(server.address);
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
        client.send(format!("{head}\r\n1\r\nx\r\n0\r\n{trailers}{head}Content-Length: 0\r\n\r\n{SMUGGLED}"));
        assert_reply(&client.reply(), 200, "x\n");
        assert_refused(&server, client, trailers);
    }
    assert!(!server.service.metrics().contains(r#"{route="/smuggled",status="#), "{}", server.service.metrics());
}

#[test]
fn a_head_that_is_too_large_is_logged() {
    let server = start("max_headers = 20\nmax_header_bytes = '128KiB'", &route("/hello", "httpwasm-c", ""));
    let many: String = (0..20).map(|i| format!("X-{i}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(132_000));
    for (status, target, headers) in
        [(431, "/hello", many.as_str()), (431, "/hello", &long), (414, &format!("/{}", "x".repeat(70_000)), "")]
    {
        let mut client = Client::new(server.address);
        client.try_send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
        assert_eq!(client.reply().status, status);
        server.logged(&["\"request\"", &format!("\"status\":{status}"), "\"error\":\"large-head\""]);
    }
    server.wait_for(r#"mistletoe_failures_total{route="",kind="large-head"} 3"#);
    server.wait_for(r#"mistletoe_requests_total{route="",status="431"} 2"#);
}

#[test]
fn a_head_that_is_too_slow_is_logged() {
    let server = start("header_timeout = '300ms'", &route("/hello", "httpwasm-c", ""));
    let (hello, begun) = ("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "GET /hello HT");
    // No word, a part of a head, a part of HTTP/2's preface, and a part of a second head.
    for (index, begun) in ["", begun, "PRI * HTTP/2.0\r\n", &[hello, begun].concat()].into_iter().enumerate() {
        let mut client = Client::new(server.address);
        client.send(begun);
        if begun.starts_with(hello) {
            assert_reply(&client.reply(), 200, "");
        }
        assert!(client.is_closed(), "{begun:?}");
        server.logged(&["\"request\"", "\"status\":408", "\"error\":\"slow-head\""]);
        server.wait_for(&format!("mistletoe_failures_total{{route=\"\",kind=\"slow-head\"}} {}", index + 1));
    }
    // A connection that is not used again, and a client that leaves, are nothing to log.
    let mut client = Client::new(server.address);
    client.send(hello);
    assert_reply(&client.reply(), 200, "");
    assert!(client.is_closed());
    client = Client::new(server.address);
    client.send(begun);
    drop(client);
    server.wait_for("mistletoe_connections 0");
    server.wait_for(r#"mistletoe_requests_total{route="",status="408"} 4"#);
}

#[test]
fn a_connection_that_breaks_http2_is_logged() {
    let server = start("", &route("/hello", "httpwasm-c", ""));
    let mut client = Client::new(server.address);
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // An empty frame of settings, and a frame of data for a stream that does not exist.
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    client.send([0, 0, 1, 0, 0, 0, 0, 0, 1, 0]);
    server.logged(&["\"request\"", "\"status\":400", "\"error\":\"request\"", "unspecific protocol error"]);
    server.wait_for(r#"mistletoe_failures_total{route="",kind="request"} 1"#);
    assert_eq!(get(server.address, "/hello").status, 200);
}

//! Middleware: chains, features, and what a guest may not do to a message.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mistletoe_serve::config::Kind;

use crate::client::{Client, get, post, request};
use crate::server::{assert_reply, route, runtime, start, through};

const LONG_LIMIT: &str = "limits = { timeout = '100s' }";

/// A route to a fixed response.
fn fixed(path: &str, response: &str, more: &str) -> String {
    format!("[[route]]\npath = '{path}'\nkind = 'response'\nresponse = {{ {response} }}\n{more}\n")
}

#[test]
fn a_chain_is_passed_in_order_and_back_in_reverse() {
    let marks = through(&[("mark", "config = 'a'"), ("mark", "config = 'b'"), ("mark", "config = 'c'")]);
    let server = start("", &route("/v", "command-variables", &marks));
    let reply = get(server.address, "/v");
    assert!(reply.status == 200 && reply.text().contains("HTTP_X_TRAIL=a, b, c\0"), "{reply:?}");
    assert_eq!(reply.values("x-trail"), ["c", "b", "a"]);

    let (address, runtime) = (server.address, runtime());
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        for method in ["GET", "HEAD"] {
            let request = http::Request::builder().method(method).uri("http://a.example/v");
            let request = request.body(Full::new(Bytes::new())).expect("a request");
            let response = sender.send_request(request).await.expect("a response");
            let trail: Vec<_> = response.headers().get_all("x-trail").iter().map(|value| value.as_bytes()).collect();
            assert_eq!((response.status().as_u16(), trail), (200, vec![&b"c"[..], b"b", b"a"]));
            let text = response.into_body().collect().await.expect("a body").to_bytes();
            let text = String::from_utf8_lossy(&text);
            assert!(method == "HEAD" || text.contains("HTTP_HOST=a.example\0"), "{text}");
            assert!(method == "GET" || text.is_empty(), "{text}");
        }
    });
}

#[test]
fn a_guest_sees_the_request_and_its_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("config"), "from a file").expect("a file");
    let routes = [
        route("/text/...", "middleware-show", "config = 'a text'"),
        route("/table", "middleware-show", "config = { rate = 10, users = ['ann'] }"),
        route("/file", "middleware-show", "config_file = 'config'"),
        route("/none", "middleware-show", ""),
        // What the guest responds to, nothing behind it sees.
        route("/before", "plugin-trap", &through(&[("show", "config = 'x'")])),
    ];
    let server = crate::server::start_in(directory, "", &routes.concat());
    let mut client = Client::new(server.address);
    client
        .send("POST /text/a%20b?c=d HTTP/1.1\r\nHost: a.example\r\nX-Own: 1\r\nX-Own: 2\r\nContent-Length: 0\r\n\r\n");
    let reply = client.reply();
    let text = reply.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((reply.status, &lines[..3]), (203, &["POST", "/text/a%20b?c=d", "HTTP/1.1"][..]), "{text}");
    assert!(lines[3].starts_with("127.0.0.1:"), "{text}");
    assert_eq!(lines[4..], ["a text", "content-length\0host\0x-own\0"]);
    for (path, config) in
        [("/table", r#"{"rate":10,"users":["ann"]}"#), ("/file", "from a file"), ("/none", ""), ("/before", "x")]
    {
        let reply = get(server.address, path);
        assert_eq!((reply.status, reply.text().lines().nth(4)), (203, Some(config)), "{path}");
    }
    assert!(!server.service.metrics().contains("kind=\"trap"), "{}", server.service.metrics());

    std::fs::write(server.directory.path().join("config"), "changed").expect("a file");
    let config = crate::server::config("", &routes.concat(), server.directory.path());
    server.service.reload(&config).expect("a reload");
    assert_eq!(get(server.address, "/file").text().lines().nth(4), Some("changed"));
}

#[test]
fn what_follows_a_chain_is_a_response_or_nothing() {
    let response = "status = 410, headers = { X-Own = 'v', Content-Type = 'text/x' }, body = 'gone'";
    let routes = [
        route("/nothing", "middleware-mark", "config = 'a'"),
        fixed("/fixed", response, ""),
        fixed("/through", response, &through(&[("mark", "config = 'a'")])),
        fixed("/default", "", ""),
    ];
    let server = start("", &routes.concat());
    let nothing = get(server.address, "/nothing");
    assert_reply(&nothing, 404, "Not Found\n");
    assert_eq!(nothing.values("x-trail"), ["a"], "it is a response");
    for (path, trail) in [("/fixed", &[][..]), ("/through", &["a"])] {
        for method in ["GET", "HEAD", "POST"] {
            let reply = request(server.address, method, path, "");
            assert_reply(&reply, 410, if method == "HEAD" { "" } else { "gone" });
            assert_eq!((reply.header("content-length"), reply.header("content-type")), (Some("4"), Some("text/x")));
            assert_eq!(
                (reply.values("x-own"), reply.values("x-trail")),
                (vec!["v"], trail.to_vec()),
                "{method} {path}"
            );
        }
    }
    assert_reply(&get(server.address, "/default"), 200, "");
    server.wait_for(r#"mistletoe_requests_total{route="/through",status="410"} 3"#);
}

#[test]
fn the_next_handler_gets_the_request_as_it_is_changed() {
    let routes = [
        route("/v/...", "command-variables", &through(&[("rewrite", ""), ("set", "config = '0host:b.example:82'")])),
        route("/early", "middleware-show", &through(&[("early", "")])),
    ];
    let server = start("", &routes.concat());
    let text = get(server.address, "/v/old").text();
    for variable in [
        "REQUEST_METHOD=PUT\0",
        "QUERY_STRING=to=this\0",
        "SERVER_NAME=b.example\0",
        "SERVER_PORT=82\0",
        "X_FULL_URL=http://b.example:82/rewritten?to=this\0",
    ] {
        assert!(text.contains(variable), "{variable:?} is not in {text}");
    }
    // What was set of the response before stays, except for what the next handler sets.
    let early = get(server.address, "/early");
    assert_eq!((early.status, early.values("x-trail")), (203, vec!["x-trail"]));
    assert!(early.text().starts_with("GET\n"), "{early:?}");
}

/// A response to HEAD names a length and has no body, which a client with another method would wait for.
#[test]
fn the_length_in_a_response_to_head_is_for_head() {
    let server = start("", &route("/r", "command-sized", &through(&[("head", "")])));
    runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address).await.expect("a connection");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        for (method, length) in [("GET", None), ("HEAD", Some("5"))] {
            let request = http::Request::builder().method(method).uri("http://a.example/r");
            let request = request.body(Full::new(Bytes::new())).expect("a request");
            let response = sender.send_request(request).await.expect("a response");
            let found = response.headers().get("content-length").map(|value| value.to_str().expect("text"));
            assert_eq!((response.status().as_u16(), found), (200, length), "{method}");
            assert!(response.into_body().collect().await.expect("a body").to_bytes().is_empty());
        }
    });
}

#[test]
fn bodies_are_read_and_replaced() {
    let limits = "limits = { body = '3MiB' }";
    let cases = [
        ("wrap-request", "[", "]"),
        ("wrap-response", "[", "]"),
        ("peek", "", ""),
        ("read-request", "", ""),
        ("read-response", "", ""),
        ("observe", "", ""),
    ];
    let routes: String = cases
        .iter()
        .map(|(name, ..)| {
            route(&format!("/{name}"), "command-cat", &format!("{limits}\n{}", through(&[(name, limits)])))
        })
        .chain([
            route("/bite", "command-cat", &through(&[("bite", "")])),
            route("/all", "plugin-echo", &through(&[("wrap-response", ""), ("wrap-request", ""), ("peek", "")])),
            route("/replace", "command-cat", &through(&[("replace-response", "")])),
        ])
        .collect();
    let server = start("", &routes);
    let long: String = (0..200_000).map(|i| format!("{i:>8}\n")).collect();
    for (name, before, after) in cases {
        for body in ["", "a body", &long] {
            let reply = post(server.address, &format!("/{name}"), body);
            assert!(reply.complete, "{name}");
            assert!(reply.status == 200 && reply.text() == format!("{before}{body}{after}"), "{name} {}", reply.status);
            // And without a length.
            let mut client = Client::new(server.address);
            client.send(format!("POST /{name} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
            for part in body.as_bytes().chunks(100_000) {
                client.send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
            }
            client.send("0\r\n\r\n");
            let reply = client.reply();
            assert!(reply.status == 200 && reply.text() == format!("{before}{body}{after}"), "{name} {}", reply.status);
        }
    }
    assert_reply(&post(server.address, "/bite", "abcd"), 200, "cd");
    assert_reply(&post(server.address, "/all", "abcd"), 200, "[[abcd]\n]");
    // The program runs to its end, although nobody reads what it writes.
    assert_reply(&post(server.address, "/replace", &long[..900_000]), 200, "x-trail");
    assert!(!server.service.metrics().contains(r#"failures_total{route="/replace""#), "{}", server.service.metrics());
}

#[test]
fn what_a_guest_holds_of_a_body_has_a_limit() {
    let small = "limits = { body = 10, output = 20 }";
    let routes = [
        route("/request", "command-cat", &through(&[("read-request", small)])),
        route("/response", "command-cat", &through(&[("read-response", small)])),
        route("/written", "command-cat", &through(&[("wrap-request", "limits = { output = 20 }")])),
        route("/flood", "command-cat", &through(&[("flood-request", "")])),
        // What is not read has any length.
        route("/passes", "command-cat", &through(&[("mark", small), ("observe", small), ("peek", small)])),
        // The route's own limit is for the whole chain.
        route("/whole", "command-cat", &format!("limits = {{ body = 30 }}\n{}", through(&[("read-request", "")]))),
    ];
    let server = start("", &routes.concat());
    let (fits, exceeds) = ("0123456789", "0123456789a");
    for (path, status) in [("/request", 413), ("/response", 502)] {
        assert_reply(&post(server.address, path, fits), 200, fits);
        assert_eq!(post(server.address, path, exceeds).status, status, "{path}");
    }
    assert_reply(&post(server.address, "/written", "x".repeat(18)), 200, &format!("[{}]", "x".repeat(18)));
    assert_reply(&post(server.address, "/written", "x".repeat(19)), 502, "Bad Gateway\n");
    assert_reply(&get(server.address, "/flood"), 502, "Bad Gateway\n");
    let long = "x".repeat(1 << 20);
    let reply = post(server.address, "/passes", &long);
    assert!(reply.status == 200 && reply.text() == long, "{}", reply.status);
    let mut client = Client::new(server.address);
    client.send("POST /whole HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.try_send(format!("14\r\n{0}\r\n14\r\n{0}\r\n0\r\n\r\n", "x".repeat(20)));
    assert_eq!(client.reply().status, 413);
    server.wait_for(r#"mistletoe_failures_total{route="/whole",kind="too-large"} 1"#);
}

#[test]
fn a_response_passes_as_it_comes_and_is_seen_at_its_end() {
    let server = start("", &route("/cat", "command-cat", &through(&[("observe", ""), ("pass", "")])));
    let mut client = Client::new(server.address);
    client.send("POST /cat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-Request-Id: mine\r\n\r\n");
    client.send("3\r\none\r\n");
    assert_eq!(client.head().map(|head| head.status), Some(200));
    assert_eq!(client.chunk().as_deref(), Some(&b"one"[..]));
    client.send("3\r\ntwo\r\n");
    assert_eq!(client.chunk().as_deref(), Some(&b"two"[..]));
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk().as_deref(), Some(&b""[..]));
    let line = server.logged(&["\"guest\"", "\"line\":\"ok     0\""]);
    for text in ["\"route\":\"/cat\"", "\"middleware\":\"middleware-observe\"", "\"level\":\"warn\"", "\"mine\""] {
        assert!(line.contains(text), "{text} is not in {line}");
    }
}

#[test]
fn a_guest_learns_that_the_next_handler_failed() {
    let routes = [
        route("/rescued", "plugin-trap", &through(&[("rescue", "")])),
        route("/outer", "plugin-trap", &through(&[("rescue", ""), ("observe", ""), ("pass", "")])),
        route("/inner", "plugin-trap", &through(&[("rescue", ""), ("mark", "config = 'a'")])),
        route("/seen", "plugin-trap", &format!("show_errors = true\n{}", through(&[("observe", "")]))),
        route("/guest", "plugin-echo", &through(&[("rescue", ""), ("trap-request", "")])),
        route("/late", "command-traps-late", &through(&[("observe", "")])),
        route("/read", "command-traps-late", &through(&[("read-response", "")])),
        route("/output", "command-headless", &through(&[("observe", "")])),
    ];
    let server = start("", &routes.concat());
    for path in ["/rescued", "/outer", "/guest"] {
        assert_reply(&get(server.address, path), 299, "rescued");
        // It is a failure all the same.
        server.logged(&[&format!("\"route\":\"{path}\""), "\"status\":299", "\"error\":\"trap-unreachable\""]);
        server.wait_for(&format!("mistletoe_failures_total{{route=\"{path}\",kind=\"trap-unreachable\"}} 1"));
    }
    // The guest between them has made a response of the failure.
    let inner = get(server.address, "/inner");
    assert_reply(&inner, 500, "Internal Server Error\n");
    assert_eq!(inner.values("x-trail"), ["a"]);
    let seen = get(server.address, "/seen");
    assert_reply(&seen, 500, "Internal Server Error\n");
    assert_eq!(seen.header("x-mistletoe-error"), Some("trap-unreachable"));
    server.logged(&["\"route\":\"/seen\"", "\"line\":\"failed 0\""]);
    // After the response has begun.
    let late = get(server.address, "/late");
    assert_eq!((late.status, late.text().as_str(), late.complete), (200, "Content", false));
    server.logged(&["\"route\":\"/late\"", "\"line\":\"failed 0\""]);
    server.logged(&["\"route\":\"/late\"", "\"error\":\"trap-unreachable\""]);
    assert_reply(&get(server.address, "/read"), 500, "Internal Server Error\n");
    assert_reply(&get(server.address, "/output"), 502, "Bad Gateway\n");
    server.logged(&["\"route\":\"/output\"", "\"line\":\"failed 2\""]);
    for path in ["/late", "/read", "/output", "/seen"] {
        assert_eq!(server.failures(path), 1, "each failure is counted once: {path}");
    }
}

#[test]
fn a_guest_that_fails_has_its_status() {
    let limits = "limits = { timeout = '200ms' }";
    let cases = [
        ("trap-request", 500, "trap-unreachable"),
        ("trap-buffered", 500, "trap-unreachable"),
        ("misuse", 500, "host"),
        ("loop-request", 504, "timed-out"),
        ("loop-response", 504, "timed-out"),
    ];
    let routes: String = cases
        .iter()
        .map(|(name, ..)| {
            let more = format!("show_errors = true\n{}", through(&[(name, limits)]));
            route(&format!("/{name}"), "plugin-echo", &more)
        })
        .chain([
            route("/begun", "plugin-echo", &through(&[("trap-response", "")])),
            route("/empty", "plugin-echo", &through(&[("trap-response", "")])),
        ])
        .collect();
    let server = start("", &routes);
    for (name, status, kind) in cases {
        let reply = post(server.address, &format!("/{name}"), "x");
        assert_eq!((reply.status, reply.header("x-mistletoe-error")), (status, Some(kind)), "{name}");
        server.wait_for(&format!("mistletoe_failures_total{{route=\"/{name}\",kind=\"{kind}\"}} 1"));
        assert_eq!(server.failures(&format!("/{name}")), 1, "{name}");
    }
    // The last part is not sent before the guest has ended.
    let begun = post(server.address, "/begun", "x");
    assert!(begun.status == 200 && !begun.complete, "{begun:?}");
    assert_reply(&get(server.address, "/empty"), 500, "Internal Server Error\n");
}

/// What failed first is the reason, and both are counted.
#[test]
fn a_guest_that_fails_hides_no_failure_of_the_next_handler() {
    let routes = ["trap-response", "trap-buffered"]
        .map(|name| route(&format!("/{name}"), "command-headless", &through(&[(name, "")])));
    let server = start("", &routes.concat());
    for path in ["/trap-response", "/trap-buffered"] {
        assert_reply(&get(server.address, path), 502, "Bad Gateway\n");
        server.logged(&[&format!("\"route\":\"{path}\""), "\"status\":502", "\"error\":\"output\""]);
        for kind in ["output", "trap-unreachable"] {
            server.wait_for(&format!("mistletoe_failures_total{{route=\"{path}\",kind=\"{kind}\"}} 1"));
        }
    }
}

/// The time of the next handler is not the guest's.
#[test]
fn a_guest_has_its_time_for_each_call() {
    let short = "limits = { timeout = '200ms' }";
    let routes = [
        route("/next", "plugin-loop", &format!("limits = {{ timeout = '1s' }}\n{}", through(&[("rescue", short)]))),
        route("/body", "plugin-echo", &through(&[("read-request", short)])),
        route("/slow", "plugin-echo", &format!("body_timeout = '200ms'\n{}", through(&[("read-request", "")]))),
    ];
    let server = start("", &routes.concat());
    assert_reply(&get(server.address, "/next"), 299, "rescued");
    server.wait_for(r#"mistletoe_failures_total{route="/next",kind="timed-out"} 1"#);
    // But the guest's own wait for a body is.
    let mut client = Client::new(server.address);
    client.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_reply(&client.reply(), 504, "Gateway Timeout\n");
    // A client may be too slow for the route before.
    let mut client = Client::new(server.address);
    client.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_reply(&client.reply(), 408, "Request Timeout\n");
    server.wait_for(r#"mistletoe_failures_total{route="/slow",kind="slow-body"} 1"#);
}

#[test]
fn a_response_without_a_body_has_passed_the_guest_before() {
    let routes = [
        route("/head", "plugin-bytes", &through(&[("observe", "")])),
        route("/stream", "command-cat", &through(&[("observe", ""), ("read-response", "")])),
        route("/none", "command-no-content", &through(&[("observe", ""), ("read-response", "")])),
        route("/made", "plugin-bytes", &through(&[("no-content", "")])),
        route("/trap", "plugin-bytes", &through(&[("trap-response", "")])),
    ];
    let server = start("", &routes.concat());
    let mut client = Client::new(server.address);
    for (path, status, length) in [
        ("/head", 200, Some("2")),
        ("/stream", 200, None),
        ("/none", 204, None),
        ("/made", 204, None),
        ("/trap", 500, Some("22")),
    ] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let reply = client.reply_to("HEAD").expect("a response");
        assert_eq!((reply.status, reply.header("content-length")), (status, length), "{path}");
        if path != "/made" && path != "/trap" {
            server.logged(&[&format!("\"route\":\"{path}\""), "\"line\":\"ok "]);
        }
    }
    for path in ["/none", "/made"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let reply = client.reply();
        assert_eq!(
            (reply.status, reply.header("content-length"), reply.header("transfer-encoding")),
            (204, None, None)
        );
    }
}

/// A guest can break its own response, and nobody else's.
#[test]
fn a_guest_cannot_frame_a_message() {
    let cases = [
        "1content-length:1",
        "1content-length:100",
        "1content-length:x",
        "1transfer-encoding:chunked",
        "1transfer-encoding:identity",
        "1connection:close",
        "1connection:content-length",
        "1upgrade:h2c",
        "1trailer:x",
        "1keep-alive:max=1",
        "0content-length:100",
        "0transfer-encoding:chunked",
        "0connection:close",
        "0expect:100-continue",
    ];
    let refused =
        ["1x:a\\r\\nSet-Cookie: b", "1x:a\\nb", "1x:a\\u0000", "1x y:a", "1x\\r\\ny:a", "0:a", "0host:a\\r\\nx: y"];
    let all = cases.iter().map(|config| (*config, 200)).chain(refused.iter().map(|config| (*config, 500)));
    let routes: String = all
        .clone()
        .enumerate()
        .map(|(i, (config, _))| {
            let set = through(&[("set", &format!("config = \"{config}\""))]);
            [route(&format!("/cat/{i}"), "command-cat", &set), route(&format!("/plugin/{i}"), "plugin-echo", &set)]
                .concat()
        })
        .collect();
    let server = start("", &routes);
    let mut client = Client::new(server.address);
    for (i, (config, status)) in all.enumerate() {
        for kind in ["cat", "plugin"] {
            client.send(format!("POST /{kind}/{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"));
            let reply = client.reply();
            let text = if kind == "cat" { "hello" } else { "hello\n" };
            assert_reply(&reply, status, if status == 200 { text } else { "Internal Server Error\n" });
            // One of them, and the connection goes on.
            let framing = [reply.values("content-length"), reply.values("transfer-encoding")].concat();
            assert_eq!(framing.len(), 1, "{config}: {reply:?}");
            for name in ["connection", "upgrade", "keep-alive", "set-cookie"] {
                assert_eq!(reply.header(name), None, "{config}");
            }
        }
    }
}

#[test]
fn a_client_that_leaves_cancels_every_guest_of_a_chain() {
    let mark = ("mark", "config = 'a', limits = { timeout = '100s' }");
    let looping = |name| (name, LONG_LIMIT);
    let routes = [
        route("/request", "plugin-echo", &through(&[mark, looping("loop-request")])),
        route("/next", "plugin-loop", &format!("{LONG_LIMIT}\n{}", through(&[mark, ("pass", "")]))),
        route("/response", "plugin-echo", &through(&[mark, looping("loop-response")])),
        route("/stream", "command-flood", &format!("{LONG_LIMIT}\n{}", through(&[("observe", ""), ("pass", "")]))),
        route("/body", "plugin-echo", &through(&[mark, ("read-request", LONG_LIMIT)])),
    ];
    let server = start("", &routes.concat());
    for (path, running) in [
        ("/request", Some("loop-request")),
        ("/next", None),
        ("/response", Some("loop-response")),
        ("/stream", None),
        ("/body", Some("read-request")),
    ] {
        let in_use = |middleware: Option<&str>, count: u32| {
            let label = middleware.map(|name| format!(",middleware=\"middleware-{name}\"")).unwrap_or_default();
            format!("mistletoe_instances_in_use{{route=\"{path}\"{label}}} {count}")
        };
        let first = if path == "/stream" { "observe" } else { "mark" };
        let mut client = Client::new(server.address);
        client.send(match path {
            "/body" => format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf"),
            _ => format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
        });
        server.wait_for(&in_use(Some(first), 1));
        server.wait_for(&in_use(running, 1));
        if path == "/response" {
            server.logged(&["\"route\":\"/response\"", "\"line\":\"x-trail\""]);
        }
        drop(client);
        server.wait_for(&in_use(Some(first), 0));
        server.wait_for(&in_use(running, 0));
        server.wait_for(&in_use(None, 0));
        server.until(&format!("a failure of {path}"), || server.failures(path) >= 1);
    }
}

#[test]
fn a_request_that_finds_no_instance_within_a_chain_is_refused() {
    let full = format!("{LONG_LIMIT}, pool = {{ size = 1, queue = 0 }}");
    let wide = "pool = { size = 8 }";
    let chain = [("rescue", wide), ("observe", wide), ("loop-response", &full), ("pass", wide)];
    let routes =
        [route("/full", "plugin-echo", &through(&chain[1..])), route("/rescued", "plugin-echo", &through(&chain))];
    let mut server = start("grace = '0s'", &routes.concat());
    for (path, status, body) in [("/full", 503, "Service Unavailable\n"), ("/rescued", 299, "rescued")] {
        let mut busy = Client::new(server.address);
        busy.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let in_use = |count| {
            format!("mistletoe_instances_in_use{{route=\"{path}\",middleware=\"middleware-loop-response\"}} {count}")
        };
        server.wait_for(&in_use(1));
        let reply = get(server.address, path);
        assert_reply(&reply, status, body);
        assert_eq!(reply.header("retry-after"), Some("1"));
        server.logged(&[&format!("\"route\":\"{path}\""), "\"line\":\"failed 3\""]);
        server.wait_for(&format!("mistletoe_failures_total{{route=\"{path}\",kind=\"busy\"}} 1"));
        drop(busy);
        server.wait_for(&in_use(0));
    }
    server.end();
}

/// Requests hold an instance of each guest, and wait for those that follow: in one order, so that none waits for good.
#[test]
fn a_chain_of_single_instances_serves_many_requests() {
    let one = "pool = { size = 1, wait = '100s' }";
    let chain =
        through(&[("mark", &format!("config = 'a', {one}")), ("count", one), ("wrap-response", one), ("observe", one)]);
    let server = start("", &route("/x", "plugin-echo", &format!("{one}\n{chain}")));
    std::thread::scope(|scope| {
        for i in 0..20 {
            let address = server.address;
            scope.spawn(move || assert_reply(&post(address, "/x", format!("{i}")), 200, &format!("[{i}\n]")));
        }
    });
}

#[test]
fn instances_of_middleware_are_fresh_or_reused() {
    let reused = "pool = { size = 1, reuse = true }";
    let routes = [
        route("/fresh", "plugin-echo", &through(&[("count", "pool = { size = 1 }")])),
        route("/reused", "plugin-echo", &through(&[("count", reused)])),
    ];
    let server = start("", &routes.concat());
    for i in 1..4 {
        assert_eq!(get(server.address, "/fresh").header("x-trail"), Some("1"));
        assert_eq!(get(server.address, "/reused").header("x-trail"), Some(&*i.to_string()));
    }
}

#[test]
fn trailers_come_after_a_body_has_been_read() {
    let routes = [
        route("/v", "command-variables", &through(&[("trailers", "")])),
        route("/own", "plugin-echo", &through(&[("trailers", "")])),
    ];
    let server = start("", &routes.concat());
    let mut client = Client::new(server.address);
    client.send(
        "POST /v HTTP/1.1\r\nHost: a\r\nTrailer: x-client\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Client: 1\r\n\r\n",
    );
    let text = client.reply().text();
    assert!(text.contains("HTTP_X_SEEN=x-client\0"), "{text}");
    // A client of HTTP/1.1 gets them if it says so.
    for (te, own) in [("TE: trailers\r\n", vec![("x-own".to_owned(), "x-trail".to_owned())]), ("", Vec::new())] {
        client.send(format!("POST /own HTTP/1.1\r\nHost: a\r\n{te}Content-Length: 1\r\n\r\nx"));
        let reply = client.reply();
        assert_reply(&reply, 200, "x\n");
        assert_eq!(reply.trailers, own);
    }
}

#[test]
fn the_kind_of_a_module_is_its_interface() {
    let directory = tempfile::tempdir().expect("a directory");
    crate::guests::write(directory.path());
    for (name, kind) in [
        ("middleware-pass", Some(Kind::HttpWasm)),
        ("plugin-echo", Some(Kind::Httpwasm)),
        ("command-cat", Some(Kind::Command)),
        ("package-fails", Some(Kind::Package)),
    ] {
        let wasm = std::fs::read(directory.path().join(format!("{name}.wasm"))).expect("a module");
        assert_eq!(Kind::of(&wasm), kind, "{name}");
    }
    assert_eq!(Kind::of(b"\0asm\x01\0\0\0"), None);
}

#[test]
fn a_module_that_is_no_middleware_is_refused() {
    let server = start("", &route("/a", "plugin-echo", ""));
    for (routes, problem) in [
        (route("/b", "middleware-none", ""), "route `/b`, module: "),
        (
            route("/b", "plugin-echo", &through(&[("pass", ""), ("none", "")])),
            "route `/b`, middleware `middleware-none`, module: ",
        ),
        (
            route("/b", "plugin-echo", &through(&[("pass", "config_file = 'none'")])),
            "route `/b`, middleware `middleware-pass`, config_file: ",
        ),
    ] {
        let config = crate::server::config("", &routes, server.directory.path());
        let error = server.service.reload(&config).expect_err("it is not there").to_string();
        assert!(error.contains(problem), "{error}");
    }
    let plugin = route("/b", "plugin-echo", "").replace("httpwasm", "http-wasm");
    let config = crate::server::config("", &plugin, server.directory.path());
    let error = server.service.reload(&config).expect_err("a plugin").to_string();
    assert!(error.contains("handle_request"), "{error}");
}

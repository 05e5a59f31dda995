//! Upstreams: what they get, what clients get of them, and those that misbehave.

use std::future::ready;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::client::{Client, LONG, get, post, request};
use crate::server::{assert_reply, runtime, start, through};

/// A route to an upstream, and more of its keys.
fn to(path: &str, upstream: SocketAddr, more: &str) -> String {
    format!("[[route]]\npath = '{path}'\nkind = 'upstream'\nurl = 'http://{upstream}'\n{more}\n")
}

/// A server that responds with what it gets: the request line and the fields, an empty line, and the body. It counts
/// its connections. It ends with the process.
fn echo() -> (SocketAddr, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let (address, addresses) = channel();
    let count = connections.clone();
    thread::spawn(move || {
        runtime().block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            address.send(listener.local_addr().expect("an address")).expect("sent");
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                count.fetch_add(1, Ordering::Relaxed);
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(echoed));
                tokio::spawn(serving);
            }
        });
    });
    (addresses.recv().expect("an address"), connections)
}

async fn echoed(request: Request<Incoming>) -> hyper::Result<Response<BoxBody<Bytes, hyper::Error>>> {
    let (parts, body) = request.into_parts();
    let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
    for (name, value) in &parts.headers {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let body = body.collect().await?;
    if let Some(trailers) = body.trailers() {
        for (name, value) in trailers {
            text += &format!("trailer {name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
        }
    }
    text += "\n";
    let text = Bytes::from([text.as_bytes(), &body.to_bytes()].concat());
    let mut response = match parts.uri.path() {
        "/trailers" => {
            let trailers = HeaderMap::from_iter([("x-up".parse().expect("a name"), HeaderValue::from_static("1"))]);
            let body = Full::new(text).with_trailers(ready(Some(Ok(trailers))));
            // Without a length, after which HTTP/1.1 has no trailers.
            let body = body.map_frame(std::convert::identity).map_err(|never| match never {});
            let mut response = Response::new(body.boxed());
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-up"));
            response
        }
        _ => Response::new(Full::new(text).map_err(|never| match never {}).boxed()),
    };
    response.headers_mut().append("x-own", HeaderValue::from_static("1"));
    response.headers_mut().append("x-own", HeaderValue::from_static("2"));
    response.headers_mut().insert("keep-alive", HeaderValue::from_static("timeout=5"));
    response.headers_mut().insert("x-hop", HeaderValue::from_static("1"));
    response.headers_mut().insert("connection", HeaderValue::from_static("x-hop"));
    Ok(response)
}

/// A server that does as it is told with each connection. It ends with the process.
fn raw(serve: impl Fn(Client) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (client, serve) = (Client::of(stream.expect("a connection")), serve.clone());
            thread::spawn(move || serve(client));
        }
    });
    address
}

/// A server that reads the head of each request, and sends these bytes.
fn sends(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    raw(move |mut client| {
        while client.line().is_some() {
            client.fields();
            client.try_send(&bytes);
            if !bytes.ends_with(b"\r\n\r\nok") {
                return;
            }
        }
    })
}

#[test]
fn an_upstream_gets_the_request_and_its_response_is_passed_on() {
    let (upstream, connections) = echo();
    let server = start("", &to("/...", upstream, ""));
    let mut client = Client::new(server.address);
    client.send(
        "POST /a%20b/?c=d&e HTTP/1.1\r\nHost: a.example:81\r\nX-Own: 1\r\nX-Own: 2\r\nContent-Length: 2\r\n\
         Connection: x-hop\r\nX-Hop: secret\r\nKeep-Alive: 1\r\nTE: gzip\r\nUpgrade: h2c\r\nProxy-Authorization: x\r\n\
         X-Forwarded-For: 192.0.2.1\r\nX-Request-Id: mine\r\nVia: 1.0 other\r\n\r\nhi",
    );
    let reply = client.reply();
    let text = reply.text();
    let mut lines: Vec<_> = text.lines().collect();
    lines[1..].sort_unstable();
    let expected = [
        "POST /a%20b/?c=d&e HTTP/1.1",
        "",
        "content-length: 2",
        "hi",
        "host: a.example:81",
        "via: 1.0 other",
        "via: 1.1 mistletoe",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-for: 192.0.2.1",
        "x-own: 1",
        "x-own: 2",
        "x-request-id: mine",
    ];
    assert_eq!((reply.status, lines), (200, expected.to_vec()));
    assert_eq!(reply.values("x-own"), ["1", "2"]);
    for name in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(reply.header(name), None, "{reply:?}");
    }

    // Without a length, without a body, and with a long one.
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    let text = client.reply().text();
    assert!(text.contains("\ntransfer-encoding: chunked\n") && text.ends_with("\n\nhi"), "{text}");
    assert!(!text.contains("content-length"), "{text}");
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = client.reply().text();
    assert!(!text.contains("content-length") && !text.contains("transfer-encoding"), "{text}");
    let long = "0123456789".repeat(100_000);
    let reply = post(server.address, "/x", &long);
    assert!(reply.status == 200 && reply.text().ends_with(&format!("\n\n{long}")), "{}", reply.status);
    let head = request(server.address, "HEAD", "/x", "");
    assert!(head.status == 200 && head.header("content-length").is_some_and(|length| length != "0"), "{head:?}");
    assert_eq!(connections.load(Ordering::Relaxed), 1, "connections are used again");
    server.wait_for(r#"mistletoe_instances_in_use{route="/..."} 0"#);
    server.wait_for(r#"mistletoe_instances_limit{route="/..."} 100"#);
}

#[test]
fn an_upstream_has_a_name() {
    let (upstream, _) = echo();
    let url = format!("http://localhost:{}", upstream.port());
    let server = start("", &format!("[[route]]\npath = '/a'\nkind = 'upstream'\nurl = '{url}'\n"));
    let reply = get(server.address, "/a");
    assert!(reply.status == 200 && reply.text().starts_with("GET /a "), "{reply:?}");
}

#[test]
fn clients_of_http2_reach_an_upstream() {
    let (upstream, _) = echo();
    let server =
        start("", &[to("/...", upstream, ""), to("/trailers", upstream, &through(&[("trailers", "")]))].concat());
    let (address, runtime) = (server.address, runtime());
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        for path in ["/x", "/trailers"] {
            let trailers = HeaderMap::from_iter([("x-client".parse().expect("a name"), HeaderValue::from_static("1"))]);
            let body = Full::new(Bytes::from("hi")).with_trailers(ready(Some(Ok(trailers))));
            let request = Request::post(format!("http://a.example:81{path}")).header("te", "trailers");
            let request = request.header("trailer", "x-client").body(body).expect("a request");
            let response = sender.send_request(request).await.expect("a response");
            let seen = response.headers().get("x-seen").cloned();
            let body = response.into_body().collect().await.expect("a body");
            let trailers = body.trailers().cloned().unwrap_or_default();
            let text = String::from_utf8(body.to_bytes().to_vec()).expect("text");
            for line in [&format!("POST {path} HTTP/1.1"), "host: a.example:81", "trailer x-client: 1", "te: trailers"]
            {
                assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
            }
            assert!(text.ends_with("\n\nhi"), "{text}");
            let own = text.contains("\nx-seen: x-client\n") && text.contains("\ntrailer x-own: x-trail\n");
            if path == "/trailers" {
                assert!(own && seen.is_some_and(|name| name == "x-up"), "{text}");
                assert_eq!(
                    (&trailers["x-up"], &trailers["x-own"]),
                    (&HeaderValue::from_static("1"), &HeaderValue::from_static("x-trail"))
                );
            } else {
                assert!(!own && trailers.is_empty(), "{text}");
            }
        }
    });
}

#[test]
fn trailers_pass_over_http1() {
    let (upstream, _) = echo();
    let server =
        start("", &[to("/...", upstream, ""), to("/trailers", upstream, &through(&[("observe", "")]))].concat());
    let mut client = Client::new(server.address);
    client.send(
        "POST /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-client\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\nx\r\n0\r\nX-Client: 1\r\n\r\n",
    );
    let reply = client.reply();
    assert!(reply.text().contains("\ntrailer x-client: 1\n"), "{reply:?}");
    assert_eq!(reply.trailers, [("x-up".to_owned(), "1".to_owned())]);
}

#[test]
fn both_bodies_stream() {
    let upstream = raw(|mut client| {
        client.line();
        client.fields();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Some(chunk) = client.chunk() {
            client.send([format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat());
        }
    });
    let server = start("", &to("/...", upstream, &through(&[("observe", "")])));
    let mut client = Client::new(server.address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (i, part) in ["one", "two", "three"].iter().enumerate() {
        client.send(format!("{:x}\r\n{part}\r\n", part.len()));
        if i == 0 {
            assert_eq!(client.head().map(|head| head.status), Some(200));
        }
        assert_eq!(client.chunk().as_deref(), Some(part.as_bytes()));
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk(), Some(Vec::new()));
}

/// What a client sends in one way, the upstream cannot read in another.
#[test]
fn a_request_cannot_be_smuggled_to_an_upstream() {
    let (upstream, _) = echo();
    let sets = [
        "0content-length:100",
        "0content-length:0",
        "0transfer-encoding:chunked",
        "0transfer-encoding:identity",
        "0connection:content-length, host",
        "0connection:upgrade",
        "0upgrade:h2c",
        "0te:gzip",
    ];
    let routes: String = sets
        .iter()
        .enumerate()
        .map(|(i, config)| to(&format!("/{i}"), upstream, &through(&[("set", &format!("config = '{config}'"))])))
        .chain([
            to("/wrap", upstream, &through(&[("wrap-request", "")])),
            to("/bite", upstream, &through(&[("bite", "")])),
        ])
        .collect();
    let server = start("", &routes);
    for (i, config) in sets.iter().enumerate() {
        for (framing, body) in
            [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
        {
            let mut client = Client::new(server.address);
            client.send(format!("POST /{i} HTTP/1.1\r\nHost: a.example\r\n{framing}\r\n\r\n{body}"));
            let text = client.reply().text();
            assert!(text.ends_with("\n\nhello") && text.contains("\nhost: a.example\n"), "{config}: {text}");
            assert_eq!(
                text.matches("content-length: ").count() + text.matches("transfer-encoding: ").count(),
                1,
                "{text}"
            );
            for name in ["connection: ", "upgrade: ", "te: "] {
                assert!(!text.lines().any(|line| line.starts_with(name)), "{config}: {text}");
            }
        }
    }
    for (path, sent) in [("/wrap", "[hello]"), ("/bite", "llo")] {
        let text = post(server.address, path, "hello").text();
        let length = format!("\ncontent-length: {}\n", sent.len());
        assert!(text.ends_with(&format!("\n\n{sent}")) && text.contains(&length), "{text}");
    }
}

/// An upstream trusts what middleware adds. A client that names the field in `Connection` does not remove it.
#[test]
fn a_client_cannot_remove_a_field_that_middleware_sets() {
    let (upstream, _) = echo();
    let server = start("", &to("/...", upstream, &through(&[("set", "config = '0x-user:ann'"), ("pass", "")])));
    let mut client = Client::new(server.address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: X-User, TE\r\nX-User: bob\r\nTE: trailers\r\n\r\n");
    let text = client.reply().text();
    for line in ["x-user: ann", "te: trailers", "host: a"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert!(!text.contains("bob"), "{text}");
}

#[test]
fn an_upstream_that_misbehaves_has_a_status() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let many: String = (0..200).map(|i| format!("X-{i}: 1\r\n")).collect();
    let long = format!("X: {}\r\n", "x".repeat(1 << 20));
    let waits = |bytes: &'static str| {
        raw(move |mut client| {
            client.line();
            client.send(bytes);
            // Until the server gives up.
            while client.line().is_some() {}
        })
    };
    let cases = [
        ("nobody", nobody, 502, "upstream"),
        ("nothing", sends(""), 502, "upstream"),
        ("garbage", sends("garbage\r\n\r\n"), 502, "upstream"),
        ("many", sends(format!("HTTP/1.1 200 OK\r\n{many}\r\n")), 502, "upstream"),
        ("long", sends(format!("HTTP/1.1 200 OK\r\n{long}\r\n")), 502, "upstream"),
        ("half", sends("HTTP/1.1 200 OK\r\nX: 1\r\n"), 502, "upstream"),
        (
            "switch",
            sends("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            502,
            "upstream",
        ),
        ("split", sends("HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n"), 502, "upstream"),
        ("two", sends("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), 502, "upstream"),
        (
            "both",
            sends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n\r\n"),
            502,
            "upstream",
        ),
        ("coded", sends("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 502, "upstream"),
        ("large", sends("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"), 502, "upstream"),
        ("silent", waits(""), 504, "slow-upstream"),
        ("slow", waits("HTTP/1.1 200 OK\r\nX: "), 504, "slow-upstream"),
    ];
    let limits = "show_errors = true\nlimits = { timeout = '500ms', output = 1000 }";
    let routes: String = cases
        .iter()
        .map(|(name, address, ..)| {
            let rescued = format!("{limits}\n{}", through(&[("rescue", "")]));
            [to(&format!("/{name}"), *address, limits), to(&format!("/rescued/{name}"), *address, &rescued)].concat()
        })
        .collect();
    let server = start("", &routes);
    for (name, _, status, kind) in &cases {
        let path = format!("/{name}");
        let reply = get(server.address, &path);
        assert_eq!(
            (reply.status, reply.header("x-mistletoe-error"), reply.complete),
            (*status, Some(*kind), true),
            "{name}"
        );
        server.wait_for(&format!("mistletoe_failures_total{{route=\"{path}\",kind=\"{kind}\"}} 1"));
        assert_reply(&get(server.address, &format!("/rescued{path}")), 299, "rescued");
        server.wait_for(&format!("mistletoe_instances_in_use{{route=\"{path}\"}} 0"));
    }
}

#[test]
fn a_response_of_an_upstream_that_breaks_off_is_not_taken_for_a_whole_one() {
    let stalls = raw(|mut client| {
        client.line();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
        while client.line().is_some() {}
    });
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n";
    let much = format!("{chunked}3e8\r\n{}\r\n0\r\n\r\n", "x".repeat(1000));
    let cases = [
        ("length", sends("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"), "upstream"),
        ("chunk", sends(chunked), "upstream"),
        ("size", sends(format!("{chunked}zz\r\n")), "upstream"),
        ("much", sends(much), "upstream"),
        ("stalls", stalls, "slow-upstream"),
    ];
    let limits = "body_timeout = '500ms'\nlimits = { output = 1000 }";
    let routes: String = cases
        .iter()
        .flat_map(|(name, address, _)| {
            [("", ""), ("observed/", "observe"), ("read/", "read-response"), ("replaced/", "replace-response")].map(
                |(before, guest)| {
                    let chain = if guest.is_empty() { String::new() } else { through(&[(guest, "")]) };
                    to(&format!("/{before}{name}"), *address, &format!("{limits}\n{chain}"))
                },
            )
        })
        .collect();
    let server = start("", &routes);
    for (name, _, kind) in &cases {
        for before in ["", "observed/"] {
            let path = format!("/{before}{name}");
            let reply = get(server.address, &path);
            assert!(reply.status == 200 && !reply.complete && reply.text().starts_with("part"), "{path}: {reply:?}");
            server.wait_for(&format!("mistletoe_failures_total{{route=\"{path}\",kind=\"{kind}\"}} 1"));
        }
        server.logged(&[&format!("\"route\":\"/observed/{name}\""), "\"line\":\"failed 0\""]);
        // Nothing has been sent by then.
        let status = if *kind == "slow-upstream" { 504 } else { 502 };
        assert_eq!(get(server.address, &format!("/read/{name}")).status, status, "{name}");
        assert_eq!(server.failures(&format!("/read/{name}")), 1, "{name}");
        assert_reply(&get(server.address, &format!("/replaced/{name}")), 200, "x-trail");
    }
}

/// Each part of it comes in time.
#[test]
fn a_body_that_is_replaced_does_not_keep_its_response_waiting() {
    let (ended, has_ended) = channel();
    let trickles = raw(move |mut client| {
        client.line();
        client.fields();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n");
        while client.sends(b"x") {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = ended.send(());
    });
    let limits = format!("limits = {{ timeout = '300ms' }}\n{}", through(&[("replace-response", "")]));
    let server = start("", &to("/a", trickles, &limits));
    assert_reply(&get(server.address, "/a"), 200, "x-trail");
    // Nobody reads the rest.
    has_ended.recv_timeout(LONG).expect("the connection ends");
}

#[test]
fn a_request_to_an_upstream_has_limits() {
    let (upstream, _) = echo();
    let keys = "body_timeout = '300ms'\nlimits = { body = 10 }";
    let server = start("", &to("/...", upstream, keys));
    assert!(post(server.address, "/", "0123456789").text().ends_with("\n\n0123456789"));
    assert_reply(&post(server.address, "/", "0123456789a"), 413, "Payload Too Large\n");
    let mut client = Client::new(server.address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n");
    client.try_send("6\r\n012345\r\n0\r\n\r\n");
    assert_eq!(client.reply().status, 413);
    let mut client = Client::new(server.address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.reply().status, 408);
    server.wait_for(r#"mistletoe_failures_total{route="/...",kind="too-large"} 2"#);
    server.wait_for(r#"mistletoe_failures_total{route="/...",kind="slow-body"} 1"#);
}

/// A guest that was not called for a response may not be used for another request.
#[test]
fn an_instance_whose_client_left_is_not_used_again() {
    let upstream = raw(|mut client| {
        while let Some(line) = client.line() {
            client.fields();
            if !line.contains("/waits") {
                client.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let chain = through(&[("count", "pool = { size = 1, reuse = true }")]);
    let server = start("", &to("/...", upstream, &format!("limits = {{ timeout = '100s' }}\n{chain}")));
    for i in ["1", "2"] {
        assert_eq!(get(server.address, "/").header("x-trail"), Some(i));
    }
    let mut client = Client::new(server.address);
    client.send("GET /waits HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for(r#"mistletoe_instances_in_use{route="/..."} 1"#);
    drop(client);
    server.wait_for(r#"mistletoe_instances_in_use{route="/...",middleware="middleware-count"} 0"#);
    assert_eq!(get(server.address, "/").header("x-trail"), Some("1"));
}

#[test]
fn an_upstream_gets_no_more_requests_than_it_has_room_for() {
    let (come, coming) = channel();
    let upstream = raw(move |mut client| {
        client.line();
        client.fields();
        come.send(()).expect("a test");
        while client.line().is_some() {}
        come.send(()).expect("a test");
    });
    let keys = "limits = { timeout = '100s' }\npool = { size = 1, queue = 0 }";
    let server = start("", &to("/...", upstream, &format!("{keys}\n{}", through(&[("pass", "")]))));
    for _ in 0..2 {
        let mut busy = Client::new(server.address);
        busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        coming.recv_timeout(crate::client::LONG).expect("a request");
        let reply = get(server.address, "/");
        assert_reply(&reply, 503, "Service Unavailable\n");
        assert_eq!(reply.header("retry-after"), Some("1"));
        // The client's end is the end of the upstream's connection.
        drop(busy);
        coming.recv_timeout(crate::client::LONG).expect("the end of the connection");
        server.wait_for(r#"mistletoe_instances_in_use{route="/..."} 0"#);
    }
}

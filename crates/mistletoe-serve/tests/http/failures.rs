//! Guests that fail, and requests that find no room.

use crate::client::{Client, get, post};
use crate::server::{assert_reply, route, start};

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

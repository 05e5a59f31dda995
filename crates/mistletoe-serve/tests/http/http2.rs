//! Clients of HTTP/2 that do not behave, frame by frame (RFC 9113).

use std::time::Instant;

use crate::client::{Client, LONG, get, post};
use crate::server::{Running, assert_reply, route, start};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// The ping with which h2 finds out which requests have come before its GOAWAY.
const SHUTDOWN: [u8; 8] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of a request in HPACK (RFC 7541): GET and http from the static table, path and host as they are.
fn head(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).expect("a short path");
    [&[0x82, 0x86, 0x04, length], path.as_bytes(), &[0x01, 1, b'a']].concat()
}

/// Connects a client that allows streams a window of this size.
fn connect(server: &Running, window: u32) -> Client {
    let mut client = Client::new(server.address);
    let setting = [&4u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
    client.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &setting)].concat());
    client
}

/// Reads a frame: its type, flags, stream and payload. Answers pings, and settings.
fn read(client: &mut Client) -> Option<(u8, u8, u32, Vec<u8>)> {
    read_if(client, |_| true)
}

/// Reads a frame as [`read`] does. Answers the pings with a payload that is to be answered.
fn read_if(client: &mut Client, answer: impl Fn(&[u8]) -> bool) -> Option<(u8, u8, u32, Vec<u8>)> {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < LONG, "pings and no end");
        let start: [u8; 9] = client.bytes(9)?.try_into().expect("nine bytes");
        let [a, b, c, kind, flags, stream @ ..] = start;
        let payload = client.bytes(u32::from_be_bytes([0, a, b, c]) as usize)?;
        match kind {
            PING if flags & ACK == 0 && answer(&payload) => client.try_send(frame(PING, ACK, 0, &payload)),
            SETTINGS if flags & ACK == 0 => client.try_send(frame(SETTINGS, ACK, 0, &[])),
            PING | SETTINGS => {}
            _ => return Some((kind, flags, u32::from_be_bytes(stream), payload)),
        }
    }
}

/// Whatever comes after this server may not see the same one of them.
#[test]
fn a_request_with_several_hosts_is_refused() {
    const OK: u8 = 0x88;
    const BAD_REQUEST: u8 = 0x8c;
    let server = start("", &route("/echo", "plugin-echo", ""));
    for (hosts, status) in [("", OK), ("a", OK), ("ab", BAD_REQUEST), ("aa", BAD_REQUEST)] {
        let mut client = connect(&server, 65_535);
        // `host` is the static table's field 38.
        let fields = hosts.bytes().flat_map(|host| [0x0f, 38 - 15, 1, host]);
        let head = head("/echo").into_iter().chain(fields).collect::<Vec<_>>();
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head));
        let response = loop {
            let (kind, _, _, payload) = read(&mut client).expect("a frame");
            if kind == HEADERS {
                break payload;
            }
        };
        assert_eq!(response.first(), Some(&status), "{hosts}");
    }
}

/// A window that stays closed is no reason to keep a response for ever, whatever else the client does.
#[test]
fn a_response_that_is_not_read_ends_its_connection() {
    let routes = [
        route("/large", "plugin-large", ""),
        route("/flood", "command-flood", "limits = { timeout = '100s', output = '1GiB' }"),
        route("/echo", "plugin-echo", ""),
    ];
    // Pings are sent far more often than a response may wait.
    let server = start("write_timeout = '1s'\nheader_timeout = '200ms'", &routes.concat());
    for path in ["/large", "/flood"] {
        for window in [0, 40_000] {
            let mut client = connect(&server, window);
            client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head(path)));
            let mut received = 0;
            while let Some((kind, _, _, payload)) = read(&mut client) {
                assert!(matches!(kind, HEADERS | DATA | WINDOW_UPDATE | GOAWAY), "{kind}");
                received += if kind == DATA { payload.len() } else { 0 };
            }
            // The connection has ended. Before that the client got what it allowed.
            assert_eq!(received, window as usize, "{path}");
        }
        server.wait_for(&format!("mistletoe_instances_in_use{{route=\"{path}\"}} 0"));
    }
    server.wait_for("mistletoe_connections 0");
    server.wait_for(r#"mistletoe_requests_total{route="/flood",status="499"} 2"#);
    assert_reply(&post(server.address, "/echo", "x"), 200, "x\n");
}

#[test]
fn a_client_that_is_gone_without_a_word_is_let_go() {
    let server = start("header_timeout = '200ms'", &route("/echo", "plugin-echo", ""));
    let mut client = connect(&server, 1 << 16);
    // It answers no ping.
    while client.bytes(1).is_some() {}
    server.wait_for("mistletoe_connections 0");
}

/// Pings are no requests. Nor is an answer to all pings but the one that comes with the end of the connection.
#[test]
fn an_idle_connection_ends_whatever_pings_its_client_answers() {
    let looped = route("/loop", "plugin-loop", "limits = { timeout = '1s' }");
    let server = start("header_timeout = '200ms'", &looped);
    for answers_the_last in [true, false] {
        let mut client = connect(&server, 1 << 16);
        // A request that takes longer is no idle time.
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head("/loop")));
        let mut seen = Vec::new();
        while let Some((kind, _, stream, _)) = read_if(&mut client, |payload| answers_the_last || *payload != SHUTDOWN)
        {
            seen.push((kind, stream));
        }
        let end = seen.iter().position(|frame| *frame == (GOAWAY, 0)).expect("GOAWAY");
        assert!(seen[..end].contains(&(HEADERS, 1)), "{seen:?}");
        server.wait_for("mistletoe_connections 0");
    }
    server.wait_for(r#"mistletoe_requests_total{route="/loop",status="504"} 2"#);
    // One that has never had a request.
    let mut client = connect(&server, 1 << 16);
    while read(&mut client).is_some() {}
    server.wait_for("mistletoe_connections 0");
}

#[test]
fn a_client_that_sends_and_never_reads_is_let_go() {
    let server = start("write_timeout = '300ms'", &route("/echo", "plugin-echo", ""));
    let mut client = connect(&server, 1 << 16);
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1_000);
    // Each ping has to be answered. The responses fill the buffers of both systems.
    while client.sends(&pings) {}
    server.wait_for("mistletoe_connections 0");
    assert_reply(&post(server.address, "/echo", "x"), 200, "x\n");
}

/// CVE-2023-44487: requests that are given up as soon as they are sent.
#[test]
fn requests_that_are_reset_take_bounded_work() {
    let routes = [route("/loop", "plugin-loop", "limits = { timeout = '100s' }"), route("/echo", "plugin-echo", "")];
    let server = start("", &routes.concat());
    let mut client = connect(&server, 1 << 16);
    let is_ended = (1..200_000).step_by(2).any(|stream| {
        let reset = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
        !client.sends(&[frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("/loop")), reset].concat())
    });
    assert!(is_ended, "100,000 requests were taken");
    // Others are served meanwhile, and no guest is left.
    assert_reply(&post(server.address, "/echo", "x"), 200, "x\n");
    drop(client);
    server.wait_for(r#"mistletoe_instances_in_use{route="/loop"} 0"#);
    server.wait_for(r#"mistletoe_instances_waiting{route="/loop"} 0"#);
    server.wait_for("mistletoe_connections 0");
}

/// CVE-2024-27316 and others: a header that does not end.
#[test]
fn an_endless_header_ends_its_connection() {
    let server = start("max_header_bytes = '64KiB'", &route("/echo", "plugin-echo", ""));
    let mut client = connect(&server, 1 << 16);
    client.send(frame(HEADERS, END_STREAM, 1, &head("/echo")));
    // A field of 1,000 bytes, without an entry of the table.
    let field = [&[0, 1, b'x', 0x7f, 0xe9, 0x06][..], &[b'y'; 1_000]].concat();
    let flood = frame(CONTINUATION, 0, 1, &field.repeat(16));
    let mut sent = 0;
    while client.sends(&flood) && sent < 64 << 20 {
        sent += flood.len();
    }
    assert!(sent < 64 << 20, "{sent} bytes");
    server.logged(&["\"request\"", "\"status\":400"]);
    server.wait_for("mistletoe_connections 0");
    assert_eq!(get(server.address, "/echo").status, 200);
}

#[test]
fn a_header_that_is_too_large_is_refused() {
    let server = start("max_header_bytes = '8KiB'", &route("/echo", "plugin-echo", ""));
    let mut client = connect(&server, 1 << 16);
    let field = [&[0, 1, b'x', 0x7f, 0xe9, 0x06][..], &[b'y'; 1_000]].concat();
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &[head("/echo"), field.repeat(9)].concat()));
    // Windows come first.
    let (stream, payload) = loop {
        let (kind, _, stream, payload) = read(&mut client).expect("a frame");
        if kind == HEADERS {
            break (stream, payload);
        }
    };
    // The status is a literal with the name of an entry of the static table, perhaps in Huffman's code.
    assert!(stream == 1 && !payload.is_empty(), "{stream} {payload:?}");
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, &head("/echo")));
    while read(&mut client).is_some_and(|(kind, _, stream, _)| (kind, stream) != (HEADERS, 3)) {}
    server.wait_for(r#"mistletoe_requests_total{route="/echo",status="200"} 1"#);
}

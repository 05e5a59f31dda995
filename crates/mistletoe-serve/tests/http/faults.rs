//! Faults that no other file tests: `docs/serve-faults.md` has the table.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};

use crate::client::{Client, post};
use crate::server::{assert_reply, route, start};

#[test]
fn a_client_that_vanishes_in_the_head_leaves_nothing() {
    let server = start("header_timeout = '1h'", &route("/a", "plugin-echo", ""));
    for begun in ["", "GET /a HT", "GET /a HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut client = Client::new(server.address);
        client.send(begun);
        server.wait_for("mistletoe_connections 1");
        drop(client);
        server.wait_for("mistletoe_connections 0");
    }
    assert_reply(&post(server.address, "/a", "x"), 200, "x\n");
}

/// HTTP/1.1 does not tell a client that sends nothing more from one that has left.
#[test]
fn a_client_that_closes_its_half_of_the_connection_has_left() {
    let server = start("", &route("/loop", "plugin-loop", "limits = { timeout = '1h' }"));
    let mut client = TcpStream::connect(server.address).expect("a connection");
    client.write_all(b"GET /loop HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    server.wait_for(r#"mistletoe_instances_in_use{route="/loop"} 1"#);
    client.shutdown(Shutdown::Write).expect("closed");
    server.wait_for(r#"mistletoe_failures_total{route="/loop",kind="cancelled"} 1"#);
    server.wait_for("mistletoe_connections 0");
}

#[test]
fn a_body_that_its_guest_does_not_read_stays_with_the_client() {
    const CHUNK: usize = 64 << 10;
    let keys = "limits = { timeout = '2s', body = '1GiB' }\npool = { size = 1 }";
    let routes = [route("/loop", "command-loop", keys), route("/deaf", "command-deaf", keys)];
    let server = start("", &routes.concat());
    // The response of the one does not wait for the body; the other one's never begins.
    for (path, status) in [("/deaf", " 200 "), ("/loop", " 504 ")] {
        let mut client = TcpStream::connect(server.address).expect("a connection");
        client.set_nonblocking(true).expect("set");
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n");
        // It fits into the socket's buffer.
        client.write_all(head.as_bytes()).expect("sent");
        let (mut sent, chunk) = (0, [b'x'; CHUNK]);
        let mut begun = [0; 16];
        // Sends as much as is taken, until the response comes.
        let read = loop {
            sent += client.write(&chunk).unwrap_or_default();
            match client.peek(&mut begun) {
                Ok(read) if read >= begun.len() || read == 0 => break read,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{path}: {error}"),
            }
        };
        assert!(String::from_utf8_lossy(&begun[..read]).contains(status), "{path}: {begun:?}");
        // The buffers of two sockets, and a few frames.
        assert!(sent < 64 << 20, "{path}: {sent} bytes");
        drop(client);
        server.wait_for(&format!("mistletoe_instances_in_use{{route=\"{path}\"}} 0"));
    }
}

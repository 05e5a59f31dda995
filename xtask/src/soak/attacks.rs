//! What clients and guests do wrong.

use std::io::Result;
use std::net::SocketAddr;

use super::client::Client;

/// An attack: its name, the number of clients that do it again and again, and what each of them does.
///
/// It returns the status if there has to be a response. An error is a connection that broke off, where it may.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) clients: usize,
    pub(super) statuses: &'static [u16],
    pub(super) run: fn(SocketAddr) -> Result<u16>,
}

/// A connection on which the server owes no response.
const NONE: u16 = 0;

/// Sends a request to a guest that fails, and waits for the response.
macro_rules! guest {
    ($name:literal, $clients:literal, $statuses:expr) => {
        Attack {
            name: concat!("guest: ", $name),
            clients: $clients,
            statuses: $statuses,
            run: |address| {
                let mut client = Client::connect(address)?;
                client.request($name, "some body")?;
                client.response().map(|(status, _)| status)
            },
        }
    };
}

/// Does this, and owes and gets nothing.
macro_rules! client {
    ($name:literal, $clients:literal, $run:expr) => {
        Attack {
            name: concat!("client: ", $name),
            clients: $clients,
            statuses: &[NONE],
            run: |address| {
                let mut client = Client::connect(address)?;
                let run: fn(&mut Client) -> Result<()> = $run;
                // The server may end the connection at any time.
                let _ = run(&mut client);
                Ok(NONE)
            },
        }
    };
}

/// The attack that needs a disk of its own.
pub(super) const DISK: &str = "guest: disk";

/// The route of `loop` is the one that is attacked: more clients than its pool and its queue have places for.
pub(super) const ATTACKS: &[Attack] = &[
    guest!("loop", 24, &[503, 504]),
    guest!("trap", 2, &[500, 503]),
    guest!("exit", 2, &[500, 503]),
    guest!("fill", 1, &[500, 503, 504]),
    guest!("flood", 1, &[502, 503, 504]),
    Attack {
        name: "guest: writes to the log for ever",
        clients: 1,
        statuses: &[200, NONE, 503],
        run: |address| {
            let mut client = Client::connect(address)?;
            client.request("log", "")?;
            // The header comes first, so that the response breaks off if the time is over.
            Ok(client.response().map_or(NONE, |(status, _)| status))
        },
    },
    Attack {
        name: "guest: never reads",
        clients: 1,
        statuses: &[200, 503, 504],
        run: |address| {
            let mut client = Client::connect(address)?;
            // The server may close its side before it has read all, and the response has come before.
            let _ = client.request("deaf", &"x".repeat(1 << 20));
            client.response().map(|(status, _)| status)
        },
    },
    Attack {
        name: "guest: reads slowly",
        clients: 1,
        statuses: &[200, 503, 504],
        run: |address| {
            let mut client = Client::connect(address)?;
            client.request("slow", &"x".repeat(16 << 10)).and_then(|()| client.response().map(|(status, _)| status))
        },
    },
    guest!("disk", 1, &[200, 503, 504]),
    Attack {
        name: "guest: streams for ever",
        clients: 1,
        statuses: &[NONE, 503, 504],
        run: |address| {
            let mut client = Client::connect(address)?;
            client.request("stream", "")?;
            // It breaks off at the limit of the output or of the time.
            Ok(client.response().map_or(NONE, |(status, _)| status))
        },
    },
    client!("stalls in the head", 4, |client| {
        client.send(b"POST /plugin HTTP/1.1\r\nHos")?;
        client.end()
    }),
    client!("stalls in the preface of HTTP/2", 4, |client| {
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n")?;
        client.end()
    }),
    client!("stalls in the body", 4, |client| {
        client.send(b"POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")?;
        client.end()
    }),
    client!("stalls while it reads", 2, |client| {
        client.request("stream", "")?;
        client.wait()?;
        // The server ends the guest, and then the connection, of which nothing is read until then.
        std::thread::sleep(std::time::Duration::from_secs(3));
        Ok(())
    }),
    // HTTP/1.1 counts it as gone.
    client!("closes its half while its guest runs", 2, |client| {
        client.request("loop", "")?;
        client.close_half()?;
        client.end()
    }),
    client!("vanishes in the head", 2, |client| client.send(b"POST /plugin HTTP/1.1\r\nHos")),
    client!("vanishes in the body", 2, |client| {
        client.send(b"POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
    }),
    client!("vanishes while its guest runs", 2, |client| {
        client.request("loop", "")?;
        std::thread::sleep(std::time::Duration::from_millis(20));
        Ok(())
    }),
    client!("vanishes while it reads", 2, |client| {
        client.request("stream", "")?;
        client.wait()
    }),
    client!("sends garbage", 2, |client| {
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")?;
        client.end()
    }),
];

//! A proxy that leads every name and every address to one server.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use super::server::Stream as _;
use super::tls;

/// The variables that name a proxy, and hosts without one.
pub(crate) const VARIABLES: [&str; 8] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"];

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP, with the method `CONNECT`.
    Http,
    /// The same, over an encrypted connection.
    Https,
    /// The same as the first, which refuses with status 403.
    Refusing,
    /// SOCKS 5 (RFC 1928).
    Socks,
}

/// A proxy on a free port.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy in front of a server.
    pub(crate) fn start(kind: Kind, server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        if kind == Kind::Https {
            let plain = Self::start(Kind::Http, server);
            let (proxy, config) = (Self { address, targets: plain.targets.clone() }, tls::config());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (config, Ok(stream)) = (config.clone(), stream) else { break };
                    thread::spawn(move || relay(tls::accept(&config, stream)?, TcpStream::connect(plain.address)?));
                }
            });
            return proxy;
        }
        let targets = Arc::<Mutex<Vec<String>>>::default();
        let proxy = Self { address, targets: targets.clone() };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (targets, Ok(stream)) = (targets.clone(), stream) else { break };
                // A client that closes the connection is not the proxy's problem.
                thread::spawn(move || pass(kind, stream, server, &targets));
            }
        });
        proxy
    }

    /// Returns what clients asked for: host and port, and the value of `Proxy-Authorization` if there was one.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.targets.lock().expect("no panic").clone()
    }
}

fn pass(kind: Kind, mut stream: TcpStream, server: SocketAddr, targets: &Mutex<Vec<String>>) -> io::Result<()> {
    let target = match kind {
        Kind::Http | Kind::Https | Kind::Refusing => connect(&stream)?,
        Kind::Socks => socks(&mut stream)?,
    };
    targets.lock().expect("no panic").push(target);
    match kind {
        Kind::Http | Kind::Https => stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?,
        Kind::Refusing => return stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
        Kind::Socks => stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?,
    }
    let upstream = TcpStream::connect(server)?;
    let (mut from, mut to) = (stream.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || io::copy(&mut from, &mut to));
    io::copy(&mut { upstream }, &mut stream).map(drop)
}

/// Passes on what comes over an encrypted connection, and what comes back, until one side ends.
fn relay(mut encrypted: StreamOwned<ServerConnection, TcpStream>, mut plain: TcpStream) -> io::Result<()> {
    // One thread for both directions, as the encryption is one object.
    for stream in [&encrypted.sock, &plain] {
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
    }
    let mut buffer = [0; 16 << 10];
    loop {
        for to_server in [true, false] {
            let read = if to_server { encrypted.read(&mut buffer) } else { plain.read(&mut buffer) };
            match read {
                Ok(0) => return encrypted.finish(),
                Ok(count) if to_server => plain.write_all(&buffer[..count])?,
                Ok(count) => encrypted.write_all(&buffer[..count]).and_then(|()| encrypted.flush())?,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads `CONNECT HOST:PORT`.
fn connect(stream: &TcpStream) -> io::Result<String> {
    // The client waits for the response, so the reader holds nothing beyond the head.
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut target = line.split(' ').nth(1).filter(|_| line.starts_with("CONNECT ")).unwrap_or(&line).to_owned();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("proxy-authorization") => {
                target = format!("{target} {value}");
            }
            Some(_) => {}
            None => return Ok(target),
        }
    }
}

/// Reads a greeting without a password, and a request for a name or an IPv4 address.
fn socks(stream: &mut TcpStream) -> io::Result<String> {
    let mut read = |length: usize| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).map(|()| bytes)
    };
    let methods = read(2)?[1];
    read(methods.into())?;
    stream.write_all(&[5, 0])?;
    let mut read = |length: usize| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).map(|()| bytes)
    };
    let host = match read(4)?[3] {
        1 => read(4)?.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        3 => {
            let length = read(1)?[0];
            String::from_utf8_lossy(&read(length.into())?).into_owned()
        }
        kind => return Err(io::Error::other(format!("an address of the kind {kind}"))),
    };
    let port = read(2)?;
    Ok(format!("{host}:{}", u16::from_be_bytes([port[0], port[1]])))
}

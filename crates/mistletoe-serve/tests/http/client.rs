//! A client that sends bytes as they are, and reads HTTP/1.1.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything here takes. A test that waits for this long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(100);

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    /// The trailers of the latest body.
    trailers: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the body ended as its header said that it would.
    pub(crate) complete: bool,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).expect("a connection"))
    }

    /// Either end of a connection.
    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        stream.set_write_timeout(Some(LONG)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream: BufReader::new(stream), trailers: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("sent");
    }

    /// Sends as much as the server takes.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// Sends as much as the server takes, and returns whether that is all.
    pub(crate) fn sends(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Reads that many bytes; nothing at the end of the connection.
    pub(crate) fn bytes(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Reads a line without its end; nothing at the end of the connection.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        // A connection that is reset has ended, too.
        let length = self.stream.read_line(&mut line).unwrap_or_default();
        (length > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Reads a status line and a header.
    pub(crate) fn head(&mut self) -> Option<Reply> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let headers = self.fields();
        Some(Reply { status, headers, body: Vec::new(), trailers: Vec::new(), complete: true })
    }

    /// Reads fields up to an empty line.
    pub(crate) fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect("a header field");
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        fields
    }

    /// Reads a chunk of a body, or with the last one its trailers; nothing at the end of the connection.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line()?, 16).expect("a length");
        if length == 0 {
            self.trailers = self.fields();
            return Some(Vec::new());
        }
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).ok()?;
        chunk.truncate(length);
        Some(chunk)
    }

    /// Reads a whole response to a request with this method.
    pub(crate) fn reply_to(&mut self, method: &str) -> Option<Reply> {
        let mut reply = self.head()?;
        if method == "HEAD" || matches!(reply.status, 100..200 | 204 | 304) {
            return Some(reply);
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                match self.chunk() {
                    Some(chunk) if chunk.is_empty() => {
                        reply.trailers = std::mem::take(&mut self.trailers);
                        break;
                    }
                    Some(chunk) => reply.body.extend(chunk),
                    None => {
                        reply.complete = false;
                        break;
                    }
                }
            }
        } else if let Some(length) = reply.header("content-length").map(|length| length.parse().expect("a length")) {
            reply.body.resize(length, 0);
            reply.complete = self.stream.read_exact(&mut reply.body).is_ok();
        } else {
            reply.complete = self.stream.read_to_end(&mut reply.body).is_ok();
        }
        Some(reply)
    }

    pub(crate) fn reply(&mut self) -> Reply {
        self.reply_to("").expect("a response")
    }

    /// Returns whether the server has closed the connection, after it has sent nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Returns all values of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request on a connection of its own.
pub(crate) fn request(address: SocketAddr, method: &str, target: &str, body: impl AsRef<[u8]>) -> Reply {
    let mut client = Client::new(address);
    let body = body.as_ref();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send([head.as_bytes(), body].concat());
    client.reply_to(method).expect("a response")
}

pub(crate) fn get(address: SocketAddr, target: &str) -> Reply {
    request(address, "GET", target, "")
}

pub(crate) fn post(address: SocketAddr, target: &str, body: impl AsRef<[u8]>) -> Reply {
    request(address, "POST", target, body)
}

//! A client for HTTP/1.1 that waits, and can stop at any byte.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a response may take. A client that waits for this long has lost its request.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Client(BufReader<TcpStream>);

impl Client {
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Sends a whole request.
    pub(super) fn request(&mut self, path: &str, body: &str) -> io::Result<()> {
        let head = format!("POST /{path} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send(&[head.as_bytes(), body.as_bytes()].concat())
    }

    /// Reads a whole response: its status, and its body.
    pub(super) fn response(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(": ") {
                None => break,
                Some(("content-length", value)) => length = value.parse().map_err(|_| malformed())?,
                Some(("transfer-encoding", "chunked")) => is_chunked = true,
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        while is_chunked {
            let length = usize::from_str_radix(&self.line()?, 16).map_err(|_| malformed())?;
            let before = body.len();
            body.resize(before + length, 0);
            self.0.read_exact(&mut body[before..])?;
            self.line()?;
            is_chunked = length > 0;
        }
        Ok((status, body))
    }

    /// Waits until the server has sent something.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        if self.0.fill_buf()?.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Sends no more, and still reads.
    pub(super) fn close_half(&mut self) -> io::Result<()> {
        self.0.get_mut().shutdown(Shutdown::Write)
    }

    /// Waits for the end of the connection, and throws away what comes before.
    pub(super) fn end(&mut self) -> io::Result<()> {
        io::copy(&mut self.0, &mut io::sink()).map(drop)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

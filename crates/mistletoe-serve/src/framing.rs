//! Requests of HTTP/1.1 that can be read in two ways, found in the bytes of a connection.
//!
//! hyper parses requests, and refuses most of what is ambiguous. Two things it resolves before a service can see them:
//! it drops `Content-Length` where there is `Transfer-Encoding`, and takes a line feed for the end of a line, except
//! among trailers. A proxy in front may resolve them otherwise, and then takes one request for two. So this module
//! follows the framing of a connection (RFC 9112, sections 2.2, 6 and 7) from one head to the next, and counts the
//! heads. It changes no byte. Where it finds something that hyper refuses anyway, it gives up.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memchr;

/// Number of bytes at the beginning of a line that are looked at: a field of framing fits in.
const KEPT: usize = 128;

/// What is known of the requests of a connection.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// Number of heads that have begun.
    begun: AtomicU64,
    /// The first head that can be read in two ways, counted from 1; 0 for none.
    ambiguous: AtomicU64,
}

impl Heads {
    /// Returns whether a request, counted from 1, can be read in two ways. Its head must have been scanned.
    pub(crate) fn is_ambiguous(&self, request: u64) -> bool {
        self.ambiguous.load(Ordering::Relaxed) == request
    }

    /// Returns the number of heads that have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}

/// Follows the framing of a connection.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    heads: Arc<Heads>,
    state: State,
    line: Line,
}

#[derive(Debug, Default)]
enum State {
    /// Before a request line. Empty lines may come first.
    #[default]
    Start,
    /// In the fields of a head.
    Fields(Framing),
    /// In a body of known length.
    Body(u64),
    /// In the line of a chunk's size.
    Size,
    /// In the data of a chunk.
    Chunk(u64),
    /// In the end of the line after a chunk's data.
    ChunkEnd,
    /// In the trailer section.
    Trailers,
    /// The rest of the connection is of no interest.
    Ended,
}

/// What a head says about the length of its body.
#[derive(Clone, Copy, Debug, Default)]
struct Framing {
    length: Option<u64>,
    is_chunked: bool,
    is_ambiguous: bool,
}

/// A line, which may come in parts.
#[derive(Debug, Default)]
struct Line {
    /// The first [`KEPT`] bytes.
    start: Vec<u8>,
    length: u64,
    /// Whether the last byte is a carriage return.
    is_return: bool,
}

impl Scanner {
    /// Returns what is known of the requests, which grows with the bytes that are scanned.
    pub(crate) fn heads(&self) -> &Arc<Heads> {
        &self.heads
    }

    /// Scans the next bytes of the connection.
    pub(crate) fn scan(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Ended => return,
                State::Body(left) | State::Chunk(left) => {
                    // What does not fit into an address is more than there is.
                    let (_, rest) = bytes.split_at(bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
                    *left -= (bytes.len() - rest.len()) as u64;
                    bytes = rest;
                    if *left == 0 {
                        self.state = if matches!(self.state, State::Body(_)) { State::Start } else { State::ChunkEnd };
                    }
                }
                _ => match memchr(b'\n', bytes) {
                    None => {
                        self.begin(bytes);
                        return self.line.extend(bytes);
                    }
                    Some(end) => {
                        let (line, rest) = bytes.split_at(end);
                        bytes = rest.get(1..).unwrap_or_default();
                        self.begin(line);
                        // Most lines come whole, and need no copy.
                        if self.line.length == 0 {
                            let is_return = line.ends_with(b"\r");
                            self.end(line.get(..KEPT).unwrap_or(line), line.len() as u64, is_return);
                        } else {
                            self.line.extend(line);
                            let Line { mut start, length, is_return } = mem::take(&mut self.line);
                            self.end(&start, length, is_return);
                            start.clear();
                            self.line.start = start;
                        }
                    }
                },
            }
        }
    }

    /// Notes that a head begins, if these bytes begin one.
    fn begin(&mut self, line: &[u8]) {
        if matches!(self.state, State::Start) && self.line.length == 0 && !matches!(line, [] | [b'\r', ..]) {
            self.heads.begun.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a line without its line feed: its start, its length, and whether it ends with a carriage return.
    fn end(&mut self, start: &[u8], length: u64, is_return: bool) {
        let is_empty = length == u64::from(is_return);
        let line = if is_return && length <= KEPT as u64 { start.strip_suffix(b"\r").unwrap_or(start) } else { start };
        self.state = match mem::replace(&mut self.state, State::Ended) {
            State::Start if is_empty => State::Start,
            // HTTP/2 has no heads of this form.
            State::Start if line == b"PRI * HTTP/2.0" => State::Ended,
            State::Start => State::Fields(Framing { is_ambiguous: !is_return, ..Framing::default() }),
            State::Fields(mut framing) => {
                framing.is_ambiguous |= !is_return;
                if is_empty {
                    self.body(framing)
                } else {
                    framing.field(line, length > KEPT as u64).map_or(State::Ended, State::Fields)
                }
            }
            State::Size if is_return => match chunk_size(line) {
                Some(0) => State::Trailers,
                Some(size) => State::Chunk(size),
                None => State::Ended,
            },
            State::ChunkEnd if is_return && is_empty => State::Size,
            // hyper goes on to a line that ends with CRLF. Where the next head begins can be read in two ways.
            State::Trailers if !is_return => {
                self.heads.ambiguous.store(self.heads.begun() + 1, Ordering::Relaxed);
                State::Ended
            }
            State::Trailers if is_empty => State::Start,
            State::Trailers => State::Trailers,
            _ => State::Ended,
        };
    }

    /// Returns what follows a head.
    fn body(&mut self, framing: Framing) -> State {
        match framing {
            Framing { is_ambiguous: true, .. } | Framing { is_chunked: true, length: Some(_), .. } => {
                // The connection ends with this request.
                self.heads.ambiguous.store(self.heads.begun(), Ordering::Relaxed);
                State::Ended
            }
            Framing { is_chunked: true, .. } => State::Size,
            Framing { length: None | Some(0), .. } => State::Start,
            Framing { length: Some(length), .. } => State::Body(length),
        }
    }
}

impl Framing {
    /// Takes a field; nothing if hyper refuses it. `is_cut` is whether there is more of it.
    fn field(mut self, line: &[u8], is_cut: bool) -> Option<Self> {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let length = str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()?;
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        } else {
            return Some(self);
        }
        // A field of framing that long has no meaning that everybody agrees on.
        self.is_ambiguous |= is_cut;
        Some(self)
    }
}

impl Line {
    fn extend(&mut self, bytes: &[u8]) {
        let room = KEPT - self.start.len();
        self.start.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.length += bytes.len() as u64;
        if let Some(last) = bytes.last() {
            self.is_return = *last == b'\r';
        }
    }
}

/// Returns the size of a chunk, of a line that may have extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(end);
    if !matches!(rest, [] | [b';' | b' ' | b'\t', ..]) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans bytes in parts of a length, and returns the number of heads, the ambiguous one, and whether a next request
    /// is expected.
    fn scanned(bytes: &[u8], part: usize) -> (u64, u64, bool) {
        let mut scanner = Scanner::default();
        bytes.chunks(part).for_each(|part| scanner.scan(part));
        let Heads { begun, ambiguous } = &*scanner.heads;
        let is_between = matches!(scanner.state, State::Start) && scanner.line.length == 0;
        assert!(scanner.line.start.capacity() <= 2 * KEPT, "{scanner:?}");
        (begun.load(Ordering::Relaxed), ambiguous.load(Ordering::Relaxed), is_between)
    }

    #[test]
    fn requests_are_counted_and_the_ambiguous_one_is_found() {
        const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        const BOTH: &str = "POST / HTTP/1.1\r\nContent-Length: 1\r\ntransfer-encoding:chunked\r\n\r\n";
        let long = "x".repeat(1_000);
        let padded = " ".repeat(KEPT);
        for (bytes, found) in [
            ("", (0, 0, true)),
            (GET, (1, 0, true)),
            (&GET.repeat(3), (3, 0, true)),
            ("GET / HTTP/1.1\r\nHost: a\r\n", (1, 0, false)),
            ("G", (1, 0, false)),
            // Empty lines before a request are allowed, and begin none.
            ("\r\n\r\n", (0, 0, true)),
            (&format!("\r\n{GET}\r\n{BOTH}"), (2, 2, false)),
            // What looks like a head in a body is none.
            (&format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{BOTH}{GET}", BOTH.len()), (2, 0, true)),
            (&format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{GET}{BOTH}", GET.len()), (2, 2, false)),
            (
                &format!(
                    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x};a=b\r\n{BOTH}\r\n1 \r\n\n\r\n0\r\n\
                     X: 1\r\n\r\n{GET}",
                    BOTH.len()
                ),
                (2, 0, true),
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nA:b\n\r\n",
                (2, 2, false),
            ),
            (
                &format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n{GET}"),
                (2, 0, true),
            ),
            // The request after trailers that end in two ways.
            (&format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\nX: 1\r\n\r\n{GET}"), (1, 2, false)),
            (&format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\n\r\n{GET}"), (1, 2, false)),
            ("GET / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nA: b\r\ncontent-length: 0\r\n\r\n", (1, 1, false)),
            // Line feeds alone.
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", (1, 1, false)),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", (1, 1, false)),
            // Long lines.
            (&format!("GET /{long} HTTP/1.1\r\nX: {long}\r\n\r\n{GET}"), (2, 0, true)),
            (&format!("GET /{long} HTTP/1.1\r\nX: {long}\n\r\n{GET}"), (1, 1, false)),
            (&format!("POST / HTTP/1.1\r\nTransfer-Encoding:{padded}chunked\r\n\r\n0\r\n\r\n"), (1, 1, false)),
            (
                &format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0;{long}\r\nX: {long}\r\n\r\n{GET}"),
                (2, 0, true),
            ),
            // What hyper refuses, and what is not HTTP/1.1.
            ("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", (1, 0, false)),
            ("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", (1, 0, false)),
            ("GET / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", (1, 0, false)),
            ("GET / HTTP/1.1\r\nno field\r\n\r\n", (1, 0, false)),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", (1, 0, false)),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", (1, 0, false)),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", (1, 0, false)),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\n\n", (1, 0, false)),
        ] {
            for part in [1, 2, 3, 7, 64, usize::MAX] {
                assert_eq!(
                    scanned(bytes.as_bytes(), part.min(bytes.len().max(1))),
                    found,
                    "{bytes:?} in parts of {part}"
                );
            }
        }
    }

    #[test]
    fn a_long_body_is_passed_over() {
        let mut scanner = Scanner::default();
        scanner.scan(format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", u64::MAX).as_bytes());
        scanner.scan(&[b'\n'; 100]);
        assert!(matches!(scanner.state, State::Body(left) if left == u64::MAX - 100), "{scanner:?}");
    }
}

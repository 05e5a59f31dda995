//! The exchanges of middleware: messages as text, and a server that passes them through a session.
//!
//! A request is written as `"POST /a HTTP/1.1\nhost: a.example\n\nbody"`, a response as `"200\nname: value\n\nbody"`. A
//! trailer is a header line that starts with `~`.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io;
use std::panic::resume_unwind;
use std::thread;
use std::time::Instant;

use mistletoe_abi::protocol::HttpHandler;
use mistletoe_abi::protocol::http_handler::{BodyKind, Exchange, Features, HeaderKind, InMemory, Level, Message};
use serde::Deserialize;

use crate::case::Text;

/// The client's address by default.
pub(crate) const SOURCE: &str = "192.0.2.1:1234";

thread_local! {
    /// What the guests of this thread have logged, one line each.
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What middleware is loaded with, and how the server behaves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The guest's configuration.
    config: Option<Text>,
    /// The bits of the supported features. All by default.
    features: Option<u32>,
    /// The lowest level of messages that are logged, to standard error: `"debug"`, `"info"`, `"warn"` or `"error"`.
    /// Nothing is logged by default.
    log: Option<String>,
    /// The maximum number of headers.
    max_headers: Option<u32>,
    /// The maximum length of headers in bytes.
    max_header_bytes: Option<u64>,
    /// The client's address; [`SOURCE`] by default.
    pub(crate) source: Option<String>,
    /// The most bytes that the server reads of a body at once.
    pub(crate) piece: Option<usize>,
    /// How many bytes of the request's body the next handler leaves. 0 by default.
    #[serde(default)]
    leaves: usize,
    /// The function of the server that fails: `"read"`, `"write"`, `"method"`, `"uri"`, `"status"` or `"header"`.
    ///
    /// Other failures: `"read-late"` and `"write-late"` fail at the deadline, `"read-beyond"` claims to have read more
    /// than the buffer has room for, `"read-panic"` panics.
    fails: Option<String>,
}

/// A call of middleware.
#[derive(Clone, Copy, Debug)]
pub enum Exchanged<'a> {
    /// Passes a request to the guest.
    ///
    /// The output is the guest's response, or `next` and the request that the next handler gets.
    Request(&'a str),
    /// Passes the next handler's response to the guest. The output is the response that the client gets.
    Response {
        /// The next handler's response. Its headers replace those of the same names.
        text: &'a str,
        /// Whether the next handler failed.
        failed: bool,
    },
}

impl Http {
    /// Returns the protocol with these settings.
    pub(crate) fn protocol(&self) -> HttpHandler {
        let mut protocol = HttpHandler::default();
        if let Some(config) = &self.config {
            protocol = protocol.config(config.text());
        }
        if let Some(bits) = self.features {
            let all = [Features::BUFFER_REQUEST, Features::BUFFER_RESPONSE, Features::TRAILERS];
            let supported = all.into_iter().filter(|feature| bits & feature.bits() != 0);
            protocol = protocol.features(supported.fold(Features::NONE, |all, feature| all | feature));
        }
        let level = self.log.as_deref().map(|log| match log {
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warn" => Level::Warn,
            _ => Level::Error,
        });
        if let Some(level) = level {
            protocol = protocol.log(level, |level, message| {
                LOG.with_borrow_mut(|log| _ = writeln!(log, "{level}: {message}"));
            });
        }
        if let Some(headers) = self.max_headers {
            protocol = protocol.max_headers(headers);
        }
        if let Some(bytes) = self.max_header_bytes {
            protocol = protocol.max_header_bytes(bytes);
        }
        protocol
    }
}

/// Takes what was logged on this thread.
pub(crate) fn take_log() -> String {
    LOG.take()
}

/// An exchange in memory with the server's behaviour.
pub(crate) struct Served {
    exchange: InMemory,
    http: Http,
}

impl Served {
    /// Creates the exchange of a request.
    pub(crate) fn new(text: &str, http: &Http) -> Self {
        let (line, message) = message(text);
        let mut words = line.split(' ');
        let mut exchange = InMemory::new(words.next().unwrap_or_default(), words.next().unwrap_or_default());
        words.next().unwrap_or("HTTP/1.1").clone_into(&mut exchange.protocol_version);
        http.source.as_deref().unwrap_or(SOURCE).clone_into(&mut exchange.source_addr);
        exchange.request = message;
        Self { exchange, http: http.clone() }
    }

    /// Does what the next handler does first: reads the request. Returns it as text.
    pub(crate) fn requested(&mut self) -> String {
        let InMemory { method, uri, protocol_version, request, .. } = &mut self.exchange;
        let text = text(&format!("next {method} {uri} {protocol_version}"), request);
        let body = request.body();
        let left = body.get(body.len().saturating_sub(self.http.leaves)..).unwrap_or_default().to_vec();
        request.set_body(left);
        text
    }

    /// Does what the next handler does then: responds.
    pub(crate) fn respond(&mut self, text: &str) {
        let (line, response) = message(text);
        self.exchange.status = line.parse().unwrap_or_default();
        let body = response.body().to_vec();
        let old = &mut self.exchange.response;
        for (old, new) in [(&mut old.headers, response.headers), (&mut old.trailers, response.trailers)] {
            old.retain(|(name, _)| !new.iter().any(|(other, _)| name == other));
            old.extend(new);
        }
        // As a server whose next handler writes no body leaves what there is.
        if !body.is_empty() {
            old.set_body(body);
        }
    }

    /// Returns the response that the client gets.
    pub(crate) fn responded(&self) -> String {
        text(&self.exchange.status.to_string(), &self.exchange.response)
    }

    fn check(&self, function: &str) -> io::Result<()> {
        match self.http.fails.as_deref() {
            Some(fails) if fails == function => Err(io::Error::other("the server failed")),
            _ => Ok(()),
        }
    }
}

/// Returns the first line, and what follows it.
pub(crate) fn message(text: &str) -> (&str, Message) {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let (line, fields) = head.split_once('\n').unwrap_or((head, ""));
    let mut message = Message::default();
    for field in fields.lines() {
        let (name, value) = field.split_once(": ").unwrap_or((field, ""));
        match name.strip_prefix('~') {
            Some(name) => message.trailers.push((name.to_owned(), value.into())),
            None => message.headers.push((name.to_owned(), value.into())),
        }
    }
    message.set_body(body);
    (line, message)
}

fn text(line: &str, message: &Message) -> String {
    let mut text = format!("{line}\n");
    for (mark, fields) in [("", &message.headers), ("~", &message.trailers)] {
        for (name, value) in fields {
            let _ = writeln!(text, "{mark}{name}: {}", String::from_utf8_lossy(value));
        }
    }
    let _ = write!(text, "\n{}", String::from_utf8_lossy(message.body()));
    text
}

/// Waits until the deadline, as a server does for a client that sends nothing.
fn late(deadline: Option<Instant>) -> io::Error {
    if let Some(deadline) = deadline {
        thread::sleep(deadline.saturating_duration_since(Instant::now()));
    }
    io::ErrorKind::TimedOut.into()
}

impl Exchange for Served {
    fn method(&self) -> &str {
        self.exchange.method()
    }

    fn set_method(&mut self, method: &str) -> io::Result<()> {
        self.check("method")?;
        self.exchange.set_method(method)
    }

    fn uri(&self) -> &str {
        self.exchange.uri()
    }

    fn set_uri(&mut self, uri: &str) -> io::Result<()> {
        self.check("uri")?;
        self.exchange.set_uri(uri)
    }

    fn protocol_version(&self) -> &str {
        self.exchange.protocol_version()
    }

    fn source_addr(&self) -> String {
        self.exchange.source_addr()
    }

    fn status(&self) -> u16 {
        self.exchange.status()
    }

    fn set_status(&mut self, status: u16) -> io::Result<()> {
        self.check("status")?;
        self.exchange.set_status(status)
    }

    fn visit_headers(&self, kind: HeaderKind, visit: &mut dyn FnMut(&str, &[u8])) {
        self.exchange.visit_headers(kind, visit);
    }

    fn set_header(&mut self, kind: HeaderKind, name: &str, value: &[u8]) -> io::Result<()> {
        self.check("header")?;
        self.exchange.set_header(kind, name, value)
    }

    fn add_header(&mut self, kind: HeaderKind, name: &str, value: &[u8]) -> io::Result<()> {
        self.check("header")?;
        self.exchange.add_header(kind, name, value)
    }

    fn remove_header(&mut self, kind: HeaderKind, name: &str) -> io::Result<()> {
        self.check("header")?;
        self.exchange.remove_header(kind, name)
    }

    fn read_body(&mut self, body: BodyKind, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        self.check("read")?;
        match self.http.fails.as_deref() {
            Some("read-late") => return Err(late(deadline)),
            Some("read-beyond") => return Ok(buffer.len() + 1),
            // As `panic!` does, but without a message on standard error.
            Some("read-panic") => resume_unwind(Box::new("the server panicked")),
            _ => {}
        }
        let piece = self.http.piece.unwrap_or(buffer.len()).min(buffer.len());
        self.exchange.read_body(body, &mut buffer[..piece], deadline)
    }

    fn unread_body(&mut self, body: BodyKind, bytes: Vec<u8>) {
        self.exchange.unread_body(body, bytes);
    }

    fn clear_body(&mut self, body: BodyKind) {
        self.exchange.clear_body(body);
    }

    fn write_body(&mut self, body: BodyKind, bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
        self.check("write")?;
        if self.http.fails.as_deref() == Some("write-late") {
            return Err(late(deadline));
        }
        self.exchange.write_body(body, bytes, deadline)
    }
}

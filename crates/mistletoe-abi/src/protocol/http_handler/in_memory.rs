//! An exchange in memory, for tests and simple hosts.

use std::io;
use std::mem;
use std::time::Instant;

use super::exchange::{BodyKind, Exchange, HeaderKind};

/// An [`Exchange`] whose messages are in memory.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::protocol::http_handler::{InMemory, Message};
/// use mistletoe_abi::{Backend, Middleware, Result};
///
/// /// Passes a request through a guest to a handler that responds with its path.
/// fn respond<B: Backend>(middleware: &Middleware<B>, path: &str) -> Result<(u16, Vec<u8>)> {
///     let mut session = middleware.session()?;
///     let (next, mut exchange) = session.handle_request(InMemory::new("GET", path));
///     if let Some(next) = next? {
///         exchange.response.set_body(exchange.uri.clone());
///         let (result, responded) = session.handle_response(exchange, next, false);
///         result?;
///         exchange = responded;
///     }
///     Ok((exchange.status, exchange.response.into_body()))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InMemory {
    /// The method.
    pub method: String,
    /// The path and query.
    pub uri: String,
    /// The version of HTTP.
    pub protocol_version: String,
    /// The client's address and port.
    pub source_addr: String,
    /// The request.
    pub request: Message,
    /// The status of the response.
    pub status: u16,
    /// The response.
    pub response: Message,
}

/// The headers, body and trailers of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The headers' names and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The trailers' names and values, in order.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// The body that can be read, with how much of it was read.
    received: Vec<u8>,
    read: usize,
    /// The body that goes on instead.
    replacement: Option<Vec<u8>>,
}

impl InMemory {
    /// Creates an exchange with an empty request of HTTP/1.1, and an empty response with status 200.
    pub fn new(method: impl Into<String>, uri: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            uri: uri.into(),
            protocol_version: "HTTP/1.1".to_owned(),
            source_addr: "127.0.0.1:0".to_owned(),
            request: Message::default(),
            status: 200,
            response: Message::default(),
        }
    }

    fn message(&mut self, body: BodyKind) -> &mut Message {
        match body {
            BodyKind::Request => &mut self.request,
            BodyKind::Response => &mut self.response,
        }
    }

    fn fields(&self, kind: HeaderKind) -> &Vec<(String, Vec<u8>)> {
        match kind {
            HeaderKind::Request => &self.request.headers,
            HeaderKind::Response => &self.response.headers,
            HeaderKind::RequestTrailers => &self.request.trailers,
            HeaderKind::ResponseTrailers => &self.response.trailers,
        }
    }

    fn fields_mut(&mut self, kind: HeaderKind) -> &mut Vec<(String, Vec<u8>)> {
        match kind {
            HeaderKind::Request => &mut self.request.headers,
            HeaderKind::Response => &mut self.response.headers,
            HeaderKind::RequestTrailers => &mut self.request.trailers,
            HeaderKind::ResponseTrailers => &mut self.response.trailers,
        }
    }
}

impl Message {
    /// Replaces the body by one of which nothing was read.
    pub fn set_body(&mut self, body: impl Into<Vec<u8>>) {
        (self.received, self.read, self.replacement) = (body.into(), 0, None);
    }

    /// Returns the body that goes on: the one that replaces it, or what was not read.
    pub fn body(&self) -> &[u8] {
        match &self.replacement {
            Some(replacement) => replacement,
            None => self.received.get(self.read..).unwrap_or_default(),
        }
    }

    /// Returns the body that goes on, as [`body`](Message::body) does, and drops the rest.
    pub fn into_body(mut self) -> Vec<u8> {
        match self.replacement {
            Some(replacement) => replacement,
            None => self.received.split_off(self.read.min(self.received.len())),
        }
    }
}

impl Exchange for InMemory {
    fn method(&self) -> &str {
        &self.method
    }

    fn set_method(&mut self, method: &str) -> io::Result<()> {
        method.clone_into(&mut self.method);
        Ok(())
    }

    fn uri(&self) -> &str {
        &self.uri
    }

    fn set_uri(&mut self, uri: &str) -> io::Result<()> {
        uri.clone_into(&mut self.uri);
        Ok(())
    }

    fn protocol_version(&self) -> &str {
        &self.protocol_version
    }

    fn source_addr(&self) -> String {
        self.source_addr.clone()
    }

    fn status(&self) -> u16 {
        self.status
    }

    fn set_status(&mut self, status: u16) -> io::Result<()> {
        self.status = status;
        Ok(())
    }

    fn visit_headers(&self, kind: HeaderKind, visit: &mut dyn FnMut(&str, &[u8])) {
        self.fields(kind).iter().for_each(|(name, value)| visit(name, value));
    }

    fn set_header(&mut self, kind: HeaderKind, name: &str, value: &[u8]) -> io::Result<()> {
        self.remove_header(kind, name)?;
        self.add_header(kind, name, value)
    }

    fn add_header(&mut self, kind: HeaderKind, name: &str, value: &[u8]) -> io::Result<()> {
        self.fields_mut(kind).push((name.to_owned(), value.to_vec()));
        Ok(())
    }

    fn remove_header(&mut self, kind: HeaderKind, name: &str) -> io::Result<()> {
        self.fields_mut(kind).retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        Ok(())
    }

    fn read_body(&mut self, body: BodyKind, buffer: &mut [u8], _: Option<Instant>) -> io::Result<usize> {
        let Message { received, read, .. } = self.message(body);
        let rest = received.get(*read..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        *read += length;
        Ok(length)
    }

    fn unread_body(&mut self, body: BodyKind, mut bytes: Vec<u8>) {
        let message = self.message(body);
        let rest = mem::take(&mut message.received);
        bytes.extend_from_slice(rest.get(message.read..).unwrap_or_default());
        (message.received, message.read) = (bytes, 0);
    }

    fn clear_body(&mut self, body: BodyKind) {
        self.message(body).replacement = Some(Vec::new());
    }

    fn write_body(&mut self, body: BodyKind, bytes: &[u8], _: Option<Instant>) -> io::Result<()> {
        self.message(body).replacement.get_or_insert_default().extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(exchange: &mut InMemory, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        let read = exchange.read_body(BodyKind::Request, &mut buffer, None).expect("it is in memory");
        buffer.truncate(read);
        buffer
    }

    #[test]
    fn what_was_read_does_not_go_on_unless_it_is_put_back() {
        let mut exchange = InMemory::new("POST", "/");
        exchange.request.set_body("abcdef");
        assert_eq!(read(&mut exchange, 4), b"abcd");
        assert_eq!(exchange.request.body(), b"ef");
        exchange.unread_body(BodyKind::Request, b"bcd".to_vec());
        assert_eq!(exchange.request.body(), b"bcdef");
        assert_eq!(read(&mut exchange, 9), b"bcdef");
        assert_eq!(read(&mut exchange, 9), b"");
        assert_eq!(exchange.request.clone().into_body(), b"");
    }

    #[test]
    fn a_replaced_body_goes_on_and_the_received_one_is_read() {
        let mut exchange = InMemory::new("POST", "/");
        exchange.request.set_body("abc");
        assert_eq!(read(&mut exchange, 1), b"a");
        exchange.clear_body(BodyKind::Request);
        assert_eq!(exchange.request.body(), b"");
        exchange.write_body(BodyKind::Request, b"x", None).expect("it is in memory");
        assert_eq!(read(&mut exchange, 9), b"bc");
        exchange.write_body(BodyKind::Request, b"y", None).expect("it is in memory");
        assert_eq!(exchange.request.body(), b"xy");
        assert_eq!(exchange.request.into_body(), b"xy");
    }
}

//! What a server provides for each request, and the words in which guest and server speak about it.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::ops::BitOr;
use std::time::Instant;

/// A request and its response, as a server stores and streams them.
///
/// The protocol checks what a guest asks for: what it may change and when, names, values, ranges and sizes. An
/// implementation only stores and streams. [`InMemory`](super::InMemory) is one.
///
/// Names of headers and trailers that the protocol passes are tokens in lower case. Names that an implementation passes
/// may be in any case. A method that returns an error ends the guest's call; the error becomes the source of an
/// [`ErrorKind::Host`](crate::ErrorKind::Host).
///
/// # Bodies
///
/// Each message has a body, which can be read once, from its start to its end. For a request this is the body that the
/// client sent; for a response, the body that the next handler wrote, and before the next handler an empty one. The
/// body that goes on, to the next handler or the client, is what has not been read yet, until
/// [`clear_body`](Exchange::clear_body) replaces it.
pub trait Exchange: Any + Send {
    /// Returns the method, such as `GET`.
    fn method(&self) -> &str;

    /// Replaces the method. It is a token.
    ///
    /// # Errors
    ///
    /// Any error, if the server does not accept the method.
    fn set_method(&mut self, method: &str) -> io::Result<()>;

    /// Returns the path and query as on the wire, such as `/a%20b?c=d`.
    fn uri(&self) -> &str;

    /// Replaces the path and the query. `uri` starts with `/` or is `*`.
    ///
    /// # Errors
    ///
    /// Any error, if the server does not accept the URI.
    fn set_uri(&mut self, uri: &str) -> io::Result<()>;

    /// Returns the version of HTTP, such as `HTTP/1.1` or `HTTP/2.0`.
    fn protocol_version(&self) -> &str;

    /// Returns the client's address and port, such as `192.0.2.1:1234` or `[::1]:1234`.
    fn source_addr(&self) -> String;

    /// Returns the status of the response; 200 until it is set.
    fn status(&self) -> u16;

    /// Replaces the status of the response. It is between 200 and 999.
    ///
    /// # Errors
    ///
    /// Any error, if the server does not accept the status.
    fn set_status(&mut self, status: u16) -> io::Result<()>;

    /// Calls `visit` with the name and value of each header or trailer; the values of a name in their order.
    ///
    /// The headers of a request include `host`.
    fn visit_headers(&self, kind: HeaderKind, visit: &mut dyn FnMut(&str, &[u8]));

    /// Sets a header or trailer to one value, which replaces all values of that name.
    ///
    /// # Errors
    ///
    /// Any error, if the server does not accept the header.
    fn set_header(&mut self, kind: HeaderKind, name: &str, value: &[u8]) -> io::Result<()>;

    /// Adds a value after those that the header or trailer has.
    ///
    /// # Errors
    ///
    /// As [`Exchange::set_header`].
    fn add_header(&mut self, kind: HeaderKind, name: &str, value: &[u8]) -> io::Result<()>;

    /// Removes all values of a header or trailer, if there are any.
    ///
    /// # Errors
    ///
    /// As [`Exchange::set_header`].
    fn remove_header(&mut self, kind: HeaderKind, name: &str) -> io::Result<()>;

    /// Reads the next bytes of a body into `buffer`, which is not empty. Returns their number; 0 at the end.
    ///
    /// It may block, but should fail at `deadline`, when the guest's time ends. Any error after that is reported as
    /// [`TimedOut`](crate::ErrorKind::TimedOut).
    ///
    /// # Errors
    ///
    /// Any error, if the body cannot be read.
    fn read_body(&mut self, body: BodyKind, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize>;

    /// Puts bytes that were read back in front of the rest of a body.
    ///
    /// The protocol calls it after the guest's call, if the guest has read a buffered body and not replaced it.
    fn unread_body(&mut self, body: BodyKind, bytes: Vec<u8>);

    /// Replaces the body that goes on by an empty one, to which [`write_body`](Exchange::write_body) appends.
    ///
    /// [`read_body`](Exchange::read_body) goes on with the body as it was received.
    fn clear_body(&mut self, body: BodyKind);

    /// Appends to a body that was cleared.
    ///
    /// As [`read_body`](Exchange::read_body), it may block until `deadline`.
    ///
    /// # Errors
    ///
    /// Any error, if the body cannot be written.
    fn write_body(&mut self, body: BodyKind, bytes: &[u8], deadline: Option<Instant>) -> io::Result<()>;
}

/// Which fields a guest means: headers or trailers, of the request or the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderKind {
    /// The request's headers, 0 in the interface.
    Request,
    /// The response's headers, 1.
    Response,
    /// The request's trailers, 2.
    RequestTrailers,
    /// The response's trailers, 3.
    ResponseTrailers,
}

/// Whose body a guest means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// The request's, 0 in the interface.
    Request,
    /// The response's, 1.
    Response,
}

/// A set of features that a host supports or a guest has enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(u32);

/// How important a message of the guest's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// -1 in the interface.
    Debug,
    /// 0.
    Info,
    /// 1.
    Warn,
    /// 2.
    Error,
}

/// A call of a host function that the interface does not allow.
///
/// It is the source of an [`ErrorKind::Host`](crate::ErrorKind::Host), which names the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// The guest is not in a request, but starts.
    NoRequest,
    /// The request cannot be changed after the next handler.
    AfterNext,
    /// After the next handler, the call requires this feature.
    NotBuffered(Features),
    /// Trailers can be changed only if the feature `trailers` is enabled.
    NoTrailers,
    /// There is no such kind of headers.
    HeaderKind(u32),
    /// There is no such kind of bodies.
    BodyKind(u32),
    /// A body was to be read into a buffer of 0 bytes.
    EmptyBuffer,
    /// The method is not a token.
    Method,
    /// The URI is no path with a query, or has characters that are not encoded.
    Uri,
    /// The name of a header is not a token.
    HeaderName,
    /// The value of a header has control characters.
    HeaderValue,
    /// The status is not between 200 and 999.
    Status(u32),
    /// There would be more headers of one kind than the host allows.
    TooManyHeaders {
        /// The limit.
        limit: u32,
    },
    /// The URI, or all headers of one kind, would be longer than the host allows.
    HeadersTooLong {
        /// The length in bytes; of headers, that of all names and values.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl HeaderKind {
    pub(super) fn of(kind: u32) -> Result<Self, Misuse> {
        [Self::Request, Self::Response, Self::RequestTrailers, Self::ResponseTrailers]
            .get(kind as usize)
            .copied()
            .ok_or(Misuse::HeaderKind(kind))
    }

    /// Returns the message that the headers or trailers belong to.
    pub(super) fn message(self) -> BodyKind {
        match self {
            Self::Request | Self::RequestTrailers => BodyKind::Request,
            Self::Response | Self::ResponseTrailers => BodyKind::Response,
        }
    }

    /// Returns whether these are trailers.
    pub fn is_trailers(self) -> bool {
        matches!(self, Self::RequestTrailers | Self::ResponseTrailers)
    }
}

impl BodyKind {
    pub(super) fn of(kind: u32) -> Result<Self, Misuse> {
        [Self::Request, Self::Response].get(kind as usize).copied().ok_or(Misuse::BodyKind(kind))
    }

    /// Returns the feature that buffers the body.
    pub(super) fn buffering(self) -> Features {
        match self {
            Self::Request => Features::BUFFER_REQUEST,
            Self::Response => Features::BUFFER_RESPONSE,
        }
    }
}

impl Features {
    /// No feature.
    pub const NONE: Self = Self(0);
    /// The next handler can read what the guest has read of the request's body.
    pub const BUFFER_REQUEST: Self = Self(1);
    /// The response is held back until the guest has handled it.
    pub const BUFFER_RESPONSE: Self = Self(2);
    /// Trailers can be read and changed.
    pub const TRAILERS: Self = Self(4);
    /// All features.
    pub const ALL: Self = Self(7);

    pub(super) fn of(bits: u32) -> Self {
        Self(bits)
    }

    /// Returns the features as the bits of the interface.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Returns whether all these features are in the set.
    pub fn contains(self, features: Self) -> bool {
        self.0 & features.0 == features.0
    }

    pub(super) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Level {
    /// Returns the level of this number, if messages can have it.
    pub(super) fn of(level: i32) -> Option<Self> {
        match level {
            -1 => Some(Self::Debug),
            0 => Some(Self::Info),
            1 => Some(Self::Warn),
            2 => Some(Self::Error),
            _ => None,
        }
    }

    /// Returns the name of the level, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::BUFFER_REQUEST, "buffer_request"),
            (Self::BUFFER_RESPONSE, "buffer_response"),
            (Self::TRAILERS, "trailers"),
        ];
        for (i, (_, name)) in names.iter().filter(|(feature, _)| self.contains(*feature)).enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRequest => f.write_str("there is no request: the guest starts"),
            Self::AfterNext => f.write_str("the request cannot be changed after the next handler"),
            Self::NotBuffered(feature) => write!(f, "after the next handler, this requires the feature `{feature}`"),
            Self::NoTrailers => f.write_str("trailers cannot be changed: the feature `trailers` is not enabled"),
            Self::HeaderKind(kind) => write!(f, "unknown kind of headers {kind}: the kinds are 0 to 3"),
            Self::BodyKind(kind) => write!(f, "unknown kind of bodies {kind}: the kinds are 0 and 1"),
            Self::EmptyBuffer => f.write_str("a body cannot be read into 0 bytes"),
            Self::Method => f.write_str("the method is not a token"),
            Self::Uri => f.write_str("the URI is not a path with an optional query, encoded"),
            Self::HeaderName => f.write_str("the name of the header is not a token"),
            Self::HeaderValue => f.write_str("the value of the header has control characters"),
            Self::Status(status) => write!(f, "invalid status {status}: a response has 200 to 999"),
            Self::TooManyHeaders { limit } => write!(f, "more headers than the limit of {limit}"),
            Self::HeadersTooLong { length, limit } => write!(f, "{length} bytes exceed the limit of {limit}"),
        }
    }
}

impl StdError for Misuse {}

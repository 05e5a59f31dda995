//! Why a request has no response of its guest, and what the client gets instead.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use mistletoe::protocol::Region;
use mistletoe::{Error, ErrorKind};

use crate::body::{Body, BoxError};
use crate::route::Miss;

/// Names the kind of a failure in a response, if the route shows it.
pub(crate) const ERROR: HeaderName = HeaderName::from_static("x-mistletoe-error");

/// Why a request has no response of its guest.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// No route has the path.
    NoRoute,
    /// The path has routes, but for these methods.
    Method(Vec<Method>),
    /// The request's head is malformed. The service does not see the request.
    Head(String),
    /// The request's target exceeds 64 KiB. The service does not see the request.
    LongTarget,
    /// The request's head exceeds its limit. The service does not see the request.
    LargeHead,
    /// The client took too long to send a request's head. It gets no response.
    SlowHead,
    /// The request is malformed.
    Request(&'static str),
    /// The request's body could not be received.
    Body(String),
    /// The client took too long to send the body.
    SlowBody,
    /// The body exceeds its limit.
    TooLarge,
    /// The client took too long to accept the response.
    SlowClient,
    /// All instances are in use.
    Busy,
    /// Too many requests are under way.
    Crowded,
    /// Too many responses wait for their clients.
    Full,
    /// The guest ran out of time while it waited for its client.
    TimedOut,
    /// An error of the guest.
    Guest(Error),
    /// The guest's output is no response.
    Output(Cow<'static, str>),
    /// The package returned `Err`.
    Package(String),
    /// The document in the request is not what the route expects.
    Document(String),
    /// A plugin of the scheduler failed.
    Plugin(String),
    /// The upstream cannot be reached, or has not sent a response.
    Upstream(String),
    /// The upstream took too long to send its response.
    SlowUpstream,
    /// The host failed.
    Host(String),
    /// What made the server end a guest that ran. It is counted already.
    Ended(Box<Self>),
}

impl Failure {
    /// Returns why a body could not be received.
    pub(crate) fn of_body(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => *failure,
            Err(error) => Self::Body(error.to_string()),
        }
    }

    /// Returns whether the failure is in the metrics already. What happens while a guest runs is counted where it
    /// happens: its client may have left by now.
    pub(crate) fn is_counted(&self) -> bool {
        matches!(self, Self::Guest(_) | Self::Ended(_))
    }

    /// Returns the name of the kind in logs, metrics and headers.
    pub(crate) fn kind(&self) -> Cow<'static, str> {
        match self {
            Self::NoRoute => "no-route".into(),
            Self::Method(_) => "method".into(),
            Self::Head(_) | Self::Request(_) => "request".into(),
            Self::LongTarget | Self::LargeHead => "large-head".into(),
            Self::SlowHead => "slow-head".into(),
            Self::Body(_) => "body".into(),
            Self::SlowBody => "slow-body".into(),
            Self::TooLarge => "too-large".into(),
            Self::SlowClient => "slow-client".into(),
            Self::Busy => "busy".into(),
            Self::Crowded => "crowded".into(),
            Self::Full => "full".into(),
            Self::TimedOut => "timed-out".into(),
            Self::Output(_) => "output".into(),
            Self::Package(_) => "package".into(),
            Self::Document(_) => "document".into(),
            Self::Plugin(_) => "plugin".into(),
            Self::Upstream(_) => "upstream".into(),
            Self::SlowUpstream => "slow-upstream".into(),
            Self::Host(_) => "host".into(),
            Self::Guest(error) => guest_kind(error),
            Self::Ended(failure) => failure.kind(),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Head(_) | Self::Request(_) | Self::Body(_) | Self::Document(_) => StatusCode::BAD_REQUEST,
            Self::LongTarget => StatusCode::URI_TOO_LONG,
            Self::LargeHead => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::SlowHead | Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy | Self::Crowded | Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut | Self::SlowClient | Self::SlowUpstream => StatusCode::GATEWAY_TIMEOUT,
            Self::Output(_) | Self::Upstream(_) => StatusCode::BAD_GATEWAY,
            Self::Package(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Host(_) | Self::Plugin(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Ended(failure) => failure.status(),
            Self::Guest(error) => match error.kind() {
                ErrorKind::TimedOut { .. } | ErrorKind::OutOfFuel { .. } => StatusCode::GATEWAY_TIMEOUT,
                ErrorKind::TooLong { region: Region::Input, .. } => StatusCode::PAYLOAD_TOO_LARGE,
                ErrorKind::TooLong { .. }
                | ErrorKind::InvalidUtf8 { .. }
                | ErrorKind::OutOfBounds { region: Region::Output | Region::FatPointer, .. } => StatusCode::BAD_GATEWAY,
                ErrorKind::PoolExhausted { .. } | ErrorKind::Cancelled { .. } => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// Returns the response: a fixed text for each status, which tells nothing of the guest.
    ///
    /// A package's own message is the exception, since it is for the author of the document.
    pub(crate) fn response(&self, show_kind: bool) -> Response<Body> {
        let status = self.status();
        let text = match self {
            Self::Package(message) => Bytes::from(format!("{}\n", message.trim_end())),
            _ => Bytes::from(format!("{}\n", status.canonical_reason().unwrap_or("Error"))),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Self::Method(methods) = self {
            let names: Vec<_> = methods.iter().map(Method::as_str).collect();
            if let Ok(value) = HeaderValue::from_str(&names.join(", ")) {
                headers.insert(ALLOW, value);
            }
        }
        if show_kind && let Ok(kind) = HeaderValue::from_str(&self.kind()) {
            headers.insert(ERROR, kind);
        }
        response
    }
}

/// Returns the kind of a guest's error: a trap's own name, or the name of the error's kind.
pub(crate) fn guest_kind(error: &Error) -> Cow<'static, str> {
    let name = |value: serde_json::Result<serde_json::Value>, field: &str| {
        let value = value.ok()?;
        value.as_str().or_else(|| value.get(field)?.as_str()).map(str::to_owned)
    };
    let name = match error.as_trap() {
        Some(trap) => name(serde_json::to_value(trap), "").map(|name| format!("trap-{name}")),
        None => name(serde_json::to_value(error.kind()), "kind"),
    };
    name.map_or(Cow::Borrowed("guest"), Cow::Owned)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => f.write_str("no route has this path"),
            Self::Method(_) => f.write_str("no route has this path and method"),
            Self::Head(problem) => f.write_str(problem),
            Self::LongTarget => f.write_str("the target exceeds 64 KiB"),
            Self::LargeHead => f.write_str("the head exceeds its limit"),
            Self::SlowHead => f.write_str("the client took too long to send a head"),
            Self::Request(problem) => f.write_str(problem),
            Self::Body(error) => write!(f, "the body cannot be received: {error}"),
            Self::SlowBody => f.write_str("the client took too long to send the body"),
            Self::TooLarge => f.write_str("the body exceeds its limit"),
            Self::SlowClient => f.write_str("the client took too long to accept the response"),
            Self::Busy => f.write_str("all instances stayed in use"),
            Self::Crowded => f.write_str("too many requests are under way"),
            Self::Full => f.write_str("too many responses wait for their clients"),
            Self::TimedOut => f.write_str("timed out while the guest waited for its client"),
            Self::Guest(error) => error.fmt(f),
            Self::Output(problem) => f.write_str(problem),
            Self::Package(message) | Self::Document(message) | Self::Plugin(message) => f.write_str(message),
            Self::Upstream(problem) => write!(f, "the upstream: {problem}"),
            Self::SlowUpstream => f.write_str("the upstream took too long to respond"),
            Self::Host(error) => f.write_str(error),
            Self::Ended(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Guest(error)
    }
}

impl From<Miss> for Failure {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Path => Self::NoRoute,
            Miss::Method(allowed) => Self::Method(allowed),
        }
    }
}

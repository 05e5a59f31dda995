//! The record of one request: its line in the log, and its numbers.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BoxError};
use crate::budget::Units;
#[cfg(feature = "otel")]
use crate::config::Route;
use crate::failure::Failure;
use crate::log::Log;
use crate::metrics::{Latest, Metrics, RouteMetrics, now};
#[cfg(feature = "otel")]
use crate::otel::Spans;
use crate::trace::Span;

/// Identifies a request, in its response and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The status of a request whose client left before the end of the response. It is never sent.
const LEFT: u16 = 499;
/// Maximum length of a message in the log, in bytes.
const MAX_MESSAGE: usize = 500;
/// Maximum length of a request's host and of its target in the log, in bytes each.
const MAX_TARGET: usize = 4 << 10;

/// The record of one request. It is written when the response has been sent, or is dropped.
pub(crate) struct Record {
    log: Log,
    metrics: Arc<Metrics>,
    begun: Instant,
    pub(crate) id: Arc<str>,
    remote: Option<SocketAddr>,
    pub(crate) method: Method,
    uri: Uri,
    pub(crate) version: Version,
    pub(crate) host: String,
    span: Option<Span>,
    route: Option<(Arc<str>, Arc<RouteMetrics>)>,
    /// Whether the client is told why its request failed.
    pub(crate) show_errors: bool,
    status: u16,
    bytes: u64,
    failure: Option<Failure>,
    /// One request of those that may be under way.
    admission: Option<Units>,
    #[cfg(feature = "otel")]
    export: Option<Export>,
}

/// Where the span of a request goes, and what only the span has.
#[cfg(feature = "otel")]
struct Export {
    spans: Spans,
    served: Option<(Arc<Route>, Option<&'static str>)>,
    usage: Arc<Usage>,
}

/// What the guests used for a request.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    fuel: Mutex<Option<u64>>,
}

impl Usage {
    /// Adds the fuel of a call, where it is counted.
    pub(crate) fn fuel(&self, units: u64) {
        let mut fuel = self.fuel.lock().unwrap_or_else(PoisonError::into_inner);
        *fuel = Some(fuel.unwrap_or_default().saturating_add(units));
    }

    /// Returns the fuel, if any was counted.
    #[cfg(feature = "otel")]
    fn counted_fuel(&self) -> Option<u64> {
        *self.fuel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// Boxed, since it goes with the request from one future to the next.
    pub(crate) fn new<B>(
        request: &Request<B>,
        remote: Option<SocketAddr>,
        host: String,
        span: Option<Span>,
        log: Log,
        metrics: Arc<Metrics>,
    ) -> Box<Self> {
        Box::new(Self {
            log,
            metrics,
            begun: Instant::now(),
            id: id(request.headers()),
            remote,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host,
            span,
            route: None,
            show_errors: false,
            status: LEFT,
            bytes: 0,
            failure: None,
            admission: None,
            #[cfg(feature = "otel")]
            export: None,
        })
    }

    pub(crate) fn route(&mut self, name: &Arc<str>, metrics: &Arc<RouteMetrics>, show_errors: bool) {
        self.route = Some((name.clone(), metrics.clone()));
        self.show_errors = show_errors;
    }

    /// Exports the request's span when the record is written.
    #[cfg(feature = "otel")]
    pub(crate) fn export(&mut self, spans: &Spans, usage: &Arc<Usage>) {
        self.export = Some(Export { spans: spans.clone(), served: None, usage: usage.clone() });
    }

    /// Notes what serves the request.
    #[cfg(feature = "otel")]
    pub(crate) fn served(&mut self, route: &Arc<Route>, engine: Option<&'static str>) {
        if let Some(export) = &mut self.export {
            export.served = Some((route.clone(), engine));
        }
    }

    /// Keeps the place of the request among those under way until the record is written.
    pub(crate) fn admit(&mut self, admission: Units) {
        self.admission = Some(admission);
    }

    /// Counts bytes of the response's body.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    pub(crate) fn status(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    pub(crate) fn failure(&mut self, failure: Failure) {
        let metrics = self.route.as_ref().map_or(&self.metrics.unrouted, |(_, metrics)| metrics);
        if !failure.is_counted() {
            metrics.failure(failure.kind());
        }
        self.failure = Some(failure);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let time = self.begun.elapsed();
        let metrics = self.route.as_ref().map_or(&self.metrics.unrouted, |(_, metrics)| metrics);
        metrics.request(self.status, time, self.bytes);
        let name = self.route.as_ref().map(|(name, _)| name);
        let kind = self.failure.as_ref().map(Failure::kind);
        let message = self.failure.as_ref().map(|failure| excerpt(failure.to_string(), MAX_MESSAGE));
        // What clients do wrong is no failure of the service.
        if let (Some(name), Some(kind), Some(message)) = (name, &kind, &message)
            && (self.status >= 500 || self.status < 400)
        {
            self.metrics.failed(Latest {
                time: now().to_string(),
                route: name.to_string(),
                request: self.id.to_string(),
                status: self.status,
                kind: kind.to_string(),
                message: message.clone().into_owned(),
            });
        }
        let host = excerpt(&*self.host, MAX_TARGET);
        #[cfg(feature = "otel")]
        if let (Some(Export { spans, served, usage }), Some(span)) = (self.export.take(), self.span) {
            spans.span(crate::otel::Request {
                span,
                id: &self.id,
                time,
                method: &self.method,
                path: excerpt(self.uri.path(), MAX_TARGET).into_owned(),
                host: host.clone().into_owned(),
                version: self.version,
                remote: self.remote,
                status: self.status,
                route: served.map(|(route, engine)| (route.path.as_str().to_owned(), engine, usage.counted_fuel())),
                error: kind.as_deref().map(str::to_owned),
            });
        }
        let target = match self.uri.path_and_query() {
            Some(target) => excerpt(target.as_str(), MAX_TARGET),
            None => excerpt(self.uri.to_string(), MAX_TARGET),
        };
        self.log.entry("request", |line| {
            line.text("request", &self.id);
            if let Some(remote) = self.remote {
                line.address("remote", remote);
            }
            line.text("method", self.method.as_str());
            line.text("host", &host);
            line.text("target", &target);
            line.text("version", version(self.version));
            if let Some(name) = name {
                line.text("route", name);
            }
            line.field("status", &self.status);
            line.field("bytes", &self.bytes);
            line.field("ms", &((time.as_micros() as f64) / 1e3));
            if let Some(Span { own, .. }) = self.span {
                line.text("trace_id", &own.trace_id());
                line.text("span_id", &own.span_id());
            }
            line.optional("error", kind.as_deref());
            line.optional("message", message.as_deref());
        });
    }
}

/// Records what a client sent that did not become a request.
pub(crate) fn refused(log: &Log, metrics: &Metrics, remote: SocketAddr, failure: &Failure) {
    let (kind, status) = (failure.kind(), failure.status().as_u16());
    log.entry("request", |line| {
        line.text("request", &new_id());
        line.address("remote", remote);
        line.field("status", &status);
        line.field("bytes", &0);
        line.field("ms", &0.0);
        line.text("error", &kind);
        line.text("message", &excerpt(failure.to_string(), MAX_MESSAGE));
    });
    metrics.unrouted.request(status, Duration::ZERO, 0);
    metrics.unrouted.failure(kind);
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/0.9",
    }
}

/// Returns the beginning of a text, which may be a guest's or a client's.
fn excerpt<'a>(text: impl Into<Cow<'a, str>>, limit: usize) -> Cow<'a, str> {
    let text = text.into();
    if text.len() <= limit {
        return text;
    }
    let end = text.floor_char_boundary(limit);
    format!("{}…", &text[..end]).into()
}

/// Returns the client's name for the request if it has a plain one, or else a new one.
fn id(headers: &HeaderMap) -> Arc<str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    if let Some(given) = given.filter(|id| !id.is_empty() && id.len() <= 100 && id.bytes().all(plain)) {
        return given.into();
    }
    new_id()
}

/// Returns a name that is unlikely to be another request's, of this process or another one.
fn new_id() -> Arc<str> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static PROCESS: OnceLock<[u8; 16]> = OnceLock::new();
    let process = PROCESS.get_or_init(|| hex(RandomState::new().hash_one("process")));
    let mut id = [0; 32];
    let (first, second) = id.split_at_mut(16);
    first.copy_from_slice(process);
    second.copy_from_slice(&hex(NEXT.fetch_add(1, Ordering::Relaxed)));
    str::from_utf8(&id).unwrap_or_default().into()
}

fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 0xf])
}

/// A response's body, with the record of its request.
pub(crate) struct Recorded {
    body: Body,
    record: Option<Box<Record>>,
    /// Why the body breaks off.
    error: Option<BoxError>,
}

impl Recorded {
    /// The record's status is the response's.
    pub(crate) fn new(body: Body, record: Box<Record>) -> Self {
        Self { body, record: Some(record), error: None }
    }
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match (frame, &mut self.record) {
            (Some(Err(error)), record) => {
                if let (Some(failure), Some(record)) = (error.downcast_ref::<Failure>(), record) {
                    record.failure(failure.clone());
                }
                self.record = None;
                // A server drops what it has not sent when a body fails. So it sends first what there is.
                self.error = Some(error);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            (Some(Ok(frame)), Some(record)) => {
                record.sent(frame.data_ref().map_or(0, Bytes::len) as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            (frame, _) => {
                self.record = None;
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.error.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if let Some(record) = &mut self.record
            && !self.body.is_end_stream()
        {
            record.status = LEFT;
        }
    }
}

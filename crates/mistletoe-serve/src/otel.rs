//! Export of spans with OpenTelemetry's protocol: OTLP over HTTP, in protobuf.

use std::borrow::Cow;
use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use http::uri::Scheme;
use http::{Method, StatusCode, Uri, Version};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, Key, KeyValue};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter, WithExportConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::body::BoxError;
use crate::trace::{Context, Span};

/// Maximum number of spans that wait for the collector.
const WAITING: usize = 2_048;
/// Maximum number of spans in one request to the collector.
const BATCH: usize = 512;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// The service, if the environment does not name it.
const SERVICE: &str = "mistletoe";

/// Destination of spans: an OpenTelemetry collector, which gets one span for each request.
///
/// A collector that is slow or gone holds up no request: spans that find no room, or that it does not accept, are lost,
/// and counted. Cloning is cheap; clones are the same destination.
#[derive(Clone)]
pub struct Spans(Arc<Inner>);

struct Inner {
    queue: mpsc::Sender<Message>,
    lost: AtomicU64,
}

enum Message {
    Span(Box<SpanData>),
    /// Everything before this is to be exported, and then this to be dropped.
    Flush(oneshot::Sender<()>),
}

impl Spans {
    /// Exports to the collector that the environment names, if there is one.
    ///
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is the URL for spans; `OTEL_EXPORTER_OTLP_ENDPOINT` is a URL to which
    /// `/v1/traces` is added. It has the scheme `http`. `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
    /// `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_EXPORTER_OTLP_TIMEOUT` have effect as OpenTelemetry specifies them.
    ///
    /// # Errors
    ///
    /// The errors of a variable that is malformed, of another scheme, and of a thread that is not in a tokio runtime.
    pub fn from_env() -> Result<Option<Self>, BoxError> {
        for name in [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT] {
            if let Some(url) = env::var_os(name).filter(|url| !url.is_empty()) {
                check(&url.to_string_lossy()).map_err(|error| format!("{name}: {error}"))?;
                return Self::start(SpanExporter::builder().with_http().build()?).map(Some);
            }
        }
        Ok(None)
    }

    /// Exports to a collector at a URL, such as `http://127.0.0.1:4318/v1/traces`.
    ///
    /// # Errors
    ///
    /// As [`Spans::from_env`], for a URL that is malformed.
    pub fn to_collector(url: &str) -> Result<Self, BoxError> {
        check(url)?;
        Self::start(SpanExporter::builder().with_http().with_endpoint(url).build()?)
    }

    fn start(mut exporter: SpanExporter) -> Result<Self, BoxError> {
        let mut resource = Resource::builder();
        let name = Key::from_static_str("service.name");
        if resource_is_unnamed(&Resource::builder().build(), &name) {
            resource = resource.with_service_name(SERVICE);
        }
        exporter.set_resource(&resource.build());
        let (queue, waiting) = mpsc::channel(WAITING);
        let inner = Arc::new(Inner { queue, lost: AtomicU64::new(0) });
        // The task ends with the last clone.
        Handle::try_current()?.spawn(export(waiting, exporter, Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// Waits until all spans so far are exported or lost, for at most `time`. Returns whether they are.
    pub async fn flush(&self, time: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        let flushing = async {
            if self.0.queue.send(Message::Flush(done)).await.is_ok() {
                // Dropping the sender is the answer.
                let _ = flushed.await;
            }
        };
        timeout(time, flushing).await.is_ok()
    }

    /// Returns the number of spans that were lost.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn span(&self, request: Request<'_>) {
        if !request.span.own.is_sampled() {
            return;
        }
        if self.0.queue.try_send(Message::Span(Box::new(request.into_span()))).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

/// Checks that a collector is reached without TLS. The client has none, and would lose every span.
fn check(url: &str) -> Result<(), BoxError> {
    let scheme = url.parse::<Uri>()?.scheme().cloned();
    if scheme == Some(Scheme::HTTP) {
        return Ok(());
    }
    Err(format!("`{url}` is not a URL with the scheme `http`; a collector is reached without TLS").into())
}

/// Returns whether a resource has the name that OpenTelemetry gives to those without one.
fn resource_is_unnamed(resource: &Resource, name: &Key) -> bool {
    resource.get(name).is_none_or(|name| name.as_str().starts_with("unknown_service"))
}

/// Exports spans in batches until no sender is left.
async fn export(mut waiting: mpsc::Receiver<Message>, exporter: SpanExporter, inner: Weak<Inner>) {
    while let Some(first) = waiting.recv().await {
        let (mut batch, mut flushing) = (Vec::new(), Vec::new());
        let until = Instant::now() + DELAY;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Span(span) => batch.push(*span),
                Message::Flush(done) => flushing.push(done),
            }
            next = if batch.len() < BATCH && flushing.is_empty() {
                timeout_at(until, waiting.recv()).await.ok().flatten()
            } else {
                None
            };
        }
        let count = batch.len() as u64;
        if count > 0
            && exporter.export(batch).await.is_err()
            && let Some(inner) = inner.upgrade()
        {
            inner.lost.fetch_add(count, Ordering::Relaxed);
        }
        drop(flushing);
    }
}

/// A request that has ended, by the names of OpenTelemetry's semantic conventions for HTTP servers.
pub(crate) struct Request<'a> {
    pub(crate) span: Span,
    pub(crate) id: &'a str,
    pub(crate) time: Duration,
    pub(crate) method: &'a Method,
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) version: Version,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) status: u16,
    /// The route's paths, the engine of its handler, and the fuel of its guests if that is counted.
    pub(crate) route: Option<(String, Option<&'static str>, Option<u64>)>,
    /// The kind of the failure.
    pub(crate) error: Option<String>,
}

impl Request<'_> {
    fn into_span(self) -> SpanData {
        let Self { span: Span { own, parent }, .. } = self;
        let end = SystemTime::now();
        // A method that is not known is not of a few.
        let method = if is_known(self.method) { self.method.as_str().to_owned() } else { "_OTHER".to_owned() };
        let version = match self.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        };
        let name = if method == "_OTHER" { "HTTP" } else { &method };
        let name = match &self.route {
            Some((path, ..)) => format!("{name} {path}"),
            None => name.to_owned(),
        };
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.response.status_code", i64::from(self.status)),
            KeyValue::new("url.scheme", "http"),
            KeyValue::new("url.path", self.path),
            KeyValue::new("server.address", self.host),
            KeyValue::new("network.protocol.version", version),
            KeyValue::new("mistletoe.request", self.id.to_owned()),
        ];
        if let Some(remote) = self.remote {
            attributes.push(KeyValue::new("client.address", remote.ip().to_string()));
            attributes.push(KeyValue::new("client.port", i64::from(remote.port())));
        }
        if let Some((path, engine, fuel)) = self.route {
            attributes.push(KeyValue::new("http.route", path));
            if let Some(engine) = engine {
                attributes.push(KeyValue::new("mistletoe.engine", engine));
            }
            if let Some(fuel) = fuel {
                attributes.push(KeyValue::new("mistletoe.fuel", i64::try_from(fuel).unwrap_or(i64::MAX)));
            }
        }
        // A client's mistake is no error of the server.
        let is_error = StatusCode::from_u16(self.status).is_ok_and(|status| status.is_server_error());
        if let Some(kind) = self.error {
            attributes.push(KeyValue::new("error.type", kind));
        } else if is_error {
            attributes.push(KeyValue::new("error.type", self.status.to_string()));
        }
        SpanData {
            span_context: context(own, false),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.span())),
            parent_span_is_remote: parent.is_some(),
            span_kind: SpanKind::Server,
            name: Cow::Owned(name),
            start_time: end.checked_sub(self.time).unwrap_or(end),
            end_time: end,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if is_error { Status::error("") } else { Status::Unset },
            instrumentation_scope: InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

fn is_known(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ]
    .contains(method)
}

fn context(context: Context, is_remote: bool) -> SpanContext {
    SpanContext::new(
        TraceId::from(context.trace()),
        SpanId::from(context.span()),
        if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED },
        is_remote,
        TraceState::NONE,
    )
}

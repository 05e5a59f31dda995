//! Upstreams: another server gets the request, over HTTP/1.1, and its response is passed on. Both bodies stream.

use std::convert::identity;
use std::error::Error as StdError;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, VIA};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tower_service::Service;

use super::{Call, Context, Kind, Responding, authority, permits};
use crate::body::{Body, BoxError, Sender};
use crate::config;
use crate::failure::Failure;
use crate::headers::{is_chunked, remove_hop_by_hop};
use crate::metrics::Instances;
use crate::record::REQUEST_ID;

/// Maximum length of a response's head, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// How long a connection may be idle before it is closed.
const IDLE: Duration = Duration::from_secs(30);

/// Maximum number of concurrent look-ups of an upstream's name.
const LOOKUPS: usize = 4;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

struct Upstream {
    settings: config::Upstream,
    body_timeout: Duration,
    client: Client<HttpConnector<Resolver>, Body>,
    /// A permit for each request that runs.
    running: Arc<Semaphore>,
    /// A permit for each request that runs or waits.
    admission: Arc<Semaphore>,
}

pub(super) fn new(context: &Context, settings: config::Upstream) -> Arc<dyn Kind> {
    let config::Pool { size, queue, .. } = settings.pool;
    let mut connector = HttpConnector::new_with_resolver(Resolver { lookups: permits(LOOKUPS) });
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(settings.timeout));
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(size)
        .http1_max_buf_size(MAX_HEAD)
        .build(connector);
    let body_timeout = context.route.body_timeout;
    let (running, admission) = (permits(size), permits(size.saturating_add(queue)));
    Arc::new(Upstream { settings, body_timeout, client, running, admission })
}

impl Kind for Upstream {
    fn respond(self: Arc<Self>, call: Call) -> Responding {
        Box::pin(async move { self.run(call).await })
    }

    fn instances(&self) -> Option<Instances> {
        let config::Pool { size, queue, .. } = self.settings.pool;
        let in_use = size.saturating_sub(self.running.available_permits());
        let admitted = size.saturating_add(queue).saturating_sub(self.admission.available_permits());
        Some(Instances { in_use, idle: 0, waiting: admitted.saturating_sub(in_use), limit: size })
    }

    fn prune(&self, _: std::time::Instant) {
        // The client closes idle connections by itself.
    }
}

impl Upstream {
    async fn run(&self, call: Call) -> Result<Response<Body>, Failure> {
        let permits = self.admit().await?;
        let request = request(call, &self.settings.authority)?;
        let response = timeout(self.settings.timeout, self.client.request(request)).await;
        let response = response.map_err(|_| Failure::SlowUpstream)?.map_err(|error| failure(&error))?;
        let (parts, body) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::Upstream("it switches protocols".to_owned()));
        }
        framing(&parts.headers)?;
        let limit = self.settings.max_output;
        if body.size_hint().lower() > limit {
            return Err(Failure::Upstream("the body of its response exceeds the limit".to_owned()));
        }
        let body = Body::new(body).guarded(limit, self.body_timeout, Sender::Upstream);
        let is_end = body.is_end_stream();
        let mut response = Response::new(if is_end { body } else { Body::new(Held { body, _permits: permits }) });
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
        remove_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    /// Waits until the upstream has room for a request, unless too many wait already.
    async fn admit(&self) -> Result<Permits, Failure> {
        let admission = self.admission.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
        let running = timeout(self.settings.pool.wait, self.running.clone().acquire_owned()).await;
        let running = running.ok().and_then(Result::ok).ok_or(Failure::Busy)?;
        Ok((running, admission))
    }
}

/// Looks up names, on tokio's blocking threads.
///
/// The system's resolver cannot be interrupted: a look-up goes on after the request has ended that waited for it. Further
/// requests wait for their turn, within their own time, so that there are not ever more threads.
#[derive(Clone)]
struct Resolver {
    lookups: Arc<Semaphore>,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookups = self.lookups.clone();
        Box::pin(async move {
            let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
            let lookup = spawn_blocking(move || {
                let addresses = (name.as_str(), 0).to_socket_addrs();
                drop(permit);
                addresses
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

/// What a request needs to run, and to wait for that.
type Permits = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// The body of a response. The request runs until this is dropped.
struct Held {
    body: Body,
    _permits: Permits,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Checks that a response's body has one length and no coding that is left out, since its field is (RFC 9112, section
/// 6.3).
fn framing(headers: &HeaderMap) -> Result<(), Failure> {
    let problem = match is_chunked(headers) {
        None => "the transfer coding of its response is not `chunked` alone",
        Some(true) if headers.contains_key(CONTENT_LENGTH) => {
            "its response has both Content-Length and Transfer-Encoding"
        }
        Some(_) => return Ok(()),
    };
    Err(Failure::Upstream(problem.to_owned()))
}

/// Returns the request as the upstream gets it.
fn request(call: Call, upstream: &Authority) -> Result<Request<Body>, Failure> {
    let (parts, body) = call.request.into_parts();
    let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(upstream.clone()).path_and_query(target).build();
    let uri = uri.map_err(|_| Failure::Request("the target is not a path"))?;
    let host = HeaderValue::from_str(authority(&parts)).ok().filter(|host| !host.is_empty());

    let mut headers = parts.headers;
    let takes_trailers = headers.get_all(TE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove_hop_by_hop(&mut headers);
    // The server has asked for the body already, and the client frames it.
    headers.remove(EXPECT);
    headers.remove(CONTENT_LENGTH);
    headers.remove(HOST);
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    append(&mut headers, VIA, "1.1 mistletoe");
    if let Some(remote) = call.remote {
        append(&mut headers, FORWARDED_FOR, &remote.ip().to_canonical().to_string());
    }
    if let Ok(id) = HeaderValue::from_str(&call.id) {
        headers.insert(REQUEST_ID, id);
    }

    // HTTP/1.1 has no trailers after a body of a known length. A mapped body has none that is known.
    let body = if headers.contains_key(TRAILER) { Body::new(body.map_frame(identity)) } else { body };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Adds an element to the list of a field.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    if let Ok(value) = HeaderValue::from_str(element) {
        // A request with too many fields to hold one more goes on without it.
        let _ = headers.try_append(name, value);
    }
}

/// Returns why there is no response: the request's own body is at fault, or else the upstream.
fn failure(error: &hyper_util::client::legacy::Error) -> Failure {
    let mut source: Option<&(dyn StdError + 'static)> = error.source();
    let mut last = error.to_string();
    while let Some(error) = source {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.clone();
        }
        last = error.to_string();
        source = error.source();
    }
    let what = if error.is_connect() { "cannot be reached" } else { "has not sent a response" };
    Failure::Upstream(format!("it {what}: {last}"))
}

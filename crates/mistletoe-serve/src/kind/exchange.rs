//! A request and its response as middleware sees them, and as they go on.

use std::convert::Infallible;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use mistletoe::protocol::http_handler::{BodyKind, Exchange, HeaderKind};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::{Ending, authority, is_without_body};
use crate::body::Body;
use crate::failure::Failure;
use crate::headers::{is_framing, remove_connection, remove_hop_by_hop};

/// The target of a request without one, and of one whose target is not a path.
const ROOT: PathAndQuery = PathAndQuery::from_static("/");

/// A request and its response.
pub(super) struct Messages {
    method: Method,
    /// Whether the client's method is HEAD, whatever the guest sets.
    is_head: bool,
    target: PathAndQuery,
    version: Version,
    remote: Option<SocketAddr>,
    request: Message,
    status: StatusCode,
    response: Message,
    /// The length of the body that the next handler has given. What middleware sets has no effect.
    length: Option<HeaderValue>,
    /// How many bytes of the response's body the guest may still hold back.
    room: u64,
    link: Link,
}

#[derive(Default)]
struct Message {
    headers: HeaderMap,
    /// Trailers that have come, or were set.
    trailers: HeaderMap,
    /// What was received of the body and not read yet.
    front: Bytes,
    /// The rest of the body.
    body: Option<Body>,
    /// The body that goes on instead.
    replacement: Option<Replacement>,
}

/// A body that the guest writes.
enum Replacement {
    Written(Vec<u8>),
    /// Written to its end.
    Buffered(Bytes),
}

impl Default for Replacement {
    fn default() -> Self {
        Self::Written(Vec::new())
    }
}

/// How the guest's thread waits for a body.
pub(super) struct Link {
    pub(super) runtime: Handle,
    pub(super) ending: Ending,
    /// Closed when nobody waits for the guest any more. The guest is cancelled before.
    pub(super) gone: oneshot::Receiver<Infallible>,
}

impl Messages {
    pub(super) fn new(request: Request<Body>, remote: Option<SocketAddr>, room: u64, link: Link) -> Self {
        let (mut parts, body) = request.into_parts();
        // HTTP/2 has the host in the URI alone. From here on there is one place for it.
        let host = HeaderValue::from_str(authority(&parts)).ok().filter(|host| !host.is_empty());
        // Before the guest sets anything: a client must not name a field that the guest adds, and so remove it.
        remove_connection(&mut parts.headers);
        parts.headers.remove(HOST);
        if let Some(host) = host {
            parts.headers.insert(HOST, host);
        }
        let target = parts.uri.path_and_query().cloned().unwrap_or(ROOT);
        let request = Message { headers: parts.headers, body: Some(body), ..Message::default() };
        Self {
            is_head: parts.method == Method::HEAD,
            method: parts.method,
            target,
            version: parts.version,
            remote,
            request,
            status: StatusCode::OK,
            response: Message::default(),
            length: None,
            room,
            link,
        }
    }

    /// Returns the request for the next handler, which takes the body.
    pub(super) fn request(&mut self) -> Request<Body> {
        let body = self.request.take_body();
        let mut headers = self.request.headers.clone();
        // The length is the body's, whatever was set.
        let had_length = headers.remove(CONTENT_LENGTH).is_some();
        headers.remove(TRANSFER_ENCODING);
        if let Some(length) = body.size_hint().exact().filter(|length| *length > 0 || had_length) {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        declare(&mut headers, &self.request.trailers);
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        request
    }

    /// Puts the response of the next handler over what middleware has set of one.
    pub(super) fn set_response(&mut self, response: Response<Body>) {
        let (parts, body) = response.into_parts();
        let headers = &mut self.response.headers;
        for name in parts.headers.keys() {
            headers.remove(name);
        }
        // To HEAD, the length is that of another body, which a client with another method does not get.
        let is_other = self.method == Method::HEAD && !self.is_head;
        self.length = parts.headers.get(CONTENT_LENGTH).filter(|_| !is_other).cloned();
        if headers.is_empty() {
            *headers = parts.headers;
        } else {
            for (name, value) in &parts.headers {
                // Fields that find no room are as lost as those that a client does not take.
                let _ = headers.try_append(name, value.clone());
            }
        }
        self.status = parts.status;
        (self.response.front, self.response.replacement) = (Bytes::new(), None);
        self.response.body = Some(body);
    }

    /// Returns the response as it is now, with its body.
    pub(super) fn response(&mut self) -> Response<Body> {
        let headers = self.response.headers.clone();
        self.response_with(headers)
    }

    /// Returns the response with its body, and a body that was replaced.
    pub(super) fn into_response(mut self) -> (Response<Body>, Option<Body>) {
        let headers = mem::take(&mut self.response.headers);
        (self.response_with(headers), self.response.body.take())
    }

    fn response_with(&mut self, mut headers: HeaderMap) -> Response<Body> {
        let is_replaced = self.response.replacement.is_some();
        let body = self.response.take_body();
        remove_hop_by_hop(&mut headers);
        headers.remove(CONTENT_LENGTH);
        if !is_replaced
            && self.response.trailers.is_empty()
            && let Some(length) = &self.length
        {
            headers.insert(CONTENT_LENGTH, length.clone());
        }
        declare(&mut headers, &self.response.trailers);
        let mut response = Response::new(body);
        if is_without_body(self.status) {
            *response.body_mut() = Body::empty();
            if self.status != StatusCode::NOT_MODIFIED {
                headers.remove(CONTENT_LENGTH);
            }
        }
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }

    /// Takes room for a body of the response that the guest has written. It may block.
    pub(super) fn buffer(&mut self, buffer: impl FnOnce(Vec<u8>) -> Result<Bytes, Failure>) -> Result<(), Failure> {
        self.response.replacement = match self.response.replacement.take() {
            Some(Replacement::Written(bytes)) => Some(Replacement::Buffered(buffer(bytes)?)),
            other => other,
        };
        Ok(())
    }

    /// Adds trailers of the response that have come.
    pub(super) fn add_trailers(&mut self, trailers: HeaderMap) {
        merge(&mut self.response.trailers, trailers);
    }

    fn message(&mut self, body: BodyKind) -> (&mut Message, &mut Link) {
        match body {
            BodyKind::Request => (&mut self.request, &mut self.link),
            BodyKind::Response => (&mut self.response, &mut self.link),
        }
    }

    fn fields(&self, kind: HeaderKind) -> &HeaderMap {
        match kind {
            HeaderKind::Request => &self.request.headers,
            HeaderKind::Response => &self.response.headers,
            HeaderKind::RequestTrailers => &self.request.trailers,
            HeaderKind::ResponseTrailers => &self.response.trailers,
        }
    }

    fn fields_mut(&mut self, kind: HeaderKind) -> &mut HeaderMap {
        match kind {
            HeaderKind::Request => &mut self.request.headers,
            HeaderKind::Response => &mut self.response.headers,
            HeaderKind::RequestTrailers => &mut self.request.trailers,
            HeaderKind::ResponseTrailers => &mut self.response.trailers,
        }
    }
}

impl Message {
    /// Returns the body that goes on. A body that was replaced stays.
    fn take_body(&mut self) -> Body {
        let front = mem::take(&mut self.front);
        let (front, body) = match self.replacement.take() {
            Some(Replacement::Written(bytes)) => (bytes.into(), None),
            Some(Replacement::Buffered(bytes)) => (bytes, None),
            None => (front, self.body.take()),
        };
        match body {
            Some(body) if front.is_empty() && self.trailers.is_empty() => body,
            None if self.trailers.is_empty() => front.into(),
            body => Body::new(Rest { front, body, trailers: self.trailers.clone() }),
        }
    }

    /// Receives more of the body. Returns whether there is more.
    fn receive(&mut self, link: &mut Link, deadline: Option<Instant>) -> io::Result<bool> {
        while self.front.is_empty() {
            let Some(body) = &mut self.body else { return Ok(false) };
            match link.wait(body.frame(), deadline)?.transpose() {
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => self.front = data,
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            merge(&mut self.trailers, trailers);
                        }
                    }
                },
                Ok(None) => self.body = None,
                Err(error) => {
                    link.ending.fail(Failure::of_body(error));
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
        Ok(true)
    }
}

impl Link {
    /// Waits until the guest's time is over, or nobody waits for the guest any more.
    ///
    /// `gone` must not be polled once it was ready. It is not, since the guest is cancelled before that.
    fn wait<T>(&mut self, future: impl Future<Output = T>, deadline: Option<Instant>) -> io::Result<T> {
        let Self { runtime, gone, ending } = self;
        if ending.handle.is_cancelled() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        runtime.block_on(async {
            tokio::select! {
                biased;
                result = future => Ok(result),
                _ = gone => Err(io::ErrorKind::ConnectionAborted.into()),
                () = late => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

impl Exchange for Messages {
    fn method(&self) -> &str {
        self.method.as_str()
    }

    fn set_method(&mut self, method: &str) -> io::Result<()> {
        let method = Method::from_bytes(method.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
        self.method = method.ok_or_else(|| io::Error::other("the server does not accept the method"))?;
        Ok(())
    }

    fn uri(&self) -> &str {
        self.target.as_str()
    }

    fn set_uri(&mut self, uri: &str) -> io::Result<()> {
        self.target = uri.parse().map_err(io::Error::other)?;
        Ok(())
    }

    fn protocol_version(&self) -> &str {
        match self.version {
            Version::HTTP_2 => "HTTP/2.0",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
    }

    fn source_addr(&self) -> String {
        self.remote.map(|address| address.to_string()).unwrap_or_default()
    }

    fn status(&self) -> u16 {
        self.status.as_u16()
    }

    fn set_status(&mut self, status: u16) -> io::Result<()> {
        self.status = StatusCode::from_u16(status).map_err(io::Error::other)?;
        Ok(())
    }

    fn visit_headers(&self, kind: HeaderKind, visit: &mut dyn FnMut(&str, &[u8])) {
        self.fields(kind).iter().for_each(|(name, value)| visit(name.as_str(), value.as_bytes()));
    }

    fn set_header(&mut self, kind: HeaderKind, name: &str, value: &[u8]) -> io::Result<()> {
        let (name, value) = field(name, value)?;
        // As trailers, these fields would break off the response on HTTP/2.
        if kind.is_trailers() && is_framing(&name) {
            return Ok(());
        }
        self.fields_mut(kind).try_insert(name, value).map(drop).map_err(io::Error::other)
    }

    fn add_header(&mut self, kind: HeaderKind, name: &str, value: &[u8]) -> io::Result<()> {
        let (name, value) = field(name, value)?;
        if kind.is_trailers() && is_framing(&name) {
            return Ok(());
        }
        self.fields_mut(kind).try_append(name, value).map(drop).map_err(io::Error::other)
    }

    fn remove_header(&mut self, kind: HeaderKind, name: &str) -> io::Result<()> {
        self.fields_mut(kind).remove(name);
        Ok(())
    }

    fn read_body(&mut self, body: BodyKind, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        let (message, link) = self.message(body);
        if !message.receive(link, deadline)? {
            return Ok(0);
        }
        let length = message.front.len().min(buffer.len());
        if body == BodyKind::Response && message.replacement.is_none() {
            // The protocol's error would be the one for a request that is too long.
            match self.room.checked_sub(length as u64) {
                Some(room) => self.room = room,
                None => {
                    let problem = "the body of the response is longer than middleware may hold back";
                    self.link.ending.fail(Failure::Output(problem.into()));
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
            }
        }
        let (message, _) = self.message(body);
        message.front.split_to(length).copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }

    fn unread_body(&mut self, body: BodyKind, mut bytes: Vec<u8>) {
        let (message, _) = self.message(body);
        bytes.extend_from_slice(&message.front);
        message.front = bytes.into();
    }

    fn clear_body(&mut self, body: BodyKind) {
        self.message(body).0.replacement = Some(Replacement::default());
    }

    fn write_body(&mut self, body: BodyKind, bytes: &[u8], _: Option<Instant>) -> io::Result<()> {
        if let Replacement::Written(all) = self.message(body).0.replacement.get_or_insert_default() {
            all.extend_from_slice(bytes);
        }
        Ok(())
    }
}

fn field(name: &str, value: &[u8]) -> io::Result<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(io::Error::other)?;
    Ok((name, HeaderValue::from_bytes(value).map_err(io::Error::other)?))
}

/// Adds trailers that have come. Those that were set before stay as they are.
fn merge(trailers: &mut HeaderMap, come: HeaderMap) {
    let mut new = HeaderMap::new();
    for (name, value) in &come {
        if !is_framing(name) && !trailers.contains_key(name) {
            // Trailers that find no room are lost. `extend` would panic.
            let _ = new.try_append(name, value.clone());
        }
    }
    for (name, value) in &new {
        let _ = trailers.try_append(name, value.clone());
    }
}

/// Announces trailers: HTTP/1.1 sends no others.
fn declare(headers: &mut HeaderMap, trailers: &HeaderMap) {
    if trailers.is_empty() {
        return;
    }
    headers.remove(CONTENT_LENGTH);
    let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        let _ = headers.try_append(TRAILER, names);
    }
}

/// A body that goes on: what was received of it, the rest, and trailers.
struct Rest {
    front: Bytes,
    body: Option<Body>,
    trailers: HeaderMap,
}

impl HttpBody for Rest {
    type Data = Bytes;
    type Error = crate::body::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if !self.front.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.front)))));
        }
        if let Some(body) = &mut self.body {
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_trailers() {
                    Ok(trailers) => merge(&mut self.trailers, trailers),
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {}
            }
            self.body = None;
        }
        let trailers = mem::take(&mut self.trailers);
        Poll::Ready((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let is_end = self.body.as_ref().is_none_or(HttpBody::is_end_stream);
        is_end && self.front.is_empty() && self.trailers.is_empty()
    }

    /// A body of a known length has no trailers in HTTP/1.1.
    fn size_hint(&self) -> SizeHint {
        if !self.trailers.is_empty() {
            return SizeHint::default();
        }
        let mut hint = SizeHint::new();
        let (front, rest) = (self.front.len() as u64, self.body.as_ref().map(HttpBody::size_hint));
        let rest = rest.unwrap_or(SizeHint::with_exact(0));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(front));
        }
        hint.set_lower(rest.lower().saturating_add(front));
        hint
    }
}

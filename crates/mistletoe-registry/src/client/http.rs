//! Requests and responses, redirects, and what errors of the connection mean.

use std::fmt;
use std::io::{self, Read};
use std::time::SystemTime;

use serde::Deserialize;
use ureq::http::{HeaderName, Method, Request, StatusCode, header};
use ureq::{Body, BodyReader};

use super::retry::{Deadline, Failure, is_temporary, retry_after};
use super::tls::check_proxy;
use super::{Client, Rate};
use crate::error::{Error, ErrorKind, Result};
use crate::reference::{ParseError, Repository, Url};

/// Maximum number of redirects.
const MAX_REDIRECTS: usize = 5;
/// Maximum length of the body of an error that is read, in bytes.
const MAX_ERROR: u64 = 64 << 10;

/// A request.
#[derive(Clone)]
pub(super) struct Call<'a> {
    pub(super) url: Url,
    method: Method,
    headers: Vec<(HeaderName, String)>,
    body: Option<&'a [u8]>,
    scope: Option<Scope>,
    /// Where credentials may go: not to where a redirect or an upload's location leads.
    origin: Url,
}

/// What a request needs access to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) repository: Repository,
    pub(super) actions: &'static str,
}

impl Scope {
    pub(super) fn pull(repository: &Repository) -> Self {
        Self { repository: repository.clone(), actions: "pull" }
    }

    pub(super) fn push(repository: &Repository) -> Self {
        Self { repository: repository.clone(), actions: "pull,push" }
    }
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { origin: url.clone(), url, method, headers: Vec::new(), body: None, scope: None }
    }

    pub(super) fn scope(self, scope: Scope) -> Self {
        Self { scope: Some(scope), ..self }
    }

    pub(super) fn origin(self, origin: &Url) -> Self {
        Self { origin: origin.clone(), ..self }
    }

    pub(super) fn body(self, body: &'a [u8]) -> Self {
        Self { body: Some(body), ..self }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A response whose body has not been read.
pub(super) struct Response {
    response: ureq::http::Response<Body>,
    rate: Rate,
}

impl Response {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Returns a header field, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(super) fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Returns the announced length of the body.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.body().content_length()
    }

    /// Returns the URL in the `Location` header field: of a redirect, or of an upload. It does not lead from HTTPS to
    /// HTTP.
    pub(super) fn location(&self, base: &Url) -> Result<Url> {
        let failed = |kind| Error::new(base.without_query(), kind);
        let missing = || failed(ErrorKind::Protocol { problem: "the response has no location".to_owned() });
        let location = base.join(self.header("location").ok_or_else(missing)?);
        let location = location.map_err(|error| bad_location(base, error))?;
        if base.is_secure() && !location.is_secure() {
            return Err(failed(ErrorKind::Redirect { reason: "it leads from HTTPS to HTTP" }));
        }
        Ok(location)
    }

    /// Returns the body, and the measure of how quickly it arrives.
    pub(super) fn into_reader(self) -> (BodyReader<'static>, Rate) {
        // The caller has a limit.
        (self.response.into_body().into_with_config().limit(u64::MAX).reader(), self.rate)
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) fn into_bytes(self, limit: u64, subject: impl fmt::Display) -> Result<Vec<u8>, Failure> {
        let too_large = || Failure::Final(Error::new(&subject, ErrorKind::TooLarge { limit }));
        if self.length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let (mut reader, mut rate) = self.into_reader();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = reader.read(&mut buffer).map_err(|error| failed_read(&subject, error))?;
            let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { return Ok(bytes) };
            rate.check(count, &subject)?;
            bytes.extend_from_slice(read);
            if bytes.len() as u64 > limit {
                return Err(too_large());
            }
        }
    }

    /// Returns the error that a status stands for.
    pub(super) fn into_error(self, subject: impl fmt::Display) -> Error {
        let status = self.status();
        let kind = match status {
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Unauthorized,
            _ => {
                let message = self.into_message();
                return Error::new(subject, ErrorKind::Status { status: status.as_u16(), message });
            }
        };
        match self.into_message() {
            Some(message) => Error::with_source(subject, kind, message),
            None => Error::new(subject, kind),
        }
    }

    /// Returns the same error, and whether to try again.
    pub(super) fn into_failure(self, subject: impl fmt::Display) -> Failure {
        let is_temporary = is_temporary(self.status());
        let wait = self.header("retry-after").and_then(|text| retry_after(text, SystemTime::now()));
        let error = self.into_error(subject);
        if is_temporary { Failure::Again { error, wait } } else { Failure::Final(error) }
    }

    /// Returns the codes and messages of a registry's error (OCI distribution specification, "Error Codes").
    fn into_message(self) -> Option<String> {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<Problem>,
        }
        #[derive(Deserialize)]
        struct Problem {
            code: String,
            #[serde(default)]
            message: Option<String>,
        }
        let bytes = self.into_bytes(MAX_ERROR, "").ok()?;
        let Errors { errors } = serde_json::from_slice(&bytes).ok()?;
        let text = |error: Problem| match error.message {
            Some(message) if !message.is_empty() => format!("{}: {message}", error.code),
            _ => error.code,
        };
        let message = errors.into_iter().map(text).collect::<Vec<_>>().join("; ");
        (!message.is_empty()).then(|| crate::shown(&message))
    }
}

pub(super) fn bad_location(url: &Url, error: ParseError) -> Error {
    Error::with_source(url.without_query(), ErrorKind::Redirect { reason: "its location is not a URL" }, error)
}

/// Percent-encodes everything but unreserved characters (RFC 3986, section 2.3).
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

impl Client {
    /// Sends a request once, with what belongs to it: redirects, and a token if the server asks for one.
    pub(super) fn once(&self, call: &Call<'_>, deadline: Deadline) -> Result<Response, Failure> {
        let mut url = call.url.clone();
        let mut redirects = 0;
        let mut is_authorized = false;
        loop {
            let is_origin = url.is_same_origin(&call.origin);
            let authorization = call.scope.as_ref().filter(|_| is_origin).and_then(|scope| self.known(&url, scope));
            let response = self.exchange(call, &url, authorization.as_deref(), deadline)?;
            match (response.status(), &call.scope) {
                (StatusCode::UNAUTHORIZED, Some(scope)) if is_origin && !is_authorized => {
                    is_authorized = true;
                    self.authorize(&response, &url, scope, deadline)?;
                }
                (status, _) if is_redirect(status) => {
                    let refused =
                        |reason| Err(Failure::Final(Error::new(url.without_query(), ErrorKind::Redirect { reason })));
                    if !matches!(call.method, Method::GET | Method::HEAD) {
                        return refused("only downloads are redirected");
                    }
                    redirects += 1;
                    if redirects > MAX_REDIRECTS {
                        return refused("there are more than 5");
                    }
                    url = response.location(&url)?;
                }
                _ => return Ok(response),
            }
        }
    }

    /// Sends one request and receives the head of the response.
    pub(super) fn exchange(
        &self,
        call: &Call<'_>,
        url: &Url,
        authorization: Option<&str>,
        deadline: Deadline,
    ) -> Result<Response, Failure> {
        let (is_loopback, subject) = (url.host().is_loopback(), url.without_query());
        if !url.is_secure() && !is_loopback && !self.plain_http {
            return Err(Failure::Final(Error::new(subject, ErrorKind::PlainHttp)));
        }
        if !is_loopback {
            check_proxy(url)?;
        }
        if deadline.is_over() {
            return Err(Failure::Final(Error::new(subject, ErrorKind::TimedOut)));
        }
        let mut request = Request::builder().method(call.method.clone()).uri(url.as_str());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let not_sent = |error| Failure::Final(Error::with_source(subject, ErrorKind::Reference, error));
        let agent = self.agent(url)?;
        let failed = |error| failure(subject, error);
        let response = match call.body {
            None => {
                let request = request.body(()).map_err(not_sent)?;
                let mut request = agent.configure_request(request).timeout_global(deadline.remaining());
                if is_loopback {
                    request = request.proxy(None);
                }
                agent.run(request.build()).map_err(failed)?
            }
            Some(body) => {
                let request = request.body(body).map_err(not_sent)?;
                let mut request = agent.configure_request(request).timeout_global(deadline.remaining());
                if is_loopback {
                    request = request.proxy(None);
                }
                agent.run(request.build()).map_err(failed)?
            }
        };
        Ok(Response { response, rate: self.rate(deadline) })
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Returns what an error of the connection means.
fn failure(subject: impl fmt::Display, error: ureq::Error) -> Failure {
    use ureq::Error as E;
    let kind = match &error {
        E::Io(io) if io.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) => ErrorKind::Tls,
        E::Io(_) => {
            return Failure::Again { error: Error::with_source(subject, ErrorKind::Connection, error), wait: None };
        }
        E::Timeout(ureq::Timeout::Global) => return Failure::Final(Error::new(subject, ErrorKind::TimedOut)),
        E::Timeout(_) => return Failure::Again { error: Error::new(subject, ErrorKind::TimedOut), wait: None },
        E::Tls(_) | E::Rustls(_) | E::Pem(_) | E::TlsRequired => ErrorKind::Tls,
        E::HostNotFound | E::ConnectionFailed | E::ConnectProxyFailed(_) | E::InvalidProxyUrl => ErrorKind::Connection,
        _ => ErrorKind::Protocol { problem: "the response is not HTTP".to_owned() },
    };
    Failure::Final(Error::with_source(subject, kind, error))
}

/// Returns what an error of reading a body means.
pub(super) fn failed_read(subject: impl fmt::Display, error: io::Error) -> Failure {
    match error.downcast::<ureq::Error>() {
        Ok(error) => failure(subject, error),
        Err(error) => failure(subject, ureq::Error::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_characters_are_encoded() {
        assert_eq!(percent_encoded("application/vnd.x+json; a=ä~"), "application%2Fvnd.x%2Bjson%3B%20a%3D%C3%A4~");
    }
}

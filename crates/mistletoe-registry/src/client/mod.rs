//! A client of the OCI distribution specification, and of plain files behind URLs.
//!
//! What a server sends is untrusted: lengths are limited before anything is read, content is compared with its digest
//! before anything uses it, and each operation ends within its time.

mod auth;
mod credentials;
mod http;
mod retry;
mod tls;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use credentials::Credentials;
use ureq::Agent;
use ureq::http::{Method, StatusCode, header};

use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Descriptor, INDEX, MANIFEST_TYPES};
use crate::reference::{Host, Image, Repository, Url};
use http::{Call, Response, Scope};
use retry::{Deadline, Failure};

/// Maximum length of a manifest, in bytes: what registries have to accept (OCI distribution specification, "Pushing
/// manifests").
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Maximum number of pages of a list of referrers that are read.
const MAX_PAGES: usize = 16;
/// The least number of bytes per second that a server may send.
const MIN_RATE: u64 = 1 << 10;
/// A resumed transfer with as much progress begins again to count its attempts.
const PROGRESS: u64 = 1 << 20;

/// A blocking client for registries. Cloning it is cheap; clones share connections and tokens.
///
/// The client connects with HTTPS. It uses plain HTTP to `localhost` and loopback addresses, unless certificates are
/// set with [`ca`](Self::ca), and to other hosts if [`plain_http`](Self::plain_http) says so. `ALL_PROXY`,
/// `HTTPS_PROXY` or `HTTP_PROXY`, the first that is set, names an HTTP or SOCKS proxy, and `NO_PROXY` hosts without it;
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's root certificates.
///
/// ```no_run
/// use mistletoe_registry::{Client, Image};
///
/// let image = Image::parse("oci://registry.example/apps/web:1.2")?;
/// let manifest = Client::new().manifest(&image)?;
/// println!("{}", image.with_digest(manifest.digest));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client {
    plain_http: bool,
    ca: Option<PathBuf>,
    timeout: Duration,
    read_timeout: Duration,
    backoff: Duration,
    attempts: u32,
    /// The end of the operations that share the time of one.
    end: Option<Instant>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    credentials: Credentials,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// For connections with encryption, and for those without.
    agents: Mutex<HashMap<bool, Agent>>,
    tokens: Mutex<HashMap<(String, Scope), String>>,
}

/// How far the transfer of a blob has come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// Number of bytes that have arrived.
    pub received: u64,
    /// Number of bytes in all, if known.
    pub total: Option<u64>,
}

/// A manifest or an index, as the registry has it. Its bytes have its digest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// The digest.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A manifest that was stored.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Pushed {
    /// The digest.
    pub digest: Digest,
    /// Whether the registry lists it among the referrers of its subject, if it has one.
    pub is_listed: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("plain_http", &self.plain_http).field("ca", &self.ca).finish_non_exhaustive()
    }
}

impl Client {
    /// Returns a client with the user's credentials: see [`Credentials::from_env`].
    pub fn new() -> Self {
        Self {
            plain_http: false,
            ca: None,
            timeout: Duration::from_secs(600),
            read_timeout: Duration::from_secs(30),
            backoff: Duration::from_millis(250),
            attempts: 5,
            end: None,
            progress: None,
            credentials: Credentials::from_env(),
            shared: Arc::default(),
        }
    }

    /// Sets whether connections are not encrypted. The default is encryption, except to loopback addresses.
    pub fn plain_http(mut self, plain_http: bool) -> Self {
        self.plain_http = plain_http;
        self
    }

    /// Adds the certificates of a PEM file to the root certificates. Connections to loopback addresses are then
    /// encrypted, too.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self.shared = Arc::default();
        self
    }

    /// Sets how long an operation may take, with everything that is repeated. The default is 10 minutes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long a connection may take, a response's head, and any part of a response. The default is 30 seconds.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self.shared = Arc::default();
        self
    }

    /// Sets how often an operation is tried, and how long to wait before the second time. The wait doubles each time,
    /// up to 10 seconds, and is shortened at random by up to a half. The defaults are 5 times and 250 milliseconds.
    pub fn attempts(mut self, attempts: u32, backoff: Duration) -> Self {
        (self.attempts, self.backoff) = (attempts.max(1), backoff);
        self
    }

    /// Sets other credentials.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self.shared = Arc::default();
        self
    }

    /// Sets a callback for the progress of blobs.
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Asks whether a host is a registry: `GET /v2/`.
    ///
    /// # Errors
    ///
    /// There is no connection, or the host is not a registry. A registry that asks for credentials is one.
    pub fn ping(&self, host: &Host) -> Result<()> {
        let url = self.url(host, "/v2/")?;
        let response = self.send(&Call::new(Method::GET, url.clone()))?;
        match response.status() {
            StatusCode::OK | StatusCode::UNAUTHORIZED => Ok(()),
            _ => Err(response.into_error(&url)),
        }
    }

    /// Returns the digest of a tag, as the registry says it.
    ///
    /// # Errors
    ///
    /// Those of the connection and of the protocol; [`NotFound`](ErrorKind::NotFound) if there is no such tag.
    pub fn resolve(&self, image: &Image) -> Result<Digest> {
        if let Some(digest) = image.digest() {
            return Ok(digest);
        }
        let call = self.manifest_call(Method::HEAD, image.repository(), image.tag_or_latest())?;
        let response = self.send(&call)?;
        if response.status() != StatusCode::OK {
            return Err(response.into_error(image));
        }
        match response.header("docker-content-digest").map(str::parse) {
            Some(Ok(digest)) => Ok(digest),
            // The header is optional.
            _ => Ok(self.manifest(image)?.digest),
        }
    }

    /// Fetches a manifest or an index by its digest, or else by its tag.
    ///
    /// # Errors
    ///
    /// Those of the connection and of the protocol; [`NotFound`](ErrorKind::NotFound),
    /// [`TooLarge`](ErrorKind::TooLarge) above [`MAX_MANIFEST`], [`Digest`](ErrorKind::Digest).
    pub fn manifest(&self, image: &Image) -> Result<Fetched> {
        let name = image.digest().map(|digest| digest.to_string());
        let name = name.as_deref().unwrap_or_else(|| image.tag_or_latest());
        let call = self.manifest_call(Method::GET, image.repository(), name)?;
        let bytes = self.bytes(&call, MAX_MANIFEST, image)?;
        let digest = Digest::of(&bytes);
        match image.digest() {
            Some(expected) if expected != digest => {
                Err(Error::new(image, ErrorKind::Digest { expected, found: digest }))
            }
            _ => Ok(Fetched { digest, bytes }),
        }
    }

    /// Fetches what is there in place of a manifest, whatever its digest.
    pub(crate) fn unchecked_manifest(&self, repository: &Repository, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let call = self.manifest_call(Method::GET, repository, &digest.to_string())?;
        self.bytes(&call, limit, format_args!("{repository}@{digest}"))
    }

    /// Fetches what is there in place of a blob, whatever its digest and length.
    pub(crate) fn unchecked_blob(&self, repository: &Repository, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        self.bytes(&self.blob_call(repository, digest)?, limit, format_args!("{repository}@{digest}"))
    }

    fn bytes(&self, call: &Call<'_>, limit: u64, subject: impl std::fmt::Display) -> Result<Vec<u8>> {
        let deadline = self.deadline();
        self.retrying(deadline, &subject, || {
            let response = self.once(call, deadline)?;
            if response.status() != StatusCode::OK {
                return Err(response.into_failure(&subject));
            }
            response.into_bytes(limit, &subject)
        })
    }

    /// Fetches a blob and writes it to `sink`, which is complete and right only if this succeeds. A connection that
    /// ends early is resumed.
    ///
    /// # Errors
    ///
    /// Those of the connection and of the protocol; [`TooLarge`](ErrorKind::TooLarge) if the descriptor's size exceeds
    /// `limit`, [`Length`](ErrorKind::Length) and [`Digest`](ErrorKind::Digest) if the blob is not what the descriptor
    /// says, [`File`](ErrorKind::File) if `sink` fails.
    pub fn blob(&self, repository: &Repository, blob: &Descriptor, limit: u64, sink: &mut dyn Write) -> Result<()> {
        let subject = format!("{repository}@{}", blob.digest);
        if blob.size > limit {
            return Err(Error::new(subject, ErrorKind::TooLarge { limit }));
        }
        let call = self.blob_call(repository, &blob.digest)?;
        self.download(&call, &subject, Some(blob.size), limit, Some(blob.digest), sink).map(drop)
    }

    /// Fetches what is behind a URL and writes it to `sink`. Returns its digest, which is that of the URL if it has
    /// one.
    ///
    /// # Errors
    ///
    /// As for [`blob`](Self::blob).
    pub fn get(&self, url: &Url, limit: u64, sink: &mut dyn Write) -> Result<Digest> {
        self.download(&Call::new(Method::GET, url.clone()), &url.to_string(), None, limit, url.digest(), sink)
    }

    fn download(
        &self,
        call: &Call<'_>,
        subject: &str,
        size: Option<u64>,
        limit: u64,
        expected: Option<Digest>,
        sink: &mut dyn Write,
    ) -> Result<Digest> {
        let deadline = self.deadline();
        let mut transfer = Transfer { size, limit, received: 0, hasher: Hasher::new(), sink };
        let mut before = 0;
        loop {
            let done = self.retrying(deadline, subject, || {
                match self.part(call, subject, &mut transfer, deadline) {
                    // Only a digest tells whether two parts belong together.
                    Err(Failure::Again { error, .. }) if expected.is_none() && transfer.received > 0 => {
                        Err(Failure::Final(error))
                    }
                    // Not counted as an attempt, since it made progress.
                    Err(Failure::Again { .. }) if transfer.received - before >= PROGRESS => Ok(false),
                    result => result.map(|()| true),
                }
            })?;
            if done {
                break;
            }
            before = transfer.received;
        }
        let found = transfer.hasher.finish();
        match expected {
            Some(expected) if expected != found => Err(Error::new(subject, ErrorKind::Digest { expected, found })),
            _ => Ok(found),
        }
    }

    /// Receives the rest of a transfer, or a part of the rest.
    fn part(
        &self,
        call: &Call<'_>,
        subject: &str,
        transfer: &mut Transfer<'_>,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let begin = transfer.received;
        // Everything had arrived when the connection ended. There is no part after it to ask for.
        if begin > 0 && transfer.size == Some(begin) {
            return Ok(());
        }
        let mut call = call.clone();
        if begin > 0 {
            call = call.header(header::RANGE, format!("bytes={begin}-"));
        }
        let response = self.once(&call, deadline)?;
        let wrong = |kind| Err(Failure::Final(Error::new(subject, kind)));
        let mut skip = match response.status() {
            StatusCode::OK => begin,
            StatusCode::PARTIAL_CONTENT if begin > 0 => {
                let range = response.header("content-range").unwrap_or_default();
                if range.strip_prefix("bytes ").and_then(|range| range.split_once('-')).map(|(from, _)| from)
                    != Some(begin.to_string().as_str())
                {
                    return wrong(ErrorKind::Protocol { problem: "it is not the requested part".to_owned() });
                }
                0
            }
            _ => return Err(response.into_failure(subject)),
        };
        let offset = begin - skip;
        let announced = response.length().map(|length| offset.saturating_add(length));
        match (transfer.size, announced) {
            (Some(expected), Some(found)) if expected != found => return wrong(ErrorKind::Length { expected, found }),
            (None, Some(found)) if found > transfer.limit => {
                return wrong(ErrorKind::TooLarge { limit: transfer.limit });
            }
            _ => {}
        }
        let total = transfer.size.or(announced);
        let (mut reader, mut rate) = response.into_reader();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = reader.read(&mut buffer).map_err(|error| http::failed_read(subject, error))?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            rate.check(count, subject)?;
            // The server sends from the beginning again: what has arrived before is passed over.
            let passed = (bytes.len() as u64).min(skip);
            skip -= passed;
            let bytes = bytes.get(passed as usize..).unwrap_or_default();
            let received = transfer.received + bytes.len() as u64;
            match transfer.size {
                Some(expected) if received > expected => {
                    return wrong(ErrorKind::Length { expected, found: received });
                }
                None if received > transfer.limit => return wrong(ErrorKind::TooLarge { limit: transfer.limit }),
                _ => {}
            }
            transfer.hasher.update(bytes);
            if let Err(error) = transfer.sink.write_all(bytes) {
                let kind = ErrorKind::File { problem: "it cannot be stored".to_owned() };
                return Err(Failure::Final(Error::with_source(subject, kind, error)));
            }
            transfer.received = received;
            if let Some(progress) = &self.progress {
                progress(Progress { received, total });
            }
        }
        match total {
            Some(expected) if transfer.received < expected => {
                let kind = ErrorKind::Length { expected, found: transfer.received };
                Err(Failure::Again { error: Error::new(subject, kind), wait: None })
            }
            Some(_) => Ok(()),
            None => {
                // Now it is known.
                let (received, total) = (transfer.received, Some(transfer.received));
                if let Some(progress) = &self.progress {
                    progress(Progress { received, total });
                }
                Ok(())
            }
        }
    }

    /// Stores a blob, unless the repository has it.
    ///
    /// # Errors
    ///
    /// Those of the connection and of the protocol; [`Unauthorized`](ErrorKind::Unauthorized).
    pub fn push_blob(&self, repository: &Repository, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let subject = format!("{repository}@{digest}");
        let url = |path: &str| self.url(repository.host(), &format!("/v2/{}/blobs/{path}", repository.path()));
        let scope = Scope::push(repository);
        let found = self.send(&Call::new(Method::HEAD, url(&digest.to_string())?).scope(scope.clone()))?;
        if found.status() == StatusCode::OK {
            return Ok(digest);
        }
        let begin = Call::new(Method::POST, url("uploads/")?).scope(scope.clone()).body(&[]);
        let deadline = self.deadline();
        // An upload that failed cannot be continued, so the whole is repeated.
        self.retrying(deadline, &subject, || {
            let response = self.once(&begin, deadline)?;
            if response.status() != StatusCode::ACCEPTED {
                return Err(response.into_failure(&subject));
            }
            let location = response.location(&begin.url)?;
            let separator = if location.as_str().contains('?') { '&' } else { '?' };
            let location = format!("{}{separator}digest={digest}", location.as_str());
            let location = Url::parse(&location).map_err(|error| http::bad_location(&begin.url, error))?;
            let upload = Call::new(Method::PUT, location).origin(&begin.url).scope(scope.clone()).body(bytes);
            let upload = upload.header(header::CONTENT_TYPE, "application/octet-stream");
            let response = self.once(&upload, deadline)?;
            if response.status() == StatusCode::CREATED { Ok(()) } else { Err(response.into_failure(&subject)) }
        })?;
        Ok(digest)
    }

    /// Stores a manifest or an index under a tag, or else under its digest.
    ///
    /// # Errors
    ///
    /// As for [`push_blob`](Self::push_blob); [`TooLarge`](ErrorKind::TooLarge) above [`MAX_MANIFEST`].
    pub fn push_manifest(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Pushed> {
        let digest = Digest::of(bytes);
        let subject = format!("{repository}@{digest}");
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(Error::new(subject, ErrorKind::TooLarge { limit: MAX_MANIFEST }));
        }
        let name = tag.map_or_else(|| digest.to_string(), str::to_owned);
        let url = self.url(repository.host(), &format!("/v2/{}/manifests/{name}", repository.path()))?;
        let call = Call::new(Method::PUT, url).scope(Scope::push(repository)).body(bytes);
        let response = self.send(&call.header(header::CONTENT_TYPE, media_type))?;
        match response.status() {
            StatusCode::CREATED => Ok(Pushed { digest, is_listed: response.header("oci-subject").is_some() }),
            _ => Err(response.into_error(&subject)),
        }
    }

    /// Returns the indexes of the manifests that refer to another one and have this type of artifact, one for each
    /// page, or nothing if the registry has no such list (OCI distribution specification, "Listing Referrers").
    ///
    /// # Errors
    ///
    /// Those of the connection and of the protocol.
    pub fn referrers(
        &self,
        repository: &Repository,
        digest: Digest,
        artifact_type: &str,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        let subject = format!("{repository}@{digest}");
        let wrong = |problem: String| Err(Error::new(&subject, ErrorKind::Protocol { problem }));
        let query = format!("artifactType={}", http::percent_encoded(artifact_type));
        let path = format!("/v2/{}/referrers/{digest}?{query}", repository.path());
        let mut url = self.url(repository.host(), &path)?;
        let mut pages = Vec::new();
        let deadline = self.deadline();
        loop {
            let call = Call::new(Method::GET, url.clone()).scope(Scope::pull(repository));
            let call = call.header(header::ACCEPT, INDEX);
            let page = self.retrying(deadline, &subject, || {
                let response = self.once(&call, deadline)?;
                match response.status() {
                    StatusCode::OK => {
                        let next = response.header("link").and_then(next_page).map(|next| url.join(&next));
                        Ok(Some((response.into_bytes(MAX_MANIFEST, &subject)?, next)))
                    }
                    // Registries without the list do not agree on the status.
                    StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => Ok(None),
                    _ => Err(response.into_failure(&subject)),
                }
            })?;
            let Some((bytes, next)) = page else { return Ok(None) };
            pages.push(bytes);
            match next {
                None => return Ok(Some(pages)),
                Some(_) if pages.len() == MAX_PAGES => {
                    return wrong(format!("the list of referrers has more than {MAX_PAGES} pages"));
                }
                Some(Ok(next)) if next.is_same_origin(&url) => url = next,
                Some(_) => return wrong("the list of referrers has a link to another host".to_owned()),
            }
        }
    }

    /// Fetches the manifest under a tag, if there is one.
    ///
    /// # Errors
    ///
    /// As for [`manifest`](Self::manifest), without [`NotFound`](ErrorKind::NotFound).
    pub fn tagged(&self, repository: &Repository, tag: &str) -> Result<Option<Fetched>> {
        let image = format!("{repository}:{tag}");
        let image = Image::parse(&image).map_err(|error| Error::with_source(&image, ErrorKind::Reference, error))?;
        found(self.manifest(&image))
    }

    fn manifest_call(&self, method: Method, repository: &Repository, name: &str) -> Result<Call<'static>> {
        let url = self.url(repository.host(), &format!("/v2/{}/manifests/{name}", repository.path()))?;
        // Without this list, a registry may say that there is nothing.
        Ok(Call::new(method, url).scope(Scope::pull(repository)).header(header::ACCEPT, MANIFEST_TYPES.join(", ")))
    }

    fn blob_call(&self, repository: &Repository, digest: &Digest) -> Result<Call<'static>> {
        let url = self.url(repository.host(), &format!("/v2/{}/blobs/{digest}", repository.path()))?;
        Ok(Call::new(Method::GET, url).scope(Scope::pull(repository)))
    }

    /// Returns the URL of a registry's path.
    fn url(&self, host: &Host, path: &str) -> Result<Url> {
        let is_plain = self.plain_http || host.is_loopback() && self.ca.is_none();
        let scheme = if is_plain { "http" } else { "https" };
        // The registry of this name is at another one.
        let host = if host.name() == "docker.io" { "registry-1.docker.io".to_owned() } else { host.to_string() };
        let text = format!("{scheme}://{host}{path}");
        Url::parse(&text).map_err(|error| Error::with_source(text, ErrorKind::Reference, error))
    }

    /// Returns a client all of whose operations together may take as long as one.
    pub(crate) fn as_one_operation(&self) -> Self {
        Self { end: self.deadline().0, ..self.clone() }
    }

    fn deadline(&self) -> Deadline {
        let end = Instant::now().checked_add(self.timeout);
        Deadline(end.into_iter().chain(self.end).min())
    }

    fn rate(&self, deadline: Deadline) -> Rate {
        Rate { window: self.read_timeout, begin: Instant::now(), bytes: 0, deadline }
    }

    /// Sends a request that may be repeated.
    fn send(&self, call: &Call<'_>) -> Result<Response> {
        let deadline = self.deadline();
        self.retrying(deadline, &call.url, || {
            let response = self.once(call, deadline)?;
            if retry::is_temporary(response.status()) { Err(response.into_failure(&call.url)) } else { Ok(response) }
        })
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Scope), String>> {
        self.shared.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what was fetched, if it is there.
pub(crate) fn found<T>(fetched: Result<T>) -> Result<Option<T>> {
    match fetched {
        Err(error) if *error.kind() == ErrorKind::NotFound => Ok(None),
        fetched => fetched.map(Some),
    }
}

/// A blob under way.
struct Transfer<'a> {
    size: Option<u64>,
    limit: u64,
    received: u64,
    hasher: Hasher,
    sink: &'a mut dyn Write,
}

/// Measures how quickly a response arrives. Without it, one byte in each read's time would be enough.
struct Rate {
    window: Duration,
    begin: Instant,
    bytes: u64,
    deadline: Deadline,
}

impl Rate {
    fn check(&mut self, count: usize, subject: impl std::fmt::Display) -> Result<(), Failure> {
        self.bytes += count as u64;
        if self.deadline.is_over() {
            return Err(Failure::Final(Error::new(subject, ErrorKind::TimedOut)));
        }
        let elapsed = self.begin.elapsed();
        if elapsed >= self.window {
            if u128::from(self.bytes) * 1000 < u128::from(MIN_RATE) * elapsed.as_millis() {
                return Err(Failure::Final(Error::new(subject, ErrorKind::TooSlow)));
            }
            (self.begin, self.bytes) = (Instant::now(), 0);
        }
        Ok(())
    }
}

/// Returns the target of a `Link` header field with the relation `next` (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |parameter: &str| matches!(parameter.trim(), "rel=\"next\"" | "rel=next");
        parameters.split(';').any(is_next).then(|| target.to_owned())
    })
}

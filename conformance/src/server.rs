//! The server, with a case's module behind a route: what a client gets.
//!
//! A request is written as `"POST /a HTTP/1.1\nhost: a.example\n\nbody"`. Its body has the length that `content-length`
//! says, no known length if there is a `transfer-encoding`, and its own length otherwise. A response is written as
//! `"200\nname: value\n\nbody"`, with `(broken off)` after a body that breaks off. The identifier of the request is left
//! out.
//!
//! The requests do not go through a socket, but the server is the real one: `mistletoe_serve::Service`, whose guests
//! run on the backend.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use mistletoe_abi::{AnyBackend, Error, Operation, Result};
use mistletoe_serve::config::Config;
use mistletoe_serve::{BoxError, Log, RemoteAddr, Service, Source};
use tokio::runtime::{self, Runtime};
use tower_service::Service as _;

use crate::host::{HostPackage, HostSession};
use crate::http::{Http, SOURCE, message};
use crate::setup::{Protocol, Setup, State};
use crate::{BadCase, Case};

/// Returns the cases of the server, sorted by group and name.
///
/// # Errors
///
/// As [`cases`](crate::cases()).
pub fn cases() -> std::result::Result<Vec<Case>, BadCase> {
    let mut cases = crate::fixtures()?;
    cases.retain(|case| case.header.protocol == Protocol::Server);
    Ok(cases)
}

/// Starts a server with the module behind a route.
///
/// # Errors
///
/// Returns an error with the problems of the route and the module.
pub fn load(backend: &AnyBackend, wasm: &[u8], setup: &Setup) -> Result<Box<dyn HostPackage>> {
    let mut route = toml::Table::new();
    for (key, value) in [("path", "/..."), ("module", "program.wasm"), ("kind", "command")] {
        route.insert(key.to_owned(), value.into());
    }
    route.insert("show_errors".to_owned(), true.into());
    route.extend(setup.route.clone().unwrap_or_default());
    let file = toml::Table::from_iter([("route".to_owned(), toml::Value::from(vec![route]))]);
    let failed = |error: BoxError| Error::engine(Operation::Compile, error);
    let config = Config::parse(&file.to_string(), Path::new("")).map_err(|error| failed(error.into()))?;
    let source = Module { backend: backend.clone(), wasm: wasm.to_vec() };
    let service = Service::new(&config, source, Log::default()).map_err(|error| failed(error.into()))?;
    let runtime = runtime::Builder::new_current_thread().enable_time().build().map_err(|error| failed(error.into()))?;
    Ok(Box::new(Server(Arc::new(Running { service, runtime, http: setup.http.clone() }))))
}

/// The module and the engine of a case.
struct Module {
    backend: AnyBackend,
    wasm: Vec<u8>,
}

impl Source for Module {
    fn module(&self, _: &Path) -> std::result::Result<Vec<u8>, BoxError> {
        Ok(self.wasm.clone())
    }

    fn backend(&self, _: Option<&str>) -> Result<AnyBackend> {
        Ok(self.backend.clone())
    }
}

/// A server, which its sessions share.
struct Server(Arc<Running>);

struct Running {
    service: Service,
    runtime: Runtime,
    http: Http,
}

/// A client of the server.
struct Client(Arc<Running>);

impl HostPackage for Server {
    fn open(&self, _: State) -> Result<Box<dyn HostSession>> {
        Ok(Box::new(Client(self.0.clone())))
    }
}

impl HostSession for Client {
    fn respond(&mut self, request: &str) -> Result<String> {
        let Running { service, runtime, http } = &*self.0;
        let request = parse(request, http).map_err(|error| Error::engine(Operation::Call, error))?;
        Ok(runtime.block_on(async {
            let Ok(response) = service.clone().call(request).await;
            let (parts, mut body) = response.into_parts();
            let mut text = format!("{}\n", parts.status.as_u16());
            for (name, value) in parts.headers.iter().filter(|(name, _)| *name != "x-request-id") {
                let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
            }
            let mut bytes = Vec::new();
            let mut end = "";
            while let Some(frame) = body.frame().await {
                match frame.map(Frame::into_data) {
                    Ok(data) => bytes.extend_from_slice(&data.unwrap_or_default()),
                    Err(_) => {
                        end = "(broken off)";
                        break;
                    }
                }
            }
            let _ = write!(text, "\n{}{end}", String::from_utf8_lossy(&bytes));
            text
        }))
    }

    fn state_mut(&mut self) -> Option<&mut State> {
        None
    }

    fn fault(&self) -> Option<Error> {
        None
    }
}

/// Returns the request that a text stands for.
fn parse(text: &str, Http { source, piece, .. }: &Http) -> std::result::Result<Request<Sent>, BoxError> {
    let (line, message) = message(text);
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let mut request = Request::builder().method(word()).uri(word()).version(match word() {
        "HTTP/1.0" => Version::HTTP_10,
        "HTTP/2.0" => Version::HTTP_2,
        _ => Version::HTTP_11,
    });
    for (name, value) in &message.headers {
        request = request.header(name, &**value);
    }
    let bytes = message.body();
    let piece = piece.unwrap_or(usize::MAX).max(1);
    let headers = request.headers_ref();
    let declared = headers.and_then(|headers| headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok());
    let unknown = headers.is_some_and(|headers| headers.contains_key(TRANSFER_ENCODING));
    let left = if unknown { None } else { Some(declared.unwrap_or(bytes.len() as u64)) };
    let frames = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
    let remote = source.as_deref().unwrap_or(SOURCE).parse()?;
    Ok(request.extension(RemoteAddr(remote)).body(Sent { frames, left })?)
}

/// A body as a client sends it, which may be shorter than it says.
struct Sent {
    frames: VecDeque<Bytes>,
    /// How many bytes are to come, if that is known.
    left: Option<u64>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BoxError>>> {
        let Some(frame) = self.frames.pop_front() else { return Poll::Ready(None) };
        self.left = self.left.map(|left| left.saturating_sub(frame.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

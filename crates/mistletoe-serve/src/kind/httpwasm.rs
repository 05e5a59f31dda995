//! Plugins: the body as records in, and what the plugin writes to its standard output as the response.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response};
use mistletoe::AnyBackend;
use mistletoe::protocol::HttpWasm;
use mistletoe::protocol::httpwasm::Output;

use super::{Call, Collected, Context, Guests, Kind, Responding, authority};
use crate::body::Body;
use crate::config::Guest;
use crate::metrics::Instances;

struct Plugin(Guests<HttpWasm>);

/// Returns the variables of a request.
fn variables(parts: &Parts, remote: Option<SocketAddr>) -> Vec<(&'static str, Cow<'_, [u8]>)> {
    let mut variables: Vec<(_, Cow<'_, [u8]>)> = vec![
        ("HTTP_PATH", parts.uri.path().as_bytes().into()),
        ("HTTP_METHOD", parts.method.as_str().as_bytes().into()),
        ("HTTP_HOST", authority(parts).as_bytes().into()),
        ("HTTP_QUERY", parts.uri.query().unwrap_or_default().as_bytes().into()),
        ("REMOTE_ADDR", remote.map(|address| address.to_string()).unwrap_or_default().into_bytes().into()),
    ];
    if let Some(trace) = parts.headers.get("traceparent").and_then(|value| value.to_str().ok()) {
        variables.push(("TRACEPARENT", trace.as_bytes().into()));
    }
    variables
}

pub(super) fn new(
    context: Context,
    guest: Arc<Guest>,
    backend: &AnyBackend,
    wasm: &[u8],
) -> mistletoe::Result<Arc<dyn Kind>> {
    let protocol = HttpWasm { delimiter: guest.delimiter };
    Ok(Arc::new(Plugin(Guests::new(context, guest, protocol, backend, wasm)?)))
}

impl Kind for Plugin {
    fn respond(self: Arc<Self>, call: Call) -> Responding {
        let Call { request, remote, id, usage } = call;
        let (parts, body) = request.into_parts();
        let wasi = self.0.wasi(&id, || variables(&parts, remote));
        Box::pin(async move {
            let Self(guests) = &*self;
            let Collected { bytes, room } = guests.collect(body).await?;
            let plugin = self.clone();
            let output = guests.run(&usage, wasi, move |session| {
                let Self(guests) = &*plugin;
                let (Output { stdout, stderr, .. }, result) = match session.call(&bytes) {
                    Ok(output) => (output, Ok(())),
                    Err(error) => (session.unfinished(), Err(error)),
                };
                drop((bytes, room));
                if !stderr.is_empty() {
                    // The log takes every byte.
                    let _ = guests.log(&id).write_all(&stderr);
                    drop(stderr);
                }
                result.map(|()| guests.buffer(stdout))
            });
            let stdout = output.await??;
            let content_type = guests.guest.content_type.clone().unwrap_or_else(|| {
                HeaderValue::from_static(match std::str::from_utf8(&stdout) {
                    Ok(_) => "text/plain; charset=utf-8",
                    Err(_) => "application/octet-stream",
                })
            });
            let mut response = Response::new(Body::from(stdout));
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            Ok(response)
        })
    }

    fn instances(&self) -> Option<Instances> {
        self.0.instances()
    }

    fn prune(&self, now: Instant) {
        self.0.prune(now);
    }
}

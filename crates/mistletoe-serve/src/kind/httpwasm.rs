//! Plugins: the body as records in, and what the plugin writes to its standard output as the response.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use mistletoe::AnyBackend;
use mistletoe::protocol::HttpWasm;
use mistletoe::protocol::httpwasm::Output;

use super::{Call, Collected, Context, Guests, Kind, Responding, authority};
use crate::body::Body;
use crate::config::Guest;
use crate::metrics::Instances;

struct Plugin(Guests<HttpWasm>);

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
        Box::pin(async move {
            let Self(guests) = &*self;
            let (parts, body) = call.request.into_parts();
            let remote = call.remote.map(|address| address.to_string()).unwrap_or_default();
            let mut environment = vec![
                ("HTTP_PATH", parts.uri.path()),
                ("HTTP_METHOD", parts.method.as_str()),
                ("HTTP_HOST", authority(&parts)),
                ("HTTP_QUERY", parts.uri.query().unwrap_or_default()),
                ("REMOTE_ADDR", &remote),
            ];
            if let Some(trace) = parts.headers.get("traceparent").and_then(|value| value.to_str().ok()) {
                environment.push(("TRACEPARENT", trace));
            }
            let wasi = guests.wasi(&call.id, &environment)?.build();
            let Collected { bytes, room } = guests.collect(body).await?;
            let mut log = guests.log(&call.id);
            let buffer = guests.buffer();
            let output = guests.run(&call.usage, wasi, move |session| {
                let (Output { stdout, stderr, .. }, result) = match session.call(&bytes) {
                    Ok(output) => (output, Ok(())),
                    Err(error) => (session.unfinished(), Err(error)),
                };
                drop((bytes, room));
                // The log takes every byte.
                let _ = log.write_all(&stderr);
                drop(stderr);
                result.map(|()| buffer(stdout))
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

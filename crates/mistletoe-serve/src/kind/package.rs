//! Packages: a document as the body in, and a document out.

use std::sync::Arc;
use std::time::Instant;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use mistletoe::AnyBackend;
use mistletoe::documents::MistResult;
use mistletoe::protocol::PackageInterface;

use super::{Call, Collected, Context, Guests, Kind, Responding};
use crate::body::Body;
use crate::config::Guest;
use crate::failure::Failure;
use crate::metrics::Instances;

/// Maximum length of the message of a package that returned `Err`, in bytes. Clients get no more of it.
const MAX_MESSAGE: usize = 64 << 10;

struct Package(Guests<PackageInterface>);

pub(super) fn new(
    context: Context,
    guest: Arc<Guest>,
    backend: &AnyBackend,
    wasm: &[u8],
) -> mistletoe::Result<Arc<dyn Kind>> {
    Ok(Arc::new(Package(Guests::new(context, guest, PackageInterface, backend, wasm)?)))
}

impl Kind for Package {
    fn respond(self: Arc<Self>, call: Call) -> Responding {
        Box::pin(async move {
            let Self(guests) = &*self;
            let wasi = guests.wasi::<&str, &str>(&call.id, Vec::new);
            let Collected { bytes, room } = guests.collect(call.request.into_body()).await?;
            let input = String::from_utf8(bytes.into()).map_err(|_| Failure::Request("the body is not UTF-8"))?;
            // The document is read on the guest's thread, too: it may be long.
            let package = self.clone();
            let output = guests.run(&call.usage, wasi, move |session| {
                let output = session.generate(&input)?;
                drop((input, room));
                Ok(match MistResult::parse(&output) {
                    Ok(MistResult::Ok { .. }) => package.0.buffer(output.into_bytes()),
                    Ok(MistResult::Err { message: Some(mut message) }) => {
                        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
                        message.shrink_to_fit();
                        Err(Failure::Package(message))
                    }
                    Ok(MistResult::Err { message: None }) => {
                        Err(Failure::Package("the package returned `Err` without a message".to_owned()))
                    }
                    Err(error) => Err(Failure::Output(error.to_string().into())),
                })
            });
            let output = output.await??;
            let mut response = Response::new(Body::from(output));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
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

//! Responses that no guest makes.

use std::sync::Arc;
use std::time::Instant;

use http::Response;

use super::{Call, Kind, Responding};
use crate::body::Body;
use crate::config::FixedResponse;
use crate::failure::Failure;
use crate::metrics::Instances;

/// The same response for every request.
pub(super) struct Fixed(pub(super) FixedResponse);

impl Kind for Fixed {
    fn respond(self: Arc<Self>, call: Call) -> Responding {
        Box::pin(async move {
            drop(call);
            let Self(FixedResponse { status, headers, body, .. }) = &*self;
            let mut response = Response::new(Body::from(body.clone()));
            *response.status_mut() = *status;
            *response.headers_mut() = headers.clone();
            Ok(response)
        })
    }

    fn instances(&self) -> Option<Instances> {
        None
    }

    fn prune(&self, _: Instant) {}
}

/// What is behind middleware that nothing follows.
pub(super) struct NotFound;

impl Kind for NotFound {
    fn respond(self: Arc<Self>, call: Call) -> Responding {
        Box::pin(async move {
            drop(call);
            Ok(Failure::NoRoute.response(false))
        })
    }

    fn instances(&self) -> Option<Instances> {
        None
    }

    fn prune(&self, _: Instant) {}
}

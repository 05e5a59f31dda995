//! Bodies of requests and responses.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::time::timeout;

use crate::failure::Failure;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request or a response.
pub struct Body(UnsyncBoxBody<Bytes, BoxError>);

impl Body {
    /// Returns a body with the frames of another one.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self(body.map_err(Into::into).boxed_unsync())
    }

    /// Returns a body without a byte.
    pub fn empty() -> Self {
        Bytes::new().into()
    }

    /// Reads the whole body, of at most `limit` bytes. The client has `time` for each frame.
    pub(crate) async fn collect(mut self, limit: u64, time: Duration) -> Result<Bytes, Failure> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(data) = self.data(&mut (limit - (first.len() + all.len()) as u64), time).await? {
            if first.is_empty() && all.is_empty() {
                first = data;
            } else {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&data);
            }
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// Reads the next frame with data, and subtracts its length from `room`. The client has `time` for it.
    pub(crate) async fn data(&mut self, room: &mut u64, time: Duration) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = match timeout(time, self.0.frame()).await {
                Err(_) => return Err(Failure::SlowBody),
                // hyper ends a body whose connection is dropped as if it were whole.
                Ok(None) if self.0.size_hint().lower() > 0 => return Err(Failure::Body("it breaks off".to_owned())),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Failure::Body(error.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            // Trailers are of no use to any guest.
            let Ok(data) = frame.into_data() else { continue };
            *room = room.checked_sub(data.len() as u64).ok_or(Failure::TooLarge)?;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::new(Full::new(bytes))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Body").finish()
    }
}

//! Bodies of requests and responses.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Sleep, sleep};

use crate::failure::Failure;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request or a response.
pub struct Body(Frames);

enum Frames {
    Whole(Full<Bytes>),
    Any(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// Returns a body with the frames of another one.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self(Frames::Any(body.map_err(Into::into).boxed_unsync()))
    }

    /// Returns a body without a byte.
    pub fn empty() -> Self {
        Bytes::new().into()
    }

    /// Returns the same body with limits on its length and on the time that its sender may send nothing.
    ///
    /// Its errors are [`Failure`]s.
    pub(crate) fn guarded(self, limit: u64, time: Duration, sender: Sender) -> Self {
        if self.is_end_stream() {
            return self;
        }
        Self::new(Guarded { body: self, room: limit, time, late: None, sender })
    }

    /// Reads the whole body, of at most `limit` bytes.
    pub(crate) async fn collect(mut self, limit: u64) -> Result<Bytes, Failure> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(data) = self.data().await? {
            if (first.len() + all.len() + data.len()) as u64 > limit {
                return Err(Failure::TooLarge);
            }
            if first.is_empty() && all.is_empty() {
                first = data;
            } else {
                if all.is_empty() {
                    // For the length that the client has told, if any.
                    let rest = self.size_hint().lower().min(limit) as usize;
                    all.reserve(first.len() + data.len() + rest);
                }
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&data);
            }
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// Reads the next frame with data.
    pub(crate) async fn data(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.frame().await {
            // Trailers are for middleware and upstreams alone.
            if let Ok(data) = frame.map_err(Failure::of_body)?.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Who sends a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Upstream,
}

impl Sender {
    fn is_slow(self) -> Failure {
        match self {
            Self::Client => Failure::SlowBody,
            Self::Upstream => Failure::SlowUpstream,
        }
    }

    fn sends_too_much(self) -> Failure {
        match self {
            Self::Client => Failure::TooLarge,
            Self::Upstream => Failure::Upstream("the body of its response exceeds the limit".to_owned()),
        }
    }

    fn breaks_off(self, error: &str) -> Failure {
        match self {
            Self::Client => Failure::Body(error.to_owned()),
            Self::Upstream => Failure::Upstream(format!("the body of its response breaks off: {error}")),
        }
    }
}

/// A body whose sender may neither send too much nor be too slow.
struct Guarded {
    body: Body,
    /// How many bytes may still come.
    room: u64,
    time: Duration,
    /// When the next frame has to have come; `None` while nobody waits for it.
    late: Option<Pin<Box<Sleep>>>,
    sender: Sender,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let sender = self.sender;
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let time = self.time;
            ready!(self.late.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(context));
            return Poll::Ready(Some(Err(sender.is_slow())));
        };
        self.late = None;
        Poll::Ready(match frame {
            // hyper ends a body whose connection is dropped as if it were whole.
            None if self.body.size_hint().lower() > 0 => Some(Err(sender.breaks_off("it is too short"))),
            None => None,
            Some(Err(error)) => Some(Err(match error.downcast::<Failure>() {
                Ok(failure) => *failure,
                Err(error) => sender.breaks_off(&error.to_string()),
            })),
            Some(Ok(frame)) => match self.room.checked_sub(frame.data_ref().map_or(0, Bytes::len) as u64) {
                Some(room) => {
                    self.room = room;
                    Some(Ok(frame))
                }
                None => Some(Err(sender.sends_too_much())),
            },
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Frames::Whole(Full::new(bytes)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Frames::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Frames::Any(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Frames::Whole(body) => body.is_end_stream(),
            Frames::Any(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Frames::Whole(body) => body.size_hint(),
            Frames::Any(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Body").finish()
    }
}

//! Clients of HTTP/2 that do not read their responses.
//!
//! Where a client of HTTP/1.1 reads nothing, writes to its connection block, and that has a time limit. A client of
//! HTTP/2 can keep the window of a stream closed (RFC 9113, section 5.2), and go on to answer pings. So each piece of
//! a body has a time of its own in which it has to leave.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use crate::body::{Body, BoxError};
use crate::connection::Stream;

/// Maximum length of a piece, in bytes. A frame of HTTP/2 has as many unless the client agrees to more.
const PIECE: usize = 16 << 10;

/// What a connection has to send that its client has not accepted yet.
#[derive(Debug, Default)]
pub(crate) struct Unread(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Since when each of them waits, in the order in which they began.
    since: BTreeMap<u64, Instant>,
    next: u64,
}

/// Something that waits for the client until it is dropped.
#[derive(Debug)]
struct Wait {
    unread: Arc<Unread>,
    number: u64,
}

impl Unread {
    /// Waits until the client has left something unread for this long.
    pub(crate) async fn overdue(&self, time: Duration) {
        loop {
            // Whatever begins to wait from now on is due later than this.
            let since = self.lock().since.first_key_value().map_or_else(Instant::now, |(_, since)| *since);
            // A time beyond what can be represented is no limit.
            let Some(until) = since.checked_add(time) else { return std::future::pending().await };
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn begin(self: &Arc<Self>) -> Wait {
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.since.insert(number, Instant::now());
        Wait { unread: self.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.unread.lock().since.remove(&self.number);
    }
}

/// A body in pieces, each of which waits for the client.
pub(crate) struct Pieces {
    body: Body,
    rest: Bytes,
    unread: Arc<Unread>,
    /// From one piece to the request for the next one, which comes when the client accepts more.
    next: Option<Wait>,
    stream: Arc<Stream>,
}

/// A piece, which waits until it is written.
struct Piece {
    bytes: Bytes,
    _wait: Wait,
    /// The request is under way until then, too.
    _stream: Arc<Stream>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Pieces {
    pub(crate) fn new(body: Body, unread: &Arc<Unread>, stream: Stream) -> Self {
        let next = (!body.is_end_stream()).then(|| unread.begin());
        Self { body, rest: Bytes::new(), unread: unread.clone(), next, stream: Arc::new(stream) }
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        // Now the client waits for the guest.
        this.next = None;
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        let bytes = this.rest.split_to(this.rest.len().min(PIECE));
        let piece = Bytes::from_owner(Piece { bytes, _wait: this.unread.begin(), _stream: this.stream.clone() });
        if !this.is_end_stream() {
            this.next = Some(this.unread.begin());
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut sum = SizeHint::new();
        sum.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper().and_then(|upper| upper.checked_add(rest)) {
            sum.set_upper(upper);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn stream() -> Stream {
        Stream::new(&Arc::default())
    }

    fn next(pieces: &mut Pieces) -> Option<Bytes> {
        match Pin::new(pieces).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame?.expect("a frame").into_data().ok(),
            Poll::Pending => panic!("the body is there"),
        }
    }

    #[test]
    fn each_piece_waits_until_it_is_written() {
        let unread = Arc::new(Unread::default());
        // The numbers of what waits: each piece, and between two of them the body.
        let waiting = || unread.lock().since.keys().copied().collect::<Vec<_>>();
        let body = Bytes::from(vec![7; 2 * PIECE + 1]);
        let mut pieces = Pieces::new(Body::from(body.clone()), &unread, stream());
        assert_eq!(waiting(), [0]);
        let first = next(&mut pieces).expect("a piece");
        assert_eq!((first.len(), waiting()), (PIECE, vec![1, 2]));
        let second = next(&mut pieces).expect("a piece");
        assert_eq!((second.len(), waiting()), (PIECE, vec![1, 3, 4]));
        // As long as any part of a piece is there, it waits.
        let part = first.slice(1..2);
        let mut all = first.to_vec();
        drop(first);
        assert_eq!(waiting(), [1, 3, 4]);
        drop(part);
        assert_eq!(waiting(), [3, 4]);
        let third = next(&mut pieces).expect("a piece");
        // Nothing comes after it.
        assert!(third.len() == 1 && waiting() == [3, 5] && pieces.is_end_stream());
        all.extend([&second[..], &third].concat());
        assert_eq!(body, all);
        drop((second, third));
        assert!(waiting().is_empty() && next(&mut pieces).is_none());
    }

    #[test]
    fn a_body_that_is_dropped_waits_no_more() {
        let unread = Arc::new(Unread::default());
        let mut pieces = Pieces::new(Body::from(Bytes::from(vec![7; PIECE + 1])), &unread, stream());
        assert_eq!(pieces.size_hint().exact(), Some(PIECE as u64 + 1));
        drop(next(&mut pieces));
        assert_eq!((pieces.size_hint().exact(), unread.lock().since.len()), (Some(1), 1));
        drop(pieces);
        assert!(unread.lock().since.is_empty());
        assert!(Pieces::new(Body::empty(), &unread, stream()).is_end_stream() && unread.lock().since.is_empty());
    }
}

//! Connections: HTTP/1.1 and HTTP/2 on one listener, clients that are too slow, and what is refused before it is a
//! request.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::body::{Body, BoxError};
use crate::config::Listener;
use crate::failure::Failure;
use crate::framing::{Heads, Scanner};
use crate::metrics::Metrics;
use crate::seldom::Seldom;
use crate::unread::{Pieces, Unread};

/// How an HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Maximum number of bytes of request bodies that an HTTP/2 connection holds until they are read.
const WINDOW: u32 = 256 << 10;
/// Maximum number of bytes of a response that are on their way through an HTTP/2 connection, for each stream. One more
/// piece waits for them.
const SEND_BUFFER: usize = 64 << 10;

/// hyper's own limit on the number of header fields.
const MAX_HEADERS: usize = 100;

/// Returns a builder of connections with the listener's limits.
pub(crate) fn builder(listener: &Listener) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(listener.header_timeout)
        .keep_alive(listener.keep_alive)
        .max_buf_size(listener.max_header_bytes as usize);
    if listener.max_headers != MAX_HEADERS {
        // hyper then makes two lists of this length for each request.
        builder.http1().max_headers(listener.max_headers);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(listener.max_streams)
        .max_header_list_size(listener.max_header_bytes)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        // A client that has gone without a word.
        .keep_alive_interval(listener.header_timeout)
        .keep_alive_timeout(listener.header_timeout);
    builder
}

/// An extension of a request that can be read in two ways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ambiguous;

/// Serves a connection until it ends, or its requests have ended after `stop` has changed.
///
/// # Errors
///
/// Why the connection ended before the service got a request, if that is its client's fault.
pub(crate) async fn serve<F>(
    builder: Arc<Builder<TokioExecutor>>,
    stream: TcpStream,
    listener: Arc<Listener>,
    mut stop: watch::Receiver<()>,
    respond: impl Fn(Request<Incoming>) -> F + Send,
) -> Result<(), Failure>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // A small response is not held back. Without this it is just slower.
    let _ = stream.set_nodelay(true);
    let scanner = Scanner::default();
    let heads = scanner.heads().clone();
    let streams = Arc::new(Streams::default());
    let stream = Timed {
        stream,
        streams: streams.clone(),
        scanner,
        first: Some((Box::pin(sleep(listener.header_timeout)), 0)),
        write: None,
        write_timeout: listener.write_timeout,
    };
    let (requests, unread) = (AtomicU64::new(0), Arc::new(Unread::default()));
    let service = service_fn(|mut request: Request<Incoming>| {
        let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
        if request.version() < Version::HTTP_2 && heads.is_ambiguous(number) {
            request.extensions_mut().insert(Ambiguous);
        }
        let http2 = (request.version() == Version::HTTP_2).then(|| (Stream::new(&streams), unread.clone()));
        let response = respond(request);
        async move {
            let response = response.await;
            Ok::<_, Infallible>(match http2 {
                Some((stream, unread)) => response.map(|body| Body::new(Pieces::new(body, &unread, stream))),
                None => response,
            })
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Whether the client has left something unread for too long.
    let end = pin!(async {
        tokio::select! {
            () = unread.overdue(listener.write_timeout) => true,
            // Whether it is told to or dropped.
            _ = stop.changed() => false,
            () = streams.idle(listener.header_timeout) => false,
        }
    });
    let ended = tokio::select! {
        biased;
        result = &mut connection => Ok(result),
        is_overdue = Seldom::new(end) => Err(is_overdue),
    };
    let result = match ended {
        Ok(result) => result,
        // Its requests are recorded as those of a client that left.
        Err(true) => return Ok(()),
        Err(false) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection => result,
                () = unread.overdue(listener.write_timeout) => return Ok(()),
                // Over HTTP/2, it ends with a word of the client, for which there is no other limit.
                () = streams.idle(listener.header_timeout.saturating_mul(2)) => return Ok(()),
            }
        }
    };
    result.map_or_else(|error| refusal(&error, &heads, requests.load(Ordering::Relaxed)).map_or(Ok(()), Err), Ok)
}

/// Returns why a connection failed, if there is no request that it is recorded with.
fn refusal(error: &BoxError, heads: &Heads, requests: u64) -> Option<Failure> {
    let Some(hyper) = error.downcast_ref::<hyper::Error>() else {
        // The connection failed before it was known which protocol the client speaks.
        let io = error.downcast_ref::<io::Error>()?;
        return (io.kind() == io::ErrorKind::TimedOut).then_some(Failure::SlowHead);
    };
    if hyper.is_parse_too_large() {
        // hyper has two errors of this kind, and tells them apart in their texts alone.
        return Some(if hyper.to_string().starts_with("URI") { Failure::LongTarget } else { Failure::LargeHead });
    }
    if hyper.is_parse() {
        return Some(Failure::Head(hyper.to_string()));
    }
    // The time for a head is the time of an idle connection, too.
    if hyper.is_timeout() && heads.begun() != requests {
        return Some(Failure::SlowHead);
    }
    let h2 = std::error::Error::source(hyper)?.downcast_ref::<h2::Error>()?;
    (h2.is_go_away() && h2.is_library()).then(|| Failure::Head(h2.to_string()))
}

/// The requests of an HTTP/2 connection. hyper keeps an idle one as long as its client answers pings.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    under_way: usize,
    /// Since when there is none; `None` for HTTP/1.1, too.
    idle: Option<Instant>,
}

impl Streams {
    /// Notes that the connection speaks HTTP/2, and has no request yet.
    fn begin(&self) {
        self.lock().idle = Some(Instant::now());
    }

    /// Waits until the connection has been idle for this long.
    async fn idle(&self, time: Duration) {
        loop {
            // If there is a request now, the connection is idle later.
            let since = self.lock().idle.unwrap_or_else(Instant::now);
            // A time beyond what can be represented is no limit.
            let Some(until) = since.checked_add(time) else { return std::future::pending().await };
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request of an HTTP/2 connection, which is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Stream(Arc<Streams>);

impl Stream {
    pub(crate) fn new(streams: &Arc<Streams>) -> Self {
        let mut requests = streams.lock();
        requests.under_way += 1;
        requests.idle = None;
        drop(requests);
        Self(streams.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut requests = self.0.lock();
        requests.under_way -= 1;
        if requests.under_way == 0 {
            requests.idle = Some(Instant::now());
        }
    }
}

/// Counts an open connection until it is dropped.
pub(crate) struct Open(Arc<Metrics>);

impl Open {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self(metrics.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream whose client may not be too slow.
struct Timed {
    stream: TcpStream,
    scanner: Scanner,
    streams: Arc<Streams>,
    /// Until it is known which protocol the client speaks: when it has to be, and how much of [`PREFACE`] has come.
    first: Option<(Pin<Box<Sleep>>, usize)>,
    /// When the client has to have accepted something; `None` while it does.
    write: Option<Pin<Box<Sleep>>>,
    write_timeout: Duration,
}

impl Timed {
    /// Fails a write that has been pending for too long.
    fn pending<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let time = self.write_timeout;
        ready!(self.write.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn written<T>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_pending() {
            return self.pending(context);
        }
        self.write = None;
        result
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.scanner.scan(buffer.filled().get(before..).unwrap_or_default());
        if let Some((late, come)) = &mut self.first {
            match result {
                Poll::Pending => {
                    ready!(late.as_mut().poll(context));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Ready(_) => {
                    let new = buffer.filled().get(before..).unwrap_or_default();
                    let rest = PREFACE.get(*come..).unwrap_or_default();
                    let same = rest.iter().zip(new).take_while(|(expected, byte)| expected == byte).count();
                    *come += same;
                    if same == rest.len() {
                        self.streams.begin();
                    }
                    if same < new.len() || same == rest.len() {
                        self.first = None;
                    }
                }
            }
        }
        result
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

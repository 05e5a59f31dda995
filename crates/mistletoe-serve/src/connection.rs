//! Connections: HTTP/1.1 and HTTP/2 on one listener, and clients that are too slow.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::body::Body;
use crate::config::Listener;
use crate::metrics::Metrics;

/// How an HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Returns a builder of connections with the listener's limits.
pub(crate) fn builder(listener: &Listener) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(listener.header_timeout)
        .keep_alive(listener.keep_alive)
        .max_headers(listener.max_headers)
        .max_buf_size(listener.max_header_bytes as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(listener.max_streams)
        .max_header_list_size(listener.max_header_bytes)
        // A client that has gone without a word.
        .keep_alive_interval(listener.header_timeout)
        .keep_alive_timeout(listener.header_timeout);
    builder
}

/// Serves a connection until it ends, or gracefully when the watcher is told to.
pub(crate) async fn serve<F>(
    builder: Arc<Builder<TokioExecutor>>,
    stream: TcpStream,
    listener: Arc<Listener>,
    watcher: Watcher,
    respond: impl Fn(Request<Incoming>) -> F + Send,
) where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // A small response is not held back. Without this it is just slower.
    let _ = stream.set_nodelay(true);
    let stream = Timed {
        stream,
        first: Some((Box::pin(sleep(listener.header_timeout)), 0)),
        write: None,
        write_timeout: listener.write_timeout,
    };
    let service = service_fn(|request| {
        let response = respond(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    // How a connection fails is its client's matter.
    let _ = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await;
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
        if let Some((late, come)) = &mut self.first {
            match result {
                Poll::Pending => {
                    ready!(late.as_mut().poll(context));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Ready(_) => {
                    let new = buffer.filled().get(before..).unwrap_or_default();
                    let is_more = PREFACE.get(*come..).is_some_and(|rest| rest.starts_with(new));
                    *come += new.len();
                    if !is_more || *come >= PREFACE.len() {
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

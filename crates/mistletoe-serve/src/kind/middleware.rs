//! Middleware of the http-wasm interface: a guest sees a request before the next handler, and the response after it.
//!
//! A request has an instance for itself from the first of these calls to the last, and a thread only while one of them
//! runs. Each guest waits for those that follow it and never for one before it, so that no two requests can wait for
//! each other.

use std::convert::identity;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use mistletoe::protocol::HttpHandler;
use mistletoe::protocol::http_handler::{Features, Level, Next};
use mistletoe::{AnyBackend, CancelHandle};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::exchange::{Link, Messages};
use super::{Call, Context, Ending, Guests, Instance, Kind, MAX_LOG, Responding, ended, is_without_body};
use crate::body::Body;
use crate::config::Guest;
use crate::failure::Failure;
use crate::log::GuestLog;
use crate::metrics::Instances;

/// The lowest level of messages that are logged.
const LEVEL: Level = Level::Info;

struct Middleware {
    guests: Guests<HttpHandler>,
    next: Arc<dyn Kind>,
    /// Room for messages of instances that start.
    starting: Arc<AtomicU64>,
}

pub(super) fn new(
    context: Context,
    guest: Arc<Guest>,
    config: &[u8],
    next: Arc<dyn Kind>,
    backend: &AnyBackend,
    wasm: &[u8],
) -> mistletoe::Result<Arc<dyn Kind>> {
    // What a guest logs while it starts belongs to no request.
    let (starting, name) = (Arc::new(AtomicU64::new(0)), guest.name.as_deref().map(Arc::from));
    let log = logger(context.log.of_guest(&context.name, name.as_ref(), None), starting.clone());
    let protocol = HttpHandler::default().config(config).log(LEVEL, log);
    Ok(Arc::new(Middleware { guests: Guests::new(context, guest, protocol, backend, wasm)?, next, starting }))
}

/// Returns where a guest's messages go, as long as there is room for them, in bytes.
fn logger(log: GuestLog, room: Arc<AtomicU64>) -> impl Fn(Level, &str) + Send + Sync + 'static {
    let log = Mutex::new(log);
    move |level, message| {
        // An empty message is a line, too.
        let take = |room: u64| room.checked_sub(message.len() as u64 + 1);
        if room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            log.lock().unwrap_or_else(PoisonError::into_inner).message(level.as_str(), message);
        }
    }
}

impl Kind for Middleware {
    fn respond(self: Arc<Self>, call: Call) -> Responding {
        Box::pin(async move { self.run(call).await })
    }

    fn instances(&self) -> Option<Instances> {
        self.guests.instances()
    }

    fn prune(&self, now: Instant) {
        self.guests.prune(now);
    }
}

/// A call with a response. If it succeeds, there may still be no room for the body.
type Handling = JoinHandle<mistletoe::Result<Result<Messages, Failure>>>;

/// A guest that has let a request through, and waits for the response.
struct Waiting {
    instance: Instance<HttpHandler>,
    next: Next,
}

/// What a request holds while it is on its way: dropping it cancels the guest, and then ends its wait for a body.
struct Running {
    handle: CancelHandle,
    _alive: watch::Sender<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Before the guest can take a body that breaks off for a whole one.
        self.handle.cancel();
    }
}

impl Middleware {
    async fn run(&self, call: Call) -> Result<Response<Body>, Failure> {
        let Self { guests, next, starting } = self;
        let Call { request, remote, id, usage } = call;
        let is_head = request.method() == Method::HEAD;
        let wasi = guests.wasi::<&str, &str>(&id, &[])?.build();
        let log = logger(guests.log(&id), Arc::new(AtomicU64::new(MAX_LOG)));
        let ending = Ending::new(&guests.context.metrics, &usage);
        let (alive, gone) = watch::channel(());
        let running = Running { handle: ending.handle.clone(), _alive: alive };
        let admitted = guests.admit().await?;

        let link = Link { runtime: Handle::current(), ending: ending.clone(), gone };
        let messages = Messages::new(request, remote, guests.guest.limits.max_input(), link);
        let handling = spawn_blocking({
            let (ending, starting, buffer) = (ending.clone(), starting.clone(), guests.buffer());
            move || {
                starting.store(MAX_LOG, Ordering::Relaxed);
                let mut instance = Instance::open(admitted, wasi, &ending)?;
                instance.session().store_mut().set_log(LEVEL, log);
                let (result, mut messages) = instance.session().handle_request(messages);
                instance.count(&result);
                Ok(match result? {
                    Some(next) => Ok((Some(Waiting { instance, next }), messages)),
                    None => {
                        let buffered = messages.buffer(buffer);
                        instance.close();
                        buffered.map(|()| (None, messages))
                    }
                })
            }
        });
        let (waiting, mut messages) = because(&ending, handling.await)??;
        let Some(waiting) = waiting else { return Ok(messages.response().0) };

        let result = next.clone().respond(Call { request: messages.request(), remote, id, usage }).await;
        let time = guests.context.route.handler.drain_time();
        let (mut response, failure) = match with_body(result, is_head, time).await {
            Ok(response) => (response, None),
            Err(failure) => (failure.response(guests.context.route.show_errors), Some(failure)),
        };
        let extensions = mem::take(response.extensions_mut());
        messages.set_response(response);

        if !waiting.next.features().contains(Features::BUFFER_RESPONSE) {
            let (mut response, _) = messages.response();
            *response.extensions_mut() = extensions;
            let is_end = response.body().is_end_stream();
            if failure.is_none() && !is_head && !is_end {
                return Ok(response.map(|body| Body::new(Passing::new(body, waiting, messages, ending, running))));
            }
            // Nothing comes after the head that the guest could be called after.
            let handled = because(&ending, handle(waiting, messages, failure.is_some(), unwritten).await);
            return match failure {
                Some(failure) => Err(failure),
                None => handled?.map(|_| response),
            };
        }
        let handled = because(&ending, handle(waiting, messages, failure.is_some(), guests.buffer()).await);
        let mut messages = match handled.and_then(identity) {
            Ok(messages) => messages,
            // What failed first is the reason. The guest's own failure is counted.
            Err(own) => return Err(failure.unwrap_or(own)),
        };
        let (mut response, replaced) = messages.response();
        if let Some(body) = replaced {
            // The next handler runs to its end. How it ends makes no difference to the response.
            let _ = drain(body, time).await;
        }
        *response.extensions_mut() = extensions;
        if let Some(failure) = failure {
            response.extensions_mut().insert(failure);
        }
        drop(running);
        Ok(response)
    }
}

/// Calls the guest with the response, and takes room for the body that it writes.
fn handle(
    waiting: Waiting,
    messages: Messages,
    failed: bool,
    buffer: impl FnOnce(Vec<u8>) -> Result<Bytes, Failure> + Send + 'static,
) -> Handling {
    spawn_blocking(move || {
        let Waiting { mut instance, next } = waiting;
        let (result, mut messages) = instance.session().handle_response(messages, next, failed);
        instance.count(&result);
        let result = result.map(|()| messages.buffer(buffer));
        instance.close();
        result.map(|buffered| buffered.map(|()| messages))
    })
}

/// The response has been sent, or is on its way: there is no body that could be written.
fn unwritten(_: Vec<u8>) -> Result<Bytes, Failure> {
    Ok(Bytes::new())
}

/// Returns how a call ended: if the server ended it, why.
fn because<R>(ending: &Ending, result: Result<mistletoe::Result<R>, tokio::task::JoinError>) -> Result<R, Failure> {
    let result = ended(result);
    match ending.failure().take() {
        Some(failure) if result.is_err() => Err(failure),
        _ => result,
    }
}

/// Lets the next handler come to its end if its response has no body.
async fn with_body(
    result: Result<Response<Body>, Failure>,
    is_head: bool,
    time: Duration,
) -> Result<Response<Body>, Failure> {
    let mut response = result?;
    if (is_head || is_without_body(response.status())) && !response.body().is_end_stream() {
        // The server says how long the body would have been, if that is known.
        let length = response.body().size_hint().exact();
        drain(mem::replace(response.body_mut(), Body::empty()), time).await?;
        if let Some(length) = length.filter(|_| is_head) {
            response.headers_mut().entry(http::header::CONTENT_LENGTH).or_insert(length.into());
        }
    }
    Ok(response)
}

/// Reads a body that nobody gets to its end.
async fn drain(mut body: Body, time: Duration) -> Result<(), Failure> {
    let draining = async {
        while body.data().await?.is_some() {}
        Ok(())
    };
    timeout(time, draining).await.unwrap_or(Err(Failure::SlowUpstream))
}

/// The body of a response that the guest does not hold back. The guest is called at its end.
struct Passing {
    body: Body,
    /// How many bytes are to come, if that is known.
    left: Option<u64>,
    state: State,
    ending: Ending,
    _running: Running,
}

enum State {
    /// Frames pass.
    Passing(Box<(Waiting, Messages)>),
    /// The guest runs. Then this frame passes, or this error.
    Handling(Handling, Option<Result<Frame<Bytes>, Failure>>),
    Ended,
}

impl Passing {
    fn new(body: Body, waiting: Waiting, messages: Messages, ending: Ending, running: Running) -> Self {
        let left = body.size_hint().exact();
        Self { body, left, state: State::Passing(Box::new((waiting, messages))), ending, _running: running }
    }
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = &mut *self;
        if let State::Passing(passing) = &mut this.state {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(context)).transpose().map_err(Failure::of_body);
            let is_last = match &frame {
                Ok(Some(frame)) => match (frame.data_ref(), frame.trailers_ref()) {
                    (Some(data), _) => {
                        this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                        // A server that has all of a body asks for nothing more.
                        this.left == Some(0) || this.body.is_end_stream()
                    }
                    (_, Some(trailers)) => {
                        passing.1.add_trailers(trailers.clone());
                        true
                    }
                    _ => false,
                },
                _ => true,
            };
            if !is_last {
                return Poll::Ready(frame.transpose());
            }
            let failed = frame.is_err();
            let State::Passing(passing) = mem::replace(&mut this.state, State::Ended) else { return Poll::Ready(None) };
            let (waiting, messages) = *passing;
            this.state = State::Handling(handle(waiting, messages, failed, unwritten), frame.transpose());
        }
        if let State::Handling(handling, last) = &mut this.state {
            let result = because(&this.ending, ready!(Pin::new(handling).poll(context)));
            let last = last.take();
            this.state = State::Ended;
            return Poll::Ready(match (last, result) {
                (Some(Err(failure)), _) | (_, Err(failure)) => Some(Err(failure)),
                (last, Ok(_)) => last,
            });
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

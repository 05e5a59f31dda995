//! Middleware of the http-wasm interface: a guest sees a request before the next handler, and the response after it.
//!
//! A request has an instance for itself from the first of these calls to the last, and a thread only while one of them
//! runs and, after the first, while the next handler begins. Each guest waits for those that follow it and never for one
//! before it, so that no two requests can wait for each other.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Extensions, Method, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use mistletoe::protocol::HttpHandler;
use mistletoe::protocol::http_handler::{Features, Level, Next};
use mistletoe::{AnyBackend, CancelHandle};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::exchange::{Link, Messages};
use super::{Call, Context, Ending, Guests, Instance, Kind, MAX_LOG, Responding, granted, is_without_body};
use crate::body::Body;
use crate::config::{Guest, Route};
use crate::failure::Failure;
use crate::log::GuestLog;
use crate::metrics::Instances;
use crate::threads::{Running, Threads};

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
    let of_none = {
        let context = context.clone();
        move || context.log.of_guest(&context.name, name.as_ref(), None)
    };
    let log = logger(of_none, starting.clone());
    let protocol = HttpHandler::default().config(config).log(LEVEL, log);
    Ok(Arc::new(Middleware { guests: Guests::new(context, guest, protocol, backend, wasm)?, next, starting }))
}

/// Returns where a guest's messages go, as long as there is room for them, in bytes.
fn logger(
    log: impl Fn() -> GuestLog + Send + Sync + 'static,
    room: impl Borrow<AtomicU64> + Send + Sync + 'static,
) -> impl Fn(Level, &str) + Send + Sync + 'static {
    move |level, message| {
        // An empty message is a line, too.
        let take = |room: u64| room.checked_sub(message.len() as u64 + 1);
        if room.borrow().fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            log().message(level.as_str(), message);
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

/// A guest that has let a request through, and waits for the response.
struct Waiting {
    instance: Instance<HttpHandler>,
    next: Next,
    messages: Messages,
}

/// How far a request has come when the guest's thread is done with it.
enum Step {
    /// The next handler takes its time.
    Waits(Box<Waiting>, Responding),
    Responds(Outcome),
}

/// How far a request has come when there is a response.
enum Outcome {
    Ended(Sent),
    /// The guest is called at the end of this response.
    Passes(Box<Waiting>, Response<Body>),
}

/// A response that the guest has seen, and a body that the guest has replaced.
type Sent = (Response<Body>, Option<Body>);

/// The response of the next handler, before the guest is called with it.
struct Answer {
    waiting: Box<Waiting>,
    /// What is sent, unless the guest holds it back.
    response: Option<Response<Body>>,
    extensions: Extensions,
    failure: Option<Failure>,
    is_head: bool,
}

/// What a request holds while it is on its way: dropping it cancels the guest, and then ends its wait for a body.
struct OfRequest {
    /// `None` once the guest has ended.
    handle: Option<CancelHandle>,
    _alive: oneshot::Sender<Infallible>,
}

impl OfRequest {
    /// Notes that the guest has ended. To cancel it now would cost a system call.
    fn end(&mut self) {
        self.handle = None;
    }
}

impl Drop for OfRequest {
    fn drop(&mut self) {
        // Before the guest can take a body that breaks off for a whole one.
        if let Some(handle) = &self.handle {
            handle.cancel();
        }
    }
}

impl Middleware {
    async fn run(self: &Arc<Self>, call: Call) -> Result<Response<Body>, Failure> {
        let guests = &self.guests;
        let threads = &guests.context.threads;
        let Call { request, remote, id, usage } = call;
        let is_head = request.method() == Method::HEAD;
        let wasi = guests.wasi::<&str, &str>(&id, Vec::new);
        // A reused session keeps this, and the middleware keeps the session. So this must not keep the middleware.
        let of_request = {
            let Context { log, name: route, .. } = &guests.context;
            let (log, route, name, id) = (log.clone(), route.clone(), guests.name.clone(), id.clone());
            move || log.of_guest(&route, name.as_ref(), Some(&id))
        };
        let log = logger(of_request, AtomicU64::new(MAX_LOG));
        let ending = Ending::new(&guests.context.metrics, &usage);
        let (alive, gone) = oneshot::channel();
        let mut held = OfRequest { handle: Some(ending.handle.clone()), _alive: alive };
        let Route { handler, show_errors, .. } = &*guests.context.route;
        let (drain_time, show_errors) = (handler.drain_time(), *show_errors);

        let link = Link { runtime: Handle::current(), ending: ending.clone(), gone };
        let mut messages = Messages::new(request, remote, guests.guest.limits.max_input(), link);
        let step = guests.with_instance({
            let (middleware, ending) = (self.clone(), ending.clone());
            move |admitted| {
                let Self { guests, next, starting } = &*middleware;
                let wasi = granted(wasi, &guests.dirs)?;
                starting.store(MAX_LOG, Ordering::Relaxed);
                let mut instance = because(&ending, Instance::open(admitted, wasi, ending.clone()))?;
                instance.session().store_mut().set_log(LEVEL, log);
                let (result, returned) = instance.session().handle_request(messages);
                messages = returned;
                instance.count(&result);
                let Some(goes_on) = because(&ending, result)? else {
                    let buffered = messages.buffer(|bytes| guests.buffer(bytes));
                    instance.close();
                    return buffered.map(|()| Step::Responds(Outcome::Ended(messages.into_response())));
                };
                still_awaited(&ending)?;
                let call = Call { request: messages.request(), remote, id, usage };
                let next = next.clone();
                let mut responding: Responding =
                    Box::pin(async move { with_body(next.respond(call).await, is_head, drain_time).await });
                let mut waiting = Box::new(Waiting { instance, next: goes_on, messages });
                // A response that is there by now needs no other thread. The next poll registers the task that waits.
                let Poll::Ready(result) = responding.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) else {
                    waiting.instance.keep(&guests.queue);
                    return Ok(Step::Waits(waiting, responding));
                };
                still_awaited(&ending)?;
                let outcome = match Answer::new(waiting, result, is_head, show_errors).passing() {
                    Ok((mut waiting, response)) => {
                        waiting.instance.keep(&guests.queue);
                        Outcome::Passes(waiting, response)
                    }
                    Err(answer) => Outcome::Ended(answer.handle(&ending, |bytes| guests.buffer(bytes))?),
                };
                Ok(Step::Responds(outcome))
            }
        });
        let outcome = match step.await?? {
            Step::Responds(outcome) => outcome,
            Step::Waits(waiting, responding) => {
                let result = responding.await;
                match Answer::new(waiting, result, is_head, show_errors).passing() {
                    Ok((waiting, response)) => Outcome::Passes(waiting, response),
                    Err(answer) => {
                        let (middleware, ending) = (self.clone(), ending.clone());
                        let handle = move || answer.handle(&ending, |bytes| middleware.guests.buffer(bytes));
                        Outcome::Ended(threads.run(handle).await??)
                    }
                }
            }
        };
        let (response, replaced) = match outcome {
            Outcome::Ended(sent) => sent,
            Outcome::Passes(waiting, response) => {
                return Ok(response.map(|body| Body::new(Passing::new(body, waiting, ending, held, threads.clone()))));
            }
        };
        held.end();
        if let Some(body) = replaced {
            // The next handler runs to its end. How it ends makes no difference to the response.
            let _ = drain(body, drain_time).await;
        }
        Ok(response)
    }
}

impl Answer {
    fn new(
        mut waiting: Box<Waiting>,
        result: Result<Response<Body>, Failure>,
        is_head: bool,
        show_errors: bool,
    ) -> Self {
        let (mut response, failure) = match result {
            Ok(response) => (response, None),
            Err(failure) => (failure.response(show_errors), Some(failure)),
        };
        let mut extensions = mem::take(response.extensions_mut());
        waiting.messages.set_response(response);
        let is_held = waiting.next.features().contains(Features::BUFFER_RESPONSE);
        let response = (!is_held).then(|| {
            let mut response = waiting.messages.response();
            *response.extensions_mut() = mem::take(&mut extensions);
            response
        });
        Self { waiting, response, extensions, failure, is_head }
    }

    /// Returns the response if it passes as it comes. Otherwise nothing comes after its head that the guest could be
    /// called after, or the guest holds it back.
    fn passing(mut self) -> Result<(Box<Waiting>, Response<Body>), Box<Self>> {
        if self.failure.is_some() || self.is_head {
            return Err(Box::new(self));
        }
        match self.response.take() {
            Some(response) if !response.body().is_end_stream() => Ok((self.waiting, response)),
            response => Err(Box::new(Self { response, ..self })),
        }
    }

    /// Calls the guest, and takes room for the body that it writes. This blocks.
    fn handle(
        self: Box<Self>,
        ending: &Ending,
        buffer: impl FnOnce(Vec<u8>) -> Result<Bytes, Failure>,
    ) -> Result<Sent, Failure> {
        let Self { waiting, response, extensions, failure, .. } = *self;
        let failed = failure.is_some();
        if let Some(response) = response {
            let handled = waiting.handle(ending, failed, unwritten);
            return match failure {
                Some(failure) => Err(failure),
                None => handled.map(|_| (response, None)),
            };
        }
        let messages = match waiting.handle(ending, failed, buffer) {
            Ok(messages) => messages,
            // What failed first is the reason. The guest's own failure is counted.
            Err(own) => return Err(failure.unwrap_or(own)),
        };
        let (mut response, replaced) = messages.into_response();
        *response.extensions_mut() = extensions;
        if let Some(failure) = failure {
            response.extensions_mut().insert(failure);
        }
        Ok((response, replaced))
    }
}

impl Waiting {
    /// Calls the guest with the response, and takes room for the body that it writes. This blocks.
    fn handle(
        self,
        ending: &Ending,
        failed: bool,
        buffer: impl FnOnce(Vec<u8>) -> Result<Bytes, Failure>,
    ) -> Result<Messages, Failure> {
        let Self { mut instance, next, messages } = self;
        let (result, mut messages) = instance.session().handle_response(messages, next, failed);
        instance.count(&result);
        let buffered = because(ending, result).and_then(|()| messages.buffer(buffer));
        instance.close();
        buffered.map(|()| messages)
    }
}

/// The response has been sent, or is on its way: there is no body that could be written.
fn unwritten(_: Vec<u8>) -> Result<Bytes, Failure> {
    Ok(Bytes::new())
}

/// Returns how a call ended: if the server ended it, why.
fn because<R>(ending: &Ending, result: mistletoe::Result<R>) -> Result<R, Failure> {
    result.map_err(|error| ending.failure().take().unwrap_or(error.into()))
}

/// Fails if the guest was cancelled. What follows its call does not begin then, however the call ended.
fn still_awaited(ending: &Ending) -> Result<(), Failure> {
    if !ending.handle.is_cancelled() {
        return Ok(());
    }
    // Without a reason of the server's, nobody is there to see the failure.
    Err(ending.failure().take().unwrap_or_else(|| Failure::Host("the client has left".to_owned())))
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
    request: OfRequest,
    threads: Threads,
}

enum State {
    /// Frames pass.
    Passing(Box<Waiting>),
    /// The guest runs. Then this frame passes, or this error.
    Handling(Running<Result<Messages, Failure>>, Option<Result<Frame<Bytes>, Failure>>),
    Ended,
}

impl Passing {
    fn new(body: Body, waiting: Box<Waiting>, ending: Ending, request: OfRequest, threads: Threads) -> Self {
        let left = body.size_hint().exact();
        Self { body, left, state: State::Passing(waiting), ending, request, threads }
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
        if let State::Passing(waiting) = &mut this.state {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(context)).transpose().map_err(Failure::of_body);
            let is_last = match &frame {
                Ok(Some(frame)) => match (frame.data_ref(), frame.trailers_ref()) {
                    (Some(data), _) => {
                        this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                        // A server that has all of a body asks for nothing more.
                        this.left == Some(0) || this.body.is_end_stream()
                    }
                    (_, Some(trailers)) => {
                        waiting.messages.add_trailers(trailers.clone());
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
            let State::Passing(waiting) = mem::replace(&mut this.state, State::Ended) else { return Poll::Ready(None) };
            let ending = this.ending.clone();
            let handling = this.threads.run(move || waiting.handle(&ending, failed, unwritten));
            this.state = State::Handling(handling, frame.transpose());
        }
        if let State::Handling(handling, last) = &mut this.state {
            let result = ready!(Pin::new(handling).poll(context)).flatten();
            this.request.end();
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

#[cfg(test)]
mod tests;

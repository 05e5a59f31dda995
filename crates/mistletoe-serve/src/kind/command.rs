//! Commands as CGI programs (RFC 3875), with bodies that stream in both directions.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use http::header::CONTENT_LENGTH;
use http::{Method, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use mistletoe::protocol::WasiCommand;
use mistletoe::wasi::OutputStream;
use mistletoe::{AnyBackend, CancelHandle, ErrorKind};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::cgi::{self, Head};
use super::{Buffered, Call, Context, Ending, Guests, Kind, Responding, called, deadline, granted, is_without_body};
use crate::body::Body;
use crate::budget::{Share, units};
use crate::config::Guest;
use crate::failure::Failure;
use crate::metrics::Instances;

/// Number of frames that wait on their way to or from a guest.
const FRAMES: usize = 4;
/// Maximum length of a frame from a guest, in bytes.
const FRAME: usize = 64 << 10;

struct Command(Guests<WasiCommand>);

pub(super) fn new(
    context: Context,
    guest: Arc<Guest>,
    backend: &AnyBackend,
    wasm: &[u8],
) -> mistletoe::Result<Arc<dyn Kind>> {
    Ok(Arc::new(Command(Guests::new(context, guest, WasiCommand, backend, wasm)?)))
}

impl Kind for Command {
    fn respond(self: Arc<Self>, call: Call) -> Responding {
        Box::pin(async move { self.run(call).await })
    }

    fn instances(&self) -> Option<Instances> {
        self.0.instances()
    }

    fn prune(&self, _: std::time::Instant) {
        // An instance of a command runs once, and is never idle.
    }
}

impl Command {
    async fn run(self: &Arc<Self>, call: Call) -> Result<Response<Body>, Failure> {
        let Self(guests) = &**self;
        let guest = &guests.guest;
        let (parts, body) = call.request.into_parts();
        let length = body.size_hint().exact();
        let environment = cgi::environment(&parts, call.remote, &guests.context.route.path, length)?;
        let program = guest.module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let wasi = guests.wasi(&call.id, || environment);
        let args = guest.args.iter().map(String::as_str);
        let wasi = wasi.map(|wasi| Box::new(wasi.args([program]).args(args)));

        let ending = Ending::new(&guests.context.metrics, &call.usage);
        let feeder = Arc::new(Mutex::new(None));
        let running = Running { handle: ending.handle.clone(), feeder: feeder.clone() };
        let (head, mut heading) = oneshot::channel();
        let (output, frames) = mpsc::channel(FRAMES);
        let work = {
            let (command, ending, runtime) = (self.clone(), ending.clone(), Handle::current());
            move |admitted| {
                let Self(guests) = &*command;
                let until = deadline(guests.timeout()).map(Instant::from_std);
                let link = || Link { runtime: runtime.clone(), until, ending: ending.clone() };
                let (input, frames) = mpsc::channel(FRAMES);
                let mut feeding = Box::pin(feed(body, input, ending.clone()));
                // A body that is there by now needs no task.
                if feeding.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending() {
                    *lock(&feeder) = Some(runtime.spawn(feeding).abort_handle());
                    if ending.handle.is_cancelled() {
                        abort(&feeder);
                    }
                }
                let stdin = Stdin { frames, now: Bytes::new(), link: link() };
                let room = guests.guest.limits.max_output();
                let responses = guests.context.responses.clone();
                let stdout = Stdout { head: Some((head, Vec::new())), body: output, room, responses, link: link() };
                let wasi = wasi.map(|wasi| Box::new(wasi.stdin_reader(stdin).stdout(OutputStream::stream(stdout))));
                called(admitted, granted(wasi, &guests.dirs)?, ending, |session| {
                    session.call(()).inspect(|code| {
                        if *code != 0 {
                            guests.context.metrics.failure("exit".into());
                        }
                    })
                })
            }
        };
        let command = self.clone();
        let mut guest: Exit = Box::pin(async move { command.0.with_instance(work).await? });

        let begun = tokio::select! {
            biased;
            head = &mut heading => head.ok(),
            code = &mut guest => {
                // It may have ended with a header.
                guest = Box::pin(std::future::ready(code));
                heading.try_recv().ok()
            }
        };
        let Some(Head { status, mut headers }) = begun else {
            let code = guest.await;
            return Err(match (ending.failure().take(), code) {
                (Some(failure), _) | (None, Err(failure)) => failure,
                (None, Ok(0)) => Failure::Output("the output has no complete header".into()),
                (None, Ok(code)) => Failure::Guest(ErrorKind::Exit { code }.into()),
            });
        };
        let left = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let no_body = is_without_body(status);
        let mut outgoing = Outgoing { frames, guest: Some(guest), ending, left, last: None, _running: running };
        let body = if no_body || left == Some(0) || parts.method == Method::HEAD {
            // The program runs to its end, since it may have more to do than to write.
            while let Some(frame) = outgoing.frame().await {
                frame?;
            }
            if no_body {
                headers.remove(CONTENT_LENGTH);
            }
            Body::empty()
        } else {
            Body::new(outgoing)
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// The code that the guest ends with.
type Exit = Pin<Box<dyn Future<Output = Result<u32, Failure>> + Send>>;

/// The task that feeds the guest, if it does not have all of its input.
type Feeder = Arc<Mutex<Option<AbortHandle>>>;

fn lock(feeder: &Feeder) -> MutexGuard<'_, Option<AbortHandle>> {
    feeder.lock().unwrap_or_else(PoisonError::into_inner)
}

fn abort(feeder: &Feeder) {
    if let Some(feeder) = &*lock(feeder) {
        feeder.abort();
    }
}

/// What a response to be holds: dropping it cancels the guest, and then ends its input.
struct Running {
    handle: CancelHandle,
    feeder: Feeder,
}

impl Drop for Running {
    fn drop(&mut self) {
        // In this order: the guest must not take a body that breaks off for a whole one.
        self.handle.cancel();
        abort(&self.feeder);
    }
}

/// Passes a request's body on to the guest, as fast as the guest reads it.
async fn feed(mut body: Body, input: mpsc::Sender<Bytes>, ending: Ending) {
    loop {
        match body.data().await {
            Ok(Some(data)) => {
                if input.send(data).await.is_err() {
                    // The guest has ended.
                    return;
                }
            }
            Ok(None) => return,
            Err(failure) => return ending.fail(failure),
        }
    }
}

/// How the guest's thread waits for its client.
struct Link {
    runtime: Handle,
    until: Option<Instant>,
    ending: Ending,
}

impl Link {
    /// Waits until the guest's time is over, which cancels the guest.
    fn wait<T>(&self, future: impl Future<Output = T>, late: Failure) -> io::Result<T> {
        let Some(until) = self.until else { return Ok(self.runtime.block_on(future)) };
        let waiting = async { timeout_at(until, future).await };
        self.runtime.block_on(waiting).map_err(|_| {
            self.ending.fail(late);
            io::ErrorKind::TimedOut.into()
        })
    }
}

/// The guest's standard input.
struct Stdin {
    frames: mpsc::Receiver<Bytes>,
    now: Bytes,
    link: Link,
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.now.is_empty() {
            // To wait takes longer than to see that it is there.
            let data = match self.frames.try_recv() {
                Ok(data) => Some(data),
                Err(_) => self.link.wait(self.frames.recv(), Failure::TimedOut)?,
            };
            match data {
                Some(data) => self.now = data,
                // Not the end of the body, but of the client.
                None if self.link.ending.handle.is_cancelled() => return Err(io::ErrorKind::ConnectionAborted.into()),
                None => return Ok(0),
            }
        }
        let length = self.now.len().min(buffer.len());
        self.now.split_to(length).copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// The guest's standard output: a header, then the response's body.
struct Stdout {
    /// Where the header goes, and as much as there is of it.
    head: Option<(oneshot::Sender<Head>, Vec<u8>)>,
    body: mpsc::Sender<Bytes>,
    /// How many bytes may still be written.
    room: u64,
    /// Room for what the client has not read yet, which may outlast the guest.
    responses: Share,
    link: Link,
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let failed = |failure| {
            self.link.ending.fail(failure);
            Err(io::ErrorKind::BrokenPipe.into())
        };
        let bytes = bytes.get(..FRAME).unwrap_or(bytes);
        match self.room.checked_sub(bytes.len() as u64) {
            Some(room) => self.room = room,
            None => return failed(Failure::Output("the output exceeds its limit".into())),
        }
        let data = match &mut self.head {
            None => bytes.to_vec(),
            Some((_, begun)) => {
                // Where the header's end can be: not before what is new, except for a part of the empty line.
                let from = begun.len().saturating_sub(3);
                begun.extend_from_slice(bytes);
                let Some(end) = cgi::end(begun, from) else {
                    if begun.len() > cgi::MAX_HEAD {
                        return failed(Failure::Output("the header of the output is too long".into()));
                    }
                    return Ok(bytes.len());
                };
                let Some((sender, mut begun)) = self.head.take() else { return Ok(bytes.len()) };
                let rest = begun.split_off(end);
                match Head::parse(&begun) {
                    // If nobody waits for it, the guest is cancelled already.
                    Ok(head) => _ = sender.send(head),
                    Err(problem) => {
                        // First the reason, then the end of the wait for a header.
                        let failed = failed(Failure::Output(problem.into()));
                        drop(sender);
                        return failed;
                    }
                }
                rest
            }
        };
        if !data.is_empty() {
            let data = self.buffer(data)?;
            if let Err(TrySendError::Full(data) | TrySendError::Closed(data)) = self.body.try_send(data)
                && self.link.wait(self.body.send(data), Failure::SlowClient)?.is_err()
            {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stdout {
    /// Waits for room for a frame, which no share is too small for.
    fn buffer(&self, bytes: Vec<u8>) -> io::Result<Bytes> {
        let units = units(bytes.len() as u64);
        let room = match self.responses.try_acquire(units) {
            Some(room) => room,
            None => {
                // Or until nobody waits for the response any more.
                let acquire = async {
                    tokio::select! {
                        biased;
                        () = self.body.closed() => None,
                        room = self.responses.acquire(units) => room.ok(),
                    }
                };
                self.link.wait(acquire, Failure::Full)?.ok_or(io::ErrorKind::BrokenPipe)?
            }
        };
        Ok(Bytes::from_owner(Buffered { bytes, _room: room }))
    }
}

/// The body of a response, as the guest writes it.
struct Outgoing {
    /// Dropped first: a guest is cancelled before its writes fail.
    _running: Running,
    frames: mpsc::Receiver<Bytes>,
    guest: Option<Exit>,
    ending: Ending,
    /// How many bytes are to come, if the header says so.
    left: Option<u64>,
    /// The last of these bytes. They wait for the end of the guest: a server that has them asks for nothing more.
    last: Option<Bytes>,
}

impl Outgoing {
    fn poll_next(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        let wrong = || Poll::Ready(Err(Failure::Output("the output is not as long as its header says".into())));
        while self.guest.is_some()
            && let Some(data) = ready!(self.frames.poll_recv(context))
        {
            match self.left.map(|left| left.checked_sub(data.len() as u64)) {
                Some(None) => return wrong(),
                Some(Some(0)) => (self.left, self.last) = (Some(0), Some(data)),
                left => {
                    self.left = left.flatten();
                    return Poll::Ready(Ok(Some(data)));
                }
            }
        }
        if let Some(guest) = &mut self.guest {
            let result = ready!(guest.as_mut().poll(context));
            self.guest = None;
            // The header is complete, so that the program's status changes nothing any more.
            let failure = self.ending.failure().take();
            if let (Some(failure), _) | (None, Err(failure)) = (failure, result) {
                return Poll::Ready(Err(failure));
            }
            if self.left.is_some_and(|left| left > 0) {
                return wrong();
            }
        }
        Poll::Ready(Ok(self.last.take()))
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let data = ready!(self.poll_next(context));
        Poll::Ready(data.transpose().map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.guest.is_none() && self.last.is_none()
    }
}

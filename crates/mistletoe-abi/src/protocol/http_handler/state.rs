//! What the protocol keeps in a session, and the rules on who may change what and when.

use std::error::Error as StdError;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::exchange::{BodyKind, Exchange, Features, HeaderKind, Level, Misuse};
use super::{HttpHandler, Next};
use crate::error::{Error, ErrorKind, Operation, Region, Result};
use crate::limits::Limits;

/// The result of a host function.
pub(super) type Outcome<R> = Result<R, Box<dyn StdError + Send + Sync>>;

/// The state of a session: the request in progress, and the features enabled for every request.
pub struct State {
    pub(super) settings: HttpHandler,
    limits: Limits,
    exchange: Option<Box<dyn Exchange>>,
    /// Enabled while the guest started.
    always: Features,
    /// Enabled for the current request.
    enabled: Features,
    after_next: bool,
    request: Progress,
    response: Progress,
    /// The request whose `handle_response` was not called yet.
    pending: Option<u64>,
}

/// What the current call of the guest has done with a body.
#[derive(Default)]
struct Progress {
    /// What it has read of a buffered body.
    buffered: Vec<u8>,
    /// How much it has written; `None` as long as it has not replaced the body.
    written: Option<u64>,
}

impl State {
    pub(super) fn new(settings: HttpHandler, limits: &Limits) -> Self {
        Self {
            settings,
            limits: *limits,
            exchange: None,
            always: Features::NONE,
            enabled: Features::NONE,
            after_next: false,
            request: Progress::default(),
            response: Progress::default(),
            pending: None,
        }
    }

    /// Sets where the guest's messages go from now on, as [`HttpHandler::log`] does for sessions that are not open yet.
    ///
    /// A server that logs which request a message belongs to sets this for each request.
    pub fn set_log(&mut self, level: Level, log: impl Fn(Level, &str) + Send + Sync + 'static) {
        self.settings.log = Some((level, Arc::new(log)));
    }

    /// Lends the exchange to the next call of the guest.
    pub(crate) fn put(&mut self, exchange: Box<dyn Exchange>) {
        self.exchange = Some(exchange);
    }

    /// Takes the exchange back.
    pub(crate) fn take(&mut self) -> Option<Box<dyn Exchange>> {
        self.exchange.take()
    }

    pub(super) fn begin_request(&mut self) {
        self.begin(self.always, false);
    }

    /// Ends a call of `handle_request` that returned. The bodies go on as rule 8 says.
    pub(super) fn end_request(&mut self, context: u32, next: bool) -> Option<Next> {
        let (request, response) = (mem::take(&mut self.request), mem::take(&mut self.response));
        if !next {
            return None;
        }
        if let Some(exchange) = &mut self.exchange {
            put_back(&mut **exchange, BodyKind::Request, request);
            if response.written.is_some() {
                exchange.clear_body(BodyKind::Response);
            }
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.pending = Some(id);
        Some(Next { context, features: self.enabled, id })
    }

    /// Begins a call of `handle_response`, which the latest request of this session waits for.
    pub(super) fn begin_response(&mut self, next: &Next) -> Result<()> {
        if self.pending != Some(next.id) {
            return Err(Error::engine(Operation::Call, "the request is not the latest one of this session"));
        }
        self.begin(next.features, true);
        Ok(())
    }

    /// Ends a call of `handle_response` that returned.
    pub(super) fn end_response(&mut self) {
        let response = mem::take(&mut self.response);
        if let Some(exchange) = &mut self.exchange {
            put_back(&mut **exchange, BodyKind::Response, response);
        }
    }

    fn begin(&mut self, enabled: Features, after_next: bool) {
        (self.enabled, self.after_next, self.pending) = (enabled, after_next, None);
        (self.request, self.response) = Default::default();
    }

    /// Rule 4: enables features that the host supports. Returns all that are enabled.
    pub(super) fn enable(&mut self, features: Features) -> Features {
        let features = features.intersection(self.settings.features);
        if self.exchange.is_none() {
            self.always = self.always | features;
            return self.always;
        }
        if !self.after_next {
            self.enabled = self.enabled | features;
        }
        self.enabled
    }

    pub(super) fn exchange(&mut self) -> Result<&mut dyn Exchange, Misuse> {
        self.exchange.as_deref_mut().ok_or(Misuse::NoRequest)
    }

    /// Returns the exchange if its `message` may be changed (rule 7).
    pub(super) fn changeable(&mut self, message: BodyKind) -> Result<&mut dyn Exchange, Misuse> {
        let (after_next, buffering) = (self.after_next, message.buffering());
        let buffered = self.enabled.contains(buffering);
        let exchange = self.exchange()?;
        match message {
            BodyKind::Request if after_next => Err(Misuse::AfterNext),
            BodyKind::Response if after_next && !buffered => Err(Misuse::NotBuffered(buffering)),
            _ => Ok(exchange),
        }
    }

    /// Checks that the guest may change headers or trailers.
    pub(super) fn check_change(&mut self, kind: HeaderKind) -> Result<(), Misuse> {
        self.changeable(kind.message())?;
        if self.has(kind) { Ok(()) } else { Err(Misuse::NoTrailers) }
    }

    /// Visits headers, or trailers if these are enabled (rule 6).
    pub(super) fn visit_headers(&mut self, kind: HeaderKind, visit: &mut dyn FnMut(&str, &[u8])) -> Result<(), Misuse> {
        let has = self.has(kind);
        let exchange = self.exchange()?;
        if has {
            exchange.visit_headers(kind, visit);
        }
        Ok(())
    }

    /// Returns whether the guest has these headers or trailers.
    fn has(&self, kind: HeaderKind) -> bool {
        !kind.is_trailers() || self.enabled.contains(Features::TRAILERS)
    }

    /// Returns whether the guest can read the body; before the next handler, no response has one.
    pub(super) fn readable(&mut self, body: BodyKind) -> Result<bool, Misuse> {
        self.exchange()?;
        if self.after_next && !self.enabled.contains(body.buffering()) {
            return Err(Misuse::NotBuffered(body.buffering()));
        }
        Ok(self.after_next || body == BodyKind::Request)
    }

    /// Reads into `buffer`, and keeps a copy if the body is buffered.
    pub(super) fn read(&mut self, body: BodyKind, buffer: &mut [u8], deadline: Option<Instant>) -> Outcome<usize> {
        let length = self.exchange()?.read_body(body, buffer, deadline)?;
        let bytes = buffer.get(..length).ok_or("more bytes were read than the buffer has")?;
        // After the next handler, nobody else reads the request.
        let goes_on = self.after_next == (body == BodyKind::Response);
        if goes_on && self.enabled.contains(body.buffering()) && self.progress(body).written.is_none() {
            let limit = self.limits.max_input();
            let Progress { buffered, .. } = self.progress(body);
            let all = (buffered.len() + length) as u64;
            if all > limit {
                return Err(Error::from(ErrorKind::TooLong { region: Region::Input, length: all, limit }).into());
            }
            buffered.extend_from_slice(bytes);
        }
        Ok(length)
    }

    /// Writes to a body that may be changed. The first write replaces it.
    pub(super) fn write(&mut self, body: BodyKind, bytes: &[u8], deadline: Option<Instant>) -> Outcome<()> {
        let limit = self.limits.max_output();
        let Progress { written, buffered } = self.progress(body);
        let all = written.unwrap_or_default() + bytes.len() as u64;
        if all > limit {
            return Err(Error::from(ErrorKind::TooLong { region: Region::Output, length: all, limit }).into());
        }
        let first = written.replace(all).is_none();
        *buffered = Vec::new();
        let exchange = self.exchange()?;
        if first {
            exchange.clear_body(body);
        }
        if bytes.is_empty() { Ok(()) } else { Ok(exchange.write_body(body, bytes, deadline)?) }
    }

    fn progress(&mut self, body: BodyKind) -> &mut Progress {
        match body {
            BodyKind::Request => &mut self.request,
            BodyKind::Response => &mut self.response,
        }
    }

    /// Checks the number and size of headers before one is set or added.
    pub(super) fn check_room(&mut self, kind: HeaderKind, name: &[u8], value: usize, adds: bool) -> Result<(), Misuse> {
        let (limit, max) = (self.settings.max_headers, self.settings.max_header_bytes);
        let (mut count, mut length) = (1, (name.len() + value) as u64);
        self.exchange()?.visit_headers(kind, &mut |other, value| {
            if adds || !other.as_bytes().eq_ignore_ascii_case(name) {
                (count, length) = (count + 1, length + (other.len() + value.len()) as u64);
            }
        });
        if length > max {
            return Err(Misuse::HeadersTooLong { length, limit: max });
        }
        if count > limit { Err(Misuse::TooManyHeaders { limit }) } else { Ok(()) }
    }

    /// Returns the log if it takes messages of this level.
    pub(super) fn log(&self, level: i32) -> Option<(Level, Log)> {
        let (from, log) = self.settings.log.as_ref()?;
        Level::of(level).filter(|level| level >= from).map(|level| (level, log.clone()))
    }
}

/// Takes the messages of guests.
pub(super) type Log = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// Rule 8: what was read of a buffered body goes on, unless it was replaced.
fn put_back(exchange: &mut dyn Exchange, body: BodyKind, progress: Progress) {
    if progress.written.is_none() && !progress.buffered.is_empty() {
        exchange.unread_body(body, progress.buffered);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("enabled", &self.enabled)
            .field("after_next", &self.after_next)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

//! Cancelling a call from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// Cancels a session's call from another thread.
///
/// Cloning is cheap; clones are the same handle.
///
/// The call under way fails with [`Cancelled`](ErrorKind::Cancelled) within some milliseconds, and the session is
/// poisoned. If no call is under way, every later call fails with `Cancelled` before it begins, and the guest does not
/// change. A cancelled handle stays cancelled.
///
/// # Examples
///
/// ```
/// use std::io::{Read as _, stdin};
/// use std::thread;
///
/// use mistletoe_abi::{AnyPackage, CancelHandle, Result};
///
/// /// Returns an output, or an error once the standard input ends.
/// fn generate(package: &AnyPackage, input: &str) -> Result<String> {
///     let handle = CancelHandle::new();
///     let guard = handle.clone().drop_guard();
///     thread::spawn(move || {
///         let _ = stdin().read_to_end(&mut Vec::new());
///         drop(guard);
///     });
///     package.session_with_cancel((), &handle)?.generate(input)
/// }
/// ```
///
/// # What a cancellation reaches
///
/// - Guest code, if [time or fuel](crate::Limits) is limited: the handle is checked as often as the clock. Without
///   either limit, guest code runs on until it calls a host function or returns.
/// - Each call of a host function, before it begins. It also reaches host functions that wait by
///   [`Caller::wait`](crate::Caller::wait) or check [`Caller::in_time`](crate::Caller::in_time). Any other host
///   function runs to its end.
/// - WASI's waits: for a clock, and for standard streams that are files of the process itself. A reader or writer of
///   the host program runs to its end, and so does an operation that the system does in one piece.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cancelled: AtomicBool,
    deadline: Option<Instant>,
    waiting: Mutex<()>,
    wake: Condvar,
}

/// Cancels its handle when it is dropped; see [`CancelHandle::drop_guard`].
#[derive(Debug)]
#[must_use = "the handle is cancelled as soon as this is dropped"]
pub struct DropGuard(Option<CancelHandle>);

impl CancelHandle {
    /// Creates a handle that no session uses yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a handle that is cancelled at `deadline`, if it is not cancelled before.
    ///
    /// Several calls can share the time until then, and so can several sessions: each has a clone of the handle. No
    /// thread has to wait for the deadline. The first call with the handle reads the clock when it first calls a host
    /// function. From then on, the clock is read as often as for a [limit on time](crate::Limits::with_timeout);
    /// without limits on time and fuel, only where host functions are called. A call that uses less than 100,000 units
    /// of fuel and calls at most eight host functions may not read the clock, so it may begin and return after the
    /// deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// use mistletoe_abi::{AnyPackage, CancelHandle, Result};
    ///
    /// /// Returns an output within a second, which includes the time to create the instance.
    /// fn generate(package: &AnyPackage, input: &str) -> Result<String> {
    ///     let handle = CancelHandle::with_deadline(Instant::now() + Duration::from_secs(1));
    ///     package.session_with_cancel((), &handle)?.generate(input)
    /// }
    /// ```
    pub fn with_deadline(deadline: Instant) -> Self {
        Self(Arc::new(Inner { deadline: Some(deadline), ..Inner::default() }))
    }

    /// Returns when the handle is cancelled at the latest, if there is such a time.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Cancels the call under way, and every later call.
    pub fn cancel(&self) {
        // Under the lock, so that a thread about to wait does not miss the cancellation.
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.cancelled.store(true, Ordering::Relaxed);
        drop(waiting);
        self.0.wake.notify_all();
    }

    /// Returns whether the handle was cancelled, or its deadline has passed.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.has_ended() || self.0.deadline.is_some_and(|deadline| self.ends_by(deadline, Instant::now()))
    }

    /// Returns whether somebody has noticed the end of the handle.
    #[inline]
    fn has_ended(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Notices whether the deadline has passed.
    fn ends_by(&self, deadline: Instant, now: Instant) -> bool {
        let is_over = now >= deadline;
        if is_over {
            // Whoever waits does not wait beyond the deadline.
            self.0.cancelled.store(true, Ordering::Relaxed);
        }
        is_over
    }

    /// Waits until the handle is cancelled, for at most `time`.
    ///
    /// Returns whether the handle was cancelled.
    pub fn wait(&self, time: Duration) -> bool {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.0.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = left.map_or(time, |left| left.min(time));
        let _ = self.0.wake.wait_timeout_while(waiting, time, |()| !self.has_ended());
        self.is_cancelled()
    }

    /// Returns a guard that cancels the handle when it is dropped.
    ///
    /// For example, if the future that waits for an output owns the guard, dropping the future cancels the call.
    pub fn drop_guard(self) -> DropGuard {
        DropGuard(Some(self))
    }

    /// Fails with [`Cancelled`](ErrorKind::Cancelled) if the handle was cancelled. The clock is not read.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.has_ended() { Err(cancelled()) } else { Ok(()) }
    }

    /// Fails as [`CancelHandle::check`] does, and if the deadline has passed by `now`.
    pub(crate) fn check_at(&self, now: Instant) -> Result<()> {
        match self.0.deadline {
            Some(deadline) if self.ends_by(deadline, now) => Err(cancelled()),
            _ => self.check(),
        }
    }
}

#[cold]
fn cancelled() -> Error {
    ErrorKind::Cancelled { export: None }.into()
}

impl DropGuard {
    /// Returns the handle without cancelling it.
    pub fn disarm(mut self) -> CancelHandle {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.cancel();
        }
    }
}

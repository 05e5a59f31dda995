//! Cancelling a call from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

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
/// use std::thread;
/// use std::time::Duration;
///
/// use mistletoe_abi::{AnyPackage, CancelHandle, Result};
///
/// /// An answer within a second, counted from before the guest is instantiated.
/// fn answer(package: &AnyPackage, input: &str) -> Result<String> {
///     let handle = CancelHandle::new();
///     let _guard = handle.clone().drop_guard();
///     let cancel = handle.clone();
///     thread::spawn(move || {
///         if !cancel.wait(Duration::from_secs(1)) {
///             cancel.cancel();
///         }
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

    /// Cancels the call under way, and every later call.
    pub fn cancel(&self) {
        // Under the lock, so that a thread about to wait does not miss the cancellation.
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.cancelled.store(true, Ordering::Relaxed);
        drop(waiting);
        self.0.wake.notify_all();
    }

    /// Returns whether the handle was cancelled.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Waits until the handle is cancelled, for at most `time`.
    ///
    /// Returns whether the handle was cancelled.
    pub fn wait(&self, time: Duration) -> bool {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.0.wake.wait_timeout_while(waiting, time, |()| !self.is_cancelled());
        self.is_cancelled()
    }

    /// Returns a guard that cancels the handle when it is dropped.
    ///
    /// For example, if the future that waits for an output owns the guard, dropping the future cancels the call.
    pub fn drop_guard(self) -> DropGuard {
        DropGuard(Some(self))
    }

    /// Fails with [`Cancelled`](ErrorKind::Cancelled) if the handle was cancelled.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(cancelled()) } else { Ok(()) }
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

//! Ending a call from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Cancels a session's call from another thread. Cloning it is cheap; clones are the same handle.
///
/// The call under way ends with [`Cancelled`](ErrorKind::Cancelled) within some milliseconds, and poisons the session.
/// Where none is under way, every later call fails with `Cancelled` before it begins, and the guest is left as it is. A
/// handle that was cancelled stays so.
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
/// # What sees it
///
/// - Guest code, where [time or fuel](crate::Limits) is limited: the handle is checked as often as the clock is. Code
///   without either limit runs on until it calls a host function or returns.
/// - Each call of a host function, before it begins; and host functions that wait by
///   [`Caller::wait`](crate::Caller::wait) or ask [`Caller::in_time`](crate::Caller::in_time). Any other runs to its end.
/// - WASI's waits: for a clock, and for standard streams that are files of the process's own. A reader or writer of the
///   host
///   program's runs to its end, and so does what the system does in one piece.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cancelled: AtomicBool,
    waiting: Mutex<()>,
    wake: Condvar,
}

/// Cancels its handle when it is dropped: see [`CancelHandle::drop_guard`].
#[derive(Debug)]
#[must_use = "the handle is cancelled as soon as this is dropped"]
pub struct DropGuard(Option<CancelHandle>);

impl CancelHandle {
    /// A handle of no session's yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the call under way, or else the next one.
    pub fn cancel(&self) {
        // With the lock, so that nobody who is about to wait misses it.
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.cancelled.store(true, Ordering::Relaxed);
        drop(waiting);
        self.0.wake.notify_all();
    }

    /// Whether it was cancelled.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Waits until it is cancelled, for so long at most; whether it was.
    pub fn wait(&self, time: Duration) -> bool {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.0.wake.wait_timeout_while(waiting, time, |()| !self.is_cancelled());
        self.is_cancelled()
    }

    /// A guard that cancels the handle when it is dropped, for instance with the future that waits for the answer.
    pub fn drop_guard(self) -> DropGuard {
        DropGuard(Some(self))
    }

    /// [`Cancelled`](ErrorKind::Cancelled) if it was.
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
    /// The handle, which is not cancelled any more when the guard is dropped.
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

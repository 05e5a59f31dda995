//! How long one call works. What the guest chooses the size of is done in pieces, and the clock is looked at between
//! them.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use mistletoe_abi::CancelHandle;

use crate::errno::Errno;

/// How many bytes are read, written or made before the clock is looked at. It takes well below a millisecond, for all
/// that is the host's own work; what it waits for, the system does in its own time.
pub(crate) const PIECE: usize = 256 << 10;

/// Work that is long enough for one look at the clock not to matter beside it, in bytes as well.
pub(crate) const LOOK: u64 = 16 << 10;

/// For so long something waits that a handle cannot wake, which is then asked whether it was cancelled.
const ROUND: Duration = Duration::from_millis(20);

/// What asking the system for something counts as, as if so many bytes had been moved.
pub(crate) const ASKING: u64 = 256;

/// What a call has done so far.
#[derive(Default)]
pub(crate) struct Work {
    deadline: Option<Instant>,
    cancel: Option<CancelHandle>,
    done: Cell<u64>,
    /// How much was done when the clock was last looked at.
    looked: Cell<u64>,
}

impl Work {
    /// Work that has to end then, or when it is cancelled.
    pub(crate) fn until(deadline: Option<Instant>, cancel: Option<CancelHandle>) -> Self {
        Self { deadline, cancel, ..Self::default() }
    }

    /// Whether it may have to end before it is done.
    pub(crate) fn is_bounded(&self) -> bool {
        self.deadline.is_some() || self.cancel.is_some()
    }

    /// Whether it has to end now.
    pub(crate) fn is_over(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelHandle::is_cancelled)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// How long what waits can wait before it has to ask again whether the work is over, if it has to.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let round = self.cancel.as_ref().map(|_| ROUND);
        [left, round].into_iter().flatten().min()
    }

    /// Waits for so long, or until the work is over.
    pub(crate) fn wait(&self, time: Duration) {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = left.map_or(time, |left| left.min(time));
        match &self.cancel {
            Some(handle) => _ = handle.wait(time),
            None => thread::sleep(time),
        }
    }

    /// Something was done that is no longer than a piece.
    pub(crate) fn count(&self, work: u64) {
        self.done.set(self.done.get().saturating_add(work));
    }

    /// The same, as one step of many: [`Errno::TimedOut`] where it has to end. The guest does not see it.
    pub(crate) fn add(&self, work: u64) -> Result<(), Errno> {
        self.count(work);
        if self.done.get() - self.looked.get() < PIECE as u64 {
            return Ok(());
        }
        self.looked.set(self.done.get());
        if self.is_over() { Err(Errno::TimedOut) } else { Ok(()) }
    }

    /// Whether it took long enough for the clock to be looked at before the guest goes on.
    pub(crate) fn is_long(&self) -> bool {
        self.done.get() >= LOOK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_looked_at_after_each_piece() {
        let work = Work::until(Some(Instant::now()), None);
        assert_eq!(work.add(PIECE as u64 - 1), Ok(()));
        assert_eq!(work.add(1), Err(Errno::TimedOut));
        assert_eq!(work.add(PIECE as u64 - 1), Ok(()));
        assert_eq!(work.add(1), Err(Errno::TimedOut));
        let endless = Work::default();
        assert_eq!(endless.add(u64::MAX), Ok(()));
        assert_eq!(endless.add(u64::MAX), Ok(()));
    }

    #[test]
    fn what_is_short_needs_no_look() {
        let work = Work::default();
        work.count(LOOK - 1);
        assert!(!work.is_long());
        work.count(1);
        assert!(work.is_long());
    }
}

//! How long one call works. Work whose size the guest chooses is done in pieces, and the clock is checked between them.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use mistletoe_abi::CancelHandle;

use crate::errno::Errno;

/// Bytes that are read, written or generated before the clock is checked.
///
/// The host's own work on a piece takes well below a millisecond. What the host waits for takes the system as long as
/// it takes.
pub(crate) const PIECE: usize = 256 << 10;

/// Work that is long enough for the cost of one check of the clock not to matter, in bytes as well.
pub(crate) const LOOK: u64 = 16 << 10;

/// Interval at which a wait that a handle cannot wake checks whether it was cancelled.
const ROUND: Duration = Duration::from_millis(20);

/// Cost of one request to the system, in moved bytes.
pub(crate) const ASKING: u64 = 256;

/// Work that a call has done so far.
#[derive(Default)]
pub(crate) struct Work {
    deadline: Option<Instant>,
    cancel: Option<CancelHandle>,
    done: Cell<u64>,
    /// Work that was done when the clock was last checked.
    looked: Cell<u64>,
}

impl Work {
    /// Returns work that has to end at the deadline, or when it is cancelled.
    pub(crate) fn until(deadline: Option<Instant>, cancel: Option<CancelHandle>) -> Self {
        Self { deadline, cancel, ..Self::default() }
    }

    /// Returns whether the work may have to end before it is done.
    pub(crate) fn is_bounded(&self) -> bool {
        self.deadline.is_some() || self.cancel.is_some()
    }

    /// Returns whether the work has to end now.
    pub(crate) fn is_over(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelHandle::is_cancelled)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Returns how long a wait can take before it has to check again whether the work is over, if it has to.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let round = self.cancel.as_ref().map(|_| ROUND);
        [left, round].into_iter().flatten().min()
    }

    /// Waits for `time`, or until the work is over.
    pub(crate) fn wait(&self, time: Duration) {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = left.map_or(time, |left| left.min(time));
        match &self.cancel {
            Some(handle) => _ = handle.wait(time),
            None => thread::sleep(time),
        }
    }

    /// Counts work that is no longer than a piece.
    pub(crate) fn count(&self, work: u64) {
        self.done.set(self.done.get().saturating_add(work));
    }

    /// Counts one step of many; [`Errno::TimedOut`] if the work has to end. The guest does not see this error.
    pub(crate) fn add(&self, work: u64) -> Result<(), Errno> {
        self.count(work);
        if self.done.get() - self.looked.get() < PIECE as u64 {
            return Ok(());
        }
        self.looked.set(self.done.get());
        if self.is_over() { Err(Errno::TimedOut) } else { Ok(()) }
    }

    /// Returns whether the work was long enough for a check of the clock before the guest resumes.
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

//! What a session has used of its limits.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use crate::cancel::CancelHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use mistletoe_module::TURNS;

/// The most fuel that is granted at once.
///
/// On the slowest engine, it lasts for some milliseconds. That bounds the time between two checks of the clock, and the
/// fuel that is left out of the count when a guest traps.
const SLICE: u64 = 100_000;

/// The most calls of host functions between two checks of the clock.
///
/// A check is expensive next to a short function.
const CALLS: u32 = 64;
/// The most of them that a call of the guest may make before its time begins.
///
/// The functions were quick in earlier calls, but these may have been long ago.
const FIRST_CALLS: u32 = 8;
/// The time within which the calls since the last check count as quick.
///
/// After quick calls, twice as many calls go unchecked before the next check; otherwise none.
const QUICK: Duration = Duration::from_micros(500);

/// The deadline of a call.
#[derive(Clone, Copy, Debug)]
enum Clock {
    /// Not known yet: reading a clock is expensive next to a short call.
    Unread,
    Deadline(Option<Instant>),
}

/// The limits of a session, and what it has used of them.
#[derive(Debug)]
pub(crate) struct Budget {
    timeout: Option<Duration>,
    fuel: Option<u64>,
    height: u32,
    clock: Cell<Clock>,
    /// All fuel that was ever granted.
    granted: u64,
    /// The fuel that was used before the current call.
    before: u64,
    /// The number of host functions that may be called before the next check of the clock.
    calls: u32,
    /// The number of host functions that may ever have been called. `calls` of them have not been called yet.
    allowed: u64,
    /// The number of calls that the latest check allowed.
    between: u32,
    /// When the latest check was, also in an earlier call.
    looked: Option<Instant>,
    /// Checked whenever the clock is, and before each call of a host function.
    cancel: Option<CancelHandle>,
}

/// What the start of a guest has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    granted: u64,
    /// Whether the time of the call has begun.
    timed: bool,
}

impl Budget {
    pub(crate) fn new(limits: &Limits, cancel: Option<CancelHandle>) -> Self {
        let Limits { timeout, fuel, .. } = *limits;
        Self {
            timeout,
            fuel,
            height: limits.stack.unwrap_or_default(),
            clock: Cell::new(Clock::Unread),
            granted: 0,
            before: 0,
            calls: 0,
            allowed: 0,
            between: 0,
            looked: None,
            cancel,
        }
    }

    /// Returns what was used so far.
    pub(crate) fn start(&self) -> Start {
        Start { granted: self.granted, timed: !matches!(self.clock.get(), Clock::Unread) }
    }

    /// Counts what another guest has used in the same start. The counter in the guest is the other's as well.
    pub(crate) fn started_as(&mut self, start: &Start) {
        self.granted = start.granted;
        if start.timed {
            self.leave(self.now());
        }
    }

    /// Returns whether the budget has to know when a call begins.
    pub(crate) fn is_limited(&self) -> bool {
        self.timeout.is_some() || self.cancel.is_some()
    }

    /// Begins a call. `left` is the granted fuel that is left, if fuel is counted.
    ///
    /// A few of the calls of host functions that the latest check allowed stay allowed. Reading the clock takes longer
    /// than many a call of a guest.
    pub(crate) fn begin(&mut self, left: i64) -> Result<()> {
        self.before = self.spent(left);
        self.clock.set(Clock::Unread);
        self.allow_at_most(FIRST_CALLS);
        self.cancelled()
    }

    /// Takes back what the latest check allowed, except for so many calls of host functions.
    fn allow_at_most(&mut self, calls: u32) {
        let kept = self.calls.min(calls);
        self.allowed -= u64::from(self.calls - kept);
        self.calls = kept;
    }

    /// Sets the handle that cancels calls from now on. The next host function is called after a check.
    pub(crate) fn set_cancel_handle(&mut self, handle: Option<CancelHandle>) {
        self.cancel = handle;
        self.allow_at_most(0);
    }

    /// Returns the handle that cancels calls, if there is one.
    pub(crate) fn cancel_handle(&self) -> Option<&CancelHandle> {
        self.cancel.as_ref()
    }

    #[inline]
    fn cancelled(&self) -> Result<()> {
        self.cancel.as_ref().map_or(Ok(()), CancelHandle::check)
    }

    /// Reads the clock, if anything depends on the time.
    fn now(&self) -> Option<Instant> {
        (self.timeout.is_some() || self.end().is_some()).then(Instant::now)
    }

    /// Returns when the handle is cancelled.
    fn end(&self) -> Option<Instant> {
        self.cancel.as_ref().and_then(CancelHandle::deadline)
    }

    /// Begins the time of the call, unless it has begun.
    ///
    /// Until then, the guest has used at most one slice of fuel, and called at most [`FIRST_CALLS`] host functions.
    fn leave(&self, now: Option<Instant>) {
        if matches!(self.clock.get(), Clock::Unread) {
            // A deadline that the clock cannot represent is no limit.
            let deadline = now.zip(self.timeout).and_then(|(now, timeout)| now.checked_add(timeout));
            self.clock.set(Clock::Deadline(deadline));
        }
    }

    /// Checks whether the guest may call a host function.
    ///
    /// The duration of the last one is not known. A guest that calls slow functions must not go on for long after its
    /// deadline.
    #[inline]
    pub(crate) fn host_call(&mut self) -> Result<()> {
        // Checked at every call: it costs one load, and only if there is a handle.
        self.cancelled()?;
        match self.calls.checked_sub(1) {
            Some(left) => {
                self.calls = left;
                Ok(())
            }
            None => self.look(),
        }
    }

    #[cold]
    fn look(&mut self) -> Result<()> {
        let now = self.now();
        // The time between two calls of the guest counts, too: the functions cannot have taken longer.
        let quick = match now {
            Some(now) => self.looked.is_some_and(|before| now.duration_since(before) < QUICK),
            None => true,
        };
        self.looked = now;
        self.between = if quick { (self.between * 2).clamp(1, CALLS) } else { 0 };
        if matches!(self.clock.get(), Clock::Unread) {
            self.leave(now);
            self.handle_in_time(now)?;
        } else {
            self.in_time_at(now)?;
        }
        self.allow();
        Ok(())
    }

    /// Allows the current call of a host function, and those that follow without a check.
    ///
    /// Counting here makes the count free: a call that needs no check counts down only.
    fn allow(&mut self) {
        self.calls = self.between;
        self.allowed += 1 + u64::from(self.between);
    }

    /// Returns how many host functions were called.
    pub(crate) fn host_calls(&self) -> u64 {
        self.allowed - u64::from(self.calls)
    }

    /// Returns all fuel that was ever used, if `left` is left of what was granted.
    fn spent(&self, left: i64) -> u64 {
        self.granted.saturating_add_signed(left.saturating_neg())
    }

    /// Returns the fuel that the current call has used.
    pub(crate) fn used(&self, left: i64) -> u64 {
        self.spent(left).saturating_sub(self.before)
    }

    /// Returns the deadline of the call by its own limit, if the time of the call has begun.
    fn limit(&self) -> Option<Instant> {
        match self.clock.get() {
            Clock::Unread => None,
            Clock::Deadline(deadline) => deadline,
        }
    }

    /// Returns the deadline of the call: by its own limit, or that of the handle if it comes first.
    ///
    /// For host functions. The time of the call begins, unless it has begun.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.timeout.is_some() && matches!(self.clock.get(), Clock::Unread) {
            self.leave(Some(Instant::now()));
        }
        self.known_deadline()
    }

    fn known_deadline(&self) -> Option<Instant> {
        [self.limit(), self.end()].into_iter().flatten().min()
    }

    /// Checks the time and the handle, for host functions as [`Budget::deadline`].
    pub(crate) fn in_time(&self) -> Result<()> {
        self.in_time_at(self.deadline().map(|_| Instant::now()))
    }

    /// Checks the handle, and the time if it has begun.
    pub(crate) fn in_time_so_far(&self) -> Result<()> {
        self.in_time_at(self.known_deadline().map(|_| Instant::now()))
    }

    /// Checks the time, and whether the call was cancelled. `now` is needed if there is a deadline.
    fn in_time_at(&self, now: Option<Instant>) -> Result<()> {
        self.handle_in_time(now)?;
        match (self.limit(), self.timeout, now) {
            (Some(deadline), Some(timeout), Some(now)) if now >= deadline => {
                Err(ErrorKind::TimedOut { limit: timeout, export: None }.into())
            }
            _ => Ok(()),
        }
    }

    fn handle_in_time(&self, now: Option<Instant>) -> Result<()> {
        match (&self.cancel, now) {
            (Some(handle), Some(now)) => handle.check_at(now),
            _ => self.cancelled(),
        }
    }

    /// Waits for `time`, but not beyond the call's deadline or cancellation.
    pub(crate) fn wait(&self, time: Duration) -> Result<()> {
        let left = self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = left.map_or(time, |left| left.min(time));
        match &self.cancel {
            Some(handle) => _ = handle.wait(time),
            None => thread::sleep(time),
        }
        self.in_time()
    }

    /// Grants more fuel, after the guest has used up what it was granted.
    pub(crate) fn tick(&mut self, left: i64) -> Result<i64> {
        let used = self.used(left);
        let more = match self.fuel {
            Some(limit) => limit.checked_sub(used).ok_or(ErrorKind::OutOfFuel { limit, used, export: None })?,
            None => TURNS,
        };
        let now = self.now();
        self.leave(now);
        self.in_time_at(now)?;
        let more = more.min(SLICE);
        self.granted = self.spent(left).saturating_add(more);
        Ok(more as i64)
    }

    pub(crate) fn overflow(&self, left: i64) -> Error {
        let limit = self.height;
        let depth = u64::from(limit).saturating_add_signed(left.saturating_neg());
        ErrorKind::TooDeep { limit, depth: u32::try_from(depth).unwrap_or(u32::MAX), export: None }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a budget with a limit on time, whose latest check allows `calls` calls of host functions.
    fn quick(calls: u32) -> Budget {
        let mut budget = Budget::new(&Limits::default().with_timeout(Duration::from_secs(60)), None);
        budget.host_call().expect("the first is in time");
        budget.between = calls;
        budget.allow();
        budget
    }

    #[test]
    fn quick_host_functions_of_several_calls_share_a_check_of_the_clock() {
        let mut budget = quick(2);
        let before = budget.host_calls();
        for call in 0..2 {
            budget.begin(0).expect("nobody cancels it");
            budget.host_call().expect("it is allowed");
            assert!(matches!(budget.clock.get(), Clock::Unread), "{call}");
        }
        assert_eq!(budget.host_calls(), before + 2);
        budget.host_call().expect("it is in time");
        assert!(budget.limit().is_some(), "the time has begun");
    }

    #[test]
    fn a_call_makes_few_calls_of_host_functions_before_its_time_begins() {
        let mut budget = quick(CALLS);
        let before = budget.host_calls();
        budget.begin(0).expect("nobody cancels it");
        assert_eq!(budget.host_calls(), before);
        for call in 0..FIRST_CALLS {
            budget.host_call().expect("it is allowed");
            assert!(matches!(budget.clock.get(), Clock::Unread), "{call}");
        }
        budget.host_call().expect("it is in time");
        assert!(budget.limit().is_some(), "the time has begun");
        assert_eq!(budget.host_calls(), before + u64::from(FIRST_CALLS) + 1);
    }

    #[test]
    fn a_wait_ends_with_the_time_of_a_call_that_has_not_begun() {
        let mut budget = Budget::new(&Limits::default().with_timeout(Duration::from_millis(1)), None);
        budget.begin(0).expect("nobody cancels it");
        let error = budget.wait(Duration::from_secs(3600)).expect_err("it is an hour");
        assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error}");
    }

    #[test]
    fn the_time_of_a_call_begins_when_a_host_function_asks_for_its_end() {
        let mut budget = quick(1);
        budget.begin(0).expect("nobody cancels it");
        assert_eq!(budget.limit(), None);
        let deadline = budget.deadline();
        assert!(deadline.is_some_and(|deadline| deadline > Instant::now()));
        assert_eq!(budget.deadline(), deadline);
        budget.begin(0).expect("nobody cancels it");
        budget.in_time_so_far().expect("the time has not begun");
        assert_eq!(budget.limit(), None);
        budget.in_time().expect("it is in time");
        assert!(budget.limit().is_some());
    }

    #[test]
    fn a_new_handle_is_checked_before_the_next_host_function() {
        let mut budget = quick(64);
        let calls = budget.host_calls();
        budget.set_cancel_handle(Some(CancelHandle::with_deadline(Instant::now())));
        budget.begin(0).expect("nobody has noticed yet");
        let error = budget.host_call().expect_err("it is too late");
        assert_eq!(*error.kind(), ErrorKind::Cancelled { export: None });
        assert_eq!(budget.host_calls(), calls);
    }
}

//! What a session has used of its limits.

use std::thread;
use std::time::{Duration, Instant};

use crate::cancel::CancelHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use mistletoe_module::TURNS;

/// How much fuel is handed out at once. On the slowest engine it lasts for some milliseconds: so often a clock is
/// looked at, and so much is left out of the count at most where a guest traps.
const SLICE: u64 = 100_000;

/// How many calls of host functions there are at most between two looks at the clock, since one is dear beside a short
/// function.
const CALLS: u32 = 64;
/// Where so many took no longer than this, twice as many may the next time; else one.
const QUICK: Duration = Duration::from_micros(500);

/// When a call has to end.
#[derive(Clone, Copy, Debug)]
enum Clock {
    /// Not known yet: to read a clock is dear beside a short call.
    Unread,
    Deadline(Option<Instant>),
}

/// The limits of a session, and what was used of them.
#[derive(Debug)]
pub(crate) struct Budget {
    timeout: Option<Duration>,
    fuel: Option<u64>,
    height: u32,
    clock: Clock,
    /// Fuel that was ever handed out.
    granted: u64,
    /// Fuel that was used before the current call.
    before: u64,
    /// How many host functions may be called until the clock is looked at, how many could the last time, and when that
    /// was.
    calls: u32,
    between: u32,
    looked: Option<Instant>,
    /// Looked at as often as the clock.
    pub(crate) cancel: Option<CancelHandle>,
}

impl Budget {
    pub(crate) fn new(limits: &Limits, cancel: Option<CancelHandle>) -> Self {
        let Limits { timeout, fuel, .. } = *limits;
        Self {
            timeout,
            fuel,
            height: limits.stack.unwrap_or_default(),
            clock: Clock::Unread,
            granted: 0,
            before: 0,
            calls: 0,
            between: 0,
            looked: None,
            cancel,
        }
    }

    /// Whether it has to know when a call begins.
    pub(crate) fn is_limited(&self) -> bool {
        self.timeout.is_some() || self.cancel.is_some()
    }

    /// A call begins. `left` is what is at hand of the fuel, where it is counted.
    pub(crate) fn begin(&mut self, left: i64) -> Result<()> {
        self.before = self.spent(left);
        self.clock = Clock::Unread;
        (self.calls, self.between) = (0, 0);
        self.cancelled()
    }

    #[inline]
    fn cancelled(&self) -> Result<()> {
        self.cancel.as_ref().map_or(Ok(()), CancelHandle::check)
    }

    /// The guest has left its own code. Where it does for the first time in a call, the call's time begins: it has used
    /// no more than a slice of fuel till then.
    fn leave(&mut self) {
        if matches!(self.clock, Clock::Unread) {
            self.looked = self.timeout.map(|_| Instant::now());
            // A time that is never reached is no limit.
            let deadline = self.looked.zip(self.timeout).and_then(|(now, timeout)| now.checked_add(timeout));
            self.clock = Clock::Deadline(deadline);
        }
    }

    /// The guest calls a host function. How long the last one took is not known: a guest that calls such as take their
    /// time is not to go on for long when its own is over.
    #[inline]
    pub(crate) fn host_call(&mut self) -> Result<()> {
        // At every call, since it costs no more than a load, and only where there is a handle.
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
        if matches!(self.clock, Clock::Unread) {
            self.leave();
            self.calls = self.between;
            return Ok(());
        }
        let quick = match (self.timeout, self.looked) {
            (Some(_), Some(before)) => {
                let now = Instant::now();
                self.looked = Some(now);
                now.duration_since(before) < QUICK
            }
            _ => true,
        };
        self.between = if quick { (self.between * 2).clamp(1, CALLS) } else { 0 };
        self.calls = self.between;
        self.in_time()
    }

    /// All that was ever used, with so much left at hand.
    fn spent(&self, left: i64) -> u64 {
        self.granted.saturating_add_signed(left.saturating_neg())
    }

    /// What the current call has used.
    pub(crate) fn used(&self, left: i64) -> u64 {
        self.spent(left).saturating_sub(self.before)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.clock {
            Clock::Unread => None,
            Clock::Deadline(deadline) => deadline,
        }
    }

    pub(crate) fn in_time(&self) -> Result<()> {
        self.cancelled()?;
        match (self.deadline(), self.timeout) {
            (Some(deadline), Some(timeout)) if Instant::now() >= deadline => {
                Err(ErrorKind::TimedOut { limit: timeout, export: None }.into())
            }
            _ => Ok(()),
        }
    }

    /// Waits for so long, but not beyond the call's end.
    pub(crate) fn wait(&self, time: Duration) -> Result<()> {
        let left = self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = left.map_or(time, |left| left.min(time));
        match &self.cancel {
            Some(handle) => _ = handle.wait(time),
            None => thread::sleep(time),
        }
        self.in_time()
    }

    /// What was at hand is spent: hands out more.
    pub(crate) fn tick(&mut self, left: i64) -> Result<i64> {
        let used = self.used(left);
        let more = match self.fuel {
            Some(limit) => limit.checked_sub(used).ok_or(ErrorKind::OutOfFuel { limit, used, export: None })?,
            None => TURNS,
        };
        self.leave();
        self.in_time()?;
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

//! Many calls of one session: whether its outputs stay the same, and whether its memory comes to rest.

use std::ops::Range;
use std::time::{Duration, Instant};

use mistletoe::guest::Span;
use mistletoe::wasi::Wasi;
use mistletoe::{AnyProgram, AnyProgramSession, Error, Result};

use crate::check::probe::{Output, Probe, Request};
use crate::log;

/// Number of calls that a check should make.
pub(crate) const CALLS: usize = 1_000;
/// Number of calls that it makes if they are quick. A package that forgets 8 bytes in each of them needs a further page
/// within half of them, however its allocator places blocks.
const QUICK_CALLS: usize = 16 * CALLS;
/// Maximum number of calls, where the memory still grows.
const MAX_CALLS: usize = 64 * CALLS;
const PAGE: u64 = 65_536;
/// The index of the memory's size in [`Repetition::growth`].
const MEMORY: usize = 2;
/// Number of calls that say nothing of a leak yet.
const FEW: usize = 50;
/// Lengths of the blocks that are allocated now and then. Where an allocator keeps blocks apart by their size, a leak
/// moves those of its own size only.
const SIZES: [u32; 7] = [8, 16, 32, 64, 128, 256, 512];

/// Number of the last calls whose fuel counts.
const LATE: usize = 10;

/// What a call left behind.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Size of the memory, in bytes.
    memory: u64,
    /// The end of the input or output, whichever is higher.
    end: u64,
    fuel: u64,
}

/// What many calls of one session showed.
#[derive(Debug, Default)]
pub(crate) struct Repetition {
    /// Size of the memory after the session was opened, in bytes.
    pub(crate) initial: u64,
    samples: Vec<Sample>,
    /// The ends of the blocks of each of [`SIZES`], and the number of calls before.
    marks: Vec<(usize, Vec<u64>)>,
    /// The call whose output was the first to differ, counted from 1.
    pub(crate) changed: Option<usize>,
    /// The call that failed, counted from 1.
    pub(crate) failed: Option<(usize, Error)>,
    /// The number of calls after which allocating or freeing failed.
    pub(crate) corrupt: Option<(usize, Error)>,
    /// The call that freed with a trap, and what it freed.
    pub(crate) freeing: Option<(usize, &'static str, Error)>,
    /// Whether an output lay in the memory of its input.
    pub(crate) aliased: bool,
    /// The longest call.
    pub(crate) slowest: Duration,
    /// Whether there was no time for all calls.
    pub(crate) cut: bool,
}

/// A leak, or what looks like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leak {
    /// Bytes per call, at least 1.
    pub(crate) bytes: u64,
    /// Whether there were enough calls to know.
    pub(crate) certain: bool,
}

impl Repetition {
    /// Makes calls until the memory has come to rest, there were enough of them, or the time is over.
    ///
    /// Calls that take longer than until `soon` are not quick.
    pub(crate) fn run(
        program: &AnyProgram<Probe, Wasi>,
        (input, expected): (&str, &str),
        soon: Instant,
        until: Instant,
    ) -> Result<Self> {
        let mut session = program.session_with(log::discarded(u64::MAX).build())?;
        let mut this = Self { initial: session.memory_size(), ..Self::default() };
        let mut goal = CALLS;
        loop {
            let checkpoint = [goal / 4, goal / 2, goal].into_iter().find(|n| *n > this.samples.len()).unwrap_or(goal);
            while this.samples.len() < checkpoint {
                if Instant::now() >= until {
                    this.cut = true;
                    return Ok(this);
                }
                if !this.call(&mut session, input, expected)? {
                    return Ok(this);
                }
            }
            if !this.mark(&mut session) {
                return Ok(this);
            }
            if this.samples.len() >= goal {
                let enough = goal >= QUICK_CALLS || Instant::now() >= soon;
                if (enough && !this.rises()) || goal >= MAX_CALLS {
                    return Ok(this);
                }
                goal *= 2;
            }
        }
    }

    /// Makes one call. Returns whether another one makes sense.
    fn call(&mut self, session: &mut AnyProgramSession<Probe, Wasi>, input: &str, expected: &str) -> Result<bool> {
        let number = self.samples.len() + 1;
        let begin = Instant::now();
        let call = match session.call(Request::Generate { input, expected }) {
            Ok(Output::Call(call)) => call,
            Ok(Output::Blocks(_)) => return Ok(false),
            Err(error) => {
                self.failed = Some((number, error));
                return Ok(false);
            }
        };
        self.slowest = self.slowest.max(begin.elapsed());
        if !call.same {
            self.changed.get_or_insert(number);
        }
        self.aliased |= overlap(&range(&call.input), &range(&call.output));
        let end = end(&call.input).max(end(&call.output));
        self.samples.push(Sample {
            memory: session.memory_size(),
            end,
            fuel: session.fuel_used()?.unwrap_or_default(),
        });
        let freed = call.freeing.is_none();
        self.freeing = call.freeing.map(|(block, error)| (number, block, error));
        Ok(freed)
    }

    /// Notes where the allocator has room. Returns whether the session can go on.
    fn mark(&mut self, session: &mut AnyProgramSession<Probe, Wasi>) -> bool {
        match session.call(Request::Blocks(&SIZES)) {
            Ok(Output::Blocks(blocks)) => {
                self.marks.push((self.samples.len(), blocks.iter().map(end).collect()));
                true
            }
            Ok(Output::Call(_)) => false,
            Err(error) => {
                self.corrupt = Some((self.samples.len(), error));
                false
            }
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.samples.len()
    }

    /// Returns the size of the memory after this many calls, in bytes, if there were as many.
    pub(crate) fn memory_after(&self, calls: usize) -> Option<u64> {
        self.samples.get(calls.checked_sub(1)?).map(|sample| sample.memory)
    }

    /// Returns the size of the memory at the end, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.samples.last().map_or(self.initial, |sample| sample.memory)
    }

    /// Returns the most fuel that a call used.
    pub(crate) fn most_fuel(&self) -> u64 {
        self.samples.iter().map(|sample| sample.fuel).max().unwrap_or_default()
    }

    /// Returns the fuel of the tenth call, and the least of the last [`LATE`] calls after it, if there are any.
    ///
    /// A garbage collector makes some calls far more expensive than others, and how many calls there are depends on time.
    pub(crate) fn fuel(&self) -> Option<(u64, u64)> {
        let early = self.samples.get(9)?;
        let late = self.samples.get(10..)?.iter().rev().take(LATE);
        Some((early.fuel, late.map(|sample| sample.fuel).min()?))
    }

    /// Returns the highest end of an input or output among these calls.
    fn highest(&self, from: usize, to: usize) -> u64 {
        self.samples.get(from..to).unwrap_or_default().iter().map(|sample| sample.end).max().unwrap_or_default()
    }

    /// Returns the bytes that were newly taken in the second half of the first `calls` calls.
    ///
    /// They are what the addresses of inputs and outputs show, those of blocks, and the size of the memory.
    fn growth(&self, calls: usize) -> [u64; 3] {
        let half = calls / 2;
        let addresses = self.highest(half, calls).saturating_sub(self.highest(half / 2, half));
        let at =
            |calls| self.marks.iter().find(|(n, _)| *n == calls).map(|(_, ends)| ends.as_slice()).unwrap_or_default();
        let moved = at(half).iter().zip(at(calls)).map(|(early, late)| late.saturating_sub(*early)).max();
        let memory = |calls| self.memory_after(calls).unwrap_or(self.initial);
        [addresses, moved.unwrap_or_default(), memory(calls).saturating_sub(memory(half))]
    }

    fn rises(&self) -> bool {
        self.growth(self.calls()).iter().any(|bytes| *bytes > 0)
    }

    /// Returns the leak that the calls show, if they show one.
    ///
    /// A package that still warms up takes ever less memory, or none at some time. One that leaks takes twice as much
    /// in twice as many calls.
    pub(crate) fn leak(&self) -> Option<Leak> {
        let calls = self.calls();
        if calls < FEW {
            return None;
        }
        let (late, early) = (self.growth(calls), self.growth(calls / 2));
        let half = (calls - calls / 2).max(1) as u64;
        let leaks = |index: usize| -> Option<u64> {
            let (late, early) = (*late.get(index)?, *early.get(index)?);
            // Pages come in steps, so that a half may have one more or less.
            let slack = if index == MEMORY { 2 * PAGE } else { 0 };
            let linear = late > 0 && late + slack >= early + early / 2 && (early > 0 || index == MEMORY);
            linear.then(|| (late / half).max(1))
        };
        // Addresses are exact, but only those of the blocks that an allocator puts next to the forgotten ones. The size
        // of the memory includes all, and is exact where it grew by many pages.
        let [.., pages] = late;
        let bytes = leaks(MEMORY).filter(|_| pages >= 8 * PAGE).or_else(|| leaks(0)).or_else(|| leaks(1));
        let bytes = bytes.or_else(|| leaks(MEMORY))?;
        Some(Leak { bytes, certain: calls >= MAX_CALLS || self.failed.is_some() })
    }
}

/// Returns the address after a range.
fn end(span: &Span) -> u64 {
    u64::from(span.address) + u64::from(span.length)
}

/// Returns the addresses of a block.
pub(crate) fn range(span: &Span) -> Range<u64> {
    u64::from(span.address)..end(span)
}

/// Returns whether two ranges have a byte in common.
pub(crate) fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    !one.is_empty() && !other.is_empty() && one.start < other.end && other.start < one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repetition whose memory and addresses are these functions of the number of calls.
    fn repetition(calls: usize, memory: impl Fn(u64) -> u64, end: impl Fn(u64) -> u64) -> Repetition {
        let sample = |n: usize| Sample { memory: memory(n as u64), end: end(n as u64), fuel: 1 };
        let samples = (1..=calls).map(sample).collect();
        Repetition { samples, initial: memory(0), ..Repetition::default() }
    }

    fn pages(bytes: u64) -> u64 {
        bytes.div_ceil(65_536) * 65_536
    }

    #[test]
    fn one_expensive_call_at_the_end_does_not_count() {
        let fuel = |calls: u64, fuel: fn(u64) -> u64| {
            let samples = (1..=calls).map(|n| Sample { memory: 0, end: 0, fuel: fuel(n) }).collect();
            Repetition { samples, ..Repetition::default() }.fuel()
        };
        // A collection in every hundredth call, which is the last one.
        assert_eq!(fuel(1_000, |n| if n % 100 == 0 { 50 } else { 5 }), Some((5, 5)));
        assert_eq!(fuel(1_000, |n| n), Some((10, 991)));
        assert_eq!((fuel(11, |n| n), fuel(10, |n| n)), (Some((10, 11)), None));
    }

    #[test]
    fn what_grows_with_the_calls_is_a_leak_and_a_warm_up_is_not() {
        let leak = |r: Repetition| r.leak().map(|leak| leak.bytes);
        // 16 bytes in each call, seen in the addresses long before the memory grows.
        assert_eq!(leak(repetition(1_000, |_| 65_536, |n| 4_096 + 16 * n)), Some(16));
        assert_eq!(leak(repetition(64_000, |n| pages(16 * n), |_| 100)), Some(16));
        // A heap that grows to 4 MiB before anything is collected.
        let heap = |n: u64| (1_000 * n).min(4 << 20);
        assert_eq!(leak(repetition(16_000, |n| pages(heap(n)), heap)), None);
        // A list with 16 bytes for each call, which doubles when it is full.
        assert_eq!(leak(repetition(1_000, |_| 65_536, |n| 16 * n.next_power_of_two())), Some(16));
        assert_eq!(leak(repetition(1_000, |_| 65_536, |_| 100)), None);
        // The first calls alone.
        assert_eq!(leak(repetition(1_000, |_| 65_536, |n| 100 + n.min(10))), None);
        assert_eq!(leak(Repetition::default()), None);
    }

    #[test]
    fn ranges_overlap_only_in_bytes() {
        let span = |address, length| range(&Span { address, length });
        assert!(overlap(&span(8, 4), &span(11, 1)));
        assert!(!overlap(&span(8, 4), &span(12, 4)));
        assert!(!overlap(&span(8, 4), &span(9, 0)));
        assert!(overlap(&span(u32::MAX, 10), &span(u32::MAX, 1)));
    }
}

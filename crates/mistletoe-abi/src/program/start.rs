//! Sessions that begin where the start of another one ended.
//!
//! What a guest does before its first request is the same in every session, as long as its host functions return the
//! same. The first session of a program starts as any guest does. If that took some time, the second one records its
//! start: the calls of host functions with what they returned, and what has changed in the memory and in the globals by
//! the end. Each further session makes the same calls, on its own state. If all of them return what was recorded, the
//! session gets the recorded memory and globals. If one does not, the guest starts as it would without a record, and
//! gets what the calls have returned already.
//!
//! A start that cannot be repeated exactly is not recorded: one that calls a host function that is not
//! [repeatable](crate::Imports::repeatable_func), that fails, or whose module can change tables or drop segments.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use crate::backend::instance::Instance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::guest::Guest;
use crate::host::opening::{Call, Opening};
use crate::limits::budget::Start;
use crate::module::InternalExports;
use crate::module::declared::PAGE;
use crate::types::{FuncType, ValType};

/// The largest memory that is recorded, in bytes, and the most bytes of it that are kept.
const MAX_MEMORY: usize = 64 << 20;
const MAX_CHANGED: usize = 16 << 20;
/// A start that takes less time is not recorded.
const SHORT: Duration = Duration::from_micros(30);
/// Bytes that are compared at once.
const PIECE: usize = 512;
/// After so many sessions whose calls returned something else, the record is used no more.
const MAX_MISSES: u32 = 16;

/// The starts of one program's sessions, with the same limits.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    /// The number of sessions that have started without a record.
    begun: AtomicU32,
    /// Set once it is known whether there is a record.
    record: OnceLock<Option<Record>>,
    misses: AtomicU32,
    /// Length of the memory of the last session that has started without a record; 0 if there is none.
    length: AtomicUsize,
}

/// How a session starts.
pub(crate) enum Plan<'a> {
    /// As a guest does by itself.
    Plain,
    /// The same, and the time is taken.
    Timed,
    /// The same, and the start is recorded.
    Record,
    /// Where a recorded start ended.
    From(&'a Record),
}

/// A start, and what it led to.
#[derive(Debug)]
pub(crate) struct Record {
    calls: Vec<Call>,
    /// The length of the memory at the beginning, and at the end.
    length: usize,
    grown: usize,
    /// The ranges of the memory that differ from a new instance's: each its address and its bytes.
    changed: Vec<(usize, Box<[u8]>)>,
    /// What `save` wrote.
    globals: Box<[u8]>,
    budget: Start,
}

impl Starts {
    /// Returns how the next session starts. `timeout` is the limit on its time.
    pub(crate) fn plan(&self, internal: &InternalExports, timeout: Option<Duration>) -> Plan<'_> {
        // No time at all is too little for any start, also for one that takes none.
        if internal.save.is_none() || timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Plan::Plain;
        }
        match self.record.get() {
            Some(Some(record)) if self.misses.load(Ordering::Relaxed) < MAX_MISSES => Plan::From(record),
            Some(_) => Plan::Plain,
            // A program with a single session gains nothing from a record.
            None if self.begun.fetch_add(1, Ordering::Relaxed) == 1 => Plan::Record,
            None => Plan::Timed,
        }
    }

    /// Notes how long a start took, and how long the memory was in the end.
    pub(crate) fn took(&self, time: Duration, length: usize) {
        self.length.store(length, Ordering::Relaxed);
        if time < SHORT {
            self.keep(None);
        }
    }

    /// Keeps the record of a session that has started, if there is one.
    ///
    /// A memory of another length than in the session before may be one that could not grow at that moment. If that
    /// session is still starting, the length is not known.
    pub(crate) fn keep(&self, record: Option<Record>) {
        let length = self.length.load(Ordering::Relaxed);
        let _ = self.record.set(record.filter(|record| length == 0 || record.grown == length));
    }

    /// Notes that the session with the record failed to open.
    pub(crate) fn failed(&self, error: &ErrorKind) {
        match error {
            // Another session has another handle, and more time.
            ErrorKind::Cancelled { .. } | ErrorKind::TimedOut { .. } => self.begun.store(1, Ordering::Relaxed),
            _ => self.keep(None),
        }
    }

    pub(crate) fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }
}

/// The memory of a guest before it starts.
pub(crate) struct Before(Vec<u8>);

impl Before {
    /// Begins to record a guest that has not started. `None` if its memory is too large.
    pub(crate) fn new<I: Instance>(guest: &mut Guest<I>) -> Option<Self> {
        let memory = guest.memory();
        if memory.len() > MAX_MEMORY {
            return None;
        }
        // Without room for a copy, it starts as it would otherwise.
        let mut before = Vec::new();
        before.try_reserve_exact(memory.len()).ok()?;
        before.extend_from_slice(memory);
        let before = Self(before);
        guest.data_mut().opening = Some(Box::new(Opening::recording()));
        Some(before)
    }

    /// Returns the record of a guest that has started, if it can be repeated.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    pub(crate) fn record<I: Instance>(
        self,
        guest: &mut Guest<I>,
        internal: &InternalExports,
    ) -> Result<Option<Record>> {
        let opening = guest.data_mut().opening.take();
        let Some(calls) = opening.and_then(|opening| opening.into_record()) else { return Ok(None) };
        // Every call was one of those that are recorded.
        if calls.len() as u64 != guest.data().budget.host_calls() {
            return Ok(None);
        }
        let Some(globals) = globals(guest, internal)? else { return Ok(None) };
        let Some(changed) = changed(&self.0, guest.memory()) else { return Ok(None) };
        let (length, grown) = (self.0.len(), guest.memory().len());
        // Where the globals are read from.
        if length < globals.len() {
            return Ok(None);
        }
        let budget = guest.data().budget.start();
        Ok(Some(Record { calls, length, grown, changed, globals, budget }))
    }
}

/// Returns the ranges of a memory that differ from what it was, or from zeros if it was shorter.
fn changed(before: &[u8], memory: &[u8]) -> Option<Vec<(usize, Box<[u8]>)>> {
    if memory.len() > MAX_MEMORY {
        return None;
    }
    let zeros = [0; PIECE];
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let mut total = 0;
    for (address, piece) in (0..).step_by(PIECE).zip(memory.chunks(PIECE)) {
        let was = before.get(address..address + piece.len()).or_else(|| zeros.get(..piece.len()));
        if was == Some(piece) {
            continue;
        }
        total += piece.len();
        if total > MAX_CHANGED {
            return None;
        }
        match ranges.last_mut() {
            Some((_, end)) if *end == address => *end += piece.len(),
            _ => ranges.push((address, address + piece.len())),
        }
    }
    let kept = |(start, end): (usize, usize)| (start, memory.get(start..end).unwrap_or_default().into());
    Some(ranges.into_iter().map(kept).collect())
}

/// Returns the globals of a guest as `save` writes them. `None` if they are not all of its state, or do not fit.
fn globals<I: Instance>(guest: &mut Guest<I>, internal: &InternalExports) -> Result<Option<Box<[u8]>>> {
    let Some(save) = &internal.save else { return Ok(None) };
    // What it writes fits in a page.
    let Some(page) = guest.memory().get(..PAGE as usize).map(<[u8]>::to_vec) else { return Ok(None) };
    let saved = guest.call_internal(save, &FuncType::new(&[], &[ValType::I64]), 0)?;
    let globals = usize::try_from(saved.cast_signed()).ok().and_then(|saved| guest.memory().get(..saved));
    let globals = globals.map(Box::from);
    write(guest.memory_mut(), 0, &page);
    Ok(globals)
}

/// Writes to a range that is in the memory.
fn write(memory: &mut [u8], address: usize, bytes: &[u8]) {
    if let Some(range) = memory.get_mut(address..address + bytes.len()) {
        range.copy_from_slice(bytes);
    }
}

impl Record {
    /// Begins a session where the recorded start ended.
    ///
    /// Returns `false` if the guest has to start by itself. What host functions were called for it is then not called
    /// again.
    ///
    /// # Errors
    ///
    /// Those of the host functions, as the guest's start would return them.
    pub(crate) fn begin<I: Instance>(&self, guest: &mut Guest<I>, internal: &InternalExports) -> Result<bool> {
        for (i, call) in self.calls.iter().enumerate() {
            let made = call.repeat(guest.data_mut())?;
            if !made.is_as(&call.made) {
                let same = self.calls.iter().take(i).cloned();
                let calls = same.chain([call.with(made)]).collect();
                guest.data_mut().opening = Some(Box::new(Opening::of(calls)));
                return Ok(false);
            }
        }
        if !self.write(guest, internal)? {
            let calls = self.calls.iter().cloned().collect();
            guest.data_mut().opening = Some(Box::new(Opening::of(calls)));
            return Ok(false);
        }
        let budget = &mut guest.data_mut().budget;
        budget.started_as(&self.budget);
        // A guest that starts by itself ticks after its calls.
        match (budget.in_time_so_far(), self.calls.last().and_then(|call| call.export)) {
            (Err(error), Some(export)) => Err(error.in_export(export)),
            (result, _) => result.map(|()| true),
        }
    }

    /// Writes the state to a new instance. Returns `false`, and leaves it as it is, if its memory cannot grow.
    fn write<I: Instance>(&self, guest: &mut Guest<I>, internal: &InternalExports) -> Result<bool> {
        let Some(load) = &internal.load else { return Ok(false) };
        let memory = guest.memory_mut();
        let is_new = memory.len() == self.length;
        let Some(front) = memory.get_mut(..self.globals.len()).filter(|_| is_new) else { return Ok(false) };
        let kept = front.to_vec();
        front.copy_from_slice(&self.globals);
        let pages = self.grown.saturating_sub(self.length) as u64 / PAGE;
        let loaded = guest.call_internal(load, &FuncType::new(&[ValType::I64], &[ValType::I64]), pages)?;
        let memory = guest.memory_mut();
        write(memory, 0, &kept);
        if loaded == 0 {
            return Ok(false);
        }
        if memory.len() != self.grown {
            return Err(Error::engine(Operation::Call, "the memory has another size than it grew to"));
        }
        self.changed.iter().for_each(|(address, bytes)| write(memory, *address, bytes));
        Ok(true)
    }
}

//! The bounds of a request, and what it uses within them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mistletoe_abi::CancelHandle;

use crate::protocol::Status;

/// What ends a request before its guests do: its time, and a handle that cancels it.
///
/// Its clones belong to the same request.
#[derive(Clone, Debug)]
pub struct Bounds {
    limit: Duration,
    end: Option<Instant>,
    cancel: CancelHandle,
    used: Arc<Counters>,
}

/// What plugins have used for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Used {
    /// The units of fuel of all calls, of plugins whose fuel is limited; `None` if there is no such plugin.
    pub fuel: Option<u64>,
    /// The size of the largest memory of an instance, in bytes.
    pub memory: u64,
}

#[derive(Debug, Default)]
struct Counters {
    is_fuel_counted: AtomicBool,
    fuel: AtomicU64,
    memory: AtomicU64,
}

impl Bounds {
    /// Returns the bounds of a request that begins now.
    pub fn new(time_limit: Duration) -> Self {
        let end = Instant::now().checked_add(time_limit);
        let cancel = end.map_or_else(CancelHandle::new, CancelHandle::with_deadline);
        Self { limit: time_limit, end, cancel, used: Arc::default() }
    }

    /// Returns the handle that cancels the request with its call under way, at the end of its time by itself. The
    /// instances of a cancelled request are closed.
    pub fn cancel_handle(&self) -> &CancelHandle {
        &self.cancel
    }

    /// Returns when the time is over, if that can be represented.
    pub fn end(&self) -> Option<Instant> {
        self.end
    }

    /// Returns what the plugins have used so far.
    pub fn used(&self) -> Used {
        let Counters { is_fuel_counted, fuel, memory } = &*self.used;
        Used {
            fuel: is_fuel_counted.load(Ordering::Relaxed).then(|| fuel.load(Ordering::Relaxed)),
            memory: memory.load(Ordering::Relaxed),
        }
    }

    pub(super) fn count_fuel(&self, units: u64) {
        self.used.is_fuel_counted.store(true, Ordering::Relaxed);
        self.used.fuel.fetch_add(units, Ordering::Relaxed);
    }

    /// Counts the memory of an instance.
    pub(super) fn count_memory(&self, bytes: u64) {
        self.used.memory.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Returns why the request is over, if it is.
    pub(super) fn over(&self) -> Option<Status> {
        self.cancel.is_cancelled().then(|| match self.end {
            Some(end) if Instant::now() >= end => {
                Status::error(format!("the request takes more than {:?}", self.limit))
            }
            _ => Status::error("the request was cancelled"),
        })
    }
}

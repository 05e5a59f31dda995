//! The faults: each is one plausible mistake of a host.
//!
//! A fault replaces one part of a host that is otherwise correct ([`SOUND`](crate::faulty::SOUND)). The self-test
//! requires a case that catches it. Each module holds the faults in one area, sorted by what the host gets wrong, and
//! their helpers.

mod cgi;
mod errors;
mod freeing;
mod host_failures;
mod host_values;
mod lengths;
mod limits;
mod memory;
mod middleware;
mod modules;
mod output;
mod plugins;
mod scheduler;
mod sessions;
mod start;
mod text;
mod traps;
mod wasi;

use std::cell::Cell;

use mistletoe::protocol::Region;
use mistletoe::types::Problem;
use mistletoe::{Error, ErrorKind, Result};

use crate::faulty::{Fault, Guest, Step};

thread_local! {
    /// An error that is hidden from the layer.
    static HELD: Cell<Option<Error>> = const { Cell::new(None) };
    /// How many calls of a host function were made.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Returns all faults in the order of the self-test.
///
/// The faults in the layer and the engine come first, then those in WASI, in CGI, and in the instrumentation of limits.
pub(crate) fn all() -> impl Iterator<Item = &'static Fault> {
    let areas = [
        freeing::FAULTS,
        lengths::FAULTS,
        memory::FAULTS,
        start::FAULTS,
        traps::FAULTS,
        text::FAULTS,
        output::FAULTS,
        errors::FAULTS,
        sessions::FAULTS,
        modules::FAULTS,
        host_values::FAULTS,
        host_failures::FAULTS,
        plugins::FAULTS,
        middleware::FAULTS,
        scheduler::LACKING,
        scheduler::UNCALLED,
        scheduler::FAULTS,
        wasi::FAULTS,
        cgi::FAULTS,
    ];
    areas.into_iter().chain(limits::AREAS.iter().copied()).flatten()
}

/// Makes one call of the protocol twice.
fn twice(guest: &mut Guest, which: Step, step: Step, params: &[u32]) -> Result<u32> {
    let result = guest.call(step, params)?;
    if step == which { guest.call(step, params) } else { Ok(result) }
}

fn other_region(error: ErrorKind, other: fn(Region) -> Region) -> ErrorKind {
    match error {
        ErrorKind::OutOfBounds { region, address, length, memory } => {
            ErrorKind::OutOfBounds { region: other(region), address, length, memory }
        }
        ErrorKind::InvalidUtf8 { region, offset } => ErrorKind::InvalidUtf8 { region: other(region), offset },
        ErrorKind::TooLong { region, length, limit } => ErrorKind::TooLong { region: other(region), length, limit },
        error => error,
    }
}

/// Ignores some problems. Accepts the module if there is no other.
fn without(error: ErrorKind, overlooked: impl Fn(&Problem) -> bool) -> Option<ErrorKind> {
    match error {
        ErrorKind::Interface { mut problems } => {
            problems.retain(|problem| !overlooked(problem));
            (!problems.is_empty()).then_some(ErrorKind::Interface { problems })
        }
        other => Some(other),
    }
}

/// Makes calls, but hides some of their errors from the layer, so that it continues to use the instance.
fn held(guest: &mut Guest, step: Step, params: &[u32], which: fn(&Error) -> bool) -> Result<u32> {
    if let Some(error) = HELD.take() {
        // Until the host's call ends, further calls of the guest do nothing.
        HELD.set(Some(error));
        return Ok(0);
    }
    match guest.call(step, params) {
        Err(error) if !matches!(step, Step::Start | Step::Initialize) && which(&error) => {
            HELD.set(Some(error));
            Ok(0)
        }
        result => result,
    }
}

/// Makes a call, unless it is skipped, with 0 as its result.
fn skipped(skips: bool, slots: &mut [u64], call: &mut dyn FnMut(&mut [u64]) -> Result<()>) -> Result<()> {
    if !skips {
        return call(slots);
    }
    zeroed(slots)
}

/// Returns 0 as the result of a host function, if it has one.
fn zeroed(slots: &mut [u64]) -> Result<()> {
    if let [slot, ..] = slots {
        *slot = 0;
    }
    Ok(())
}

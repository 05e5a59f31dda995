//! The faults: each one plausible mistake of a host's, and nothing else wrong.
//!
//! A fault replaces one part of a host that is right otherwise ([`SOUND`](crate::faulty::SOUND)). The self-test wants a
//! case that catches it. Each module here has the faults in one area, by what the host gets wrong, and what only they
//! need.

mod errors;
mod freeing;
mod host_failures;
mod host_values;
mod lengths;
mod limits;
mod memory;
mod modules;
mod output;
mod plugins;
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
    /// An error that the layer was not told of.
    static HELD: Cell<Option<Error>> = const { Cell::new(None) };
    /// How many calls of a host function there were.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// All faults, in the order in which the self-test names them: those in the layer and the engine, those in WASI, and
/// those in what limits put into code.
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
        wasi::FAULTS,
    ];
    areas.into_iter().chain(limits::AREAS.iter().copied()).flatten()
}

/// Makes one call of the protocol's twice.
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

/// Overlooks some problems; without any other the module is taken.
fn without(error: ErrorKind, overlooked: impl Fn(&Problem) -> bool) -> Option<ErrorKind> {
    match error {
        ErrorKind::Interface { mut problems } => {
            problems.retain(|problem| !overlooked(problem));
            (!problems.is_empty()).then_some(ErrorKind::Interface { problems })
        }
        other => Some(other),
    }
}

/// Makes calls without telling the layer of some of their errors, so that it goes on with the instance.
fn held(guest: &mut Guest, step: Step, params: &[u32], which: fn(&Error) -> bool) -> Result<u32> {
    if let Some(error) = HELD.take() {
        // Not in this call of the host's, though.
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

//! Faults in limits: each makes one plausible mistake in the instrumentation, or in what the host returns to it.
//!
//! Nothing else would terminate a guest that does not end by itself. So a fault does not remove a check. It delays it
//! by a million units, removes it only where the guest ends, or ignores it a hundred times.

mod charges;
mod counts;

use std::ops::Range;

use crate::faulty::{Fault, i64_const};

const DROP: u8 = 0x1a;

type Change = Option<(Range<usize>, Vec<u8>)>;

pub(super) static AREAS: &[&[Fault]] = &[charges::FAULTS, counts::FAULTS];

/// Compares with a much lower number than 0.
fn late(look: Option<usize>) -> Change {
    look.map(|at| (at..at + 1, i64_const(-1_000_000)))
}

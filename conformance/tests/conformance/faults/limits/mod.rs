//! Faults in limits: each puts one thing into the code, or answers it, as a pass plausibly does that has it wrong.
//!
//! Nothing else would end a guest that does not end by itself. So what should be forgotten comes a million units too late,
//! or is forgotten only where a guest comes to an end, or a hundred times.

mod charges;
mod counts;

use std::ops::Range;

use crate::faulty::{Fault, i64_const};

const DROP: u8 = 0x1a;

type Change = Option<(Range<usize>, Vec<u8>)>;

pub(super) static AREAS: &[&[Fault]] = &[charges::FAULTS, counts::FAULTS];

/// Has what is compared with 0 compared with much less.
fn late(look: Option<usize>) -> Change {
    look.map(|at| (at..at + 1, i64_const(-1_000_000)))
}

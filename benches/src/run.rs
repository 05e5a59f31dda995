//! A group of a benchmark while it is measured.

use std::time::Duration;

use crate::interleaved::{Comparison, Effort};
use crate::measured::Row;

/// The rows and notes of a group, as far as it has been measured.
#[derive(Debug)]
pub struct Run {
    /// Whether a few rounds suffice.
    pub quick: bool,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// The candidates that were measured.
    pub rows: Vec<Row>,
}

impl Run {
    /// Begins a group.
    pub fn new(quick: bool) -> Self {
        Self { quick, notes: Vec::new(), rows: Vec::new() }
    }

    /// Runs the candidates. Their work consists of `pieces` pieces.
    pub fn compare(&mut self, what: &str, engine: &str, pieces: u32, comparison: Comparison<'_>) {
        eprintln!("{what}, {engine}");
        let effort = match self.quick {
            true => Effort { time: Duration::from_millis(500), rounds: [3, 300] },
            false => Effort { time: Duration::from_millis(1500), rounds: [3, 1000] },
        };
        self.compare_for(effort, what, engine, pieces, comparison);
    }

    /// Runs the candidates with this effort.
    pub fn compare_for(&mut self, effort: Effort, what: &str, engine: &str, pieces: u32, comparison: Comparison<'_>) {
        let outcomes = comparison.run_for(effort);
        self.rows.extend(outcomes.into_iter().map(|outcome| Row::new(what, engine, pieces, outcome)));
    }
}

/// Returns a comparison of candidates, with the first as the base.
pub fn candidates<'a>(
    turn: Duration,
    works: impl IntoIterator<Item = (&'a str, Box<dyn FnMut() + 'a>)>,
) -> Comparison<'a> {
    let mut comparison = Comparison::new().turn(turn);
    for (at, (name, work)) in works.into_iter().enumerate() {
        if at == 0 { comparison.base(name, work) } else { comparison.add(name, work) }
    }
    comparison
}

/// Returns a comparison of candidates that measure their own time, with the first as the base.
pub fn timed_candidates<'a>(
    turn: Duration,
    works: impl IntoIterator<Item = (&'a str, Box<dyn FnMut(u32) -> Duration + 'a>)>,
) -> Comparison<'a> {
    let mut comparison = Comparison::new().turn(turn);
    for (at, (name, work)) in works.into_iter().enumerate() {
        if at == 0 { comparison.base_timed(name, work) } else { comparison.add_timed(name, work) }
    }
    comparison
}

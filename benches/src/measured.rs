//! The results, in the format in which they are printed. `xtask/src/bench/measured.rs` reads it.

use serde::Serialize;

use crate::interleaved::Outcome;

/// All results.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Whether only a few rounds were run.
    pub quick: bool,
    /// Whether the build had no debug assertions.
    pub optimised: bool,
    /// Whether other layers were among the candidates.
    pub peers: bool,
    /// In the order of the report.
    pub groups: Vec<Group>,
}

/// The results of one group.
#[derive(Debug, Serialize)]
pub struct Group {
    /// The name that selects the group.
    pub name: &'static str,
    /// The heading.
    pub title: &'static str,
    /// What is measured, as a paragraph of markdown.
    pub about: &'static str,
    /// The heading of the rows' `host`: `host` or `limits`.
    pub column: &'static str,
    /// The unit of the rows' values.
    pub unit: Unit,
    /// What the chart compares.
    pub chart: Chart,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// The candidates.
    pub rows: Vec<Row>,
}

/// The unit of a row's value, and its display.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// Nanoseconds, displayed as a rate per second.
    Rate,
    /// Bytes.
    Bytes,
}

/// What a chart compares.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chart {
    /// The ratios of all rows except the first ones.
    Ratio,
    /// The values, between engines.
    Value,
}

/// One candidate.
///
/// Rows that were measured alternately are adjacent, and have the same `what` and `engine`. The first of them is the
/// base, with the ratio 1. If there is a second base, the rows after it are compared with that one.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was run: a package, a size, a function.
    what: String,
    /// The engine's configuration, by the name of its backend.
    engine: String,
    host: String,
    /// The median of the values for one piece of work.
    value: f64,
    /// The quartiles: half of the values lie between them.
    quartiles: [f64; 2],
    /// The median of the ratios to the base's value in the same round. Above 1 is slower, or more.
    ratio: f64,
    ratio_quartiles: [f64; 2],
    rounds: usize,
}

impl Row {
    /// Returns the row of an outcome whose work consists of `pieces` pieces.
    pub fn new(what: &str, engine: &str, pieces: u32, outcome: Outcome) -> Self {
        let nanoseconds = |seconds: f64| seconds * 1e9 / f64::from(pieces);
        Self {
            what: what.to_owned(),
            engine: engine.to_owned(),
            host: outcome.name,
            value: nanoseconds(outcome.time),
            quartiles: outcome.quartiles.map(nanoseconds),
            ratio: outcome.ratio,
            ratio_quartiles: outcome.ratio_quartiles,
            rounds: outcome.rounds,
        }
    }

    /// Returns the row of a quantity that was counted once.
    pub fn bytes(what: &str, engine: &str, host: &str, bytes: f64, base: f64) -> Self {
        // Avoids a division by zero.
        let ratio = bytes.max(1.0) / base.max(1.0);
        Self {
            what: what.to_owned(),
            engine: engine.to_owned(),
            host: host.to_owned(),
            value: bytes,
            quartiles: [bytes; 2],
            ratio,
            ratio_quartiles: [ratio; 2],
            rounds: 1,
        }
    }
}

//! What was measured, in the shape that it is printed in. `xtask/src/bench/measured.rs` reads it.

use mistletoe_benches::interleaved::Outcome;
use serde::Serialize;

/// All of it.
#[derive(Serialize)]
pub(crate) struct Measured {
    /// Whether there were only a few rounds.
    pub(crate) quick: bool,
    /// Whether it was built with the profile that counts.
    pub(crate) optimised: bool,
    /// Whether other layers were among the candidates.
    pub(crate) peers: bool,
    pub(crate) groups: Vec<Group>,
}

/// The answers to one question.
#[derive(Serialize)]
pub(crate) struct Group {
    /// What selects it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What is measured, as a paragraph of markdown.
    pub(crate) about: &'static str,
    /// What a row's `host` is called: `host`, or `limits`.
    pub(crate) column: &'static str,
    pub(crate) unit: Unit,
    pub(crate) chart: Chart,
    /// What was left out and why.
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// What a row's value is, and how it is to be shown.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    /// Nanoseconds.
    Time,
    /// Nanoseconds, to be shown as so many a second.
    Rate,
    Bytes,
}

/// What a chart compares.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Chart {
    /// The ratios of all rows but the first ones.
    Ratio,
    /// The values, between engines.
    Value,
}

/// One candidate. Rows that were measured in turns follow each other, and have `what` and `engine` in common; the first
/// of them is a base, whose ratio is 1. Where there is a second base, the rows behind it are compared with that one.
#[derive(Serialize)]
pub(crate) struct Row {
    /// What was run: a package, a size, a function.
    what: String,
    /// The engine's configuration, by the name of its backend.
    engine: String,
    host: String,
    /// Median of the values for one piece of work.
    value: f64,
    /// What half of the values lie between.
    quartiles: [f64; 2],
    /// Median of the ratios to the base's value in the same round: above 1 is slower, or more.
    ratio: f64,
    ratio_quartiles: [f64; 2],
    rounds: usize,
}

impl Row {
    /// The row of an outcome whose work was so many pieces.
    pub(crate) fn new(what: &str, engine: &str, pieces: u32, outcome: Outcome) -> Self {
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

    /// The row of something that was counted once.
    pub(crate) fn bytes(what: &str, engine: &str, host: &str, bytes: f64, base: f64) -> Self {
        // Nothing beside nothing is no multiple of it, but has to be a number.
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

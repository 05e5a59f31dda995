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

/// How a time is to be shown.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    Time,
    /// So many a second.
    Rate,
}

/// What a chart compares.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Chart {
    /// The ratios of all rows but the bases.
    Ratio,
    /// The times of those on the layer, between engines.
    Time,
}

/// One candidate. Rows that were measured in turns follow each other, and have `what` and `engine` in common; the first
/// of them is the base, whose ratio is 1.
#[derive(Serialize)]
pub(crate) struct Row {
    /// What was run: a package, a size, a function.
    what: String,
    /// The engine's configuration, by the name of its backend.
    engine: String,
    host: String,
    /// Median of the times for one piece of work, in nanoseconds.
    time: f64,
    /// What half of the times lie between.
    quartiles: [f64; 2],
    /// Median of the ratios to the base's time in the same round: above 1 is slower.
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
            time: nanoseconds(outcome.time),
            quartiles: outcome.quartiles.map(nanoseconds),
            ratio: outcome.ratio,
            ratio_quartiles: outcome.ratio_quartiles,
            rounds: outcome.rounds,
        }
    }
}

//! The results and their environment.
//!
//! `--format json` prints this as JSON, and `--from` reads it. The part below `Measured` is printed by
//! `benches/benches/compare` and `scheduler`; `benches/src/measured.rs` describes the fields.

use serde::{Deserialize, Serialize};

use super::serve::Load;

/// A run of the group `serve`, of the group `scheduler`, or of others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Results {
    Load { environment: Environment, load: Load },
    Scheduler { environment: Environment, scheduler: Measured },
    Report(Report),
}

/// A run of all groups but `serve` and `scheduler`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) environment: Environment,
    pub(super) measured: Measured,
}

/// Where and when the benchmark ran, as far as the machine reports it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Environment {
    pub(super) date: String,
    pub(super) cpu: Option<String>,
    pub(super) cores: usize,
    pub(super) memory_gib: Option<f64>,
    pub(super) os: String,
    /// How many cores other programs used on average during the run.
    pub(super) other_load: Option<f64>,
    /// The compiler, the engines and the peers, each with its version.
    pub(super) versions: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) quick: bool,
    pub(super) optimised: bool,
    /// Missing in the JSON of earlier versions, which had no peers.
    #[serde(default)]
    pub(super) peers: bool,
    pub(super) groups: Vec<Group>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) about: String,
    pub(super) column: String,
    pub(super) unit: Unit,
    pub(super) chart: Chart,
    pub(super) notes: Vec<String>,
    pub(super) rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unit {
    Time,
    Rate,
    Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Chart {
    Ratio,
    Value,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) engine: String,
    pub(super) host: String,
    pub(super) value: f64,
    pub(super) quartiles: [f64; 2],
    pub(super) ratio: f64,
    pub(super) ratio_quartiles: [f64; 2],
    pub(super) rounds: usize,
}

impl Measured {
    /// Returns whether a report can be made of it.
    pub(super) fn is_whole(&self) -> bool {
        self.optimised && !self.quick
    }
}

impl Group {
    /// Returns the rows grouped by comparison. Rows of a group were measured alternately, and the first is the base.
    pub(super) fn comparisons(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|a, b| a.what == b.what && a.engine == b.engine)
    }
}

impl Unit {
    /// Formats a value: a time in nanoseconds, or a number of bytes.
    pub(super) fn show(self, value: f64) -> String {
        let (scaled, unit) = match self {
            Self::Time if value < 1e3 => (value, "ns"),
            Self::Time if value < 1e6 => (value / 1e3, "µs"),
            Self::Time if value < 1e9 => (value / 1e6, "ms"),
            Self::Time => (value / 1e9, "s"),
            Self::Rate if value > 1e6 => (1e9 / value, "/s"),
            Self::Rate if value > 1e3 => (1e6 / value, "k/s"),
            Self::Rate => (1e3 / value, "M/s"),
            // Bytes have no fraction.
            Self::Bytes if value < 999.5 => return format!("{value:.0} B"),
            Self::Bytes if value < 999.5e3 => (value / 1e3, "kB"),
            Self::Bytes => (value / 1e6, "MB"),
        };
        format!("{} {unit}", digits(scaled))
    }

    /// Returns the heading of a column of such values.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Time | Self::Rate => "median",
            Self::Bytes => "size",
        }
    }
}

/// Formats a number with three significant digits.
fn digits(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Returns a group with one comparison, for tests.
#[cfg(test)]
pub(super) fn sample() -> Group {
    let row = |host: &str, value: f64, ratio: f64| Row {
        what: "a <package> & \"more\"".to_owned(),
        engine: "wasmtime".to_owned(),
        host: host.to_owned(),
        value,
        quartiles: [value * 0.9, value * 1.1],
        ratio,
        ratio_quartiles: [ratio * 0.99, ratio * 1.01],
        rounds: 7,
    };
    Group {
        name: "round-trip".to_owned(),
        title: "An answer".to_owned(),
        about: "What it is.".to_owned(),
        column: "host".to_owned(),
        unit: Unit::Time,
        chart: Chart::Ratio,
        notes: vec!["One is left out.".to_owned()],
        rows: vec![row("by hand", 512.34, 1.0), row("static", 1034.0, 1.02), row("erased", 99.96e6, 12.5)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits_and_a_unit() {
        let shown = |values: &[f64], unit: Unit| values.iter().map(|value| unit.show(*value)).collect::<Vec<_>>();
        let times = shown(&[0.5, 9.996, 512.3, 1034.0, 99.96e6, 2.5e9], Unit::Time);
        assert_eq!(times, ["0.50 ns", "10.0 ns", "512 ns", "1.03 µs", "100 ms", "2.50 s"]);
        assert_eq!(shown(&[500.0, 2e3, 2.5e7], Unit::Rate), ["2.00 M/s", "500 k/s", "40.0 /s"]);
        let bytes = shown(&[0.0, 999.4, 999.6, 81_920.0, 12.3e6], Unit::Bytes);
        assert_eq!(bytes, ["0 B", "999 B", "1.00 kB", "81.9 kB", "12.3 MB"]);
    }
}

//! Many cases on many backends: who passed, who failed, and who did something else than the others.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use mistletoe_abi::ErrorKind;
use serde::Serialize;

use crate::case::Known;
use crate::host::Host;
use crate::{Case, Failure, Observation};

/// What came of running cases on backends.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The backends' names: the columns.
    pub backends: Vec<String>,
    /// The cases: the rows.
    pub cases: Vec<Row>,
    /// The files of WebAssembly's own test suite, where it was run.
    pub scripts: Vec<Script>,
}

/// A case on every backend.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The folder it is in.
    pub group: String,
    /// Its name.
    pub name: String,
    /// What it proves.
    pub about: String,
    /// The file in `docs/` that has the rules.
    pub document: Option<&'static str>,
    /// The rules that it tests.
    pub rules: Vec<u32>,
    /// What each backend made of it, in the order of the report's backends.
    pub results: Vec<Verdict>,
    /// Whether two backends that pass did different things all the same, in what the case does not look at.
    pub differs: bool,
}

/// A file of a test suite that is not written here, on every backend.
#[derive(Clone, Debug, Serialize)]
pub struct Script {
    /// The part of the suite that it is in.
    pub group: String,
    /// Its name.
    pub name: String,
    /// What each backend made of its steps, in the order of the report's backends.
    pub results: Vec<Steps>,
}

/// What a backend made of the steps of a [`Script`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct Steps {
    /// How many did what the suite says, and the same as on the other backends.
    pub passed: usize,
    /// How many could not be taken, by why.
    pub skipped: BTreeMap<String, usize>,
    /// Those that did something else.
    pub failed: Vec<String>,
}

impl Steps {
    /// How many there are.
    pub fn all(&self) -> usize {
        self.passed + self.skipped.values().sum::<usize>() + self.failed.len()
    }
}

/// What a backend made of a case.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It did what the case says.
    Passed {
        /// All that it did.
        #[serde(skip)]
        observation: Observation,
    },
    /// It did not.
    Failed(Failure),
    /// It did not, as the case says that it would.
    KnownFailure {
        /// Why it does not.
        reason: String,
        /// What it did instead.
        #[serde(flatten)]
        failure: Failure,
    },
    /// It did, although the case says that it would not.
    UnexpectedPass {
        /// Why it should not have.
        reason: String,
    },
}

impl Verdict {
    /// Whether all is as it should be.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Passed { .. } | Self::KnownFailure { .. })
    }
}

impl Row {
    /// Whether all is as it should be on every backend.
    pub fn is_good(&self) -> bool {
        !self.differs && self.results.iter().all(Verdict::is_good)
    }

    fn rules(&self) -> String {
        self.rules.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
    }

    /// The fixture, from the project's root.
    pub fn file(&self) -> String {
        format!("conformance/fixtures/{}/{}.wat", self.group, self.name)
    }
}

impl Case {
    /// What a host makes of the case, with what the case knows of it taken into account.
    pub fn judge(&self, host: &dyn Host) -> Verdict {
        let known = self.header.known.iter().find(|known| known.backend == host.name());
        match (self.check(host), known) {
            (Ok(observation), None) => Verdict::Passed { observation },
            (Err(failure), None) => Verdict::Failed(failure),
            (Ok(_), Some(known)) => Verdict::UnexpectedPass { reason: known.reason() },
            (Err(failure), Some(known)) if !self.is_refused(host, known) => Verdict::Failed(failure),
            (Err(failure), Some(known)) => Verdict::KnownFailure { reason: known.reason(), failure },
        }
    }

    /// Whether a host that lacks a feature refuses the module for that.
    fn is_refused(&self, host: &dyn Host, known: &Known) -> bool {
        let Some(lacks) = &known.lacks else { return true };
        let error = host.load(&self.wasm, &self.header.setup()).err();
        error.is_some_and(|error| match error.kind() {
            ErrorKind::UnsupportedFeature { feature, .. } => feature == lacks,
            _ => false,
        })
    }
}

impl Report {
    /// Runs cases on backends, telling `progress` of every case before it is run.
    pub fn run<'a>(
        cases: impl IntoIterator<Item = &'a Case>,
        hosts: &[&dyn Host],
        mut progress: impl FnMut(&Case),
    ) -> Self {
        let rows = cases.into_iter().map(|case| {
            progress(case);
            let results: Vec<_> = hosts.iter().map(|host| case.judge(*host)).collect();
            let mut observations = results.iter().filter_map(|verdict| match verdict {
                Verdict::Passed { observation } => Some(observation),
                _ => None,
            });
            let first = observations.next();
            Row {
                differs: first.is_some_and(|first| observations.any(|other| other != first)),
                group: case.group.clone(),
                name: case.name.clone(),
                about: case.header.about.clone(),
                document: case.header.protocol.document(),
                rules: case.header.rules.clone(),
                results,
            }
        });
        Self {
            cases: rows.collect(),
            scripts: Vec::new(),
            backends: hosts.iter().map(|host| host.name().to_owned()).collect(),
        }
    }

    /// Whether there is anything in the report, and all of it is as it should be.
    pub fn is_good(&self) -> bool {
        let steps = self.scripts.iter().flat_map(|script| &script.results);
        let is_empty = self.cases.is_empty() && self.scripts.is_empty() || self.backends.is_empty();
        !is_empty && self.cases.iter().all(Row::is_good) && steps.into_iter().all(|steps| steps.failed.is_empty())
    }

    /// The matrix: a line a group, or a line a case, with what each backend passed of it.
    pub fn matrix(&self, every_case: bool) -> Vec<(String, Vec<Cell>)> {
        let mut lines: BTreeMap<String, Vec<Cell>> = BTreeMap::new();
        for row in &self.cases {
            let title = if every_case { format!("{}/{}", row.group, row.name) } else { row.group.clone() };
            let cells = lines.entry(title).or_insert_with(|| vec![Cell::default(); self.backends.len()]);
            for (cell, verdict) in cells.iter_mut().zip(&row.results) {
                cell.passed += usize::from(matches!(verdict, Verdict::Passed { .. }));
                cell.known += usize::from(matches!(verdict, Verdict::KnownFailure { .. }));
                cell.all += 1;
            }
        }
        lines.into_iter().collect()
    }

    /// The same for the steps of [`scripts`](Report::scripts): a line a group, or a line a file.
    pub fn steps(&self, every_file: bool) -> Vec<(String, Vec<Cell>)> {
        let mut lines: BTreeMap<String, Vec<Cell>> = BTreeMap::new();
        for script in &self.scripts {
            let title = if every_file { format!("{}/{}", script.group, script.name) } else { script.group.clone() };
            let cells = lines.entry(title).or_insert_with(|| vec![Cell::default(); self.backends.len()]);
            for (cell, steps) in cells.iter_mut().zip(&script.results) {
                *cell = cell.plus(&Cell { passed: steps.passed, known: 0, all: steps.all() });
            }
        }
        lines.into_iter().collect()
    }

    /// Why steps were not taken, and how many on each backend.
    pub fn skipped(&self) -> Vec<(String, Vec<usize>)> {
        let mut lines: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for script in &self.scripts {
            for (i, steps) in script.results.iter().enumerate() {
                for (reason, count) in &steps.skipped {
                    let counts = lines.entry(reason.clone()).or_insert_with(|| vec![0; self.backends.len()]);
                    counts.iter_mut().skip(i).take(1).for_each(|all| *all += count);
                }
            }
        }
        lines.into_iter().collect()
    }

    /// The matrix and below it the failures, for a terminal.
    pub fn terminal(&self, every_case: bool) -> String {
        let mut text = String::new();
        let all = |matrix: &[(String, Vec<Cell>)]| {
            let sum = |i| matrix.iter().filter_map(|(_, cells)| cells.get(i)).fold(Cell::default(), Cell::plus);
            ("all".to_owned(), (0..self.backends.len()).map(sum).collect())
        };
        let mut lines = vec![(String::new(), self.backends.clone())];
        let mut add = |matrix: Vec<(String, Vec<Cell>)>| {
            let all = all(&matrix);
            for (title, cells) in matrix.into_iter().chain([all]) {
                lines.push((title, cells.iter().map(Cell::to_string).collect()));
            }
        };
        if !self.cases.is_empty() {
            add(self.matrix(every_case));
        }
        if !self.scripts.is_empty() {
            add(self.steps(every_case));
        }
        let title = lines.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
        let width = |i: usize| lines.iter().filter_map(|(_, cells)| cells.get(i)).map(String::len).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.backends.len()).map(width).collect();
        let mut write = |begin: &str, cells: &[String], end: &str| {
            let _ = write!(text, "{begin:title$}");
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(text, "  {cell:>width$}");
            }
            text.push_str(end);
            text.push('\n');
        };
        for (title, cells) in &lines {
            write(title, cells, "");
        }
        for (reason, counts) in self.skipped() {
            let counts: Vec<_> = counts.iter().map(usize::to_string).collect();
            write("", &counts, &format!("  not taken: {reason}"));
        }

        let mut exceptions = String::new();
        for row in &self.cases {
            self.explain(row, &mut exceptions);
        }
        for script in &self.scripts {
            for (backend, steps) in self.backends.iter().zip(&script.results) {
                for failure in &steps.failed {
                    let _ = writeln!(exceptions, "{}/{} on {backend}, {failure}", script.group, script.name);
                }
            }
        }
        if !exceptions.is_empty() {
            text.push('\n');
            text.push_str(&exceptions);
        }
        text
    }

    /// Where a row is not simply passed: what was expected, and what each backend did, one below the other.
    fn explain(&self, row: &Row, text: &mut String) {
        if !row.differs && row.results.iter().all(|verdict| matches!(verdict, Verdict::Passed { .. })) {
            return;
        }
        let document = row.document.map(|document| format!(" (docs/{document}, rule {})", row.rules()));
        let _ = writeln!(text, "{}\n  {}{}", row.file(), row.about, document.unwrap_or_default());
        if row.differs {
            text.push_str("  the backends pass, but differ:\n");
        }
        for (backend, verdict) in self.backends.iter().zip(&row.results) {
            let word = match verdict {
                Verdict::Passed { observation } if row.differs => observation.to_string(),
                Verdict::Passed { .. } => "passed".to_owned(),
                Verdict::Failed(failure) => failure.to_string(),
                Verdict::KnownFailure { reason, failure } => format!("known to fail ({reason}): {failure}"),
                Verdict::UnexpectedPass { reason } => format!("passed, but is said to fail: {reason}"),
            };
            let _ = writeln!(text, "    {backend}: {word}");
        }
    }

    /// A document with the matrix of single cases.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "| case | rules | {} |", self.backends.join(" | "));
        let _ = writeln!(text, "|---|---|{}", "---|".repeat(self.backends.len()));
        let (mut group, mut notes) = ("", BTreeMap::new());
        for row in &self.cases {
            if row.group != group {
                group = &row.group;
                let _ = writeln!(text, "| **{group}** | |{}", " |".repeat(self.backends.len()));
            }
            let rules = row.document.map(|document| format!("[{}]({document})", row.rules())).unwrap_or_default();
            let about = row.about.replace('|', "\\|");
            let _ = write!(text, "| [{}](../{}): {about} | {rules} |", row.name, row.file());
            for (backend, verdict) in self.backends.iter().zip(&row.results) {
                let cell = match verdict {
                    Verdict::Passed { .. } => "yes".to_owned(),
                    Verdict::Failed(_) => "**no**".to_owned(),
                    Verdict::UnexpectedPass { .. } => "**unexpectedly**".to_owned(),
                    Verdict::KnownFailure { reason, .. } => {
                        let number = notes.len() + 1;
                        let number = *notes.entry((backend, reason)).or_insert(number);
                        format!("no, note {number}")
                    }
                };
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        let mut notes: Vec<_> =
            notes.into_iter().map(|((backend, reason), number)| (number, backend, reason)).collect();
        notes.sort();
        for (number, backend, reason) in notes {
            let _ = write!(text, "\nNote {number}: on {backend}, {reason}.\n");
        }
        self.scripts_markdown(&mut text);
        text
    }

    /// The steps of each file, and why others were not taken.
    fn scripts_markdown(&self, text: &mut String) {
        if self.scripts.is_empty() {
            return;
        }
        let heading = |text: &mut String, title: &str| {
            let _ = writeln!(text, "| {title} | {} |", self.backends.join(" | "));
            let _ = writeln!(text, "|---|{}", "---|".repeat(self.backends.len()));
        };
        text.push_str("\n## WebAssembly's own suite\n\n");
        heading(text, "file");
        let mut groups = self.steps(false).into_iter();
        let mut group = "";
        for script in &self.scripts {
            if script.group != group {
                group = &script.group;
                let (_, cells) = groups.next().unwrap_or_default();
                let cells: Vec<_> = cells.iter().map(|cell| format!("**{cell}**")).collect();
                let _ = writeln!(text, "| **{group}** | {} |", cells.join(" | "));
            }
            let cell = |steps: &Steps| match steps.failed.len() {
                0 => format!("{}/{}", steps.passed, steps.all()),
                failed => format!("**{}/{}, {failed} wrong**", steps.passed, steps.all()),
            };
            let cells: Vec<_> = script.results.iter().map(cell).collect();
            let _ = writeln!(text, "| {} | {} |", script.name, cells.join(" | "));
        }
        text.push('\n');
        heading(text, "steps not taken, by why");
        for (reason, counts) in self.skipped() {
            let counts: Vec<_> = counts.iter().map(usize::to_string).collect();
            let _ = writeln!(text, "| {reason} | {} |", counts.join(" | "));
        }
    }
}

/// How many cases of a group a backend passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// Passed.
    pub passed: usize,
    /// Failed as the cases say.
    pub known: usize,
    /// All there are.
    pub all: usize,
}

impl Cell {
    fn plus(self, other: &Self) -> Self {
        Self { passed: self.passed + other.passed, known: self.known + other.known, all: self.all + other.all }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.passed, self.all)
    }
}

//! The results of many cases on many backends: passes, failures, and differences between backends.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use mistletoe_abi::ErrorKind;
use serde::Serialize;

use crate::case::Known;
use crate::host::Host;
use crate::{Case, Failure, Observation};

/// The results of running cases on backends.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The backends' names: the columns.
    pub backends: Vec<String>,
    /// The cases: the rows.
    pub cases: Vec<Row>,
    /// The files of WebAssembly's own test suite, if it was run.
    pub scripts: Vec<Script>,
}

/// A case on every backend.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The directory of the fixture.
    pub group: String,
    /// The case's name.
    pub name: String,
    /// What the case proves.
    pub about: String,
    /// The file in `docs/` that holds the rules.
    pub document: Option<&'static str>,
    /// The rules that the case tests.
    pub rules: Vec<u32>,
    /// The result of each backend, in the order of the report's backends.
    pub results: Vec<Verdict>,
    /// Whether two backends that pass differ in something that the case does not compare.
    pub differs: bool,
}

/// A file of an external test suite, on every backend.
#[derive(Clone, Debug, Serialize)]
pub struct Script {
    /// The part of the suite that contains the file.
    pub group: String,
    /// The file's name.
    pub name: String,
    /// The results of the file's steps on each backend, in the order of the report's backends.
    pub results: Vec<Steps>,
}

/// The results of the steps of a [`Script`] on one backend.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Steps {
    /// How many steps did what the suite says, and the same as on the other backends.
    pub passed: usize,
    /// How many steps could not be taken, by reason.
    pub skipped: BTreeMap<String, usize>,
    /// The steps that did something else.
    pub failed: Vec<String>,
}

impl Steps {
    /// Returns the number of all steps.
    pub fn all(&self) -> usize {
        self.passed + self.skipped.values().sum::<usize>() + self.failed.len()
    }
}

/// The result of a case on one backend.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The backend did what the case says.
    Passed {
        /// Everything that the backend did.
        #[serde(skip)]
        observation: Observation,
    },
    /// The backend did something else.
    Failed(Failure),
    /// The backend failed, as the case says it would.
    KnownFailure {
        /// Why the backend fails.
        reason: String,
        /// What the backend did instead.
        #[serde(flatten)]
        failure: Failure,
    },
    /// The backend passed, although the case says it would fail.
    UnexpectedPass {
        /// Why the backend was expected to fail.
        reason: String,
    },
}

impl Verdict {
    /// Returns whether the result is as expected.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Passed { .. } | Self::KnownFailure { .. })
    }
}

impl Row {
    /// Returns whether the results are as expected on every backend, and do not differ between backends.
    pub fn is_good(&self) -> bool {
        !self.differs && self.results.iter().all(Verdict::is_good)
    }

    fn rules(&self) -> String {
        self.rules.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Returns the path of the fixture, relative to the project's root.
    pub fn file(&self) -> String {
        format!("conformance/fixtures/{}/{}.wat", self.group, self.name)
    }
}

impl Case {
    /// Runs the case on a host and returns the result. Takes known failures into account.
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

    /// Returns whether a host that lacks a feature refuses the module for that.
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
    /// Runs cases on backends. Calls `progress` with each case before it runs.
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

    /// Returns whether the report is not empty and all its results are as expected.
    pub fn is_good(&self) -> bool {
        let steps = self.scripts.iter().flat_map(|script| &script.results);
        let is_empty = self.cases.is_empty() && self.scripts.is_empty() || self.backends.is_empty();
        !is_empty && self.cases.iter().all(Row::is_good) && steps.into_iter().all(|steps| steps.failed.is_empty())
    }

    /// Returns the matrix: one row per group, or per case, with the counts of each backend.
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

    /// Returns the matrix of the steps of [`scripts`](Report::scripts): one row per group, or per file.
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

    /// Returns the reasons why steps were not taken, each with the number of steps on each backend.
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

    /// Renders the matrix, followed by the failures, for a terminal.
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

    /// Adds what was expected and what each backend did, unless all backends passed alike.
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

    /// Renders a document with the matrix of single cases.
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

    /// Adds the steps of each file, and the reasons why others were not taken.
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

/// The counts of one backend in one row of a matrix.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// Passed.
    pub passed: usize,
    /// Failed as the cases say.
    pub known: usize,
    /// All.
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

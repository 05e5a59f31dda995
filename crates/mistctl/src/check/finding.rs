//! What a check finds.

use mistletoe::documents::yaml::{Mapping, Value};

use crate::stderr::Excerpt;

/// Maximum number of bytes of a finding's message that are shown.
const MAX_TEXT: usize = 4_000;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The package does not do what it should.
    Error,
    /// The package works, and will not always.
    Warning,
    /// Good to know. It does not change the exit status.
    Note,
}

/// Something that a check found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) id: &'static str,
    pub(crate) message: String,
    pub(crate) advice: &'static str,
}

/// The findings of a check, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds an error.
    pub(crate) fn error(&mut self, id: &'static str, message: impl Into<String>, advice: &'static str) {
        self.add(Severity::Error, id, message.into(), advice);
    }

    /// Adds a warning.
    pub(crate) fn warning(&mut self, id: &'static str, message: impl Into<String>, advice: &'static str) {
        self.add(Severity::Warning, id, message.into(), advice);
    }

    /// Adds a note.
    pub(crate) fn note(&mut self, id: &'static str, message: impl Into<String>, advice: &'static str) {
        self.add(Severity::Note, id, message.into(), advice);
    }

    fn add(&mut self, severity: Severity, id: &'static str, message: String, advice: &'static str) {
        self.0.push(Finding { severity, id, message: Excerpt::of(message, MAX_TEXT), advice });
    }

    /// Returns the ids of the errors and warnings.
    pub(crate) fn ids(&self) -> Vec<&'static str> {
        self.0.iter().filter(|finding| finding.severity != Severity::Note).map(|finding| finding.id).collect()
    }

    /// Returns the findings as a list.
    pub(crate) fn to_value(&self) -> Value {
        Value::Sequence(self.0.iter().map(Finding::to_value).collect())
    }
}

impl Finding {
    fn to_value(&self) -> Value {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let mut finding = Mapping::new();
        finding.insert("severity", severity);
        finding.insert("id", self.id);
        finding.insert("message", self.message.as_str());
        finding.insert("advice", self.advice);
        Value::Mapping(finding)
    }
}

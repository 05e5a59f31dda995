//! How a verb fails: the exit status, and what is printed.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use mistletoe::documents::yaml;
use mistletoe::protocol::Region;
use mistletoe::{Backtrace, Error, ErrorKind, module};
use serde::Serialize;

use crate::stderr::{self, Excerpt, Level, MAX_MESSAGE, note};

/// Maximum number of bytes of a cause that are shown.
const MAX_CAUSE: usize = 2_000;
/// Maximum number of causes that are shown.
const MAX_CAUSES: usize = 20;

/// The message of a package that returned `Err` without one.
pub(crate) const NO_MESSAGE: &str = "the package returned `Err` without a message";

/// Why a verb failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The package returned `Err`, perhaps with a message. If it panicked, `fault` is the trap.
    Package { message: Option<String>, fault: Option<Error> },
    /// A check of a package found something: the ids of what it found.
    Findings { package: String, ids: Vec<&'static str> },
    /// So many tests of a package failed.
    Tests { failed: usize, total: usize },
    /// Engines differ in what they make of a package.
    Engines { package: String, difference: String },
    /// The command line is wrong. `message` is one line, `help` is several.
    Usage { message: String, help: Option<String> },
    /// A file or stream cannot be used.
    File { file: String, action: &'static str, source: Cause },
    /// The output of a package cannot be written as files.
    Refused { package: String, problem: String },
    /// A package in the text format cannot be assembled.
    Assembly { file: String, source: wat::Error },
    /// A module was not ready to run, or values were not checked, within the time limit.
    Late { file: String, activity: &'static str, limit: Duration },
    /// The values do not fit the package's schema.
    #[cfg(feature = "schema")]
    Values { package: String, problems: Vec<String> },
    /// A package's schema cannot be used.
    #[cfg(feature = "schema")]
    Schema { package: String, problem: String },
    /// A module cannot be had from where it is.
    #[cfg(feature = "registry")]
    Registry(mistletoe_registry::Error),
    /// An error of the library.
    Library { file: Option<String>, source: Error },
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) enum Cause {
    Io(io::Error),
    Other(String),
}

/// An error as `--error-format json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    level: Level,
    #[serde(flatten)]
    kind: Kind<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    message: String,
    causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a Backtrace>,
}

/// The library's kinds of errors, and mistctl's own.
#[derive(Serialize)]
#[serde(untagged)]
enum Kind<'a> {
    Library(&'a ErrorKind),
    Late { kind: &'static str, limit_ms: u64, export: Option<&'a str> },
    Own { kind: &'static str },
}

/// One cause of an error.
struct Reason {
    text: String,
    /// Whether this is an engine's own message, which differs between engines.
    is_engines: bool,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: None }
    }

    pub(crate) fn read(file: &Path, source: impl Into<Cause>) -> Self {
        Self::File { file: shown(file), action: "read", source: source.into() }
    }

    pub(crate) fn write(file: impl AsRef<Path>, source: impl Into<Cause>) -> Self {
        Self::File { file: shown(file.as_ref()), action: "written", source: source.into() }
    }

    pub(crate) fn grant(file: &Path, source: impl Into<Cause>) -> Self {
        Self::File { file: shown(file), action: "granted", source: source.into() }
    }

    #[cfg(feature = "serve")]
    pub(crate) fn start(what: &str, source: io::Error) -> Self {
        Self::File { file: what.to_owned(), action: "started", source: source.into() }
    }

    pub(crate) fn refused(package: &Path, problem: impl Into<String>) -> Self {
        Self::Refused { package: shown(package), problem: problem.into() }
    }

    pub(crate) fn findings(package: &Path, ids: Vec<&'static str>) -> Self {
        Self::Findings { package: shown(package), ids }
    }

    pub(crate) fn engines(package: &Path, difference: String) -> Self {
        Self::Engines { package: shown(package), difference }
    }

    #[cfg(feature = "schema")]
    pub(crate) fn values(package: &Path, problems: Vec<String>) -> Self {
        Self::Values { package: shown(package), problems }
    }

    #[cfg(feature = "schema")]
    pub(crate) fn schema(package: &Path, problem: String) -> Self {
        Self::Schema { package: shown(package), problem }
    }

    pub(crate) fn library(file: &Path, source: Error) -> Self {
        Self::Library { file: Some(shown(file)), source }
    }

    /// The output of a package holds something else than resources.
    pub(crate) fn output(package: &Path, error: yaml::Error) -> Self {
        let yaml::Error { path, line, problem } = error;
        Self::library(package, ErrorKind::Document { document: "output", path, line, problem }.into())
    }

    /// Returns the failure and its causes in one line.
    pub(crate) fn in_one_line(&self) -> String {
        joined(self.to_string(), self.reasons())
    }

    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Package { .. } | Self::Findings { .. } | Self::Tests { .. } => 1,
            Self::Usage { .. } => 2,
            _ => 3,
        }
    }

    /// Prints the failure to standard error.
    pub(crate) fn report(&self) {
        let reasons = self.reasons();
        if stderr::is_json() {
            let causes = reasons.into_iter().map(|reason| reason.text).collect();
            let (kind, file, message, trace) = (self.kind(), self.file(), self.message(), self.backtrace());
            return stderr::object(&Report { level: Level::Error, kind, file, message, causes, trace });
        }
        if let Self::Usage { help: Some(help), .. } = self {
            return stderr::plain(&Excerpt::of(help, MAX_MESSAGE));
        }
        let hidden = reasons.iter().any(|reason| reason.is_engines) && !stderr::is_verbose();
        // A trap needs no further message. For an engine's failure, the engine's own message is all there is.
        let hint = match self {
            Self::Library { source, .. } if hidden && matches!(source.kind(), ErrorKind::Engine { .. }) => {
                " (-v shows its words)"
            }
            _ => "",
        };
        note(Level::Error, &format!("{self}{hint}"));
        for reason in reasons.into_iter().filter(|reason| !reason.is_engines || stderr::is_verbose()) {
            note(Level::Cause, &reason.text);
        }
        if let Some(backtrace) = self.backtrace() {
            stderr::plain(&backtrace.to_string());
        }
    }

    /// Returns the guest's stack, if it was recorded.
    fn backtrace(&self) -> Option<&Backtrace> {
        self.fault()?.backtrace()
    }

    /// Returns the library's error, if one led to the failure.
    pub(crate) fn fault(&self) -> Option<&Error> {
        match self {
            Self::Library { source, .. } => Some(source),
            Self::Package { fault, .. } => fault.as_ref(),
            _ => None,
        }
    }

    /// Returns the same failure with another error of the library.
    pub(crate) fn with_fault(self, error: Error) -> Self {
        match self {
            Self::Library { file, .. } => Self::Library { file, source: error },
            Self::Package { message, .. } => Self::Package { message, fault: Some(error) },
            other => other,
        }
    }

    fn kind(&self) -> Kind<'_> {
        match self {
            Self::Package { .. } => Kind::Own { kind: "package" },
            Self::Findings { .. } => Kind::Own { kind: "findings" },
            Self::Tests { .. } => Kind::Own { kind: "tests" },
            Self::Engines { .. } => Kind::Own { kind: "engines" },
            Self::Usage { .. } => Kind::Own { kind: "usage" },
            Self::File { .. } | Self::Refused { .. } => Kind::Own { kind: "file" },
            Self::Assembly { .. } => Kind::Own { kind: "assembly" },
            #[cfg(feature = "schema")]
            Self::Values { .. } => Kind::Own { kind: "values" },
            #[cfg(feature = "schema")]
            Self::Schema { .. } => Kind::Own { kind: "schema" },
            #[cfg(feature = "registry")]
            Self::Registry(_) => Kind::Own { kind: "registry" },
            Self::Late { limit, .. } => {
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                Kind::Late { kind: "timed-out", limit_ms, export: None }
            }
            Self::Library { source, .. } => Kind::Library(source.kind()),
        }
    }

    fn file(&self) -> Option<&str> {
        match self {
            Self::File { file, .. }
            | Self::Refused { package: file, .. }
            | Self::Findings { package: file, .. }
            | Self::Engines { package: file, .. }
            | Self::Assembly { file, .. }
            | Self::Late { file, .. } => Some(file),
            #[cfg(feature = "schema")]
            Self::Values { package: file, .. } | Self::Schema { package: file, .. } => Some(file),
            #[cfg(feature = "registry")]
            Self::Registry(error) => Some(error.subject()),
            Self::Library { file, .. } => file.as_deref(),
            Self::Package { .. } | Self::Tests { .. } | Self::Usage { .. } => None,
        }
    }

    /// Returns what went wrong, without the file.
    fn message(&self) -> String {
        match self {
            Self::Package { message: Some(message), .. } => Excerpt::of(message, MAX_MESSAGE),
            Self::Package { message: None, .. } => NO_MESSAGE.to_owned(),
            Self::Findings { ids, .. } => format!("the check found: {}", ids.join(", ")),
            Self::Tests { failed, total } => format!("{failed} of {total} tests failed"),
            Self::Engines { difference, .. } => difference.clone(),
            Self::Usage { message, .. } => Excerpt::of(message, MAX_MESSAGE),
            Self::File { action, .. } => format!("it cannot be {action}"),
            Self::Refused { problem, .. } => problem.clone(),
            Self::Assembly { .. } => "the text is not a WebAssembly module".to_owned(),
            #[cfg(feature = "schema")]
            Self::Values { .. } => "the values do not fit the package's schema".to_owned(),
            #[cfg(feature = "schema")]
            Self::Schema { .. } => "the package's schema cannot be used".to_owned(),
            Self::Late { activity, limit, .. } => {
                let limit = match limit.subsec_millis() {
                    0 => format!("{} s", limit.as_secs()),
                    _ => format!("{} ms", limit.as_millis()),
                };
                format!("timed out after {limit} while {activity}{}", raised_with("--timeout"))
            }
            #[cfg(feature = "registry")]
            Self::Registry(error) => error.kind().to_string(),
            Self::Library { source, .. } => message(source),
        }
    }

    fn reasons(&self) -> Vec<Reason> {
        let own = |text: String| vec![Reason { text, is_engines: false }];
        match self {
            Self::File { source: Cause::Io(source), .. } => own(source.to_string()),
            Self::File { source: Cause::Other(source), .. } => own(Excerpt::of(source, MAX_CAUSE)),
            Self::Assembly { source, .. } => own(Excerpt::of(source, MAX_CAUSE)),
            #[cfg(feature = "schema")]
            Self::Values { problems, .. } => {
                problems.iter().map(|text| Reason { text: text.clone(), is_engines: false }).collect()
            }
            #[cfg(feature = "schema")]
            Self::Schema { problem, .. } => own(problem.clone()),
            #[cfg(feature = "registry")]
            Self::Registry(error) => reasons(error),
            Self::Library { source, .. } => reasons(source),
            _ => Vec::new(),
        }
    }
}

/// Returns the library's message, and the option that raises the limit, if one was reached.
pub(crate) fn message(error: &Error) -> String {
    let flag = flag(error.kind()).map(raised_with).unwrap_or_default();
    format!("{error}{flag}")
}

/// Returns the causes of an error. After a trap or an engine's failure come the engine's own messages.
fn reasons(mut error: &(dyn StdError + 'static)) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut is_engines = false;
    while let Some(cause) = error.source().filter(|_| reasons.len() < MAX_CAUSES) {
        let kind = error.downcast_ref::<Error>().map(Error::kind);
        is_engines |= matches!(kind, Some(ErrorKind::Trap { .. } | ErrorKind::Engine { .. }));
        reasons.push(Reason { text: Excerpt::of(cause, MAX_CAUSE), is_engines });
        error = cause;
    }
    reasons
}

/// Returns an error and its causes in one line, the same on every engine.
pub(crate) fn in_one_line(error: &Error) -> String {
    joined(message(error), reasons(error))
}

/// Joins a message and the reasons that are the same on every engine.
fn joined(message: String, reasons: Vec<Reason>) -> String {
    let reasons = reasons.into_iter().filter(|reason| !reason.is_engines).map(|reason| reason.text);
    std::iter::once(message).chain(reasons).collect::<Vec<_>>().join(": ")
}

/// Returns the flag that raises the limit that was reached, if there is one.
fn flag(kind: &ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::TimedOut { .. } => Some("--timeout"),
        ErrorKind::OutOfFuel { .. } => Some("--fuel"),
        ErrorKind::TooDeep { .. } => Some("--max-stack"),
        ErrorKind::Module(module::ErrorKind::TooMuchMemory { .. }) => Some("--max-memory"),
        ErrorKind::TooLong { region: Region::Output | Region::Info, .. } => Some("--max-output"),
        _ => None,
    }
}

fn raised_with(flag: &str) -> String {
    format!(" (raise it with {flag})")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file(), self) {
            (Some(file), Self::File { action, .. }) => write!(f, "{file} cannot be {action}"),
            (Some(file), _) => write!(f, "{file}: {}", self.message()),
            (None, _) => f.write_str(&self.message()),
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<&str> for Cause {
    fn from(cause: &str) -> Self {
        Self::Other(cause.to_owned())
    }
}

#[cfg(feature = "registry")]
impl From<mistletoe_registry::Error> for Failure {
    fn from(error: mistletoe_registry::Error) -> Self {
        Self::Registry(error)
    }
}

impl From<Error> for Failure {
    fn from(source: Error) -> Self {
        Self::Library { file: None, source }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

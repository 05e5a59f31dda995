//! How a verb fails: the exit status, and what is printed.

use std::env;
use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use mistletoe::ErrorKind;
use serde::Serialize;

use crate::cli::ErrorFormat;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The package answered `Err`, perhaps with a message.
    Package { message: Option<String> },
    /// The command line makes no sense.
    Usage { message: String },
    /// A file or stream cannot be used.
    File { file: String, action: &'static str, source: Cause },
    /// A package in text that cannot be assembled.
    Assembly { file: String, source: wat::Error },
    /// The library's word.
    Library { file: Option<String>, source: mistletoe::Error },
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) enum Cause {
    Io(io::Error),
    Other(String),
}

/// The beginning of a text: an assembler shows the line that it does not understand, however long that is.
struct Excerpt(String);

impl Excerpt {
    /// In bytes.
    const MAX: usize = 2_000;

    fn of(text: &impl fmt::Display) -> String {
        let mut excerpt = Self(String::new());
        // What does not fit is an error, and the end.
        if write!(excerpt, "{text}").is_err() {
            excerpt.0.push('…');
        }
        excerpt.0
    }
}

impl fmt::Write for Excerpt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(Self::MAX - self.0.len());
        self.0.push_str(&text[..fits]);
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// The form of `--error-format json`.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    kind: Kind<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    message: String,
    causes: Vec<String>,
}

/// The library's kinds as they are, and mistctl's own.
#[derive(Serialize)]
#[serde(untagged)]
enum Kind<'a> {
    Library(&'a ErrorKind),
    Own { kind: &'static str },
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into() }
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

    pub(crate) fn library(file: &Path, source: mistletoe::Error) -> Self {
        Self::Library { file: Some(shown(file)), source }
    }

    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Package { .. } => 1,
            Self::Usage { .. } => 2,
            Self::File { .. } | Self::Assembly { .. } | Self::Library { .. } => 3,
        }
    }

    /// Prints the failure to standard error.
    pub(crate) fn report(&self, format: ErrorFormat) {
        let causes = self.causes();
        match format {
            ErrorFormat::Text => {
                note(Level::Error, &self.to_string());
                for cause in causes {
                    note(Level::Cause, &cause);
                }
            }
            ErrorFormat::Json => {
                let report = Report { kind: self.kind(), file: self.file(), message: self.message(), causes };
                // The report holds nothing that JSON cannot say, and there is nowhere else to complain.
                let text = serde_json::to_string(&report).unwrap_or_default();
                write_line(&text);
            }
        }
    }

    fn kind(&self) -> Kind<'_> {
        match self {
            Self::Package { .. } => Kind::Own { kind: "package" },
            Self::Usage { .. } => Kind::Own { kind: "usage" },
            Self::File { .. } => Kind::Own { kind: "file" },
            Self::Assembly { .. } => Kind::Own { kind: "assembly" },
            Self::Library { source, .. } => Kind::Library(source.kind()),
        }
    }

    fn file(&self) -> Option<&str> {
        match self {
            Self::File { file, .. } | Self::Assembly { file, .. } => Some(file),
            Self::Library { file, .. } => file.as_deref(),
            Self::Package { .. } | Self::Usage { .. } => None,
        }
    }

    /// What went wrong, without the file.
    fn message(&self) -> String {
        match self {
            Self::Package { message: Some(message) } => message.clone(),
            Self::Package { message: None } => "the package answered `Err` and did not say why".to_owned(),
            Self::Usage { message } => message.clone(),
            Self::File { action, .. } => format!("it cannot be {action}"),
            Self::Assembly { .. } => "the text is no WebAssembly module".to_owned(),
            Self::Library { source, .. } => source.to_string(),
        }
    }

    fn causes(&self) -> Vec<String> {
        let mut cause = match self {
            Self::Package { .. } | Self::Usage { .. } => None,
            Self::File { source: Cause::Io(source), .. } => return vec![source.to_string()],
            Self::File { source: Cause::Other(source), .. } => return vec![source.clone()],
            Self::Assembly { source, .. } => return vec![Excerpt::of(source)],
            Self::Library { source, .. } => source.source(),
        };
        let mut causes = Vec::new();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        causes
    }
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

impl From<mistletoe::Error> for Failure {
    fn from(source: mistletoe::Error) -> Self {
        Self::Library { file: None, source }
    }
}

/// What a line on standard error is.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    Error,
    Cause,
    Warning,
    /// The package's own word.
    Package,
    /// What the package wrote beside its answer.
    Log,
    /// What a program tried to use without its having been granted.
    Denied,
}

/// Prints a line to standard error, coloured where that is a terminal that wants colours.
pub(crate) fn note(level: Level, text: &str) {
    notes(level, [text.trim_end()]);
}

/// Prints several such lines.
pub(crate) fn notes<'a>(level: Level, texts: impl IntoIterator<Item = &'a str>) {
    let (label, color) = match level {
        Level::Error => ("error:", AnsiColor::Red),
        Level::Cause => ("  caused by:", AnsiColor::Red),
        Level::Warning => ("warning:", AnsiColor::Yellow),
        Level::Package => ("package:", AnsiColor::Cyan),
        Level::Log => ("log:", AnsiColor::Cyan),
        Level::Denied => ("denied:", AnsiColor::Yellow),
    };
    let style = if is_colored() { Style::new().bold().fg_color(Some(color.into())) } else { Style::new() };
    let lines: Vec<_> = texts.into_iter().map(|text| format!("{style}{label}{style:#} {}", printable(text))).collect();
    write_line(&lines.join("\n"));
}

/// Whether a program or plugin left a line on standard error without an end.
static UNFINISHED: AtomicBool = AtomicBool::new(false);

/// Standard error, for what programs and plugins write there themselves.
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stderr().write(bytes)?;
        if let Some(last) = bytes.get(..written).and_then(<[u8]>::last) {
            UNFINISHED.store(*last != b'\n', Ordering::Relaxed);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Writes a line of its own to standard error, which may be closed; that is no reason to fail.
fn write_line(line: &str) {
    let before = if UNFINISHED.swap(false, Ordering::Relaxed) { "\n" } else { "" };
    let _ = writeln!(io::stderr().lock(), "{before}{line}");
}

/// Whether standard error is to have colours: see <https://no-color.org> and <https://bixense.com/clicolors>.
fn is_colored() -> bool {
    let is = |name, meant: &str| env::var_os(name).is_some_and(|value| value == meant);
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    let forced = set("CLICOLOR_FORCE");
    let wanted = io::stderr().is_terminal() && !is("TERM", "dumb") && !is("CLICOLOR", "0");
    // Any value of this one counts.
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    (forced || wanted) && !refused
}

/// A text that cannot steer a terminal, whoever wrote it: control characters are escaped, but for line ends and tabs.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => printable.push(c),
            c if c.is_control() => printable.extend(c.escape_default()),
            c => printable.push(c),
        }
    }
    printable
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\u{9b}c\td\n"), "a\\u{1b}[2Jb\\r\\u{9b}c\td\n");
    }
}

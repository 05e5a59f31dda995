//! Standard error, which gets everything but output: as lines for people, or as one JSON object per line.

use std::env;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::cli::ErrorFormat;

/// Format of standard error.
struct Mode {
    format: ErrorFormat,
    verbose: bool,
}

static MODE: OnceLock<Mode> = OnceLock::new();

/// Sets the format of standard error. Only the first call has an effect.
pub(crate) fn init(format: ErrorFormat, verbose: bool) {
    let _ = MODE.set(Mode { format, verbose });
}

/// Returns whether every line is a JSON object.
pub(crate) fn is_json() -> bool {
    MODE.get().is_some_and(|mode| mode.format == ErrorFormat::Json)
}

/// Returns whether an engine's own messages are shown.
pub(crate) fn is_verbose() -> bool {
    MODE.get().is_some_and(|mode| mode.verbose)
}

/// The kind of a line on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// What the program does.
    #[cfg(any(feature = "registry", feature = "serve"))]
    Info,
    Error,
    /// A cause of the error above.
    Cause,
    Warning,
    /// The package's own message.
    Package,
    /// A line that a package or plugin wrote beside its output or response.
    Log,
    /// An access that a program tried without a grant.
    Denied,
    /// What a program or plugin wrote to its standard error. Only in JSON is it a line of its own.
    Stderr,
    /// What a call used.
    Stats,
}

/// A line in JSON that is not an error.
#[derive(Serialize)]
struct Note<'a> {
    level: Level,
    message: &'a str,
}

/// Prints a line.
pub(crate) fn note(level: Level, text: &str) {
    notes(level, [text.trim_end()]);
}

/// Prints several lines.
pub(crate) fn notes<'a>(level: Level, texts: impl IntoIterator<Item = &'a str>) {
    let lines: Vec<String> = match is_json() {
        true => texts.into_iter().map(|message| json(&Note { level, message })).collect(),
        false => {
            let (label, style) = label(level);
            texts.into_iter().map(|text| format!("{style}{label}{style:#} {}", printable(text))).collect()
        }
    };
    write_lines(&lines.join("\n"));
}

/// Prints a JSON object.
pub(crate) fn object(object: &impl Serialize) {
    write_lines(&json(object));
}

/// Prints a text of several lines unchanged, except for what a terminal would act on.
pub(crate) fn plain(text: &str) {
    write_lines(&printable(text.trim_end()));
}

fn json(object: &impl Serialize) -> String {
    // The objects contain nothing that JSON cannot express, and there is nowhere else to report an error.
    serde_json::to_string(object).unwrap_or_default()
}

/// Returns what a line begins with, coloured if standard error is a terminal that wants colours.
fn label(level: Level) -> (&'static str, Style) {
    let (label, color) = match level {
        #[cfg(any(feature = "registry", feature = "serve"))]
        Level::Info => ("info:", AnsiColor::Green),
        Level::Error => ("error:", AnsiColor::Red),
        Level::Cause => ("  caused by:", AnsiColor::Red),
        Level::Warning => ("warning:", AnsiColor::Yellow),
        Level::Package => ("package:", AnsiColor::Cyan),
        Level::Log => ("log:", AnsiColor::Cyan),
        Level::Denied => ("denied:", AnsiColor::Yellow),
        Level::Stderr => ("stderr:", AnsiColor::Cyan),
        Level::Stats => ("stats:", AnsiColor::Cyan),
    };
    (label, if is_colored() { Style::new().bold().fg_color(Some(color.into())) } else { Style::new() })
}

/// Whether a program or plugin left a line on standard error unfinished.
static UNFINISHED: AtomicBool = AtomicBool::new(false);

/// Returns a writer for a guest's own standard error: it writes bytes unchanged, or in JSON as lines.
pub(crate) fn of_guest() -> Box<dyn Write + Send> {
    if is_json() { Box::new(Lines::new(Level::Stderr)) } else { Box::new(Bytes) }
}

/// Writes bytes unchanged.
struct Bytes;

impl Write for Bytes {
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

/// Returns whether standard error is a terminal on which a line can be replaced.
#[cfg(feature = "registry")]
pub(crate) fn is_interactive() -> bool {
    io::stderr().is_terminal() && !is_json() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Shows a line that the next one replaces.
#[cfg(feature = "registry")]
pub(crate) fn progress(line: &str) {
    let _ = io::stderr().lock().write_all(format!("\r\x1b[K{line}").as_bytes());
    UNFINISHED.store(!line.is_empty(), Ordering::Relaxed);
}

/// Shows a guest's stream as lines of one level. The last line need not have an end.
pub(crate) struct Lines {
    level: Level,
    rest: Vec<u8>,
}

/// Maximum number of bytes of a line that are kept until it ends. A longer line is shown as several.
const MAX_LINE: usize = 64 << 10;

impl Lines {
    pub(crate) fn new(level: Level) -> Self {
        Self { level, rest: Vec::new() }
    }

    fn show(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            notes(self.level, String::from_utf8_lossy(bytes).lines());
        }
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // At most as much at once as is kept anyway.
        let bytes = bytes.get(..MAX_LINE).unwrap_or(bytes);
        self.rest.extend_from_slice(bytes);
        // Only whole lines, and all of them at once: each write costs the host more than the guest.
        let end = match self.rest.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.rest.len() >= MAX_LINE => character_boundary(&self.rest),
            None => return Ok(bytes.len()),
        };
        let rest = self.rest.split_off(end);
        let lines = std::mem::replace(&mut self.rest, rest);
        self.show(&lines);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.show(&self.rest);
    }
}

/// Returns where the last character begins, if it may be incomplete, or else the end.
fn character_boundary(bytes: &[u8]) -> usize {
    let is_start = |byte: &u8| !matches!(byte, 0x80..0xc0);
    let back = bytes.iter().rev().take(4).position(is_start).map_or(0, |at| at + 1);
    if bytes.len() > back { bytes.len() - back } else { bytes.len() }
}

/// Writes whole lines to standard error. A closed standard error is not a failure.
fn write_lines(lines: &str) {
    let before = if UNFINISHED.swap(false, Ordering::Relaxed) { "\n" } else { "" };
    // In one write, so that no line of another process comes between.
    let _ = io::stderr().lock().write_all(format!("{before}{lines}\n").as_bytes());
}

/// Returns whether standard error gets colours: see <https://no-color.org> and <https://bixense.com/clicolors>.
fn is_colored() -> bool {
    let is = |name, meant: &str| env::var_os(name).is_some_and(|value| value == meant);
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    let forced = set("CLICOLOR_FORCE");
    let wanted = io::stderr().is_terminal() && !is("TERM", "dumb") && !is("CLICOLOR", "0");
    // Any value of this variable counts, except an empty one.
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    (forced || wanted) && !refused
}

/// Returns a text that cannot control a terminal: control characters are escaped, except for line ends and tabs.
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

/// Maximum number of bytes of a message that are shown.
pub(crate) const MAX_MESSAGE: usize = 64 << 10;

/// The beginning of a text of any length.
pub(crate) struct Excerpt {
    text: String,
    limit: usize,
}

impl Excerpt {
    /// Returns at most `limit` bytes of a text, and `…` if there are more.
    pub(crate) fn of(text: impl fmt::Display, limit: usize) -> String {
        let mut excerpt = Self { text: String::new(), limit };
        // Text that does not fit is an error, which ends the formatting.
        if write!(excerpt, "{text}").is_err() {
            excerpt.text.push('…');
        }
        excerpt.text
    }
}

impl fmt::Write for Excerpt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(self.limit - self.text.len());
        self.text.push_str(&text[..fits]);
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\u{9b}c\td\n"), "a\\u{1b}[2Jb\\r\\u{9b}c\td\n");
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!(Excerpt::of("abc", 3), "abc");
        assert_eq!(Excerpt::of("abcd", 3), "abc…");
        assert_eq!(Excerpt::of("äöü", 3), "ä…");
    }

    #[test]
    fn a_line_without_an_end_is_cut_at_a_character() {
        for (bytes, end) in [("aä", 1), ("aäb", 3), ("a", 1), ("ä", 2), ("a😀", 1)] {
            assert_eq!(character_boundary(bytes.as_bytes()), end, "{bytes}");
        }
    }
}

//! Standard error, where everything goes that is no answer: as lines for people, or as one JSON object a line.

use std::env;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::cli::ErrorFormat;

/// How standard error is written.
struct Mode {
    format: ErrorFormat,
    verbose: bool,
}

static MODE: OnceLock<Mode> = OnceLock::new();

/// Sets how standard error is written, once and for all.
pub(crate) fn init(format: ErrorFormat, verbose: bool) {
    let _ = MODE.set(Mode { format, verbose });
}

/// Whether every line is a JSON object.
pub(crate) fn is_json() -> bool {
    MODE.get().is_some_and(|mode| mode.format == ErrorFormat::Json)
}

/// Whether an engine's own words are to be shown.
pub(crate) fn is_verbose() -> bool {
    MODE.get().is_some_and(|mode| mode.verbose)
}

/// What a line on standard error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    Error,
    /// What led to the error above.
    Cause,
    Warning,
    /// The package's own word.
    Package,
    /// What the package wrote beside its answer.
    Log,
    /// What a program tried to use without its having been granted.
    Denied,
    /// What a program or plugin wrote to its standard error; a line of its own in JSON alone.
    Stderr,
}

/// A line that is no error, in JSON.
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

/// Prints a text of several lines as it is, but for what a terminal would act on.
pub(crate) fn plain(text: &str) {
    write_lines(&printable(text.trim_end()));
}

fn json(object: &impl Serialize) -> String {
    // The objects hold nothing that JSON cannot say, and there is nowhere else to complain.
    serde_json::to_string(object).unwrap_or_default()
}

/// What a line begins with, coloured where standard error is a terminal that wants colours.
fn label(level: Level) -> (&'static str, Style) {
    let (label, color) = match level {
        Level::Error => ("error:", AnsiColor::Red),
        Level::Cause => ("  caused by:", AnsiColor::Red),
        Level::Warning => ("warning:", AnsiColor::Yellow),
        Level::Package => ("package:", AnsiColor::Cyan),
        Level::Log => ("log:", AnsiColor::Cyan),
        Level::Denied => ("denied:", AnsiColor::Yellow),
        Level::Stderr => ("stderr:", AnsiColor::Cyan),
    };
    (label, if is_colored() { Style::new().bold().fg_color(Some(color.into())) } else { Style::new() })
}

/// Whether a program or plugin left a line on standard error without an end.
static UNFINISHED: AtomicBool = AtomicBool::new(false);

/// What a program or plugin writes to standard error itself: as it is, or in JSON as lines.
pub(crate) fn of_guest() -> Box<dyn Write + Send> {
    if is_json() { Box::new(Lines::new(Level::Stderr)) } else { Box::new(Bytes) }
}

/// The bytes as they are.
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

/// A guest's stream as lines of one level. The last line need not have an end.
pub(crate) struct Lines {
    level: Level,
    rest: Vec<u8>,
}

/// How many bytes of a line are kept until it ends; a longer one is shown as several.
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
        // Not more at once than is kept anyway.
        let bytes = bytes.get(..MAX_LINE).unwrap_or(bytes);
        self.rest.extend_from_slice(bytes);
        // Only whole lines, and all of them at once: each time costs the host more than the guest.
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

/// Where the last character begins, if it may be cut off.
fn character_boundary(bytes: &[u8]) -> usize {
    let is_start = |byte: &u8| !matches!(byte, 0x80..0xc0);
    let back = bytes.iter().rev().take(4).position(is_start).map_or(0, |at| at + 1);
    if bytes.len() > back { bytes.len() - back } else { bytes.len() }
}

/// Writes lines of their own to standard error, which may be closed; that is no reason to fail.
fn write_lines(lines: &str) {
    let before = if UNFINISHED.swap(false, Ordering::Relaxed) { "\n" } else { "" };
    // In one piece, so that no other process's line comes between.
    let _ = io::stderr().lock().write_all(format!("{before}{lines}\n").as_bytes());
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

/// How many bytes of a message are shown, whoever wrote it.
pub(crate) const MAX_MESSAGE: usize = 64 << 10;

/// The beginning of a text, which may be as long as somebody else likes.
pub(crate) struct Excerpt {
    text: String,
    limit: usize,
}

impl Excerpt {
    /// No more than so many bytes of a text, and `…` where there are more.
    pub(crate) fn of(text: impl fmt::Display, limit: usize) -> String {
        let mut excerpt = Self { text: String::new(), limit };
        // What does not fit is an error, and the end.
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

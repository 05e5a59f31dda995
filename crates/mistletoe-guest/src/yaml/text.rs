//! Strings in YAML.

use alloc::string::String;
use core::fmt::Write as _;

/// The longest key on one line. YAML allows 1,024 characters, and escapes count.
const MAX_KEY: usize = 1000;

/// Writes `text` as the value of an entry of the collection in this column, and ends the line.
///
/// A text of several lines becomes a literal block, which keeps it readable.
pub(crate) fn value(out: &mut String, text: &str, column: usize) {
    if is_block(text) {
        block(out, text, column + 2);
    } else {
        scalar(out, text);
        out.push('\n');
    }
}

/// Writes `text` as a key, up to the colon.
pub(crate) fn key(out: &mut String, text: &str, column: usize) {
    let start = out.len();
    scalar(out, text);
    colon(out, start, column);
}

/// Ends a key that begins at `start`, with the explicit form for a long one.
pub(crate) fn colon(out: &mut String, start: usize, column: usize) {
    if out.len() - start > MAX_KEY {
        out.insert_str(start, "? ");
        out.push('\n');
        indent(out, column);
    }
    out.push(':');
}

pub(crate) fn indent(out: &mut String, column: usize) {
    out.extend(core::iter::repeat_n(' ', column));
}

/// Returns whether a literal block holds the text without any change, by every reader.
fn is_block(text: &str) -> bool {
    let content = text.trim_end_matches('\n');
    text.contains('\n')
        && !content.is_empty()
        && !content.ends_with([' ', '\t'])
        && text.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
}

fn block(out: &mut String, text: &str, column: usize) {
    out.push('|');
    // Otherwise, the first line decides on the indentation.
    if text.starts_with([' ', '\t', '\n']) {
        out.push('2');
    }
    let content = text.trim_end_matches('\n');
    out.push_str(match text.len() - content.len() {
        0 => "-",
        1 => "",
        _ => "+",
    });
    out.push('\n');
    for line in content.split('\n') {
        if !line.is_empty() {
            indent(out, column);
            out.push_str(line);
        }
        out.push('\n');
    }
    // The first line break is part of the loop.
    out.extend(text[content.len()..].chars().skip(1));
}

/// Writes `text` on one line: without quotes if every reader takes it for a string.
pub(crate) fn scalar(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
    } else if text.contains(['"', '\\']) && text.chars().all(is_printable) {
        out.push('\'');
        for part in text.split_inclusive('\'') {
            out.push_str(part);
            if part.ends_with('\'') {
                out.push('\'');
            }
        }
        out.push('\'');
    } else {
        out.push('"');
        for c in text.chars() {
            // Writing to a string does not fail.
            let _ = match c {
                '"' | '\\' => out.write_fmt(format_args!("\\{c}")),
                '\n' => out.write_str("\\n"),
                '\t' => out.write_str("\\t"),
                '\r' => out.write_str("\\r"),
                _ if is_printable(c) => out.write_char(c),
                _ => out.write_fmt(format_args!("\\U{:08x}", u32::from(c))),
            };
        }
        out.push('"');
    }
}

/// Returns whether the text needs no quotes.
///
/// The rule is stricter than YAML's. What starts with a letter and is not one of a few words is a string in YAML 1.1,
/// too, which other tools read.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let first = text.as_bytes().first().copied().unwrap_or_default();
    (first.is_ascii_alphabetic() || matches!(first, b'/' | b'_'))
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && text.chars().all(|c| is_printable(c) && !"[]{},\"'`\\".contains(c))
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Returns whether the character can be in a scalar as itself, on one line.
fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // Line breaks of YAML 1.1, the byte order mark, and two that are no characters.
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        _ => c >= '\u{a0}',
    }
}

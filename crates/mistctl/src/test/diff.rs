//! Two texts, line by line, as a unified diff.

use std::fmt::Write as _;

use crate::stderr::Excerpt;

/// Lines around a change that are shown.
const CONTEXT: usize = 3;
/// Maximum number of lines of a diff.
const MAX_LINES: usize = 400;
/// Maximum number of bytes of a line that are shown.
const MAX_LINE: usize = 500;
/// Maximum number of pairs of lines that are compared, which bounds time and memory. Of longer texts, all lines between
/// the first and the last difference count as changed.
const MAX_PAIRS: usize = 4_000_000;
/// Maximum number of lines that are compared, and of their bytes.
const MAX_COMPARED: usize = 20_000;
const MAX_BYTES: usize = 4 << 20;

/// A line of a diff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// Returns the unified diff of two texts; empty if they are the same.
pub(crate) fn unified(old_name: &str, new_name: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let Parts { start, old, new, end } = parts(old, new);
    let mut hunks = Hunks { diff: format!("--- {old_name}\n+++ {new_name}\n"), shown: 0 };
    let context: Vec<&str> = start.split_inclusive('\n').rev().take(CONTEXT).collect();
    let before = count(start) - context.len();
    let context = context.into_iter().rev().map(Line::Same);
    let end: Vec<_> = end.split_inclusive('\n').take(CONTEXT).map(Line::Same).collect();
    let (old_count, new_count) = (count(old), count(new));
    let pairs = old_count.saturating_mul(new_count + 1);
    if pairs <= MAX_PAIRS && old_count + new_count <= MAX_COMPARED && old.len() + new.len() <= MAX_BYTES {
        let lines: Vec<_> = context.chain(compare(&lines(old), &lines(new))).chain(end).collect();
        hunks.all(before, &lines);
    } else {
        let around = context.len() + end.len();
        hunks.header((before, old_count + around), (before, new_count + around));
        let old = old.split_inclusive('\n').map(Line::Old);
        hunks.lines(context.chain(old).chain(new.split_inclusive('\n').map(Line::New)).chain(end));
    }
    if hunks.shown > MAX_LINES {
        hunks.diff.push_str("… (the rest of the diff is not shown)\n");
    }
    hunks.diff
}

/// Two different texts, without the lines at their start and end that are the same.
struct Parts<'a> {
    start: &'a str,
    old: &'a str,
    new: &'a str,
    end: &'a str,
}

fn parts<'a>(old: &'a str, new: &'a str) -> Parts<'a> {
    fn same<'b>(old: impl Iterator<Item = &'b u8>, new: impl Iterator<Item = &'b u8>) -> usize {
        old.zip(new).take_while(|(old, new)| old == new).count()
    }
    let equal = same(old.as_bytes().iter(), new.as_bytes().iter());
    let start = old.as_bytes().iter().take(equal).rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let ((start, old), (_, new)) = (old.split_at(start), new.split_at(start));
    let equal = same(old.as_bytes().iter().rev(), new.as_bytes().iter().rev());
    // The common end begins where a line does in both texts.
    let begins =
        |text: &str| text.as_bytes().get(..text.len() - equal).is_none_or(|text| matches!(text, [] | [.., b'\n']));
    let end = match begins(old) && begins(new) {
        true => equal,
        false => old.as_bytes().iter().rev().take(equal).rposition(|byte| *byte == b'\n').unwrap_or(0),
    };
    let ((old, end), (new, _)) = (old.split_at(old.len() - end), new.split_at(new.len() - end));
    Parts { start, old, new, end }
}

/// Returns the number of lines.
fn count(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count() + usize::from(!text.is_empty() && !text.ends_with('\n'))
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn is_same(line: &Line<'_>) -> bool {
    matches!(line, Line::Same(_))
}

/// The hunks of a diff.
struct Hunks {
    diff: String,
    /// Number of lines.
    shown: usize,
}

impl Hunks {
    /// Adds the hunks of these lines, which come after `before` others.
    fn all(&mut self, before: usize, lines: &[Line<'_>]) {
        let (mut at, mut old_before, mut new_before) = (0, before, before);
        while let Some(change) = lines.get(at..).and_then(|rest| rest.iter().position(|line| !is_same(line))) {
            let start = (at + change).saturating_sub(CONTEXT).max(at);
            let end = hunk_end(lines, at + change);
            let (skipped, hunk) = (start - at, lines.get(start..end).unwrap_or_default());
            (old_before, new_before) = (old_before + skipped, new_before + skipped);
            let old = hunk.iter().filter(|line| !matches!(line, Line::New(_))).count();
            let new = hunk.iter().filter(|line| !matches!(line, Line::Old(_))).count();
            self.header((old_before, old), (new_before, new));
            self.lines(hunk.iter().copied());
            if self.shown > MAX_LINES {
                return;
            }
            (at, old_before, new_before) = (end, old_before + old, new_before + new);
        }
    }

    /// Adds a hunk's header: the number of lines before it, and within it.
    fn header(&mut self, old: (usize, usize), new: (usize, usize)) {
        // A range without lines is named by the line before it.
        let range = |(before, lines): (usize, usize)| match lines {
            0 => format!("{before},0"),
            1 => (before + 1).to_string(),
            _ => format!("{},{lines}", before + 1),
        };
        let _ = writeln!(self.diff, "@@ -{} +{} @@", range(old), range(new));
    }

    /// Adds lines, until there are too many.
    fn lines<'a>(&mut self, lines: impl IntoIterator<Item = Line<'a>>) {
        for line in lines {
            self.shown += 1;
            if self.shown > MAX_LINES {
                return;
            }
            let (sign, text) = match line {
                Line::Same(text) => (' ', text),
                Line::Old(text) => ('-', text),
                Line::New(text) => ('+', text),
            };
            let end = if text.ends_with('\n') { "" } else { "\n\\ No newline at end of file" };
            let _ = writeln!(self.diff, "{sign}{}{end}", Excerpt::of(text.trim_end_matches('\n'), MAX_LINE));
        }
    }
}

/// Returns where the hunk ends whose first change is here: after the context of its last change.
fn hunk_end(lines: &[Line<'_>], change: usize) -> usize {
    let mut last = change;
    for (i, line) in lines.iter().enumerate().skip(change) {
        if !is_same(line) {
            last = i;
        } else if i - last > 2 * CONTEXT {
            break;
        }
    }
    (last + 1 + CONTEXT).min(lines.len())
}

/// Compares two lists of lines by a longest common subsequence.
fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    let width = new.len() + 1;
    let (mut i, mut j) = (0, 0);
    // The length of the longest common subsequence of what follows, for each pair of positions.
    let mut table = vec![0u32; (old.len() + 1) * width];
    let get = |table: &[u32], i: usize, j: usize| table.get(i * width + j).copied().unwrap_or_default();
    for (i, old) in old.iter().enumerate().rev() {
        for (j, new) in new.iter().enumerate().rev() {
            let longest = match old == new {
                true => get(&table, i + 1, j + 1) + 1,
                false => get(&table, i + 1, j).max(get(&table, i, j + 1)),
            };
            if let Some(cell) = table.get_mut(i * width + j) {
                *cell = longest;
            }
        }
    }
    while let (Some(one), Some(two)) = (old.get(i), new.get(j)) {
        if one == two {
            lines.push(Line::Same(one));
            (i, j) = (i + 1, j + 1);
        } else if get(&table, i + 1, j) >= get(&table, i, j + 1) {
            lines.push(Line::Old(one));
            i += 1;
        } else {
            lines.push(Line::New(two));
            j += 1;
        }
    }
    lines.extend(old.iter().skip(i).map(|line| Line::Old(line)));
    lines.extend(new.iter().skip(j).map(|line| Line::New(line)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_as_diff_u_prints_it() {
        // Each expected text is what GNU diff -u prints, without its dates.
        for (old, new, expected) in [
            ("a\nb\nc\n", "a\nb\nc\n", ""),
            ("a\nb\nc\n", "a\nx\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"),
            ("", "a\n", "@@ -0,0 +1 @@\n+a\n"),
            ("a\n", "", "@@ -1 +0,0 @@\n-a\n"),
            ("a\n", "a", "@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n"),
            ("a\n", "x\na\n", "@@ -1 +1,2 @@\n+x\n a\n"),
            ("a\nb\n", "a\nxb\n", "@@ -1,2 +1,2 @@\n a\n-b\n+xb\n"),
            ("xé\n", "xè\n", "@@ -1 +1 @@\n-xé\n+xè\n"),
            ("a\na\n", "a\na\na\n", "@@ -1,2 +1,3 @@\n a\n a\n+a\n"),
            ("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", "@@ -7,3 +7,4 @@\n 7\n 8\n 9\n+10\n"),
        ] {
            let diff = unified("old", "new", old, new);
            let expected = if expected.is_empty() { String::new() } else { format!("--- old\n+++ new\n{expected}") };
            assert_eq!(diff, expected);
        }
    }

    #[test]
    fn changes_far_apart_are_hunks_of_their_own() {
        let old: String = (1..=30).map(|n| format!("{n}\n")).collect();
        let new = old.replace("2\n3\n", "2\nx\n").replace("28\n", "y\n");
        let diff = unified("old", "new", &old, &new);
        let hunks: Vec<_> = diff.lines().filter(|line| line.starts_with("@@")).collect();
        assert_eq!(hunks, ["@@ -1,6 +1,6 @@", "@@ -25,6 +25,6 @@"], "{diff}");
    }

    #[test]
    fn a_diff_of_long_texts_is_short_and_quick() {
        let old: String = (0..200_000).map(|n| format!("{n}\n")).collect();
        let new: String = (0..200_000).map(|n| format!("{}\n", n * 2 + 1)).collect();
        let diff = unified("old", "new", &old, &new);
        assert!(diff.lines().count() <= MAX_LINES + 5, "{}", diff.lines().count());
        assert!(diff.ends_with("is not shown)\n"));
        // Lines in common come before and after: they are neither kept nor counted anew for each hunk.
        let long = "\n".repeat(8 << 20);
        let diff = unified("old", "new", &format!("{long}a\n{long}"), &format!("{long}b\n{long}"));
        assert_eq!(diff, "--- old\n+++ new\n@@ -8388606,7 +8388606,7 @@\n \n \n \n-a\n+b\n \n \n \n");
        // Too many lines to be compared: their number alone is exact.
        let diff = unified("old", "new", &format!("a\n{long}"), &format!("{long}{long}x"));
        assert!(diff.starts_with("--- old\n+++ new\n@@ -1,8388609 +1,16777217 @@\n-a\n-\n"), "{}", &diff[..100]);
        assert!(diff.ends_with("is not shown)\n"));
        let line = "x".repeat(1 << 20);
        assert!(unified("old", "new", "", &line).len() < 2 * MAX_LINE);
    }
}

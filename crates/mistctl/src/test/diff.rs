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

/// Maximum length of both texts together, in bytes. Of longer ones, only the place of the first difference is shown.
const MAX_BYTES: usize = 16 << 20;

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
    let mut diff = format!("--- {old_name}\n+++ {new_name}\n");
    if old.len() + new.len() > MAX_BYTES {
        let same = old.bytes().zip(new.bytes()).take_while(|(old, new)| old == new);
        let line = 1 + same.filter(|(byte, _)| *byte == b'\n').count();
        let _ = writeln!(diff, "… (too long for a diff; line {line} is the first that differs)");
        return diff;
    }
    let lines = compare(&lines(old), &lines(new));
    let mut shown = 0;
    let mut at = 0;
    while let Some(change) = lines.get(at..).and_then(|rest| rest.iter().position(|line| !is_same(line))) {
        let start = (at + change).saturating_sub(CONTEXT).max(at);
        let end = hunk_end(&lines, at + change);
        hunk(&mut diff, &lines, start, end, &mut shown);
        if shown > MAX_LINES {
            diff.push_str("… (the rest of the diff is not shown)\n");
            break;
        }
        at = end;
    }
    diff
}

fn is_same(line: &Line<'_>) -> bool {
    matches!(line, Line::Same(_))
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

fn hunk(diff: &mut String, lines: &[Line<'_>], start: usize, end: usize, shown: &mut usize) {
    let count = |lines: &[Line<'_>], without: fn(&Line<'_>) -> bool| lines.iter().filter(|line| !without(line)).count();
    let (before, hunk) = (lines.get(..start).unwrap_or_default(), lines.get(start..end).unwrap_or_default());
    let old = |lines| count(lines, |line| matches!(line, Line::New(_)));
    let new = |lines| count(lines, |line| matches!(line, Line::Old(_)));
    // A range without lines is named by the line before it.
    let range = |before: usize, lines: usize| match lines {
        0 => format!("{before},0"),
        1 => (before + 1).to_string(),
        _ => format!("{},{lines}", before + 1),
    };
    let (from, to) = (range(old(before), old(hunk)), range(new(before), new(hunk)));
    let _ = writeln!(diff, "@@ -{from} +{to} @@");
    for line in hunk {
        *shown += 1;
        if *shown > MAX_LINES {
            return;
        }
        let (sign, text) = match line {
            Line::Same(text) => (' ', text),
            Line::Old(text) => ('-', text),
            Line::New(text) => ('+', text),
        };
        let end = if text.ends_with('\n') { "" } else { "\n\\ No newline at end of file" };
        let _ = writeln!(diff, "{sign}{}{end}", Excerpt::of(text.trim_end_matches('\n'), MAX_LINE));
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Compares two lists of lines: a longest common subsequence, if that is not too costly.
fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| pairs.take_while(|(old, new)| old == new).count();
    let start = same(&mut old.iter().zip(new));
    let (old_rest, new_rest) = (old.get(start..).unwrap_or_default(), new.get(start..).unwrap_or_default());
    let end = same(&mut old_rest.iter().rev().zip(new_rest.iter().rev()));
    let (old_middle, tail) = old_rest.split_at(old_rest.len() - end);
    let new_middle = new_rest.get(..new_rest.len() - end).unwrap_or_default();

    let mut lines: Vec<_> = old.iter().take(start).map(|line| Line::Same(line)).collect();
    middle(old_middle, new_middle, &mut lines);
    lines.extend(tail.iter().map(|line| Line::Same(line)));
    lines
}

fn middle<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    let (mut i, mut j) = (0, 0);
    if old.len().saturating_mul(width) <= MAX_PAIRS {
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
    }
    lines.extend(old.iter().skip(i).map(|line| Line::Old(line)));
    lines.extend(new.iter().skip(j).map(|line| Line::New(line)));
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
        let long = "\n".repeat(MAX_BYTES);
        let diff = unified("old", "new", &long, &format!("{long}x"));
        let line = MAX_BYTES + 1;
        assert!(diff.ends_with(&format!("(too long for a diff; line {line} is the first that differs)\n")), "{diff}");
        let line = "x".repeat(1 << 20);
        assert!(unified("old", "new", "", &line).len() < 2 * MAX_LINE);
    }
}

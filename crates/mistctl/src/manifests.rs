//! The files of a package's output as one YAML stream, the form that `kubectl apply -f -` reads.

/// Joins the files' texts into one stream.
///
/// Puts `---` between them, but none before the first, and no second one where a file has its own. Each text ends with
/// a line end. The texts are passed on, not parsed.
pub(crate) fn stream(files: &[(String, String)]) -> String {
    let mut stream = String::new();
    for (_, text) in files {
        if !stream.is_empty() && !starts_document(text) && !ends_with_marker(&stream) {
            stream.push_str("---\n");
        }
        stream.push_str(text);
        if !text.ends_with('\n') {
            stream.push('\n');
        }
    }
    stream
}

/// Returns whether a document marker comes before anything else but comments and directives.
fn starts_document(text: &str) -> bool {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    lines.find(|line| !line.trim().is_empty() && !line.starts_with(['#', '%'])).is_some_and(is_marker)
}

fn ends_with_marker(text: &str) -> bool {
    text.lines().next_back().is_some_and(|line| is_marker(line) && line.trim_end() == "---")
}

/// Returns whether a line is `---`, alone or before white space.
fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_parted_by_one_marker_each() {
        for (texts, expected) in [
            (vec![], ""),
            (vec!["a: 1\n"], "a: 1\n"),
            (vec!["a: 1", "b: 2"], "a: 1\n---\nb: 2\n"),
            (vec!["---\na: 1\n", "---\nb: 2\n"], "---\na: 1\n---\nb: 2\n"),
            (vec!["a: 1\n", "# note\n\n--- # doc\nb: 2\n"], "a: 1\n# note\n\n--- # doc\nb: 2\n"),
            (vec!["a: 1\n---\n", "b: 2\n"], "a: 1\n---\nb: 2\n"),
            (vec!["a: 1\n", "----\n"], "a: 1\n---\n----\n"),
            (vec!["", "b: 2\n"], "\n---\nb: 2\n"),
            (vec!["a: 1\n", "b: |\n  ---\n"], "a: 1\n---\nb: |\n  ---\n"),
        ] {
            let files: Vec<_> = texts.iter().map(|text| (String::new(), text.to_string())).collect();
            assert_eq!(stream(&files), expected, "{texts:?}");
        }
    }
}

//! Kubernetes resources in the texts that packages and programs return, and files as one YAML stream, the form that
//! `kubectl apply -f -` reads.

use std::collections::{HashMap, HashSet};

use mistletoe::documents::yaml::{self, Budget, Mapping, Value};
use serde::de::IgnoredAny;

/// Lists that a resource may be nested in: the stages of a program's output, and the list of one stage.
const LISTS: usize = 2;
/// Maximum number of documents that a text is split into. One more is always beyond the limit on nodes.
const MAX_DOCUMENTS: usize = yaml::MAX_NODES + 1;
/// Maximum number of characters of a file's name, without its number and extension.
const MAX_NAME: usize = 200;

/// A Kubernetes resource.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) fields: Mapping,
    /// The resource as one YAML document without a marker, where possible as its author wrote it.
    pub(crate) text: String,
}

impl From<Mapping> for Resource {
    fn from(fields: Mapping) -> Self {
        let value = Value::Mapping(fields);
        let text = value.to_text();
        let Value::Mapping(fields) = value else { return Self { fields: Mapping::new(), text } };
        Self { fields, text }
    }
}

/// Reads the resources in a text: YAML documents or JSON values, one after the other.
///
/// Each of them is a resource, a `List`, a list of resources, or a list of such lists.
pub(crate) fn resources(text: &str, budget: &mut Budget) -> Result<Vec<Resource>, yaml::Error> {
    let mut resources = Vec::new();
    for Document { text, line } in documents(text) {
        // Where the parser knows no line, the document's first.
        let first = text.len() - text.trim_start().len();
        let first = 1 + text.get(..first).unwrap_or_default().matches('\n').count() as u64;
        let in_text = |error: yaml::Error| yaml::Error { line: Some(error.line.unwrap_or(first) + line), ..error };
        let value = budget.parse(text).map_err(in_text)?;
        let is_resource = matches!(&value, Value::Mapping(fields) if listed(fields).is_none());
        let mut found = Vec::new();
        flatten(value, LISTS, "", &mut found).map_err(in_text)?;
        let authored = if is_resource { authored(text) } else { None };
        match (authored, <[Mapping; 1]>::try_from(found)) {
            (Some(text), Ok([fields])) => resources.push(Resource { fields, text }),
            (None, Ok([fields])) => resources.push(fields.into()),
            (_, Err(found)) => resources.extend(found.into_iter().map(Resource::from)),
        }
    }
    Ok(resources)
}

/// Returns the resources as files, which are named after their kinds and names: `deployment-web.yaml`.
pub(crate) fn named(resources: Vec<Resource>) -> Vec<(String, String)> {
    let (mut taken, mut numbers) = (HashSet::new(), HashMap::<String, usize>::new());
    let name = |resource: &Resource| {
        let metadata = resource.fields.get("metadata").and_then(Value::as_mapping);
        let name = metadata.and_then(|metadata| metadata.get("name").or_else(|| metadata.get("generateName")));
        let parts = [resource.fields.get("kind"), name].map(|part| part.and_then(Value::as_str).unwrap_or_default());
        let name: String = parts.join("-").chars().take(MAX_NAME).map(in_file_name).collect();
        let name = name.trim_end_matches('-');
        // Names that differ in what is left out of them, or in their namespaces, are numbered.
        let number = numbers.entry(name.to_owned()).or_default();
        loop {
            *number += 1;
            let file = if *number == 1 { format!("{name}.yaml") } else { format!("{name}-{number}.yaml") };
            if taken.insert(file.clone()) {
                return file;
            }
        }
    };
    let names: Vec<String> = resources.iter().map(name).collect();
    names.into_iter().zip(resources).map(|(name, resource)| (name, resource.text)).collect()
}

/// Returns a character that every file system distinguishes from the others.
fn in_file_name(c: char) -> char {
    match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '-' | '.') => c,
        _ => '-',
    }
}

/// Collects the resources of a value in order.
fn flatten(value: Value, lists: usize, path: &str, resources: &mut Vec<Mapping>) -> Result<(), yaml::Error> {
    let error = |problem: String| Err(yaml::Error { path: path.to_owned(), line: None, problem });
    match value {
        Value::Null => Ok(()),
        Value::Sequence(items) if lists > 0 => {
            let items = items.into_iter().enumerate();
            items
                .map(|(i, item)| (format!("{path}[{i}]"), item))
                .try_for_each(|(path, item)| flatten(item, lists - 1, &path, resources))
        }
        Value::Mapping(mut fields) => match listed(&fields) {
            Some(_) if lists > 0 => {
                let items = fields.remove("items").unwrap_or(Value::Null);
                let dot = if path.is_empty() { "" } else { "." };
                flatten(items, lists.min(1), &format!("{path}{dot}items"), resources)
            }
            _ => {
                let lacks = |field: &&str| fields.get(field).and_then(Value::as_str).is_none_or(str::is_empty);
                match ["apiVersion", "kind"].into_iter().find(lacks) {
                    Some(field) => error(format!("expected a resource, but it has no `{field}`")),
                    None => {
                        resources.push(fields);
                        Ok(())
                    }
                }
            }
        },
        other => error(format!("expected a resource, found {}", other.describe())),
    }
}

/// Returns the items of a `List`.
fn listed(fields: &Mapping) -> Option<&Value> {
    let is_list = fields.get("apiVersion").and_then(Value::as_str) == Some("v1")
        && fields.get("kind").and_then(Value::as_str) == Some("List");
    fields.get("items").filter(|_| is_list)
}

/// A part of a text, and the number of lines before it.
#[derive(Debug, PartialEq)]
struct Document<'a> {
    text: &'a str,
    line: u64,
}

/// Splits a stream into its documents.
fn documents(text: &str) -> Vec<Document<'_>> {
    let text = text.trim_start_matches('\u{feff}');
    let ends = json_ends(text).unwrap_or_else(|| yaml_ends(text));
    let (mut start, mut line) = (0, 0);
    let mut documents = Vec::with_capacity(ends.len());
    for end in ends {
        let part = text.get(start..end).unwrap_or_default();
        documents.push(Document { text: part, line });
        line += part.matches('\n').count() as u64;
        start = end;
    }
    documents
}

/// Returns where each of several JSON values ends, if the text consists of them.
fn json_ends(text: &str) -> Option<Vec<usize>> {
    // Programs write one value after the other, which is not YAML.
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut ends = Vec::new();
    while ends.len() < MAX_DOCUMENTS
        && let Some(value) = values.next()
    {
        value.ok()?;
        ends.push(values.byte_offset());
    }
    Some(ends)
}

/// Returns where each YAML document ends. A line that begins with `---` or `...` is a marker wherever it stands.
fn yaml_ends(text: &str) -> Vec<usize> {
    let (mut ends, mut at, mut has_begun) = (Vec::new(), 0, false);
    for line in text.split_inclusive('\n') {
        if ends.len() == MAX_DOCUMENTS {
            return ends;
        }
        let is_end = is_marker(line, "...");
        if is_marker(line, "---") {
            if has_begun {
                ends.push(at);
            }
            has_begun = true;
        } else if !is_end && !is_before_document(line) {
            has_begun = true;
        }
        at += line.len();
        if is_end && has_begun {
            ends.push(at);
            has_begun = false;
        }
    }
    if has_begun {
        ends.push(at);
    }
    ends
}

/// Returns the text of a document in block style without its markers.
pub(crate) fn authored(document: &str) -> Option<String> {
    let mut text = String::with_capacity(document.len() + 1);
    let mut has_begun = false;
    for line in document.split_inclusive('\n') {
        if is_marker(line, "---") {
            if !line.get(3..).is_some_and(is_before_document) {
                return None;
            }
        } else if line.starts_with('%') || (!has_begun && line.trim_start().starts_with('{')) {
            return None;
        } else if !is_marker(line, "...") {
            has_begun |= !is_before_document(line);
            text.push_str(line);
        }
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Some(text)
}

/// Joins the files' texts into one stream.
///
/// Puts `---` between them, but none before the first, and no second one where a file has its own. Each text ends with
/// a line end. Byte order marks and `%YAML` directives are left out.
///
/// With the name of a package as `source`, `---` and a comment with the names of the package and the file come before
/// each text, and replace its own marker.
///
/// # Errors
///
/// A message that names the first file that is not a YAML stream of mappings and sequences.
pub(crate) fn stream(files: &[(String, String)], source: Option<&str>) -> Result<String, String> {
    let mut stream = String::new();
    for (name, text) in files {
        if let Err(error) = yaml::check_stream(text) {
            let name = name.escape_debug();
            return Err(format!("the file \"{name}\" is not a YAML manifest ({error}); -o dir=DIR writes any file"));
        }
        let text = body(text);
        let opening = opening(text);
        if let Some(package) = source {
            // Before another marker, the comment would be a document of its own.
            let (comments, rest) = opening.unwrap_or(("", text));
            let (package, name) = (commented(package), commented(name));
            stream.push_str(&format!("---\n# Source: {package}/{name}\n{comments}{rest}"));
        } else {
            if opening.is_none() && !stream.is_empty() && !ends_with_marker(&stream) {
                stream.push_str("---\n");
            }
            stream.push_str(text);
        }
        if !stream.ends_with('\n') {
            stream.push('\n');
        }
    }
    Ok(stream)
}

/// Returns a text without what has no effect and may stand only at the beginning of a stream: a byte order mark, and
/// the directive `%YAML`.
fn body(text: &str) -> &str {
    let text = text.trim_start_matches('\u{feff}');
    match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("%YAML") => rest,
        _ => text,
    }
}

/// Returns the comments before a document marker and the text after it, if nothing else comes before a marker.
fn opening(text: &str) -> Option<(&str, &str)> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if is_marker(line, "---") {
            let rest = text.get(at + 3..)?.trim_start_matches([' ', '\t']);
            let rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')).unwrap_or(rest);
            return Some((text.get(..at)?, rest));
        }
        if !is_before_document(line) {
            return None;
        }
        at += line.len();
    }
    None
}

/// Returns a text for a line of a comment: characters that could end the line, or that YAML does not allow, are escaped.
pub(crate) fn commented(text: &str) -> String {
    let mut comment = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => comment.push(c),
            c if c.is_control() => comment.extend(c.escape_default()),
            // Line ends of YAML 1.1, and what YAML does not allow in a text.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => comment.extend(c.escape_default()),
            c => comment.push(c),
        }
    }
    comment
}

fn ends_with_marker(text: &str) -> bool {
    text.lines().next_back().is_some_and(|line| line.trim_end() == "---")
}

/// Returns whether a line is a marker, alone or before white space.
fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Returns whether a line is empty, a comment or a directive.
fn is_before_document(line: &str) -> bool {
    line.trim_start().is_empty() || line.trim_start().starts_with('#') || line.starts_with('%')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let resources = resources(text, &mut Budget::default()).map_err(|error| error.to_string())?;
        let name = |resource: &Resource| resource.fields.get("kind").and_then(Value::as_str).map(str::to_owned);
        Ok(resources.into_iter().map(|resource| (name(&resource).unwrap_or_default(), resource.text)).collect())
    }

    fn kinds(text: &str) -> Result<String, String> {
        Ok(read(text)?.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn resources_are_read_from_streams_and_lists_in_yaml_and_json() {
        let [a, b, c] = ["A", "B", "C"].map(|kind| format!(r#"{{"apiVersion": "v1", "kind": "{kind}"}}"#));
        for (text, expected) in [
            (String::new(), ""),
            ("---\n---\n# nothing\n".to_owned(), ""),
            (format!("{a}\n{b}{c}"), "A B C"),
            (format!("[{a},\n{b}] {c}"), "A B C"),
            (format!("{a}\n---\n{b}\n"), "A B"),
            (format!("[[{a}, {b}], [{c}], [], null]"), "A B C"),
            (format!("- - {a}\n  - {b}\n- - {c}\n"), "A B C"),
            (format!("apiVersion: v1\nkind: List\nitems:\n- {a}\n- {b}\n---\n{c}"), "A B C"),
            ("apiVersion: v1\nkind: A\n...\n# note\n---\napiVersion: v1\nkind: B\n".to_owned(), "A B"),
            ("\u{feff}%YAML 1.2\n---\napiVersion: v1\nkind: A\n".to_owned(), "A"),
            ("apiVersion: v1\nkind: A\ntext: |\n  ---\n".to_owned(), "A"),
        ] {
            assert_eq!(kinds(&text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_resource_is_named_with_its_place() {
        let a = r#"{"apiVersion": "v1", "kind": "A"}"#;
        for (text, expected) in [
            ("hello".to_owned(), "line 1, expected a resource, found the string \"hello\""),
            (format!("{a}\n{{\"kind\": \"B\"}}"), "line 2, expected a resource, but it has no `apiVersion`"),
            ("---\napiVersion: v1\n".to_owned(), "line 1, expected a resource, but it has no `kind`"),
            (format!("[[{a}, 1]]"), "line 1, `[0][1]`: expected a resource, found the integer 1"),
            (format!("[[[{a}]]]"), "line 1, `[0][0]`: expected a resource, found a sequence"),
            (format!("{a}\n---\na: [\n"), "line 3, "),
        ] {
            let error = kinds(&text).expect_err(&text);
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn many_documents_share_one_budget() {
        let error = kinds(&"---\n".repeat(yaml::MAX_NODES + 1)).expect_err("more than the limit");
        assert!(error.contains("nodes"), "{error}");
        let document = format!("---\napiVersion: v1\nkind: A\na: [{}]\n", "0,".repeat(400_000));
        assert!(kinds(&document).is_ok());
        assert!(kinds(&document.repeat(3)).expect_err("more than the limit").contains("nodes"));
    }

    #[test]
    fn a_document_in_block_style_stays_as_it_is() {
        let first = "# before\n--- # first\napiVersion: v1 # one\nkind: A\nmode: 0644\n\n";
        let text = format!("{first}---\n{{apiVersion: v1, kind: B}}\n--- {{apiVersion: v1, kind: C}}\n");
        let texts: Vec<_> = read(&text).expect("resources").into_iter().map(|(_, text)| text).collect();
        assert_eq!(
            texts,
            [
                "# before\napiVersion: v1 # one\nkind: A\nmode: 0644\n\n",
                "apiVersion: v1\nkind: B\n",
                "apiVersion: v1\nkind: C\n"
            ]
        );
    }

    #[test]
    fn files_have_names_of_their_own_that_every_file_system_takes() {
        let long = "x".repeat(300);
        let names = ["web", "web", "WEB", "../../etc", "a/b:c", "web-2", "", &long, "\0\u{1f600}"];
        let texts = names.map(|name| {
            let name = serde_json::json!(name);
            format!(r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": {name}}}}}"#)
        });
        let resources = resources(&texts.concat(), &mut Budget::default()).expect("resources");
        let files: Vec<_> = named(resources).into_iter().map(|(name, _)| name).collect();
        let long = format!("pod-{}.yaml", "x".repeat(196));
        let expected = [
            "pod-web.yaml",
            "pod-web-2.yaml",
            "pod-web-3.yaml",
            "pod-..-..-etc.yaml",
            "pod-a-b-c.yaml",
            "pod-web-2-2.yaml",
            "pod.yaml",
            &long,
            "pod-2.yaml",
        ];
        assert_eq!(files, expected);
    }

    fn files(texts: &[&str]) -> Vec<(String, String)> {
        texts.iter().enumerate().map(|(i, text)| (format!("{i}.yaml"), text.to_string())).collect()
    }

    #[test]
    fn documents_are_parted_by_one_marker_each() {
        for (texts, expected) in [
            (&[][..], ""),
            (&["a: 1\n"], "a: 1\n"),
            (&["a: 1", "b: 2"], "a: 1\n---\nb: 2\n"),
            (&["---\na: 1\n", "---\nb: 2\n"], "---\na: 1\n---\nb: 2\n"),
            (&["a: 1\n", "# note\n\n--- # doc\nb: 2\n"], "a: 1\n# note\n\n--- # doc\nb: 2\n"),
            (&["a: 1\n---\n", "b: 2\n"], "a: 1\n---\nb: 2\n"),
            (&["a: 1\n", "----: 2\n"], "a: 1\n---\n----: 2\n"),
            (&["", "b: 2\n"], "\n---\nb: 2\n"),
            (&["a: 1\n", "b: |\n  ---\n"], "a: 1\n---\nb: |\n  ---\n"),
        ] {
            assert_eq!(stream(&files(texts), None).as_deref(), Ok(expected), "{texts:?}");
        }
    }

    #[test]
    fn a_source_is_a_comment_on_one_line() {
        let mut files = files(&["a: 1", "---\nb: 2\n", "# note\n---\nc: 3\n"]);
        files[1].0 = "x\nkind: Pod\u{2028}\u{85}y".to_owned();
        let expected = "---\n# Source: p/0.yaml\na: 1\n\
                        ---\n# Source: p/x\\nkind: Pod\\u{2028}\\u{85}y\nb: 2\n\
                        ---\n# Source: p/2.yaml\n# note\nc: 3\n";
        assert_eq!(stream(&files, Some("p")).as_deref(), Ok(expected));
        let documents = expected.split("---\n").filter_map(|text| yaml::parse(text).ok()).map(|value| value.to_text());
        assert_eq!(documents.collect::<String>(), "null\na: 1\nb: 2\nc: 3\n");
    }

    #[test]
    fn markers_directives_and_byte_order_marks_stay_out_of_the_middle() {
        for (texts, plain, with_source) in [
            (
                ["%YAML 1.2\n---\na: 1\n...\n", "\u{feff}%YAML 1.1\r\n# note\n---\nb: 2\n"],
                "---\na: 1\n...\n# note\n---\nb: 2\n",
                "---\n#0\na: 1\n...\n---\n#1\n# note\nb: 2\n",
            ),
            (["\u{feff}a: 1\n", "\u{feff}---\nb: 2\n"], "a: 1\n---\nb: 2\n", "---\n#0\na: 1\n---\n#1\nb: 2\n"),
            (
                ["---\r\na: 1\r\n", "--- # x\r\nb: 2\n"],
                "---\r\na: 1\r\n--- # x\r\nb: 2\n",
                "---\n#0\na: 1\r\n---\n#1\n# x\r\nb: 2\n",
            ),
            (["--- {a: 1}\n", "--- &b\nb: 2\n"], "--- {a: 1}\n--- &b\nb: 2\n", "---\n#0\n{a: 1}\n---\n#1\n&b\nb: 2\n"),
        ] {
            let with_source = with_source.replace("#0", "# Source: p/0.yaml").replace("#1", "# Source: p/1.yaml");
            for (source, expected) in [(None, plain), (Some("p"), &with_source)] {
                assert_eq!(stream(&files(&texts), source).as_deref(), Ok(expected), "{texts:?}");
                assert_eq!(yaml::check_stream(expected), Ok(()), "{expected}");
                let documents = documents(expected).into_iter().map(|document| yaml::parse(document.text));
                let texts = documents.map(|value| value.map(|value| value.to_text()));
                assert_eq!(texts.collect::<Result<String, _>>().as_deref(), Ok("a: 1\nb: 2\n"), "{expected}");
            }
        }
    }

    #[test]
    fn what_is_not_a_manifest_is_named() {
        for text in
            ["Thank you for installing.\n", "a: [", "{{ if x }}", "a: 1\n---\ntext\n", "'x'", "\u{0}", "a: 1\nb"]
        {
            let error = stream(&files(&["a: 1\n", text]), None).expect_err(text);
            assert!(error.starts_with("the file \"1.yaml\" is not a YAML manifest ("), "{error}");
        }
        for text in
            ["", "# nothing\n", "---\n---\n", "- a: 1\n", "a: !x 1\nb: !!binary aGk=\n", "a: &a 1\nb: *a\n", "[]"]
        {
            assert!(stream(&files(&[text]), None).is_ok(), "{text}");
        }
    }
}

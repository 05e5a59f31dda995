//! A test of a package: a YAML file with values, and what has to come back.

use std::path::Path;

use mistletoe::documents::MistResult;
use mistletoe::documents::yaml::{self, Mapping, Value};

use crate::set::resolved;
use crate::stderr::Excerpt;
use crate::test::diff;

/// Maximum number of bytes of a message that is shown.
pub(crate) const MAX_MESSAGE: usize = 2_000;
/// Maximum number of files whose differences are shown.
const MAX_FILES: usize = 20;

/// A test.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    /// Name of the installation.
    pub(crate) name: String,
    pub(crate) values: Mapping,
    expected: Option<Expected>,
}

/// What a package has to return.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expected {
    /// These files, in this order.
    Files(Vec<(String, String)>),
    /// An `Err` with this message, if it has one.
    Error(Option<String>),
}

impl Case {
    /// Parses a test. Without a `name`, the installation has the name of the test.
    pub(crate) fn parse(text: &str, test: &str) -> Result<Self, String> {
        let fields = match yaml::parse(text).map_err(|error| error.to_string())? {
            Value::Mapping(fields) => fields,
            Value::Null => Mapping::new(),
            other => return Err(format!("expected a mapping, found {}", other.describe())),
        };
        let mut case = Self { name: test.to_owned(), values: Mapping::new(), expected: None };
        for (key, value) in fields {
            let unexpected = |what: &str, value: &Value| Err(format!("`{what}, found {}", value.describe()));
            match (key.as_str(), value) {
                (Some("name"), Value::String(name)) => case.name = name,
                (Some("name"), other) => return unexpected("name`: expected a string", &other),
                (Some("values"), Value::Mapping(values)) => {
                    case.values = resolved(values).map_err(|problem| format!("`values`: {problem}"))?;
                }
                (Some("values"), Value::Null) => {}
                (Some("values"), other) => return unexpected("values`: expected a mapping", &other),
                (Some("files" | "error"), _) if case.expected.is_some() => {
                    return Err("there are both `files` and `error`, and only one of them can come back".to_owned());
                }
                (Some("files"), Value::Mapping(files)) => case.expected = Some(Expected::Files(texts(files)?)),
                (Some("files"), Value::Null) => case.expected = Some(Expected::Files(Vec::new())),
                (Some("files"), other) => return unexpected("files`: expected a mapping", &other),
                (Some("error"), Value::String(error)) => case.expected = Some(Expected::Error(Some(error))),
                (Some("error"), Value::Null) => case.expected = Some(Expected::Error(None)),
                (Some("error"), other) => return unexpected("error`: expected a string", &other),
                _ => {
                    let key = Excerpt::of(key.to_text().trim_end(), MAX_MESSAGE);
                    return Err(format!("unknown field `{key}`; expected `name`, `values`, `files` or `error`"));
                }
            }
        }
        Ok(case)
    }

    /// Compares a result with the expected one. Returns in one line what is wrong, and the details.
    pub(crate) fn compare(&self, result: &Expected) -> Result<(), (String, String)> {
        let said = |message: &Option<String>| match message {
            Some(message) => Excerpt::of(message, MAX_MESSAGE),
            None => "no message".to_owned(),
        };
        match (&self.expected, result) {
            (None, _) => Err(("the test expects nothing; --update adds what comes back".to_owned(), String::new())),
            (Some(Expected::Files(old)), Expected::Files(new)) => files(old, new),
            (Some(Expected::Error(old)), Expected::Error(new)) if old == new => Ok(()),
            (Some(Expected::Error(old)), Expected::Error(new)) => {
                let text = |error: &Option<String>| error.clone().unwrap_or_default();
                let diff = diff::unified("expected error", "error", &text(old), &text(new));
                Err(("the package returned `Err` with another message".to_owned(), diff))
            }
            (Some(Expected::Files(_)), Expected::Error(message)) => {
                Err((format!("the package returned `Err`: {}", said(message)), String::new()))
            }
            (Some(Expected::Error(message)), Expected::Files(_)) => {
                Err((format!("the package returned `Ok`, and not `Err`: {}", said(message)), String::new()))
            }
        }
    }

    /// Returns the test's text with this result as the expected one.
    ///
    /// What comes before the old one stays as it is, comments included, where that is possible.
    pub(crate) fn updated(&self, text: &str, test: &str, result: &Expected) -> String {
        let wanted = Self { expected: Some(result.clone()), ..self.clone() };
        let mut edited = without_expected(text);
        if !edited.is_empty() && !edited.ends_with('\n') {
            edited.push('\n');
        }
        edited.push_str(&Value::Mapping(result.to_mapping()).to_text());
        if Self::parse(&edited, test).as_ref() == Ok(&wanted) { edited } else { wanted.to_text() }
    }

    fn to_text(&self) -> String {
        let mut fields = Mapping::new();
        fields.insert("name", self.name.as_str());
        fields.insert("values", self.values.clone());
        for (key, value) in self.expected.iter().flat_map(|expected| expected.to_mapping()) {
            if let Value::String(key) = key {
                fields.insert(key, value);
            }
        }
        Value::Mapping(fields).to_text()
    }
}

impl Expected {
    /// Returns what a package returned.
    pub(crate) fn of(result: MistResult) -> Self {
        match result {
            MistResult::Ok { files, .. } => Self::Files(files),
            MistResult::Err { message } => Self::Error(message),
        }
    }

    fn to_mapping(&self) -> Mapping {
        let mut mapping = Mapping::new();
        match self {
            Self::Files(files) => {
                let files = files.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str())));
                mapping.insert("files", files.collect::<Mapping>());
            }
            Self::Error(message) => {
                mapping.insert("error", message.as_deref().map_or(Value::Null, Value::from));
            }
        }
        mapping
    }
}

fn texts(files: Mapping) -> Result<Vec<(String, String)>, String> {
    let text = |pair| match pair {
        (Value::String(name), Value::String(text)) => Ok((name, text)),
        (Value::String(name), other) => {
            let name = Excerpt::of(name, MAX_MESSAGE);
            Err(format!("`files`: expected the text of `{name}`, a string, found {}", other.describe()))
        }
        (other, _) => Err(format!("`files`: expected the name of a file, a string, found {}", other.describe())),
    };
    files.into_iter().map(text).collect()
}

/// Compares files by their names and texts, and then their order.
fn files(old: &[(String, String)], new: &[(String, String)]) -> Result<(), (String, String)> {
    if old == new {
        return Ok(());
    }
    let mut diffs: Vec<String> = Vec::new();
    let (mut old_only, mut new_only, mut changed) = (0, 0, 0);
    let [old_texts, new_texts] = [old, new].map(|files| {
        files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<std::collections::HashMap<_, _>>()
    });
    let mut differ = |name: &str, old: Option<&str>, new: Option<&str>| {
        let count = match (old, new) {
            (Some(_), None) => &mut old_only,
            (None, Some(_)) => &mut new_only,
            (Some(old), Some(new)) if old != new => &mut changed,
            _ => return,
        };
        *count += 1;
        if diffs.len() < MAX_FILES {
            let name = Excerpt::of(name, MAX_MESSAGE);
            let (from, to) =
                (old.map_or("/dev/null".to_owned(), |_| format!("expected/{name}")), format!("output/{name}"));
            let to = if new.is_some() { to } else { "/dev/null".to_owned() };
            diffs.push(match diff::unified(&from, &to, old.unwrap_or_default(), new.unwrap_or_default()) {
                // An empty file has no lines.
                diff if diff.is_empty() => format!("--- {from}\n+++ {to}\n"),
                diff => diff,
            });
        }
    };
    for (name, text) in old {
        differ(name, Some(text), new_texts.get(name.as_str()).copied());
    }
    for (name, text) in new.iter().filter(|(name, _)| !old_texts.contains_key(name.as_str())) {
        differ(name, None, Some(text));
    }
    let counts = [(changed, "changed"), (old_only, "missing"), (new_only, "new")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let counts: Vec<_> = counts.collect();
    if counts.is_empty() {
        let order = |files: &[(String, String)]| files.iter().map(|(name, _)| format!("{name}\n")).collect::<String>();
        let diff = diff::unified("expected order", "order", &order(old), &order(new));
        return Err(("the files come in another order".to_owned(), diff));
    }
    let total: usize = changed + old_only + new_only;
    if total > diffs.len() {
        diffs.push(format!("… and {} more files\n", total - diffs.len()));
    }
    Err((format!("files: {}", counts.join(", ")), diffs.concat()))
}

/// Returns a test's text without the fields `files` and `error`, each of which begins a line.
fn without_expected(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut skips = false;
    for line in text.split_inclusive('\n') {
        let is_field = line.starts_with(|c: char| !c.is_whitespace());
        if is_field {
            skips = ["files:", "error:"].iter().any(|field| line.starts_with(field));
        }
        if !skips {
            kept.push_str(line);
        }
    }
    kept
}

/// Returns the name of a test: that of its file.
pub(crate) fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(files: &[(&str, &str)]) -> Expected {
        Expected::Files(files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect())
    }

    #[test]
    fn an_update_keeps_the_rest_of_the_file() {
        let result = ok(&[("a.yaml", "kind: A\nlist:\n- 1\n"), ("b.txt", "no end")]);
        for (text, kept) in [
            ("", ""),
            ("# note\nname: x\nvalues:\n  # why\n  a: 1\n", "# note\nname: x\nvalues:\n  # why\n  a: 1\n"),
            ("name: x", "name: x\n"),
            ("name: x\nfiles:\n  old.yaml: |\n    a: 1\n\n    b: 2\n", "name: x\n"),
            ("error: old\n# note\nname: x\n", "# note\nname: x\n"),
            ("values: {a: &a {b: 1}, c: {<<: *a, 80: x}}\n", "values: {a: &a {b: 1}, c: {<<: *a, 80: x}}\n"),
        ] {
            let case = Case::parse(text, "t").expect("a test");
            let updated = case.updated(text, "t", &result);
            assert!(updated.starts_with(&format!("{kept}files:\n")), "{updated}");
            let again = Case::parse(&updated, "t").expect("a test");
            assert_eq!((&again.name, &again.values), (&case.name, &case.values));
            assert_eq!(again.compare(&result), Ok(()));
            assert_eq!(again.updated(&updated, "t", &result), updated);
        }
    }

    #[test]
    fn an_update_of_what_cannot_be_edited_writes_the_file_anew() {
        // A mapping in the flow style has no lines for its fields.
        let text = "{name: x, values: {a: 1}, error: old}";
        let case = Case::parse(text, "t").expect("a test");
        let updated = case.updated(text, "t", &Expected::Error(None));
        assert_eq!(updated, "name: x\nvalues:\n  a: 1\nerror: null\n");
    }

    #[test]
    fn values_are_read_as_those_of_files() {
        let text = "a: &a {b: 1}\nc: {<<: *a, 80: x}\n";
        let case = Case::parse(&format!("values:\n  {}", text.trim_end().replace('\n', "\n  ")), "t").expect("a test");
        assert_eq!(Value::Mapping(case.values.clone()).to_text(), "a:\n  b: 1\nc:\n  \"80\": x\n  b: 1\n");
        assert_eq!(crate::set::mapping(text).as_ref(), Ok(&case.values));
    }

    #[test]
    fn what_is_no_test_says_why() {
        for (text, problem) in [
            ("- a", "expected a mapping, found a sequence"),
            ("name: 1", "`name`: expected a string, found the integer 1"),
            ("values: [1]", "`values`: expected a mapping, found a sequence"),
            ("files: x", "`files`: expected a mapping, found the string \"x\""),
            ("files: {a: 1}", "`files`: expected the text of `a`, a string, found the integer 1"),
            ("error: 1", "`error`: expected a string, found the integer 1"),
            ("error: a\nfiles: {}", "there are both `files` and `error`, and only one of them can come back"),
            ("vaules: {}", "unknown field `vaules`; expected `name`, `values`, `files` or `error`"),
        ] {
            assert_eq!(Case::parse(text, "t").map(drop), Err(problem.to_owned()), "{text}");
        }
    }

    #[test]
    fn differences_are_counted_and_shown() {
        let case = |expected| Case { name: "t".into(), values: Mapping::new(), expected: Some(expected) };
        let old = case(ok(&[("a", "1\n"), ("b", "2\n")]));
        for (new, summary, details) in [
            (
                ok(&[("a", "1\n"), ("b", "3\n")]),
                "files: 1 changed",
                "--- expected/b\n+++ output/b\n@@ -1 +1 @@\n-2\n+3\n",
            ),
            (ok(&[("a", "1\n")]), "files: 1 missing", "--- expected/b\n+++ /dev/null\n@@ -1 +0,0 @@\n-2\n"),
            (ok(&[("a", "1\n"), ("b", "2\n"), ("c", "")]), "files: 1 new", "--- /dev/null\n+++ output/c\n"),
            (
                ok(&[("b", "2\n"), ("a", "1\n")]),
                "the files come in another order",
                "--- expected order\n+++ order\n@@ -1,2 +1,2 @@\n-a\n b\n+a\n",
            ),
            (Expected::Error(Some("why".into())), "the package returned `Err`: why", ""),
            (Expected::Error(None), "the package returned `Err`: no message", ""),
        ] {
            assert_eq!(old.compare(&new), Err((summary.to_owned(), details.to_owned())));
        }
        assert_eq!(old.compare(&ok(&[("a", "1\n"), ("b", "2\n")])), Ok(()));
        let error = case(Expected::Error(Some("old".into())));
        assert!(error.compare(&Expected::Error(Some("new".into()))).is_err());
        assert!(error.compare(&ok(&[])).is_err_and(|(summary, _)| summary.contains("`Ok`, and not `Err`: old")));
    }
}

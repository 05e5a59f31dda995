//! `--set`: parts of the input on the command line.

use mistletoe::documents::yaml::{self, Mapping, Value};

use crate::failure::Failure;

/// Maximum depth that `--set a.b.c=…` can reach, well within the nesting that a document may have.
const MAX_LEVELS: usize = 64;

/// Applies one `--set`: `a.b=c`, or the flow form `a: 1, b: 2`.
pub(crate) fn apply(data: &mut Mapping, text: &str) -> Result<(), Failure> {
    let usage = |problem: String| Failure::usage(format!("--set {text:?}: {problem}"));
    match text.split_once('=') {
        // A colon before the `=` can only belong to the flow form: keys contain none there.
        Some((path, value)) if !is_flow(path) => {
            let path = segments(path).map_err(usage)?;
            set(data, &path, scalar(value).map_err(usage)?);
        }
        _ if is_flow(text) => {
            let value = yaml::parse(&format!("{{{text}\n}}")).map_err(|error| usage(error.problem))?;
            let Value::Mapping(mapping) = value else { return Err(usage("it is not a mapping".to_owned())) };
            for (key, value) in mapping.iter() {
                match key {
                    Value::String(key) => drop(data.insert(key.clone(), value.clone())),
                    other => return Err(usage(format!("a key has to be a string, it is {}", other.describe()))),
                }
            }
        }
        _ => return Err(usage("expected K=V or a list like 'a: 1, b: 2'".to_owned())),
    }
    Ok(())
}

/// Returns whether a text has the form `key: value`.
fn is_flow(text: &str) -> bool {
    text.contains(": ") || text.ends_with(':')
}

/// Returns the keys of a path. A dot after a backslash is part of its key.
fn segments(path: &str) -> Result<Vec<String>, String> {
    let mut segments = vec![String::new()];
    let mut characters = path.chars();
    while let Some(c) = characters.next() {
        match (c, segments.last_mut()) {
            ('.', _) => segments.push(String::new()),
            ('\\', Some(segment)) => segment.push(characters.next().unwrap_or('\\')),
            (c, Some(segment)) => segment.push(c),
            (_, None) => {}
        }
    }
    if segments.iter().any(String::is_empty) {
        return Err("a key is empty".to_owned());
    }
    if segments.len() > MAX_LEVELS {
        return Err(format!("more than {MAX_LEVELS} levels"));
    }
    Ok(segments)
}

/// Sets a value. Anything on the way to it that is not a mapping becomes one.
fn set(data: &mut Mapping, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => drop(data.insert(key.clone(), value)),
        [key, rest @ ..] => {
            let inner = data.get_or_insert_with(key, || Value::Mapping(Mapping::new()));
            if inner.as_mapping().is_none() {
                *inner = Value::Mapping(Mapping::new());
            }
            if let Some(inner) = inner.as_mapping_mut() {
                set(inner, rest, value);
            }
        }
    }
}

/// Returns a value as a YAML scalar: quoted, or plain, which takes the whole text.
fn scalar(text: &str) -> Result<Value, String> {
    let text = text.trim();
    match text.chars().next() {
        Some('"' | '\'') => match yaml::parse(text) {
            Ok(value @ Value::String(_)) => Ok(value),
            Ok(_) => Err("the value is no scalar".to_owned()),
            Err(error) => Err(error.problem),
        },
        Some('[' | '{') => Err("the value is no scalar; write --set 'KEY: VALUE' for lists and mappings".to_owned()),
        _ => yaml::parse_scalar(text).map_err(|error| error.problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_all(file: &str, sets: &[&str]) -> String {
        let Value::Mapping(mut data) = yaml::parse(file).expect("a mapping") else { panic!("a mapping") };
        for set in sets {
            apply(&mut data, set).unwrap_or_else(|failure| panic!("{failure}"));
        }
        Value::Mapping(data).to_text()
    }

    #[test]
    fn values_are_yaml_scalars() {
        let sets =
            ["a=1", "b=yes", "c=true", "d='1'", "e=", "f=1e3", "g=\"x\\ty\"", "h=a=b", "i=-2", "j=#fff", "k=x: y"];
        let expected = "a: 1\nb: \"yes\"\nc: true\nd: \"1\"\ne: null\nf: 1000.0\ng: \"x\\ty\"\nh: a=b\ni: -2\nj: \"#fff\"\nk: \"x: y\"\n";
        assert_eq!(yaml::parse(&apply_all("{}", &sets)), yaml::parse(expected));
    }

    #[test]
    fn a_path_reaches_into_mappings_and_makes_them() {
        let file = "a: {b: 1, c: 2}\nx: 5";
        assert_eq!(
            apply_all(file, &["a.b=3", "x.k.z=4", r"a\.b=7"]),
            "a:\n  b: 3\n  c: 2\nx:\n  k:\n    z: 4\na.b: 7\n"
        );
    }

    #[test]
    fn the_flow_form_sets_several_keys() {
        assert_eq!(
            apply_all("a: 0", &["a: 1, b: [1, 2], url: 'http://x/?a=b'"]),
            "a: 1\nb:\n- 1\n- 2\nurl: http://x/?a=b\n"
        );
    }

    #[test]
    fn what_is_no_setting_is_wrong_usage() {
        let deep = format!("{}=1", "a.".repeat(100_000) + "a");
        for text in [
            "novalue",
            "",
            "=1",
            "a..b=1",
            ".a=1",
            "a=[1]",
            "a={}",
            "a='x",
            "a='x' y",
            "a: [",
            "a: 1}, {b: 2",
            "1: 2",
            &deep,
        ] {
            let failure = apply(&mut Mapping::new(), text).expect_err(text);
            assert_eq!(failure.status(), 2, "{text}");
        }
    }
}

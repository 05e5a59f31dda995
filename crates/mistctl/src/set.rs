//! `--set` and its relatives: values on the command line in Helm's syntax, `a.b[0]=c,d={x,y}`.

use std::collections::HashSet;
use std::fmt;

use mistletoe::documents::yaml::{self, Mapping, Value};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::json::key_text;
use crate::stderr::Excerpt;

/// Maximum index in a list, which is Helm's.
const MAX_INDEX: usize = 65_536;
/// Maximum number of dots that follow a key, which is Helm's.
const MAX_DOTS: usize = 30;
/// Maximum number of keys and indices in a path, well within the nesting that a document may have.
const MAX_STEPS: usize = 64;
/// Maximum number of entries that finding the places of all assignments may pass: a fraction of a second.
const MAX_PASSED: usize = 1 << 26;

/// Form of the text after `=`.
pub(crate) enum Form<'a, E> {
    /// `true`, `false`, `null`, an integer, or else a string.
    Typed,
    /// A string.
    Text,
    /// The path of a file that has the string, for this function to read.
    File(&'a mut dyn FnMut(&str) -> Result<String, E>),
}

/// Values that are put together, and the cost of that so far.
pub(crate) struct Values {
    data: Value,
    cost: Cost,
}

/// The size of all values that were added, and the number of entries that were passed to find their places.
#[derive(Default)]
struct Cost {
    nodes: usize,
    text: usize,
    passed: usize,
}

/// A part of the path to a value.
enum Step {
    Key(String),
    Index(usize),
}

impl Values {
    pub(crate) fn new() -> Self {
        Self { data: Value::Mapping(Mapping::new()), cost: Cost::default() }
    }

    pub(crate) fn into_mapping(self) -> Mapping {
        if let Value::Mapping(data) = self.data { data } else { Mapping::new() }
    }

    /// Merges a mapping over the values.
    pub(crate) fn merge(&mut self, over: Mapping) -> Result<(), String> {
        self.cost.pass(self.cost.nodes)?;
        let over = Value::Mapping(over);
        self.cost.add(&over)?;
        if let (Value::Mapping(data), Value::Mapping(over)) = (&mut self.data, over) {
            data.merge(over);
        }
        Ok(())
    }

    /// Applies the text of `--set`, `--set-string` or `--set-file`.
    pub(crate) fn set<E: From<String>>(&mut self, text: &str, mut form: Form<'_, E>) -> Result<(), E> {
        if matches!(form, Form::Typed) && is_flow(text) {
            return Ok(self.merge(mapping(&format!("{{{text}\n}}"))?)?);
        }
        let mut line = Line { rest: text, expected: form.expected() };
        while !line.rest.is_empty() {
            let path = line.path()?;
            let value = line.value(&mut form)?;
            self.assign(&path, value)?;
        }
        Ok(())
    }

    /// Applies the text of `--set-json`: assignments, or an object that is merged over the values.
    pub(crate) fn set_json(&mut self, text: &str) -> Result<(), String> {
        let trimmed = text.trim();
        if trimmed.starts_with('{') {
            let Json(value) = serde_json::from_str(trimmed).map_err(|error| error.to_string())?;
            return if let Value::Mapping(over) = value { self.merge(over) } else { Ok(()) };
        }
        let mut line = Line { rest: text, expected: "K=JSON, or an object" };
        while !line.rest.is_empty() {
            let path = line.path()?;
            let value = line.json()?;
            self.assign(&path, value)?;
        }
        Ok(())
    }

    fn assign(&mut self, path: &[Step], value: Value) -> Result<(), String> {
        self.cost.add(&value)?;
        let mut place = &mut self.data;
        let mut is_item = false;
        for (at, step) in path.iter().enumerate() {
            let is_free = *place == Value::Null;
            let misfit =
                |place: &Value, expected| Err(format!("`{}` is {}, not {expected}", shown(path, at), place.describe()));
            place = match step {
                Step::Key(key) => {
                    // Helm replaces an item of a list, too, if it is not a mapping.
                    if is_free || (place.as_mapping().is_none() && is_item) {
                        *place = Mapping::new().into();
                    }
                    let Value::Mapping(mapping) = place else { return misfit(place, "a mapping") };
                    self.cost.pass(mapping.len())?;
                    self.cost.charge(2, key.len())?;
                    mapping.get_or_insert_with(key, || Value::Null)
                }
                Step::Index(index) => {
                    if is_free {
                        *place = Value::Sequence(Vec::new());
                    }
                    let Value::Sequence(items) = place else { return misfit(place, "a sequence") };
                    if items.len() <= *index {
                        self.cost.charge(index + 1 - items.len(), 0)?;
                        items.resize(index + 1, Value::Null);
                    }
                    let Some(item) = items.get_mut(*index) else { return Ok(()) };
                    item
                }
            };
            is_item = matches!(step, Step::Index(_));
        }
        *place = value;
        Ok(())
    }
}

impl Cost {
    fn add(&mut self, value: &Value) -> Result<(), String> {
        let text = if let Value::String(text) = value { text.len() } else { 0 };
        self.charge(1, text)?;
        match value {
            Value::Sequence(items) => items.iter().try_for_each(|item| self.add(item)),
            Value::Mapping(mapping) => mapping.iter().try_for_each(|(key, value)| {
                self.add(key)?;
                self.add(value)
            }),
            _ => Ok(()),
        }
    }

    fn charge(&mut self, nodes: usize, text: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        if self.nodes > yaml::MAX_NODES {
            return Err(format!("the values have more than {} nodes", yaml::MAX_NODES));
        }
        if self.text > yaml::MAX_TEXT {
            return Err(format!("the values have more than {} bytes of text", yaml::MAX_TEXT));
        }
        Ok(())
    }

    fn pass(&mut self, entries: usize) -> Result<(), String> {
        self.passed = self.passed.saturating_add(entries);
        if self.passed > MAX_PASSED { Err("too many values are set in mappings this large".to_owned()) } else { Ok(()) }
    }
}

/// Returns whether a text has the form `a: 1, b: [1, 2]`, a flow mapping of YAML without its braces.
fn is_flow(text: &str) -> bool {
    match text.split_once('=') {
        Some((before, _)) => before.contains(": "),
        None => text.contains(": ") || text.ends_with(':'),
    }
}

/// Parses a YAML mapping of values. Merge keys are resolved, and keys become strings, as in JSON.
pub(crate) fn mapping(text: &str) -> Result<Mapping, String> {
    match yaml::parse(text).map_err(|error| error.to_string())? {
        Value::Mapping(mapping) => resolved(mapping),
        Value::Null => Ok(Mapping::new()),
        other => Err(format!("it holds {}, not a mapping", other.describe())),
    }
}

/// Returns values that come from YAML with merge keys resolved, and with keys that are strings, as in JSON.
pub(crate) fn resolved(values: Mapping) -> Result<Mapping, String> {
    let mut values = Value::Mapping(values);
    values.apply_merge().map_err(|error| error.to_string())?;
    if let Value::Mapping(values) = with_string_keys(values)? { Ok(values) } else { Ok(Mapping::new()) }
}

fn with_string_keys(value: Value) -> Result<Value, String> {
    match value {
        Value::Sequence(items) => {
            Ok(Value::Sequence(items.into_iter().map(with_string_keys).collect::<Result<_, _>>()?))
        }
        Value::Mapping(mapping) => {
            let are_strings = mapping.iter().all(|(key, _)| key.as_str().is_some());
            let mut entries = Vec::with_capacity(mapping.len());
            for (key, value) in mapping {
                let key = match key {
                    Value::String(key) => key,
                    Value::Null => return Err("a key is null".to_owned()),
                    other => key_text(&other),
                };
                entries.push((key, with_string_keys(value)?));
            }
            if !are_strings {
                let mut seen = HashSet::new();
                if let Some((key, _)) = entries.iter().find(|(key, _)| !seen.insert(key)) {
                    return Err(format!("the key {} is there twice, as a string and as another type", quoted(key)));
                }
            }
            Ok(Value::Mapping(entries.into_iter().collect()))
        }
        other => Ok(other),
    }
}

/// What is left of the text of a flag.
struct Line<'a> {
    rest: &'a str,
    /// The form of an assignment, for errors.
    expected: &'static str,
}

impl Line<'_> {
    /// Takes the text up to one of the characters in `stops`, and that character. After a backslash, any character is
    /// part of the text.
    fn until(&mut self, stops: &[char]) -> (String, Option<char>) {
        let mut taken = String::new();
        let mut characters = self.rest.chars();
        let stop = loop {
            match characters.next() {
                Some('\\') => taken.extend(characters.next()),
                Some(c) if stops.contains(&c) => break Some(c),
                Some(c) => taken.push(c),
                None => break None,
            }
        };
        self.rest = characters.as_str();
        (taken, stop)
    }

    /// Takes a path and the `=` after it.
    fn path(&mut self) -> Result<Vec<Step>, String> {
        let mut path = Vec::new();
        let mut dots = 0;
        loop {
            let (key, mut stop) = self.until(&['=', '[', ',', '.']);
            if key.is_empty() {
                return Err("a key is empty".to_owned());
            }
            path.push(Step::Key(key));
            dots += usize::from(stop == Some('.'));
            while stop == Some('[') {
                let (index, end) = self.until(&[']']);
                if end.is_none() {
                    return Err("`[` without `]`".to_owned());
                }
                let number = index.parse().ok().filter(|number| *number <= MAX_INDEX);
                let problem = || format!("the index {} is not a number from 0 to {MAX_INDEX}", quoted(&index));
                path.push(Step::Index(number.ok_or_else(problem)?));
                stop = self.rest.chars().next();
                self.rest = stop.and_then(|stop| self.rest.strip_prefix(stop)).unwrap_or_default();
            }
            if dots > MAX_DOTS {
                return Err(format!("more than {MAX_DOTS} dots in a path"));
            }
            if path.len() > MAX_STEPS {
                return Err(format!("more than {MAX_STEPS} keys and indices in a path"));
            }
            match stop {
                Some('=') => return Ok(path),
                Some('.') => {}
                Some(',') | None => {
                    return Err(format!("`{}` has no value; expected {}", shown(&path, path.len()), self.expected));
                }
                Some(other) => return Err(format!("expected `=`, `.` or `[` after `]`, found {other:?}")),
            }
        }
    }

    /// Takes a value, or a list in braces, and the comma after it.
    fn value<E: From<String>>(&mut self, form: &mut Form<'_, E>) -> Result<Value, E> {
        let Some(items) = self.rest.strip_prefix('{') else {
            // At the end of the text is an empty string, in Helm also instead of a file.
            return if self.rest.is_empty() { Ok("".into()) } else { form.value(self.until(&[',']).0) };
        };
        self.rest = items;
        let mut list = Vec::new();
        loop {
            let (item, stop) = self.until(&[',', '}']);
            if stop.is_none() {
                return Err(E::from("`{` without `}`".to_owned()));
            }
            list.push(form.value(item)?);
            if stop == Some('}') {
                self.rest = self.rest.strip_prefix(',').unwrap_or(self.rest);
                return Ok(Value::Sequence(list));
            }
        }
    }

    /// Takes a JSON value, the blanks around it, and the comma after it. Nothing is null.
    fn json(&mut self) -> Result<Value, String> {
        if self.end_of_value() {
            return Ok(Value::Null);
        }
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter();
        let value = values.next().map_or(Ok(Value::Null), |value| value.map(|Json(value)| value));
        let value = value.map_err(|error| format!("the value is not JSON: {error}"))?;
        self.rest = self.rest.get(values.byte_offset()..).unwrap_or_default();
        self.end_of_value();
        Ok(value)
    }

    /// Takes blanks and a comma. Returns whether the text before the comma or the end had nothing else.
    fn end_of_value(&mut self) -> bool {
        let rest = self.rest.trim_start();
        let after = rest.strip_prefix(',');
        self.rest = after.unwrap_or(rest);
        after.is_some() || rest.is_empty()
    }
}

impl<E> Form<'_, E> {
    fn expected(&self) -> &'static str {
        match self {
            Self::Typed => "K=V, or a mapping like 'a: 1, b: 2'",
            Self::Text => "K=V",
            Self::File(_) => "K=FILE",
        }
    }

    fn value(&mut self, text: String) -> Result<Value, E> {
        Ok(match self {
            Self::Typed => typed(text),
            Self::Text => Value::String(text),
            Self::File(read) => Value::String(read(&text)?),
        })
    }
}

/// Returns the value that Helm reads from a text. Digits after a zero are a string, and so are more than 64 bits.
fn typed(text: String) -> Value {
    for (word, value) in [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)] {
        if text.eq_ignore_ascii_case(word) {
            return value;
        }
    }
    match text.parse::<i64>() {
        Ok(number) if text == "0" || !text.starts_with('0') => Value::Int(number.into()),
        _ => Value::String(text),
    }
}

/// Returns the beginning of a path as the command line has it.
fn shown(path: &[Step], end: usize) -> String {
    let mut shown = String::new();
    for step in path.iter().take(end) {
        match step {
            Step::Key(key) => {
                let dot = if shown.is_empty() { "" } else { "." };
                shown.push_str(&format!("{dot}{}", Excerpt::of(key.escape_debug(), 60)));
            }
            Step::Index(index) => shown.push_str(&format!("[{index}]")),
        }
    }
    shown
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", Excerpt::of(text.escape_debug(), 60))
}

/// A value read from JSON. The keys keep their order.
struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Json)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Json(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Sequence(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        while let Some((key, Json(value))) = fields.next_entry::<String, _>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("the key {} is there twice", quoted(&key))));
            }
            entries.push((key, value));
        }
        Ok(Value::Mapping(entries.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &mut Values, text: &str) -> Result<(), String> {
        values.set(text, Form::Typed)
    }

    fn all(file: &str, sets: &[&str]) -> String {
        let mut values = Values::new();
        values.merge(mapping(file).expect(file)).expect(file);
        for text in sets {
            set(&mut values, text).expect(text);
        }
        Value::Mapping(values.into_mapping()).to_text()
    }

    // What Helm does is in `tests/helm`.

    #[test]
    fn the_flow_form_is_merged() {
        assert_eq!(
            all("a: {x: 1, w: 2}", &["a: {x: 3}, b: [1, 2], url: 'http://x/?a=b', v: 1.10", "c:"]),
            "a:\n  x: 3\n  w: 2\nb:\n- 1\n- 2\nurl: http://x/?a=b\nv: 1.1\nc: null\n"
        );
        for text in ["a: [", "a: 1}, {b: 2", "a: !x 1", "? [a]: 1"] {
            assert!(set(&mut Values::new(), text).is_err(), "{text}");
        }
    }

    #[test]
    fn entries_keep_their_order() {
        let sets = ["b=1,a=2", "x.k.z=3,c.e=4", "b=5"];
        assert_eq!(all("c: {d: 0}\n", &sets), "c:\n  d: 0\n  e: 4\nb: 5\na: 2\nx:\n  k:\n    z: 3\n");
        let mut values = Values::new();
        values.set_json(r#"{"z": 1, "a": {"w": 2, "b": 18446744073709551615}}"#).expect("JSON");
        values.set_json(r#"a.c={"w": 1, "b": 2}"#).expect("JSON");
        let text = Value::Mapping(values.into_mapping()).to_text();
        assert_eq!(text, "z: 1\na:\n  w: 2\n  b: 18446744073709551615\n  c:\n    w: 1\n    b: 2\n");
    }

    #[test]
    fn errors_name_the_place() {
        for (file, text, problem) in [
            ("{}", "a", "`a` has no value; expected K=V, or a mapping like 'a: 1, b: 2'"),
            ("{}", "x.a[0],b=1", "`x.a[0]` has no value; expected K=V, or a mapping like 'a: 1, b: 2'"),
            ("a: {b: 5}", "a.b.c=1", "`a.b` is the integer 5, not a mapping"),
            ("a: [[{}]]", "a[0][0][1]=1", "`a[0][0]` is a mapping, not a sequence"),
            ("{}", "a[65537]=1", "the index \"65537\" is not a number from 0 to 65536"),
            ("{}", "a[0]x=1", "expected `=`, `.` or `[` after `]`, found 'x'"),
            ("{}", "a={x", "`{` without `}`"),
            ("{}", "a[0", "`[` without `]`"),
        ] {
            let mut values = Values::new();
            values.merge(mapping(file).expect(file)).expect(file);
            assert_eq!(set(&mut values, text).as_ref().map_err(String::as_str), Err(problem), "{text}");
        }
    }

    #[test]
    fn an_error_expects_what_the_flag_takes() {
        let values = &mut Values::new();
        let mut read = |_: &str| Ok::<_, String>(String::new());
        assert_eq!(values.set("a", Form::Text), Err("`a` has no value; expected K=V".to_owned()));
        assert_eq!(values.set("a", Form::File(&mut read)), Err("`a` has no value; expected K=FILE".to_owned()));
        assert_eq!(values.set_json("a"), Err("`a` has no value; expected K=JSON, or an object".to_owned()));
    }

    #[test]
    fn costs_are_bounded() {
        let deep = "a.".repeat(100_000) + "a=1";
        let indices = format!("a{}=1", "[0]".repeat(100_000));
        for text in [&deep, &indices] {
            assert!(set(&mut Values::new(), text).is_err());
        }
        // A few bytes each make 65,537 items.
        let lists: String = (0..100).map(|i| format!("a[{i}][65536]=1,")).collect();
        assert!(set(&mut Values::new(), &lists).is_err_and(|problem| problem.contains("nodes")));
        // Each assignment passes the entries before it.
        let many: String = (0..12_000).map(|i| format!("k{i}=1,")).collect();
        assert!(set(&mut Values::new(), &many).is_err_and(|problem| problem.contains("too many values")));
        let few: String = (0..10_000).map(|i| format!("k{i}=1,")).collect();
        assert_eq!(set(&mut Values::new(), &few), Ok(()));
        let mut values = Values::new();
        let text = "x".repeat(17 << 20);
        let mut read = |_: &str| Ok::<_, String>(text.clone());
        let problem = (0..4).find_map(|_| values.set("a=f", Form::File(&mut read)).err());
        assert!(problem.is_some_and(|problem| problem.contains("bytes of text")));
    }

    #[test]
    fn keys_become_strings() {
        assert_eq!(all("80: x\na: [{true: 1}, {1.5: 2}]\n", &["80=w"]), "\"80\": w\na:\n- \"true\": 1\n- \"1.5\": 2\n");
        for file in ["1: x\n'1': y\n", "a: [{~: 1}]"] {
            assert!(mapping(file).is_err(), "{file}");
        }
    }
}

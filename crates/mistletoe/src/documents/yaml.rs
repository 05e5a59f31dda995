//! An order-preserving tree of YAML values, and its text.
//!
//! Plain scalars are read by the core schema of YAML 1.2 exactly: `yes`, `on`, `1_000`, `0b1`, `2024-01-01`, `=` and
//! `<<` are strings. Anchors and aliases are supported; merge keys, tags of one's own and directives are not,
//! but for `%YAML 1.2` or `1.1` as the first line, which changes nothing.
//!
//! Text is hostile. [`parse`] takes time and memory in proportion to its limits at most, and every copy that an anchor
//! or an alias makes counts like something written out:
//!
//! | limit | of what |
//! |---|---|
//! | [`MAX_INPUT`] | bytes of text that are read at all |
//! | [`MAX_DEPTH`] | collections inside each other |
//! | [`MAX_NODES`] | scalars, keys and collections |
//! | [`MAX_SCALAR`] | bytes in one scalar |
//! | [`MAX_TEXT`] | bytes in all scalars |

mod load;

use std::fmt::{self, Write as _};

use serde::ser::{Serialize, Serializer};

/// Length in bytes of the longest text that is parsed: 64 MiB, what a package may answer by default.
pub const MAX_INPUT: usize = 64 << 20;
/// How many collections may be inside each other.
pub const MAX_DEPTH: usize = 128;
/// How many nodes (scalars, keys, sequences, mappings) a document may have, copies by anchors and aliases included.
pub const MAX_NODES: usize = 1_000_000;
/// Length in bytes of the longest scalar: 16 MiB.
pub const MAX_SCALAR: usize = 16 << 20;
/// Length in bytes of all scalars together, copies by anchors and aliases included: 64 MiB.
pub const MAX_TEXT: usize = 64 << 20;

/// How many characters of a text an error shows.
const SHOWN_CHARS: usize = 60;

/// Why a text is no document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The place in the document: a path such as `data.files["a.yaml"]` or `list[3]`; empty for the whole.
    pub path: String,
    /// Line, counted from 1, where it is known.
    pub line: Option<u64>,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Error {}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A floating-point number, also one without a fraction such as `1.0`.
    Float(f64),
    /// A string.
    String(String),
    /// A sequence.
    Sequence(Vec<Self>),
    /// A mapping.
    Mapping(Mapping),
}

impl Value {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The mapping, if it is one.
    pub fn as_mapping(&self) -> Option<&Mapping> {
        if let Self::Mapping(mapping) = self { Some(mapping) } else { None }
    }

    /// The mapping, if it is one.
    pub fn as_mapping_mut(&mut self) -> Option<&mut Mapping> {
        if let Self::Mapping(mapping) = self { Some(mapping) } else { None }
    }

    /// The value in an error's words: its kind, and what it is as far as that is short.
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Int(value) => format!("the integer {value}"),
            Self::Float(value) => format!("the number {value:?}"),
            Self::String(text) => format!("the string {}", quoted(text)),
            Self::Sequence(_) => "a sequence".into(),
            Self::Mapping(_) => "a mapping".into(),
        }
    }

    /// The value as a YAML document, which [`parse`] reads back as the same value if it is within the limits.
    ///
    /// Strings that YAML 1.1 would read as something else are quoted. The nesting of a value that was not parsed is not
    /// limited; writing one takes stack in proportion to it, as dropping it does.
    pub fn to_text(&self) -> String {
        Emit::Value(self).to_text()
    }

    /// Nodes, bytes of text and levels of collections.
    fn measure(&self) -> Size {
        let mut size = Size { nodes: 1, ..Size::default() };
        match self {
            Self::String(text) => size.text = text.len(),
            Self::Sequence(items) => size.contain(items.iter()),
            Self::Mapping(mapping) => size.contain(mapping.iter().flat_map(|(key, value)| [key, value])),
            _ => {}
        }
        size
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<Vec<Self>> for Value {
    fn from(items: Vec<Self>) -> Self {
        Self::Sequence(items)
    }
}

impl From<Mapping> for Value {
    fn from(mapping: Mapping) -> Self {
        Self::Mapping(mapping)
    }
}

/// A mapping that keeps the order of its entries. Two are equal if their entries are the same in the same order.
///
/// A key is never a collection; only [`parse`] makes keys that are no strings. Looking up a key takes time in
/// proportion to the entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapping(Vec<(Value, Value)>);

impl Mapping {
    /// A mapping without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Value, &Value)> + ExactSizeIterator {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The value of this string key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The value of this string key.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The value of this string key; if there is none, `default()` is appended first.
    pub fn get_or_insert_with(&mut self, key: &str, default: impl FnOnce() -> Value) -> &mut Value {
        let at = self.position(key).unwrap_or_else(|| {
            self.0.push((key.into(), default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Replaces the value of this string key where it stands, or appends an entry. Answers the value that was there.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.get_mut(&key) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                self.0.push((Value::String(key), value));
                None
            }
        }
    }

    /// Makes this the first entry. Answers the value that the key had before, wherever it stood.
    pub fn insert_front(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let key = key.into();
        let old = self.remove(&key);
        self.0.insert(0, (Value::String(key), value.into()));
        old
    }

    /// Removes this string key and answers its value. The other entries keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.position(key).map(|at| self.0.remove(at).1)
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.0.iter().position(|(k, _)| k.as_str() == Some(key))
    }
}

/// Collects entries in their order, without a look for keys that are there already: the caller has seen to that.
impl FromIterator<(String, Value)> for Mapping {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(key, value)| (Value::String(key), value)).collect())
    }
}

impl IntoIterator for Mapping {
    type Item = (Value, Value);
    type IntoIter = std::vec::IntoIter<(Value, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Reads a text of one document, or of none, which is null. A byte order mark in front is skipped.
pub fn parse(text: &str) -> Result<Value, Error> {
    load::document(text)
}

/// Reads the text of one plain scalar by the core schema: `5` is an integer, `yes` a string, nothing at all null.
///
/// Numbers that [`Value`] cannot hold are errors.
pub fn parse_scalar(text: &str) -> Result<Value, Error> {
    match load::plain(text) {
        Ok(value) => Ok(value.unwrap_or_else(|| text.into())),
        Err(problem) => Err(Error { path: String::new(), line: None, problem }),
    }
}

/// What a value takes.
#[derive(Default)]
struct Size {
    nodes: usize,
    text: usize,
    depth: usize,
}

impl Size {
    fn contain<'a>(&mut self, values: impl Iterator<Item = &'a Value>) {
        for size in values.map(Value::measure) {
            self.nodes += size.nodes;
            self.text += size.text;
            self.depth = self.depth.max(size.depth);
        }
        self.depth += 1;
    }
}

/// Whether there is something, all of it accepted.
fn all(text: &str, accepted: fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(accepted)
}

/// Lengthens a path by a key: `.key`, or `["other key"]`, `[5]`, `[null]`.
pub(super) fn push_key(path: &mut String, key: &Value) {
    let is_plain = |text: &str| all(text, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    // Writing to a string does not fail.
    let _ = match key {
        Value::String(text) if text.len() <= SHOWN_CHARS && is_plain(text) => {
            write!(path, "{}{text}", if path.is_empty() { "" } else { "." })
        }
        Value::String(text) => write!(path, "[{}]", quoted(text)),
        Value::Null => write!(path, "[null]"),
        Value::Bool(value) => write!(path, "[{value}]"),
        Value::Int(value) => write!(path, "[{value}]"),
        Value::Float(value) => write!(path, "[{value:?}]"),
        Value::Sequence(_) | Value::Mapping(_) => Ok(()),
    };
}

/// The start of `text` in double quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text, SHOWN_CHARS).replace('"', "\\\""))
}

/// The start of `text` on one line, and without what a terminal would act on.
fn shown(text: &str, chars: usize) -> String {
    let mut shown = String::new();
    for (i, c) in text.chars().enumerate() {
        match c {
            _ if i == chars => {
                shown.push('…');
                break;
            }
            '"' | '\'' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// What is written out, without a copy of it. No type of this crate has to implement serde's traits for that.
#[derive(Clone, Copy)]
pub(super) enum Emit<'a> {
    Value(&'a Value),
    Mapping(&'a Mapping),
    Text(&'a str),
    Texts(&'a [(String, String)]),
    Fields(&'a [(&'a str, Self)]),
}

impl Emit<'_> {
    pub(super) fn to_text(self) -> String {
        // No wrapping: lines that are folded come back with other line breaks in some readers.
        let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
        let mut text = String::new();
        // The writer fails where its output does, which a string does not, and at tags, anchors and names of types of
        // its own, of which there are none.
        let written = serde_saphyr::to_fmt_writer_with_options(&mut text, &self, options);
        debug_assert!(written.is_ok(), "{written:?}");
        text
    }
}

impl Serialize for Emit<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Value(Value::Null) => serializer.serialize_unit(),
            Self::Value(Value::Bool(value)) => serializer.serialize_bool(*value),
            Self::Value(Value::Int(value)) => serializer.serialize_i128(*value),
            Self::Value(Value::Float(value)) => serializer.serialize_f64(*value),
            Self::Value(Value::String(text)) => serializer.serialize_str(text),
            Self::Value(Value::Sequence(items)) => serializer.collect_seq(items.iter().map(Emit::Value)),
            Self::Value(Value::Mapping(mapping)) | Self::Mapping(mapping) => {
                serializer.collect_map(mapping.iter().map(|(key, value)| (Emit::Value(key), Emit::Value(value))))
            }
            Self::Text(text) => serializer.serialize_str(text),
            Self::Texts(texts) => serializer.collect_map(texts.iter().map(|(name, text)| (name, text))),
            Self::Fields(fields) => serializer.collect_map(fields.iter().map(|(name, value)| (name, value))),
        }
    }
}

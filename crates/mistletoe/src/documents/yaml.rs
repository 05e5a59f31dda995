//! An order-preserving tree of YAML values, its parser and its writer.
//!
//! Plain scalars follow the core schema of YAML 1.2 exactly: `yes`, `on`, `1_000`, `0b1`, `2024-01-01`, `=` and `<<`
//! are strings. Anchors and aliases are supported. Custom tags and directives are not, except for `%YAML 1.2` or `%YAML
//! 1.1` as the first line, which has no effect. [`Value::apply_merge`] resolves merge keys (`<<`) where they are wanted.
//!
//! Text is treated as hostile. [`parse`] takes time and memory at most in proportion to its limits. Every copy that an
//! anchor or an alias makes counts as if it were written out:
//!
//! | limit | of what |
//! |---|---|
//! | [`MAX_INPUT`] | bytes of text |
//! | [`MAX_DEPTH`] | levels of nested collections |
//! | [`MAX_NODES`] | scalars, keys and collections |
//! | [`MAX_SCALAR`] | bytes in one scalar |
//! | [`MAX_TEXT`] | bytes in all scalars |

mod load;

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};

use load::Key;
use serde::ser::{Serialize, Serializer};

/// Maximum length of a text in bytes: 64 MiB, the default limit of a package's output.
pub const MAX_INPUT: usize = 64 << 20;
/// Maximum number of nested collections.
pub const MAX_DEPTH: usize = 128;
/// Maximum number of nodes (scalars, keys, sequences, mappings), copies by anchors and aliases included.
pub const MAX_NODES: usize = 1_000_000;
/// Maximum length of a scalar in bytes: 16 MiB.
pub const MAX_SCALAR: usize = 16 << 20;
/// Maximum length of all scalars together in bytes: 64 MiB, copies by anchors and aliases included.
pub const MAX_TEXT: usize = 64 << 20;

/// Number of characters of a text that an error shows at most.
const SHOWN_CHARS: usize = 60;

/// The reason why a text is not a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The place in the document: a path such as `data.files["a.yaml"]` or `list[3]`; empty for the whole document.
    pub path: String,
    /// Line, counted from 1, if it is known.
    pub line: Option<u64>,
    /// The problem at this place.
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
    /// A floating-point number, including one without a fraction such as `1.0`.
    Float(f64),
    /// A string.
    String(String),
    /// A sequence.
    Sequence(Vec<Self>),
    /// A mapping.
    Mapping(Mapping),
}

impl Value {
    /// Returns the string, if the value is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// Returns the mapping, if the value is one.
    pub fn as_mapping(&self) -> Option<&Mapping> {
        if let Self::Mapping(mapping) = self { Some(mapping) } else { None }
    }

    /// Returns the mapping for changes, if the value is one.
    pub fn as_mapping_mut(&mut self) -> Option<&mut Mapping> {
        if let Self::Mapping(mapping) = self { Some(mapping) } else { None }
    }

    /// Describes the value for an error message: its kind, and for a scalar the value, shortened if it is long.
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

    /// Returns the value as a YAML document. [`parse`] reads it back as the same value if it is within the limits.
    ///
    /// Strings that YAML 1.1 would read as another type are quoted. The nesting of a value that was not parsed is not
    /// limited. Writing a value takes stack in proportion to its nesting, as dropping it does.
    pub fn to_text(&self) -> String {
        Emit::Value(self).to_text()
    }

    /// Resolves merge keys at every level: the entries of the mapping below `<<`, or of each mapping in a sequence there,
    /// become entries of the mapping around it.
    ///
    /// An entry that the mapping has itself takes precedence, and so does one of an earlier mapping in the sequence. The
    /// time is in proportion to the number of nodes.
    ///
    /// # Errors
    ///
    /// An [`Error`] if the value of a merge key is anything else. The value is then left as far as it was resolved.
    pub fn apply_merge(&mut self) -> Result<(), Error> {
        self.merge_below(&mut String::new())
    }

    fn merge_below(&mut self, path: &mut String) -> Result<(), Error> {
        let end = path.len();
        match self {
            Self::Sequence(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    let _ = write!(path, "[{i}]");
                    item.merge_below(path)?;
                    path.truncate(end);
                }
            }
            Self::Mapping(mapping) => {
                for (key, value) in &mut mapping.0 {
                    push_key(path, key);
                    value.merge_below(path)?;
                    path.truncate(end);
                }
                if let Some(sources) = mapping.remove(MERGE_KEY) {
                    mapping.append_missing(sources).map_err(|found| {
                        push_key(path, &MERGE_KEY.into());
                        let problem =
                            format!("expected a mapping or a sequence of mappings, found {}", found.describe());
                        Error { path: path.clone(), line: None, problem }
                    })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes the entries that are null from a mapping, and from mappings within it. Returns whether the value is not
    /// null itself.
    fn remove_nulls(&mut self) -> bool {
        if let Self::Mapping(mapping) = self {
            mapping.0.retain_mut(|(_, value)| value.remove_nulls());
        }
        *self != Self::Null
    }

    /// Counts the nodes, the bytes of text and the levels of collections.
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

/// A mapping that keeps the order of its entries.
///
/// Two mappings are equal if their entries are equal and in the same order. A key is never a collection; only [`parse`]
/// makes keys that are not strings. Looking up a key takes time in proportion to the number of entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapping(Vec<(Value, Value)>);

impl Mapping {
    /// Returns a mapping without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the entries in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Value, &Value)> + ExactSizeIterator {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Returns the value of this string key, if there is one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// Returns the value of this string key for changes, if there is one.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// Returns the value of this string key. If there is none, `default()` is appended first.
    pub fn get_or_insert_with(&mut self, key: &str, default: impl FnOnce() -> Value) -> &mut Value {
        let at = self.position(key).unwrap_or_else(|| {
            self.0.push((key.into(), default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Replaces the value of this string key in place, or appends an entry. Returns the previous value.
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

    /// Inserts an entry at the front, and removes an existing entry with this key. Returns the previous value.
    pub fn insert_front(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let key = key.into();
        let old = self.remove(&key);
        self.0.insert(0, (Value::String(key), value.into()));
        old
    }

    /// Removes this string key and returns its value. The other entries keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.position(key).map(|at| self.0.remove(at).1)
    }

    /// Merges another mapping into this one. A mapping is merged with a mapping; any other value replaces the one that
    /// is there, as null does. Keys that are new come last.
    ///
    /// The time is in proportion to the number of entries of both. Two mappings that were parsed are merged with little
    /// stack; the nesting of others is not limited.
    pub fn merge(&mut self, over: Self) {
        self.merge_with(over, Nulls::Kept);
    }

    /// As [`merge`](Self::merge), with nulls as `nulls` says.
    pub(super) fn merge_with(&mut self, over: Self, nulls: Nulls) {
        let (keys, mut values): (Vec<Value>, Vec<Option<Value>>) =
            over.0.into_iter().map(|(key, value)| (key, Some(value))).unzip();
        let places: HashMap<Key<'_>, usize> =
            keys.iter().enumerate().filter_map(|(at, key)| Some((Key::of(key)?, at))).collect();
        self.0.retain_mut(|(key, base)| {
            let place = Key::of(key).and_then(|key| places.get(&key));
            match (base, place.and_then(|at| values.get_mut(*at)).and_then(Option::take)) {
                (base, None) => nulls == Nulls::Kept || base.remove_nulls(),
                (_, Some(Value::Null)) if nulls == Nulls::Remove => false,
                (Value::Mapping(base), Some(Value::Mapping(over))) => {
                    base.merge_with(over, nulls);
                    true
                }
                (base, Some(value)) => {
                    *base = value;
                    true
                }
            }
        });
        drop(places);
        self.0.extend(keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))));
    }

    /// Appends the entries of a mapping, or of each mapping in a sequence, whose keys are not there yet.
    ///
    /// # Errors
    ///
    /// The value that is neither.
    fn append_missing(&mut self, sources: Value) -> Result<(), Value> {
        let sources = if let Value::Sequence(items) = sources { items } else { vec![sources] };
        for source in sources {
            match source {
                Value::Mapping(source) => self.0.extend(source.0),
                other => return Err(other),
            }
        }
        let mut seen = HashSet::with_capacity(self.0.len());
        let is_first: Vec<bool> =
            self.0.iter().map(|(key, _)| Key::of(key).is_none_or(|key| seen.insert(key))).collect();
        drop(seen);
        let mut is_first = is_first.into_iter();
        self.0.retain(|_| is_first.next().unwrap_or(true));
        Ok(())
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.0.iter().position(|(k, _)| k.as_str() == Some(key))
    }
}

/// The key whose value [`Value::apply_merge`] resolves.
const MERGE_KEY: &str = "<<";

/// What becomes of nulls when mappings are merged.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Nulls {
    /// They are values like any other.
    Kept,
    /// One that is merged over an entry removes the entry, and entries that were null before are removed.
    Remove,
}

/// Collects entries in order, without a check for duplicate keys: the caller must ensure that there are none.
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

/// Parses a text with one document. A text with no document is null.
///
/// A byte order mark at the start is skipped.
///
/// # Errors
///
/// An [`Error`] if the text is not YAML, holds more than one document, is not supported or exceeds a limit.
pub fn parse(text: &str) -> Result<Value, Error> {
    load::document(text, &mut Budget::default())
}

/// The limits [`MAX_NODES`] and [`MAX_TEXT`] for several texts together.
///
/// # Examples
///
/// ```
/// use mistletoe::documents::yaml::Budget;
///
/// let mut budget = Budget::default();
/// let values = ["a: 1", "b: 2"].map(|text| budget.parse(text));
/// assert!(values.iter().all(Result::is_ok));
/// ```
#[derive(Debug, Default)]
pub struct Budget {
    nodes: usize,
    text: usize,
}

impl Budget {
    /// Parses a text as [`parse`] does. The text itself counts as one more node, so that empty ones are limited, too.
    ///
    /// # Errors
    ///
    /// As [`parse`].
    pub fn parse(&mut self, text: &str) -> Result<Value, Error> {
        self.nodes += 1;
        load::document(text, self)
    }
}

/// Parses one plain scalar by the core schema: `5` is an integer, `yes` is a string, an empty text is null.
///
/// # Errors
///
/// An [`Error`] if the text is a number that [`Value`] cannot hold.
pub fn parse_scalar(text: &str) -> Result<Value, Error> {
    match load::plain(text) {
        Ok(value) => Ok(value.unwrap_or_else(|| text.into())),
        Err(problem) => Err(Error { path: String::new(), line: None, problem }),
    }
}

/// Checks that a text is a stream of documents that are mappings, sequences or null, without keeping them. Takes time in
/// proportion to the length of the text.
///
/// Tags, duplicate keys and values beyond the range of [`Value`] are not checked.
///
/// # Errors
///
/// An [`Error`] if the text is not YAML, has a document that is another scalar, or exceeds [`MAX_INPUT`] or [`MAX_DEPTH`].
pub fn check_stream(text: &str) -> Result<(), Error> {
    load::check_stream(text)
}

/// The size of a value, as the limits count it.
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

/// Returns whether the text is not empty and all its bytes are accepted.
fn all(text: &str, accepted: fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(accepted)
}

/// Appends a key to a path: `.key`, or `["other key"]`, `[5]`, `[null]`.
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

/// Returns the start of `text` in double quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text, SHOWN_CHARS).replace('"', "\\\""))
}

/// Returns the start of `text` on one line, with control characters escaped so that no terminal acts on them.
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

/// Borrowed content to write, so that nothing is copied and no public type implements serde's traits.
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
        // No wrapping: some readers change the line breaks of folded lines.
        let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
        let mut text = String::new();
        // The writer fails only if its output does, which a string never does, or at its own tags, anchors and type
        // names, which are not used here.
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

//! An order-preserving tree of YAML values, and its text.
//!
//! Plain scalars are read by the core schema of YAML 1.2 exactly: `yes`, `on`, `1_000`, `0b1`, `2024-01-01`, `=` and
//! `<<` are strings. Anchors and aliases are supported; merge keys and tags of one's own are not.
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

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, RandomState};

use granit_parser::{Event, Parser, ScalarStyle, Tag, YamlVersion};
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

/// Below this many entries a mapping's keys are compared one by one, above they are hashed.
const FEW_KEYS: usize = 16;
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
    Sequence(Vec<Value>),
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

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
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
/// A key is never a collection; only [`parse`] makes keys that are no strings. Looking up a key takes time in proportion
/// to the entries.
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

impl IntoIterator for Mapping {
    type Item = (Value, Value);
    type IntoIter = std::vec::IntoIter<(Value, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Reads a text of one document, or of none, which is null. A byte order mark in front is skipped.
pub fn parse(text: &str) -> Result<Value, Error> {
    let mut loader = Loader::default();
    if text.len() > MAX_INPUT {
        return Err(loader.error(None, format!("the text is longer than {MAX_INPUT} bytes")));
    }
    // The parser's own limits only have to be out of the way of ours, whose errors name the place.
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: 16 * MAX_DEPTH,
        block_nesting_limit: 16 * MAX_DEPTH,
    };
    // Up to the end of the stream: what follows the document must be well-formed, and must not be another one.
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => loader.event(event, span.start.line())?,
            Err(error) => return Err(loader.error(Some(error.marker().line()), shown(&error.info(), 4 * SHOWN_CHARS))),
        }
    }
    Ok(loader.root.unwrap_or(Value::Null))
}

/// Reads the text of one plain scalar by the core schema: `5` is an integer, `yes` a string, nothing at all null.
///
/// Numbers that [`Value`] cannot hold are errors.
pub fn parse_scalar(text: &str) -> Result<Value, Error> {
    match resolve(text) {
        Ok(value) => Ok(value.unwrap_or_else(|| text.into())),
        Err(problem) => Err(Error { path: String::new(), line: None, problem }),
    }
}

/// What a plain scalar is by the core schema; `None` if it is a string.
fn resolve(text: &str) -> Result<Option<Value>, String> {
    Ok(Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        _ => {
            let integer = match text.get(..2) {
                Some("0x") => text.get(2..).filter(|digits| all(digits, |b| b.is_ascii_hexdigit())).map(|d| (d, 16)),
                Some("0o") => text.get(2..).filter(|digits| all(digits, |b| matches!(b, b'0'..=b'7'))).map(|d| (d, 8)),
                _ => all(unsigned(text), |b| b.is_ascii_digit()).then_some((text, 10)),
            };
            if let Some((digits, radix)) = integer {
                let value = i128::from_str_radix(digits, radix);
                Value::Int(value.map_err(|_| format!("the integer {} is out of range", quoted(text)))?)
            } else if is_decimal(unsigned(text)) {
                let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
                Value::Float(value.ok_or_else(|| format!("the number {} is out of range", quoted(text)))?)
            } else {
                return Ok(None);
            }
        }
    }))
}

fn unsigned(number: &str) -> &str {
    number.strip_prefix(['+', '-']).unwrap_or(number)
}

/// Whether there is something, all of it accepted.
fn all(text: &str, accepted: fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(accepted)
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_decimal(text: &str) -> bool {
    let digits = |text| all(text, |b| b.is_ascii_digit());
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
        && match mantissa.split_once('.') {
            Some(("", fraction)) => digits(fraction),
            Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
            None => digits(mantissa),
        }
}

/// A scalar's value, or what is wrong with it.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let wanted = match tag {
        None if style == ScalarStyle::Plain => None,
        None => Some("str"),
        Some(tag) if is_unspecific(tag) => Some("str"),
        Some(tag) => Some(tag.core_suffix().unwrap_or_default()),
    };
    let value = if wanted == Some("str") { None } else { resolve(&text)? };
    match (wanted, value) {
        (None | Some("str"), None) => {
            let mut text = text.into_owned();
            // The parser's buffers grow by doubling.
            text.shrink_to_fit();
            Ok(Value::String(text))
        }
        (None, Some(value))
        | (Some("null"), Some(value @ Value::Null))
        | (Some("bool"), Some(value @ Value::Bool(_)))
        | (Some("int"), Some(value @ Value::Int(_)))
        | (Some("float"), Some(value @ Value::Float(_))) => Ok(value),
        (Some("float"), Some(Value::Int(value))) if is_decimal(unsigned(&text)) => Ok(Value::Float(value as f64)),
        _ => Err(unfit(tag, &quoted(&text))),
    }
}

/// The tag `!`, which says of a scalar that it is a string and of a collection nothing.
fn is_unspecific(tag: &Tag) -> bool {
    tag.original() == "!"
}

fn unfit(tag: Option<&Tag>, content: &str) -> String {
    let name = shown(&tag.map(Tag::original).unwrap_or_default(), SHOWN_CHARS);
    match tag.and_then(Tag::core_suffix) {
        Some(_) => format!("the tag `{name}` does not fit {content}"),
        None => format!("the tag `{name}` is not supported"),
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

/// What tells keys of one mapping apart: equal ones may not both be there.
#[derive(Hash, PartialEq)]
enum Key<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(u64),
    String(&'a str),
}

impl<'a> Key<'a> {
    /// `None` for collections, which are no keys.
    fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            // One NaN and one zero, whatever their signs and payloads.
            Value::Float(value) if value.is_nan() => Self::Float(f64::NAN.to_bits()),
            Value::Float(value) => Self::Float((value + 0.0).to_bits()),
            Value::String(text) => Self::String(text),
            Value::Sequence(_) | Value::Mapping(_) => return None,
        })
    }
}

/// Builds the tree from events, without recursion: a deep text grows `stack`, which is limited, not the thread's.
#[derive(Default)]
struct Loader {
    stack: Vec<Frame>,
    root: Option<Value>,
    documents: usize,
    /// By the parser's number for the anchor; `None` while the anchored collection is not complete.
    anchors: Vec<Option<Value>>,
    nodes: usize,
    text: usize,
    /// Seeded at random, so that a text cannot choose keys that collide.
    hasher: RandomState,
}

/// A collection that is not complete, and the number of its anchor; 0 if there is none.
enum Frame {
    Sequence { anchor: usize, items: Vec<Value> },
    /// `seen` has the hashes of all keys once there are more than a few.
    Mapping { anchor: usize, entries: Vec<(Value, Value)>, key: Option<Value>, seen: HashSet<u64> },
}

impl Loader {
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), Error> {
        match event {
            Event::DocumentStart(_, version) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.error(Some(line), "there is more than one document"));
                }
                if version.is_some_and(|YamlVersion { major, minor }| major != 1 || !matches!(minor, 1 | 2)) {
                    return Err(self.error(Some(line), "only YAML 1.2 and 1.1 are supported"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(1, text.len(), line)?;
                if text.len() > MAX_SCALAR {
                    return Err(self.error(Some(line), format!("the scalar is longer than {MAX_SCALAR} bytes")));
                }
                let value = scalar(text, style, tag.as_deref()).map_err(|problem| self.error(Some(line), problem))?;
                self.complete(value, anchor, line)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(Frame::Sequence { anchor, items: Vec::new() }, "seq", tag.as_deref(), line)
            }
            Event::MappingStart(_, anchor, tag) => {
                let frame = Frame::Mapping { anchor, entries: Vec::new(), key: None, seen: HashSet::new() };
                self.open(frame, "map", tag.as_deref(), line)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Frame::Sequence { anchor, mut items }) => {
                    items.shrink_to_fit();
                    self.complete(Value::Sequence(items), anchor, line)
                }
                Some(Frame::Mapping { anchor, mut entries, .. }) => {
                    entries.shrink_to_fit();
                    self.complete(Value::Mapping(Mapping(entries)), anchor, line)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some(Some(value)) = self.anchors.get(anchor) else {
                    return Err(self.error(Some(line), "an alias refers to the collection it stands in"));
                };
                let size = value.measure();
                self.charge(size.nodes, size.text, line)?;
                if self.stack.len() + size.depth > MAX_DEPTH {
                    return Err(self.too_deep(line));
                }
                match self.anchors.get(anchor).cloned().flatten() {
                    Some(value) => self.complete(value, 0, line),
                    None => Ok(()),
                }
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            // Whatever a later parser may report: a node that was left out would shift those around it.
            _ => Err(self.error(Some(line), "this YAML is not supported")),
        }
    }

    /// A collection starts.
    fn open(&mut self, frame: Frame, wanted: &str, tag: Option<&Tag>, line: usize) -> Result<(), Error> {
        self.charge(1, 0, line)?;
        if tag.is_some_and(|tag| !is_unspecific(tag) && tag.core_suffix() != Some(wanted)) {
            return Err(self.error(Some(line), unfit(tag, "a collection")));
        }
        if let Some(Frame::Mapping { key: None, .. }) = self.stack.last() {
            return Err(self.error(Some(line), "a collection cannot be a key"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.too_deep(line));
        }
        let (Frame::Sequence { anchor, .. } | Frame::Mapping { anchor, .. }) = frame;
        if anchor >= self.anchors.len() {
            self.anchors.resize(anchor + 1, None);
        }
        self.stack.push(frame);
        Ok(())
    }

    /// A node is complete: it is kept if it has an anchor, and goes to where it belongs.
    fn complete(&mut self, value: Value, anchor: usize, line: usize) -> Result<(), Error> {
        if anchor != 0 {
            let size = value.measure();
            self.charge(size.nodes, size.text, line)?;
            if anchor >= self.anchors.len() {
                self.anchors.resize(anchor + 1, None);
            }
            if let Some(kept) = self.anchors.get_mut(anchor) {
                *kept = Some(value.clone());
            }
        }
        match self.stack.last_mut() {
            None => self.root = Some(value),
            Some(Frame::Sequence { items, .. }) => items.push(value),
            Some(Frame::Mapping { entries, key, seen, .. }) => match key.take() {
                Some(key) => entries.push((key, value)),
                None => {
                    let Some(new) = Key::of(&value) else {
                        return Err(self.error(Some(line), "a collection cannot be a key"));
                    };
                    if entries.len() == FEW_KEYS {
                        let keys = entries.iter().filter_map(|(key, _)| Key::of(key));
                        seen.extend(keys.map(|key| self.hasher.hash_one(key)));
                    }
                    let suspect = entries.len() < FEW_KEYS || !seen.insert(self.hasher.hash_one(&new));
                    let duplicate = suspect && entries.iter().any(|(key, _)| Key::of(key).as_ref() == Some(&new));
                    *key = Some(value);
                    if duplicate {
                        return Err(self.error(Some(line), "the key is there twice"));
                    }
                }
            },
        }
        Ok(())
    }

    fn charge(&mut self, nodes: usize, text: usize, line: usize) -> Result<(), Error> {
        self.nodes += nodes;
        self.text += text;
        if self.nodes > MAX_NODES {
            let problem = format!("there are more than {MAX_NODES} nodes, copies by anchors and aliases included");
            return Err(self.error(Some(line), problem));
        }
        if self.text > MAX_TEXT {
            let problem = format!("there are more than {MAX_TEXT} bytes of text, copies by anchors and aliases included");
            return Err(self.error(Some(line), problem));
        }
        Ok(())
    }

    #[cold]
    fn too_deep(&self, line: usize) -> Error {
        self.error(Some(line), format!("there are more than {MAX_DEPTH} collections inside each other"))
    }

    /// An error at the node that comes next.
    #[cold]
    fn error(&self, line: Option<usize>, problem: impl Into<String>) -> Error {
        let mut path = String::new();
        for frame in &self.stack {
            match frame {
                Frame::Sequence { items, .. } => {
                    let _ = write!(path, "[{}]", items.len());
                }
                Frame::Mapping { key: Some(key), .. } => push_key(&mut path, key),
                Frame::Mapping { key: None, .. } => {}
            }
        }
        Error { path, line: line.and_then(|line| u64::try_from(line).ok()), problem: problem.into() }
    }
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
    Fields(&'a [(&'a str, Emit<'a>)]),
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

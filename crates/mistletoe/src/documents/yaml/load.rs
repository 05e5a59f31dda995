//! Builds a tree from the parser's events.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use super::{
    Budget, Error, MAX_DEPTH, MAX_INPUT, MAX_NODES, MAX_SCALAR, MAX_TEXT, Mapping, SHOWN_CHARS, Value, all, push_key,
    quoted, shown,
};

/// A mapping's keys are compared one by one below this number of entries, and hashed from it on.
const FEW_KEYS: usize = 16;

/// Number of steps of a path that an error shows at its start and at its end.
const SHOWN_FRAMES: usize = 8;

/// See [`Budget::parse`].
pub(super) fn document(text: &str, budget: &mut Budget) -> Result<Value, Error> {
    let mut loader = Loader::new(budget);
    loader.charge(0, 0, 1)?;
    // Up to the end of the stream: the text after the document must be well-formed, and not another document.
    events(text, |event| {
        let (event, line) = event.map_err(|(line, problem)| loader.error(line, problem))?;
        loader.event(event, line)
    })?;
    Ok(loader.root.unwrap_or(Value::Null))
}

/// See [`check_stream`](super::check_stream).
pub(super) fn check_stream(text: &str) -> Result<(), Error> {
    let error = |line: Option<usize>, problem: String| Error {
        path: String::new(),
        line: line.and_then(|line| u64::try_from(line).ok()),
        problem,
    };
    // For each open collection, whether a key comes next; `None` in a sequence.
    let mut stack: Vec<Option<bool>> = Vec::new();
    events(text, |event| {
        let (event, line) = event.map_err(|(line, problem)| error(line, problem))?;
        let fails = |problem: String| Err(error(Some(line), problem));
        let opened = match event {
            Event::Scalar(text, style, ..) if stack.is_empty() => {
                let is_null = style == ScalarStyle::Plain && plain(&text) == Ok(Some(Value::Null));
                if !is_null {
                    return fails(format!("expected a mapping or a sequence, found the text {}", quoted(&text)));
                }
                None
            }
            Event::SequenceStart(..) => Some(None),
            Event::MappingStart(..) => Some(Some(true)),
            Event::SequenceEnd | Event::MappingEnd => {
                stack.pop();
                return Ok(());
            }
            Event::Scalar(..) | Event::Alias(..) => None,
            _ => return Ok(()),
        };
        // The node is a key, or the value after one.
        if let Some(Some(is_key)) = stack.last_mut() {
            if *is_key && opened.is_some() {
                return fails("a collection cannot be a key".to_owned());
            }
            *is_key = !*is_key;
        }
        stack.extend(opened);
        if stack.len() > MAX_DEPTH { fails(too_deep()) } else { Ok(()) }
    })
}

fn too_deep() -> String {
    format!("more than {MAX_DEPTH} nested collections")
}

/// Calls `on_event` with each event of the text and its line, or with the problem that ends the text.
fn events<'a>(
    text: &'a str,
    mut on_event: impl FnMut(Result<(Event<'a>, usize), (Option<usize>, String)>) -> Result<(), Error>,
) -> Result<(), Error> {
    if text.len() > MAX_INPUT {
        return on_event(Err((None, format!("the text is longer than {MAX_INPUT} bytes"))));
    }
    // The one directive without effect is skipped here and all others are refused: a parser takes long to keep millions
    // of them.
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (body, skipped) = match body.split_once('\n') {
        Some((first, rest)) if matches!(first.trim_ascii_end(), "%YAML 1.2" | "%YAML 1.1") => {
            if !begins(rest) {
                let problem = "a directive comes before a document that begins with `---`";
                return on_event(Err((Some(1), problem.to_owned())));
            }
            (rest, 1)
        }
        _ => (body, 0),
    };
    let options = granit_parser::options! {
        emit_comments: false,
        disallow_directives: true,
        // High enough not to interfere with this module's limit, whose error names the place.
        flow_nesting_limit: 16 * MAX_DEPTH,
        block_nesting_limit: 16 * MAX_DEPTH,
    };
    for event in Parser::new_from_str_with_options(body, options) {
        on_event(match event {
            Ok((event, span)) => Ok((event, skipped + span.start.line())),
            Err(error) => {
                let line = skipped + error.marker().line();
                Err((Some(line), shown(&error.info(), 4 * SHOWN_CHARS)))
            }
        })?;
    }
    Ok(())
}

/// Returns whether a document begins with `---`, after only empty lines and comments.
fn begins(text: &str) -> bool {
    let mut lines = text.lines().map(|line| (line, line.trim_start_matches([' ', '\t'])));
    let first = lines.find(|(_, content)| !content.is_empty() && !content.starts_with('#'));
    let rest = first.and_then(|(line, _)| line.strip_prefix("---"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// The identity of a key: a mapping may not have two equal keys.
#[derive(Eq, Hash, PartialEq)]
pub(super) enum Key<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(u64),
    String(&'a str),
}

impl<'a> Key<'a> {
    /// Returns the identity of a key, or `None` for a collection, which cannot be a key.
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            // All NaNs are one key, whatever their signs and payloads; so are both zeros.
            Value::Float(value) if value.is_nan() => Self::Float(f64::NAN.to_bits()),
            Value::Float(value) => Self::Float((value + 0.0).to_bits()),
            Value::String(text) => Self::String(text),
            Value::Sequence(_) | Value::Mapping(_) => return None,
        })
    }
}

/// Builds the tree from events without recursion: a deep text grows `stack`, which is limited, and not the thread's
/// stack.
struct Loader<'a> {
    stack: Vec<Frame>,
    root: Option<Value>,
    documents: usize,
    /// By the parser's number for the anchor; `None` while the anchored collection is not complete.
    anchors: Vec<Option<Value>>,
    budget: &'a mut Budget,
    /// Randomly seeded, so that a text cannot choose keys that collide.
    hasher: RandomState,
}

/// An incomplete collection, and the number of its anchor; 0 if there is none.
enum Frame {
    Sequence {
        anchor: usize,
        items: Vec<Value>,
    },
    Mapping {
        anchor: usize,
        entries: Vec<(Value, Value)>,
        /// The key whose value comes next.
        key: Option<Value>,
        /// The hashes of all keys, once there are [`FEW_KEYS`] entries.
        seen: HashSet<u64>,
    },
}

impl<'a> Loader<'a> {
    fn new(budget: &'a mut Budget) -> Self {
        let (stack, anchors) = Default::default();
        Self { stack, root: None, documents: 0, anchors, budget, hasher: RandomState::new() }
    }

    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), Error> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.error(Some(line), "there is more than one document"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                if text.len() > MAX_SCALAR {
                    return Err(self.error(Some(line), format!("the scalar is longer than {MAX_SCALAR} bytes")));
                }
                self.charge(1, text.len(), line)?;
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
            // Events that a later version of the parser may add: skipping a node would shift the nodes around it.
            _ => Err(self.error(Some(line), "this YAML is not supported")),
        }
    }

    /// Starts a collection.
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

    /// Adds a complete node to its parent, and keeps a copy if it has an anchor.
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
                        return Err(self.error(Some(line), "duplicate key"));
                    }
                }
            },
        }
        Ok(())
    }

    fn charge(&mut self, nodes: usize, text: usize, line: usize) -> Result<(), Error> {
        self.budget.nodes += nodes;
        self.budget.text += text;
        if self.budget.nodes > MAX_NODES {
            let problem = format!("more than {MAX_NODES} nodes, including copies by anchors and aliases");
            return Err(self.error(Some(line), problem));
        }
        if self.budget.text > MAX_TEXT {
            let problem =
                format!("the scalars have more than {MAX_TEXT} bytes, copies by anchors and aliases included");
            return Err(self.error(Some(line), problem));
        }
        Ok(())
    }

    #[cold]
    fn too_deep(&self, line: usize) -> Error {
        self.error(Some(line), too_deep())
    }

    /// Returns an error at the next node.
    #[cold]
    fn error(&self, line: Option<usize>, problem: impl Into<String>) -> Error {
        let mut path = String::new();
        for (i, frame) in self.stack.iter().enumerate() {
            match frame {
                // The middle of a long path is left out: it does not help the reader.
                _ if i >= SHOWN_FRAMES && i + SHOWN_FRAMES < self.stack.len() => {
                    path.push_str(if i == SHOWN_FRAMES { "…" } else { "" });
                }
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

/// Returns the value of a plain scalar by the core schema; `None` if it is a string.
pub(super) fn plain(text: &str) -> Result<Option<Value>, String> {
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

/// Returns a scalar's value, or the problem with it.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let wanted = match tag {
        None if style == ScalarStyle::Plain => None,
        None => Some("str"),
        Some(tag) if is_unspecific(tag) => Some("str"),
        Some(tag) => Some(tag.core_suffix().unwrap_or_default()),
    };
    let value = if wanted == Some("str") { None } else { plain(&text)? };
    match (wanted, value) {
        (None | Some("str"), None) => {
            let mut text = text.into_owned();
            // The parser's buffers grow by doubling, so up to half of one is unused.
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

/// Returns whether this is the tag `!`, which makes a scalar a string and has no effect on a collection.
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

//! From YAML text to a tree of nodes.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use serde::ser::{Serialize, Serializer};

use crate::Error;

/// Maximum number of nested collections.
const MAX_DEPTH: usize = 128;
/// Maximum number of nodes, copies by anchors and aliases included.
const MAX_NODES: usize = 1_000_000;

/// A node. What a scalar is gets decided when it is used.
#[derive(Clone)]
pub(crate) enum Node<'a> {
    /// A scalar, and whether it is always a string: it has quotes, is a block or has a tag that says so.
    Scalar(Cow<'a, str>, bool),
    Sequence(Vec<Self>),
    Mapping(Vec<(Self, Self)>),
}

/// A scalar by the core schema of YAML 1.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    String(&'a str),
}

impl<'a> Node<'a> {
    /// Parses a text with one document. A text without one is null.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Error> {
        let mut tree = Tree { stack: Vec::new(), root: None, anchors: Vec::new(), nodes: 0 };
        for event in Parser::new_from_str(text) {
            match event {
                Ok((event, span)) => tree.event(event).map_err(|problem| at(span.start.line(), &problem))?,
                Err(error) => return Err(at(error.marker().line(), &error.info())),
            }
        }
        Ok(tree.root.unwrap_or(Self::Scalar(Cow::Borrowed(""), false)))
    }

    /// Returns whether this is a plain null.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(text, false) if is_null(text))
    }

    /// Counts the nodes and the levels of collections.
    fn measure(&self) -> (usize, usize) {
        let add = |(nodes, depth): (usize, usize), node: &Self| {
            let (more, deeper) = node.measure();
            (nodes + more, depth.max(deeper + 1))
        };
        match self {
            Self::Scalar(..) => (1, 0),
            Self::Sequence(items) => items.iter().fold((1, 1), add),
            Self::Mapping(entries) => entries.iter().flat_map(|(key, value)| [key, value]).fold((1, 1), add),
        }
    }
}

fn at(line: usize, problem: &str) -> Error {
    Error::new(format!("line {line}: {problem}"))
}

/// Returns a scalar's value.
pub(crate) fn resolve(text: &str, is_string: bool) -> Result<Scalar<'_>, Error> {
    if is_string {
        return Ok(Scalar::String(text));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    Ok(match text {
        _ if is_null(text) => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        _ if matches!(unsigned, ".inf" | ".Inf" | ".INF") => {
            Scalar::Float(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY })
        }
        _ if is_digits(unsigned, 10) => int(text, 10)?,
        _ => match text.split_at_checked(2) {
            Some(("0x", digits)) if is_digits(digits, 16) => int(digits, 16)?,
            Some(("0o", digits)) if is_digits(digits, 8) => int(digits, 8)?,
            _ if is_decimal(unsigned) => match text.parse::<f64>() {
                Ok(value) if value.is_finite() => Scalar::Float(value),
                _ => return Err(out_of_range(text)),
            },
            _ => Scalar::String(text),
        },
    })
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn int(digits: &str, radix: u32) -> Result<Scalar<'_>, Error> {
    i128::from_str_radix(digits, radix).map(Scalar::Int).map_err(|_| out_of_range(digits))
}

fn out_of_range(text: &str) -> Error {
    let start: String = text.chars().take(40).collect();
    Error::new(format!("the number {start} is out of range"))
}

fn is_digits(text: &str, radix: u32) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_digit(radix))
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (text, "0"),
    };
    let are_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    is_digits(exponent, 10)
        && match mantissa.split_once('.') {
            Some((whole, fraction)) => mantissa.len() > 1 && are_digits(whole) && are_digits(fraction),
            None => is_digits(mantissa, 10),
        }
}

/// Builds the tree from events without recursion.
struct Tree<'a> {
    /// The collections that are not complete.
    stack: Vec<Frame<'a>>,
    root: Option<Node<'a>>,
    /// By the parser's number for the anchor.
    anchors: Vec<Option<Node<'a>>>,
    nodes: usize,
}

/// A collection that is not complete, and the number of its anchor; 0 if there is none.
struct Frame<'a> {
    anchor: usize,
    node: Node<'a>,
    /// The key whose value comes next.
    key: Option<Node<'a>>,
}

impl<'a> Tree<'a> {
    fn event(&mut self, event: Event<'a>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = is_string(style, tag.as_deref())?;
                self.complete(Node::Scalar(text, is_string), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(Node::Sequence(Vec::new()), anchor, tag.as_deref(), "seq")
            }
            Event::MappingStart(_, anchor, tag) => self.open(Node::Mapping(Vec::new()), anchor, tag.as_deref(), "map"),
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Frame { anchor, node, .. }) => {
                    if let Node::Mapping(entries) = &node {
                        check_keys(entries)?;
                    }
                    self.complete(node, anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some(Some(node)) = self.anchors.get(anchor) else {
                    return Err("an alias refers to the collection it stands in".into());
                };
                let ((nodes, depth), node) = (node.measure(), node.clone());
                self.charge(nodes, depth)?;
                self.complete(node, 0)
            }
            Event::DocumentStart(..) if self.root.is_some() => Err("there is more than one document".into()),
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => Ok(()),
            // Events that a later version of the parser may add: skipping a node would shift the nodes around it.
            _ => Err("this YAML is not supported".into()),
        }
    }

    fn open(&mut self, node: Node<'a>, anchor: usize, tag: Option<&Tag>, fitting: &str) -> Result<(), String> {
        if tag.is_some_and(|tag| tag.original() != "!" && tag.core_suffix() != Some(fitting)) {
            return Err(unfit(tag));
        }
        self.charge(1, 1)?;
        self.stack.push(Frame { anchor, node, key: None });
        Ok(())
    }

    /// Counts nodes that are added below the open collections.
    fn charge(&mut self, nodes: usize, depth: usize) -> Result<(), String> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(format!("more than {MAX_NODES} nodes, including copies by anchors and aliases"));
        }
        if self.stack.len() + depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} nested collections"));
        }
        Ok(())
    }

    /// Adds a complete node to its parent, and keeps a copy if it has an anchor.
    fn complete(&mut self, node: Node<'a>, anchor: usize) -> Result<(), String> {
        self.charge(1, 0)?;
        if anchor != 0 {
            self.charge(node.measure().0, 0)?;
            if anchor >= self.anchors.len() {
                self.anchors.resize(anchor + 1, None);
            }
            if let Some(kept) = self.anchors.get_mut(anchor) {
                *kept = Some(node.clone());
            }
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame { node: Node::Sequence(items), .. }) => items.push(node),
            Some(Frame { node: Node::Mapping(entries), key, .. }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None if matches!(node, Node::Scalar(..)) => *key = Some(node),
                None => return Err("a collection cannot be a key".into()),
            },
            Some(Frame { node: Node::Scalar(..), .. }) => {}
        }
        Ok(())
    }
}

/// Returns whether a scalar is always a string.
fn is_string(style: ScalarStyle, tag: Option<&Tag>) -> Result<bool, String> {
    match tag {
        None => Ok(style != ScalarStyle::Plain),
        Some(tag) if tag.original() == "!" => Ok(true),
        Some(tag) => match tag.core_suffix() {
            Some("str") => Ok(true),
            Some("null" | "bool" | "int" | "float") => Ok(false),
            _ => Err(unfit(Some(tag))),
        },
    }
}

fn unfit(tag: Option<&Tag>) -> String {
    format!("the tag `{}` is not supported here", tag.map(Tag::original).unwrap_or_default())
}

/// Fails if two keys are equal. Sorting takes less time than comparing each key with each other.
fn check_keys(entries: &[(Node<'_>, Node<'_>)]) -> Result<(), String> {
    let mut keys: Vec<_> = entries
        .iter()
        .filter_map(|(key, _)| match key {
            Node::Scalar(text, is_string) => {
                let is_string = matches!(resolve(text, *is_string), Ok(Scalar::String(_)));
                Some((&**text, is_string))
            }
            _ => None,
        })
        .collect();
    keys.sort_unstable();
    match keys.array_windows().find(|[left, right]| left == right) {
        Some([(key, _), _]) => Err(format!("duplicate key `{key}`")),
        None => Ok(()),
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Scalar(text, is_string) => match resolve(text, *is_string).map_err(serde::ser::Error::custom)? {
                Scalar::Null => serializer.serialize_unit(),
                Scalar::Bool(value) => serializer.serialize_bool(value),
                Scalar::Int(value) => serializer.serialize_i128(value),
                Scalar::Float(value) => serializer.serialize_f64(value),
                Scalar::String(text) => serializer.serialize_str(text),
            },
            Self::Sequence(items) => serializer.collect_seq(items),
            Self::Mapping(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

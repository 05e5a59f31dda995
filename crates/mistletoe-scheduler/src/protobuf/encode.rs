//! From the text of JSON to a message, by the table.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::keys::{EntryKey, FieldName};
use super::message::{Field, Kind, Message, Shape};
use super::time;
use super::writer::Writer;

/// An object under way.
pub(super) struct Encoder {
    pub(super) writer: Writer,
    /// Where the encoder is. After an error, it is where the error is.
    path: Vec<Step>,
    /// The maximum length of the output, in bytes.
    limit: usize,
}

enum Step {
    Field(&'static str),
    Index(usize),
    /// The key of an entry, by its place in the output.
    Key(usize, usize),
}

impl Encoder {
    pub(super) fn new(limit: usize) -> Self {
        Self { writer: Writer::default(), path: Vec::new(), limit }
    }

    /// Returns the path, such as `spec.containers[0].name`.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.extend([".", name]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Key(start, end) => {
                    let key = String::from_utf8_lossy(&self.writer.out[*start..*end]);
                    path.push_str(&format!("[{:?}]", key.chars().take(100).collect::<String>()));
                }
            }
        }
        path
    }

    fn check_size<E: Error>(&self) -> Result<(), E> {
        if self.writer.out.len() > self.limit {
            return Err(E::custom(format_args!("the message is longer than {} bytes", self.limit)));
        }
        Ok(())
    }

    /// Begins an entry of a map with its key. Returns where the entry begins, and where its length is.
    pub(super) fn key(&mut self, number: u32, key: &str) -> (usize, usize) {
        let start = self.writer.out.len();
        let at = self.writer.begin(number);
        self.writer.bytes(1, key.as_bytes());
        let end = self.writer.out.len();
        self.path.push(Step::Key(end - key.len(), end));
        (start, at)
    }

    fn raw<E: Error>(&mut self, number: u32, kind: Kind, text: &str) -> Result<bool, E> {
        if text == "null" {
            return Ok(false);
        }
        if let Kind::FieldsV1 = kind {
            self.writer.text(number, text);
            return Ok(true);
        }
        let quantity = match text.as_bytes() {
            [b'"', ..] => serde_json::from_str::<Text<'_>>(text).map_err(E::custom)?.0,
            [b'-' | b'0'..=b'9', ..] => text.into(),
            _ => return Err(E::custom("expected a quantity, which is a string or a number")),
        };
        self.writer.text(number, quantity.trim());
        Ok(true)
    }

    fn message<'de, A: MapAccess<'de>>(&mut self, message: &'static Message, mut map: A) -> Result<(), A::Error> {
        let open = self.writer.open();
        let (mut seen, mut written, mut expected) = (0_u64, 0_u64, 0);
        while let Some(found) = map.next_key_seed(FieldName { message, expected })? {
            // A newer Kubernetes has more fields.
            let Some(index) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let field = &message.fields[index];
            self.path.push(Step::Field(field.name));
            if seen & 1 << index != 0 {
                return Err(A::Error::custom("the field is there more than once"));
            }
            seen |= 1 << index;
            expected = index + 1;
            let start = self.writer.out.len();
            let Field { number, shape, kind, .. } = *field;
            if map.next_value_seed(Place { encoder: self, number, shape, kind })? {
                written |= 1 << index;
                self.writer.field(field, start);
            }
            self.check_size()?;
            self.path.pop();
        }
        self.writer.close(message, open, written);
        Ok(())
    }
}

/// Writes a value as fields with this number. The result is `false` for null, of which nothing is written.
pub(super) struct Place<'a> {
    pub(super) encoder: &'a mut Encoder,
    pub(super) number: u32,
    pub(super) shape: Shape,
    pub(super) kind: Kind,
}

impl Place<'_> {
    /// Returns the place of an element or of an entry's value.
    fn single(&mut self, number: u32) -> Place<'_> {
        Place { encoder: self.encoder, number, shape: Shape::Value, kind: self.kind }
    }

    fn is_single(&self) -> bool {
        matches!(self.shape, Shape::Value | Shape::Pointer)
    }

    fn is_text(&self) -> bool {
        self.is_single() && matches!(self.kind, Kind::Quantity | Kind::FieldsV1)
    }

    fn integer<E: Error>(self, unexpected: Unexpected<'_>, value: Option<i64>) -> Result<bool, E> {
        if !self.is_single() {
            return Err(E::invalid_type(unexpected, &self));
        }
        match (self.kind, value) {
            (Kind::Int32 | Kind::Int64 | Kind::IntOrString, None) => Err(E::invalid_value(unexpected, &self)),
            (Kind::Int64, Some(value)) => {
                self.encoder.writer.number(self.number, value);
                Ok(true)
            }
            (Kind::Int32 | Kind::IntOrString, Some(value)) => {
                let value = i32::try_from(value).map_err(|_| E::invalid_value(unexpected, &self))?;
                match self.kind {
                    Kind::Int32 => self.encoder.writer.number(self.number, value.into()),
                    _ => self.encoder.writer.int_or_string(self.number, Ok(value)),
                }
                Ok(true)
            }
            _ => Err(E::invalid_type(unexpected, &self)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<bool, D::Error> {
        if self.is_text() {
            return self.encoder.raw(self.number, self.kind, <&RawValue>::deserialize(value)?.get());
        }
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.shape, self.kind) {
            (Shape::List, _) => "a list",
            (Shape::Map, _) => "an object",
            (_, Kind::Message(message)) => return write!(f, "an object ({})", message.name),
            (_, Kind::String) => "a string",
            (_, Kind::Bool) => "a boolean",
            (_, Kind::Int32) => "an integer of 32 bits",
            (_, Kind::Int64) => "an integer of 64 bits",
            (_, Kind::IntOrString) => "an integer of 32 bits or a string",
            (_, Kind::Time) => "a time (RFC 3339)",
            (_, Kind::Quantity | Kind::FieldsV1) => "a value",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        if !self.is_single() || !matches!(self.kind, Kind::Bool) {
            return Err(E::invalid_type(Unexpected::Bool(value), &self));
        }
        self.encoder.writer.number(self.number, value.into());
        Ok(true)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        self.integer(Unexpected::Signed(value), Some(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        self.integer(Unexpected::Unsigned(value), value.try_into().ok())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<bool, E> {
        let writer = &mut self.encoder.writer;
        match self.kind {
            _ if !matches!(self.shape, Shape::Value | Shape::Pointer) => {
                return Err(E::invalid_type(Unexpected::Str(value), &self));
            }
            Kind::String => writer.bytes(self.number, value.as_bytes()),
            Kind::IntOrString => writer.int_or_string(self.number, Err(value)),
            Kind::Time => {
                let Some(seconds) = time::parse(value) else {
                    return Err(E::invalid_value(Unexpected::Str(value), &self));
                };
                writer.time(self.number, seconds);
            }
            _ => return Err(E::invalid_type(Unexpected::Str(value), &self)),
        }
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<bool, A::Error> {
        if self.shape != Shape::List {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        self.encoder.path.push(Step::Index(0));
        let mut length = 0;
        while let Some(is_present) = list.next_element_seed(self.single(self.number))? {
            if !is_present {
                self.encoder.writer.zero(self.number, self.kind);
            }
            self.encoder.check_size()?;
            length += 1;
            if let Some(Step::Index(index)) = self.encoder.path.last_mut() {
                *index = length;
            }
        }
        self.encoder.path.pop();
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<bool, A::Error> {
        match (self.shape, self.kind) {
            (Shape::List, _) => return Err(A::Error::invalid_type(Unexpected::Map, &self)),
            (Shape::Map, _) => {}
            (_, Kind::Message(message)) => {
                let at = self.encoder.writer.begin(self.number);
                self.encoder.message(message, map)?;
                self.encoder.writer.end(at);
                return Ok(true);
            }
            _ => return Err(A::Error::invalid_type(Unexpected::Map, &self)),
        }
        let open = self.encoder.writer.open();
        while let Some((start, at)) = map.next_key_seed(EntryKey(self.encoder, self.number))? {
            if !map.next_value_seed(self.single(2))? {
                self.encoder.writer.zero(2, self.kind);
            }
            self.encoder.path.pop();
            self.encoder.writer.end(at);
            self.encoder.writer.entry(start);
            self.encoder.check_size()?;
        }
        if self.encoder.writer.close_map(open) {
            return Ok(true);
        }
        Err(A::Error::custom("a key is there more than once"))
    }
}

/// The object as a whole, whose message has no tag and no length.
pub(super) struct Root<'a>(pub(super) &'a mut Encoder, pub(super) &'static Message);

impl<'de> DeserializeSeed<'de> for Root<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Root<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.1.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.message(self.1, map)
    }
}

/// A string, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

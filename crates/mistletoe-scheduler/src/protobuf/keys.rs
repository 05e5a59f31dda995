//! Keys of objects: names of fields, and keys of maps.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, Visitor};

use super::encode::Encoder;
use super::message::Message;

/// Finds the field with a name. The next one in the table is the most likely.
pub(super) struct FieldName {
    pub(super) message: &'static Message,
    pub(super) expected: usize,
}

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Option<usize>, D::Error> {
        key.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        let count = self.message.fields.len();
        let indices = (self.expected..count).chain(0..self.expected.min(count));
        Ok(indices.into_iter().find(|index| self.message.fields[*index].name == name))
    }
}

/// Begins an entry of a map with its key. Returns where the entry begins, and where its length is.
pub(super) struct EntryKey<'a>(pub(super) &'a mut Encoder, pub(super) u32);

impl<'de> DeserializeSeed<'de> for EntryKey<'_> {
    type Value = (usize, usize);

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<(usize, usize), D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for EntryKey<'_> {
    type Value = (usize, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(usize, usize), E> {
        Ok(self.0.key(self.1, key))
    }
}

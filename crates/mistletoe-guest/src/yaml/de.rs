//! From nodes to values, through serde. Errors name the place in the document.

use alloc::borrow::Cow;
use alloc::vec;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::read::{Node, Scalar, resolve};
use crate::{API_VERSION, Error};

/// Returns `data` of a `MistInput`.
pub(crate) fn input<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Error> {
    let Node::Mapping(fields) = Node::parse(text)? else {
        return Err(Error::new("the input is not a mapping"));
    };
    let mut data = None;
    for (key, value) in fields {
        let Node::Scalar(key, _) = key else { continue };
        match &*key {
            "data" => data = Some(value),
            "apiVersion" if !matches!(&value, Node::Scalar(version, _) if version == API_VERSION) => {
                return Err(Error::new(alloc::format!("expected `{API_VERSION}`")).inside_key("apiVersion"));
            }
            _ => {}
        }
    }
    let data = data.ok_or_else(|| Error::new("the field is missing").inside_key("data"))?;
    T::deserialize(data).map_err(|error| error.inside_key("data"))
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            // A string is the only scalar that can be handed out without a copy.
            Self::Scalar(text, is_string) => match resolve(&text, is_string)? {
                Scalar::Null => visitor.visit_unit(),
                Scalar::Bool(value) => visitor.visit_bool(value),
                Scalar::Int(value) => match (i64::try_from(value), u64::try_from(value)) {
                    (Ok(value), _) => visitor.visit_i64(value),
                    (_, Ok(value)) => visitor.visit_u64(value),
                    _ => visitor.visit_i128(value),
                },
                Scalar::Float(value) => visitor.visit_f64(value),
                Scalar::String(_) => match text {
                    Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                    Cow::Owned(text) => visitor.visit_string(text),
                },
            },
            Self::Sequence(items) => {
                let mut items = Items { rest: items.into_iter(), index: 0 };
                let value = visitor.visit_seq(&mut items)?;
                items.is_read()?;
                Ok(value)
            }
            Self::Mapping(entries) => {
                let mut entries = Entries { rest: entries.into_iter(), entry: None };
                let value = visitor.visit_map(&mut entries)?;
                entries.is_read()?;
                Ok(value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (variant, value) = match self {
            Self::Mapping(entries) => {
                let mut entries = entries.into_iter();
                match (entries.next(), entries.next()) {
                    (Some((variant, value)), None) => (variant, Some(value)),
                    _ => return Err(Error::new("expected a mapping with one entry, the variant's name and value")),
                }
            }
            other => (other, None),
        };
        let Self::Scalar(variant, _) = variant else {
            return Err(Error::new("expected the name of a variant, or a mapping with one entry"));
        };
        visitor.visit_enum(Variant { name: variant, value })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

struct Items<'de> {
    rest: vec::IntoIter<Node<'de>>,
    index: usize,
}

impl Items<'_> {
    fn is_read(&self) -> Result<(), Error> {
        match self.rest.len() {
            0 => Ok(()),
            rest => Err(de::Error::invalid_length(self.index + rest, &"fewer items")),
        }
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        let value = seed.deserialize(node).map_err(|error| error.inside_item(self.index))?;
        self.index += 1;
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Entries<'de> {
    rest: vec::IntoIter<(Node<'de>, Node<'de>)>,
    /// The entry whose value comes next.
    entry: Option<(Cow<'de, str>, Node<'de>)>,
}

impl Entries<'_> {
    fn is_read(&self) -> Result<(), Error> {
        match self.rest.len() {
            0 => Ok(()),
            rest => Err(de::Error::invalid_length(rest, &"no more entries")),
        }
    }
}

impl<'de> MapAccess<'de> for &mut Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        // Keys are scalars: the reader refuses others.
        let Node::Scalar(text, _) = &key else { return Ok(None) };
        let name = text.clone();
        let key = seed.deserialize(key).map_err(|error| error.inside_key(&name))?;
        self.entry = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((name, value)) = self.entry.take() else {
            return Err(Error::new("a value was read before its key"));
        };
        seed.deserialize(value).map_err(|error| error.inside_key(&name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Variant<'de> {
    name: Cow<'de, str>,
    value: Option<Node<'de>>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = seed.deserialize(StrDeserializer::<Error>::new(&self.name))?;
        Ok((name, self))
    }
}

impl<'de> Variant<'de> {
    fn value(self) -> Result<(Cow<'de, str>, Node<'de>), Error> {
        match self.value {
            Some(value) => Ok((self.name, value)),
            None => Err(Error::new(alloc::format!("the variant `{}` needs a value", self.name))),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match &self.value {
            Some(value) if !value.is_null() => Err(Error::new("this variant has no value").inside_key(&self.name)),
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        let (name, value) = self.value()?;
        seed.deserialize(value).map_err(|error| error.inside_key(&name))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        let (name, value) = self.value()?;
        value.deserialize_any(visitor).map_err(|error| error.inside_key(&name))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        let (name, value) = self.value()?;
        value.deserialize_any(visitor).map_err(|error| error.inside_key(&name))
    }
}

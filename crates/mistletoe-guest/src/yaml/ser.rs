//! A serde serializer that writes YAML in block style, with lists as `kubectl` prints them.

use alloc::string::String;
use core::fmt::{Display, Write as _};

use serde::ser::{self, Serialize, Serializer};

use super::text;
use crate::Error;

/// Appends `value` as an entry's value, after `key:` of the mapping in this column.
pub(crate) fn entry<T: Serialize + ?Sized>(out: &mut String, value: &T, column: usize) -> Result<(), Error> {
    value.serialize(Writer { out, column, place: Place::Entry })
}

/// Returns `value` as a document.
pub(crate) fn document<T: Serialize + ?Sized>(value: &T) -> Result<String, Error> {
    let mut out = String::new();
    value.serialize(Writer { out: &mut out, column: 0, place: Place::Root })?;
    Ok(out)
}

/// Where the next node is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// At the start of a document.
    Root,
    /// A mapping's key.
    Key,
    /// After `key:`.
    Entry,
    /// After `- `.
    Item,
}

/// Writes one node. Its collection is in `column`.
struct Writer<'a> {
    out: &'a mut String,
    column: usize,
    place: Place,
}

impl<'a> Writer<'a> {
    /// Writes what is not a string, and needs no quotes.
    fn plain(self, value: impl Display) -> Result<(), Error> {
        if self.place == Place::Entry {
            self.out.push(' ');
        }
        // Writing to a string does not fail.
        let _ = write!(self.out, "{value}");
        if self.place != Place::Key {
            self.out.push('\n');
        }
        Ok(())
    }

    /// Starts a collection. A sequence in a mapping is not indented.
    fn open(self, is_mapping: bool) -> Result<Collection<'a>, Error> {
        let column = match self.place {
            Place::Key => return Err(Error::new("a key must be a scalar")),
            Place::Root => 0,
            Place::Entry if !is_mapping => self.column,
            Place::Entry | Place::Item => self.column + 2,
        };
        Ok(Collection { out: self.out, column, place: self.place, is_mapping, is_empty: true })
    }

    /// Starts a mapping with one entry, an enum's variant, and returns the place of its value.
    fn variant(self, name: &str) -> Result<Self, Error> {
        let mut mapping = self.open(true)?;
        mapping.start();
        text::key(mapping.out, name, mapping.column);
        Ok(Writer { out: mapping.out, column: mapping.column, place: Place::Entry })
    }
}

/// Writes the entries of a collection, which is in `column`.
struct Collection<'a> {
    out: &'a mut String,
    column: usize,
    place: Place,
    is_mapping: bool,
    is_empty: bool,
}

impl Collection<'_> {
    /// Starts the line of an entry. The first one may continue a line.
    fn start(&mut self) {
        let is_first = core::mem::replace(&mut self.is_empty, false);
        if is_first && self.place == Place::Entry {
            self.out.push('\n');
        }
        if !is_first || self.place == Place::Entry {
            text::indent(self.out, self.column);
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.start();
        self.out.push_str("- ");
        value.serialize(Writer { out: self.out, column: self.column, place: Place::Item })
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.start();
        let start = self.out.len();
        key.serialize(Writer { out: self.out, column: self.column, place: Place::Key })?;
        text::colon(self.out, start, self.column);
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        entry(self.out, value, self.column)
    }

    fn close(self) -> Result<(), Error> {
        if self.is_empty {
            let empty = if self.is_mapping { "{}" } else { "[]" };
            return Writer { out: self.out, column: self.column, place: self.place }.plain(empty);
        }
        Ok(())
    }
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Collection<'a>;
    type SerializeTuple = Collection<'a>;
    type SerializeTupleStruct = Collection<'a>;
    type SerializeTupleVariant = Collection<'a>;
    type SerializeMap = Collection<'a>;
    type SerializeStruct = Collection<'a>;
    type SerializeStructVariant = Collection<'a>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.plain(value)
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        self.plain(value)
    }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        self.plain(value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        self.plain(value)
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        self.plain(value)
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        if value.is_finite() {
            // The shortest text that is this `f32`: as an `f64`, 0.1 has 17 digits.
            return self.plain(format_args!("{value:?}"));
        }
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        match value {
            f64::INFINITY => self.plain(".inf"),
            f64::NEG_INFINITY => self.plain("-.inf"),
            _ if value.is_nan() => self.plain(".nan"),
            _ => self.plain(format_args!("{value:?}")),
        }
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        match self.place {
            Place::Key => text::scalar(self.out, value),
            // No block: it would have to be indented below nothing.
            Place::Root => {
                text::scalar(self.out, value);
                self.out.push('\n');
            }
            Place::Entry => {
                self.out.push(' ');
                text::value(self.out, value, self.column);
            }
            Place::Item => text::value(self.out, value, self.column),
        }
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.plain("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self.variant(variant)?)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Collection<'a>, Error> {
        self.open(false)
    }

    fn serialize_tuple(self, _: usize) -> Result<Collection<'a>, Error> {
        self.open(false)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Collection<'a>, Error> {
        self.open(false)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Collection<'a>, Error> {
        self.variant(variant)?.open(false)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Collection<'a>, Error> {
        self.open(true)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Collection<'a>, Error> {
        self.open(true)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Collection<'a>, Error> {
        self.variant(variant)?.open(true)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.serialize_str(&alloc::format!("{value}"))
    }
}

/// Implements the traits whose entries have no names.
macro_rules! items {
    ($($name:ident::$method:ident),*) => {$(
        impl ser::$name for Collection<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )*};
}

items!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

/// Implements the traits whose entries have names.
macro_rules! fields {
    ($($name:ident),*) => {$(
        impl ser::$name for Collection<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
                self.key(key)?;
                self.value(value)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Collection<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

//! A reader of protobuf, which looks at a message only as far as it is asked to.
//!
//! Every length and number is checked: a message that is cut off, or no message at all, is an error.

use alloc::format;
use core::str;

use crate::Error;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A number of fixed width, which Kubernetes does not use.
    Fixed,
}

/// The fields of a message, in order. Nothing follows after an error.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    error: Option<Error>,
}

impl<'a> Fields<'a> {
    /// Returns the fields of a message, or the error that there is instead of one.
    pub(super) fn of(message: Result<&'a [u8], Error>) -> Self {
        match message {
            Ok(rest) => Self { rest, error: None },
            Err(error) => Self { rest: b"", error: Some(error) },
        }
    }

    /// Reads a varint: seven bits in each byte, the lowest first.
    fn varint(&mut self) -> Result<u64, Error> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(malformed("a number is longer than 64 bits"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = split.ok_or_else(|| malformed("it is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), Error> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number != 0);
        let number = number.ok_or_else(|| malformed("the number of a field is out of range"))?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(malformed("the type of a field is unknown")),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = b"";
        }
        Some(field)
    }
}

/// Returns the last value of a field.
fn last(message: &[u8], number: u32) -> Result<Option<Value<'_>>, Error> {
    let mut found = None;
    for field in Fields::of(Ok(message)) {
        let (other, value) = field?;
        if other == number {
            found = Some(value);
        }
    }
    Ok(found)
}

/// Returns the bytes of a field; none if it is missing.
pub(super) fn bytes(message: &[u8], number: u32) -> Result<&[u8], Error> {
    last(message, number)?.map_or(Ok(b""), |value| value.bytes(number))
}

/// Returns the text of a field; an empty one if it is missing.
pub(super) fn text(message: &[u8], number: u32) -> Result<&str, Error> {
    utf8(bytes(message, number)?)
}

/// Returns the number of a field, if it is there.
pub(super) fn number(message: &[u8], number: u32) -> Result<Option<u64>, Error> {
    match last(message, number)? {
        None => Ok(None),
        Some(Value::Number(value)) => Ok(Some(value)),
        Some(_) => Err(malformed(&format!("the field {number} is not a number"))),
    }
}

/// Returns the message in a message in a message and so on; an empty one if it is missing.
pub(super) fn at<'a>(message: &'a [u8], path: &[u32]) -> Result<&'a [u8], Error> {
    path.iter().try_fold(message, |message, number| bytes(message, *number))
}

/// Returns all values of a field, in order.
pub(super) fn all(message: Result<&[u8], Error>, number: u32) -> impl Iterator<Item = Result<&[u8], Error>> {
    Fields::of(message).filter_map(move |field| match field {
        Ok((other, _)) if other != number => None,
        Ok((_, value)) => Some(value.bytes(number)),
        Err(error) => Some(Err(error)),
    })
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    str::from_utf8(bytes).map_err(|_| malformed("a text is not UTF-8"))
}

impl<'a> Value<'a> {
    fn bytes(self, number: u32) -> Result<&'a [u8], Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(malformed(&format!("the field {number} is a number"))),
        }
    }
}

fn malformed(problem: &str) -> Error {
    Error::new(format!("the object is malformed: {problem}"))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn numbers_have_up_to_64_bits() {
        let read = |bytes: &[u8]| Fields::of(Ok(bytes)).varint().map_err(|error| error.to_string());
        assert_eq!(read(b"\x96\x01"), Ok(150));
        assert_eq!(read(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Ok(u64::MAX));
        for long in [&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"[..], b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"]
        {
            assert_eq!(read(long), Err("the object is malformed: a number is longer than 64 bits".into()));
        }
        assert_eq!(read(b"\x80"), Err("the object is malformed: it is cut off".into()));
    }

    #[test]
    fn the_last_value_counts_and_others_are_passed_over() {
        let message = b"\x0a\x01a\x11\0\0\0\0\0\0\0\0\x1d\0\0\0\0\x20\x07\x0a\x01b";
        assert_eq!(text(message, 1), Ok("b"));
        assert_eq!(all(Ok(message), 1).collect::<Result<Vec<_>, _>>(), Ok([&b"a"[..], b"b"].into()));
        assert_eq!(number(message, 4), Ok(Some(7)));
        assert_eq!((text(message, 9), number(message, 9), at(message, &[9, 9])), (Ok(""), Ok(None), Ok(&b""[..])));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for (message, problem) in [
            (&b"\x0a\x05a"[..], "cut off"),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a", "cut off"),
            (b"\x0a", "cut off"),
            (b"\x11\0", "cut off"),
            (b"\x0b", "type of a field"),
            (b"\x02\x00", "number of a field"),
            (b"\xfa\xff\xff\xff\xff\xff\x01\x00", "number of a field"),
            (b"\x08\x01", "the field 1 is a number"),
            (b"\x0a\x01\xff", "not UTF-8"),
        ] {
            let error = text(message, 1).expect_err("it is no message").to_string();
            assert!(error.contains(problem), "{message:?}: {error}");
        }
        assert!(number(b"\x0a\x01a", 1).is_err());
        // An error ends the fields.
        assert_eq!(all(Ok(b"\x0a\x05a"), 1).count(), 1);
        assert_eq!(all(Err(Error::new("none")), 1).collect::<Vec<_>>(), [Err(Error::new("none"))]);
    }
}

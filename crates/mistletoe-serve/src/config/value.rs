//! Values of a configuration: the text of each is checked where it is parsed, so that errors have its line.

use std::fmt;
use std::time::Duration;

use http::{HeaderValue, Method};
use mistletoe::protocol::httpwasm::Delimiter;
use mistletoe::units;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::route::Pattern;

/// A number of bytes: an integer, or a text with a unit.
pub(super) struct Size(pub(super) u64);
/// The same, or `unlimited`.
pub(super) struct SizeOrNone(pub(super) Option<u64>);
/// Units of fuel: an integer, or a text with a unit, or `unlimited`.
pub(super) struct Fuel(pub(super) Option<u64>);
/// A stack depth: an integer, or `unlimited`.
pub(super) struct Stack(pub(super) Option<u32>);
/// A time: a text with a unit.
pub(super) struct Time(pub(super) Duration);
pub(super) struct Methods(pub(super) Vec<Method>);
pub(super) struct MediaType(pub(super) HeaderValue);
pub(super) struct Host(pub(super) String);
pub(super) struct RecordEnd(pub(super) Delimiter);

/// Parses a text, or an integer as the text of it.
struct Text<F>(F, &'static str);

impl<'de, T, F: FnOnce(&str) -> Result<T, String>> Visitor<'de> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        (self.0)(&number.to_string()).map_err(E::custom)
    }
}

fn finite<T>(value: Result<Option<T>, &'static str>) -> Result<T, String> {
    match value {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err("a server needs this limit".to_owned()),
        Err(error) => Err(error.to_owned()),
    }
}

macro_rules! value {
    ($name:ident, $expected:literal, $parse:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text($parse, $expected))
            }
        }
    };
}

value!(Size, "a number of bytes", |text: &str| finite(units::size(text)).map(Size));
value!(SizeOrNone, "a number of bytes", |text: &str| Ok(SizeOrNone(units::size(text)?)));
value!(Fuel, "a number of units", |text: &str| Ok(Fuel(units::fuel(text)?)));
value!(Stack, "a number of units", |text: &str| Ok(Stack(units::stack(text)?)));
value!(Time, "a time, such as `10s`", |text: &str| {
    let time = finite(units::time(text))?;
    if time > Duration::from_secs(24 * 60 * 60) { Err("more than 24h".to_owned()) } else { Ok(Time(time)) }
});
value!(Pattern, "a path", |text: &str| Self::parse(text).map_err(str::to_owned));
value!(Host, "the name of a host", |text: &str| {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    let has_port = text.rsplit_once(':').is_some_and(|(name, _)| !name.starts_with('[') || name.ends_with(']'));
    if text.is_empty() || has_port || !text.bytes().all(plain) {
        return Err("expected the name of a host, without a port".to_owned());
    }
    Ok(Host(text.to_ascii_lowercase()))
});
value!(MediaType, "a media type", |text: &str| {
    let value = HeaderValue::from_str(text).ok().filter(|value| value.as_bytes().contains(&b'/'));
    value.map(MediaType).ok_or_else(|| "expected a media type, such as `text/html`".to_owned())
});
value!(RecordEnd, "a delimiter", |text: &str| {
    match (text, text.as_bytes()) {
        ("newline", _) => Ok(RecordEnd(Delimiter::Newline)),
        ("nul", _) => Ok(RecordEnd(Delimiter::Nul)),
        ("none", _) => Ok(RecordEnd(Delimiter::None)),
        (_, [byte]) => Ok(RecordEnd(Delimiter::Byte(*byte))),
        _ => Err("expected `newline`, `nul`, `none`, or one ASCII character".to_owned()),
    }
});

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let methods = Vec::<String>::deserialize(deserializer)?.into_iter().map(|name| {
            // Methods are case-sensitive, and all that are in use are in upper case.
            let upper = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
            Method::from_bytes(name.as_bytes()).ok().filter(|_| upper).ok_or_else(|| {
                D::Error::custom(format!("`{}` is not a method: expected `GET`, `POST`, …", name.escape_debug()))
            })
        });
        let methods = methods.collect::<Result<Vec<_>, _>>()?;
        if methods.is_empty() {
            return Err(D::Error::custom(
                "a route without methods takes no request; leave the key out for all methods",
            ));
        }
        Ok(Self(methods))
    }
}

//! Values of a configuration: the text of each is checked where it is parsed, so that errors have its line.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use mistletoe::protocol::httpwasm::Delimiter;
use mistletoe::units;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::headers;
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
pub(super) struct Status(pub(super) StatusCode);
pub(super) struct Headers(pub(super) HeaderMap);
/// Host and port of an upstream.
pub(super) struct Url(pub(super) Authority);
/// The configuration of a guest: a text as it is, or a table as JSON.
pub(super) struct GuestBytes(pub(super) Bytes);

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

value!(Status, "a status", |text: &str| {
    let status = text.parse::<u16>().ok().filter(|status| (200..600).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    status.map(Status).ok_or_else(|| "expected a status from 200 to 599".to_owned())
});
value!(Url, "a URL", |text: &str| {
    let uri = text.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http") && uri.path() == "/");
    let authority = uri.filter(|uri| uri.query().is_none()).and_then(|uri| uri.authority().cloned());
    let authority = authority.filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    authority.map(Url).ok_or_else(|| "expected `http://HOST` or `http://HOST:PORT`".to_owned())
});

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = HeaderMap::new();
        for (name, value) in BTreeMap::<String, String>::deserialize(deserializer)? {
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !headers::is_framing(name));
            let parsed = parsed.zip(HeaderValue::from_str(&value).ok());
            let (name, value) = parsed.ok_or_else(|| {
                D::Error::custom(format!("`{}` is not a header field of a response", name.escape_debug()))
            })?;
            all.insert(name, value);
        }
        Ok(Self(all))
    }
}

impl<'de> Deserialize<'de> for GuestBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(Self(text.into())),
            table @ toml::Value::Table(_) => Ok(Self(json(table).to_string().into())),
            _ => Err(D::Error::custom("expected a text or a table")),
        }
    }
}

/// Returns a value as JSON. Dates are texts, and there is nothing for an infinite number.
fn json(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(name, value)| (name, json(value))).collect(),
    }
}

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let methods = Vec::<String>::deserialize(deserializer)?.into_iter().map(|name| {
            // Methods are case-sensitive, and all that are in use are in upper case.
            let upper = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
            let method = Method::from_bytes(name.as_bytes()).ok().filter(|_| upper);
            if method == Some(Method::CONNECT) {
                return Err(D::Error::custom("`CONNECT` has no path, so no route takes it"));
            }
            method.ok_or_else(|| {
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

//! The JSON of the interface: names, and values by names. Parsers of all of JSON would make modules twice as large.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::{ImageState, Setting};
use crate::Error;

/// Reads an array of strings; nothing is an empty one.
pub(super) fn names(json: &[u8]) -> Result<Vec<String>, Error> {
    let (mut reader, mut names) = (Reader(json), Vec::new());
    if !reader.is_nothing() {
        reader.items(b'[', b']', |reader| {
            names.push(reader.string()?);
            Ok(())
        })?;
    }
    reader.end().map(|()| names)
}

/// Reads an object of numbers; nothing is an empty one.
pub(super) fn numbers(json: &[u8]) -> Result<BTreeMap<String, i64>, Error> {
    object(json, |reader| reader.number())
}

/// Reads the images of a node.
pub(super) fn images(json: &[u8]) -> Result<BTreeMap<String, ImageState>, Error> {
    object(json, |reader| {
        let mut image = ImageState::default();
        reader.items(b'{', b'}', |reader| {
            match &*reader.key()? {
                "Size" => image.size = reader.number()?,
                "NumNodes" => image.nodes = reader.number()?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        Ok(image)
    })
}

/// Reads an object whose values are no objects and no arrays; nothing is an empty one.
pub(super) fn settings(json: &[u8]) -> Result<Vec<(String, Setting)>, Error> {
    object(json, |reader| {
        reader.0 = reader.0.trim_ascii_start();
        for (word, value) in [(&b"true"[..], true), (b"false", false)] {
            if let Some(rest) = reader.0.strip_prefix(word) {
                reader.0 = rest;
                return Ok(Setting::Bool(value));
            }
        }
        if reader.0.starts_with(b"\"") {
            reader.string().map(Setting::Text)
        } else {
            reader.number().map(Setting::Number)
        }
    })
}

/// Reads an object; nothing is an empty one.
fn object<T, O: Default + Extend<(String, T)>>(
    json: &[u8],
    mut value: impl FnMut(&mut Reader<'_>) -> Result<T, Error>,
) -> Result<O, Error> {
    let (mut reader, mut object) = (Reader(json), O::default());
    if !reader.is_nothing() {
        reader.items(b'{', b'}', |reader| {
            let key = reader.key()?;
            object.extend([(key, value(reader)?)]);
            Ok(())
        })?;
    }
    reader.end().map(|()| object)
}

/// Writes an object of numbers.
pub(super) fn write_numbers(numbers: &BTreeMap<String, i64>) -> String {
    let mut json = String::from("{");
    for (name, number) in numbers {
        if json.len() > 1 {
            json.push(',');
        }
        quote(&mut json, name);
        // Writing to a string does not fail.
        let _ = write!(json, ":{number}");
    }
    json.push('}');
    json
}

/// Writes a string.
pub(super) fn quote(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\0'..=' ' if c != ' ' => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

/// What is left of a text.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Returns whether there is no value, or null, which is taken.
    fn is_nothing(&mut self) -> bool {
        self.0 = self.0.trim_ascii_start();
        match self.0.strip_prefix(b"null") {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => self.0.is_empty(),
        }
    }

    fn end(&mut self) -> Result<(), Error> {
        if self.0.trim_ascii_start().is_empty() { Ok(()) } else { Err(malformed("more follows after the value")) }
    }

    /// Takes a character, if it is the next one.
    fn take(&mut self, c: u8) -> bool {
        self.0 = self.0.trim_ascii_start();
        match self.0.split_first() {
            Some((first, rest)) if *first == c => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, c: u8) -> Result<(), Error> {
        if self.take(c) { Ok(()) } else { Err(malformed(&format!("expected `{}`", char::from(c)))) }
    }

    /// Reads what is between two brackets, item after item.
    fn items(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.expect(open)?;
        if self.take(close) {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.take(close) {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn key(&mut self) -> Result<String, Error> {
        let key = self.string()?;
        self.expect(b':').map(|()| key)
    }

    fn number(&mut self) -> Result<i64, Error> {
        self.0 = self.0.trim_ascii_start();
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        let number = core::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| malformed("expected a whole number"))
    }

    fn string(&mut self) -> Result<String, Error> {
        let raw = self.raw_string()?;
        match unescape(raw) {
            Some(text) => Ok(text.into_owned()),
            None => Err(malformed("a string has an unknown escape or is not UTF-8")),
        }
    }

    /// Takes a string, and returns what is between its quotes.
    fn raw_string(&mut self) -> Result<&'a [u8], Error> {
        self.expect(b'"')?;
        let mut is_escaped = false;
        let end = self.0.iter().position(|byte| {
            let is_end = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            is_end
        });
        let end = end.ok_or_else(|| malformed("a string has no end"))?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Ok(text)
    }

    /// Passes over a value. It counts brackets, so that the depth of the value costs no stack.
    fn skip(&mut self) -> Result<(), Error> {
        let mut depth = 0_usize;
        loop {
            self.0 = self.0.trim_ascii_start();
            let Some((first, rest)) = self.0.split_first() else { return Err(malformed("a value is cut off")) };
            match first {
                b'"' => drop(self.raw_string()?),
                b',' | b']' | b'}' if depth == 0 => return Ok(()),
                c => {
                    match c {
                        b'[' | b'{' => depth += 1,
                        b']' | b'}' => depth -= 1,
                        _ => {}
                    }
                    self.0 = rest;
                }
            }
        }
    }
}

/// Returns the text that a string says.
fn unescape(raw: &[u8]) -> Option<Cow<'_, str>> {
    let raw = core::str::from_utf8(raw).ok()?;
    if !raw.contains('\\') {
        return Some(Cow::Borrowed(raw));
    }
    let (mut text, mut rest) = (String::new(), raw);
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let escape = after.chars().next()?;
        rest = after.get(escape.len_utf8()..)?;
        text.push(match escape {
            '"' | '\\' | '/' => escape,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (first, after) = unit(rest)?;
                rest = after;
                // A character beyond the first 65,536 has two units.
                let second = after.strip_prefix("\\u").filter(|_| (0xd800..0xdc00).contains(&first));
                let second = second.map(|second| unit(second).ok_or(())).transpose().ok()?;
                let units = second.iter().map(|(second, _)| *second);
                match char::decode_utf16(core::iter::once(first).chain(units)).next()? {
                    Ok(c) => {
                        rest = second.map_or(rest, |(_, after)| after);
                        c
                    }
                    Err(_) => char::REPLACEMENT_CHARACTER,
                }
            }
            _ => return None,
        });
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

/// Takes four hexadecimal digits.
fn unit(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

fn malformed(problem: &str) -> Error {
    Error::new(format!("malformed JSON: {problem}"))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn names_are_read() {
        assert_eq!(names(b""), Ok(Vec::new()));
        assert_eq!(names(b"[]"), Ok(Vec::new()));
        let json = br#" [ "a" , "\"\\\/\b\f\n\r\t" , "\u00e4\ud83d\ude00\ud83d\u0041" ] "#;
        let expected = ["a", "\"\\/\u{8}\u{c}\n\r\t", "\u{e4}\u{1f600}\u{fffd}A"].map(String::from);
        assert_eq!(names(json), Ok(expected.into()));
    }

    #[test]
    fn numbers_are_read_and_written() {
        let json = "{\"a\":-1,\"b\\\"\\u0001\":100}";
        let read = numbers(json.as_bytes()).expect("it is right");
        assert_eq!(read, [("a".into(), -1), ("b\"\u{1}".into(), 100)].into());
        assert_eq!(write_numbers(&read), json);
        assert_eq!(write_numbers(&numbers(b" {} ").expect("it is right")), "{}");
    }

    #[test]
    fn images_are_read() {
        let json = br#"{"i:1": {"Size": 7, "Nodes": [{"a": "]}\""}, 1.5], "NumNodes": 2}, "j": {}}"#;
        let expected = [("i:1".into(), ImageState { size: 7, nodes: 2 }), ("j".into(), ImageState::default())];
        assert_eq!(images(json), Ok(expected.into()));
        assert_eq!(images(b"null"), Ok(BTreeMap::new()));
    }

    #[test]
    fn settings_are_read() {
        let json = br#" {"a": true, "b":false , "c": "true", "d": -7} "#;
        let expected = [
            ("a", Setting::Bool(true)),
            ("b", Setting::Bool(false)),
            ("c", Setting::Text("true".into())),
            ("d", Setting::Number(-7)),
        ];
        assert_eq!(settings(json), Ok(expected.map(|(name, setting)| (name.into(), setting)).into()));
        assert_eq!((settings(b""), settings(b"{}")), (Ok(Vec::new()), Ok(Vec::new())));
        for json in
            [&b"{\"a\": truer}"[..], b"{\"a\": null}", b"{\"a\": [1]}", b"{\"a\": 1.5}", b"true", b"{\"a\": \"}"]
        {
            assert!(settings(json).is_err(), "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        let deep = [&br#"{"a":{"b":"#[..], &[b'['; 100_000]].concat();
        for json in [
            &b"["[..],
            b"[1]",
            b"[\"a]",
            b"[\"a\\\"]",
            b"[\"a\",]",
            b"[\"a\" \"b\"]",
            b"[\"\\x\"]",
            b"[\"\\u12\"]",
            b"[\"\\u12\xc3\xa4\"]",
            b"[\"\\ud800\\u12\"]",
            b"[\"\xff\"]",
            b"[] []",
            b"{\"a\"}",
            b"{\"a\":}",
            b"{\"a\":1.5}",
            b"{\"a\":99999999999999999999}",
            b"{\"a\":{\"b\":[}",
            &deep,
        ] {
            let text = String::from_utf8_lossy(json);
            let error = names(json).and(numbers(json).map(drop)).and(images(json).map(drop));
            assert!(error.is_err(), "{text:.99}");
            if json.starts_with(b"[") {
                assert!(names(json).is_err(), "{text:.99}");
            } else {
                let error = images(json).expect_err(&text).to_string();
                assert!(error.starts_with("malformed JSON: "), "{error}");
            }
        }
    }
}

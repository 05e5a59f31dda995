//! The text of objects.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::protobuf::Error;

/// The text of an object, which may be part of a longer one that objects share.
#[derive(Clone)]
pub(crate) struct Text {
    all: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Text {
    pub(crate) fn new(text: Vec<u8>) -> Self {
        let range = 0..text.len();
        Self { all: Arc::new(text), range }
    }

    /// Returns a part of the text, without a copy if it is one.
    pub(crate) fn part(&self, part: &str) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(self.all.as_ptr() as usize);
        let range = start..start.wrapping_add(part.len());
        match self.all.get(range.clone()) {
            Some(same) if same.as_ptr() == part.as_ptr() => Self { all: self.all.clone(), range },
            _ => Self::new(part.into()),
        }
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.all.get(self.range.clone()).unwrap_or_default()
    }
}

#[derive(Default, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) uid: Option<String>,
}

/// Reads an object's metadata, and nothing after them: they come first, and objects can be long.
pub(super) fn metadata(json: &[u8]) -> Result<Metadata, Error> {
    struct Found<'a>(&'a mut Option<Metadata>);

    impl<'de> Visitor<'de> for Found<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of Kubernetes")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                if key == "metadata" {
                    *self.0 = Some(map.next_value::<Option<_>>()?.unwrap_or_default());
                    return Err(A::Error::custom("the rest is not read"));
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }

    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = reader.deserialize_map(Found(&mut found)).and_then(|()| reader.end());
    match (found, read) {
        (Some(metadata), _) => Ok(metadata),
        (None, Ok(())) => Ok(Metadata::default()),
        (None, Err(error)) => Err(Error::new(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_text_is_no_copy() {
        let all = Text::new(b"some text".to_vec());
        let part = all.part(std::str::from_utf8(&all[5..]).expect("a text"));
        assert_eq!(&*part, b"text");
        assert!(Arc::ptr_eq(&all.all, &part.all));
        let other = all.part("text");
        assert_eq!(&*other, b"text");
        assert!(!Arc::ptr_eq(&all.all, &other.all));
        assert_eq!(&*all.part(""), b"");
    }
}

//! Pods and nodes in Kubernetes' protobuf, made from their JSON.
//!
//! A table says which field of JSON is which field of a message. The encoder reads the text and writes the message in
//! one pass, without a tree of values between them. Its output is what Kubernetes' own encoder writes for the object, to
//! the byte. Only a quantity keeps its text, where Kubernetes writes the canonical form; JSON from Kubernetes already has
//! that form.
//!
//! Fields that the table does not have are passed over, and null is absent. A field or key that is there twice, a value
//! of another type and a number that is out of range are errors.

mod encode;
mod keys;
mod message;
mod table;
mod time;
mod writer;

use std::fmt;

use serde::de::DeserializeSeed;

use encode::{Encoder, Root};
use message::Message;

/// The maximum length of an object in protobuf, in bytes.
pub const MAX_LENGTH: usize = 8 << 20;
/// What an object may have in protobuf besides twice its length in JSON, in bytes.
const MIN_LENGTH: usize = 256;

/// The maximum length of an error's text, in bytes.
const MAX_ERROR: usize = 512;

/// The JSON is not that of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

/// Encodes a v1.Pod.
///
/// # Errors
///
/// An [`Error`] if the text is not the JSON of a pod, or the message would be longer than [`MAX_LENGTH`], or
/// than 256 bytes and twice the text.
///
/// # Examples
///
/// ```
/// use mistletoe_scheduler::protobuf;
///
/// let error = protobuf::pod(br#"{"spec": {"containers": [{"name": 1}]}}"#).unwrap_err();
/// assert!(error.to_string().starts_with("spec.containers[0].name: invalid type: integer `1`, expected a string"));
/// ```
pub fn pod(json: &[u8]) -> Result<Vec<u8>, Error> {
    encode(&table::POD, json)
}

/// Encodes a v1.Node.
///
/// # Errors
///
/// As [`pod`].
pub fn node(json: &[u8]) -> Result<Vec<u8>, Error> {
    encode(&table::NODE, json)
}

/// Encodes a v1.NodeList of nodes in protobuf.
pub fn node_list<'a>(nodes: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    // ListMeta has three strings, of which Kubernetes writes empty ones.
    let mut writer = writer::Writer::default();
    writer.bytes(1, b"\x0a\0\x12\0\x1a\0");
    for node in nodes {
        writer.bytes(2, node);
    }
    writer.out.shrink_to_fit();
    writer.out
}

fn encode(message: &'static Message, json: &[u8]) -> Result<Vec<u8>, Error> {
    // An empty object in JSON can have many times its length in protobuf. Objects of a cluster have less than they have
    // in JSON, so that a request bounds what is made of it.
    let mut encoder = Encoder::new(MAX_LENGTH.min(2 * json.len() + MIN_LENGTH));
    // Checked at once: each string alone takes longer.
    let text = std::str::from_utf8(json).map_err(|error| Error::new(error.to_string()))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let result = Root(&mut encoder, message).deserialize(&mut reader).and_then(|()| reader.end());
    match result {
        Ok(()) => {
            // A cycle keeps it.
            encoder.writer.out.shrink_to_fit();
            Ok(encoder.writer.out)
        }
        Err(error) => {
            let path = encoder.path();
            Err(Error::new(if path.is_empty() { error.to_string() } else { format!("{path}: {error}") }))
        }
    }
}

impl Error {
    pub(crate) fn new(mut text: String) -> Self {
        if text.len() > MAX_ERROR {
            text.truncate(text.floor_char_boundary(MAX_ERROR));
            text.push('…');
        }
        Self(text)
    }

    /// Adds the name of the object that the error is about.
    pub(crate) fn of(&self, name: &str) -> Self {
        Self::new(format!("{name}: {}", self.0))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

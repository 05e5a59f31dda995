//! Manifests, indexes and descriptors of the OCI image specification, as far as modules need them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::digest::{Digest, DigestError};
use crate::error::{Error, ErrorKind, Result};

/// The media type of a manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a registry may send for a tag or a digest.
pub(crate) const MANIFEST_TYPES: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// What a manifest or an index refers to (OCI image specification, `descriptor.md`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
#[non_exhaustive]
pub struct Descriptor {
    /// The media type.
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// The length, in bytes.
    pub size: u64,
    pub(crate) platform: Option<Platform>,
}

/// A descriptor as it is written, with a digest of any algorithm.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

/// The platform of an entry of an index.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) media_type: &'static str,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) media_type: &'static str,
    /// The entries that can be fetched.
    manifests: Vec<Descriptor>,
    /// Number of entries whose digest is of another algorithm.
    others: usize,
}

/// A manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// The fields of both. A key that occurs twice is an error, as serde has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Written>>,
    #[serde(default, deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Returns the descriptor of some content.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, platform: None }
    }
}

impl TryFrom<Written> for Descriptor {
    type Error = DigestError;

    fn try_from(Written { media_type, digest, size, platform }: Written) -> Result<Self, DigestError> {
        Ok(Self { media_type, digest: digest.parse()?, size, platform })
    }
}

/// Reads annotations, of which no key may occur twice. `null` is none.
fn annotations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Unique;

    impl<'de> serde::de::Visitor<'de> for Unique {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of texts")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut annotations = BTreeMap::new();
            while let Some((key, value)) = map.next_entry::<String, String>()? {
                if annotations.insert(key, value).is_some() {
                    return Err(serde::de::Error::custom("an annotation occurs twice"));
                }
            }
            Ok(annotations)
        }
    }

    deserializer.deserialize_any(Unique)
}

impl Document {
    /// Reads a manifest or an index.
    ///
    /// What it is follows from its fields, which its digest covers, and not from what the registry says of it. A
    /// document that is both is neither (GHSA-77vh-xpmg-72qh).
    pub(crate) fn parse(subject: impl fmt::Display, bytes: &[u8]) -> Result<Self> {
        let bad = |problem: String| Error::new(&subject, ErrorKind::Manifest { problem });
        // The message of the error has texts of the document, of any length.
        let not_read = |error: &dyn fmt::Display| bad(format!("it is not a manifest: {}", crate::shown(error)));
        let fields: Fields = serde_json::from_slice(bytes).map_err(|error| not_read(&error))?;
        if fields.schema_version != 2 {
            return Err(bad(format!("the manifest has the schema version {}, not 2", fields.schema_version)));
        }
        let media_type = |types: [&'static str; 2]| match fields.media_type {
            // The field is optional in the OCI image specification, and required by Docker.
            None => Ok(types[0]),
            Some(found) => types
                .into_iter()
                .find(|known| *known == found)
                .ok_or_else(|| bad(format!("its media type is {:?}, which its fields are not", crate::shown(&found)))),
        };
        match (fields.config, fields.layers, fields.manifests) {
            (Some(config), Some(layers), None) => {
                let media_type = media_type([MANIFEST, DOCKER_MANIFEST])?;
                Ok(Self::Manifest(Manifest { media_type, config, layers, annotations: fields.annotations }))
            }
            (None, None, Some(written)) => {
                let media_type = media_type([INDEX, DOCKER_INDEX])?;
                let (mut manifests, mut others) = (Vec::new(), 0);
                for entry in written {
                    match Descriptor::try_from(entry) {
                        Ok(entry) => manifests.push(entry),
                        // Cannot be fetched, and says nothing about the other entries.
                        Err(DigestError::Algorithm) => others += 1,
                        Err(error) => return Err(not_read(&error)),
                    }
                }
                Ok(Self::Index(Index { media_type, manifests, others }))
            }
            (_, _, Some(_)) => Err(bad("it is a manifest and an index".to_owned())),
            _ => Err(bad("it is neither a manifest nor an index".to_owned())),
        }
    }

    /// Returns the media type: the document's own field, or else OCI's.
    pub(crate) fn media_type(&self) -> &'static str {
        match self {
            Self::Manifest(manifest) => manifest.media_type,
            Self::Index(index) => index.media_type,
        }
    }
}

impl Index {
    /// Returns the entry with a core module: the one for the architecture `wasm` that is no component, or the only one
    /// if no entry names a platform.
    pub(crate) fn wasm(&self, subject: impl fmt::Display) -> Result<&Descriptor> {
        let layout = |problem: String| Error::new(&subject, ErrorKind::Layout { problem });
        let is_wasm = |entry: &&Descriptor| {
            entry.platform.as_ref().is_some_and(|platform| platform.architecture == "wasm" && platform.os != "wasip2")
        };
        let mut found: Vec<_> = self.manifests.iter().filter(is_wasm).collect();
        if found.is_empty() && self.manifests.iter().all(|entry| entry.platform.is_none()) {
            found = self.manifests.iter().collect();
        }
        match *found {
            [] => {
                let others = match self.others {
                    0 => String::new(),
                    1 => "; 1 entry has a digest that is not SHA-256".to_owned(),
                    others => format!("; {others} entries have digests that are not SHA-256"),
                };
                Err(layout(format!("the index has no entry for a WebAssembly module{others}")))
            }
            [entry] if matches!(&*entry.media_type, INDEX | DOCKER_INDEX) => {
                Err(layout("the entry of the index is an index".to_owned()))
            }
            [entry] => Ok(entry),
            _ => {
                let digests: Vec<_> = found.iter().take(10).map(|entry| entry.digest.to_string()).collect();
                Err(layout(format!(
                    "the index has {} entries for WebAssembly modules, so the digest of one is needed: {}",
                    found.len(),
                    digests.join(", ")
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(more: &str) -> String {
        format!(r#"{{"mediaType": "x", "digest": "{DIGEST}", "size": 0{more}}}"#)
    }

    fn error(text: &str) -> String {
        Document::parse("x", text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn a_document_is_one_of_two_things() {
        let (config, list) = (descriptor(""), format!("[{}]", descriptor("")));
        let manifest = format!(r#"{{"schemaVersion": 2, "config": {config}, "layers": {list}, "unknown": 1}}"#);
        assert!(matches!(Document::parse("x", manifest.as_bytes()), Ok(Document::Manifest(_))));
        let index = format!(r#"{{"schemaVersion": 2, "mediaType": "{INDEX}", "manifests": {list}}}"#);
        assert!(matches!(Document::parse("x", index.as_bytes()), Ok(Document::Index(_))));
        for (text, problem) in [
            (String::new(), "it is not a manifest"),
            ("[".repeat(1000), "it is not a manifest"),
            (r#"{"schemaVersion": 1}"#.to_owned(), "the schema version 1"),
            (r#"{"schemaVersion": 2}"#.to_owned(), "neither"),
            (format!(r#"{{"schemaVersion": 2, "layers": {list}}}"#), "neither"),
            (format!(r#"{{"schemaVersion": 2, "config": {config}, "layers": [], "manifests": []}}"#), "and an index"),
            (r#"{"schemaVersion": 2, "layers": [], "manifests": []}"#.to_owned(), "and an index"),
            (
                manifest.replace("\"schemaVersion\": 2", &format!(r#""schemaVersion": 2, "mediaType": "{INDEX}""#)),
                "media type",
            ),
            (manifest.replace("\"schemaVersion\": 2", "\"schemaVersion\": 2, \"schemaVersion\": 2"), "duplicate"),
            (manifest.replace("\"size\": 0", "\"size\": -1"), "it is not a manifest"),
            (manifest.replace("\"size\": 0", "\"size\": 18446744073709551616"), "it is not a manifest"),
            (manifest.replace("sha256:", "sha512:"), "only sha256"),
            (manifest.replace("\"unknown\": 1", r#""annotations": {"a": "1", "a": "2"}"#), "occurs twice"),
        ] {
            assert!(error(&text).contains(problem), "{problem}: {}", error(&text));
        }
    }

    #[test]
    fn an_error_does_not_repeat_the_document() {
        let long = "\\u001b".repeat(1 << 20);
        for text in [
            format!(r#"{{"schemaVersion": "{long}"}}"#),
            format!(r#"{{"schemaVersion": 2, "config": "{long}"}}"#),
            format!(r#"{{"schemaVersion": 2, "annotations": ["{long}"]}}"#),
            format!(r#"{{"schemaVersion": 2, "manifests": [{{"mediaType": "x", "size": 0, "digest": "{long}"}}]}}"#),
            format!(r#"{{"schemaVersion": 2, "mediaType": "{long}", "manifests": []}}"#),
        ] {
            let error = error(&text);
            assert!(error.len() < 2000 && !error.contains('\x1b'), "{} bytes: {:.100}", error.len(), error);
        }
    }

    fn wasm(entries: &[&str]) -> Result<usize> {
        let entries: Vec<_> = (0..)
            .zip(entries)
            .map(|(i, more)| descriptor(more).replace("\"size\": 0", &format!("\"size\": {i}")))
            .collect();
        let text = format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, entries.join(","));
        let Document::Index(index) = Document::parse("x", text.as_bytes())? else { panic!("an index") };
        index.wasm("x").map(|entry| entry.size as usize)
    }

    #[test]
    fn an_index_has_one_entry_for_a_module() {
        let linux = r#", "platform": {"architecture": "amd64", "os": "linux"}"#;
        let wasip1 = r#", "platform": {"architecture": "wasm", "os": "wasip1"}"#;
        let wasip2 = r#", "platform": {"architecture": "wasm", "os": "wasip2"}"#;
        assert_eq!(wasm(&[""]).expect("one"), 0);
        assert_eq!(wasm(&[linux, wasip2, wasip1]).expect("one"), 2);
        assert!(wasm(&[]).is_err_and(|error| error.to_string().contains("no entry")));
        assert!(wasm(&[linux, ""]).is_err_and(|error| error.to_string().contains("no entry")));
        assert!(wasm(&["", ""]).is_err_and(|error| error.to_string().contains("2 entries")));
        assert!(wasm(&[wasip1, linux, wasip1]).is_err_and(|error| error.to_string().contains("2 entries")));
    }

    #[test]
    fn an_entry_with_a_digest_of_another_algorithm_is_passed_over() {
        let wasip1 = r#", "platform": {"architecture": "wasm", "os": "wasip1"}"#;
        let sha512 = |more: &str| descriptor(more).replace(DIGEST, &format!("sha512:{}", "0".repeat(128)));
        let index = |entries: &[String]| {
            let text = format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, entries.join(","));
            match Document::parse("x", text.as_bytes()) {
                Ok(Document::Index(index)) => index.wasm("x").map(|entry| entry.digest.to_string()),
                Ok(_) => panic!("not an index"),
                Err(error) => Err(error),
            }
        };
        for more in ["", wasip1] {
            assert_eq!(index(&[sha512(more), descriptor(wasip1)]).expect("one"), DIGEST);
            let error = index(&[sha512(more)]).expect_err("nothing to fetch").to_string();
            assert!(error.contains("1 entry has a digest that is not SHA-256"), "{error}");
        }
        // What is no digest at all is an error.
        let error =
            index(&[descriptor(wasip1), descriptor("").replace("sha256:e3", "sha256:E3")]).expect_err("no digest");
        assert!(error.to_string().contains("it is not a manifest"), "{error}");
    }

    #[test]
    fn a_document_has_its_own_media_type() {
        let (config, list) = (descriptor(""), format!("[{}]", descriptor("")));
        let manifest = format!(r#""config": {config}, "layers": {list}"#);
        let index = format!(r#""manifests": {list}"#);
        for (media_type, fields) in
            [(MANIFEST, &manifest), (DOCKER_MANIFEST, &manifest), (INDEX, &index), (DOCKER_INDEX, &index)]
        {
            let text = format!(r#"{{"schemaVersion": 2, "mediaType": "{media_type}", {fields}}}"#);
            assert_eq!(Document::parse("x", text.as_bytes()).expect("a document").media_type(), media_type);
        }
        for (media_type, fields) in [(MANIFEST, manifest), (INDEX, index)] {
            let text = format!(r#"{{"schemaVersion": 2, {fields}}}"#);
            assert_eq!(Document::parse("x", text.as_bytes()).expect("a document").media_type(), media_type);
        }
    }
}

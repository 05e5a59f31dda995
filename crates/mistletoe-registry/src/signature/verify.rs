//! The search for a good signature.

use std::fmt;

use super::oci::{Descriptor, Index, Manifest};
use super::{
    BUNDLE, Error, MAX_OBJECT, MAX_SIGNATURES, PublicKey, Reason, Refusal, SIMPLE_SIGNING, bundle, json, simple,
};
use crate::Digest;

/// A repository of a registry, as much of it as [`verify`] reads.
///
/// What the methods return is not trusted: [`verify`] checks lengths and digests itself. A length above [`MAX_OBJECT`]
/// is refused before [`blob`](Self::blob) is called; the other methods should read no more than one byte beyond it.
pub trait Fetch {
    /// Why the repository cannot be read.
    type Error;

    /// Returns the manifest or the index with a tag or a digest, `None` if there is none
    /// (`GET /v2/NAME/manifests/REFERENCE`).
    ///
    /// # Errors
    ///
    /// The repository cannot be read. This ends the search.
    fn manifest(&self, reference: &str) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Returns the indexes, one for each page, of what refers to a manifest, `None` if the registry has no such API
    /// (`GET /v2/NAME/referrers/DIGEST`).
    ///
    /// # Errors
    ///
    /// As for [`manifest`](Self::manifest).
    fn referrers(&self, subject: &Digest) -> Result<Option<Vec<Vec<u8>>>, Self::Error>;

    /// Returns the content with this digest and this length in bytes, `None` if there is none
    /// (`GET /v2/NAME/blobs/DIGEST`).
    ///
    /// # Errors
    ///
    /// As for [`manifest`](Self::manifest).
    fn blob(&self, digest: &Digest, size: u64) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// A good signature.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The manifest that is signed.
    pub subject: Digest,
    /// The key that signed it.
    pub key: PublicKey,
    /// The format.
    pub format: Format,
    /// The tag or the digest of the manifest that holds the signature.
    pub place: String,
}

/// A format of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// That of cosign 3: a Sigstore bundle.
    Bundle,
    /// That of cosign 2: "simple signing".
    SimpleSigning,
}

/// Looks for a signature of `subject`, a manifest's digest, by one of `keys`. Bundles come first; the first good
/// signature ends the search.
///
/// The caller checks that the manifest has this digest, and that the module has the digest in the manifest.
///
/// # Errors
///
/// Every signature's problem if none is good. At most [`MAX_SIGNATURES`] of each format are looked at.
pub fn verify<F: Fetch>(fetch: &F, subject: &Digest, keys: &[PublicKey]) -> Result<Verified, Error<F::Error>> {
    if keys.is_empty() {
        return Err(Error::NoKeys);
    }
    let mut search = Search { fetch, subject, keys, refusals: Vec::new() };
    if let Some(verified) = search.bundles().map_err(Error::Fetch)? {
        return Ok(verified);
    }
    if let Some(verified) = search.simple_signing().map_err(Error::Fetch)? {
        return Ok(verified);
    }
    Err(if search.refusals.is_empty() {
        Error::Unsigned { subject: *subject }
    } else {
        Error::Refused { subject: *subject, refusals: search.refusals }
    })
}

struct Search<'a, F> {
    fetch: &'a F,
    subject: &'a Digest,
    keys: &'a [PublicKey],
    refusals: Vec<Refusal>,
}

/// Why a signature is not good: the repository ends the search, a reason does not.
enum Failure<E> {
    Fetch(E),
    Reason(Reason),
}

impl<E> From<Reason> for Failure<E> {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

impl<F: Fetch> Search<'_, F> {
    /// Looks through the bundles that refer to the subject.
    fn bundles(&mut self) -> Result<Option<Verified>, F::Error> {
        let (place, indexes) = match self.fetch.referrers(self.subject)? {
            Some(pages) => (format!("referrers of {}", self.subject), pages),
            None => {
                let tag = referrers_tag(self.subject);
                let index = self.fetch.manifest(&tag)?;
                (tag, index.into_iter().collect())
            }
        };
        let mut bundles = Vec::new();
        for index in indexes {
            match json::parse(&index) {
                Ok(Index { manifests }) => bundles.extend(manifests.into_iter().filter(Descriptor::is_bundle)),
                Err(reason) => self.refuse(&place, reason),
            }
        }
        for (index, descriptor) in bundles.iter().enumerate() {
            if index == MAX_SIGNATURES {
                self.refuse(&place, Reason::TooMany);
                break;
            }
            let verified = self.judge(descriptor.name(), Format::Bundle, |search| search.bundle(descriptor))?;
            if verified.is_some() {
                return Ok(verified);
            }
        }
        Ok(None)
    }

    fn bundle(&self, descriptor: &Descriptor) -> Result<&PublicKey, Failure<F::Error>> {
        let digest = descriptor.digest()?;
        let manifest = self.fetch.manifest(&digest.to_string()).map_err(Failure::Fetch)?;
        let Manifest { layers } = json::parse(&checked(descriptor, digest, manifest)?)?;
        let [layer] = &*layers else {
            return Err(Reason::NotOne { of: "layer", found: layers.len() }.into());
        };
        if layer.media_type != BUNDLE {
            return Err(Reason::OtherBundle { found: layer.media_type.clone() }.into());
        }
        Ok(bundle::verify(&self.blob(layer)?, self.subject, self.keys)?)
    }

    /// Looks through the signatures of the manifest with the tag `sha256-HEX.sig`.
    fn simple_signing(&mut self) -> Result<Option<Verified>, F::Error> {
        let tag = signature_tag(self.subject);
        let Some(manifest) = self.fetch.manifest(&tag)? else { return Ok(None) };
        let layers = match json::parse(&manifest) {
            Ok(Manifest { layers }) => layers,
            Err(reason) => {
                self.refuse(&tag, reason);
                return Ok(None);
            }
        };
        let signatures = layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING);
        for (index, layer) in signatures.enumerate() {
            if index == MAX_SIGNATURES {
                self.refuse(&tag, Reason::TooMany);
                break;
            }
            let verified = self.judge(&tag, Format::SimpleSigning, |search| {
                let signature = layer.annotations.get(simple::SIGNATURE).ok_or(Reason::NoAnnotation)?;
                Ok(simple::verify(&search.blob(layer)?, signature, search.subject, search.keys)?)
            })?;
            if verified.is_some() {
                return Ok(verified);
            }
        }
        Ok(None)
    }

    /// Returns whether a signature is good, and keeps its problem if it is not.
    fn judge(
        &mut self,
        place: &str,
        format: Format,
        verify: impl FnOnce(&Self) -> Result<&PublicKey, Failure<F::Error>>,
    ) -> Result<Option<Verified>, F::Error> {
        match verify(self) {
            Ok(key) => {
                let (subject, key) = (*self.subject, key.clone());
                Ok(Some(Verified { subject, key, format, place: place.to_owned() }))
            }
            Err(Failure::Reason(reason)) => {
                self.refuse(place, reason);
                Ok(None)
            }
            Err(Failure::Fetch(error)) => Err(error),
        }
    }

    fn refuse(&mut self, place: &str, reason: Reason) {
        self.refusals.push(Refusal { place: place.to_owned(), reason });
    }

    fn blob(&self, layer: &Descriptor) -> Result<Vec<u8>, Failure<F::Error>> {
        let digest = layer.digest()?;
        let blob = self.fetch.blob(&digest, layer.size).map_err(Failure::Fetch)?;
        Ok(checked(layer, digest, blob)?)
    }
}

/// Returns the tag of an index of what refers to a manifest, for registries without the API
/// ([specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema)).
pub fn referrers_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// Returns the tag of a manifest's signatures in the format of cosign 2.
fn signature_tag(subject: &Digest) -> String {
    format!("sha256-{}.sig", subject.hex())
}

/// Returns an object of the repository if it is the one that a descriptor with this digest refers to.
fn checked(descriptor: &Descriptor, digest: Digest, object: Option<Vec<u8>>) -> Result<Vec<u8>, Reason> {
    let object = object.ok_or(Reason::Missing { digest })?;
    let length = object.len() as u64;
    if length > MAX_OBJECT {
        return Err(Reason::TooLong { length });
    }
    let found = Digest::of(&object);
    if found != digest {
        return Err(Reason::Swapped { expected: digest, found });
    }
    if length == descriptor.size { Ok(object) } else { Err(Reason::OtherLength { expected: descriptor.size, length }) }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, key, format, place } = self;
        write!(f, "{subject} is signed with the key {key} ({format} in {place}); no transparency log was consulted")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bundle => "Sigstore bundle",
            Self::SimpleSigning => "simple signing",
        })
    }
}

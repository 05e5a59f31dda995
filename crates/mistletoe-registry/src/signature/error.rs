//! Why a manifest is not trusted.

use std::fmt;

use super::{BUNDLE, MAX_OBJECT, MAX_SIGNATURES};
use crate::Digest;

/// Why no signature of a manifest counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<E> {
    /// The repository cannot be read.
    Fetch(E),
    /// There are no keys that a signature could be good under.
    NoKeys,
    /// The repository has no signature of the manifest.
    Unsigned {
        /// The manifest.
        subject: Digest,
    },
    /// Every signature has a problem.
    Refused {
        /// The manifest.
        subject: Digest,
        /// The signatures, at least one, in the order in which they were found.
        refusals: Vec<Refusal>,
    },
}

/// A signature that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The tag or the digest of the manifest that holds it.
    pub place: String,
    /// The problem.
    pub reason: Reason,
}

/// The problem of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// None of the keys made it. A changed signature or text looks the same, unless a bundle names its key.
    WrongKey,
    /// A bundle names one of the keys, and that key did not sign what is in it: the signature or the text was changed.
    Changed,
    /// It is a good signature of another manifest.
    OtherSubject {
        /// What it is a signature of, from the signed text.
        found: String,
    },
    /// An object of the repository does not have the digest by which it is referred to: it was swapped.
    Swapped {
        /// The digest that refers to it.
        expected: Digest,
        /// The digest of what is there.
        found: Digest,
    },
    /// An object that is referred to is not in the repository.
    Missing {
        /// Its digest.
        digest: Digest,
    },
    /// A descriptor has no digest that can be checked.
    InvalidDigest {
        /// What it has.
        found: String,
    },
    /// An object is longer than [`MAX_OBJECT`].
    TooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// An object has another length than the descriptor that refers to it says.
    OtherLength {
        /// The descriptor's length in bytes.
        expected: u64,
        /// Its length in bytes.
        length: u64,
    },
    /// There are more than [`MAX_SIGNATURES`] in one format. The others were not looked at.
    TooMany,
    /// A layer with a signed text has no annotation with a signature.
    NoAnnotation,
    /// A signature or a signed text is not in base64 (RFC 4648, section 4).
    InvalidBase64,
    /// A signature has the form of no algorithm: neither two positive integers in DER nor the 64 bytes of Ed25519.
    InvalidSignature,
    /// A text is not JSON, is ambiguous, or lacks something.
    InvalidJson {
        /// What is wrong with it, and where.
        message: String,
    },
    /// The signed text is for another purpose: a `type`, `payloadType`, `_type` or `predicateType` that is not the one
    /// of image signatures. Attestations are of this kind.
    OtherType {
        /// Name of the member.
        member: &'static str,
        /// Its value.
        found: String,
    },
    /// A bundle's media type is not that of version 0.3.
    OtherBundle {
        /// The media type.
        found: String,
    },
    /// A bundle's manifest, envelope or statement does not have exactly one layer, signature or subject.
    NotOne {
        /// What there should be one of.
        of: &'static str,
        /// How many there are.
        found: usize,
    },
    /// A bundle has a certificate in place of a key.
    Certificate,
    /// A bundle has no DSSE envelope.
    NoEnvelope,
}

/// A text from others, in quotation marks, without control characters and cut after 100 characters.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl Reason {
    pub(super) fn json(error: serde_json::Error) -> Self {
        Self::InvalidJson { message: error.to_string().chars().take(200).collect() }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(error) => write!(f, "cannot read the signatures: {error}"),
            Self::NoKeys => f.write_str("no key is trusted to sign it"),
            Self::Unsigned { subject } => write!(f, "{subject} is not signed"),
            Self::Refused { subject, refusals } => {
                write!(f, "no signature of {subject} is good")?;
                refusals.iter().try_for_each(|refusal| write!(f, "; {refusal}"))
            }
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Fetch(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", crate::shown(&self.place).escape_debug(), self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongKey => f.write_str("another key made the signature, or the signature or its text was changed"),
            Self::Changed => f.write_str("the signature or its text was changed"),
            Self::OtherSubject { found } => write!(f, "the signature is of {}", Quoted(found)),
            Self::Swapped { expected, found } => write!(f, "the content of {expected} has the digest {found}"),
            Self::Missing { digest } => write!(f, "the repository does not have {digest}"),
            Self::InvalidDigest { found } => write!(f, "{} is not a SHA-256 digest", Quoted(found)),
            Self::TooLong { length } => write!(f, "an object of {length} bytes, more than {MAX_OBJECT}"),
            Self::OtherLength { expected, length } => {
                write!(f, "an object of {length} bytes, referred to as one of {expected}")
            }
            Self::TooMany => write!(f, "more than {MAX_SIGNATURES} signatures; the others were not checked"),
            Self::NoAnnotation => f.write_str("a layer without the annotation that holds its signature"),
            Self::InvalidBase64 => f.write_str("the signature or its text is not in base64"),
            Self::InvalidSignature => f.write_str("the signature is neither of ECDSA, in DER, nor of Ed25519"),
            Self::InvalidJson { message } => write!(f, "invalid JSON: {}", message.escape_debug()),
            Self::OtherType { member, found } => {
                write!(f, "the signed text has the {member} {}, not that of a signature of an image", Quoted(found))
            }
            Self::OtherBundle { found } => write!(f, "a bundle with the media type {}, not {BUNDLE}", Quoted(found)),
            Self::NotOne { of, found } => write!(f, "expected one {of}, found {found}"),
            Self::Certificate => f.write_str("the signature is by a certificate; only keys are supported"),
            Self::NoEnvelope => f.write_str("the bundle has no DSSE envelope"),
        }
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, rest) = self.0.split_at(self.0.char_indices().nth(100).map_or(self.0.len(), |(index, _)| index));
        write!(f, "`{}{}`", start.escape_debug(), if rest.is_empty() { "" } else { "…" })
    }
}

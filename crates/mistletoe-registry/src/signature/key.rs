//! Keys: PEM (RFC 7468) with a public key (RFC 5280) or a private one (RFC 5208, RFC 5915).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use zeroize::Zeroizing;

use super::der::{self, Tag};
use super::{MAX_KEY_FILE, MAX_KEYS, Quoted, Reason};
use crate::Digest;

/// An algorithm of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA on the curve P-256 over SHA-256, signatures in DER (FIPS 186-5, RFC 3279).
    EcdsaP256,
    /// Ed25519 (RFC 8032), without a digest before it.
    Ed25519,
}

/// A key that signatures are good under.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub(super) algorithm: Algorithm,
    /// A point without compression for ECDSA, 32 bytes for Ed25519.
    pub(super) raw: Vec<u8>,
}

/// Why a file has no key that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The file is longer than [`MAX_KEY_FILE`].
    TooLong,
    /// The file has no PEM of the kind that is needed.
    NoKey {
        /// The label that is needed.
        expected: &'static str,
    },
    /// The file has more keys than can be used.
    TooMany {
        /// The maximum.
        limit: usize,
    },
    /// A PEM with another label.
    Label {
        /// The label.
        found: String,
        /// The labels that are read.
        expected: &'static str,
        /// How to make such a key of it, if there is a way.
        help: &'static str,
    },
    /// A PEM without its end, or that is not in base64.
    InvalidPem,
    /// The contents are not a key of this kind in DER.
    InvalidDer,
    /// A key of an algorithm that is not supported.
    Algorithm {
        /// Name of the algorithm, or its identifier in hexadecimal digits.
        found: String,
    },
    /// A public key of ECDSA in the compressed form.
    Compressed,
    /// A private key of a supported algorithm that cannot be used.
    Rejected {
        /// The problem.
        message: String,
    },
}

/// Algorithms by their identifiers in DER, without the sequence around them (RFC 3279, RFC 5480, RFC 8410).
const ALGORITHMS: [(&[u8], Algorithm); 2] = [
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", Algorithm::EcdsaP256),
    (b"\x06\x03\x2b\x65\x70", Algorithm::Ed25519),
];

/// Starts of the identifiers of other algorithms, for errors.
const UNSUPPORTED: [(&[u8], &str); 8] = [
    (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", "RSA"),
    (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", "RSA-PSS"),
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22", "ECDSA P-384"),
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23", "ECDSA P-521"),
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x0a", "ECDSA secp256k1"),
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", "ECDSA on another curve"),
    (b"\x06\x03\x2b\x65\x71", "Ed448"),
    (b"\x06\x03\x2b\x65\x6e", "X25519"),
];

impl Algorithm {
    /// Returns the algorithm with an identifier in DER.
    pub(super) fn of(identifier: &[u8]) -> Result<Self, KeyError> {
        if let Some((_, algorithm)) = ALGORITHMS.iter().find(|(known, _)| *known == identifier) {
            return Ok(*algorithm);
        }
        let named = UNSUPPORTED.iter().find(|(start, _)| identifier.starts_with(start));
        let digits = || identifier.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
        Err(KeyError::Algorithm { found: named.map_or_else(digits, |(_, name)| (*name).to_owned()) })
    }

    pub(super) fn identifier(self) -> &'static [u8] {
        ALGORITHMS.iter().find(|(_, algorithm)| *algorithm == self).map_or(&[], |(identifier, _)| identifier)
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            Self::Ed25519 => &ED25519,
        }
    }
}

impl PublicKey {
    /// Reads all keys of a file: one or more PEMs with the label `PUBLIC KEY`, and any text around them.
    ///
    /// Whether a point is on its curve is not checked before a signature is: no signature is good under one that is
    /// not.
    ///
    /// # Errors
    ///
    /// No key, more than [`MAX_KEYS`], more than [`MAX_KEY_FILE`] bytes, and for every PEM that is not a public key of
    /// a supported algorithm.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, KeyError> {
        let mut keys = Vec::new();
        for Pem { label, der } in pems(text)? {
            if label != "PUBLIC KEY" {
                let help = if label.ends_with("PRIVATE KEY") {
                    "`openssl pkey -pubout` writes the public key of it"
                } else {
                    ""
                };
                return Err(KeyError::Label { found: label.to_owned(), expected: "PUBLIC KEY", help });
            }
            if keys.len() == MAX_KEYS {
                return Err(KeyError::TooMany { limit: MAX_KEYS });
            }
            keys.push(Self::from_spki(&der)?);
        }
        if keys.is_empty() { Err(KeyError::NoKey { expected: "PUBLIC KEY" }) } else { Ok(keys) }
    }

    /// Reads a `SubjectPublicKeyInfo` in DER.
    fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let parts = || {
            let (identifier, rest) = der::read(der::only(der, Tag::Sequence)?, Tag::Sequence)?;
            // No bit of the last byte is unused.
            Some((identifier, der::only(rest, Tag::BitString)?.strip_prefix(&[0])?))
        };
        let (identifier, raw) = parts().ok_or(KeyError::InvalidDer)?;
        let algorithm = Algorithm::of(identifier)?;
        match (algorithm, raw) {
            (Algorithm::EcdsaP256, [4, ..]) if raw.len() == 65 => {}
            (Algorithm::EcdsaP256, [2 | 3, ..]) if raw.len() == 33 => return Err(KeyError::Compressed),
            (Algorithm::Ed25519, _) if raw.len() == 32 => {}
            _ => return Err(KeyError::InvalidDer),
        }
        Ok(Self { algorithm, raw: raw.to_owned() })
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the digest of the key in DER, which identifies it: `openssl pkey -pubin -outform DER | sha256sum`.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.to_spki())
    }

    /// Returns the name of the key in cosign's bundles.
    pub(super) fn hint(&self) -> String {
        STANDARD.encode(digest(&SHA256, &self.to_spki()))
    }

    fn to_spki(&self) -> Vec<u8> {
        let identifier = der::value(Tag::Sequence, &[self.algorithm.identifier()]);
        der::value(Tag::Sequence, &[&identifier, &der::value(Tag::BitString, &[&[0], &self.raw])])
    }

    fn made(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm.verification(), &self.raw).verify(message, signature).is_ok()
    }
}

/// Returns the key that made the signature of `message`.
///
/// Both values of `s` that ECDSA has for a signature are good, as in OpenSSL and Go.
pub(super) fn signer<'a>(keys: &'a [PublicKey], message: &[u8], signature: &[u8]) -> Result<&'a PublicKey, Reason> {
    if signature.len() != 64 && !der::is_ecdsa_signature(signature) {
        return Err(Reason::InvalidSignature);
    }
    keys.iter().find(|key| key.made(message, signature)).ok_or(Reason::WrongKey)
}

/// A PEM of a file, whose contents are erased when it is dropped.
pub(super) struct Pem<'a> {
    pub(super) label: &'a str,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// Returns the PEMs of a file.
pub(super) fn pems(text: &str) -> Result<Vec<Pem<'_>>, KeyError> {
    if text.len() as u64 > MAX_KEY_FILE {
        return Err(KeyError::TooLong);
    }
    let mut pems = Vec::new();
    let mut rest = text;
    while let Some((_, start)) = rest.split_once("-----BEGIN ") {
        let (label, start) = start.split_once("-----").ok_or(KeyError::InvalidPem)?;
        let (body, end) = start.split_once("-----END ").ok_or(KeyError::InvalidPem)?;
        rest = end.strip_prefix(label).and_then(|end| end.strip_prefix("-----")).ok_or(KeyError::InvalidPem)?;
        // Neither grows, so that no copy of a private key is left behind.
        let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
        base64.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        let mut der = Zeroizing::new(Vec::with_capacity(body.len()));
        STANDARD.decode_vec(&*base64, &mut der).map_err(|_| KeyError::InvalidPem)?;
        pems.push(Pem { label, der });
    }
    Ok(pems)
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// The algorithm and the fingerprint.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.fingerprint())
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::Ed25519 => "Ed25519",
        })
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the file is longer than {} KiB", MAX_KEY_FILE >> 10),
            Self::NoKey { expected } => write!(f, "the file has no `{expected}` in PEM"),
            Self::TooMany { limit } => write!(f, "the file has more keys than {limit}"),
            Self::Label { found, expected, help } => {
                write!(f, "the file has {} in PEM, not {expected}", Quoted(found))?;
                if help.is_empty() { Ok(()) } else { write!(f, "; {help}") }
            }
            Self::InvalidPem => f.write_str("the file is not valid PEM"),
            Self::InvalidDer => f.write_str("the key is not valid DER"),
            Self::Algorithm { found } => {
                write!(f, "the key's algorithm is {}, only ECDSA P-256 and Ed25519 are supported", Quoted(found))
            }
            Self::Rejected { message } => write!(
                f,
                "the private key cannot be used ({message}); `openssl pkey -in FILE` writes one with its public key"
            ),
            Self::Compressed => f.write_str(
                "the key's point is compressed; `openssl pkey -pubin -ec_conv_form uncompressed` writes it in full",
            ),
        }
    }
}

impl std::error::Error for KeyError {}

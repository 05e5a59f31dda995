//! Private keys, and what they sign.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::der::{self, Tag};
use super::key::{Pem, pems};
use super::oci::Index;
use super::{Algorithm, BUNDLE, KeyError, MAX_OBJECT, PublicKey, Reason, bundle};
use crate::Digest;

/// Media type of a manifest that holds a signature.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index of what refers to a manifest.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Content of the configuration that a [`Signature`]'s manifest refers to.
pub const CONFIG: &[u8] = b"{}";

const EXPECTED: &str = "PRIVATE KEY";

/// A key that signs.
///
/// What is read of its file is erased from memory, ring's copy is not: a program should end soon after it has signed.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    EcdsaP256(Box<EcdsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

/// A signature in the format of cosign 3, as the objects to push.
///
/// 1. The blobs [`CONFIG`] and [`bundle`](Self::bundle).
/// 2. [`manifest`](Self::manifest), with the media type [`MANIFEST`], under its digest.
/// 3. If the registry does not respond with `OCI-Subject`, it has no API for referrers: then what
///    [`add_to_index`](Self::add_to_index) makes of the index under the tag [`referrers_tag`](super::referrers_tag),
///    with the media type [`INDEX`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signature {
    /// The bundle.
    pub bundle: Vec<u8>,
    /// The manifest that refers to the bundle and to the signed manifest.
    pub manifest: Vec<u8>,
}

/// The system has no random numbers, which ECDSA needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomError;

impl SigningKey {
    /// Reads the key of a file: one PEM with the label `PRIVATE KEY` (PKCS#8, without a password) or `EC PRIVATE KEY`.
    ///
    /// The caller erases `text`, for example with `zeroize`.
    ///
    /// # Errors
    ///
    /// The file is longer than [`MAX_KEY_FILE`](super::MAX_KEY_FILE), or does not have exactly one such key of a
    /// supported algorithm. A key of ECDSA has to have its public key with it.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let mut pems = pems(text)?;
        // `openssl ecparam -genkey` writes the curve once more.
        pems.retain(|pem| pem.label != "EC PARAMETERS");
        let [Pem { label, der }] = &*pems else {
            return Err(if pems.is_empty() {
                KeyError::NoKey { expected: EXPECTED }
            } else {
                KeyError::TooMany { limit: 1 }
            });
        };
        let help = match *label {
            "PRIVATE KEY" => return Self::from_pkcs8(der),
            "EC PRIVATE KEY" => {
                let key = Zeroizing::new(der::value(Tag::OctetString, &[der]));
                let algorithm = der::value(Tag::Sequence, &[Algorithm::EcdsaP256.identifier()]);
                let version = der::value(Tag::Integer, &[&[0]]);
                return Self::from_pkcs8(&Zeroizing::new(der::value(Tag::Sequence, &[&version, &algorithm, &key])));
            }
            "RSA PRIVATE KEY" => return Err(KeyError::Algorithm { found: "RSA".to_owned() }),
            "ENCRYPTED PRIVATE KEY" => "`openssl pkey -in FILE` removes its password",
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => {
                "`openssl genpkey -algorithm ed25519` makes a key, and `cosign import-key-pair` gives it to cosign"
            }
            _ => "",
        };
        Err(KeyError::Label { found: (*label).to_owned(), expected: EXPECTED, help })
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let identifier = || {
            let (_, rest) = der::read(der::only(der, Tag::Sequence)?, Tag::Integer)?;
            Some(der::read(rest, Tag::Sequence)?.0)
        };
        let algorithm = Algorithm::of(identifier().ok_or(KeyError::InvalidDer)?)?;
        let rejected = |error: ring::error::KeyRejected| KeyError::Rejected { message: error.to_string() };
        let (pair, raw) = match algorithm {
            Algorithm::EcdsaP256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &SystemRandom::new());
                let pair = pair.map_err(rejected)?;
                let raw = pair.public_key().as_ref().to_owned();
                (Pair::EcdsaP256(Box::new(pair)), raw)
            }
            // RFC 8410 makes the public key optional, and OpenSSL leaves it out.
            Algorithm::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(rejected)?;
                let raw = pair.public_key().as_ref().to_owned();
                (Pair::Ed25519(pair), raw)
            }
        };
        Ok(Self { pair, public: PublicKey { algorithm, raw } })
    }

    /// Returns the key that its signatures are good under.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a manifest, given as the bytes that the registry has.
    ///
    /// The result depends on nothing but the arguments with Ed25519; ECDSA adds random numbers.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn sign(&self, manifest: &[u8], media_type: &str) -> Result<Signature, RandomError> {
        let subject = Digest::of(manifest);
        // The members are in alphabetical order here and below, which is also the order that `serde_json` gives them
        // without its feature `preserve_order`.
        let statement = json!({
            "_type": bundle::STATEMENT,
            "predicate": {},
            "predicateType": bundle::PREDICATE,
            "subject": [{"digest": {"sha256": subject.hex()}}],
        })
        .to_string();
        let signature = self.sign_bytes(&bundle::pae(bundle::PAYLOAD_TYPE, statement.as_bytes()))?;
        let bundle = json!({
            "dsseEnvelope": {
                "payload": STANDARD.encode(statement),
                "payloadType": bundle::PAYLOAD_TYPE,
                "signatures": [{"sig": STANDARD.encode(signature)}],
            },
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": self.public.hint()}},
        })
        .to_string()
        .into_bytes();
        let manifest = json!({
            "annotations": annotations(),
            "artifactType": BUNDLE,
            "config": descriptor("application/vnd.oci.empty.v1+json", CONFIG),
            "layers": [descriptor(BUNDLE, &bundle)],
            "mediaType": MANIFEST,
            "schemaVersion": 2,
            "subject": descriptor(media_type, manifest),
        })
        .to_string()
        .into_bytes();
        Ok(Signature { bundle, manifest })
    }

    fn sign_bytes(&self, message: &[u8]) -> Result<Vec<u8>, RandomError> {
        match &self.pair {
            Pair::EcdsaP256(pair) => pair.sign(&SystemRandom::new(), message).map_err(|_| RandomError),
            Pair::Ed25519(pair) => Ok(pair.sign(message)),
        }
        .map(|signature| signature.as_ref().to_owned())
    }
}

impl Signature {
    /// Adds the signature to an index of what refers to the signed manifest, or to a new one. What else the index has
    /// stays. Returns `None` if the signature is in it.
    ///
    /// # Errors
    ///
    /// `index` is not an index, or becomes longer than [`MAX_OBJECT`].
    pub fn add_to_index(&self, index: Option<&[u8]>) -> Result<Option<Vec<u8>>, Reason> {
        let Some(index) = index else {
            let index = json!({"manifests": [self.descriptor()], "mediaType": INDEX, "schemaVersion": 2});
            return Ok(Some(index.to_string().into_bytes()));
        };
        let digest = Digest::of(&self.manifest).to_string();
        let Index { manifests } = super::json::parse(index)?;
        if manifests.iter().any(|manifest| manifest.name() == digest) {
            return Ok(None);
        }
        let mut index = super::json::value(index)?;
        if let Some(Value::Array(manifests)) = index.get_mut("manifests") {
            manifests.push(self.descriptor());
        }
        let index = index.to_string().into_bytes();
        let length = index.len() as u64;
        if length > MAX_OBJECT { Err(Reason::TooLong { length }) } else { Ok(Some(index)) }
    }

    fn descriptor(&self) -> Value {
        let mut descriptor = descriptor(MANIFEST, &self.manifest);
        descriptor["annotations"] = annotations();
        descriptor["artifactType"] = BUNDLE.into();
        descriptor
    }
}

/// What the specification of cosign's bundles recommends, but the time: the same signature is the same object.
fn annotations() -> Value {
    json!({"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": bundle::PREDICATE})
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"digest": Digest::of(content).to_string(), "mediaType": media_type, "size": content.len()})
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

impl fmt::Display for RandomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system has no random numbers")
    }
}

impl std::error::Error for RandomError {}

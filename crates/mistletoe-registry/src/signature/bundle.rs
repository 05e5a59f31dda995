//! What cosign 3 signs: an in-toto statement about a manifest, in a DSSE envelope, in a Sigstore bundle.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::key::signer;
use super::{BUNDLE, PublicKey, Reason, json};
use crate::Digest;

pub(super) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
pub(super) const STATEMENT: &str = "https://in-toto.io/Statement/v1";
pub(super) const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<KeyHint>,
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct KeyHint {
    #[serde(default)]
    hint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    r#type: String,
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

/// Returns the key that made the bundle's signature, which has to be of `subject`.
pub(super) fn verify<'a>(bundle: &[u8], subject: &Digest, keys: &'a [PublicKey]) -> Result<&'a PublicKey, Reason> {
    let Bundle { media_type, verification_material, dsse_envelope } = json::parse(bundle)?;
    if media_type != BUNDLE {
        return Err(Reason::OtherBundle { found: media_type });
    }
    if verification_material.certificate.is_some() || verification_material.x509_certificate_chain.is_some() {
        return Err(Reason::Certificate);
    }
    let envelope = dsse_envelope.ok_or(Reason::NoEnvelope)?;
    // A rule of the bundle's specification; DSSE itself allows several.
    let signature = one("signature", &envelope.signatures)?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| Reason::InvalidBase64);
    let (payload, signature) = (decode(&envelope.payload)?, decode(&signature.sig)?);
    let named =
        |key: &PublicKey| verification_material.public_key.as_ref().is_some_and(|named| named.hint == key.hint());
    let key = signer(keys, &pae(&envelope.payload_type, &payload), &signature).map_err(|reason| match reason {
        Reason::WrongKey if keys.iter().any(named) => Reason::Changed,
        reason => reason,
    })?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Reason::OtherType { member: "payloadType", found: envelope.payload_type });
    }
    let Statement { r#type, predicate_type, subject: subjects } = json::parse(&payload)?;
    if r#type != STATEMENT {
        return Err(Reason::OtherType { member: "_type", found: r#type });
    }
    if predicate_type != PREDICATE {
        return Err(Reason::OtherType { member: "predicateType", found: predicate_type });
    }
    match one("subject", &subjects)?.digest.get("sha256") {
        Some(found) if *found == subject.hex() => Ok(key),
        found => Err(Reason::OtherSubject { found: found.cloned().unwrap_or_default() }),
    }
}

fn one<'a, T>(of: &'static str, items: &'a [T]) -> Result<&'a T, Reason> {
    let [item] = items else { return Err(Reason::NotOne { of, found: items.len() }) };
    Ok(item)
}

/// The bytes that a DSSE signature is of
/// ([specification](https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md#signature-definition)).
pub(super) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification, "test vectors".
    #[test]
    fn the_signed_bytes_are_those_of_dsse() {
        let bytes = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}

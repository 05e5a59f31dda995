//! What cosign 2 signs: a text that names a manifest, as in the "simple signing" of containers/image.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::key::signer;
use super::{PublicKey, Reason, json};
use crate::Digest;

/// The annotation of a layer that holds the signature of the layer's content.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const TYPE: &str = "cosign container image signature";

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

/// `identity` is ignored, as the specification says.
#[derive(Deserialize)]
struct Critical {
    image: Image,
    r#type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

/// Returns the key that made the signature of `payload`, which has to name `subject`.
pub(super) fn verify<'a>(
    payload: &[u8],
    signature: &str,
    subject: &Digest,
    keys: &'a [PublicKey],
) -> Result<&'a PublicKey, Reason> {
    let signature = STANDARD.decode(signature).map_err(|_| Reason::InvalidBase64)?;
    let key = signer(keys, payload, &signature)?;
    let Payload { critical } = json::parse(payload)?;
    if critical.r#type != TYPE {
        return Err(Reason::OtherType { member: "type", found: critical.r#type });
    }
    let found = critical.image.docker_manifest_digest;
    if found == subject.to_string() { Ok(key) } else { Err(Reason::OtherSubject { found }) }
}

//! Manifests and indexes of the OCI image specification, as much of them as signatures need.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{BUNDLE, MAX_OBJECT, Reason};
use crate::Digest;

#[derive(Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
pub(super) struct Manifest {
    pub(super) layers: Vec<Descriptor>,
}

/// Of descriptors that are passed over, not even the digest is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    digest: String,
    pub(super) size: u64,
    pub(super) artifact_type: Option<String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(super) fn is_bundle(&self) -> bool {
        self.artifact_type.as_deref() == Some(BUNDLE)
    }

    /// Returns the digest as it is written.
    pub(super) fn name(&self) -> &str {
        &self.digest
    }

    /// Returns the digest of an object that may be fetched.
    pub(super) fn digest(&self) -> Result<Digest, Reason> {
        if self.size > MAX_OBJECT {
            return Err(Reason::TooLong { length: self.size });
        }
        self.digest.parse().map_err(|_| Reason::InvalidDigest { found: self.digest.clone() })
    }
}

//! What the tests share.

pub(crate) mod docker;
pub(crate) mod server;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mistletoe_registry::{Artifact, Client, Credentials, Digest};
use server::{Content, Origin};

/// A client with short times, and without the user's credentials.
pub(crate) fn client() -> Client {
    Client::new()
        .credentials(Credentials::none())
        .attempts(3, Duration::from_millis(1))
        .read_timeout(Duration::from_millis(500))
        .timeout(Duration::from_secs(60))
}

/// A module of some length. It is not valid, which the crate does not look at.
pub(crate) fn module(length: usize) -> Vec<u8> {
    let noise = (0u32..).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    b"\0asm\x01\0\0\0".iter().copied().chain(noise).take(length).collect()
}

/// A repository `web` with a module under the tag `1`, the manifest's digest, and the module's.
pub(crate) fn repository(module: &[u8]) -> (Content, Digest, Digest) {
    let artifact = Artifact::new(module, &BTreeMap::new(), 0);
    let (manifest, layer) = (artifact.digest(), Digest::of(module));
    let media_type = Artifact::MEDIA_TYPE.to_owned();
    let content = HashMap::from([
        ("/v2/".to_owned(), (String::new(), b"{}".to_vec())),
        ("/v2/web/manifests/1".to_owned(), (media_type.clone(), artifact.manifest.clone())),
        (format!("/v2/web/manifests/{manifest}"), (media_type, artifact.manifest)),
        (format!("/v2/web/blobs/{layer}"), ("application/octet-stream".to_owned(), module.to_vec())),
        ("/file.wasm".to_owned(), ("application/wasm".to_owned(), module.to_vec())),
    ]);
    (content, manifest, layer)
}

pub(crate) fn memory(module: &[u8]) -> Origin {
    Origin::Memory(repository(module).0)
}

//! Signatures with keys, in the formats of cosign: verified and made without a network of its own.
//!
//! A signature is of a manifest's digest. The manifest has the digests of its layers, so it covers the module as well.
//! [`verify`] looks for one in a repository, which [`Fetch`] reads, in both formats in use:
//!
//! - [`Format::Bundle`], which cosign 3 writes: a Sigstore bundle that refers to the manifest
//!   ([specification](https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md)). [`SigningKey::sign`] makes
//!   this one.
//! - [`Format::SimpleSigning`], which cosign 2 writes: a manifest with the tag `sha256-HEX.sig`
//!   ([specification](https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md)).
//!
//! One good signature suffices. The keys decide alone: no certificate is accepted and no transparency log consulted,
//! as in `cosign verify --key KEY --insecure-ignore-tlog`. [`Policy`] is a file that says which keys count for which
//! reference. `docs/signatures.md` lists what is checked.
//!
//! ```
//! use mistletoe_registry::Digest;
//! use mistletoe_registry::signature::{Fetch, PublicKey, verify};
//!
//! fn check<F: Fetch>(fetch: &F, manifest: &[u8], key_file: &str) -> Result<(), String>
//! where
//!     F::Error: std::fmt::Display,
//! {
//!     let keys = PublicKey::from_pem(key_file).map_err(|error| error.to_string())?;
//!     let verified = verify(fetch, &Digest::of(manifest), &keys).map_err(|error| error.to_string())?;
//!     println!("{verified}");
//!     Ok(())
//! }
//! ```

mod bundle;
mod der;
mod error;
mod json;
mod key;
mod oci;
mod policy;
mod sign;
mod simple;
mod verify;

use error::Quoted;
pub use error::{Error, Reason, Refusal};
pub use key::{Algorithm, KeyError, PublicKey};
pub use policy::{MAX_POLICY, MAX_RULES, Policy, PolicyError, Problem, Requirement};
pub use sign::{CONFIG, INDEX, MANIFEST, RandomError, Signature, SigningKey};
pub use verify::{Fetch, Format, Verified, referrers_tag, verify};

/// Maximum length of a manifest, an index, a bundle or a signed text, in bytes: 1 MiB.
pub const MAX_OBJECT: u64 = 1 << 20;
/// Maximum number of signatures of each format that are looked at for one manifest.
pub const MAX_SIGNATURES: usize = 64;
/// Maximum length of a file with keys, in bytes: 64 KiB.
pub const MAX_KEY_FILE: u64 = 64 << 10;
/// Maximum number of keys in a file.
pub const MAX_KEYS: usize = 16;

/// Media type of a bundle, and the type of the artifact that holds it.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Media type of the text that cosign 2 signs.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

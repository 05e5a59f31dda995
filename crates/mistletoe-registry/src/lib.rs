//! Packages and plugins from OCI registries.
//!
//! - [`signature`]: signatures with keys, in the formats of cosign.

#![forbid(unsafe_code)]

mod digest;
pub mod signature;

pub use digest::{Digest, DigestError};

//! Backends made of backends. Each is complete by itself, so that they nest in any order.

pub(crate) mod any;
#[cfg(feature = "cache")]
pub mod cache;
pub(crate) mod tiered;

pub use any::{AnyBackend, AnyInstance, AnyInstanceFunc, AnyModule};
pub use tiered::{Tiered, TieredInstance, TieredModule};

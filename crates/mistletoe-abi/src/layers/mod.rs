//! Backends made of other backends. Each is a complete [`Backend`](crate::Backend), so they nest in any order.

pub(crate) mod any;
#[cfg(feature = "cache")]
pub mod cache;
pub(crate) mod tiered;

pub use any::{AnyBackend, AnyInstance, AnyInstanceFunc, AnyModule};
pub use tiered::{Tiered, TieredInstance, TieredModule};

//! Plugins of the Kubernetes scheduler in WebAssembly, on every engine.

#![forbid(unsafe_code)]

mod objects;
pub mod protobuf;
pub mod protocol;

pub use objects::{Cycle, Node, Nodes, Pod};

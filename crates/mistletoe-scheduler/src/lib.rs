//! Plugins of the Kubernetes scheduler in WebAssembly, on every engine.

#![forbid(unsafe_code)]

pub mod protobuf;

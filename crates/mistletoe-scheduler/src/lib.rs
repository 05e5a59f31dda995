//! Plugins of the Kubernetes scheduler in WebAssembly, on every engine.
//!
//! The interface of guests is that of
//! [kube-scheduler-wasm-extension](https://github.com/kubernetes-sigs/kube-scheduler-wasm-extension).
//!
//! - [`Scheduler`]: plugins in order, which filter and score nodes. A trap, a limit or another failure of a [`Plugin`] is
//!   a [`Failure`] with the plugin's name and the reason, or is ignored.
//! - [`extender`]: the webhook that every scheduler can be configured with, from bytes to bytes.
//! - [`Pod`], [`Node`], [`Nodes`]: objects from JSON. Guests get them in protobuf, made when the first guest asks.
//! - [`protocol`]: the interface alone, for programs that call guests themselves.
//! - [`protobuf`]: the encoding alone.
//!
//! Guests are treated as hostile, as everywhere in the layer. The crate depends on no engine.

#![forbid(unsafe_code)]

pub mod extender;
mod objects;
pub mod protobuf;
pub mod protocol;
mod scheduler;

pub use objects::{Cycle, Node, Nodes, Pod};
pub use scheduler::{
    Bounds, Candidate, Failure, Filtered, MAX_SCORE, OnFailure, Plugin, PluginOptions, Refusal, Scheduler, Used,
};

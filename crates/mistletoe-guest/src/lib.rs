//! Write [Mistletoe] packages, plugins, HTTP middleware and plugins of the Kubernetes scheduler in Rust: a function, a
//! trait or methods, and one macro.
//!
//! A package:
//!
//! ```
//! # #[cfg(feature = "serde")] {
//! use mistletoe_guest::{Error, Files, package};
//! use serde_json::json;
//!
//! #[derive(serde::Deserialize)]
//! struct Input {
//!     name: String,
//! }
//!
//! package!(generate);
//!
//! fn generate(input: Input) -> Result<Files, Error> {
//!     let metadata = json!({"name": input.name});
//!     Files::new().yaml("namespace.yaml", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
//! }
//! # }
//! ```
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! mistletoe-guest = { path = "../mistletoe/crates/mistletoe-guest" }
//! serde = { version = "1", default-features = false, features = ["derive"] }
//! serde_json = { version = "1", default-features = false, features = ["alloc"] }
//!
//! [profile.release]
//! opt-level = "s"
//! lto = true
//! codegen-units = 1
//! overflow-checks = true
//! panic = "abort"
//! strip = true
//! ```
//!
//! The crate is not published yet: the path is that of a checkout of the project. `mistctl new my-package --lang rust
//! --sdk ../mistletoe` makes such a crate.
//!
//! ```sh
//! cargo build --release --target wasm32-unknown-unknown
//! mistctl generate web -p target/wasm32-unknown-unknown/release/my_package.wasm
//! ```
//!
//! [`package!`] has the options and the form for other protocols than YAML documents. [`plugin!`] makes plugins, and
//! [`middleware!`](crate::middleware!) HTTP middleware, [`scheduler_plugin!`] plugins of the Kubernetes scheduler. The
//! functions are plain Rust: a test calls them.
//!
//! # Errors and panics
//!
//! An error that the function returns, and an input that is not of its type, are an `Err` with a message. So is a
//! panic: the message has the line in the source, and the session of the host ends. Panics are all those of Rust: an
//! index out of bounds, `unwrap` of nothing, a division by 0, and an overflow if the profile has `overflow-checks`. A
//! failed allocation and an exhausted stack are traps.
//!
//! # Log and environment
//!
//! [`log!`](crate::log!) writes a line to the host's log, and with the feature `log`, so do the macros of the crate of
//! that name. [`var`] reads an environment variable. Both are imports from WASI preview 1, and only in modules that use
//! them. Middleware and plugins of the scheduler log through their own interfaces, with [`middleware::log`] and
//! [`scheduler::log`], and the crate `log`.
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `std` | yes | reports panics by a hook. Without it the crate is `no_std`, and [`panic_handler!`] reports them |
//! | `serde` | yes | typed inputs, [`Files::yaml`], [`Yaml`] |
//! | `log` | no | the crate `log` |
//! | `schema` | no | the schema of the input from its type, with the crate `schemars` |
//!
//! Without `serde`, a package takes its input as a string (`package!(raw: …)`).
//!
//! [Mistletoe]: https://github.com/mistletoe-rs/mistletoe

#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(target_family = "wasm", target_feature = "atomics"))]
compile_error!("packages, plugins and middleware have one thread: build without the target feature `atomics`");

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[doc(hidden)]
pub mod __private;
mod error;
mod info;
pub mod log;
mod memory;
pub mod middleware;
mod output;
mod package;
mod panic;
pub mod plugin;
pub mod scheduler;
mod wasi;
mod yaml;

pub use error::Error;
pub use output::{Files, Output};

/// The `apiVersion` of the documents.
const API_VERSION: &str = "mistletoe.dev/v1alpha1";

/// Returns an environment variable, if the host has granted one of this name and its value is UTF-8.
///
/// A host that serves HTTP passes the request's properties to plugins in this way.
///
/// ```
/// let path = mistletoe_guest::var("HTTP_PATH").unwrap_or_default();
/// ```
pub fn var(name: &str) -> Option<alloc::string::String> {
    wasi::var(name)
}

/// A YAML document as a value: it serialises as what it says.
///
/// The text must be a literal of the program, such as a file that `include_str!` embeds: if it is not YAML, serialising
/// fails.
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
#[derive(Clone, Copy, Debug)]
pub struct Yaml<'a>(pub &'a str);

#[cfg(feature = "serde")]
impl serde::Serialize for Yaml<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let node = yaml::read::Node::parse(self.0).map_err(serde::ser::Error::custom)?;
        serde::Serialize::serialize(&node, serializer)
    }
}

/// The README's code, which needs all of this.
#[cfg(all(doctest, feature = "serde"))]
#[doc = include_str!("../README.md")]
struct Readme;

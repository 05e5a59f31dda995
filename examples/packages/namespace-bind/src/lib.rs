//! The namespace package in Rust, on top of the published crate `mistletoe-bind`: it takes `data.name` from its input
//! and answers with one file, `namespace.yaml`, that describes a Kubernetes namespace of that name.
//!
//! The crate's macro writes all that the host calls, as functions for `wasm-bindgen`, whose command line tool has to go
//! over the compiler's module before it is a package. To build it, from this folder:
//!
//! ```sh
//! rustup target add wasm32-unknown-unknown
//! cargo install wasm-bindgen-cli --version 0.2.130
//! cargo build --release --target wasm32-unknown-unknown
//! wasm-bindgen --target no-modules --remove-name-section --remove-producers-section --out-dir target/pkg \
//!     target/wasm32-unknown-unknown/release/namespace_bind.wasm
//! cp target/pkg/namespace_bind_bg.wasm ../namespace-bind.wasm
//! ```
//!
//! or `cargo xtask packages --only namespace-bind` from any folder of the project. The crate's own guide has
//! `wasm-pack build --target no-modules` do it, which takes the same steps.

// The macro's functions take pointers and are not marked unsafe.
#![allow(clippy::not_unsafe_ptr_arg_deref)]

use mistletoe_api::v1alpha1::{MistOutput, MistResult};
use mistletoe_bind::include::{anyhow, serde_yaml};
use mistletoe_bind::mistletoe_package;
use serde::{Deserialize, Serialize};

mistletoe_package! {"
    name: namespace-bind
    labels:
      mistletoe.dev/group: examples
"}

/// What is read under `data:`.
#[derive(Deserialize)]
struct Input {
    name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Namespace {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Metadata {
    name: String,
}

/// What the macro calls. An error becomes a result `Err` with its text as the message.
fn generate(input: Input) -> MistResult {
    let Some(name) = input.name.filter(|name| !name.is_empty()) else {
        anyhow::bail!("name the namespace in the input: \"name: my-namespace\" under \"data:\"");
    };
    let namespace = Namespace { api_version: "v1", kind: "Namespace", metadata: Metadata { name } };
    Ok(MistOutput::new().with_file("namespace.yaml".to_owned(), serde_yaml::to_string(&namespace)?))
}

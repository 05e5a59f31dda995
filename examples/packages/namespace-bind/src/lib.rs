//! The namespace package in Rust, on top of the published crate `mistletoe-bind`.
//!
//! It reads `data.name` from its input and returns one file, `namespace.yaml`, which describes a Kubernetes namespace
//! of that name.
//!
//! The crate's macro generates all functions that the host calls, as functions for `wasm-bindgen`. The command line
//! tool of that name has to process the compiler's module before it is a package. Build it from this directory:
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
//! or, from any directory of the project, with `cargo xtask packages --only namespace-bind`. The crate's own guide uses
//! `wasm-pack build --target no-modules`, which takes the same steps.

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

/// The value of `data:`.
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

/// The function that the macro calls. An error becomes a result `Err` with its text as the message.
fn generate(input: Input) -> MistResult {
    let Some(name) = input.name.filter(|name| !name.is_empty()) else {
        anyhow::bail!("name the namespace in the input: \"name: my-namespace\" under \"data:\"");
    };
    let namespace = Namespace { api_version: "v1", kind: "Namespace", metadata: Metadata { name } };
    Ok(MistOutput::new().with_file("namespace.yaml".to_owned(), serde_yaml::to_string(&namespace)?))
}

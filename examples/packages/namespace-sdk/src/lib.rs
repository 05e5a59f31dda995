//! The namespace package in Rust, through `mistletoe-guest`. A name that is too long shows what becomes of a panic.

use mistletoe_guest::{Error, Files, package};
use serde_json::json;

#[derive(serde::Deserialize)]
struct Input {
    name: String,
}

package!(generate, labels: [("mistletoe.dev/group", "examples")]);

fn generate(Input { name }: Input) -> Result<Files, Error> {
    assert!(name.len() <= 63, "the name is longer than 63 bytes");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    Files::new().yaml("namespace.yaml", &namespace)
}

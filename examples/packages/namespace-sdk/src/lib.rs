//! The namespace package in Rust, through `mistletoe-guest`. The value `panic` shows what becomes of one.

use mistletoe_guest::{Error, Files, package};
use serde_json::json;

#[derive(serde::Deserialize)]
struct Input {
    name: String,
    panic: Option<String>,
}

package!(generate, labels: [("mistletoe.dev/group", "examples")]);

fn generate(input: Input) -> Result<Files, Error> {
    assert!(input.panic.is_none(), "on purpose");
    if input.name.len() > 63 {
        return Err(Error::new("the name is longer than 63 bytes"));
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": input.name}});
    Files::new().yaml("namespace.yaml", &namespace)
}

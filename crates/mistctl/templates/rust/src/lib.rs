//! A Kubernetes namespace with the label of a team.

use mistletoe_guest::{Error, Files, Yaml, package};
use serde_json::{Value, json};

package!(generate, defaults: Yaml("team: platform"), schema: Yaml(include_str!("../schema.yaml")));

/// The values.
#[derive(serde::Deserialize)]
struct Input {
    /// The name of the installation.
    name: String,
    team: String,
}

fn generate(input: Input) -> Result<Files, Error> {
    Files::new().yaml("namespace.yaml", &namespace(&input))
}

fn namespace(input: &Input) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": input.name, "labels": { "team": input.team } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_names_its_team() {
        let namespace = namespace(&Input { name: "web".into(), team: "payments".into() });
        assert_eq!(namespace["metadata"]["labels"]["team"], "payments");
    }
}

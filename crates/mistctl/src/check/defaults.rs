//! Whether a package's defaults fit its own schema.

use mistletoe::documents::MistPackage;
use mistletoe::documents::yaml::{Mapping, Value};

use crate::check::{Check, Report};
use crate::failure::Failure;
use crate::json::key_text;
use crate::schema;

/// Keywords that the values of a user may satisfy where the defaults alone do not, or that depend on such values.
const DEPENDENT: &[&str] = &[
    "required",
    "dependentRequired",
    "dependencies",
    "dependentSchemas",
    "minProperties",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "unevaluatedProperties",
    "unevaluatedItems",
];

/// Warns of defaults that no values of a user make fit, other than those that replace them.
pub(super) fn check(arguments: &Check, package: &MistPackage, report: &mut Report) {
    let (Some(schema), Some(_)) = (&package.input_schema, &package.defaults) else { return };
    let data = package.with_defaults(Mapping::new());
    // A schema that cannot be used is found when the input is checked.
    if let Err(Failure::Values { problems, .. }) =
        schema::check(&arguments.package, &arguments.limits, &independent(schema), &data)
    {
        let message = format!("the defaults do not fit the package's schema: {}", problems.join("; "));
        let advice = "correct them; a value that a user has to set is `required`, and has no default";
        report.findings.warning("defaults", message, advice);
    }
}

/// Returns a schema without the keywords in [`DEPENDENT`].
fn independent(schema: &Value) -> Value {
    match schema {
        Value::Mapping(schema) => {
            let kept = schema.iter().filter(|(key, _)| !key.as_str().is_some_and(|key| DEPENDENT.contains(&key)));
            let kept = kept.map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    (Some("enum" | "const"), value) => value.clone(),
                    // The keys are names, not keywords.
                    (Some("properties" | "patternProperties" | "$defs" | "definitions"), Value::Mapping(schemas)) => {
                        let schemas = schemas.iter().map(|(name, schema)| (key_text(name), independent(schema)));
                        Value::Mapping(schemas.collect())
                    }
                    (_, value) => independent(value),
                };
                (key_text(key), value)
            });
            Value::Mapping(kept.collect())
        }
        Value::Sequence(schemas) => Value::Sequence(schemas.iter().map(independent).collect()),
        other => other.clone(),
    }
}

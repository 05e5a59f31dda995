//! YAML values as JSON, and back.

use mistletoe::documents::yaml::Value;
use serde_json::json;

/// Returns a JSON value as YAML's. A number that is not an integer becomes null.
pub(crate) fn from_json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => number.as_i128().map_or(Value::Null, Value::Int),
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(items) => Value::Sequence(items.into_iter().map(from_json).collect()),
        serde_json::Value::Object(fields) => {
            Value::Mapping(fields.into_iter().map(|(name, value)| (name, from_json(value))).collect())
        }
    }
}

/// Returns a key as text.
pub(crate) fn key_text(key: &Value) -> String {
    key.as_str().map_or_else(|| key.to_text().trim_end().to_owned(), str::to_owned)
}

/// Returns a YAML value as JSON's. Keys become strings.
pub(crate) fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => json!(value),
        // JSON's numbers have no bounds, those of the crate do. An integer beyond them stays readable as a string.
        Value::Int(value) => i64::try_from(*value)
            .map(Into::into)
            .or_else(|_| u64::try_from(*value).map(Into::into))
            .unwrap_or_else(|_| json!(value.to_string())),
        // JSON has no infinity and no NaN; they become null.
        Value::Float(value) => json!(value),
        Value::String(text) => json!(text),
        Value::Sequence(items) => items.iter().map(to_json).collect(),
        Value::Mapping(mapping) => {
            let fields = mapping.iter().map(|(name, value)| (key_text(name), to_json(value)));
            fields.collect::<serde_json::Map<_, _>>().into()
        }
    }
}

//! The check of values against a package's schema.
//!
//! A schema is hostile, and the validator has no limits of its own: references can make it apply exponentially many
//! schemas, and each failed one is kept. So the number of applications is counted first, by a walk that validates
//! nothing and is itself limited.

use std::collections::HashMap;
use std::path::Path;
use std::thread;

use jsonschema::PatternOptions;
use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind};
use jsonschema::types::JsonType;
use mistletoe::documents::yaml::{Mapping, Value};

use super::{step, steps, target};
use crate::cli::Limits;
use crate::deadline;
use crate::failure::Failure;
use crate::json::to_json;
use crate::stderr::Excerpt;

/// Maximum number of schemas that a schema has when every reference is replaced by its target once.
const MAX_SCHEMAS: usize = 100_000;
/// The number of schemas that a pattern counts as.
const PATTERN: usize = 100;
/// Maximum size of a compiled pattern in bytes, and that of the automaton built while it is matched.
const MAX_PATTERN: usize = 256 << 10;
/// Maximum number of values to which schemas are applied, counted once for each schema and with all that they contain.
const MAX_APPLIED: usize = 2_000_000;
/// Maximum number of schemas within one another, references included.
const MAX_DEPTH: usize = 512;
/// Stack of the thread that checks: for [`MAX_DEPTH`] schemas, each of which takes several calls.
const STACK: usize = 64 << 20;
/// Maximum number of problems that are listed.
const MAX_PROBLEMS: usize = 20;
/// Maximum number of bytes of a value, pattern or name that a problem shows.
const MAX_SHOWN: usize = 200;

/// Checks the values of a package's input against its schema.
pub(crate) fn check(package: &Path, limits: &Limits, schema: &Value, data: &Mapping) -> Result<(), Failure> {
    deadline::checking(package, limits, || {
        thread::scope(|scope| {
            let checked = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || problems(schema, data));
            let checked = checked.map_err(|error| format!("no thread to check the values: {error}"));
            let checked = checked.and_then(|thread| {
                thread.join().unwrap_or_else(|_| Err("the validator failed; that is an error in it".to_owned()))
            });
            match checked {
                Ok(problems) if problems.is_empty() => Ok(()),
                Ok(problems) => Err(Failure::values(package, problems)),
                Err(problem) => Err(Failure::schema(package, problem)),
            }
        })
    })
}

/// Returns what is wrong with the values, or why the schema cannot be used.
fn problems(schema: &Value, data: &Mapping) -> Result<Vec<String>, String> {
    let data = Value::Mapping(data.clone());
    Walk::new(schema).count(&data)?;
    let json = to_json(&data);
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN);
    let validator = jsonschema::options().offline().with_pattern_options(patterns).build(&to_json(schema));
    let validator = validator.map_err(|error| {
        format!("{}: {}", place(schema, error.instance_path().as_str(), "inputSchema").0, excerpt(error.masked()))
    })?;
    if validator.is_valid(&json) {
        return Ok(Vec::new());
    }
    let mut problems = Vec::new();
    let mut more = 0;
    for error in validator.iter_errors(&json) {
        for problem in described(&data, &error) {
            if problems.len() < MAX_PROBLEMS { problems.push(problem) } else { more += 1 }
        }
    }
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    Ok(problems)
}

/// Where a schema within another one applies, as seen from the value to which the outer one applies.
enum At<'a> {
    Value,
    Entry(&'a str),
    Entries,
    Keys,
    Item(usize),
    Items,
}

/// Counts how often schemas are applied.
struct Walk<'a> {
    root: &'a Value,
    /// Targets of references.
    targets: HashMap<&'a str, &'a Value>,
    /// The number of schemas that each has within it; `None` while it is counted.
    sizes: HashMap<*const Value, Option<usize>>,
    /// What may still be passed.
    work: usize,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Value) -> Self {
        Self { root, targets: HashMap::new(), sizes: HashMap::new(), work: MAX_APPLIED }
    }

    /// Returns an error if checking `value` could be too much work.
    fn count(&mut self, value: &Value) -> Result<(), String> {
        self.charge(self.root)?;
        self.size(self.root, 0)?;
        self.work = MAX_APPLIED;
        self.apply(self.root, value, 0)
    }

    /// Returns the number of schemas within a schema, itself included, with references replaced by their targets.
    fn size(&mut self, schema: &'a Value, depth: usize) -> Result<usize, String> {
        let address: *const Value = schema;
        match self.sizes.get(&address) {
            // A reference back to where it is expanded.
            Some(None) => return Ok(1),
            Some(Some(size)) => return Ok(*size),
            None => {}
        }
        self.sizes.insert(address, None);
        let mut size = 1;
        for (at, inner) in self.schemas(schema, depth)? {
            let patterns = usize::from(inner.as_mapping().is_some_and(|inner| inner.get("pattern").is_some()));
            let patterns = patterns + usize::from(matches!(at, At::Entries));
            size += self.size(inner, depth + 1)? + PATTERN * patterns;
            if size > MAX_SCHEMAS {
                return Err(format!("its references expand to more than {MAX_SCHEMAS} schemas"));
            }
        }
        self.sizes.insert(address, Some(size));
        Ok(size)
    }

    /// Applies a schema to a value, without regard to whether the value fits.
    fn apply(&mut self, schema: &'a Value, value: &Value, depth: usize) -> Result<(), String> {
        self.charge(value)?;
        let inner = self.schemas(schema, depth)?;
        let entries: HashMap<&str, &Value> = match value {
            Value::Mapping(mapping) if inner.iter().any(|(at, _)| matches!(at, At::Entry(_))) => {
                mapping.iter().filter_map(|(key, value)| Some((key.as_str()?, value))).collect()
            }
            _ => HashMap::new(),
        };
        for (at, schema) in inner {
            let depth = depth + 1;
            self.take(1)?;
            match (at, value) {
                (At::Value, value) => self.apply(schema, value, depth)?,
                (At::Entry(name), _) => {
                    if let Some(value) = entries.get(name) {
                        self.apply(schema, value, depth)?;
                    }
                }
                (At::Entries, Value::Mapping(mapping)) => {
                    mapping.iter().try_for_each(|(_, value)| self.apply(schema, value, depth))?;
                }
                (At::Keys, Value::Mapping(mapping)) => {
                    mapping.iter().try_for_each(|(key, _)| self.apply(schema, key, depth))?;
                }
                (At::Item(index), Value::Sequence(items)) => {
                    items.get(index).map_or(Ok(()), |item| self.apply(schema, item, depth))?;
                }
                (At::Items, Value::Sequence(items)) => {
                    items.iter().try_for_each(|item| self.apply(schema, item, depth))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the schemas directly within a schema, including the target of its reference.
    fn schemas(&mut self, schema: &'a Value, depth: usize) -> Result<Vec<(At<'a>, &'a Value)>, String> {
        if depth > MAX_DEPTH {
            return Err(format!(
                "more than {MAX_DEPTH} schemas are within one another, or a reference leads in a circle"
            ));
        }
        let Value::Mapping(schema) = schema else { return Ok(Vec::new()) };
        let mut inner = Vec::new();
        for (key, value) in schema.iter() {
            match (key.as_str().unwrap_or_default(), value) {
                ("$ref", Value::String(reference)) => inner.push((At::Value, self.target(reference)?)),
                (keyword @ ("$dynamicRef" | "$recursiveRef"), _) => {
                    return Err(format!("`{keyword}` is not supported"));
                }
                // They would change what references within them lead to.
                (keyword @ ("$id" | "id" | "$schema"), Value::String(_)) if depth > 0 => {
                    return Err(format!("`{keyword}` is supported only at the top of the schema"));
                }
                ("allOf" | "anyOf" | "oneOf", Value::Sequence(schemas)) => {
                    inner.extend(schemas.iter().map(|schema| (At::Value, schema)));
                }
                ("not" | "if" | "then" | "else", schema) => inner.push((At::Value, schema)),
                ("dependentSchemas" | "dependencies", Value::Mapping(schemas)) => {
                    inner.extend(schemas.iter().map(|(_, schema)| (At::Value, schema)));
                }
                ("properties", Value::Mapping(schemas)) => {
                    inner.extend(schemas.iter().filter_map(|(key, schema)| Some((At::Entry(key.as_str()?), schema))));
                }
                ("patternProperties", Value::Mapping(schemas)) => {
                    inner.extend(schemas.iter().map(|(_, schema)| (At::Entries, schema)));
                }
                ("additionalProperties" | "unevaluatedProperties", schema) => inner.push((At::Entries, schema)),
                ("propertyNames", schema) => inner.push((At::Keys, schema)),
                ("items" | "prefixItems", Value::Sequence(schemas)) => {
                    inner.extend(schemas.iter().enumerate().map(|(index, schema)| (At::Item(index), schema)));
                }
                ("items" | "additionalItems" | "unevaluatedItems" | "contains", schema) => {
                    inner.push((At::Items, schema));
                }
                _ => {}
            }
        }
        Ok(inner)
    }

    fn target(&mut self, reference: &'a str) -> Result<&'a Value, String> {
        if let Some(target) = self.targets.get(reference) {
            return Ok(target);
        }
        let found = target(self.root, reference, &mut self.work);
        let found = found.ok_or_else(|| {
            let shown = excerpt(reference.escape_debug());
            format!("the reference \"{shown}\" is not a JSON Pointer to a part of the schema, such as `#/$defs/x`")
        })?;
        self.targets.insert(reference, found);
        Ok(found)
    }

    /// Charges for a value and all that it contains.
    fn charge(&mut self, value: &Value) -> Result<(), String> {
        self.take(1)?;
        match value {
            Value::Sequence(items) => items.iter().try_for_each(|item| self.charge(item)),
            Value::Mapping(mapping) => mapping.iter().try_for_each(|(_, value)| self.charge(value)),
            _ => Ok(()),
        }
    }

    fn take(&mut self, work: usize) -> Result<(), String> {
        self.work = self.work.checked_sub(work).ok_or("the schema and the values are too large to be checked")?;
        Ok(())
    }
}

/// Returns the problems that an error of the validator stands for, each with its path.
fn described(data: &Value, error: &ValidationError<'_>) -> Vec<String> {
    use ValidationErrorKind as Kind;
    let (path, value) = place(data, error.instance_path().as_str(), "data");
    let mut found = value.map_or_else(|| "nothing".to_owned(), Value::describe);
    if let Some(problem) = value.and_then(beyond_json) {
        found = format!("{found}, which {problem}");
    }
    let expected = |expected: &dyn std::fmt::Display| format!("expected {expected}, found {found}");
    let length = |noun: &str, word: &str, limit: u64| expected(&format!("{noun} of at {word} {limit}"));
    let problem = match error.kind() {
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let names = unexpected.iter().take(MAX_PROBLEMS + 1);
            return names.map(|name| format!("{}: the schema has no such value", below(&path, name))).collect();
        }
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            return vec![format!("{}: the value is missing", below(&path, name))];
        }
        Kind::Type { kind: TypeKind::Single(kind) } => expected(&noun(*kind)),
        Kind::Type { kind: TypeKind::Multiple(kinds) } => {
            expected(&kinds.iter().map(noun).collect::<Vec<_>>().join(" or "))
        }
        Kind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            let shown: Vec<_> = options.iter().take(MAX_PROBLEMS).map(excerpt).collect();
            let rest = if options.len() > shown.len() { ", …" } else { "" };
            expected(&format!("one of {}{rest}", shown.join(", ")))
        }
        Kind::Constant { expected_value } => expected(&excerpt(expected_value)),
        Kind::Minimum { limit } => expected(&format!("at least {limit}")),
        Kind::Maximum { limit } => expected(&format!("at most {limit}")),
        Kind::ExclusiveMinimum { limit } => expected(&format!("more than {limit}")),
        Kind::ExclusiveMaximum { limit } => expected(&format!("less than {limit}")),
        Kind::MultipleOf { multiple_of } => expected(&format!("a multiple of {multiple_of}")),
        Kind::MinLength { limit } => length("a string", "least", *limit) + " characters",
        Kind::MaxLength { limit } => length("a string", "most", *limit) + " characters",
        Kind::MinItems { limit } => format!("expected at least {limit} items"),
        Kind::MaxItems { limit } => format!("expected at most {limit} items"),
        Kind::AdditionalItems { limit } => format!("expected at most {limit} items"),
        Kind::MinProperties { limit } => format!("expected at least {limit} entries"),
        Kind::MaxProperties { limit } => format!("expected at most {limit} entries"),
        Kind::UniqueItems => "two items are equal".to_owned(),
        Kind::Pattern { pattern } => expected(&format!("a match of the pattern `{}`", excerpt(pattern))),
        Kind::Format { format } => expected(&format!("a string of the format `{}`", excerpt(format))),
        Kind::FalseSchema => "the schema allows no value here".to_owned(),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => format!("{found} fits none of the schema's alternatives"),
        Kind::OneOfMultipleValid { .. } => format!("{found} fits more than one of the schema's alternatives"),
        other => format!("{found} does not fit the schema's `{}`", other.keyword()),
    };
    vec![format!("{path}: {problem}")]
}

/// Returns why the validator does not see a number as one.
fn beyond_json(value: &Value) -> Option<&'static str> {
    match value {
        Value::Int(value) if i64::try_from(*value).is_err() && u64::try_from(*value).is_err() => {
            Some("is beyond 64 bits")
        }
        Value::Float(value) if !value.is_finite() => Some("does not exist in JSON"),
        _ => None,
    }
}

/// Returns the path of a place that a JSON Pointer names, and the value there.
fn place<'a>(root: &'a Value, pointer: &str, name: &str) -> (String, Option<&'a Value>) {
    let (mut path, mut value) = (name.to_owned(), Some(root));
    for name in steps(pointer) {
        path = match value {
            Some(Value::Sequence(_)) => format!("{path}[{name}]"),
            _ => below(&path, &name),
        };
        value = value.and_then(|value| step(value, &name));
    }
    (path, value)
}

/// Returns the path of an entry.
fn below(path: &str, name: &str) -> String {
    let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if is_plain && name.len() <= MAX_SHOWN {
        format!("{path}.{name}")
    } else {
        format!("{path}[\"{}\"]", excerpt(name.escape_debug()))
    }
}

fn noun(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Array => "a sequence",
        JsonType::Boolean => "a boolean",
        JsonType::Integer => "an integer",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "a mapping",
        JsonType::String => "a string",
    }
}

fn excerpt(text: impl std::fmt::Display) -> String {
    Excerpt::of(text, MAX_SHOWN)
}

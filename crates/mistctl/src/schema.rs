//! JSON Schemas of packages: places within a schema, and with the feature `schema` the check of values against one.

#[cfg(feature = "schema")]
mod check;

use mistletoe::documents::yaml::{Mapping, Value};

#[cfg(feature = "schema")]
pub(crate) use check::check;

/// Returns the steps of a JSON Pointer: names of values in mappings, or numbers of items in sequences.
pub(crate) fn steps(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"))
}

/// Returns the value one step below another.
pub(crate) fn step<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    match value {
        Value::Mapping(mapping) => mapping.get(step),
        // Digits alone: a sign is not part of an index.
        Value::Sequence(items) if step.bytes().all(|byte| byte.is_ascii_digit()) => {
            items.get(step.parse::<usize>().ok()?)
        }
        _ => None,
    }
}

/// Returns what a `$ref` of a schema refers to, if it is a JSON Pointer within the schema.
///
/// Takes the entries that it passes from `work`. If there is too little, returns nothing, and nothing is left.
pub(crate) fn target<'a>(root: &'a Value, reference: &str, work: &mut usize) -> Option<&'a Value> {
    let pointer = percent_decoded(reference.strip_prefix('#')?)?;
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return None;
    }
    steps(&pointer).try_fold(root, |place, name| {
        let left = work.checked_sub(1 + place.as_mapping().map_or(0, Mapping::len));
        *work = left.unwrap_or(0);
        left?;
        step(place, &name)
    })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(part.bytes().skip(2));
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use mistletoe::documents::yaml;

    use super::*;

    #[test]
    fn references_lead_to_places_within_the_schema() {
        let root = yaml::parse("$defs: {a/b: {x: [1, 2]}, 'a~b': 3, 'a b%': 4, \"\\n\": 5}").expect("YAML");
        let found = |reference: &str| target(&root, reference, &mut 100).map(Value::describe);
        assert_eq!(found("#").as_deref(), Some("a mapping"));
        assert_eq!(found("#/$defs/a~1b/x/1").as_deref(), Some("the integer 2"));
        assert_eq!(found("#/$defs/a~0b").as_deref(), Some("the integer 3"));
        assert_eq!(found("#/%24defs/a%20b%25").as_deref(), Some("the integer 4"));
        assert_eq!(found("#/$defs/%0a").as_deref(), Some("the integer 5"));
        for nowhere in [
            "",
            "a",
            "#a",
            "#/a",
            "#/$defs/a~1b/x/2",
            "#/$defs/a~1b/x/+1",
            "#/%2",
            "#/%zz",
            "#/%ff",
            "#/$defs/%+a",
            "http://x/#/$defs",
            "/$defs",
        ] {
            assert_eq!(found(nowhere), None, "{nowhere}");
        }
        assert_eq!(target(&root, "#/$defs/a~1b", &mut 3), None, "it passes 7 entries");
    }
}

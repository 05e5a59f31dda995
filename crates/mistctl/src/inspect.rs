//! `mistctl inspect`.

use std::collections::HashSet;
use std::error::Error as _;

use mistletoe::documents::yaml::{self, Mapping, Value};
use mistletoe::module::{self, Inspection, Interface};
use mistletoe::types::{ExternType, Import};
use mistletoe::wasi::{self, Wasi};
use mistletoe::{AnyPackage, Error, ErrorKind, Imports, Limits};
use serde_json::json;

use crate::cli::{ErrorFormat, Inspect, ListFormat};
use crate::failure::Failure;
use crate::{files, log, print};

pub(crate) fn run(arguments: &Inspect, format: ErrorFormat) -> Result<(), Failure> {
    let wasm = files::package(&arguments.package)?;
    let Inspection { interface, invalid, .. } = module::inspect(&wasm);
    let mut problems: Vec<String> = invalid.iter().map(with_causes).collect();
    // Of what is no module at all there is no interface to speak of.
    let is_module = !matches!(invalid.as_ref().map(Error::kind), Some(ErrorKind::NotAModule { .. }));
    let offered = wasi::imports::<Wasi>();
    let interface_problems = if is_module { AnyPackage::problems(&interface, &offered) } else { Vec::new() };
    problems.extend(interface_problems.iter().map(ToString::to_string));

    let info = if problems.is_empty() { info(arguments, &wasm, &offered, format) } else { Ok(None) };
    problems.extend(info.as_ref().err().map(with_causes));

    let mut listing = Mapping::new();
    listing.insert("info", info.as_ref().ok().cloned().flatten().unwrap_or(Value::Null));
    if is_module {
        listing.insert("type", "wasm".to_owned());
    }
    listing.insert("size", Value::Int(wasm.len() as i128));
    if is_module {
        listing.insert("imports", imports(&interface));
        listing.insert("exports", exports(&interface));
    }
    if !problems.is_empty() {
        listing.insert("problems", Value::Sequence(problems.into_iter().map(Value::String).collect()));
    }
    let listing = Value::Mapping(listing);
    match arguments.output {
        ListFormat::Yaml => print(&listing.to_text())?,
        ListFormat::Json => print(&format!("{:#}\n", to_json(&listing)))?,
    }

    let failed = |error| Failure::library(&arguments.package, error);
    match invalid {
        Some(error) => Err(failed(error)),
        None if !interface_problems.is_empty() => {
            Err(failed(ErrorKind::Interface { problems: interface_problems }.into()))
        }
        None => info.map(drop).map_err(failed),
    }
}

/// The package's own description: a document where it is one, else the string.
fn info(
    arguments: &Inspect,
    wasm: &[u8],
    offered: &Imports<Wasi>,
    format: ErrorFormat,
) -> mistletoe::Result<Option<Value>> {
    let backend = arguments.backend.start(format)?;
    let package = AnyPackage::with_imports(&backend, wasm, offered, Limits::default())?;
    let text = package.session_with(log::wasi(format).build())?.info()?;
    Ok(Some(match yaml::parse(&text) {
        Ok(document @ Value::Mapping(_)) => document,
        _ => Value::String(text),
    }))
}

/// The kinds of imports and exports, as headings and as the types name them.
const KINDS: [(&str, &str); 4] =
    [("functions", "func"), ("memories", "memory"), ("tables", "table"), ("globals", "global")];

fn imports(interface: &Interface) -> Value {
    let entry = |import: &Import| {
        let mut entry = Mapping::new();
        entry.insert("module", import.module.clone());
        entry.insert("name", import.name.clone());
        entry.insert("type", signature(&import.ty));
        Value::Mapping(entry)
    };
    let mut groups = Mapping::new();
    for (heading, kind) in KINDS {
        let imports = interface.imports.iter().filter(|import| import.ty.kind() == kind);
        groups.insert(heading, Value::Sequence(imports.map(entry).collect()));
    }
    Value::Mapping(groups)
}

fn exports(interface: &Interface) -> Value {
    let mut groups = Mapping::new();
    for (heading, kind) in KINDS {
        // A broken module may have a name twice. The names are hashed, since many long ones take long to compare.
        let mut seen = HashSet::new();
        let exports = interface.exports.iter().filter(|export| export.ty.kind() == kind && seen.insert(&export.name));
        let group = exports.map(|export| (export.name.clone(), Value::from(signature(&export.ty)))).collect();
        groups.insert(heading, Value::Mapping(group));
    }
    Value::Mapping(groups)
}

/// A type without its kind, which the heading says: `[I32] -> []`.
fn signature(ty: &ExternType) -> String {
    let text = ty.to_string();
    text.strip_prefix(ty.kind()).unwrap_or(&text).trim_start().to_owned()
}

/// An error in one line, with what caused it.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => json!(value),
        // JSON's numbers have no bounds, the crate's have; beyond them an integer stays readable as a string.
        Value::Int(value) => i64::try_from(*value)
            .map(Into::into)
            .or_else(|_| u64::try_from(*value).map(Into::into))
            .unwrap_or_else(|_| json!(value.to_string())),
        // JSON has no infinity and no NaN; they become null.
        Value::Float(value) => json!(value),
        Value::String(text) => json!(text),
        Value::Sequence(items) => items.iter().map(to_json).collect(),
        Value::Mapping(mapping) => {
            let key = |key: &Value| key.as_str().map_or_else(|| key.to_text().trim_end().to_owned(), str::to_owned);
            mapping.iter().map(|(name, value)| (key(name), to_json(value))).collect::<serde_json::Map<_, _>>().into()
        }
    }
}

//! `mistctl inspect`.

use std::collections::HashSet;

use mistletoe::documents::MistPackage;
use mistletoe::documents::yaml::{self, Mapping, Value};
use mistletoe::module::{self, Inspection, Interface};
use mistletoe::types::{ExternType, Import, Problem};
use mistletoe::wasi::{self, Wasi};
use mistletoe::{AnyCommand, AnyHandler, AnyMiddleware, AnyPackage, Error, ErrorKind, Imports};

use crate::cli::{Inspect, ListFormat};
use crate::failure::{Failure, in_one_line};
use crate::guest::program_imports;
use crate::json::{from_json, key_text, to_json};
use crate::stderr::Excerpt;
use crate::{deadline, files, log, print};

/// Maximum number of imports, exports, problems, and entries of a package's description that are listed.
const MAX_LISTED: usize = 1_000;
/// Maximum number of bytes of a name that are shown.
pub(crate) const MAX_NAME: usize = 200;
/// Maximum number of bytes of a string in a package's description that are shown.
const MAX_STRING: usize = 2_000;

pub(crate) fn run(arguments: &Inspect) -> Result<(), Failure> {
    let file = files::module(&arguments.package, &arguments.registries)?;
    let failed = |error| Failure::library(&arguments.package, error);
    let (wasm, Inspection { interface, invalid, .. }) =
        deadline::compiling(&arguments.package, &arguments.limits, || {
            let wasm = files::assembled(&arguments.package, file)?;
            let inspection = module::inspect(&wasm);
            Ok::<_, Failure>((wasm, inspection))
        })?;
    // Something that is not a module has no interface.
    let invalid = invalid.map(Error::from);
    let not_a_module = |error: &Error| matches!(error.kind(), ErrorKind::Module(module::ErrorKind::NotAModule { .. }));
    let is_module = !invalid.as_ref().is_some_and(not_a_module);
    let offered = wasi::imports::<Wasi>();
    let (spoken, missing) = if is_module { spoken(&interface, &offered) } else { (Vec::new(), Vec::new()) };
    // An invalid module, which no engine gets, implements no interface.
    let spoken = if invalid.is_none() { spoken } else { Vec::new() };

    let info = match spoken.contains(&PACKAGE) {
        true => Some(info(arguments, &wasm, &offered)?),
        false => None,
    };
    let (shown, unfit) = match info {
        None => (Value::Null, None),
        Some(Err(error)) => (Value::Null, Some(error)),
        Some(Ok(text)) => (description(&text), MistPackage::parse(&text).err()),
    };
    let problems = invalid.iter().map(in_one_line).chain(missing.iter().map(ToString::to_string));
    let problems: Vec<String> = problems.chain(unfit.iter().map(in_one_line)).collect();

    let mut listing = Mapping::new();
    listing.insert("info", shown);
    if is_module {
        listing.insert("type", "wasm".to_owned());
        listing.insert("interfaces", Value::Sequence(spoken.iter().map(|name| Value::from(*name)).collect()));
    }
    listing.insert("size", Value::Int(wasm.len() as i128));
    if is_module {
        listing.insert("imports", imports(&interface, arguments.output));
        listing.insert("exports", exports(&interface, arguments.output));
    }
    if !problems.is_empty() {
        listing.insert("problems", listed(problems));
    }
    let listing = Value::Mapping(listing);
    match arguments.output {
        ListFormat::Yaml => print(&listing.to_text())?,
        ListFormat::Json => print(&format!("{:#}\n", to_json(&listing)))?,
    }

    match (invalid, unfit) {
        (Some(error), _) | (None, Some(error)) => Err(failed(error)),
        (None, None) if !missing.is_empty() => Err(failed(ErrorKind::Interface { problems: missing }.into())),
        (None, None) => Ok(()),
    }
}

pub(crate) const PACKAGE: &str = "package";

/// Returns the interfaces that a module implements with the given imports.
///
/// If there are none, returns the problems with the interface that it is nearest to.
pub(crate) fn spoken(interface: &Interface, offered: &Imports<Wasi>) -> (Vec<&'static str>, Vec<Problem>) {
    let exports = |name: &str| interface.export(name).is_some();
    let named = |prefix: &str| interface.exports.iter().any(|export| export.name.starts_with(prefix));
    let imports_from = |module: &str| interface.imports.iter().any(|import| import.module == module);
    // Name, whether the module has something that only this interface has, and the problems with it.
    let interfaces = [
        (PACKAGE, named("__mistletoe_"), AnyPackage::problems(interface, offered)),
        ("plugin", imports_from("httpwasm") || exports("run"), AnyHandler::problems(interface, offered)),
        (
            "middleware",
            imports_from("http_handler") || exports("handle_request"),
            AnyMiddleware::problems(interface, offered),
        ),
        ("command", exports("_start"), AnyCommand::problems(interface, &program_imports())),
    ];
    let spoken: Vec<_> = interfaces.iter().filter(|(_, _, problems)| problems.is_empty()).collect();
    if !spoken.is_empty() {
        return (spoken.into_iter().map(|(name, _, _)| *name).collect(), Vec::new());
    }
    let nearest = interfaces.into_iter().min_by_key(|(_, is_meant, problems)| (!is_meant, problems.len()));
    (Vec::new(), nearest.map(|(_, _, problems)| problems).unwrap_or_default())
}

/// Returns a package's description of itself.
fn info(arguments: &Inspect, wasm: &[u8], offered: &Imports<Wasi>) -> Result<mistletoe::Result<String>, Failure> {
    let backend = arguments.backend.start()?;
    let limits = arguments.limits.get();
    let package = deadline::compiling(&arguments.package, &arguments.limits, || {
        AnyPackage::with_imports(&backend, wasm, offered, limits)
    });
    Ok(package.and_then(|package| package.session_with(log::wasi().build())?.info()))
}

/// Returns a package's description: a document if it is one, or else the string.
fn description(text: &str) -> Value {
    match yaml::parse(text) {
        Ok(document @ Value::Mapping(_)) => bounded(&document, &mut { MAX_LISTED }),
        _ => Value::String(Excerpt::of(text, MAX_STRING)),
    }
}

/// Returns a value with its strings cut, and at most `room` entries. A last entry says how many more there are.
fn bounded(value: &Value, room: &mut usize) -> Value {
    let cut = |value: &Value| match value {
        Value::String(text) => Value::String(Excerpt::of(text, MAX_STRING)),
        other => other.clone(),
    };
    match value {
        Value::Sequence(items) => {
            let mut shown = Vec::new();
            for (i, item) in items.iter().enumerate() {
                if *room == 0 {
                    shown.push(Value::String(more(items.len() - i)));
                    break;
                }
                *room -= 1;
                shown.push(bounded(item, room));
            }
            Value::Sequence(shown)
        }
        Value::Mapping(entries) => {
            let mut shown = Vec::new();
            for (i, (key, value)) in entries.iter().enumerate() {
                if *room == 0 {
                    shown.push(("…".to_owned(), Value::String(more(entries.len() - i))));
                    break;
                }
                *room -= 1;
                shown.push((key_text(&cut(key)), bounded(value, room)));
            }
            shown.into_iter().collect::<Mapping>().into()
        }
        other => cut(other),
    }
}

fn more(number: usize) -> String {
    format!("and {number} more")
}

/// Returns texts as a list of limited length.
pub(crate) fn listed(mut texts: Vec<String>) -> Value {
    let number = texts.len();
    if number > MAX_LISTED {
        texts.truncate(MAX_LISTED);
        texts.push(more(number - MAX_LISTED));
    }
    Value::Sequence(texts.into_iter().map(Value::String).collect())
}

/// Kinds of imports and exports: the heading, and the kind's name in the types.
const KINDS: [(&str, &str); 4] =
    [("functions", "func"), ("memories", "memory"), ("tables", "table"), ("globals", "global")];

fn imports(interface: &Interface, format: ListFormat) -> Value {
    let (listed, rest) = beginning(&interface.imports);
    let entry = |import: &Import| {
        let mut entry = Mapping::new();
        entry.insert("module", Excerpt::of(&import.module, MAX_NAME));
        entry.insert("name", Excerpt::of(&import.name, MAX_NAME));
        entry.insert("type", described(&import.ty, format));
        Value::Mapping(entry)
    };
    let groups = KINDS.map(|(heading, kind)| {
        (heading, Value::Sequence(listed.iter().filter(|import| import.ty.kind() == kind).map(entry).collect()))
    });
    grouped(groups, rest)
}

fn exports(interface: &Interface, format: ListFormat) -> Value {
    let (listed, mut rest) = beginning(&interface.exports);
    let groups = KINDS.map(|(heading, kind)| {
        // A broken module may have a name twice, and two long names may look alike when shown.
        let mut seen = HashSet::new();
        let mut group = Vec::new();
        for export in listed.iter().filter(|export| export.ty.kind() == kind) {
            let name = Excerpt::of(&export.name, MAX_NAME);
            if seen.insert(name.clone()) {
                group.push((name, described(&export.ty, format)));
            } else {
                rest += 1;
            }
        }
        (heading, Value::Mapping(group.into_iter().collect()))
    });
    grouped(groups, rest)
}

/// Returns what is listed, and how much is left out.
fn beginning<T>(all: &[T]) -> (&[T], usize) {
    let listed = all.get(..MAX_LISTED).unwrap_or(all);
    (listed, all.len() - listed.len())
}

/// Returns groups under their headings, and how many entries they leave out.
fn grouped(groups: [(&str, Value); 4], rest: usize) -> Value {
    let mut mapping: Mapping = groups.into_iter().map(|(heading, group)| (heading.to_owned(), group)).collect();
    if rest > 0 {
        mapping.insert("more", Value::Int(rest as i128));
    }
    Value::Mapping(mapping)
}

/// Returns a type: in YAML as text without its kind, which the heading names, `[I32] -> []`; in JSON in its parts.
fn described(ty: &ExternType, format: ListFormat) -> Value {
    match format {
        ListFormat::Yaml => {
            let text = ty.to_string();
            Value::from(text.strip_prefix(ty.kind()).unwrap_or(&text).trim_start())
        }
        ListFormat::Json => serde_json::to_value(ty).map_or(Value::Null, from_json),
    }
}

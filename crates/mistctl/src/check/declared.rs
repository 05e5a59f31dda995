//! What a module declares: whether it is a package, its sections, features and imports.

use mistletoe::documents::yaml::{Mapping, Value};
use mistletoe::module::{self, Analysis};
use mistletoe::types::{ExternType, Import, Problem};
use mistletoe::wasi::{self, Wasi};

use crate::check::{Report, int};
use crate::failure::in_one_line;
use crate::inspect::{self, MAX_NAME};
use crate::stderr::Excerpt;

/// Number of problems in one message.
const MAX_SHOWN: usize = 20;
const PAGE: u64 = 65_536;
/// Size of custom sections, in bytes, below which they do not matter.
const SMALL: u64 = 64 << 10;

/// What a module declares.
pub(super) struct Declared {
    pub(super) analysis: Analysis,
    /// The most memory that the module's own type allows, in bytes.
    pub(super) maximum: Option<u64>,
}

/// Checks what a module declares. Returns its analysis and the maximum of its memory if it can run as a package.
pub(super) fn declared(wasm: &[u8], report: &mut Report) -> Option<Declared> {
    report.insert("size", int(wasm.len() as u64));
    let inspection = module::inspect(wasm);
    if let Some(invalid) = inspection.invalid {
        let advice = "build it again; docs/errors.md lists the features that are not supported, and why";
        report.findings.error("invalid", in_one_line(&invalid.into()), advice);
        return None;
    }
    let interface = inspection.interface;
    let (spoken, problems) = inspect::spoken(&interface, &wasi::imports::<Wasi>());
    report.insert("interfaces", Value::Sequence(spoken.iter().map(|name| Value::from(*name)).collect()));
    if !spoken.contains(&inspect::PACKAGE) {
        let message = match spoken.as_slice() {
            [] => joined(&problems),
            spoken => format!("it is a {}, not a package", spoken.join(" and a ")),
        };
        let advice = match spoken.contains(&"command") {
            true => "`check` takes no programs (WASI commands), which `generate` and `fn` run, too",
            false => "export the memory and the four functions of docs/abi.md, with their types, and import only WASI",
        };
        report.findings.error("interface", message, advice);
        return None;
    }
    let analysis = match module::analyse(wasm) {
        Ok(analysis) => analysis,
        Err(error) => {
            report.findings.error("invalid", in_one_line(&error.into()), "build it again");
            return None;
        }
    };
    sections(&analysis, wasm.len(), report);
    let features = analysis.features.iter().map(|feature| Value::from(*feature)).collect();
    report.insert("features", Value::Sequence(features));
    imports(&interface.imports, &analysis.unused_imports, report);
    let maximum = match interface.export(mistletoe::protocol::MEMORY) {
        Some(ExternType::Memory(Some(memory))) => memory.maximum.map(|pages| pages.saturating_mul(PAGE)),
        _ => None,
    };
    Some(Declared { analysis, maximum })
}

fn sections(analysis: &Analysis, size: usize, report: &mut Report) {
    let mut sizes = Mapping::new();
    let mut custom = 0;
    for section in &analysis.sections {
        let name = match &section.name {
            Some(name) => format!("custom {}", Excerpt::of(name, MAX_NAME)),
            None => section.kind.to_owned(),
        };
        custom += if section.kind == "custom" { section.size } else { 0 };
        // Several sections may have one name.
        if let Value::Int(sum) = sizes.get_or_insert_with(&name, || int(0)) {
            *sum += i128::from(section.size);
        }
    }
    report.insert("sections", sizes);
    if custom > SMALL && custom > size as u64 / 2 {
        let message = format!("custom sections, which are not needed to run, take up {custom} of {size} bytes");
        report.findings.note("custom-sections", message, "strip the module (`strip = true` in Cargo.toml, `-s` in C)");
    }
}

fn imports(all: &[Import], unused: &[Import], report: &mut Report) {
    let name = |import: &Import| format!("{}.{}", import.module, import.name);
    report.insert("imports", names(all.iter().map(name)));
    if !unused.is_empty() {
        let (shown, more) = (unused.iter().take(MAX_SHOWN), unused.len().saturating_sub(MAX_SHOWN));
        let mut shown: Vec<_> = shown.map(|import| Excerpt::of(name(import), MAX_NAME)).collect();
        if more > 0 {
            shown.push(format!("and {more} more"));
        }
        let message = format!("nothing in the module refers to these imports: {}", shown.join(", "));
        let advice = "remove them (wasm-opt does): a host that lacks them refuses the module without need";
        report.findings.warning("unused-imports", message, advice);
    }
}

/// Returns problems as one text.
pub(super) fn joined(problems: &[Problem]) -> String {
    let (shown, more) = (problems.iter().take(MAX_SHOWN), problems.len().saturating_sub(MAX_SHOWN));
    let shown = shown.map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{shown}; and {more} more") } else { shown }
}

pub(super) fn names(names: impl IntoIterator<Item = String>) -> Value {
    inspect::listed(names.into_iter().map(|name| Excerpt::of(name, MAX_NAME)).collect())
}

//! Saves a disagreement as a fixture, which the suite then runs like any other.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use mistletoe_conformance::case::Call;
use mistletoe_conformance::{Case, Observation};
use serde_json::Value;

use crate::Error;
use crate::judge::Disagreement;

/// Writes the fixture and returns its path. Returns `None` if the disagreement has no case.
pub(crate) fn save(disagreement: &Disagreement) -> Result<Option<PathBuf>, Error> {
    let Disagreement { seed, case: Some(case), expected, .. } = disagreement else { return Ok(None) };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz-found");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{seed:016x}.wat"));
    fs::write(&path, fixture(case, expected)?)?;
    Ok(Some(path))
}

/// Returns a case's file, with the expected results as far as they are known.
pub(crate) fn fixture(case: &Case, expected: &Observation) -> Result<String, Error> {
    let header = &case.header;
    let mut text =
        format!("about = {}\nrules = {:?}\nimports = true\n", toml(&header.about.clone().into()), header.rules);
    if let Some(limits) = &header.limits {
        let fields = [
            limits.memory.map(|bytes| format!("memory = {bytes}")),
            limits.timeout_ms.map(|time| format!("timeout_ms = {time}")),
            limits.fuel.map(|fuel| format!("fuel = {fuel}")),
            limits.stack.map(|height| format!("stack = {height}")),
        ];
        writeln!(text, "limits = {{ {} }}", fields.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
    }
    let fails = [("load", &expected.load), ("open", &expected.open)];
    for (name, error) in fails.iter().filter_map(|(name, error)| Some((name, error.as_ref()?))) {
        writeln!(text, "{name} = {}", toml(error))?;
    }
    let fails = fails.iter().any(|(_, error)| error.is_some());
    let mut observed = expected.calls.iter();
    for step in header.steps.iter().filter(|_| !fails) {
        let call = match &step.call {
            Call::Generate(input) => format!("{{ generate = {} }}", toml(&input.text().into())),
            _ => "\"info\"".to_owned(),
        };
        writeln!(text, "\n[[step]]\ncall = {call}\nsession = {}", toml(&step.session.clone().into()))?;
        let Some(observed) = observed.next() else { continue };
        match &observed.result {
            Ok(output) => writeln!(text, "output = {}", toml(&output.clone().into()))?,
            Err(error) => writeln!(text, "error = {}", toml(error))?,
        }
        if let Some(fault) = &observed.fault {
            writeln!(text, "fault = {}", toml(fault))?;
        }
        if let Some(fuel) = observed.fuel {
            writeln!(text, "fuel = {fuel}")?;
        }
        writeln!(text, "stderr = {}", toml(&observed.stderr.clone().into()))?;
    }
    for known in &header.known {
        let (backend, reason) = (toml(&known.backend.clone().into()), toml(&known.reason.clone().into()));
        writeln!(text, "\n[[known]]\nbackend = {backend}\nreason = {reason}")?;
    }
    let mut fixture = String::new();
    for line in text.lines() {
        writeln!(fixture, "{}", format!(";;! {line}").trim_end())?;
    }
    fixture += &wasmprinter::print_bytes(&case.wasm)?;
    Ok(fixture)
}

/// Returns a value in TOML's notation, without null fields.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let fields: Vec<_> = fields.map(|(name, value)| format!("{name} = {}", toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        // JSON's escapes are valid in TOML, except for one character that TOML requires to be escaped.
        value => value.to_string().replace('\x7f', "\\u007f"),
    }
}

//! Whether all backends did the same, and the same as without limits.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mistletoe::AnyBackend;
use mistletoe_conformance::{Case, Observation};
use serde_json::Value;

use crate::gauge;
use crate::generate::{self, Fuzzed};

/// The kinds of errors that are a limit's.
const LIMITS: [&str; 4] = ["out-of-fuel", "too-deep", "timed-out", "too-much-memory"];
/// Those without limits in the code that are compared with the others.
const UNLIMITED: [&str; 2] = ["wasmi", "wasmtime"];

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) modules: u64,
    calls: u64,
    answers: u64,
    unlimited: u64,
    gauged: u64,
    /// Modules that were run, but cannot be compared, by why.
    skipped: BTreeMap<&'static str, u64>,
    /// Calls and openings that failed, by the kind of error.
    errors: BTreeMap<String, u64>,
    pub(crate) disagreements: u64,
}

/// Where two did not do the same.
pub(crate) struct Disagreement {
    pub(crate) seed: u64,
    /// The case, where there is one.
    pub(crate) case: Option<Case>,
    /// What most did, or what should have been.
    pub(crate) expected: Observation,
    what: String,
}

/// Makes a case of a seed and runs it everywhere.
pub(crate) fn judge(seed: u64, backends: &[AnyBackend], tally: &mut Tally) -> Result<(), Box<Disagreement>> {
    let differs = |what: String| Disagreement { seed, case: None, expected: Observation::default(), what };
    tally.modules += 1;
    // A panic is a finding as well, and should not keep the seed to itself.
    let result = catch_unwind(AssertUnwindSafe(|| match generate::case(seed) {
        Ok(Some(fuzzed)) => compare(&fuzzed, backends, tally),
        Ok(None) => {
            *tally.skipped.entry("not made").or_default() += 1;
            Ok(())
        }
        Err(error) => Err(Box::new(differs(format!("no case: {error}")))),
    }));
    let result = result.unwrap_or_else(|_| Err(Box::new(differs("a panic".to_owned()))));
    tally.disagreements += u64::from(result.is_err());
    result
}

fn compare(fuzzed: &Fuzzed, backends: &[AnyBackend], tally: &mut Tally) -> Result<(), Box<Disagreement>> {
    let Fuzzed { seed, case, unlimited, stack } = fuzzed;
    let differs = |expected: &Observation, what: String| {
        Box::new(Disagreement { seed: *seed, case: Some(case.clone()), expected: expected.clone(), what })
    };
    let mut observed: Vec<(&str, Observation)> = Vec::new();
    for backend in backends {
        let name = mistletoe::Backend::name(backend);
        let observation = observe(case, backend)
            .map_err(|error| differs(&Observation::default(), format!("{name} cannot run it: {error}")))?;
        if !(name == "wasmtime-winch" && winch_compiles_no_externref(case, &observation)) {
            observed.push((name, observation));
        }
    }
    let Some((_, first)) = observed.first() else { return Ok(()) };
    tally.count(first);

    let overflows = |(_, one): &(_, Observation)| errors(one).any(|error| error["trap"] == "stack-overflow");
    if let Some((name, one)) = observed.iter().find(|one| overflows(one)) {
        // Where the height is not limited, the engine's own stack ends a recursion, at a depth of the engine's.
        if !stack {
            *tally.skipped.entry("stack of the engine's").or_default() += 1;
            return Ok(());
        }
        return Err(differs(one, format!("{name}'s own stack is full, though its height is limited")));
    }
    let most = observed.iter().max_by_key(|(_, one)| observed.iter().filter(|(_, other)| one == other).count());
    let Some((_, most)) = most else { return Ok(()) };
    if let Some((name, other)) = observed.iter().find(|(_, other)| other != most) {
        return Err(differs(most, format!("{name} does something else than most: {}", difference(most, other))));
    }
    // What the generator makes is valid, within the features, and a package; and it ends long before its time.
    let refused = most.load.as_ref().filter(|error| error["kind"] != "too-much-memory");
    if let Some(error) = refused.or(errors(most).find(|error| error["kind"] == "timed-out")) {
        return Err(differs(most, format!("all give {error}")));
    }

    if let (None, Some(backend)) = (&most.load, backends.first()) {
        match gauge::predict(case, unlimited, most, backend) {
            Ok(Some(predicted)) if predicted == *most => tally.gauged += 1,
            Ok(Some(predicted)) => {
                let difference = difference(&predicted, most);
                return Err(differs(&predicted, format!("all do something else than is written: {difference}")));
            }
            Ok(None) => *tally.skipped.entry("stack of the gauge's").or_default() += 1,
            Err(error) => return Err(differs(most, format!("the gauge is wrong: {error}"))),
        }
    }

    if errors(most).any(|error| LIMITS.iter().any(|limit| error["kind"] == *limit)) {
        return Ok(());
    }
    let mut expected = most.clone();
    expected.calls.iter_mut().for_each(|call| call.fuel = None);
    for backend in backends.iter().filter(|backend| UNLIMITED.contains(&mistletoe::Backend::name(*backend))) {
        let name = mistletoe::Backend::name(backend);
        let other = observe(unlimited, backend).map_err(|error| differs(most, error))?;
        if other != expected {
            let difference = difference(&expected, &other);
            return Err(differs(most, format!("without limits {name} does something else: {difference}")));
        }
        tally.unlimited += 1;
    }
    Ok(())
}

fn observe(case: &Case, backend: &AnyBackend) -> Result<Observation, String> {
    case.observe(backend).map_err(|failure| failure.to_string())
}

/// Winch does not compile `externref`.
fn winch_compiles_no_externref(case: &Case, observation: &Observation) -> bool {
    let refused = |error: &Value| error["kind"] == "engine" && error["operation"] == "compile";
    observation.load.as_ref().is_some_and(refused)
        && wasmprinter::print_bytes(&case.wasm).is_ok_and(|text| text.contains("extern"))
}

/// All errors that came back, and what poisoned sessions.
pub(crate) fn errors(observation: &Observation) -> impl Iterator<Item = &Value> {
    let calls = observation.calls.iter().flat_map(|call| call.result.as_ref().err().into_iter().chain(&call.fault));
    observation.load.iter().chain(&observation.open).chain(calls)
}

/// The first part in which two observations are not the same.
fn difference(expected: &Observation, found: &Observation) -> String {
    let shown = |value: Value| -> Vec<(String, Value)> {
        let mut parts = Vec::new();
        flatten(String::new(), value, &mut parts);
        parts
    };
    let values = [expected, found].map(|observation| shown(serde_json::to_value(observation).unwrap_or_default()));
    let [expected, found] = values;
    let other = expected.iter().zip(&found).find(|(expected, found)| expected != found);
    match other {
        Some((expected, found)) => format!("{} = {}, and not {} = {}", found.0, found.1, expected.0, expected.1),
        None => format!("{} parts, and not {}", found.len(), expected.len()),
    }
}

/// A value's leaves by their path; texts line by line.
fn flatten(path: String, value: Value, parts: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            fields.into_iter().for_each(|(name, value)| flatten(format!("{path}.{name}"), value, parts));
        }
        Value::Array(items) => {
            items.into_iter().enumerate().for_each(|(i, value)| flatten(format!("{path}[{i}]"), value, parts));
        }
        Value::String(text) => {
            parts.extend(text.split('\n').enumerate().map(|(i, line)| (format!("{path}:{i}"), line.into())));
        }
        value => parts.push((path, value)),
    }
}

impl Tally {
    fn count(&mut self, observation: &Observation) {
        self.calls += observation.calls.len() as u64;
        self.answers += observation.calls.iter().filter(|call| call.result.is_ok()).count() as u64;
        let failed = observation.calls.iter().filter_map(|call| call.result.as_ref().err());
        for error in observation.load.iter().chain(&observation.open).chain(failed) {
            let kind = error["trap"].as_str().or(error["kind"].as_str()).unwrap_or_default();
            *self.errors.entry(kind.to_owned()).or_default() += 1;
        }
    }

    /// Adds what another has counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.modules += other.modules;
        self.calls += other.calls;
        self.answers += other.answers;
        self.unlimited += other.unlimited;
        self.gauged += other.gauged;
        self.disagreements += other.disagreements;
        other.skipped.into_iter().for_each(|(why, count)| *self.skipped.entry(why).or_default() += count);
        other.errors.into_iter().for_each(|(kind, count)| *self.errors.entry(kind).or_default() += count);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { modules, calls, answers, unlimited, gauged, disagreements, .. } = self;
        write!(f, "{modules} modules, {calls} calls, {answers} answers")?;
        for (kind, count) in &self.errors {
            write!(f, ", {count} {kind}")?;
        }
        write!(f, "; {gauged} counted again, {unlimited} runs without limits")?;
        for (why, count) in &self.skipped {
            write!(f, ", {count} left out ({why})")?;
        }
        write!(f, "; {disagreements} disagreements")
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {:#x}: {}", self.seed, self.what)
    }
}

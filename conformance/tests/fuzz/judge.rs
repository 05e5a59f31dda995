//! Checks that all backends do the same, and the same as without limits.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::catch_unwind;
use std::thread;

use mistletoe::AnyBackend;
use mistletoe_conformance::case::Known;
use mistletoe_conformance::{Case, Observation};
use serde_json::Value;

use crate::generate::{self, Fuzzed};
use crate::reference_meter;

/// The kinds of errors that report a limit.
const LIMITS: [&str; 4] = ["out-of-fuel", "too-deep", "timed-out", "too-much-memory"];
/// The backends whose runs without limits in the code are compared with the others.
const UNLIMITED: [&str; 2] = ["wasmi", "wasmtime"];

/// The stack size of a thread that runs modules: the default of threads.
const STACK: usize = 2 << 20;
/// The stack size for modules that grow something.
///
/// wasmi 2.0.0 uses some of the host's stack for each `memory.grow` and `table.grow`, until the function that the host
/// called returns. A loop of them uses more than a thread has by default.
const GROWS: usize = 512 << 20;

/// The counts so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) modules: u64,
    calls: u64,
    answers: u64,
    unlimited: u64,
    gauged: u64,
    /// Modules that ran, but cannot be compared, by reason.
    skipped: BTreeMap<&'static str, u64>,
    /// Calls and openings that failed, by the kind of error.
    errors: BTreeMap<String, u64>,
    pub(crate) disagreements: u64,
}

/// A difference between two results that should be equal.
pub(crate) struct Disagreement {
    pub(crate) seed: u64,
    /// The case, if there is one.
    pub(crate) case: Option<Case>,
    /// What most backends did, or the predicted result.
    pub(crate) expected: Observation,
    what: String,
}

/// Makes a case from a seed and runs it on all backends.
pub(crate) fn judge(seed: u64, backends: &[AnyBackend], tally: &mut Tally) -> Result<(), Box<Disagreement>> {
    let differs = |what: String| Box::new(Disagreement { seed, case: None, expected: Observation::default(), what });
    tally.modules += 1;
    // A panic is a finding, too, and must not hide the seed.
    let made = catch_unwind(|| generate::case(seed)).unwrap_or_else(|_| Err("a panic".into()));
    let result = match made {
        Ok(Some(mut fuzzed)) => thread::scope(|scope| {
            let size = if fuzzed.grows { GROWS } else { STACK };
            let work = || compare(&mut fuzzed, backends, tally);
            let thread = thread::Builder::new().stack_size(size).spawn_scoped(scope, work);
            let panicked = |_| Err(differs("a panic".to_owned()));
            thread.map_or_else(|error| Err(differs(error.to_string())), |thread| thread.join().unwrap_or_else(panicked))
        }),
        Ok(None) => {
            *tally.skipped.entry("not made").or_default() += 1;
            Ok(())
        }
        Err(error) => Err(differs(format!("no case: {error}"))),
    };
    tally.disagreements += u64::from(result.is_err());
    result
}

fn compare(fuzzed: &mut Fuzzed, backends: &[AnyBackend], tally: &mut Tally) -> Result<(), Box<Disagreement>> {
    let Fuzzed { seed, case, unlimited, .. } = fuzzed;
    let mut observed: Vec<(&str, Observation)> = Vec::new();
    for backend in backends {
        let name = backend.name();
        let observation = case.observe(backend).map_err(|failure| {
            let what = format!("{name} cannot run it: {failure}");
            Box::new(Disagreement { seed: *seed, case: None, expected: Observation::default(), what })
        })?;
        if let Some(feature) = lacking(&observation) {
            case.header.known.push(Known::lacks(name, feature));
        } else {
            observed.push((name, observation));
        }
    }
    let case = &*case;
    let differs = |expected: &Observation, what: String| {
        Box::new(Disagreement { seed: *seed, case: Some(case.clone()), expected: expected.clone(), what })
    };
    let Some((_, first)) = observed.first() else { return Ok(()) };
    tally.count(first);

    let overflows = |(_, one): &(_, Observation)| errors(one).any(|error| error["trap"] == "stack-overflow");
    if let Some((name, one)) = observed.iter().find(|one| overflows(one)) {
        // Without a limit on the stack, a recursion ends when the engine's own stack overflows, and that depth depends
        // on the engine.
        if case.header.limits.as_ref().is_none_or(|limits| limits.stack.is_none()) {
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
    // The generated module is a valid package within the features, and ends long before its timeout.
    let refused = most.load.as_ref().filter(|error| error["kind"] != "too-much-memory");
    if let Some(error) = refused.or(errors(most).find(|error| error["kind"] == "timed-out")) {
        return Err(differs(most, format!("all give {error}")));
    }

    if let (None, Some(backend)) = (&most.load, backends.first()) {
        match reference_meter::predict(case, unlimited, backend) {
            Ok(Some(predicted)) => {
                let mut expected = predicted.clone();
                // The gauge terminates a guest from a host function, which does not know the export.
                for (expected, most) in errors_mut(&mut expected).zip(errors(most)) {
                    if let (Value::Object(expected), Some(export)) = (expected, most.get("export")) {
                        expected.entry("export").or_insert_with(|| export.clone());
                    }
                }
                for (expected, most) in expected.calls.iter_mut().zip(&most.calls) {
                    expected.fuel = expected.fuel.or(most.fuel);
                }
                if expected != *most {
                    let difference = difference(&expected, most);
                    return Err(differs(&predicted, format!("all do something else than is written: {difference}")));
                }
                tally.gauged += 1;
            }
            Ok(None) => *tally.skipped.entry("stack of the gauge's").or_default() += 1,
            Err(error) => return Err(differs(most, format!("the gauge is wrong: {error}"))),
        }
    }

    // To record the stack changes nothing else, not even the fuel.
    if let Some(backend) = backends.first() {
        let mut recording = case.clone();
        recording.header.backtrace = true;
        let mut recorded = recording.observe(backend).map_err(|failure| differs(most, failure.to_string()))?;
        for error in errors_mut(&mut recorded) {
            if let Value::Object(fields) = error {
                fields.remove("trace");
            }
        }
        // Engines take functions up to a length, and this one may be too long with what records.
        if recorded.load.as_ref().is_none_or(|error| error["item"] != "function-bytes") && recorded != *most {
            let difference = difference(most, &recorded);
            return Err(differs(most, format!("{} does something else when recorded: {difference}", backend.name())));
        }
    }

    if errors(most).any(|error| LIMITS.iter().any(|limit| error["kind"] == *limit)) {
        return Ok(());
    }
    let mut expected = most.clone();
    expected.calls.iter_mut().for_each(|call| call.fuel = None);
    for backend in backends.iter().filter(|backend| UNLIMITED.contains(&backend.name())) {
        let name = backend.name();
        let other = unlimited.observe(backend).map_err(|failure| differs(most, failure.to_string()))?;
        if other != expected {
            let difference = difference(&expected, &other);
            return Err(differs(most, format!("without limits {name} does something else: {difference}")));
        }
        tally.unlimited += 1;
    }
    Ok(())
}

/// Returns the feature that the module needs and the backend lacks.
fn lacking(observation: &Observation) -> Option<&str> {
    let error = observation.load.as_ref().filter(|error| error["backend"].is_string())?;
    error["feature"].as_str()
}

/// Returns all errors of an observation, including those that poisoned sessions.
pub(crate) fn errors(observation: &Observation) -> impl Iterator<Item = &Value> {
    let calls = observation.calls.iter().flat_map(|call| call.result.as_ref().err().into_iter().chain(&call.fault));
    observation.load.iter().chain(&observation.open).chain(calls)
}

fn errors_mut(observation: &mut Observation) -> impl Iterator<Item = &mut Value> {
    let Observation { load, open, calls, .. } = observation;
    let calls = calls.iter_mut().flat_map(|call| call.result.as_mut().err().into_iter().chain(&mut call.fault));
    load.iter_mut().chain(open).chain(calls)
}

/// Describes the first difference between two observations.
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

/// Lists a value's leaves with their paths, and texts line by line.
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

    /// Adds the counts of another tally.
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

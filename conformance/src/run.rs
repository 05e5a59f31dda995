//! Running a case on a backend.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::panic::resume_unwind;

use mistletoe_abi::{Error, ErrorKind, Limits};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::case::{Call, Case, Step};
use crate::host::{Host, HostPackage, HostSession};

/// What a backend did with a case, in the terms that backends are compared in: outputs, and kinds of errors with all
/// their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// The error that loading the module gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Value>,
    /// The error that opening a session gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Value>,
    /// One result a call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Observed>,
}

/// What one call did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// The answer, or the error.
    pub result: Result<String, Value>,
    /// What had poisoned the session afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Value>,
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&serde_json::to_string(self).map_err(|_| fmt::Error)?))
    }
}

/// Where a backend did something else than the case says.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Which part of the case: `load`, `open`, or the number of a step.
    pub at: String,
    /// What had to come back.
    pub expected: String,
    /// What came back.
    pub found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.at, self.expected, self.found)
    }
}

impl std::error::Error for Failure {}

impl Case {
    /// Runs the case and tells what the host did, right or wrong.
    ///
    /// # Errors
    ///
    /// [`Failure`] where the host did not do the same each time.
    pub fn observe(&self, host: &dyn Host) -> Result<Observation, Failure> {
        let mut limits = Limits::default();
        if let Some(bytes) = self.header.max_output {
            limits = limits.max_output(bytes);
        }
        let package = match host.load(&self.wasm, limits) {
            Ok(package) => package,
            Err(error) => return Ok(Observation { load: Some(fields(&error)), ..Observation::default() }),
        };
        let runs = || {
            (0..self.header.runs)
                .map(|_| self.run(&*package))
                .reduce(agreed)
                .unwrap_or_else(|| Ok(Observation::default()))
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.header.threads).map(|_| scope.spawn(runs)).collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            joined.reduce(agreed).unwrap_or_else(|| Ok(Observation::default()))
        })
    }

    /// The steps, once.
    fn run(&self, package: &dyn HostPackage) -> Result<Observation, Failure> {
        let mut observation = Observation::default();
        let mut sessions: HashMap<&str, Box<dyn HostSession>> = HashMap::new();
        // A case about opening a session needs no step.
        if self.header.steps.is_empty() {
            observation.open = package.open().err().as_ref().map(fields);
        }
        for step in &self.header.steps {
            if let Call::Close = step.call {
                sessions.remove(step.session.as_str());
                continue;
            }
            let session = match sessions.entry(&step.session) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => match package.open() {
                    Ok(session) => entry.insert(session),
                    Err(error) => {
                        observation.open = Some(fields(&error));
                        return Ok(observation);
                    }
                },
            };
            let input = match &step.call {
                Call::Generate(text) | Call::Borrow(text) => text.text(),
                Call::Info | Call::Close => String::new(),
            };
            for _ in 0..step.times {
                let result = match &step.call {
                    Call::Generate(_) => session.generate(&input),
                    Call::Borrow(_) => {
                        let mut read = String::new();
                        session.borrow(&input, &mut |output| output.clone_into(&mut read)).map(|()| read)
                    }
                    Call::Info | Call::Close => session.info(),
                };
                let result = result.map_err(|error| fields(&error));
                observation.calls.push(Observed { result, fault: session.fault().as_ref().map(fields) });
            }
        }
        Ok(observation)
    }

    /// Runs the case and compares what the host did with what the case says.
    ///
    /// # Errors
    ///
    /// The first [`Failure`].
    pub fn check(&self, host: &dyn Host) -> Result<Observation, Failure> {
        let observation = self.observe(host)?;
        same("load", self.header.load.as_ref(), observation.load.as_ref())?;
        same("open", self.header.open.as_ref(), observation.open.as_ref())?;
        let mut observed = observation.calls.iter();
        let mut faults: HashMap<&str, &Map<String, Value>> = HashMap::new();
        for (i, step) in self.header.steps.iter().enumerate() {
            if let Call::Close = step.call {
                faults.remove(step.session.as_str());
                continue;
            }
            let trap = step.error.as_ref().filter(|error| error.get("kind").is_some_and(|kind| kind == "trap"));
            if let Some(fault) = step.fault.as_ref().or(trap) {
                faults.insert(&step.session, fault);
            }
            for observed in observed.by_ref().take(step.times as usize) {
                let at = format!("step {}", i + 1);
                step.check(&at, observed)?;
                same(&format!("{at}, fault"), faults.get(step.session.as_str()).copied(), observed.fault.as_ref())?;
            }
        }
        Ok(observation)
    }
}

impl Step {
    /// Compares what a call gave with what it has to give.
    fn check(&self, at: &str, observed: &Observed) -> Result<(), Failure> {
        let (expected, found) = match (&observed.result, &self.output, &self.error) {
            (Err(found), _, Some(expected)) => return same(at, Some(expected), Some(found)),
            (Ok(found), Some(output), _) if output.text() == *found => return Ok(()),
            (found, Some(output), _) => (shown(&output.text()), found),
            (found, None, error) => (Value::from(error.clone().unwrap_or_default()).to_string(), found),
        };
        let found = found.as_ref().map_or_else(Value::to_string, |found| shown(found));
        Err(Failure { at: at.to_owned(), expected, found })
    }
}

/// One of two runs that have to be alike.
fn agreed(first: Result<Observation, Failure>, second: Result<Observation, Failure>) -> Result<Observation, Failure> {
    let (first, second) = (first?, second?);
    if first == second {
        return Ok(first);
    }
    Err(Failure { at: "a later run".to_owned(), expected: first.to_string(), found: second.to_string() })
}

/// An error's kind with its fields, as a tool prints them.
fn fields(error: &Error) -> Value {
    serde_json::to_value::<&ErrorKind>(error.kind()).unwrap_or_default()
}

/// Compares an expected error with what was found; only the fields that are expected count. One that is expected to be
/// `false`, for which TOML has no better word, has to be absent.
fn same(at: &str, expected: Option<&Map<String, Value>>, found: Option<&Value>) -> Result<(), Failure> {
    let matches = match (expected, found) {
        (None, None) => true,
        (Some(expected), Some(found)) => expected.iter().all(|(name, value)| match found.get(name) {
            None | Some(Value::Null) => *value == Value::Bool(false),
            Some(found) => found == value,
        }),
        _ => false,
    };
    if matches {
        return Ok(());
    }
    let expected = expected.map_or("no error".to_owned(), |expected| Value::from(expected.clone()).to_string());
    let found = found.map_or("no error".to_owned(), Value::to_string);
    Err(Failure { at: at.to_owned(), expected, found })
}

/// A text, cut where it is long.
fn shown(text: &str) -> String {
    const ENOUGH: usize = 200;
    match text.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

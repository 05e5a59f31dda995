//! Running a case on a backend.

use std::fmt;

use mistletoe_abi::{AnyBackend, AnyPackage, Error, ErrorKind, Limits};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::case::{Call, Case};

/// What a backend did with a case, in the terms that backends are compared in: outputs, and kinds of errors with all
/// their fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// Where a backend did something else than the case says.
#[derive(Clone, Debug)]
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
    /// Runs the case and tells what the backend did, right or wrong.
    pub fn observe(&self, backend: &AnyBackend) -> Observation {
        let mut observation = Observation { load: None, open: None, calls: Vec::new() };
        let mut limits = Limits::default();
        if let Some(bytes) = self.header.max_output {
            limits = limits.max_output(bytes);
        }
        let session = match AnyPackage::with_limits(backend, &self.wasm, limits) {
            Ok(package) => package.session(),
            Err(error) => {
                observation.load = Some(fields(&error));
                return observation;
            }
        };
        let mut session = match session {
            Ok(session) => session,
            Err(error) => {
                observation.open = Some(fields(&error));
                return observation;
            }
        };
        for step in &self.header.steps {
            let input = match &step.call {
                Call::Info => None,
                Call::Generate(text) => Some(text.text()),
            };
            for _ in 0..step.times {
                let result = match &input {
                    None => session.info(),
                    Some(input) => session.generate(input),
                };
                let result = result.map_err(|error| fields(&error));
                observation.calls.push(Observed { result, fault: session.fault().map(fields) });
            }
        }
        observation
    }

    /// Runs the case and compares what the backend did with what the case says.
    ///
    /// # Errors
    ///
    /// The first [`Failure`].
    pub fn check(&self, backend: &AnyBackend) -> Result<Observation, Failure> {
        let observation = self.observe(backend);
        same("load", self.header.load.as_ref(), observation.load.as_ref())?;
        same("open", self.header.open.as_ref(), observation.open.as_ref())?;
        let steps = self.header.steps.iter().enumerate();
        let expected = steps.flat_map(|(i, step)| std::iter::repeat_n((i, step), step.times as usize));
        let mut fault = None;
        for ((i, step), observed) in expected.zip(&observation.calls) {
            let at = format!("step {}", i + 1);
            match &observed.result {
                Ok(found) => {
                    let expected = step.output.as_ref().map(crate::case::Text::text);
                    if expected.as_ref() != Some(found) {
                        let expected = match (expected, &step.error) {
                            (Some(text), _) => shown(&text),
                            (None, error) => format!("{error:?}"),
                        };
                        return Err(Failure { at, expected, found: shown(found) });
                    }
                }
                Err(error) => {
                    if let Some(output) = &step.output {
                        return Err(Failure { at, expected: shown(&output.text()), found: error.to_string() });
                    }
                    same(&at, step.error.as_ref(), Some(error))?;
                }
            }
            let trap = step.error.as_ref().filter(|error| error.get("kind").is_some_and(|kind| kind == "trap"));
            fault = step.fault.as_ref().or(trap).or(fault);
            same(&format!("{at}, fault"), fault, observed.fault.as_ref())?;
        }
        Ok(observation)
    }
}

/// An error's kind with its fields, as a tool prints them.
fn fields(error: &Error) -> Value {
    serde_json::to_value::<&ErrorKind>(error.kind()).unwrap_or_default()
}

/// Compares an expected error with what was found; only the fields that are expected count.
fn same(at: &str, expected: Option<&Map<String, Value>>, found: Option<&Value>) -> Result<(), Failure> {
    let matches = match (expected, found) {
        (None, None) => true,
        (Some(expected), Some(found)) => expected.iter().all(|(name, value)| found.get(name) == Some(value)),
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

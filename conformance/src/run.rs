//! Running a case on a backend.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::fmt;
use std::mem::take;
use std::panic::resume_unwind;

use mistletoe_abi::types::Problem;
use mistletoe_abi::{Error, ErrorKind, Trap};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::case::{Call, Case, Step};
use crate::host::{Host, HostPackage, HostSession};
use crate::host_functions::OwnError;
use crate::http::Exchanged;
use crate::setup::Setup;

/// What a backend did with a case, in comparable terms: outputs, and kinds of errors with all their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// The error of loading the module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Value>,
    /// The error of opening a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Value>,
    /// One result per call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Observed>,
}

/// What one call did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// The output, or the error.
    pub result: Result<String, Value>,
    /// The error that had poisoned the session by the end of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Value>,
    /// What was written to standard output, where that is not the output.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// What was written to standard error.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// The exit code of a command.
    #[serde(skip_serializing_if = "is_zero")]
    pub exit: u32,
    /// The fuel that the call used, if it is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// The contents of the granted directories.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&serde_json::to_string(self).map_err(|_| fmt::Error)?))
    }
}

/// A difference between what a backend did and what the case says.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The part of the case: `load`, `open`, or the number of a step.
    pub at: String,
    /// The expected result.
    pub expected: String,
    /// The actual result.
    pub found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.at, self.expected, self.found)
    }
}

impl std::error::Error for Failure {}

impl Case {
    /// Runs the case and returns what the host did, right or wrong.
    ///
    /// # Errors
    ///
    /// Returns a [`Failure`] if the host did not do the same each time.
    pub fn observe(&self, host: &dyn Host) -> Result<Observation, Failure> {
        let setup = self.header.setup();
        let package = match host.load(&self.wasm, &setup) {
            Ok(package) => package,
            Err(error) => return Ok(Observation { load: Some(self.fields(&error)), ..Observation::default() }),
        };
        let runs = || {
            (0..self.header.runs)
                .map(|_| self.run(&*package, &setup))
                .reduce(agreed)
                .unwrap_or_else(|| Ok(Observation::default()))
        };
        // A single thread is the caller's, so that the caller can choose its stack size.
        if self.header.threads == 1 {
            return runs();
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.header.threads).map(|_| scope.spawn(runs)).collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            joined.reduce(agreed).unwrap_or_else(|| Ok(Observation::default()))
        })
    }

    /// Runs the steps once.
    fn run(&self, package: &dyn HostPackage, setup: &Setup) -> Result<Observation, Failure> {
        let state = || {
            setup.state().map_err(|error| Failure {
                at: "the state of a session".to_owned(),
                expected: "that it can be made".to_owned(),
                found: error.to_string(),
            })
        };
        let mut observation = Observation::default();
        let mut sessions: HashMap<&str, Box<dyn HostSession>> = HashMap::new();
        // A case about opening a session needs no step.
        if self.header.steps.is_empty() {
            observation.open = package.open(state()?).err().map(|error| self.fields(&error));
        }
        for step in &self.header.steps {
            if let Call::Close = step.call {
                sessions.remove(step.session.as_str());
                continue;
            }
            let session = match sessions.entry(&step.session) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => match package.open(state()?) {
                    Ok(session) => entry.insert(session),
                    Err(error) => {
                        observation.open = Some(self.fields(&error));
                        return Ok(observation);
                    }
                },
            };
            let input = match &step.call {
                Call::Generate(text) | Call::Borrow(text) | Call::Request(text) => text.text(),
                Call::HandleRequest(text) | Call::HandleResponse(text) | Call::HandleFailure(text) => text.text(),
                Call::Schedule(text) | Call::Respond(text) => text.text(),
                Call::Info | Call::Start | Call::Close => String::new(),
            };
            for _ in 0..step.times {
                let mut exit = 0;
                let result = match &step.call {
                    Call::Generate(_) => session.generate(&input),
                    Call::Borrow(_) => {
                        let mut read = String::new();
                        session.borrow(&input, &mut |output| output.clone_into(&mut read)).map(|()| read)
                    }
                    Call::Request(_) => session.request(&input).map(|()| String::new()),
                    Call::HandleRequest(_) => session.exchange(Exchanged::Request(&input)),
                    Call::HandleResponse(_) => session.exchange(Exchanged::Response { text: &input, failed: false }),
                    Call::HandleFailure(_) => session.exchange(Exchanged::Response { text: &input, failed: true }),
                    Call::Schedule(_) => session.schedule(&input),
                    Call::Respond(_) => session.respond(&input),
                    Call::Start => session.start().map(|code| {
                        exit = code;
                        String::new()
                    }),
                    Call::Info | Call::Close => session.info(),
                };
                let (mut stdout, stderr) = session.streams();
                let result = match (&step.call, result) {
                    (Call::Request(_) | Call::Start, Ok(_)) => Ok(take(&mut stdout)),
                    (_, result) => result.map_err(|error| self.fields(&error)),
                };
                let fault = session.fault();
                // How deep an engine's own stack can get depends on the engine, and so does the fuel used by then.
                let overflows =
                    |fault: &Error| matches!(fault.kind(), ErrorKind::Trap { trap: Trap::StackOverflow, .. });
                let fuel = session.fuel().filter(|_| !fault.as_ref().is_some_and(overflows));
                let fault = fault.map(|fault| self.fields(&fault));
                let files = session.state_mut().map(|state| state.files()).unwrap_or_default();
                observation.calls.push(Observed { result, fault, stdout, stderr, exit, fuel, files });
            }
        }
        Ok(observation)
    }

    /// Returns an error's kind with its fields, and the lines of its backtrace in `trace`.
    fn fields(&self, error: &Error) -> Value {
        let mut fields = fields(error);
        // Where these end a guest depends on the engine. A case that records the stack has one place for it.
        let is_engines = matches!(
            error.kind(),
            ErrorKind::TimedOut { .. }
                | ErrorKind::Cancelled { .. }
                | ErrorKind::Trap { trap: Trap::StackOverflow, .. }
        );
        if let (Value::Object(fields), Some(backtrace)) = (&mut fields, error.backtrace())
            && (self.header.backtrace || !is_engines)
        {
            fields.insert("trace".to_owned(), backtrace.to_string().lines().collect());
        }
        fields
    }

    /// Runs the case and compares what the host did with what the case says.
    ///
    /// # Errors
    ///
    /// Returns the first [`Failure`].
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
            let poison = ["trap", "host", "host-panic", "exit", "timed-out", "out-of-fuel", "too-deep"];
            let poisons =
                |error: &&Map<String, Value>| error.get("kind").is_some_and(|kind| poison.iter().any(|p| kind == p));
            let trap = step.error.as_ref().filter(poisons).filter(|_| !matches!(step.call, Call::Start));
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
    /// Compares the result of a call with the expected result.
    fn check(&self, at: &str, observed: &Observed) -> Result<(), Failure> {
        let (expected, found) = match (&observed.result, &self.output, &self.error) {
            (Err(found), _, Some(expected)) => {
                same(at, Some(expected), Some(found))?;
                return self.check_rest(at, observed);
            }
            (Ok(found), Some(output), _) if output.text() == *found => return self.check_rest(at, observed),
            (found, Some(output), _) => (shown(&output.text()), found),
            (found, None, error) => (Value::from(error.clone().unwrap_or_default()).to_string(), found),
        };
        let found = found.as_ref().map_or_else(Value::to_string, |found| shown(found));
        Err(Failure { at: at.to_owned(), expected, found })
    }

    /// Compares the other effects of a call: exit code, fuel, streams and files.
    fn check_rest(&self, at: &str, observed: &Observed) -> Result<(), Failure> {
        let mut parts = vec![("exit code", self.exit.to_string(), observed.exit.to_string())];
        if let Some(fuel) = self.fuel {
            let shown = |fuel: Option<u64>| fuel.map_or("none".to_owned(), |fuel| fuel.to_string());
            parts.push(("fuel", shown(Some(fuel)), shown(observed.fuel)));
        }
        if let Some(stdout) = &self.stdout {
            parts.push(("standard output", stdout.text(), observed.stdout.clone()));
        }
        if let Some(stderr) = &self.stderr {
            parts.push(("standard error", stderr.text(), observed.stderr.clone()));
        }
        if let Some(files) = &self.files {
            // These files exist in every case.
            let outside = [("outside/".to_owned(), String::new()), ("outside/secret".to_owned(), "secret".to_owned())];
            let expected: BTreeMap<_, _> = files.clone().into_iter().chain(outside).collect();
            parts.push(("files", format!("{expected:?}"), format!("{:?}", observed.files)));
        }
        match parts.into_iter().find(|(_, expected, found)| expected != found) {
            Some((part, expected, found)) => {
                Err(Failure { at: format!("{at}, {part}"), expected: shown(&expected), found: shown(&found) })
            }
            None => Ok(()),
        }
    }
}

/// Returns one of two runs, which have to be equal.
fn agreed(first: Result<Observation, Failure>, second: Result<Observation, Failure>) -> Result<Observation, Failure> {
    let (first, second) = (first?, second?);
    if first == second {
        return Ok(first);
    }
    Err(Failure { at: "a later run".to_owned(), expected: first.to_string(), found: second.to_string() })
}

/// Returns an error's kind with its fields, as a tool prints them.
///
/// Differs from that output in three fields: `problems` holds all problems, with their types as text. `own` holds the
/// code of the host's own error, and `message` the message of a host function.
fn fields(error: &Error) -> Value {
    let mut fields = serde_json::to_value::<&ErrorKind>(error.kind()).unwrap_or_default();
    if let (Value::Object(fields), ErrorKind::Interface { problems }) = (&mut fields, error.kind()) {
        fields.insert("problems".to_owned(), problems.iter().map(problem).collect());
    }
    if let (Value::Object(fields), ErrorKind::Host { .. } | ErrorKind::HostPanic { .. }) = (&mut fields, error.kind()) {
        match error.downcast_ref::<OwnError>() {
            Some(own) => fields.insert("own".to_owned(), own.code.into()),
            None => fields.insert("message".to_owned(), error.source().map(ToString::to_string).into()),
        };
    }
    fields
}

fn problem(problem: &Problem) -> Value {
    let mut fields = serde_json::to_value(problem).unwrap_or_default();
    let types = match problem {
        Problem::MissingExport { expected, .. } => [Some(expected), None],
        Problem::UnknownImport { found, .. } => [None, Some(found)],
        Problem::MistypedExport { expected, found, .. } | Problem::MistypedImport { expected, found, .. } => {
            [Some(expected), Some(found)]
        }
        _ => [None, None],
    };
    for (field, ty) in ["expected", "found"].into_iter().zip(types) {
        if let Some(ty) = ty {
            fields[field] = ty.to_string().into();
        }
    }
    fields
}

/// Compares an expected error with the actual error.
///
/// Only the expected fields are compared. TOML has no null: an expected `false` states that the field is absent.
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

/// Quotes a text, and truncates a long one.
fn shown(text: &str) -> String {
    const ENOUGH: usize = 200;
    match text.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

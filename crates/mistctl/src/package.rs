//! Packages as the verbs call them: a session with the package's description, and inputs made of values.

use std::mem;
use std::path::Path;
use std::time::Instant;

use mistletoe::documents::yaml::Mapping;
use mistletoe::documents::{MistInput, MistPackage};
use mistletoe::wasi::Wasi;
use mistletoe::{AnyPackage, AnySession, Error, ErrorKind};

use crate::cli::Limits;
use crate::engines::{freeing_failed, is_panic};
use crate::failure::Failure;
use crate::input::warn_of_name;
use crate::log;
use crate::stats::Stats;
use crate::stderr::{Level, note};

/// A session of a package, whose log is shown.
pub(crate) struct Session<'a> {
    path: &'a Path,
    session: AnySession<Wasi>,
    description: Option<MistPackage>,
    stats: Stats,
}

/// The output of a package.
pub(crate) struct Output {
    pub(crate) text: String,
    /// The trap, if the package panicked and reports it by its output.
    pub(crate) panic: Option<Error>,
}

impl<'a> Session<'a> {
    /// Opens a session and reads the description.
    pub(crate) fn open(package: &AnyPackage<Wasi>, path: &'a Path) -> Result<Self, Failure> {
        let begin = Instant::now();
        let session = package.session_with(log::wasi().build());
        let mut session = session.map_err(|error| Failure::library(path, error))?;
        let mut stats = Stats::default();
        stats.opened(begin, &mut session);
        let description = description(path, &mut session)?;
        Ok(Self { path, session, description, stats })
    }

    /// Returns the package's description of itself, or nothing if it has one of another kind.
    pub(crate) fn description(&self) -> Option<&MistPackage> {
        self.description.as_ref()
    }

    /// Ends the session.
    pub(crate) fn into_description(self) -> Option<MistPackage> {
        self.description
    }

    /// Returns the input for an installation: the values, merged over the package's defaults, and checked.
    pub(crate) fn input(&self, limits: &Limits, name: &str, values: Mapping) -> Result<MistInput, Failure> {
        input(self.path, self.description(), limits, name, values)
    }

    /// Calls the package, and ends the session. Returns what opening it and the call used, also if the call failed.
    pub(crate) fn generate(mut self, input: &str) -> (Result<Output, Failure>, Stats) {
        let begin = Instant::now();
        let output = self.session.generate(input);
        self.stats.called(begin, &mut self.session);
        let fault = self.session.fault().cloned();
        // Dropping the session also drops the log, which then is complete.
        drop(self.session);
        let output = output.map_err(|error| Failure::library(self.path, error));
        (output.map(|text| delivered(self.path, text, fault)), self.stats)
    }
}

/// Returns a package's output. A trap while it was freed is a warning.
fn delivered(path: &Path, text: String, fault: Option<Error>) -> Output {
    match fault {
        // A panic is reported by the output itself.
        Some(fault) if is_panic(&fault) => return Output { text, panic: Some(fault) },
        Some(fault) => {
            note(Level::Warning, &format!("{}: {}", path.display(), freeing_failed(&fault)));
        }
        None => {}
    }
    Output { text, panic: None }
}

/// Returns the input for an installation: the values, merged over the defaults of `description`, and checked against
/// its schema. Warns if they have another name.
pub(crate) fn input(
    path: &Path,
    description: Option<&MistPackage>,
    limits: &Limits,
    name: &str,
    values: Mapping,
) -> Result<MistInput, Failure> {
    warn_of_name(&values, name);
    let Some(package) = description else { return Ok(MistInput::new(name, values)) };
    let input = MistInput::new(name, package.with_defaults(values));
    #[cfg(feature = "schema")]
    if let Some(schema) = &package.input_schema {
        crate::schema::check(path, limits, schema, &input.data)?;
    }
    let _ = (path, limits);
    Ok(input)
}

/// Reads a package's description of itself. Returns nothing if it has one of another kind.
///
/// A `MistPackage` that is not valid is an error: its defaults and its schema must not be passed over.
///
/// What the package logs meanwhile is shown only if the call fails: nobody asked for this call. The state of WASI is
/// as before.
pub(crate) fn description(path: &Path, session: &mut AnySession<Wasi>) -> Result<Option<MistPackage>, Failure> {
    let state = mem::replace(session.state_mut(), Wasi::builder().build());
    let text = session.info();
    let mut state = mem::replace(session.state_mut(), state);
    if text.is_err() {
        log::show(&[state.take_stdout(), state.take_stderr()]);
    }
    let text = text.map_err(|error| Failure::library(path, error))?;
    match MistPackage::parse(&text) {
        Ok(package) => Ok(Some(package)),
        Err(error) => match error.kind() {
            ErrorKind::Document { path, .. } if matches!(path.as_str(), "" | "apiVersion" | "kind") => Ok(None),
            _ => Err(Failure::library(path, error)),
        },
    }
}

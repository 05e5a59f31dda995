//! The same input on every engine that is compiled in: the outputs and the fuel have to be the same.

use std::path::Path;

use mistletoe::protocol::package::GENERATE;
use mistletoe::wasi::{self, Wasi};
use mistletoe::{AnyBackend, AnyPackage, AnySession, Error, ErrorKind, Limits};

use crate::cli::{self, Backend};
use crate::failure::{Failure, in_one_line};
use crate::stderr::{Level, note};
use crate::{deadline, log};

/// What one call of a package came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The fuel of opening the session, and of the call. It is counted if the limits have fuel.
    pub(crate) fuel: (Option<u64>, Option<u64>),
    pub(crate) result: Result<String, Error>,
    /// The error that poisoned the session, if the package returned an output nevertheless.
    pub(crate) fault: Option<Error>,
}

impl Outcome {
    /// Calls a package on a fresh session.
    pub(crate) fn of(package: &AnyPackage<Wasi>, state: Wasi, input: &str) -> Self {
        match package.session_with(state) {
            Ok(mut session) => Self::next(&mut session, input),
            Err(error) => Self { fuel: (None, None), result: Err(error), fault: None },
        }
    }

    /// Calls a package on a session that may be in use already.
    pub(crate) fn next(session: &mut AnySession<Wasi>, input: &str) -> Self {
        let mut fuel = || session.fuel_used().ok().flatten();
        let opening = fuel();
        let result = session.generate(input);
        let fuel = (opening, session.fuel_used().ok().flatten());
        let fault = session.fault().filter(|_| result.is_ok()).cloned();
        Self { fuel, result, fault }
    }

    /// Returns how another outcome differs from this one, if it does.
    ///
    /// An outcome whose time ran out differs from none: when a time is over does not depend on the package alone.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        if self.timed_out() || other.timed_out() {
            return None;
        }
        let error = |outcome: &Self| outcome.result.as_ref().err().or(outcome.fault.as_ref()).map(in_one_line);
        match (&self.result, &other.result) {
            (Ok(one), Ok(two)) if one != two => Some(apart(one, two)),
            _ => match (error(self), error(other)) {
                (one, two) if one != two => {
                    let shown = |error: Option<String>| error.unwrap_or_else(|| "no error".to_owned());
                    Some(format!("{}, instead of {}", shown(two), shown(one)))
                }
                _ if self.fuel != other.fuel => {
                    let shown = |outcome: &Self| {
                        let (opening, call) = outcome.fuel;
                        format!("{} and {}", opening.unwrap_or_default(), call.unwrap_or_default())
                    };
                    let (one, two) = (shown(self), shown(other));
                    Some(format!("{two} units of fuel for opening and calling, instead of {one}"))
                }
                _ => None,
            },
        }
    }

    /// Returns whether the time ran out, be it while a block was freed.
    pub(crate) fn timed_out(&self) -> bool {
        let error = self.result.as_ref().err().or(self.fault.as_ref());
        matches!(error.map(Error::kind), Some(ErrorKind::TimedOut { .. }))
    }
}

/// Returns whether a session's fault is the panic of a package that returned an output nevertheless. Any other fault of
/// a session with an output happened while freeing.
pub(crate) fn is_panic(fault: &Error) -> bool {
    matches!(fault.kind(), ErrorKind::Trap { export: Some(export), .. } if export == GENERATE.name())
}

/// Says that a session's fault, which is no panic, happened while freeing.
pub(crate) fn freeing_failed(fault: &Error) -> String {
    format!("the output is complete, but freeing it failed: {}", in_one_line(fault))
}

/// Says where two texts part.
fn apart(one: &str, two: &str) -> String {
    let at = one.bytes().zip(two.bytes()).position(|(one, two)| one != two).unwrap_or(one.len().min(two.len()));
    format!("an output of {} bytes, instead of {}, that differs from byte {at} on", two.len(), one.len())
}

/// A package that was compiled for several engines.
pub(crate) struct Compiled {
    pub(crate) engine: &'static str,
    /// The package, or why the engine cannot run it: it lacks a feature.
    pub(crate) package: Result<AnyPackage<Wasi>, Error>,
}

/// Compiles a package for each of the backends. Only the first one has to be able to run it.
pub(crate) fn compile(
    path: &Path,
    wasm: &[u8],
    backends: &[AnyBackend],
    limits: Limits,
    arguments: &cli::Limits,
) -> Result<Vec<Compiled>, Failure> {
    let compile = |(i, backend): (usize, &AnyBackend)| {
        let compile = || AnyPackage::with_imports(backend, wasm, &wasi::imports::<Wasi>(), limits);
        let package = deadline::compiling(path, arguments, compile);
        match &package {
            Err(error) if i == 0 || !matches!(error.kind(), ErrorKind::UnsupportedFeature { .. }) => {
                Err(Failure::library(path, error.clone()))
            }
            _ => Ok(Compiled { engine: backend.name(), package }),
        }
    };
    backends.iter().enumerate().map(compile).collect()
}

/// Compares the outcome of `input` on the first engine with that on each of the others.
pub(crate) fn cross_check(
    path: &Path,
    wasm: &[u8],
    backend: &Backend,
    limits: &cli::Limits,
    input: &str,
) -> Result<(), Failure> {
    let backends = backend.start_all()?;
    let mut compared: Vec<(&str, Outcome)> = Vec::new();
    for Compiled { engine, package } in compile(path, wasm, &backends, limits.with_fuel_counted(), limits)? {
        match package {
            Err(error) => note(Level::Warning, &format!("{engine} is left out: {}", in_one_line(&error))),
            Ok(package) => compared.push((engine, Outcome::of(&package, log::discarded(log::MAX).build(), input))),
        }
    }
    let Some(((first, expected), others)) = compared.split_first() else { return Ok(()) };
    for (engine, outcome) in others {
        if let Some(difference) = expected.difference(outcome) {
            return Err(Failure::engines(path, format!("{engine} differs from {first}: {difference}")));
        }
        if outcome.timed_out() && !expected.timed_out() {
            note(Level::Warning, &format!("{engine} is left out: its time ran out"));
        }
    }
    if others.is_empty() {
        note(Level::Warning, &format!("{first} is the only engine in this build, so nothing was compared"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome(result: Result<&str, ErrorKind>, fuel: u64) -> Outcome {
        let result = result.map(str::to_owned).map_err(Error::new);
        Outcome { fuel: (Some(1), Some(fuel)), result, fault: None }
    }

    #[test]
    fn outcomes_differ_in_bytes_errors_and_fuel() {
        let one = outcome(Ok("abc"), 5);
        assert_eq!(one.difference(&one), None);
        for (other, difference) in [
            (outcome(Ok("abd"), 5), "an output of 3 bytes, instead of 3, that differs from byte 2 on"),
            (outcome(Ok("ab"), 5), "an output of 2 bytes, instead of 3, that differs from byte 2 on"),
            (outcome(Ok("abc"), 6), "1 and 6 units of fuel for opening and calling, instead of 1 and 5"),
        ] {
            assert_eq!(one.difference(&other).as_deref(), Some(difference));
        }
        let failed = outcome(Err(ErrorKind::Allocation { length: 1 }), 5);
        assert_eq!(failed.difference(&failed), None);
        assert!(one.difference(&failed).is_some_and(|text| text.ends_with("instead of no error")));
        assert!(failed.difference(&one).is_some_and(|text| text.starts_with("no error, instead of")));
        let late = ErrorKind::TimedOut { limit: Duration::from_secs(1), export: None };
        let late = outcome(Err(late), 7);
        assert_eq!((one.difference(&late), late.difference(&one)), (None, None));
    }
}

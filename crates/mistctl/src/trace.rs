//! Traces of packages: a call that failed is repeated with code that records where the package is.

use std::path::Path;
use std::time::Instant;

use mistletoe::protocol::Region;
use mistletoe::wasi;
use mistletoe::{AnyBackend, AnyPackage, Error, ErrorKind};

use crate::cli::Limits;
use crate::failure::{Failure, in_one_line};
use crate::stderr::{Level, note};
use crate::{deadline, log};

/// What it takes to repeat a call of a package.
pub(crate) struct Repeat<'a> {
    pub(crate) path: &'a Path,
    pub(crate) wasm: &'a [u8],
    pub(crate) backend: &'a AnyBackend,
    pub(crate) limits: mistletoe::Limits,
    pub(crate) arguments: &'a Limits,
    /// When the call began.
    pub(crate) begun: Instant,
}

impl Repeat<'_> {
    /// Repeats a call that failed, and returns the same failure with where the package was, if that is not known yet.
    ///
    /// A package is hermetic, so it does the same again. It gets the time that the call left. `input` is `None` if the
    /// call failed before there was one. If all this takes longer than a compilation may, reports the failure and exits
    /// the process.
    pub(crate) fn traced(&self, input: Option<&str>, failure: Failure) -> Failure {
        let Some(fault) = failure.fault().filter(|fault| is_in_guest(fault) && fault.backtrace().is_none()).cloned()
        else {
            return failure;
        };
        let left = self.limits.timeout().map(|timeout| timeout.saturating_sub(self.begun.elapsed()));
        let limits = self.limits.with_timeout(left).with_backtrace(true);
        let late = |_| match &failure {
            Failure::Package { message, .. } => Failure::Package { message: message.clone(), fault: None },
            _ => Failure::library(self.path, fault.clone()),
        };
        let again = deadline::or_fail(self.arguments, late, || self.call(limits, input));
        let why = match again {
            Some(again) if again.kind() == fault.kind() => return failure.with_fault(again),
            Some(again) => format!("failed in another way: {}", in_one_line(&again)),
            None => "did not fail".to_owned(),
        };
        let package = self.path.display();
        note(Level::Warning, &format!("{package}: there is no trace, because the call was repeated and {why}"));
        failure
    }

    /// Calls the package as [`Session`](crate::package::Session) does, and returns the error.
    ///
    /// What the package logs is not shown.
    fn call(&self, limits: mistletoe::Limits, input: Option<&str>) -> Option<Error> {
        let run = || {
            let package = AnyPackage::with_imports(self.backend, self.wasm, &wasi::imports(), limits)?;
            let mut session = package.session_with(log::silent().build())?;
            session.info()?;
            if let Some(input) = input {
                session.generate(input)?;
            }
            Ok(session.fault().cloned())
        };
        run().unwrap_or_else(Some)
    }
}

/// Returns whether a function of the guest failed, for another reason than the time.
fn is_in_guest(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Trap { .. }
            | ErrorKind::Host { .. }
            | ErrorKind::HostPanic { .. }
            | ErrorKind::Aborted { .. }
            | ErrorKind::OutOfFuel { .. }
            | ErrorKind::TooDeep { .. }
            | ErrorKind::OutOfBounds { region: Region::Argument { .. }, .. }
            | ErrorKind::InvalidUtf8 { region: Region::Argument { .. }, .. }
    )
}

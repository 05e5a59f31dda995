//! The time limit of what cannot be interrupted: a compilation, and a check of values.

use std::path::Path;
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::cli::Limits;
use crate::failure::Failure;

/// Runs the compilation of a module within its time limit.
///
/// When the time is over, reports the error and exits the process, because no engine can be told to stop.
pub(crate) fn compiling<R>(module: &Path, limits: &Limits, compile: impl FnOnce() -> R) -> R {
    within(module, limits, "compiling", compile)
}

/// Runs the check of values within the time limit of a compilation, in the same way.
#[cfg(feature = "schema")]
pub(crate) fn checking<R>(package: &Path, limits: &Limits, check: impl FnOnce() -> R) -> R {
    within(package, limits, "checking the values", check)
}

fn within<R>(module: &Path, limits: &Limits, activity: &'static str, run: impl FnOnce() -> R) -> R {
    let file = module.display().to_string();
    or_fail(limits, |limit| Failure::Late { file, activity, limit }, run)
}

/// Runs what cannot be interrupted within the time limit of a compilation.
///
/// When the time is over, reports `late` and exits the process.
pub(crate) fn or_fail<R>(limits: &Limits, late: impl FnOnce(Duration) -> Failure, run: impl FnOnce() -> R) -> R {
    let Some(limit) = limits.compilation() else { return run() };
    let (ended, waiting) = mpsc::channel::<()>();
    let late = late(limit);
    let watch = move || {
        if waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            late.report();
            process::exit(late.status().into());
        }
    };
    // The work stays on the main thread, which has the larger stack. Without a second thread there is no limit.
    let watch = thread::Builder::new().spawn(watch).ok();
    let result = run();
    drop(ended);
    // If the time is already over, this does not return.
    let _ = watch.map(thread::JoinHandle::join);
    result
}

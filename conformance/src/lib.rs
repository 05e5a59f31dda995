//! The conformance suite: one list of cases that every backend has to pass with the same observable result.
//!
//! A case is a file `fixtures/<group>/<case>.wat`: a module with a header of lines that start with `;;!` and hold TOML.
//! The header names the rules of `docs/abi.md` that the case tests, the calls to make, and the expected results:
//!
//! ```text
//! ;;! about = "the output is freed after the input"
//! ;;! rules = [3]
//! ;;!
//! ;;! [[step]]
//! ;;! generate = "some input"
//! ;;! output = "some output"
//! ```
//!
//! See [`Header`](case::Header) for all keys of a header. Expectations stand in headers only, not in code.
//!
//! To test a custom backend, run every case on it:
//!
//! ```no_run
//! # fn my_backend() -> mistletoe_abi::AnyBackend { unimplemented!() }
//! use mistletoe_conformance::{Report, cases};
//!
//! let backend = my_backend();
//! let report = Report::run(&cases()?, &[&backend], |_| ());
//! println!("{}", report.terminal(false));
//! assert!(report.is_good());
//! # Ok::<(), mistletoe_conformance::BadCase>(())
//! ```
//!
//! With the feature `server`, `server::cases` returns further cases: those of `mistletoe-serve` on a backend.

#![forbid(unsafe_code)]

pub mod case;
pub mod host;
pub mod host_functions;
pub mod http;
pub mod report;
mod run;
pub mod scheduler;
#[cfg(feature = "server")]
pub mod server;
pub mod setup;
pub mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use case::Known;
use setup::Protocol;

pub use case::Case;
pub use report::Report;
pub use run::{Failure, Observation};

/// A fixture that cannot be used: unreadable, malformed, or with a header that proves nothing.
#[derive(Debug)]
pub struct BadCase {
    path: PathBuf,
    problem: String,
}

impl fmt::Display for BadCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for BadCase {}

/// Returns all cases that a backend has to pass, sorted by group and name.
///
/// # Errors
///
/// Returns [`BadCase`] for the first fixture that cannot be used, and if there are no fixtures.
pub fn cases() -> Result<Vec<Case>, BadCase> {
    let mut cases = fixtures()?;
    cases.retain(|case| case.header.protocol != Protocol::Server);
    Ok(cases)
}

/// Reads all fixtures.
fn fixtures() -> Result<Vec<Case>, BadCase> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut cases = Vec::new();
    for group in entries(&root)? {
        for path in entries(&group)? {
            cases.push(Case::read(&path)?);
        }
    }
    if cases.is_empty() {
        return Err(BadCase { path: root, problem: "there is no fixture here".to_owned() });
    }
    Ok(cases)
}

/// Marks the cases that a backend is known to fail.
///
/// `table` is a TOML table. Its keys are reasons, and each value is a list of case names. A marked case that passes is
/// an error, too.
///
/// # Errors
///
/// Returns [`BadCase`] if `table` is not such a table, or names a case that does not exist.
pub fn known_failures(cases: &mut [Case], backend: &str, table: &str) -> Result<(), BadCase> {
    let bad = |problem: String| BadCase { path: "known failures".into(), problem };
    let known: BTreeMap<String, Vec<String>> = toml::from_str(table).map_err(|error| bad(error.to_string()))?;
    for (reason, names) in known {
        for name in names {
            let case = cases.iter_mut().find(|case| case.to_string() == name);
            let case = case.ok_or_else(|| bad(format!("there is no case `{name}`")))?;
            case.header.known.push(Known::new(backend, &reason));
        }
    }
    Ok(())
}

/// Lists a directory, sorted by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, BadCase> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut paths: Vec<_> =
            std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        paths.sort();
        Ok(paths)
    };
    list().map_err(|error| BadCase { path: folder.to_owned(), problem: error.to_string() })
}

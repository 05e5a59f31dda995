//! Runs the cases and WebAssembly's own suite on every backend that is built in.
//!
//! Runs them as named tests, or as a matrix (`cargo xtask conformance`). Also runs the cases on faulty hosts (`cargo
//! xtask conformance --self-test`).

mod faults;
mod faulty;
mod limited;
mod matrix;
mod selftest;
mod suite;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use mistletoe::AnyBackend;
use mistletoe_conformance::case::Header;
use mistletoe_conformance::report::Verdict;
use mistletoe_conformance::{BadCase, Case};

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("matrix") => matrix::run(),
        _ => tests(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

/// Runs one test per case and backend, and one per fault.
fn tests() -> Result<ExitCode, Error> {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for backend in backends()? {
        for case in cases()? {
            let backend = backend.clone();
            trials.push(Trial::test(format!("{}::{case}", backend.name()), move || match case.judge(&backend) {
                Verdict::Failed(failure) => Err(failure.into()),
                Verdict::UnexpectedPass { reason } => Err(format!("passed, but is said to fail: {reason}").into()),
                _ => Ok(()),
            }));
        }
    }
    // Backends that pass a case can still differ from each other. CI makes a whole report of it.
    let report = std::env::var_os("CONFORMANCE_CHECK").map(PathBuf::from);
    match report {
        Some(path) => trials.push(Trial::test("report::is-up-to-date", move || {
            matrix::check(&path, &backends()?).map_err(|error| error.to_string().into())
        })),
        None => {
            trials.push(Trial::test("backends::agree", || {
                let backends = backends()?;
                let hosts: Vec<_> = backends.iter().map(|backend| backend as _).collect();
                let mut report = mistletoe_conformance::Report::run(&cases()?, &hosts, |_| ());
                report.cases.retain(|row| row.differs);
                if report.cases.is_empty() { Ok(()) } else { Err(report.terminal(true).into()) }
            }));
            trials.extend(suite::trials(&backends()?));
        }
    }
    trials.push(Trial::test("limits::change_nothing", || limited::change_nothing(Some(u64::MAX))));
    trials.push(Trial::test("limits::change_nothing-without-fuel", || limited::change_nothing(None)));
    trials.push(Trial::test("backtrace::changes_nothing", limited::recording_changes_nothing));
    trials.push(Trial::test("suite::a-wrong-step-is-seen", || suite::wrong_steps_are_seen(&backends()?)));
    trials.push(Trial::test("rules::tested", rules_are_tested));
    trials.extend(selftest::trials(cases()?));
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// Checks that a case names every numbered rule of a protocol's document, and that no case names another number.
fn rules_are_tested() -> Result<(), libtest_mimic::Failed> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut tested = BTreeMap::<_, BTreeSet<u32>>::new();
    for Header { protocol, rules, .. } in cases()?.into_iter().map(|case| case.header) {
        if let Some(document) = protocol.document() {
            tested.entry(document).or_default().extend(rules);
        }
    }
    for (document, tested) in tested {
        let text = std::fs::read_to_string(docs.join(document))?;
        let rules = text.lines().filter_map(|line| line.split_once(". **")?.0.parse().ok());
        let rules: BTreeSet<u32> = rules.collect();
        if rules.is_empty() || rules != tested {
            return Err(format!("{document}: the rules are {rules:?}, and those that cases name are {tested:?}").into());
        }
    }
    Ok(())
}

/// Returns the cases of backends, and those of the server.
fn cases() -> Result<Vec<Case>, BadCase> {
    Ok([mistletoe_conformance::cases()?, mistletoe_conformance::server::cases()?].concat())
}

fn backends() -> Result<Vec<AnyBackend>, mistletoe::Error> {
    let enabled = mistletoe::backends().iter().filter(|info| info.is_enabled());
    enabled.map(|info| mistletoe::backend(info.name())).collect()
}

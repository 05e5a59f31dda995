//! The suite on every backend that is built in: as named tests, as a matrix (`cargo xtask conformance`), and on hosts
//! that do things wrong (`cargo xtask conformance --self-test`).

mod faults;
mod faulty;
mod matrix;
mod selftest;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use mistletoe::AnyBackend;
use mistletoe_conformance::report::Verdict;

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

/// One test a case and backend, and one a fault.
fn tests() -> Result<ExitCode, Error> {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for backend in backends()? {
        for case in mistletoe_conformance::cases()? {
            let backend = backend.clone();
            trials.push(Trial::test(format!("{}::{case}", backend.name()), move || match case.judge(&backend) {
                Verdict::Failed(failure) => Err(failure.into()),
                Verdict::UnexpectedPass { reason } => Err(format!("passed, but is said to fail: {reason}").into()),
                _ => Ok(()),
            }));
        }
    }
    // What each backend passes alone they may still do in different ways.
    trials.push(Trial::test("backends::agree", || {
        let backends = backends()?;
        let hosts: Vec<_> = backends.iter().map(|backend| backend as _).collect();
        let mut report = mistletoe_conformance::Report::run(&mistletoe_conformance::cases()?, &hosts, |_| ());
        report.cases.retain(|row| row.differs);
        if report.cases.is_empty() { Ok(()) } else { Err(report.terminal(true).into()) }
    }));
    trials.extend(selftest::trials(mistletoe_conformance::cases()?));
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn backends() -> Result<Vec<AnyBackend>, mistletoe::Error> {
    let enabled = mistletoe::backends().iter().filter(|info| info.is_enabled());
    enabled.map(|info| mistletoe::backend(info.name())).collect()
}

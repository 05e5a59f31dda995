//! `cargo xtask conformance --self-test`: hosts that each do one thing wrong. A suite that one of them passes is not
//! worth passing.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use mistletoe_conformance::{Case, Failure, Observation};

use crate::Error;
use crate::faults::FAULTS;
use crate::faulty::{Fault, FaultyHost, SOUND};

/// How long a case may take on a host before that counts as wrong.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many of a fault's cases are named.
const NAMED: usize = 3;

/// What a case makes of a host.
enum Outcome {
    Passed(Observation),
    Caught(Failure),
    /// The case ended in a panic, which is a catch too, but a fault of the self-test's.
    Panicked,
    /// The case did not end.
    Hung,
}

impl Outcome {
    /// Tries a host. It gets a thread of its own, so that no fault can take the suite down or keep it.
    fn of(case: &Arc<Case>, fault: Fault) -> Self {
        let (done, outcome) = channel();
        let case = case.clone();
        let spawned = thread::Builder::new().spawn(move || {
            let _ = done.send(case.check(&FaultyHost(fault)));
        });
        match outcome.recv_timeout(PATIENCE) {
            Ok(Ok(observation)) => Self::Passed(observation),
            Ok(Err(failure)) => Self::Caught(failure),
            Err(RecvTimeoutError::Timeout) => Self::Hung,
            Err(RecvTimeoutError::Disconnected) => {
                drop(spawned);
                Self::Panicked
            }
        }
    }
}

/// The cases that a faultless host on wasmi passes, those first that take less time.
fn sorted(cases: Vec<Case>) -> Vec<Arc<Case>> {
    let known = |case: &Case| case.header.known.iter().any(|known| known.backend == "wasmi");
    let mut cases: Vec<_> = cases.into_iter().filter(|case| !known(case)).map(Arc::new).collect();
    cases.sort_by_key(|case| u64::from(case.header.runs) * u64::from(case.header.threads));
    cases
}

/// One test a fault: some case catches it.
pub(crate) fn trials(cases: Vec<Case>) -> Vec<Trial> {
    let cases: Arc<[Arc<Case>]> = sorted(cases).into();
    let trial = |fault: &'static Fault| {
        let cases = cases.clone();
        Trial::test(format!("self-test::{}", fault.name), move || {
            for case in &*cases {
                match Outcome::of(case, *fault) {
                    Outcome::Passed(_) => {}
                    Outcome::Caught(_) => return Ok(()),
                    Outcome::Panicked => return Err(Failed::from(format!("{case} panicked"))),
                    Outcome::Hung => return Err(Failed::from(format!("{case} hangs"))),
                }
            }
            Err(Failed::from("no case catches this fault"))
        })
    };
    FAULTS.iter().map(trial).collect()
}

/// Runs every fault on all cases, and shows which cases catch it.
pub(crate) fn run(cases: Vec<Case>, verbose: bool) -> Result<ExitCode, Error> {
    let mut text = String::new();
    let mut expected = Vec::new();
    let mut unfit = 0;
    let mut cases = sorted(cases);
    cases.retain(|case| {
        let problem = match Outcome::of(case, SOUND) {
            Outcome::Passed(observation) => {
                expected.push(observation);
                return true;
            }
            Outcome::Caught(failure) => failure.to_string(),
            Outcome::Panicked => "a panic".to_owned(),
            Outcome::Hung => "it hangs".to_owned(),
        };
        unfit += 1;
        text += &format!("{case} FAILS WITHOUT A FAULT: {problem}\n");
        false
    });

    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        while let Some(fault) = FAULTS.get(next.fetch_add(1, Relaxed)) {
            let outcomes: Vec<_> = cases.iter().map(|case| Outcome::of(case, *fault)).collect();
            crate::faulty::lock(&results).push((fault, outcomes));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner()?;
    let position = |fault: &Fault| FAULTS.iter().position(|other| other.name == fault.name);
    results.sort_by_key(|(fault, _)| position(fault));

    let mut missed = 0;
    let mut idle = vec![true; cases.len()];
    for (fault, outcomes) in &results {
        let mut caught = Vec::new();
        let mut differs = Vec::new();
        for (i, outcome) in outcomes.iter().enumerate() {
            let case = &cases[i];
            match outcome {
                Outcome::Passed(observation) if *observation != expected[i] => differs.push(case.to_string()),
                Outcome::Passed(_) => continue,
                Outcome::Caught(failure) if verbose => caught.push(format!("{case} ({failure})")),
                Outcome::Caught(_) => caught.push(case.to_string()),
                Outcome::Panicked => caught.push(format!("{case} (a panic)")),
                Outcome::Hung => caught.push(format!("{case} (hangs)")),
            }
            idle[i] = false;
        }
        write!(text, "{}: ", fault.name)?;
        if caught.is_empty() {
            missed += 1;
            text += "NOT CAUGHT";
            if !differs.is_empty() {
                write!(text, ", but seen by comparison with another host in {}", differs.join(", "))?;
            }
        } else if verbose {
            write!(text, "caught by {} cases:\n  {}", caught.len(), caught.join("\n  "))?;
        } else {
            let more = if caught.len() > NAMED { ", …" } else { "" };
            let named: Vec<_> = caught.iter().take(NAMED).map(String::as_str).collect();
            write!(text, "caught by {} cases: {}{more}", caught.len(), named.join(", "))?;
        }
        text.push('\n');
    }
    let idle: Vec<_> = cases.iter().zip(idle).filter(|(_, idle)| *idle).map(|(case, _)| case.to_string()).collect();
    writeln!(
        text,
        "\n{} cases catch nothing{}{}",
        idle.len(),
        if idle.is_empty() { "" } else { ": " },
        idle.join(", ")
    )?;
    writeln!(text, "{} faults, {} of them caught", results.len(), results.len() - missed)?;
    print!("{text}");
    Ok(if missed + unfit == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

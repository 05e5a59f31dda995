//! `cargo xtask conformance --self-test`: runs the cases on hosts with one fault each.
//!
//! The suite has to catch every fault.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use mistletoe_conformance::{Case, Failure, Observation};

use crate::faulty::{Fault, FaultyHost, SOUND, lock};
use crate::{Error, faults};

/// How long a case may take on a host before it counts as a failure.
const PATIENCE: Duration = Duration::from_secs(20);
/// A case that takes longer than this does not run on every fault.
const SLOW: Duration = Duration::from_millis(25);
/// The number of cases to print per fault.
const NAMED: usize = 3;

/// The result of a case on a host.
enum Outcome {
    Passed(Observation),
    Caught(Failure),
    /// The case panicked, which is an error of the self-test.
    Panicked,
    /// The case did not end.
    Hung,
}

/// A case that passes on a host without a fault.
struct Fit {
    case: Arc<Case>,
    expected: Observation,
    took: Duration,
}

/// What is known of a fault.
///
/// Holds the cases that caught it, with the failures, and the cases that passed with another observation than without
/// the fault.
#[derive(Default)]
struct Findings {
    caught: Vec<(usize, String)>,
    differs: Vec<usize>,
}

impl Outcome {
    /// Runs the case on a host, on a thread of its own, so that no fault can crash or block the suite.
    fn of(case: &Arc<Case>, fault: Fault) -> Self {
        let (done, outcome) = channel();
        let case = case.clone();
        thread::spawn(move || {
            // There is no receiver if the case took too long.
            let _ = done.send(case.check(&FaultyHost(fault)));
        });
        match outcome.recv_timeout(PATIENCE) {
            Ok(Ok(observation)) => Self::Passed(observation),
            Ok(Err(failure)) => Self::Caught(failure),
            Err(RecvTimeoutError::Timeout) => Self::Hung,
            Err(RecvTimeoutError::Disconnected) => Self::Panicked,
        }
    }
}

impl Findings {
    fn add(&mut self, i: usize, fit: &Fit, fault: Fault) {
        match Outcome::of(&fit.case, fault) {
            Outcome::Passed(observation) if observation != fit.expected => self.differs.push(i),
            Outcome::Passed(_) => {}
            Outcome::Caught(failure) => self.caught.push((i, failure.to_string())),
            Outcome::Panicked => self.caught.push((i, "a panic".to_owned())),
            Outcome::Hung => self.caught.push((i, "it hangs".to_owned())),
        }
    }
}

/// Returns the cases that pass on a host without a fault, fastest first, and the problems of the others.
///
/// Leaves out cases that wasmi is known to fail.
fn fit(cases: Vec<Case>) -> (Vec<Fit>, Vec<String>) {
    let (mut fit, mut unfit) = (Vec::new(), Vec::new());
    for case in cases {
        if case.header.known.iter().any(|known| known.backend == "wasmi") {
            continue;
        }
        let case = Arc::new(case);
        let begin = Instant::now();
        match Outcome::of(&case, SOUND) {
            Outcome::Passed(expected) => fit.push(Fit { case, expected, took: begin.elapsed() }),
            Outcome::Caught(failure) => unfit.push(format!("{case}: {failure}")),
            Outcome::Panicked => unfit.push(format!("{case}: a panic")),
            Outcome::Hung => unfit.push(format!("{case}: it hangs")),
        }
    }
    fit.sort_by_key(|fit| fit.took);
    (fit, unfit)
}

/// Returns one test per fault, which requires that some case catches it.
///
/// A further test requires that the cases pass without a fault. A case that fails there cannot detect faults.
pub(crate) fn trials(cases: Vec<Case>) -> Vec<Trial> {
    let cases = Mutex::new(cases);
    let all = Arc::new((cases, OnceLock::new()));
    let trial = |fault: &'static Fault| {
        let all = all.clone();
        Trial::test(format!("self-test::{}", fault.name), move || {
            let (cases, found) = &*all;
            let (cases, _) = found.get_or_init(|| fit(std::mem::take(&mut *lock(cases))));
            for fit in cases {
                match Outcome::of(&fit.case, *fault) {
                    Outcome::Passed(_) => {}
                    Outcome::Caught(_) => return Ok(()),
                    Outcome::Panicked => return Err(Failed::from(format!("{} panicked", fit.case))),
                    Outcome::Hung => return Err(Failed::from(format!("{} hangs", fit.case))),
                }
            }
            Err(Failed::from("no case catches this fault"))
        })
    };
    let sound = {
        let all = all.clone();
        Trial::test("self-test::without-a-fault", move || {
            let (cases, found) = &*all;
            let (_, unfit) = found.get_or_init(|| fit(std::mem::take(&mut *lock(cases))));
            if unfit.is_empty() { Ok(()) } else { Err(unfit.join("\n").into()) }
        })
    };
    faults::all().map(trial).chain([sound]).collect()
}

/// Processes each item, on all processors.
fn each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

/// Runs every fault on all cases, and shows which cases catch it.
///
/// A slow case runs on the faults that nothing else has caught, and until it has caught one fault. With `thorough`, it
/// runs on all faults.
pub(crate) fn run(cases: Vec<Case>, thorough: bool) -> Result<ExitCode, Error> {
    let (cases, unfit) = fit(cases);
    for problem in &unfit {
        println!("FAILS WITHOUT A FAULT: {problem}");
    }

    let quick = if thorough { cases.len() } else { cases.partition_point(|fit| fit.took <= SLOW) };
    let (quick, slow) = (0..quick, quick..cases.len());
    let results: Vec<_> = faults::all().map(|fault| (fault, Mutex::new(Findings::default()))).collect();
    each(&results, |(fault, findings)| {
        let mut findings = lock(findings);
        for i in quick.clone() {
            findings.add(i, &cases[i], **fault);
        }
        for i in slow.clone() {
            if findings.caught.is_empty() {
                findings.add(i, &cases[i], **fault);
            }
        }
    });
    let caught_by = |i: usize, findings: &Findings| findings.caught.iter().any(|(by, _)| *by == i);
    // A slow case most likely catches faults that few other cases catch.
    let mut rare: Vec<_> = results.iter().collect();
    rare.sort_by_key(|(_, findings)| lock(findings).caught.len());
    for i in slow {
        for (fault, findings) in &rare {
            if results.iter().any(|(_, findings)| caught_by(i, &lock(findings))) {
                break;
            }
            lock(findings).add(i, &cases[i], **fault);
        }
    }

    let name = |i: &usize| cases[*i].case.to_string();
    let mut missed = 0;
    for (fault, findings) in &results {
        let Findings { caught, differs } = &*lock(findings);
        let differs: Vec<_> = differs.iter().map(name).collect();
        match caught.len() {
            0 => {
                missed += 1;
                let seen = if differs.is_empty() { "" } else { "; by comparison with another host only: " };
                println!("{}: NOT CAUGHT{seen}{}", fault.name, differs.join(", "));
            }
            count if thorough => {
                println!("{}: caught by {count} cases", fault.name);
                for (i, failure) in caught {
                    println!("    {}: {failure}", name(i));
                }
            }
            count => {
                let names: Vec<_> = caught.iter().take(NAMED).map(|(i, _)| name(i)).collect();
                let more = if count > NAMED { ", …" } else { "" };
                println!("{}: caught by {count} cases: {}{more}", fault.name, names.join(", "));
            }
        }
    }
    let idle = |i: &usize| !results.iter().any(|(_, findings)| caught_by(*i, &lock(findings)));
    for i in (0..cases.len()).filter(idle) {
        println!("catches nothing: {}", name(&i));
    }
    println!("{} faults, {missed} of them not caught by {} cases", results.len(), cases.len());
    Ok(if missed == 0 && unfit.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

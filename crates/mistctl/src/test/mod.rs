//! `mistctl test`.

mod case;
mod diff;
mod junit;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use mistletoe::AnyPackage;
use mistletoe::documents::{MistPackage, MistResult};
use mistletoe::wasi::{self, Wasi};

use crate::cli;
use crate::failure::{Failure, in_one_line};
use crate::package::Session;
use crate::stderr::printable;
use crate::{deadline, engines, files, log, package, print};
use case::{Case, Expected};

/// Maximum number of tests of a package.
const MAX_TESTS: usize = 10_000;
/// Time between two checks of the files with `--watch`.
const INTERVAL: Duration = Duration::from_millis(300);

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    mistctl test\n  \
    mistctl test app -p target/wasm32-wasip1/release/app.wasm --update\n  \
    mistctl test app --junit report.xml\n\n\
    A test is a file `tests/NAME.yaml` below DIR:\n  \
    name: web             # name of the installation, or else NAME\n  \
    values: {replicas: 2} # the input, as `generate -f` takes it\n  \
    files:                # what has to come back; --update writes it\n    \
    app.yaml: |\n      \
    kind: Deployment\n  \
    error: no such tier   # or the message of `Err`, instead of `files`\n\n\
    Exits with status 1 if a test fails.")]
pub(crate) struct Test {
    /// The package's directory.
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// The package, not a program [default: the only `.wasm` file in DIR, or else the only `.wat` file].
    #[arg(short, long, value_name = "PKG")]
    package: Option<PathBuf>,
    /// Run only the tests whose name contains TEXT.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Write what comes back into the tests, as what they expect.
    #[arg(long)]
    update: bool,
    /// Also write the results to FILE, as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Run the tests again whenever the package or a test changes, until interrupted.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    backend: cli::Backend,
    #[command(flatten)]
    limits: cli::Limits,
}

pub(crate) fn run(arguments: &Test) -> Result<(), Failure> {
    if !arguments.watch {
        return once(arguments);
    }
    loop {
        // What changes while the tests run is seen afterwards.
        let before = state(arguments);
        match once(arguments) {
            Ok(()) | Err(Failure::Tests { .. }) => {}
            // Nobody reads on.
            Err(failure @ Failure::File { action: "written", .. }) => return Err(failure),
            Err(failure) => failure.report(),
        }
        // Its own updates are no reason to run again.
        let before = if arguments.update { state(arguments) } else { before };
        while state(arguments) == before {
            thread::sleep(INTERVAL);
        }
    }
}

/// The files that the result depends on: their length and time.
fn state(arguments: &Test) -> Vec<(PathBuf, Option<(u64, SystemTime)>)> {
    let package = arguments.package.clone().map(Ok).unwrap_or_else(|| module(&arguments.directory));
    let tests = tests(&arguments.directory).unwrap_or_default();
    let of = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok();
        let state = metadata.and_then(|metadata| Some((metadata.len(), metadata.modified().ok()?)));
        (path, state)
    };
    package.into_iter().chain(tests).map(of).collect()
}

/// A test that was run.
struct Run {
    name: String,
    time: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Updated,
    /// In one line, and the rest.
    Failed(String, String),
}

/// Runs all tests once.
fn once(arguments: &Test) -> Result<(), Failure> {
    let path = match &arguments.package {
        Some(path) => path.clone(),
        None => module(&arguments.directory)?,
    };
    let mut tests = tests(&arguments.directory)?;
    if let Some(filter) = &arguments.filter {
        tests.retain(|path| case::name(path).contains(filter));
    }
    if tests.is_empty() {
        let text = match &arguments.filter {
            Some(filter) => format!("no test in {} has a name with {filter:?}", arguments.directory.display()),
            None => format!("there are no tests: {} has none", arguments.directory.join("tests").display()),
        };
        return Err(Failure::usage(text));
    }
    let file = files::module(&path)?;
    let package = deadline::compiling(&path, &arguments.limits, || {
        let wasm = files::assembled(&path, file)?;
        let (imports, limits) = (wasi::imports::<Wasi>(), arguments.limits.get());
        AnyPackage::with_imports(&arguments.backend.start()?, &wasm, &imports, limits)
            .map_err(|error| Failure::library(&path, error))
    })?;

    let description = Session::open(&package, &path)?.into_description();
    let tested = Tested { path: &path, package: &package, description: description.as_ref() };
    let mut runs = Vec::new();
    for test in &tests {
        let begin = Instant::now();
        let outcome = tested.run(arguments, test)?;
        let run = Run { name: case::name(test), time: begin.elapsed(), outcome };
        print(&printable(&run.to_text()))?;
        runs.push(run);
    }
    let failed = runs.iter().filter(|run| matches!(run.outcome, Outcome::Failed(..))).count();
    let updated = runs.iter().filter(|run| matches!(run.outcome, Outcome::Updated)).count();
    let passed = runs.len() - failed;
    let note = if updated > 0 { format!(", {updated} updated") } else { String::new() };
    print(&format!("{passed} passed, {failed} failed{note}\n"))?;
    if let Some(file) = &arguments.junit {
        let cases: Vec<_> = runs.iter().map(Run::to_junit).collect();
        let suite = path.file_stem().unwrap_or_default().to_string_lossy();
        fs::write(file, junit::report(&suite, &cases)).map_err(|error| Failure::write(file, error))?;
    }
    if failed > 0 { Err(Failure::Tests { failed, total: runs.len() }) } else { Ok(()) }
}

/// The package whose tests run.
struct Tested<'a> {
    path: &'a Path,
    package: &'a AnyPackage<Wasi>,
    description: Option<&'a MistPackage>,
}

impl Tested<'_> {
    /// Runs one test. What is wrong with the test or the package is its outcome; the error is about files.
    fn run(&self, arguments: &Test, path: &Path) -> Result<Outcome, Failure> {
        let name = case::name(path);
        let text = files::input(path)?;
        let failed = |summary: String| Ok(Outcome::Failed(summary, String::new()));
        let case = match Case::parse(&text, &name) {
            Ok(case) => case,
            Err(problem) => return failed(format!("{}: {problem}", path.display())),
        };
        let input =
            match package::input(self.path, self.description, &arguments.limits, &case.name, case.values.clone()) {
                Ok(input) => input.to_yaml(),
                Err(failure) => return failed(failure.in_one_line()),
            };
        let session = self.package.session_with(log::wasi().build());
        let result = session.and_then(|mut session| {
            let output = session.generate(&input)?;
            Ok((MistResult::parse(&output)?, session.fault().cloned()))
        });
        let result = match result {
            Ok((_, Some(fault))) if !engines::is_panic(&fault) => {
                return failed(format!("the output is complete, but freeing it failed: {}", in_one_line(&fault)));
            }
            Ok((result, _)) => Expected::of(result),
            Err(error) => return failed(in_one_line(&error)),
        };
        match case.compare(&result) {
            Ok(()) => Ok(Outcome::Passed),
            Err(_) if arguments.update => {
                fs::write(path, case.updated(&text, &name, &result)).map_err(|error| Failure::write(path, error))?;
                Ok(Outcome::Updated)
            }
            Err((summary, details)) => Ok(Outcome::Failed(summary, details)),
        }
    }
}

impl Run {
    fn to_text(&self) -> String {
        let name = &self.name;
        match &self.outcome {
            Outcome::Passed => format!("ok       {name}\n"),
            Outcome::Updated => format!("updated  {name}\n"),
            Outcome::Failed(summary, details) => format!("FAILED   {name}: {summary}\n{details}"),
        }
    }

    fn to_junit(&self) -> junit::Case<'_> {
        let failure = match &self.outcome {
            Outcome::Failed(summary, details) => Some((summary.as_str(), details.as_str())),
            _ => None,
        };
        junit::Case { name: &self.name, time: self.time, failure }
    }
}

/// Returns the package in a directory: the only `.wasm` file, or else the only `.wat` file.
fn module(directory: &Path) -> Result<PathBuf, Failure> {
    let found = list(directory)?;
    for extension in ["wasm", "wat"] {
        let mut modules = found.iter().filter(|path| path.extension().is_some_and(|found| found == extension));
        match (modules.next(), modules.next()) {
            (Some(module), None) => return Ok(module.clone()),
            (Some(one), Some(other)) => {
                let (one, other) = (one.display(), other.display());
                return Err(Failure::usage(format!(
                    "there are several packages, such as {one} and {other}: name one with -p"
                )));
            }
            _ => {}
        }
    }
    let directory = directory.display();
    Err(Failure::usage(format!("there is no package in {directory}: no .wasm and no .wat file; name one with -p")))
}

/// Returns the tests of a package, in the order of their names.
fn tests(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let directory = directory.join("tests");
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut tests = list(&directory)?;
    tests.retain(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
    if tests.len() > MAX_TESTS {
        return Err(Failure::read(&directory, &*format!("it has more than {MAX_TESTS} tests")));
    }
    Ok(tests)
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::read(directory, error);
    let entries = fs::read_dir(directory).map_err(failed)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

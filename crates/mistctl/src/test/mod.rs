//! `mistctl test`.

mod case;
mod diff;
mod junit;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use std::{process, thread};

use clap::Args;
use mistletoe::AnyPackage;
use mistletoe::documents::{MistPackage, MistResult};
use mistletoe::wasi::Wasi;

use crate::cli;
use crate::failure::{Failure, in_one_line};
use crate::guest::Guest;
use crate::package::Session;
use crate::registries::Registries;
use crate::stderr::{Excerpt, printable};
use crate::{engines, files, log, package, print};
use case::{Case, Expected, MAX_MESSAGE};

/// Maximum number of tests of a package.
const MAX_TESTS: usize = 10_000;
/// Maximum number of bytes of all failures' texts in a report.
const MAX_REPORT: usize = 32 << 20;
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
    registries: Registries,
    #[command(flatten)]
    backend: cli::Backend,
    #[command(flatten)]
    limits: cli::Limits,
}

pub(crate) fn run(arguments: &Test) -> Result<(), Failure> {
    let mut written = States::new();
    if !arguments.watch {
        return once(arguments, &mut written);
    }
    loop {
        // What changes while the tests run is seen afterwards.
        let mut before = states(arguments);
        match once(arguments, &mut written) {
            Ok(()) | Err(Failure::Tests { .. }) => {}
            // Nobody reads on.
            Err(failure @ Failure::File { action: "written", .. }) => return Err(failure),
            Err(failure) => failure.report(),
        }
        // Its own updates are no reason to run again.
        before.extend(written.drain());
        while states(arguments) == before {
            thread::sleep(INTERVAL);
        }
    }
}

/// The length and time of files, where they exist.
type States = HashMap<PathBuf, Option<State>>;
type State = (u64, SystemTime);

/// The files that the result depends on.
fn states(arguments: &Test) -> States {
    let package = arguments.package.clone().map(Ok).unwrap_or_else(|| module(&arguments.directory));
    let tests = list(&arguments.directory.join("tests")).unwrap_or_default();
    let tests = tests.into_iter().filter(|path| is_test(path)).take(MAX_TESTS);
    package.into_iter().chain(tests).map(state).collect()
}

fn state(path: PathBuf) -> (PathBuf, Option<State>) {
    let state = fs::metadata(&path).ok().and_then(|metadata| state_of(&metadata));
    (path, state)
}

fn state_of(metadata: &Metadata) -> Option<State> {
    Some((metadata.len(), metadata.modified().ok()?))
}

enum Outcome {
    Passed,
    /// With the state of the new file.
    Updated(Option<State>),
    /// In one line, and the rest.
    Failed(String, String),
}

/// Runs all tests once. `written` gets the tests that were updated.
fn once(arguments: &Test, written: &mut States) -> Result<(), Failure> {
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
    let report = |cases: &[junit::Case], error: Option<&str>| {
        let Some(file) = &arguments.junit else { return Ok(()) };
        let suite = files::stem(&path);
        fs::write(file, junit::report(&suite, cases, error)).map_err(|error| Failure::write(file, error))
    };
    let (package, description) = match open(arguments, &path) {
        Ok(opened) => opened,
        Err(failure) => {
            report(&[], Some(&failure.in_one_line()))?;
            return Err(failure);
        }
    };
    let tested = Tested { path: &path, package: &package, description: description.as_ref() };
    let (mut cases, mut room) = (Vec::new(), MAX_REPORT);
    let (mut failed, mut updated) = (0, 0);
    for test in &tests {
        let begin = Instant::now();
        let outcome = tested.run(arguments, test)?;
        let (name, time) = (case::name(test), begin.elapsed());
        print(&printable(&outcome.to_text(&name)))?;
        match &outcome {
            Outcome::Passed => {}
            Outcome::Updated(state) => {
                updated += 1;
                written.insert(test.clone(), *state);
            }
            Outcome::Failed(..) => failed += 1,
        }
        if arguments.junit.is_some() {
            cases.push(junit::Case { name, time, failure: outcome.into_failure(&mut room) });
        }
    }
    let (passed, total) = (tests.len() - failed, tests.len());
    let note = if updated > 0 { format!(", {updated} updated") } else { String::new() };
    print(&format!("{passed} passed, {failed} failed{note}\n"))?;
    report(&cases, None)?;
    if failed > 0 { Err(Failure::Tests { failed, total }) } else { Ok(()) }
}

/// Compiles the package and reads its description.
fn open(arguments: &Test, path: &Path) -> Result<(AnyPackage<Wasi>, Option<MistPackage>), Failure> {
    let Guest::Package(package) = Guest::load(
        path,
        &arguments.registries.beside(&arguments.directory.join("x")),
        &arguments.backend,
        &arguments.limits,
        arguments.limits.get(),
    )?
    .guest
    else {
        return Err(Failure::usage(format!("{} is a program; tests are for packages", path.display())));
    };
    let description = Session::open(&package, path)?.into_description();
    Ok((package, description))
}

/// The package whose tests run.
struct Tested<'a> {
    path: &'a Path,
    package: &'a AnyPackage<Wasi>,
    description: Option<&'a MistPackage>,
}

impl Tested<'_> {
    /// Runs one test. What is wrong with the test or the package is its outcome; the error is about writing.
    fn run(&self, arguments: &Test, path: &Path) -> Result<Outcome, Failure> {
        let name = case::name(path);
        let failed = |summary: String| Ok(Outcome::Failed(summary, String::new()));
        let text = match files::input(path) {
            Ok(text) => text,
            Err(failure) => return failed(failure.in_one_line()),
        };
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
            Ok((result, Some(fault))) if engines::is_panic(&fault) => {
                return failed(match result {
                    MistResult::Err { message: Some(message) } => {
                        format!("the package panicked: {}", Excerpt::of(message, MAX_MESSAGE))
                    }
                    _ => format!("the package panicked: {}", in_one_line(&fault)),
                });
            }
            Ok((_, Some(fault))) => return failed(engines::freeing_failed(&fault)),
            Ok((result, None)) => Expected::of(result),
            Err(error) => return failed(in_one_line(&error)),
        };
        match case.compare(&result) {
            Ok(()) => Ok(Outcome::Passed),
            Err(_) if arguments.update => match replace(path, &case.updated(&text, &name, &result)) {
                Ok(state) => Ok(Outcome::Updated(state)),
                Err(Unwritten::Refused(problem)) => failed(format!("{} {problem}", path.display())),
                Err(Unwritten::Io(error)) => Err(Failure::write(path, error)),
            },
            Err((summary, details)) => Ok(Outcome::Failed(summary, details)),
        }
    }
}

impl Outcome {
    fn to_text(&self, name: &str) -> String {
        match self {
            Self::Passed => format!("ok       {name}\n"),
            Self::Updated(_) => format!("updated  {name}\n"),
            Self::Failed(summary, details) => format!("FAILED   {name}: {summary}\n{details}"),
        }
    }

    /// Returns a failure's line and its details, of which it keeps as many bytes as a report has room for.
    fn into_failure(self, room: &mut usize) -> Option<(String, String)> {
        let Self::Failed(summary, mut details) = self else { return None };
        details.truncate(details.floor_char_boundary(junit::MAX_TEXT.min(*room)));
        details.shrink_to_fit();
        *room -= details.len();
        Some((summary, details))
    }
}

/// Why a test was not updated.
enum Unwritten {
    Refused(&'static str),
    Io(io::Error),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Replaces the text of a test in one step, so that an interruption leaves the old one. Follows no symbolic link.
///
/// Returns the state of the new file from before it had its name, so that nobody else can have changed it.
fn replace(path: &Path, text: &str) -> Result<Option<State>, Unwritten> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() || fs::symlink_metadata(directory)?.is_symlink() {
        return Err(Unwritten::Refused("is behind a symbolic link, which --update does not follow"));
    }
    let new = directory.join(format!(".mistctl-{}.tmp", process::id()));
    let write = || {
        // Not through a link that is there already.
        let _ = fs::remove_file(&new);
        let mut file = File::create_new(&new)?;
        file.set_permissions(metadata.permissions())?;
        file.write_all(text.as_bytes())?;
        let state = state_of(&file.metadata()?);
        fs::rename(&new, path)?;
        Ok(state)
    };
    Ok(write().inspect_err(|_: &io::Error| {
        let _ = fs::remove_file(&new);
    })?)
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
    tests.retain(|path| is_test(path));
    if tests.len() > MAX_TESTS {
        return Err(Failure::read(&directory, &*format!("it has more than {MAX_TESTS} tests")));
    }
    let mut names = HashSet::new();
    if let Some(path) = tests.iter().find(|path| !names.insert(case::name(path))) {
        return Err(Failure::read(path, "there is another test of this name"));
    }
    Ok(tests)
}

fn is_test(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::read(directory, error);
    let entries = fs::read_dir(directory).map_err(failed)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_a_bounded_part_of_each_failure() {
        let mut room = junit::MAX_TEXT + 3;
        let mut kept = |details: &str| {
            let outcome = Outcome::Failed("why".to_owned(), details.to_owned());
            outcome.into_failure(&mut room).map(|(_, details)| (details.len(), details.capacity()))
        };
        let details = "x".repeat(1 << 20);
        assert_eq!(kept(&details), Some((junit::MAX_TEXT, junit::MAX_TEXT)));
        assert_eq!(kept("éé"), Some((2, 2)));
        assert_eq!(kept("xx"), Some((1, 1)));
        assert_eq!(Outcome::Passed.into_failure(&mut 9), None);
    }
}

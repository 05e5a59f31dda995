//! `cargo xtask conformance`: the matrix of cases and backends, on the terminal or as a file.

use std::fmt::Display;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Parser, ValueEnum};
use mistletoe::AnyBackend;
use mistletoe_conformance::Report;
use mistletoe_conformance::report::Verdict;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use crate::{Error, suite};

/// Run the conformance cases and WebAssembly's own suite on the backends, and show the results.
#[derive(Parser)]
#[command(name = "cargo xtask conformance", bin_name = "cargo xtask conformance")]
struct Arguments {
    /// Run only this backend; may be repeated.
    #[arg(long, value_name = "NAME")]
    backend: Vec<String>,
    /// Run only cases, and files of WebAssembly's own suite, whose `group/name` contains this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Print a line for every case instead of every group.
    #[arg(short, long)]
    verbose: bool,
    /// Format of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write the report to a file instead of standard output.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Run the cases on hosts with one fault each instead, and show which cases catch it.
    #[arg(long, conflicts_with_all = ["backend", "format", "report", "check"])]
    self_test: bool,
    /// Fail unless this markdown report is up to date, apart from versions and date.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["report", "format"])]
    check: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
    Markdown,
    Junit,
}

pub(crate) fn run() -> Result<ExitCode, Error> {
    let arguments = Arguments::parse_from(std::env::args().skip(1));
    if let Some(folder) = std::env::var_os("CONFORMANCE_FOLDER") {
        std::env::set_current_dir(folder)?;
    }
    let mut backends = crate::backends()?;
    if !arguments.backend.is_empty() {
        // A name that is unknown or not built in is an error.
        backends = arguments.backend.iter().map(|name| mistletoe::backend(name)).collect::<Result<_, _>>()?;
    }
    let mut cases = crate::cases()?;
    cases.retain(|case| case.to_string().contains(&arguments.filter));
    let mut files = suite::files();
    files.retain(|file| file.title().contains(&arguments.filter));
    if cases.is_empty() && (files.is_empty() || arguments.self_test) || backends.is_empty() {
        return Err("no case or no backend is selected".into());
    }

    if arguments.self_test {
        return crate::selftest::run(cases, arguments.verbose);
    }
    let hosts: Vec<_> = backends.iter().map(|backend| backend as _).collect();
    let progress = std::io::stderr().is_terminal();
    let (done, all) = (AtomicUsize::new(0), cases.len() + files.len());
    let tell = |title: &dyn Display| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if progress {
            let _ = write!(std::io::stderr(), "\r\x1b[K{done}/{all} {title}");
        }
    };
    let mut report = Report::run(&cases, &hosts, |case| tell(case));
    report.scripts = suite::run(&files, &backends, |file| tell(&file.title()))?;
    if progress {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }

    if let Some(path) = &arguments.check {
        compare(&report, path)?;
    }
    let text = match arguments.format {
        Format::Text => report.terminal(arguments.verbose),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
        Format::Markdown => markdown(&report)?,
        Format::Junit => junit(&report)?,
    };
    match &arguments.report {
        None => std::io::stdout().lock().write_all(text.as_bytes())?,
        Some(path) => {
            fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            if !report.is_good() {
                eprint!("{}", report.terminal(false));
            }
        }
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs everything, as `--check` does, on the backends.
pub(crate) fn check(path: &Path, backends: &[AnyBackend]) -> Result<(), Error> {
    let hosts: Vec<_> = backends.iter().map(|backend| backend as _).collect();
    let mut report = Report::run(&crate::cases()?, &hosts, |_| ());
    report.scripts = suite::run(&suite::files(), backends, |_| ())?;
    if !report.is_good() {
        return Err(report.terminal(true).into());
    }
    compare(&report, path)
}

/// Fails unless the markdown report in a file is up to date.
fn compare(report: &Report, path: &Path) -> Result<(), Error> {
    let committed = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if undated(&committed) == undated(&markdown(report)?) {
        return Ok(());
    }
    let again = "cargo xtask conformance --format markdown --report";
    Err(format!("{0} is out of date; {again} {0} renews it", path.display()).into())
}

/// The start of the line that `--check` ignores in a markdown report.
const RUN: &str = "Run on ";

fn undated(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with(RUN)).collect()
}

fn markdown(report: &Report) -> Result<String, Error> {
    let date = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let date = date.split('T').next().unwrap_or_default();
    Ok(format!(
        "# Conformance\n\n\
         Every case of the conformance suite on every backend. `yes` means that the backend passes the case. The rules\n\
         are those of the linked document. Cases without a rule follow WASI preview 1, or in `cgi` the RFCs that they name.\n\
         `cargo xtask conformance --format markdown --report docs/conformance.md` updates this file.\n\n\
         The second table has the files of [WebAssembly's own test suite](https://github.com/WebAssembly/testsuite): the\n\
         number of steps in each file with the result that the suite expects, without limits, with the default limits\n\
         and with fuel. All backends must agree on results, traps, output, the final memory and fuel.\n\n\
         {RUN}{date} with {}.\n\n{}",
        versions()?.join(", "),
        report.markdown()
    ))
}

/// Returns the engines in the lockfile with their versions.
fn versions() -> Result<Vec<String>, Error> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock: toml::Table = fs::read_to_string(lock)?.parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array).ok_or("Cargo.lock lists no packages")?;
    let field = |package: &toml::Value, name| Some(package.get(name)?.as_str()?.to_owned());
    let locked = |engine: &str| {
        let package = packages.iter().find(|package| field(package, "name").is_some_and(|name| name == engine))?;
        Some(format!("{engine} {}", field(package, "version")?))
    };
    Ok(["wasmi", "wasmtime", "wasmer"].into_iter().filter_map(locked).collect())
}

fn junit(report: &Report) -> Result<String, Error> {
    let mut junit = quick_junit::Report::new("conformance");
    for (i, backend) in report.backends.iter().enumerate() {
        let mut suite = TestSuite::new(backend.clone());
        for row in &report.cases {
            let fail = |message: String| {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(message);
                status
            };
            let status = match row.results.get(i) {
                _ if row.differs => fail("the backends pass, but differ".to_owned()),
                None | Some(Verdict::Passed { .. }) => TestCaseStatus::success(),
                Some(Verdict::Failed(failure)) => fail(failure.to_string()),
                Some(Verdict::UnexpectedPass { reason }) => fail(format!("passed, but is said to fail: {reason}")),
                Some(Verdict::KnownFailure { reason, .. }) => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(format!("known to fail: {reason}"));
                    status
                }
            };
            let mut case = TestCase::new(row.name.clone(), status);
            case.set_classname(row.group.clone());
            suite.add_test_case(case);
        }
        for script in &report.scripts {
            let failed = script.results.get(i).map(|steps| steps.failed.join("\n")).unwrap_or_default();
            let status = match failed.is_empty() {
                true => TestCaseStatus::success(),
                false => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(failed);
                    status
                }
            };
            let mut case = TestCase::new(script.name.clone(), status);
            case.set_classname(script.group.clone());
            suite.add_test_case(case);
        }
        junit.add_test_suite(suite);
    }
    Ok(junit.to_string()?)
}

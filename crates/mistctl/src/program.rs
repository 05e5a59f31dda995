//! Packages that are programs: WASI commands that read values and write manifests, as yoke's flights do.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mistletoe::documents::MistResult;
use mistletoe::documents::yaml::{Budget, Mapping, Value};
use mistletoe::protocol::Region;
use mistletoe::wasi::{Builder, OutputStream, Wasi};
use mistletoe::{AnyCommand, ErrorKind, Limits};

use crate::failure::Failure;
use crate::{log, manifests};

/// Maximum number of bytes of the standard error, from its end, that a message about the exit code has.
const MAX_REASON: usize = 4 << 10;
/// The namespace of an installation that names none.
const NAMESPACE: &str = "default";

/// What a program is told about the installation in addition to its values.
pub(crate) struct Release<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) args: &'a [String],
}

/// How a program ended, and what it wrote.
pub(crate) struct Ended {
    pub(crate) code: u32,
    pub(crate) stdout: String,
    /// The end of its standard error.
    reason: String,
}

impl Ended {
    /// Returns a message about an exit code that is not 0.
    pub(crate) fn message(&self) -> String {
        let separator = if self.reason.is_empty() { "" } else { ": " };
        format!("the program exited with code {}{separator}{}", self.code, self.reason)
    }
}

/// Runs a program on values.
///
/// Returns its standard output unchanged, and as files that are named after the resources in it.
pub(crate) fn generate(
    program: &AnyCommand<Wasi>,
    path: &Path,
    limits: &Limits,
    release: &Release<'_>,
    values: Mapping,
) -> Result<(String, MistResult), Failure> {
    let namespace = release.namespace.unwrap_or(NAMESPACE);
    let wasi = log::wasi()
        .args([release.name])
        .args(release.args.iter().map(String::as_str))
        .env([
            ("YOKE_RELEASE", release.name),
            ("YOKE_NAMESPACE", namespace),
            ("NAMESPACE", namespace),
            ("YOKE_VERSION", concat!("mistctl-", env!("CARGO_PKG_VERSION"))),
        ])
        .stdin(Value::Mapping(values).to_text());
    let ended = run(program, path, limits, wasi)?;
    if ended.code != 0 {
        let message = Some(ended.message());
        return Ok((ended.stdout, MistResult::Err { message }));
    }
    if ended.stdout.trim().is_empty() {
        return Err(Failure::refused(path, "the program wrote nothing to its standard output"));
    }
    let resources = manifests::resources(&ended.stdout, &mut Budget::default());
    let resources = resources.map_err(|error| Failure::output(path, error))?;
    Ok((ended.stdout, MistResult::Ok { message: None, files: manifests::named(resources) }))
}

/// Runs a program with its standard output captured and its standard error shown as its log.
pub(crate) fn run(program: &AnyCommand<Wasi>, path: &Path, limits: &Limits, wasi: Builder) -> Result<Ended, Failure> {
    let in_program = |error| Failure::library(path, error);
    let limit = limits.max_output();
    let (is_full, tail) = (Arc::new(AtomicBool::new(false)), Tail::default());
    let full = is_full.clone();
    let stdout = OutputStream::captured(usize::try_from(limit).unwrap_or(usize::MAX));
    let wasi = wasi
        .stdout(stdout.on_full(move || full.store(true, Ordering::Relaxed)))
        .stderr(log::stream(tail.clone()))
        .build();
    let (code, stdout) = match program.session_with(wasi) {
        Ok(session) => {
            let (code, mut wasi) = session.run();
            (code, wasi.take_stdout())
        }
        // A start function may exit the program, too.
        Err(error) => (error.exit_code().ok_or(error), Vec::new()),
    };
    if is_full.load(Ordering::Relaxed) {
        let length = limit.saturating_add(1);
        return Err(in_program(ErrorKind::TooLong { region: Region::Output, length, limit }.into()));
    }
    let code = code.map_err(in_program)?;
    let stdout = String::from_utf8(stdout).map_err(|error| {
        let offset = error.utf8_error().valid_up_to() as u64;
        in_program(ErrorKind::InvalidUtf8 { region: Region::Output, offset }.into())
    })?;
    Ok(Ended { code, stdout, reason: tail.text() })
}

/// Keeps the end of a stream.
#[derive(Clone, Default)]
struct Tail(Arc<Mutex<Vec<u8>>>);

impl Tail {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = bytes.len().saturating_sub(MAX_REASON);
        String::from_utf8_lossy(bytes.get(end..).unwrap_or_default()).trim().to_owned()
    }
}

impl Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes.get(bytes.len().saturating_sub(MAX_REASON)..).unwrap_or(bytes));
        if kept.len() > 2 * MAX_REASON {
            let superfluous = kept.len() - MAX_REASON;
            kept.drain(..superfluous);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

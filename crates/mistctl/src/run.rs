//! `mistctl run`.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use mistletoe::AnyCommand;
use mistletoe::wasi::{Clock, Errno, OutputStream, Random, Wasi};

use crate::cli::{Grant, Run};
use crate::denials::Denials;
use crate::failure::Failure;
use crate::guest::program_imports;
use crate::stderr::Level;
use crate::{deadline, files, stderr};

pub(crate) fn run(arguments: &Run) -> Result<ExitCode, Failure> {
    let file = files::module(&arguments.module, &arguments.registries)?;
    let in_module = |error| Failure::library(&arguments.module, error);
    let limits = arguments.limits.get().with_backtrace(arguments.trace);
    let command = deadline::compiling(&arguments.module, &arguments.limits, || {
        let wasm = files::assembled(&arguments.module, file)?;
        AnyCommand::with_imports(&arguments.backend.start()?, &wasm, &program_imports(), limits).map_err(in_module)
    })?;
    let lost = Lost::default();
    let session = command.session_with(grants(arguments, limits.max_output(), &lost)?);
    let code = match session {
        Ok(session) => session.run().0,
        // A start function may exit the program, too.
        Err(error) => error.exit_code().ok_or(error),
    };
    let code = code.map_err(in_module)?;
    // The program was told of the error, and may have ignored it.
    if let Some(error) = lost.take().filter(|_| code == 0) {
        return Err(Failure::write("standard output", error));
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// The error that lost a part of the standard output, if there was one.
#[derive(Clone, Default)]
struct Lost(Arc<Mutex<Option<io::Error>>>);

impl Lost {
    fn note(&self, error: io::Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A standard output that was closed when the process started.
struct Closed(Lost);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        mistctl_startup::stdout_is_open().map(|()| 0).inspect_err(|error| {
            self.0.note(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error));
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the standard output for a program, unbuffered: the program is told what was written and what was not.
fn stdout(limit: u64, lost: &Lost) -> Result<OutputStream, Failure> {
    let lost = lost.clone();
    if mistctl_startup::stdout_is_open().is_err() {
        return Ok(OutputStream::limited_stream(Closed(lost), limit));
    }
    Ok(open_stdout(limit)?.on_error(move |errno| lost.note(system_error(errno))))
}

#[cfg(unix)]
fn open_stdout(limit: u64) -> Result<OutputStream, Failure> {
    use std::os::fd::AsFd;
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    let stdout = stdout.map_err(|error| Failure::write("standard output", error))?;
    Ok(OutputStream::limited_file(stdout.into(), limit))
}

#[cfg(not(unix))]
fn open_stdout(limit: u64) -> Result<OutputStream, Failure> {
    Ok(OutputStream::limited_stream(io::stdout(), limit).terminal(io::stdout().is_terminal()))
}

/// Returns the system's error for the code that the program got.
fn system_error(errno: Errno) -> io::Error {
    match errno {
        #[cfg(unix)]
        Errno::NoSpc => io::Error::from_raw_os_error(libc::ENOSPC),
        #[cfg(unix)]
        Errno::Pipe => io::Error::from_raw_os_error(libc::EPIPE),
        other => io::Error::other(other.to_string()),
    }
}

/// Returns a callback that reports that a program wrote more than its limit.
fn full(stream: &'static str, limit: u64) -> impl FnOnce() + Send {
    move || {
        let text = format!("the standard {stream} is longer than {limit} bytes; --max-output raises the limit");
        stderr::note(Level::Warning, &text);
    }
}

fn grants(arguments: &Run, max_output: u64, lost: &Lost) -> Result<Wasi, Failure> {
    let program = files::name(&arguments.module);
    let mut denials = Denials::default();
    let mut builder = Wasi::builder()
        .args([&*program])
        .args(arguments.args.iter().map(String::as_str))
        .env(arguments.env.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .stdout(stdout(max_output, lost)?.on_full(full("output", max_output)))
        .stderr(
            OutputStream::limited_stream(stderr::of_guest(), max_output)
                .terminal(io::stderr().is_terminal())
                .on_full(full("error", max_output)),
        )
        .clock(Clock::System)
        .random(Random::System)
        .on_denied(move |denied| denials.hear(denied));
    builder = match &arguments.stdin {
        Some(path) if path.as_os_str() != "-" => builder.stdin_file(files::open(path)?),
        _ => builder.inherit_stdin(),
    };
    for Grant { host, guest, access } in &arguments.dir {
        builder = builder.dir(host, guest, *access).map_err(|error| Failure::grant(host, error))?;
    }
    Ok(builder.build())
}

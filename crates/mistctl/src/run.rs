//! `mistctl run`.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use mistletoe::Command;
use mistletoe::wasi::{self, Clock, Output, Random, Wasi};

use crate::cli::{ErrorFormat, Grant, Run};
use crate::failure::{Failure, Level, Stderr, note};
use crate::files;

pub(crate) fn run(arguments: &Run, format: ErrorFormat) -> Result<ExitCode, Failure> {
    let wasm = files::package(&arguments.module)?;
    let in_module = |error| Failure::library(&arguments.module, error);
    let limits = arguments.limits.get();
    let command = Command::with_imports(&arguments.backend.start(format)?, &wasm, &wasi::imports::<Wasi>(), &limits);
    let session = command.map_err(in_module)?.session_with(grants(arguments, limits.max_output, format)?);
    let code = match session {
        Ok(session) => session.run().0,
        // A start function may end the program, too.
        Err(error) => error.exit_code().ok_or(error),
    };
    let code = code.map_err(in_module)?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Standard output without a buffer, so that the program is told of what was written and what was not.
#[cfg(unix)]
fn stdout(limit: u64) -> Result<Output, Failure> {
    use std::os::fd::AsFd;
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    let stdout = stdout.map_err(|error| Failure::write("standard output", error))?;
    Ok(Output::limited_file(stdout.into(), limit))
}

#[cfg(not(unix))]
fn stdout(limit: u64) -> Result<Output, Failure> {
    Ok(Output::limited_stream(io::stdout(), limit).terminal(io::stdout().is_terminal()))
}

/// Says that a program wrote more than it may.
fn full(stream: &'static str, limit: u64, format: ErrorFormat) -> impl FnOnce() + Send {
    move || {
        // An error as JSON stands alone.
        if format == ErrorFormat::Text {
            let text = format!("the standard {stream} is longer than {limit} bytes; --max-output raises the limit");
            note(Level::Warning, &text);
        }
    }
}

fn grants(arguments: &Run, max_output: u64, format: ErrorFormat) -> Result<Wasi, Failure> {
    let program = arguments.module.file_name().unwrap_or_default().to_string_lossy();
    let mut builder = Wasi::builder()
        .args([&*program])
        .args(arguments.args.iter().map(String::as_str))
        .env(arguments.env.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .stdout(stdout(max_output)?.on_full(full("output", max_output, format)))
        .stderr(
            Output::limited_stream(Stderr, max_output)
                .terminal(io::stderr().is_terminal())
                .on_full(full("error", max_output, format)),
        )
        .clock(Clock::System)
        .random(Random::System)
        .on_denied(move |denied| {
            // An error as JSON stands alone.
            if format == ErrorFormat::Text {
                note(Level::Denied, &denied.to_string());
            }
        });
    builder = match &arguments.stdin {
        Some(path) if path.as_os_str() != "-" => builder.stdin_file(files::open(path)?),
        _ => builder.inherit_stdin(),
    };
    for Grant { host, guest, access } in &arguments.dir {
        builder = builder.dir(host, guest, *access).map_err(|error| Failure::grant(host, error))?;
    }
    Ok(builder.build())
}

//! `mistctl`: runs packages from the command line.
//!
//! One file per verb; `cli.rs` says what the verbs take, `failure.rs` how they fail.

#![forbid(unsafe_code)]

#[cfg(feature = "cache")]
mod cache;
mod call;
mod cli;
mod failure;
mod files;
mod generate;
mod inspect;
mod limit;
mod log;
mod manifests;
mod run;
mod set;
mod tree;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, ErrorFormat, Verb};
use crate::failure::Failure;

fn main() -> ExitCode {
    let (format, result) = match Cli::try_parse() {
        Ok(cli) => (cli.error_format, run(cli.verb, cli.error_format)),
        // Help and versions are no errors, and clap prints its own errors better than as a message.
        Err(error) if !error.use_stderr() || ErrorFormat::asked_for() == ErrorFormat::Text => error.exit(),
        Err(error) => (ErrorFormat::Json, Err(Failure::usage(error.render().to_string().trim_end()))),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            failure.report(format);
            ExitCode::from(failure.status())
        }
    }
}

fn run(verb: Verb, format: ErrorFormat) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Generate(arguments) => generate::run(&arguments, format),
        Verb::Inspect(arguments) => inspect::run(&arguments, format),
        Verb::Run(arguments) => return run::run(&arguments, format),
        Verb::Call(arguments) => call::run(&arguments, format),
        Verb::Backends => print(&backends()),
        #[cfg(feature = "cache")]
        Verb::Cache { verb } => cache::run(&verb),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mistctl", &mut script);
            print_bytes(&script)
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

/// The list of backends: which can be used, and what would add the others.
fn backends() -> String {
    let default = mistletoe::backends().iter().find(|info| info.is_enabled()).map(|info| info.name());
    let mut list = String::new();
    for info in mistletoe::backends() {
        let note = match info.is_enabled() {
            true if default == Some(info.name()) => "compiled in, the default".to_owned(),
            true => "compiled in".to_owned(),
            false => format!("not compiled in: build with --features {}", info.feature()),
        };
        list.push_str(&format!("{:<18} {note}\n", info.name()));
    }
    list
}

/// Writes to standard output, where nothing but a verb's answer goes.
fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::write("standard output", error))
}

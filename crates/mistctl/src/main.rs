//! `mistctl`: runs packages from the command line.
//!
//! There is one file per verb. `cli.rs` defines what the verbs take, `failure.rs` how they fail.

#![forbid(unsafe_code)]

#[cfg(any(feature = "cache", feature = "registry"))]
mod cache;
mod call;
mod check;
mod cli;
mod deadline;
mod denials;
mod engines;
mod failure;
mod files;
mod function;
mod generate;
mod guest;
mod input;
mod inspect;
mod json;
mod limit;
mod log;
mod manifests;
mod new;
mod package;
mod program;
mod registries;
#[cfg(feature = "registry")]
mod registry;
mod run;
mod schema;
#[cfg(feature = "serve")]
mod serve;
mod set;
mod stats;
mod stderr;
mod test;
mod trace;
mod tree;
mod values;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use mistctl_startup::stdout_is_open;
use serde_json::json;

use crate::cli::{Cli, ErrorFormat, TextFormat, Verb};
use crate::failure::Failure;

fn main() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => {
            stderr::init(cli.error_format, cli.verbose);
            run(cli.verb)
        }
        Err(error) => {
            stderr::init(ErrorFormat::asked_for(), false);
            usage(&error)
        }
    };
    result.unwrap_or_else(|failure| {
        failure.report();
        ExitCode::from(failure.status())
    })
}

/// Handles a command line without a verb: help or the version, which are not errors, or wrong usage.
fn usage(error: &clap::Error) -> Result<ExitCode, Failure> {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return print(&text).map(|()| ExitCode::SUCCESS);
    }
    let message = match error.kind() {
        clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "missing verb; --help lists the verbs".to_owned()
        }
        // The rest is the usage.
        _ => {
            let first = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = first.trim_start_matches("error:").split_whitespace().collect();
            words.join(" ")
        }
    };
    Err(Failure::Usage { message, help: Some(text) })
}

fn run(verb: Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Generate(arguments) => generate::run(&arguments),
        Verb::Fn(arguments) => function::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Values(arguments) => values::run(&arguments),
        Verb::Inspect(arguments) => inspect::run(&arguments),
        Verb::New(arguments) => new::run(&arguments),
        Verb::Run(arguments) => return run::run(&arguments),
        Verb::Call(arguments) => call::run(&arguments),
        #[cfg(not(feature = "serve"))]
        Verb::Serve { .. } => Err(Failure::Usage {
            message: "this build has no server: build with --features serve".to_owned(),
            help: None,
        }),
        #[cfg(feature = "serve")]
        Verb::Serve(arguments) => serve::run(&arguments),
        Verb::Backends { output: TextFormat::Text } => print(&backends()),
        Verb::Backends { output: TextFormat::Json } => print(&backends_as_json()),
        #[cfg(not(feature = "registry"))]
        Verb::Pull { .. } => Err(Failure::Usage {
            message: "this build has no registries: build with --features registry".to_owned(),
            help: None,
        }),
        #[cfg(feature = "registry")]
        Verb::Pull(arguments) => registry::pull(&arguments),
        #[cfg(feature = "registry")]
        Verb::Push(arguments) => registry::push(&arguments),
        #[cfg(feature = "registry")]
        Verb::Verify(arguments) => registry::verify(&arguments),
        #[cfg(feature = "registry")]
        Verb::Sign(arguments) => registry::sign(&arguments),
        #[cfg(feature = "registry")]
        Verb::Update(arguments) => registry::update(&arguments),
        #[cfg(not(any(feature = "cache", feature = "registry")))]
        Verb::Cache { .. } => Err(Failure::Usage {
            message: "this build has no cache: build with --features cache, registry, wasmtime or wasmer".to_owned(),
            help: None,
        }),
        #[cfg(any(feature = "cache", feature = "registry"))]
        Verb::Cache { verb } => cache::run(&verb),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mistctl", &mut script);
            print_bytes(&script)
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Returns the list of backends: which can be used, and what adds the others.
fn backends() -> String {
    let default = mistletoe::default_backend().name();
    let mut list = String::new();
    for info in mistletoe::backends() {
        let note = match info.is_enabled() {
            true if default == info.name() => "compiled in, the default".to_owned(),
            true => "compiled in".to_owned(),
            false => format!("not compiled in: build with --features {}", info.feature()),
        };
        list.push_str(&format!("{:<18} {note}\n", info.name()));
    }
    list
}

/// Returns the same list as a JSON array.
fn backends_as_json() -> String {
    let default = mistletoe::default_backend().name();
    let list = mistletoe::backends().iter().map(|info| {
        let (name, enabled, feature) = (info.name(), info.is_enabled(), info.feature());
        json!({ "name": name, "enabled": enabled, "default": enabled && default == name, "feature": feature })
    });
    format!("{}\n", list.collect::<serde_json::Value>())
}

/// Writes to standard output, which gets nothing but a verb's output.
fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let write = || {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    };
    stdout_is_open().and_then(|()| write()).map_err(|error| Failure::write("standard output", error))
}

//! `mistctl generate`.

use std::path::Path;

use mistletoe::documents::yaml::{self, Mapping, Value};
use mistletoe::documents::{MistInput, MistResult};
use mistletoe::wasi::Wasi;
use mistletoe::{AnyPackage, Error, ErrorKind};

use crate::cli::{Generate, Output};
use crate::failure::{Failure, message};
use crate::guest::Guest;
use crate::program::{self, Release};
use crate::stderr::{Excerpt, Level, MAX_MESSAGE, note};
use crate::{files, log, manifests, print, set, tree};

pub(crate) fn run(arguments: &Generate) -> Result<(), Failure> {
    let path = arguments.package.as_path();
    let values = values(arguments)?;
    match Guest::load(path, &arguments.backend, &arguments.limits)? {
        Guest::Package(package) => {
            if !arguments.args.is_empty() {
                let package = path.display();
                let problem = format!("{package} is no program, which alone takes arguments; --set sets values");
                return Err(Failure::usage(problem));
            }
            let output = call(&package, path, &MistInput::new(&arguments.name, values).to_yaml())?;
            let result = MistResult::parse(&output).map_err(|error| Failure::library(path, error));
            deliver(arguments, &output, result)
        }
        Guest::Program(program) => {
            let (name, namespace) = (&arguments.name, arguments.namespace.as_deref());
            let release = Release { name, namespace, args: &arguments.args };
            let (output, result) = program::generate(&program, path, &arguments.limits.get(), &release, values)?;
            deliver(arguments, &output, Ok(result))
        }
    }
}

/// Calls a package once, in a session of its own. What it logs is shown.
pub(crate) fn call(package: &AnyPackage<Wasi>, path: &Path, input: &str) -> Result<String, Failure> {
    let in_package = |error| Failure::library(path, error);
    let mut session = package.session_with(log::wasi().build()).map_err(in_package)?;
    let output = session.generate(input);
    let fault = session.fault().cloned();
    // Dropping the session also drops the log, which then is complete.
    drop(session);
    let output = output.map_err(in_package)?;
    // A panic is reported by the output itself.
    let is_panic = |fault: &Error| {
        let ErrorKind::Trap { export, .. } = fault.kind() else { return false };
        export.as_deref() == Some("__mistletoe_generate")
    };
    if let Some(fault) = fault.filter(|fault| !is_panic(fault)) {
        let (package, why) = (path.display(), message(&fault));
        note(Level::Warning, &format!("{package}: the output is complete, but freeing it failed: {why}"));
    }
    Ok(output)
}

/// Delivers the output in the form that was asked for.
fn deliver(arguments: &Generate, output: &str, result: Result<MistResult, Failure>) -> Result<(), Failure> {
    if let Output::Raw = arguments.output {
        print(output)?;
    }
    match result? {
        MistResult::Err { message } => Err(Failure::Package { message }),
        MistResult::Ok { message, files } => {
            match &arguments.output {
                Output::Yaml => print(&manifests::stream(&files))?,
                Output::Raw => {}
                Output::Dir(root) => tree::write(&arguments.package, root, &files)?,
            }
            if let Some(message) = message {
                note(Level::Package, &Excerpt::of(message, MAX_MESSAGE));
            }
            Ok(())
        }
    }
}

/// Returns the values: the file's mapping, overridden by `--set`.
fn values(arguments: &Generate) -> Result<Mapping, Failure> {
    let mut data = match &arguments.input {
        None => Mapping::new(),
        Some(path) => match yaml::parse(&files::input(path)?) {
            Ok(Value::Mapping(data)) => data,
            Ok(Value::Null) => Mapping::new(),
            Ok(other) => return Err(Failure::read(path, &*format!("it holds {}, not a mapping", other.describe()))),
            Err(error) => return Err(Failure::read(path, &*error.to_string())),
        },
    };
    for text in set {
        set::apply(&mut data, text)?;
    }
    Ok(data)
}

//! `mistctl generate`.

use mistletoe::AnyPackage;
use mistletoe::documents::yaml::{self, Mapping, Value};
use mistletoe::documents::{MistInput, MistResult};
use mistletoe::wasi::{self, Wasi};

use crate::cli::{ErrorFormat, Generate, Output};
use crate::failure::{Failure, Level, note};
use crate::{files, log, manifests, print, set, tree};

pub(crate) fn run(arguments: &Generate, format: ErrorFormat) -> Result<(), Failure> {
    let input = input(arguments)?.to_yaml();
    let wasm = files::package(&arguments.package)?;
    let in_package = |error| Failure::library(&arguments.package, error);

    let backend = arguments.backend.start(format)?;
    let limits = arguments.limits.get();
    let package = AnyPackage::with_imports(&backend, &wasm, &wasi::imports::<Wasi>(), limits);
    let session = package.map_err(in_package)?.session_with(log::wasi(format).build());
    let mut session = session.map_err(in_package)?;
    let answer = session.generate(&input);
    let fault = session.fault().cloned();
    // With it goes the log, which then is complete.
    drop(session);
    let result = deliver(arguments, &answer.map_err(in_package)?);
    // An error as JSON stands alone.
    if let Some(fault) = fault.filter(|_| result.is_ok() || format == ErrorFormat::Text) {
        let package = arguments.package.display();
        note(Level::Warning, &format!("{package}: the answer is good, but freeing it failed: {fault}"));
    }
    result
}

/// Takes the answer to where it was asked for.
fn deliver(arguments: &Generate, answer: &str) -> Result<(), Failure> {
    if let Output::Raw = arguments.output {
        print(answer)?;
    }
    match MistResult::parse(answer).map_err(|error| Failure::library(&arguments.package, error))? {
        MistResult::Err { message } => Err(Failure::Package { message }),
        MistResult::Ok { message, files } => {
            match &arguments.output {
                Output::Yaml => print(&manifests::stream(&files))?,
                Output::Raw => {}
                Output::Dir(root) => tree::write(root, &files)?,
            }
            if let Some(message) = message {
                note(Level::Package, &message);
            }
            Ok(())
        }
    }
}

/// The file's mapping, what `--set` says over it, and the name over all.
fn input(arguments: &Generate) -> Result<MistInput, Failure> {
    let mut data = match &arguments.input {
        None => Mapping::new(),
        Some(path) => match yaml::parse(&files::input(path)?) {
            Ok(Value::Mapping(data)) => data,
            Ok(Value::Null) => Mapping::new(),
            Ok(other) => return Err(Failure::read(path, &*format!("it holds {}, not a mapping", other.describe()))),
            Err(error) => return Err(Failure::read(path, &*error.to_string())),
        },
    };
    for text in &arguments.set {
        set::apply(&mut data, text)?;
    }
    Ok(MistInput::new(&arguments.name, data))
}

//! `mistctl generate`.

use mistletoe::AnyPackage;
use mistletoe::documents::yaml::{self, Mapping, Value};
use mistletoe::documents::{MistInput, MistResult};
use mistletoe::wasi::{self, Wasi};

use crate::cli::{Generate, Output};
use crate::failure::{Failure, message};
use crate::stderr::{Excerpt, Level, MAX_MESSAGE, note};
use crate::{deadline, files, log, manifests, print, set, tree};

pub(crate) fn run(arguments: &Generate) -> Result<(), Failure> {
    let input = input(arguments)?.to_yaml();
    let file = files::module(&arguments.package)?;
    let in_package = |error| Failure::library(&arguments.package, error);

    let package = deadline::compiling(&arguments.package, &arguments.limits, || {
        let wasm = files::assembled(&arguments.package, file)?;
        let (imports, limits) = (wasi::imports::<Wasi>(), arguments.limits.get());
        AnyPackage::with_imports(&arguments.backend.start()?, &wasm, &imports, limits).map_err(in_package)
    })?;
    let session = package.session_with(log::wasi().build());
    let mut session = session.map_err(in_package)?;
    let answer = session.generate(&input);
    let fault = session.fault().cloned();
    // Dropping the session also drops the log, which then is complete.
    drop(session);
    let result = deliver(arguments, &answer.map_err(in_package)?);
    // A panic is reported by the output itself.
    if let Some(fault) = fault.filter(|_| !matches!(result, Err(Failure::Package { .. }))) {
        let (package, why) = (arguments.package.display(), message(&fault));
        note(Level::Warning, &format!("{package}: the output is complete, but freeing it failed: {why}"));
    }
    result
}

/// Delivers the output in the form that was asked for.
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
                Output::Dir(root) => tree::write(&arguments.package, root, &files)?,
            }
            if let Some(message) = message {
                note(Level::Package, &Excerpt::of(message, MAX_MESSAGE));
            }
            Ok(())
        }
    }
}

/// Returns the input: the file's mapping, overridden by `--set`, and by the name.
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

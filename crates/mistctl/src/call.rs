//! `mistctl call`.

use std::io::Write;
use std::path::Path;

use mistletoe::AnyHandler;
use mistletoe::protocol::HttpWasm;
use mistletoe::wasi::{self, Wasi};

use crate::cli::Call;
use crate::failure::{Failure, message};
use crate::stderr::{self, Level, note};
use crate::{deadline, files, log, print_bytes};

pub(crate) fn run(arguments: &Call) -> Result<(), Failure> {
    let input = files::bytes(arguments.stdin.as_deref().unwrap_or(Path::new("-")))?;
    let file = files::module(&arguments.module, &arguments.registries)?;
    let in_module = |error| Failure::library(&arguments.module, error);

    let handler = deadline::compiling(&arguments.module, &arguments.limits, || {
        let wasm = files::assembled(&arguments.module, file)?;
        let (imports, limits) = (wasi::imports::<Wasi>(), arguments.limits.get().with_backtrace(arguments.trace));
        let protocol = HttpWasm { delimiter: arguments.delimiter };
        AnyHandler::with_protocol(protocol, &arguments.backend.start()?, &wasm, &imports, limits).map_err(in_module)
    })?;
    let environment = arguments.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut session = handler.session_with(log::wasi().env(environment).build()).map_err(in_module)?;
    let (output, result) = match session.run(&input) {
        Ok(output) => (output, Ok(())),
        // The output before the failure may explain it.
        Err(error) => (session.unfinished(), Err(in_module(error))),
    };
    let fault = session.fault().cloned();
    // Dropping the session also drops the log, which then is complete.
    drop(session);
    let printed = print_bytes(&output.stdout);
    // A closed standard error is not a failure.
    let _ = stderr::of_guest().write_all(&output.stderr);
    let result = result.and(printed);
    if let Some(fault) = fault.filter(|_| result.is_ok()) {
        let module = arguments.module.display();
        note(
            Level::Warning,
            &format!("{module}: the response is complete, but freeing memory failed: {}", message(&fault)),
        );
    }
    result
}

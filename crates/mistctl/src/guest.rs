//! The modules that `generate`, `fn` and `values` run: packages with the package interface, and programs.

use std::path::Path;

use mistletoe::protocol::package::GENERATE;
use mistletoe::types::Problem;
use mistletoe::wasi::{self, Wasi};
use mistletoe::{AnyBackend, AnyCommand, AnyPackage, Error, ErrorKind, Imports, yoke};

use crate::cli::{Backend, Limits};
use crate::failure::Failure;
use crate::registries::Registries;
use crate::{deadline, files};

/// A compiled module, told by its exports.
pub(crate) enum Guest {
    /// It exports `__mistletoe_generate`.
    Package(AnyPackage<Wasi>),
    /// It does not, and exports `_start`.
    Program(AnyCommand<Wasi>),
}

/// A compiled module, and what it takes to compile it again.
pub(crate) struct Loaded {
    pub(crate) wasm: Vec<u8>,
    pub(crate) backend: AnyBackend,
    pub(crate) guest: Guest,
}

impl Guest {
    /// Reads and compiles a module, with `limits` for its guests, which are those of the command line or derived from
    /// them.
    pub(crate) fn load(
        path: &Path,
        registries: &Registries,
        backend: &Backend,
        arguments: &Limits,
        limits: mistletoe::Limits,
    ) -> Result<Loaded, Failure> {
        let file = files::module(path, registries)?;
        let in_module = |error| Failure::library(path, error);
        deadline::compiling(path, arguments, || {
            let wasm = files::assembled(path, file)?;
            let backend = backend.start()?;
            // Exports and imports are checked before anything is compiled.
            let guest = match AnyPackage::with_imports(&backend, &wasm, &wasi::imports(), limits) {
                Err(error) if lacks(&error, GENERATE.name()) => {
                    match AnyCommand::with_imports(&backend, &wasm, &program_imports(), limits) {
                        // The module is neither, and packages are what these verbs are for.
                        Err(other) if lacks(&other, "_start") => Err(error),
                        program => program.map(Self::Program),
                    }
                }
                package => package.map(Self::Package),
            };
            Ok(Loaded { guest: guest.map_err(in_module)?, wasm, backend })
        })
    }
}

/// Returns the functions that programs can import: WASI's and yoke's.
pub(crate) fn program_imports() -> Imports<Wasi> {
    let mut imports = wasi::imports();
    yoke::add_to(&mut imports);
    imports
}

fn lacks(error: &Error, name: &str) -> bool {
    let is_missing = |problem: &Problem| matches!(problem, Problem::MissingExport { export, .. } if export == name);
    matches!(error.kind(), ErrorKind::Interface { problems } if problems.iter().any(is_missing))
}

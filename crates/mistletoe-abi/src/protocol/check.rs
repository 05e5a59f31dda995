//! The check of a module's exports against the needs of a protocol.

use mistletoe_module::interface::MEMORY;

use crate::guest::export::ExportedFunc;
use crate::host::numbers::{WasmParams, WasmResults};
use crate::module::Interface;
use crate::types::{ExternType, MemoryType, Problem};

/// Checks a module's exports one by one and collects the problems.
///
/// [`Protocol::check`](crate::Protocol::check) gets one.
#[derive(Debug)]
pub struct Check<'a> {
    interface: &'a Interface,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    /// Starts with the check that the guest exports its memory, which every guest must.
    pub(crate) fn new(interface: &'a Interface) -> Self {
        let mut check = Self { interface, problems: Vec::new() };
        check.required(MEMORY, ExternType::Memory(Some(MemoryType::ANY)));
        check
    }

    /// Returns the module's imports and exports.
    pub fn interface(&self) -> &'a Interface {
        self.interface
    }

    /// Requires an export with this type.
    pub fn required(&mut self, name: &'static str, expected: ExternType) -> &mut Self {
        if self.interface.export(name).is_none() {
            self.problems.push(Problem::MissingExport { export: name.into(), expected });
            return self;
        }
        self.optional(name, expected)
    }

    /// Requires this type of an export, if the module has the export.
    pub fn optional(&mut self, name: &'static str, expected: ExternType) -> &mut Self {
        if let Some(found) = self.interface.export(name).filter(|found| !fits(found, &expected)) {
            self.problems.push(Problem::MistypedExport { export: name.into(), expected, found: found.clone() });
        }
        self
    }

    /// Requires an exported function with this type.
    pub fn func<P: WasmParams, R: WasmResults>(&mut self, export: &ExportedFunc<P, R>) -> &mut Self {
        self.required(export.name, export.extern_type())
    }

    /// Requires this type of an exported function, if the module exports the function.
    pub fn optional_func<P: WasmParams, R: WasmResults>(&mut self, export: &ExportedFunc<P, R>) -> &mut Self {
        self.optional(export.name, export.extern_type())
    }

    /// Returns the problems.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

/// Returns whether the types match. A memory may have any size; everything else must be equal.
fn fits(found: &ExternType, expected: &ExternType) -> bool {
    match found {
        ExternType::Memory(Some(memory)) => {
            matches!(expected, ExternType::Memory(_)) && !memory.shared && !memory.memory64
        }
        _ => found == expected,
    }
}

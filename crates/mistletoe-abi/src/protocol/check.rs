//! What a module exports, beside what a protocol needs.

use mistletoe_module::interface::MEMORY;

use crate::guest::export::ExportedFunc;
use crate::host::numbers::{WasmParams, WasmResults};
use crate::module::Interface;
use crate::types::{ExternType, MemoryType, Problem};

/// Looks at a module's exports one by one, and notes what is wrong with them: for
/// [`Protocol::check`](crate::Protocol::check).
#[derive(Debug)]
pub struct Check<'a> {
    interface: &'a Interface,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    /// Every guest exports its memory.
    pub(crate) fn new(interface: &'a Interface) -> Self {
        let mut check = Self { interface, problems: Vec::new() };
        check.required(MEMORY, ExternType::Memory(Some(MemoryType::ANY)));
        check
    }

    /// What the module imports and exports.
    pub fn interface(&self) -> &'a Interface {
        self.interface
    }

    /// An export that has to be there.
    pub fn required(&mut self, name: &'static str, expected: ExternType) -> &mut Self {
        if self.interface.export(name).is_none() {
            self.problems.push(Problem::MissingExport { export: name.into(), expected });
            return self;
        }
        self.optional(name, expected)
    }

    /// An export that has to have this type where it is there.
    pub fn optional(&mut self, name: &'static str, expected: ExternType) -> &mut Self {
        if let Some(found) = self.interface.export(name).filter(|found| !fits(found, &expected)) {
            self.problems.push(Problem::MistypedExport { export: name.into(), expected, found: found.clone() });
        }
        self
    }

    /// A function that has to be there.
    pub fn func<P: WasmParams, R: WasmResults>(&mut self, export: &ExportedFunc<P, R>) -> &mut Self {
        self.required(export.name, export.extern_type())
    }

    /// A function that has to have this type where it is there.
    pub fn optional_func<P: WasmParams, R: WasmResults>(&mut self, export: &ExportedFunc<P, R>) -> &mut Self {
        self.optional(export.name, export.extern_type())
    }

    /// What is wrong with them.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

/// A memory may have any size; all else has to be the same.
fn fits(found: &ExternType, expected: &ExternType) -> bool {
    match found {
        ExternType::Memory(Some(memory)) => {
            matches!(expected, ExternType::Memory(_)) && !memory.shared && !memory.memory64
        }
        _ => found == expected,
    }
}

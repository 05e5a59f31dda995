//! The interfaces that guests speak: each protocol's names, types and order of calls, one file each.
//!
//! - [`package`]: the package interface, `docs/abi.md` in code.
//! - [`httpwasm`]: plugins behind HTTP, `docs/httpwasm.md` in code.
//! - [`command`]: WASI commands.
//!
//! A protocol says what a module has to export (`problems`), and walks through its steps on a live instance. Checking,
//! compiling, linking, instantiating, poisoning and every look at an address are the same for all of them, in `program`
//! and `guest`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use mistletoe_module::interface::MEMORY;

use crate::module::Interface;
use crate::types::{ExternType, FuncType, MemoryType, Problem};
use mistletoe_module::display::Shown;

pub mod command;
pub mod httpwasm;
pub mod package;

/// Called once before anything else, where it is exported: what compilers for WASI reactors add.
pub(crate) const INITIALIZE: ExportedFunc<0, 0> = ExportedFunc::new("_initialize", FuncType::new(&[], &[]));

/// Runs a command: it returns, or ends through `proc_exit`. Other guests it initialises, where they export no `_initialize`.
pub(crate) const START: ExportedFunc<0, 0> = ExportedFunc::new("_start", FuncType::new(&[], &[]));

/// What a range in the guest's memory is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Region {
    /// The 8 bytes of address and length that an answer is found by.
    FatPointer,
    /// The package's description.
    Info,
    /// The input that a guest is handed.
    Input,
    /// What a guest answers with.
    Output,
    /// What a guest named when it called a host function, or `result`: where the answer to that call should have gone.
    Argument {
        /// The host function, as `module.name`.
        function: Cow<'static, str>,
        /// The parameter.
        argument: Cow<'static, str>,
    },
}

/// A function that a protocol has guests export, with its `P` parameters and `R` results.
pub(crate) struct ExportedFunc<const P: usize, const R: usize> {
    pub(crate) name: &'static str,
    pub(crate) ty: FuncType,
}

impl<const P: usize, const R: usize> ExportedFunc<P, R> {
    pub(crate) const fn new(name: &'static str, ty: FuncType) -> Self {
        Self { name, ty }
    }

    pub(crate) fn extern_type(&self) -> ExternType {
        ExternType::Func(Some(Arc::new(self.ty.clone())))
    }
}

/// Checks a module's exports one by one, and lists what is wrong with them.
pub(crate) struct Check<'a> {
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

    /// An export that has to be there.
    pub(crate) fn required(&mut self, name: &'static str, expected: ExternType) -> &mut Self {
        if self.interface.export(name).is_none() {
            self.problems.push(Problem::MissingExport { export: name.into(), expected });
            return self;
        }
        self.optional(name, expected)
    }

    /// An export that has to have this type where it is there.
    pub(crate) fn optional(&mut self, name: &'static str, expected: ExternType) -> &mut Self {
        if let Some(found) = self.interface.export(name).filter(|found| !fits(found, &expected)) {
            self.problems.push(Problem::MistypedExport { export: name.into(), expected, found: found.clone() });
        }
        self
    }

    pub(crate) fn func<const P: usize, const R: usize>(&mut self, export: &ExportedFunc<P, R>) -> &mut Self {
        self.required(export.name, export.extern_type())
    }

    pub(crate) fn problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
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

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FatPointer => "the fat pointer",
            Self::Info => "the package's info",
            Self::Input => "the input",
            Self::Output => "the package's output",
            Self::Argument { function, argument } => {
                return write!(f, "`{argument}` of the host function `{}`", Shown(function));
            }
        })
    }
}

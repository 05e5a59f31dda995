//! The package interface: every export's name and type, and the order in which they are called. The numbers are those
//! of the rules in `docs/abi.md`.

use std::fmt;
use std::sync::Arc;

use crate::backend::Instance;
use crate::error::{Error, ErrorKind, Result};
use crate::guest::{Func, Guest, Span};
use crate::limits::Limits;
use crate::module::Interface;
use crate::types::{ExternType, FuncType, MemoryType, Problem, ValType::I32};

/// A function that a package exports, with its `N` parameters.
pub(crate) struct ExportedFunc<const N: usize> {
    pub(crate) name: &'static str,
    pub(crate) ty: FuncType,
}

/// Answers with the address of a fat pointer to the package's own description.
const INFO: ExportedFunc<0> = ExportedFunc::new("__mistletoe_info", FuncType::new(&[], &[I32]));
/// Takes a length in bytes, answers with the address of that much memory.
const ALLOC: ExportedFunc<1> = ExportedFunc::new("__mistletoe_alloc", FuncType::new(&[I32], &[I32]));
/// Takes address and length of what was allocated.
const DEALLOC: ExportedFunc<2> = ExportedFunc::new("__mistletoe_dealloc", FuncType::new(&[I32, I32], &[]));
/// Takes address and length of the input, answers with the address of a fat pointer to the output.
const GENERATE: ExportedFunc<2> = ExportedFunc::new("__mistletoe_generate", FuncType::new(&[I32, I32], &[I32]));
/// Called once before anything else, where it is exported.
const INITIALIZE: ExportedFunc<0> = ExportedFunc::new("_initialize", FuncType::new(&[], &[]));

/// The exported memory that all addresses point into; backends find it by this name.
pub const MEMORY: &str = "memory";

/// What a range in the guest's memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Region {
    /// The 8 bytes of address and length that an answer is found by.
    FatPointer,
    /// The package's description.
    Info,
    /// The input of `generate`.
    Input,
    /// The output of `generate`.
    Output,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FatPointer => "the fat pointer",
            Self::Info => "the package's info",
            Self::Input => "the input",
            Self::Output => "the package's output",
        })
    }
}

impl<const N: usize> ExportedFunc<N> {
    const fn new(name: &'static str, ty: FuncType) -> Self {
        Self { name, ty }
    }

    fn extern_type(&self) -> ExternType {
        ExternType::Func(Some(Arc::new(self.ty.clone())))
    }
}

/// Everything in which a module does not fit the package interface; empty if it is a package.
pub fn problems(interface: &Interface) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut export = |name: &'static str, expected: ExternType, required: bool| match interface.export(name) {
        None if required => problems.push(Problem::MissingExport { export: name.into(), expected }),
        Some(found) if !fits(found, &expected) => {
            problems.push(Problem::MistypedExport { export: name.into(), expected, found: found.clone() });
        }
        _ => {}
    };
    export(MEMORY, ExternType::Memory(Some(MemoryType::ANY)), true);
    export(INFO.name, INFO.extern_type(), true);
    export(ALLOC.name, ALLOC.extern_type(), true);
    export(DEALLOC.name, DEALLOC.extern_type(), true);
    export(GENERATE.name, GENERATE.extern_type(), true);
    export(INITIALIZE.name, INITIALIZE.extern_type(), false);
    // No host function is offered yet, so each import is one too many.
    problems.extend(interface.imports.iter().map(|import| Problem::UnknownImport {
        module: import.module.clone(),
        name: import.name.clone(),
        found: import.ty.clone(),
    }));
    problems
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

/// A package's instance and its four functions: the steps of the protocol.
pub(crate) struct PackageInstance<I: Instance> {
    guest: Guest<I>,
    info: Func<I::Func, 0>,
    alloc: Func<I::Func, 1>,
    dealloc: Func<I::Func, 2>,
    generate: Func<I::Func, 2>,
}

impl<I: Instance> PackageInstance<I> {
    /// Rule 1: a fresh instance, whose start function has run, gets its `_initialize`; `_start` is left alone.
    pub(crate) fn new(instance: I, interface: &Interface) -> Result<Self> {
        let mut guest = Guest::new(instance);
        if interface.export(INITIALIZE.name).is_some() {
            let initialize = guest.resolve(&INITIALIZE)?;
            guest.call(&initialize, [])?;
        }
        Ok(Self {
            info: guest.resolve(&INFO)?,
            alloc: guest.resolve(&ALLOC)?,
            dealloc: guest.resolve(&DEALLOC)?,
            generate: guest.resolve(&GENERATE)?,
            guest,
        })
    }

    /// What poisoned the instance (rules 6 and 7).
    pub(crate) fn fault(&self) -> Option<&Error> {
        self.guest.fault()
    }

    /// Rule 2: the string behind `__mistletoe_info`. Nothing is freed.
    pub(crate) fn info(&mut self, limits: &Limits) -> Result<String> {
        let address = self.guest.call(&self.info, [])?;
        let span = self.guest.fat_pointer(address)?;
        self.guest.string(Region::Info, span, limits.max_output).map(str::to_owned)
    }

    /// Rules 3 to 8: hands `input` over, lends the output to `read`, and frees both.
    pub(crate) fn generate<R>(&mut self, input: &str, limits: &Limits, read: impl FnOnce(&str) -> R) -> Result<R> {
        let given = self.hand_over(input)?;
        let address = self.guest.call(&self.generate, [given.address, given.length])?;
        let output = self.guest.fat_pointer(address);
        let answer = match &output {
            Ok(span) => self.guest.string(Region::Output, *span, limits.max_output).map(read),
            Err(error) => Err(error.clone()),
        };
        // Rule 5: whether a range can be freed does not depend on what is in it, so find that out before the guest runs
        // again. Rules 6 and 7: a trap in here poisons the guest, and takes nothing from an answer that was read.
        let freed = output.ok().filter(|span| self.guest.holds(*span));
        for span in [Some(given), freed].into_iter().flatten() {
            if self.guest.call(&self.dealloc, [span.address, span.length]).is_err() {
                break;
            }
        }
        answer
    }

    /// Rule 3: has the guest allocate, and writes the input there.
    fn hand_over(&mut self, input: &str) -> Result<Span> {
        let length = u32::try_from(input.len()).map_err(|_| ErrorKind::TooLong {
            region: Region::Input,
            length: input.len() as u64,
            limit: u64::from(u32::MAX),
        })?;
        let address = self.guest.call(&self.alloc, [length])?;
        if address == 0 && length != 0 {
            return Err(ErrorKind::Allocation { length }.into());
        }
        let span = Span { address, length };
        self.guest.bytes_mut(Region::Input, span)?.copy_from_slice(input.as_bytes());
        Ok(span)
    }
}

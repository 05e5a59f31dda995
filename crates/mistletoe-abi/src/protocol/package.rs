//! The package interface: a string in, a string out. The numbers are those of the rules in `docs/abi.md`.

use crate::backend::Instance;
use crate::error::Result;
use crate::guest::{Func, Guest, Span, text};
use crate::limits::Limits;
use crate::module::Interface;
use crate::protocol::{Check, ExportedFunc, INITIALIZE, Region};
use crate::types::{FuncType, Problem, ValType::I32};

/// Answers with the address of a fat pointer to the package's own description.
const INFO: ExportedFunc<0, 1> = ExportedFunc::new("__mistletoe_info", FuncType::new(&[], &[I32]));
/// Takes a length in bytes, answers with the address of that much memory.
const ALLOC: ExportedFunc<1, 1> = ExportedFunc::new("__mistletoe_alloc", FuncType::new(&[I32], &[I32]));
/// Takes address and length of what was allocated.
const DEALLOC: ExportedFunc<2, 0> = ExportedFunc::new("__mistletoe_dealloc", FuncType::new(&[I32, I32], &[]));
/// Takes address and length of the input, answers with the address of a fat pointer to the output.
const GENERATE: ExportedFunc<2, 1> = ExportedFunc::new("__mistletoe_generate", FuncType::new(&[I32, I32], &[I32]));

/// Everything in which a module's exports do not fit the package interface; empty if it is a package.
pub fn problems(interface: &Interface) -> Vec<Problem> {
    Check::new(interface)
        .func(&INFO)
        .func(&ALLOC)
        .func(&DEALLOC)
        .func(&GENERATE)
        .optional(INITIALIZE.name, INITIALIZE.extern_type())
        .problems()
}

/// A package's instance and the functions that each answer needs: the steps of the protocol.
pub(crate) struct PackageInstance<I: Instance> {
    guest: Guest<I>,
    alloc: Func<I::Func, 1, 1>,
    dealloc: Func<I::Func, 2, 0>,
    generate: Func<I::Func, 2, 1>,
}

impl<I: Instance> PackageInstance<I> {
    /// Resolves the functions of an instance that is initialised (rule 1).
    pub(crate) fn new(mut guest: Guest<I>) -> Result<Self> {
        Ok(Self {
            alloc: guest.resolve(&ALLOC)?,
            dealloc: guest.resolve(&DEALLOC)?,
            generate: guest.resolve(&GENERATE)?,
            guest,
        })
    }

    pub(crate) fn guest(&self) -> &Guest<I> {
        &self.guest
    }

    pub(crate) fn guest_mut(&mut self) -> &mut Guest<I> {
        &mut self.guest
    }

    /// Rule 2: the string behind `__mistletoe_info`. Nothing is freed. It is seldom asked for, so an instance that is made
    /// for one answer does not look for the function.
    pub(crate) fn info(&mut self, limits: &Limits) -> Result<String> {
        let info = self.guest.resolve(&INFO)?;
        let [address] = self.guest.call(&info, [])?;
        let memory = self.guest.memory();
        let bytes = Span::behind(memory, address)?.of(memory, &Region::Info)?;
        text(bytes, &Region::Info, limits.max_output).map(str::to_owned)
    }

    /// Rules 3 to 8: hands `input` over, lends the output to `read`, and frees both.
    #[inline]
    pub(crate) fn generate<R>(&mut self, input: &str, limits: &Limits, read: impl FnOnce(&str) -> R) -> Result<R> {
        // All of it at once, since an engine may have to change stacks.
        I::with_room(|| self.generate_here(input, limits, read))?
    }

    #[inline(always)]
    fn generate_here<R>(&mut self, input: &str, limits: &Limits, read: impl FnOnce(&str) -> R) -> Result<R> {
        // Rule 3.
        limits.input(input.len())?;
        let (given, address) = self.guest.steps(|steps| {
            let given = steps.hand_over(&self.alloc, input.as_bytes())?;
            let [address] = steps.call(&self.generate, [given.address, given.length])?;
            Ok((given, address))
        })?;
        let memory = self.guest.memory();
        let output = Span::behind(memory, address).and_then(|span| Ok((span, span.of(memory, &Region::Output)?)));
        // Rule 5: whether a range can be freed does not depend on what is in it.
        let (answer, freed) = match output {
            Ok((span, bytes)) => (text(bytes, &Region::Output, limits.max_output).map(read), Some(span)),
            Err(error) => (Err(error), None),
        };
        // Rules 6 and 7: a trap in here poisons the guest, and takes nothing from an answer that was read.
        let _ = self.guest.steps(|steps| {
            let mut free = |span: Span| steps.call(&self.dealloc, [span.address, span.length]);
            free(given)?;
            freed.map_or(Ok([]), free)
        });
        answer
    }
}

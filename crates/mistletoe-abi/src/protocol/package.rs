//! The package interface: a string in, a string out. Rule numbers refer to `docs/abi.md`.

use crate::backend::instance::Instance;
use crate::error::{Error, ErrorKind, Region, Result};
use crate::guest::export::ExportedFunc;
use crate::guest::span::{Span, text};
use crate::guest::{Func, Guest};
use crate::limits::Limits;
use crate::protocol::check::Check;
use crate::protocol::traits::Protocol;

/// Returns the address of a fat pointer to the package's own description.
const INFO: ExportedFunc<(), u32> = ExportedFunc::new("__mistletoe_info");
/// Takes a length in bytes, returns the address of that much memory.
pub const ALLOC: ExportedFunc<(u32,), u32> = ExportedFunc::new("__mistletoe_alloc");
/// Takes address and length of an allocation to free.
pub const DEALLOC: ExportedFunc<(u32, u32), ()> = ExportedFunc::new("__mistletoe_dealloc");
/// Takes address and length of the input, returns the address of a fat pointer to the output.
pub const GENERATE: ExportedFunc<(u32, u32), u32> = ExportedFunc::new("__mistletoe_generate");
/// The address of a fat pointer to the output of a package that panicked: a constant, not a function.
const PANIC: &str = "__mistletoe_panic";

/// The protocol of packages.
#[derive(Clone, Copy, Debug, Default)]
pub struct PackageInterface;

/// A request to a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The package's description of itself (rule 2).
    Info,
    /// The output for an input (rules 3 to 8).
    Generate(&'a str),
}

/// The functions that every [`Request::Generate`] needs.
#[derive(Debug)]
pub struct Exports<F> {
    alloc: Func<F, (u32,), u32>,
    dealloc: Func<F, (u32, u32), ()>,
    generate: Func<F, (u32, u32), u32>,
}

impl Protocol for PackageInterface {
    type Exports<F: Send + Sync + 'static> = Exports<F>;
    type Store = ();
    type Request<'a> = Request<'a>;
    type Response<'a> = &'a str;
    type Output = String;

    fn check(&self, exports: &mut Check<'_>) {
        exports.func(&INFO).func(&ALLOC).func(&DEALLOC).func(&GENERATE);
    }

    fn store(&self, _: &Limits) {}

    fn resolve<I: Instance>(&self, guest: &mut Guest<I>) -> Result<Exports<I::Func>> {
        Ok(Exports {
            alloc: guest.resolve(&ALLOC)?,
            dealloc: guest.resolve(&DEALLOC)?,
            generate: guest.resolve(&GENERATE)?,
        })
    }

    #[inline(always)]
    fn call<I: Instance, R>(
        exports: &Exports<I::Func>,
        guest: &mut Guest<I>,
        request: Request<'_>,
        respond: impl FnOnce(&str) -> R,
    ) -> Result<R> {
        match request {
            Request::Info => info(guest, respond),
            // One `with_room` for all calls, since an engine may have to switch stacks.
            Request::Generate(input) => I::with_room(|| generate(exports, guest, input, respond))?,
        }
    }
}

/// Rule 2: reads the string that `__mistletoe_info` points to. Nothing is freed. The request is rare, so the function
/// is resolved here and not for every instance.
fn info<I: Instance, R>(guest: &mut Guest<I>, respond: impl FnOnce(&str) -> R) -> Result<R> {
    let info = guest.resolve(&INFO)?;
    let address = guest.call(&info, ())?;
    let memory = guest.memory();
    let bytes = Span::behind(memory, address)?.of(memory, &Region::Info)?;
    text(bytes, &Region::Info, guest.limits().max_output()).map(respond)
}

/// Rules 3 to 8: passes `input` to the package, lends the output to `respond`, and frees both.
#[inline(always)]
fn generate<I: Instance, R>(
    exports: &Exports<I::Func>,
    guest: &mut Guest<I>,
    input: &str,
    respond: impl FnOnce(&str) -> R,
) -> Result<R> {
    // Rule 3.
    let generated = guest.steps(|steps| {
        let given = steps.hand_over(&exports.alloc, input.as_bytes())?;
        let address = steps.call(&exports.generate, (given.address, given.length))?;
        Ok((given, address))
    });
    let (given, address) = match generated {
        Ok(generated) => generated,
        Err(error) => return panicked(guest, &error).map(respond).ok_or(error),
    };
    let memory = guest.memory();
    let output = Span::behind(memory, address).and_then(|span| Ok((span, span.of(memory, &Region::Output)?)));
    // Rule 5: whether a range can be freed does not depend on its content.
    let (response, freed) = match output {
        Ok((span, bytes)) => (text(bytes, &Region::Output, guest.limits().max_output()).map(respond), Some(span)),
        Err(error) => (Err(error), None),
    };
    // Rules 6 and 7: a trap in here poisons the guest, but an output that was read stays valid.
    let _ = guest.steps(|steps| {
        let mut free = |span: Span| steps.call(&exports.dealloc, (span.address, span.length));
        free(given)?;
        freed.map_or(Ok(()), free)
    });
    response
}

/// Rule 19: reads the output of a package that panicked. `None` if `error` is anything else, such as the error of a
/// host function, which may be a trap of a nested call.
#[cold]
fn panicked<'a, I: Instance>(guest: &'a Guest<I>, error: &Error) -> Option<&'a str> {
    let ErrorKind::Trap { export: Some(export), .. } = error.kind() else { return None };
    let is_own = export == GENERATE.name && !guest.data().host_failed;
    let address = guest.interface().constant(PANIC).filter(|_| is_own)?;
    let memory = guest.memory();
    let span = Span::behind(memory, address).ok().filter(|span| span.address != 0)?;
    text(span.get(memory)?, &Region::Output, guest.limits().max_output()).ok()
}

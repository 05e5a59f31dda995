//! The package interface, spoken so that the steps of a call can be seen and its allocator be tried.

use mistletoe::guest::{Func, Guest, Span};
use mistletoe::protocol::package::{ALLOC, DEALLOC, GENERATE};
use mistletoe::protocol::{Check, Protocol, Region};
use mistletoe::{Error, Limits, Result, backend::Instance};

/// What every block is filled with.
const FILL: u8 = 0xa5;

/// The protocol: `docs/abi.md`, step by step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    /// Generates an output, and compares it with the expected one.
    Generate { input: &'a str, expected: &'a str },
    /// Allocates blocks of these lengths, fills them and frees them.
    Blocks(&'a [u32]),
}

#[derive(Debug)]
pub(crate) enum Output {
    Call(Call),
    /// The blocks, in the order of the request. A length of 0 stands for the null pointer.
    Blocks(Vec<Span>),
}

/// One call of a package.
#[derive(Debug)]
pub(crate) struct Call {
    /// Whether the output was the expected one.
    pub(crate) same: bool,
    pub(crate) input: Span,
    pub(crate) output: Span,
    /// What was being freed when the package trapped.
    pub(crate) freeing: Option<(&'static str, Error)>,
}

/// The functions of a package.
#[derive(Debug)]
pub(crate) struct Exports<F> {
    alloc: Func<F, (u32,), u32>,
    dealloc: Func<F, (u32, u32), ()>,
    generate: Func<F, (u32, u32), u32>,
}

impl Protocol for Probe {
    type Exports<F: Send + Sync + 'static> = Exports<F>;
    type Store = ();
    type Request<'a> = Request<'a>;
    type Response<'a> = Output;
    type Output = Output;

    fn check(&self, exports: &mut Check<'_>) {
        exports.func(&ALLOC).func(&DEALLOC).func(&GENERATE);
    }

    fn store(&self, _: &Limits) {}

    fn resolve<I: Instance>(&self, guest: &mut Guest<I>) -> Result<Exports<I::Func>> {
        Ok(Exports {
            alloc: guest.resolve(&ALLOC)?,
            dealloc: guest.resolve(&DEALLOC)?,
            generate: guest.resolve(&GENERATE)?,
        })
    }

    fn call<I: Instance, R>(
        exports: &Exports<I::Func>,
        guest: &mut Guest<I>,
        request: Request<'_>,
        respond: impl FnOnce(Output) -> R,
    ) -> Result<R> {
        let output = I::with_room(|| match request {
            Request::Generate { input, expected } => generate(exports, guest, input, expected).map(Output::Call),
            Request::Blocks(lengths) => blocks(exports, guest, lengths).map(Output::Blocks),
        })??;
        Ok(respond(output))
    }
}

fn generate<I: Instance>(
    exports: &Exports<I::Func>,
    guest: &mut Guest<I>,
    input: &str,
    expected: &str,
) -> Result<Call> {
    let (given, address) = guest.steps(|steps| {
        let given = steps.hand_over(&exports.alloc, input.as_bytes())?;
        let address = steps.call(&exports.generate, (given.address, given.length))?;
        Ok((given, address))
    })?;
    let word = |at: usize, bytes: &[u8]| {
        bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map(u32::from_le_bytes).unwrap_or_default()
    };
    let pointer = guest.bytes(&Region::FatPointer, address, 8)?;
    let output = Span { address: word(0, pointer), length: word(4, pointer) };
    let same = guest.bytes(&Region::Output, output.address, output.length)? == expected.as_bytes();
    let mut freeing = None;
    for (block, span) in [("input", given), ("output", output)] {
        if let Err(error) = guest.call(&exports.dealloc, (span.address, span.length)) {
            freeing = Some((block, error));
            break;
        }
    }
    Ok(Call { same, input: given, output, freeing })
}

fn blocks<I: Instance>(exports: &Exports<I::Func>, guest: &mut Guest<I>, lengths: &[u32]) -> Result<Vec<Span>> {
    let mut blocks = Vec::new();
    for length in lengths {
        let address = guest.call(&exports.alloc, (*length,))?;
        // A package that has no more room says so with the null pointer.
        let length = if address == 0 { 0 } else { *length };
        blocks.push(Span { address, length });
    }
    // Only when there are all of them: an allocator whose free blocks are in use fails here at the latest.
    for Span { address, length } in &blocks {
        guest.bytes_mut(&Region::Input, *address, *length)?.fill(FILL);
    }
    // The last one first, so that an allocator that hands out the latest free block does the same again.
    for (span, length) in blocks.iter().zip(lengths).rev().filter(|(span, _)| span.address != 0) {
        guest.call(&exports.dealloc, (span.address, *length))?;
    }
    Ok(blocks)
}

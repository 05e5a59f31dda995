//! The faults: each one plausible mistake of a host's, and nothing else wrong.

use std::cell::{Cell, RefCell};
use std::mem::{replace, take};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::Utf8Error;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use mistletoe::error::{Found, Item};
use mistletoe::protocol::Region;
use mistletoe::types::{FuncType, Problem, ValType};
use mistletoe::{Error, ErrorKind, Limits, Operation, Result, Trap};

use crate::faulty::{
    CHARACTERS, Fault, Guest, HANDED_ON, LENGTH, Opened, RESET, SOUND, Shared, Span, Step, TRAPPED, bounded_memory,
    lock,
};

thread_local! {
    /// What `igets` has handed out in the current request, …
    static GIVEN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    /// … and how much of its input that was.
    static READ: Cell<usize> = const { Cell::new(0) };
    /// Where its first record is, as `igets` told.
    static FIRST: Cell<u64> = const { Cell::new(0) };
    /// The length of the current request's input.
    static INPUT: Cell<usize> = const { Cell::new(0) };
    /// An error that the layer was not told of.
    static HELD: Cell<Option<Error>> = const { Cell::new(None) };
    /// Calls of a host function: how many there were, and how many are under way.
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

pub(crate) static FAULTS: &[Fault] = &[
    // Who frees what, and when.
    Fault {
        name: "frees-the-output-first",
        call: |guest, step, params| match step {
            Step::FreeInput => match guest.held_output() {
                Some(output) => guest.free(output),
                None => guest.call(step, params),
            },
            Step::FreeOutput => guest.free(guest.input),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-only-the-input",
        call: |guest, step, params| if step == Step::FreeOutput { Ok(0) } else { guest.call(step, params) },
        ..SOUND
    },
    Fault {
        name: "frees-only-the-output",
        call: |guest, step, params| if step == Step::FreeInput { Ok(0) } else { guest.call(step, params) },
        ..SOUND
    },
    Fault {
        name: "frees-nothing",
        call: |guest, step, params| if step.frees() { Ok(0) } else { guest.call(step, params) },
        ..SOUND
    },
    Fault {
        name: "frees-the-input-twice",
        call: |guest, step, params| twice(guest, Step::FreeInput, step, params),
        ..SOUND
    },
    Fault {
        name: "frees-the-output-twice",
        call: |guest, step, params| twice(guest, Step::FreeOutput, step, params),
        ..SOUND
    },
    Fault {
        name: "frees-the-info",
        call: |guest, step, params| {
            // It was copied since the last call, so now it can go.
            if let Some(info) = guest.info.take() {
                guest.free(info)?;
            }
            guest.call(step, params)
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-fat-pointer",
        call: |guest, step, params| {
            let result = guest.call(step, params)?;
            if step == Step::FreeOutput {
                guest.free(Span { address: guest.fat_pointer, length: 8 })?;
            }
            Ok(result)
        },
        ..SOUND
    },
    Fault {
        name: "frees-output-and-fat-pointer-as-one",
        call: |guest, step, params| match (step, params) {
            (Step::FreeOutput, &[address, length]) => guest.call(step, &[address, length.wrapping_add(8)]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-input-before-the-output-is-read",
        call: |guest, step, params| match step {
            Step::Generate => {
                let result = guest.call(step, params)?;
                guest.free(guest.input)?;
                Ok(result)
            }
            Step::FreeInput => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-output-before-it-is-read",
        call: |guest, step, params| match step {
            Step::Generate => {
                let result = guest.call(step, params)?;
                guest.free(guest.input)?;
                if let Some(output) = guest.held_output() {
                    guest.free(output)?;
                }
                Ok(result)
            }
            _ if step.frees() => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "follows-the-fat-pointer-again-to-free",
        call: |guest, step, params| match (step, guest.follow()) {
            (Step::FreeOutput, Some(output)) => guest.free(output),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "swaps-the-arguments-of-dealloc",
        call: |guest, step, params| match *params {
            [address, length] if step.frees() => guest.call(step, &[length, address]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-input-buffer",
        call: |guest, step, params| match step {
            Step::Alloc => match guest.kept {
                Some(kept) if params.first().is_some_and(|length| *length <= kept.length) => Ok(kept.address),
                _ => {
                    let address = guest.call(step, params)?;
                    guest.kept = Some(guest.input);
                    Ok(address)
                }
            },
            Step::FreeInput => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-input-with-the-next-call",
        call: |guest, step, params| match step {
            Step::FreeInput => {
                guest.kept = Some(guest.input);
                Ok(0)
            }
            Step::Alloc => {
                if let Some(input) = guest.kept.take() {
                    guest.free(input)?;
                }
                guest.call(step, params)
            }
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    // What is freed of an output that cannot be read.
    Fault {
        name: "frees-nothing-where-the-output-is-unreadable",
        call: |guest, step, params| {
            if step.frees() && guest.is_unreadable() { Ok(0) } else { guest.call(step, params) }
        },
        ..SOUND
    },
    Fault {
        name: "frees-no-input-where-the-fat-pointer-is-outside",
        call: |guest, step, params| match step {
            Step::FreeInput if guest.output.is_none() => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-no-input-where-the-output-is-outside",
        call: |guest, step, params| match step {
            Step::FreeInput if guest.output.is_some() && guest.held_output().is_none() => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-no-output-that-is-not-utf8",
        call: |guest, step, params| match step {
            Step::FreeOutput if guest.is_unreadable() && !guest.is_too_long() => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-no-output-that-is-too-long",
        call: |guest, step, params| match step {
            Step::FreeOutput if guest.is_too_long() => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-an-output-that-is-outside",
        call: |guest, step, params| {
            let result = guest.call(step, params)?;
            if let (Step::FreeInput, Some(output), None) = (step, guest.output, guest.held_output()) {
                guest.free(output)?;
            }
            Ok(result)
        },
        ..SOUND
    },
    Fault {
        name: "frees-null-where-the-fat-pointer-is-outside",
        call: |guest, step, params| {
            let result = guest.call(step, params)?;
            if step == Step::FreeInput && guest.output.is_none() {
                guest.free(Span::default())?;
            }
            Ok(result)
        },
        ..SOUND
    },
    // Lengths.
    Fault {
        name: "skips-alloc-for-length-0",
        call: |guest, step, params| match (step, params) {
            (Step::Alloc, [0]) => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "takes-null-for-length-0-as-a-failure",
        call: |guest, step, params| match (step, guest.call(step, params)?) {
            (Step::Alloc, 0) => Err(ErrorKind::Allocation { length: 0 }.into()),
            (_, result) => Ok(result),
        },
        ..SOUND
    },
    Fault {
        name: "takes-null-for-an-address",
        call: |guest, step, params| match step {
            Step::Alloc => {
                let address = guest.call(step, params)?;
                if address != 0 || guest.input.length == 0 {
                    return Ok(address);
                }
                // The layer takes no null for an address, so it is shown one behind the memory.
                let Some(mut copy) = guest.copy() else { return Ok(0) };
                let address = copy.len();
                copy.resize(address + guest.input.length as usize, 0);
                guest.show(copy);
                guest.pending = true;
                Ok(address as u32)
            }
            Step::Generate if guest.pending => {
                let shown = take(&mut guest.written);
                let input = shown.get(guest.memory().len()..).unwrap_or_default();
                guest.memory_mut().iter_mut().zip(input).for_each(|(to, from)| *to = *from);
                guest.call(step, &[0, guest.input.length])
            }
            Step::FreeInput if take(&mut guest.pending) => guest.free(guest.input),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "skips-dealloc-for-an-empty-input",
        call: |guest, step, params| match (step, params) {
            (Step::FreeInput, [_, 0]) => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "skips-dealloc-for-an-empty-output",
        call: |guest, step, params| match (step, params) {
            (Step::FreeOutput, [_, 0]) => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "allocates-a-byte-more",
        call: |guest, step, params| match (step, params) {
            (Step::Alloc, &[length]) => guest.call(step, &[length.saturating_add(1)]),
            (Step::FreeInput, &[address, length]) => guest.call(step, &[address, length.saturating_add(1)]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "writes-a-nul-behind-the-input",
        call: |guest, step, params| {
            if step == Step::Generate {
                let end = guest.input.address as usize + guest.input.length as usize;
                if let Some(byte) = guest.memory_mut().get_mut(end) {
                    *byte = 0;
                }
            }
            guest.call(step, params)
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-input-rounded-up-to-8",
        call: |guest, step, params| match (step, params) {
            (Step::FreeInput, &[address, length]) => guest.call(step, &[address, length.next_multiple_of(8)]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "allocates-characters",
        call: |guest, step, params| match step {
            Step::Alloc => guest.call(step, &[CHARACTERS.get()]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "generates-from-characters",
        call: |guest, step, params| match (step, params) {
            (Step::Generate, &[address, _]) => guest.call(step, &[address, CHARACTERS.get()]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-characters",
        call: |guest, step, params| match (step, params) {
            (Step::FreeInput, &[address, _]) => guest.call(step, &[address, CHARACTERS.get()]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    // The memory.
    Fault {
        name: "keeps-the-first-memory-size",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            guest.show_bound(guest.first_size);
            result
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-memory-size-across-a-call",
        call: |guest, step, params| {
            let before = guest.memory().len();
            let result = guest.call(step, params);
            guest.show_bound(before);
            result
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-memory-size-across-alloc",
        call: |guest, step, params| {
            let before = guest.memory().len();
            let result = guest.call(step, params);
            if step == Step::Alloc {
                guest.show_bound(before);
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-memory-size-across-info",
        call: |guest, step, params| {
            let before = guest.memory().len();
            let result = guest.call(step, params);
            if step == Step::Info {
                guest.show_bound(before);
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-memory-content-across-generate",
        call: |guest, step, params| {
            let before = guest.copy();
            let result = guest.call(step, params);
            if let (Step::Generate, Some(before)) = (step, before) {
                guest.show(before);
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "takes-addresses-as-signed",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            guest.show_bound(1 << 31);
            result
        },
        ..SOUND
    },
    Fault {
        name: "takes-lengths-as-signed",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            show_span(
                guest,
                step,
                |span| if span.length > i32::MAX as u32 { Span { length: 0, ..span } } else { span },
            );
            result
        },
        ..SOUND
    },
    Fault {
        name: "forgets-the-last-byte",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            guest.show_bound(guest.memory().len().saturating_sub(1));
            result
        },
        ..SOUND
    },
    Fault {
        name: "allows-a-byte-past-the-end",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            if let Some(mut copy) = guest.copy() {
                copy.push(0);
                guest.show(copy);
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "lets-address-and-length-wrap",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            let size = guest.memory().len();
            show_span(guest, step, |span| match span.address.checked_add(span.length) {
                None if (span.address.wrapping_add(span.length) as usize) <= size => Span::default(),
                _ => span,
            });
            result
        },
        ..SOUND
    },
    Fault {
        name: "allows-an-empty-output-anywhere",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            show_span(guest, step, |span| if span.length == 0 { Span::default() } else { span });
            result
        },
        ..SOUND
    },
    Fault {
        name: "allows-no-empty-output-at-the-end",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            let end = guest.memory().len();
            show_span(guest, step, |span| {
                let at_end = span.length == 0 && span.address as usize == end;
                if at_end { Span { length: 1, ..span } } else { span }
            });
            result
        },
        ..SOUND
    },
    // The fat pointer.
    Fault {
        name: "aligns-the-fat-pointer",
        call: |guest, step, params| {
            let result = guest.call(step, params)?;
            Ok(if step.answers() { result & !3 } else { result })
        },
        ..SOUND
    },
    Fault {
        name: "reads-the-fat-pointer-big-endian",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            show_span(guest, step, |span| Span {
                address: span.address.swap_bytes(),
                length: span.length.swap_bytes(),
            });
            result
        },
        ..SOUND
    },
    Fault {
        name: "swaps-address-and-length",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            show_span(guest, step, |span| Span { address: span.length, length: span.address });
            result
        },
        ..SOUND
    },
    Fault {
        name: "takes-a-null-fat-pointer-as-an-empty-answer",
        call: |guest, step, params| {
            let result = guest.call(step, params)?;
            if step.answers() && result == 0 {
                guest.show_fat_pointer(Span::default());
            }
            Ok(result)
        },
        ..SOUND
    },
    Fault {
        name: "takes-a-null-address-as-an-empty-answer",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            show_span(guest, step, |span| if span.address == 0 { Span::default() } else { span });
            result
        },
        ..SOUND
    },
    Fault {
        name: "reads-lengths-of-16-bits",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            show_span(guest, step, |span| Span { length: span.length & 0xffff, ..span });
            result
        },
        ..SOUND
    },
    Fault {
        name: "expects-the-fat-pointer-where-it-was",
        call: |guest, step, params| {
            let result = guest.call(step, params)?;
            Ok(match step {
                Step::Generate => guest.kept.get_or_insert(Span { address: result, length: 8 }).address,
                _ => result,
            })
        },
        ..SOUND
    },
    // How an instance starts.
    Fault {
        name: "forgets-initialize",
        call: |guest, step, params| if step == Step::Initialize { Ok(0) } else { guest.call(step, params) },
        ..SOUND
    },
    Fault {
        name: "initializes-twice",
        call: |guest, step, params| twice(guest, Step::Initialize, step, params),
        ..SOUND
    },
    Fault {
        name: "initializes-before-the-first-generate",
        call: |guest, step, params| match step {
            Step::Initialize => {
                guest.pending = true;
                Ok(0)
            }
            Step::Alloc if take(&mut guest.pending) => {
                guest.call(Step::Initialize, &[])?;
                guest.call(step, params)
            }
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "initializes-before-every-generate",
        call: |guest, step, params| {
            if step == Step::Initialize {
                guest.pending = true;
                return Ok(0);
            }
            if step == Step::Alloc && guest.pending {
                guest.call(Step::Initialize, &[])?;
            }
            guest.call(step, params)
        },
        ..SOUND
    },
    Fault {
        name: "allocates-before-it-initializes",
        start: |guest| {
            guest.resolve(Step::Alloc, &FuncType::new(&[ValType::I32], &[ValType::I32]))?;
            guest.call(Step::Alloc, &[1 << 10]).map(drop)
        },
        ..SOUND
    },
    Fault {
        name: "calls-_start-beside-_initialize",
        start: |guest| if guest.has(Step::Initialize) { guest.call_other("_start") } else { Ok(()) },
        ..SOUND
    },
    Fault {
        name: "calls-_start-twice",
        start: |guest| if guest.has(Step::Initialize) { Ok(()) } else { guest.call_other("_start") },
        ..SOUND
    },
    Fault {
        name: "forgets-_start",
        call: |guest, step, params| match step {
            Step::Command if guest.is_package() => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "drops-the-start-function",
        call: |guest, step, params| if step == Step::Start { Ok(0) } else { guest.call(step, params) },
        ..SOUND
    },
    Fault {
        name: "runs-the-start-function-twice",
        call: |guest, step, params| {
            if step == Step::Start {
                guest.call(step, params)?;
            }
            guest.call(step, params)
        },
        ..SOUND
    },
    Fault {
        name: "runs-the-start-function-after-initialize",
        call: |guest, step, params| match step {
            // Instances without an `_initialize` are not this fault's.
            Step::Start if guest.has(Step::Initialize) => Ok(0),
            Step::Initialize => {
                guest.call(step, params)?;
                if guest.has_start() { guest.call(Step::Start, &[]) } else { Ok(0) }
            }
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "asks-for-the-info-first",
        open: |package| {
            let opened = package.open()?;
            let _ = lock(&opened.session).info();
            Ok(opened)
        },
        ..SOUND
    },
    Fault { name: "lets-no-memory-grow", bytes: |wasm| bounded_memory(wasm, 0), ..SOUND },
    Fault { name: "lets-no-memory-grow-beyond-64-mib", bytes: |wasm| bounded_memory(wasm, 1 << 10), ..SOUND },
    // Names of traps.
    Fault { name: "takes-every-trap-for-unreachable", error: |error| renamed(error, |_| Trap::Unreachable), ..SOUND },
    Fault {
        name: "swaps-memory-and-table-out-of-bounds",
        error: |error| {
            renamed(error, |trap| match trap {
                Trap::MemoryOutOfBounds => Trap::TableOutOfBounds,
                Trap::TableOutOfBounds => Trap::MemoryOutOfBounds,
                other => other,
            })
        },
        ..SOUND
    },
    Fault {
        name: "takes-overflow-for-division-by-zero",
        error: |error| one_renamed(error, Trap::IntegerOverflow, Trap::IntegerDivisionByZero),
        ..SOUND
    },
    Fault {
        name: "takes-division-by-zero-for-overflow",
        error: |error| one_renamed(error, Trap::IntegerDivisionByZero, Trap::IntegerOverflow),
        ..SOUND
    },
    Fault {
        name: "takes-bad-conversions-for-overflow",
        error: |error| one_renamed(error, Trap::BadConversionToInteger, Trap::IntegerOverflow),
        ..SOUND
    },
    Fault {
        name: "takes-overflow-for-bad-conversions",
        error: |error| one_renamed(error, Trap::IntegerOverflow, Trap::BadConversionToInteger),
        ..SOUND
    },
    Fault {
        name: "takes-calls-of-null-for-bad-signatures",
        error: |error| one_renamed(error, Trap::IndirectCallToNull, Trap::BadSignature),
        ..SOUND
    },
    Fault {
        name: "takes-bad-signatures-for-calls-of-null",
        error: |error| one_renamed(error, Trap::BadSignature, Trap::IndirectCallToNull),
        ..SOUND
    },
    Fault {
        name: "takes-table-out-of-bounds-for-calls-of-null",
        error: |error| one_renamed(error, Trap::TableOutOfBounds, Trap::IndirectCallToNull),
        ..SOUND
    },
    Fault {
        name: "takes-calls-of-null-for-table-out-of-bounds",
        error: |error| one_renamed(error, Trap::IndirectCallToNull, Trap::TableOutOfBounds),
        ..SOUND
    },
    Fault {
        name: "takes-stack-overflow-for-an-engine-failure",
        error: |error| match error {
            ErrorKind::Trap { trap: Trap::StackOverflow, .. } => ErrorKind::Engine { operation: Operation::Call },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-stack-overflow-for-memory-out-of-bounds",
        error: |error| one_renamed(error, Trap::StackOverflow, Trap::MemoryOutOfBounds),
        ..SOUND
    },
    Fault {
        name: "takes-traps-while-instantiating-for-engine-failures",
        error: |error| match error {
            ErrorKind::Trap { export: None, .. } => ErrorKind::Engine { operation: Operation::Instantiate },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-traps-in-initialize-for-engine-failures",
        error: |error| match error {
            ErrorKind::Trap { export: Some(export), .. } if export == "_initialize" => {
                ErrorKind::Engine { operation: Operation::Instantiate }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-no-export-of-a-trap",
        error: |error| match error {
            ErrorKind::Trap { trap, .. } => ErrorKind::Trap { trap, export: None },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-no-export-of-a-trap-in-initialize",
        error: |error| match error {
            ErrorKind::Trap { trap, export: Some(export) } if export == "_initialize" => {
                ErrorKind::Trap { trap, export: None }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-every-export-for-generate",
        error: |error| match error {
            ErrorKind::Trap { trap, export: Some(_) } => {
                ErrorKind::Trap { trap, export: Some(Step::Generate.export().into()) }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-the-start-function-for-initialize",
        error: |error| match error {
            ErrorKind::Trap { trap, export: None } => {
                ErrorKind::Trap { trap, export: Some(Step::Initialize.export().into()) }
            }
            other => other,
        },
        ..SOUND
    },
    // What a trap does to a session.
    Fault {
        name: "swallows-a-trap-in-dealloc",
        call: |guest, step, params| match guest.call(step, params) {
            Err(_) if step.frees() => Ok(0),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-output-after-a-trap-in-freeing-the-input",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            if let (Step::FreeInput, Err(_), Some(output)) = (step, &result, guest.held_output()) {
                return guest.free(output).and(result);
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "swallows-a-trap-in-generate",
        call: |guest, step, params| match guest.call(step, params) {
            Err(_) if step == Step::Generate => Ok(guest.fat_pointer),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "swallows-a-trap-in-initialize",
        call: |guest, step, params| match guest.call(step, params) {
            Err(_) if step == Step::Initialize => Ok(0),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-input-after-a-trap-in-generate",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            if step == Step::Generate && result.is_err() {
                guest.free(guest.input)?;
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "drops-an-output-when-dealloc-traps",
        ask: |session, input| {
            let before = session.poison().is_some();
            let answer = session.ask(input)?;
            match session.poison() {
                Some(fault) if !before => Err(fault),
                _ => Ok(answer),
            }
        },
        ..SOUND
    },
    Fault {
        name: "reports-a-trap-in-dealloc-instead-of-a-bad-output",
        ask: |session, input| {
            let before = session.poison().is_some();
            session.ask(input).map_err(|error| match session.poison() {
                Some(fault) if !before => fault,
                _ => error,
            })
        },
        ..SOUND
    },
    Fault {
        name: "goes-on-after-a-trap",
        call: going_on,
        ask: asked_going_on,
        fault: |session| session.error.clone(),
        ..SOUND
    },
    Fault {
        name: "opens-a-new-session-after-a-trap",
        ask: |session, input| match session.ask(input) {
            Err(error) if *error.kind() == ErrorKind::Poisoned => {
                session.session = session.package.open()?.session;
                session.ask(input)
            }
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "answers-info-after-a-trap",
        ask: |session, input| {
            let result = session.ask(input);
            match (input, &result) {
                (None, Ok(info)) => {
                    session.answers.insert(None, info.clone());
                }
                (None, Err(error)) if *error.kind() == ErrorKind::Poisoned => {
                    return session.answers.get(&None).cloned().map_or(result, Ok);
                }
                _ => {}
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "repeats-the-trap-instead-of-poisoned",
        ask: |session, input| {
            let before = session.poison();
            session.ask(input).map_err(|error| before.unwrap_or(error))
        },
        ..SOUND
    },
    Fault { name: "tells-of-no-fault", fault: |_| None, ..SOUND },
    Fault {
        name: "tells-of-faults-in-dealloc-only",
        fault: |session| {
            let dealloc = Step::FreeInput.export();
            session.poison().filter(
                |fault| matches!(fault.kind(), ErrorKind::Trap { export: Some(export), .. } if export == dealloc),
            )
        },
        ..SOUND
    },
    Fault {
        name: "replaces-the-fault-by-the-latest-error",
        ask: keep_error,
        fault: |session| session.poison().and_then(|fault| session.error.clone().or(Some(fault))),
        ..SOUND
    },
    Fault {
        name: "forgets-the-fault-once-told",
        ask: |session, input| {
            session.error = session.poison();
            session.ask(input)
        },
        fault: |session| session.poison().filter(|_| session.error.is_none()),
        ..SOUND
    },
    Fault {
        name: "poisons-after-any-error",
        ask: |session, input| match &session.error {
            Some(_) => Err(ErrorKind::Poisoned.into()),
            None => keep_error(session, input),
        },
        fault: |session| session.poison().or_else(|| session.error.clone()),
        ..SOUND
    },
    Fault {
        name: "poisons-the-whole-package",
        ask: |session, input| {
            let package = session.package.clone();
            if lock(&package.answers).contains_key(&None) {
                return Err(ErrorKind::Poisoned.into());
            }
            let result = session.ask(input);
            if session.poison().is_some() {
                lock(&package.answers).insert(None, String::new());
            }
            result
        },
        ..SOUND
    },
    // Text.
    Fault {
        name: "takes-bad-utf8-lossily",
        call: |guest, step, params| lossy(guest, step, params, |_, _| true),
        ..SOUND
    },
    Fault {
        name: "takes-bad-utf8-lossily-in-info-only",
        call: |guest, step, params| match step {
            Step::Info => lossy(guest, step, params, |_, _| true),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "takes-surrogates-for-utf8",
        call: |guest, step, params| {
            lossy(guest, step, params, |bad, _| matches!(bad, [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..]))
        },
        ..SOUND
    },
    Fault {
        name: "takes-overlong-forms-for-utf8",
        call: |guest, step, params| {
            lossy(guest, step, params, |bad, _| {
                matches!(bad, [0xc0 | 0xc1, 0x80..=0xff, ..] | [0xe0, 0x80..=0x9f, ..] | [0xf0, 0x80..=0x8f, ..])
            })
        },
        ..SOUND
    },
    Fault {
        name: "takes-characters-past-10ffff-for-utf8",
        call: |guest, step, params| {
            lossy(guest, step, params, |bad, _| matches!(bad, [0xf4, 0x90..=0xbf, ..] | [0xf5..=0xf7, 0x80..=0xbf, ..]))
        },
        ..SOUND
    },
    Fault {
        name: "takes-a-cut-off-character-for-utf8",
        call: |guest, step, params| lossy(guest, step, params, |_, error| error.error_len().is_none()),
        ..SOUND
    },
    Fault {
        name: "checks-utf8-in-the-first-kib-only",
        call: |guest, step, params| lossy(guest, step, params, |_, error| error.valid_up_to() >= 1 << 10),
        ..SOUND
    },
    Fault {
        name: "tells-the-bad-byte-counted-from-1",
        error: |error| match error {
            ErrorKind::InvalidUtf8 { region, offset } => ErrorKind::InvalidUtf8 { region, offset: offset + 1 },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-no-offset-of-the-bad-byte",
        error: |error| match error {
            ErrorKind::InvalidUtf8 { region, .. } => ErrorKind::InvalidUtf8 { region, offset: 0 },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "stops-at-nul",
        ask: |session, input| answer(session, input, |text| text.split('\0').next().unwrap_or_default().to_owned()),
        ..SOUND
    },
    Fault {
        name: "stops-the-input-at-nul",
        ask: |session, input| session.ask(input.and_then(|input| input.split('\0').next())),
        ..SOUND
    },
    Fault {
        name: "strips-a-byte-order-mark",
        ask: |session, input| answer(session, input, |text| text.trim_start_matches('\u{feff}').to_owned()),
        ..SOUND
    },
    Fault {
        name: "strips-the-byte-order-mark-of-an-input",
        ask: |session, input| session.ask(input.map(|input| input.trim_start_matches('\u{feff}'))),
        ..SOUND
    },
    Fault {
        name: "trims-line-ends",
        ask: |session, input| answer(session, input, |text| text.trim_end_matches(['\r', '\n']).to_owned()),
        ..SOUND
    },
    Fault { name: "trims-the-input", ask: |session, input| session.ask(input.map(str::trim)), ..SOUND },
    Fault {
        name: "adds-a-line-end",
        ask: |session, input| {
            answer(session, input, |text| if text.ends_with('\n') { text } else { format!("{text}\n") })
        },
        ..SOUND
    },
    Fault {
        name: "adds-a-line-end-to-the-input",
        ask: |session, input| match input {
            Some(input) if !input.ends_with('\n') => session.ask(Some(&format!("{input}\n"))),
            _ => session.ask(input),
        },
        ..SOUND
    },
    Fault {
        name: "normalises-line-ends",
        ask: |session, input| answer(session, input, |text| text.replace("\r\n", "\n")),
        ..SOUND
    },
    Fault {
        name: "normalises-line-ends-of-an-input",
        ask: |session, input| session.ask(input.map(|input| input.replace("\r\n", "\n")).as_deref()),
        ..SOUND
    },
    Fault {
        name: "drops-control-characters",
        ask: |session, input| {
            answer(session, input, |text| {
                text.chars().filter(|char| !char.is_control() || char.is_whitespace()).collect()
            })
        },
        ..SOUND
    },
    Fault {
        name: "composes-characters",
        // Of all that a normalisation does, what it does to one letter with one accent.
        ask: |session, input| answer(session, input, |text| text.replace("e\u{301}", "\u{e9}")),
        ..SOUND
    },
    Fault {
        name: "replaces-characters-outside-the-basic-plane",
        ask: |session, input| {
            answer(session, input, |text| {
                text.chars().map(|char| if char > '\u{ffff}' { '\u{fffd}' } else { char }).collect()
            })
        },
        ..SOUND
    },
    Fault {
        name: "trims-the-info",
        ask: |session, input| match input {
            None => session.ask(None).map(|info| info.trim().to_owned()),
            _ => session.ask(input),
        },
        ..SOUND
    },
    Fault {
        name: "cuts-outputs-at-64-kib",
        ask: |session, input| answer(session, input, |text| cut(&text).to_owned()),
        ..SOUND
    },
    Fault { name: "cuts-inputs-at-64-kib", ask: |session, input| session.ask(input.map(cut)), ..SOUND },
    Fault {
        name: "refuses-an-empty-output",
        ask: |session, input| match session.ask(input) {
            Ok(output) if output.is_empty() => {
                Err(ErrorKind::OutOfBounds { region: Region::Output, address: 0, length: 0, memory: 0 }.into())
            }
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "answers-an-empty-input-itself",
        ask: |session, input| if input == Some("") { Ok(String::new()) } else { session.ask(input) },
        ..SOUND
    },
    Fault {
        name: "answers-with-the-input-where-the-output-is-empty",
        ask: |session, input| {
            session.ask(input).map(|output| if output.is_empty() { input.unwrap_or_default().into() } else { output })
        },
        ..SOUND
    },
    // The limit.
    Fault {
        name: "allows-less-than-the-limit-only",
        ask: |session, input| limited(session, input, |text, limit| text.len() as u64 >= limit, |text| text.len()),
        ..SOUND
    },
    Fault { name: "knows-no-limit", limits: |limits| limits.max_output(u64::MAX), ..SOUND },
    Fault { name: "knows-only-the-default-limit", limits: |_| Limits::default(), ..SOUND },
    Fault {
        name: "allows-a-byte-more-than-the-limit",
        limits: |limits| {
            let bytes = limits.max_output.saturating_add(1);
            limits.max_output(bytes)
        },
        error: |error| match error {
            ErrorKind::TooLong { region, length, limit } => ErrorKind::TooLong { region, length, limit: limit - 1 },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "counts-characters-for-the-limit",
        limits: |limits| limits.max_output(u64::MAX),
        ask: |session, input| {
            limited(session, input, |text, limit| text.chars().count() as u64 > limit, |text| text.chars().count())
        },
        ..SOUND
    },
    Fault {
        name: "tells-the-length-in-characters",
        limits: |limits| limits.max_output(u64::MAX),
        ask: |session, input| {
            limited(session, input, |text, limit| text.len() as u64 > limit, |text| text.chars().count())
        },
        ..SOUND
    },
    Fault {
        name: "checks-utf8-before-the-length",
        limits: |limits| limits.max_output(u64::MAX),
        ask: |session, input| limited(session, input, |text, limit| text.len() as u64 > limit, |text| text.len()),
        ..SOUND
    },
    Fault {
        name: "checks-the-length-before-the-range",
        ask: |session, input| {
            let limit = session.package.max_output;
            session.ask(input).map_err(|error| match error.kind() {
                ErrorKind::OutOfBounds { region: region @ (Region::Info | Region::Output), length, .. }
                    if u64::from(*length) > limit =>
                {
                    ErrorKind::TooLong { region: region.clone(), length: u64::from(*length), limit }.into()
                }
                _ => error,
            })
        },
        ..SOUND
    },
    Fault {
        name: "cuts-at-the-limit",
        limits: |limits| limits.max_output(u64::MAX),
        ask: |session, input| {
            let limit = session.package.max_output;
            session.ask(input).map(|text| {
                let fits = |(at, char): &(usize, char)| (at + char.len_utf8()) as u64 <= limit;
                text.char_indices().take_while(fits).map(|(_, char)| char).collect()
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-inputs-too",
        ask: |session, input| {
            let (length, limit) = (input.unwrap_or_default().len() as u64, session.package.max_output);
            if length > limit {
                return Err(ErrorKind::TooLong { region: Region::Input, length, limit }.into());
            }
            session.ask(input)
        },
        ..SOUND
    },
    Fault {
        name: "limits-no-info",
        limits: |limits| limits.max_output(u64::MAX),
        call: |guest, step, params| {
            let result = guest.call(step, params);
            if step == Step::Generate {
                LENGTH.set(guest.held_output().unwrap_or_default().length.into());
            }
            result
        },
        ask: |session, input| {
            LENGTH.set(0);
            let result = session.ask(input);
            let (length, limit) = (LENGTH.get(), session.package.max_output);
            if length > limit {
                Err(ErrorKind::TooLong { region: Region::Output, length, limit }.into())
            } else {
                result
            }
        },
        ..SOUND
    },
    // What errors say.
    Fault {
        name: "takes-info-for-an-output",
        error: |error| other_region(error, |region| if region == Region::Info { Region::Output } else { region }),
        ..SOUND
    },
    Fault {
        name: "takes-the-fat-pointer-for-the-output",
        error: |error| other_region(error, |region| if region == Region::FatPointer { Region::Output } else { region }),
        ..SOUND
    },
    Fault {
        name: "takes-the-input-for-the-output",
        error: |error| other_region(error, |region| if region == Region::Input { Region::Output } else { region }),
        ..SOUND
    },
    Fault {
        name: "takes-an-input-outside-for-a-failed-allocation",
        error: |error| match error {
            ErrorKind::OutOfBounds { region: Region::Input, length, .. } => ErrorKind::Allocation { length },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-a-failed-allocation-for-an-input-outside",
        error: |error| match error {
            ErrorKind::Allocation { length } => {
                ErrorKind::OutOfBounds { region: Region::Input, address: 0, length, memory: 0 }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-the-memory-size-in-pages",
        error: |error| match error {
            ErrorKind::OutOfBounds { region, address, length, memory } => {
                ErrorKind::OutOfBounds { region, address, length, memory: memory >> 16 }
            }
            other => other,
        },
        ..SOUND
    },
    // Sessions.
    Fault {
        name: "keeps-per-session-info",
        ask: |session, input| match input {
            None => kept_answer(session, input),
            _ => session.ask(input),
        },
        ..SOUND
    },
    Fault {
        name: "keeps-per-package-info",
        ask: |session, input| match input {
            None => package_answer(session, input),
            _ => session.ask(input),
        },
        ..SOUND
    },
    Fault { name: "keeps-per-session-answers", ask: kept_answer, ..SOUND },
    Fault { name: "keeps-per-package-answers", ask: package_answer, ..SOUND },
    Fault {
        name: "uses-an-instance-again",
        open: |package| package.open_kept(|_, session| is_free(session) && lock(session).fault().is_none()),
        ..SOUND
    },
    Fault {
        name: "uses-an-instance-again-with-its-globals",
        start: keep_fresh,
        open: |package| package.open_kept(|_, session| is_free(session) && lock(session).fault().is_none()),
        ask: |session, input| {
            RESET.set(take(&mut session.reused));
            let result = session.ask(input);
            RESET.set(false);
            result
        },
        ..SOUND
    },
    Fault {
        name: "uses-an-instance-again-with-its-memory",
        ask: |session, input| {
            HANDED_ON.with(|memory| *memory.borrow_mut() = Some(session.package.memory.clone()));
            let result = session.ask(input);
            HANDED_ON.with(|memory| memory.borrow_mut().take());
            result
        },
        call: |guest, step, params| {
            let memory = HANDED_ON.with(|memory| memory.borrow().clone());
            let Some(memory) = memory else { return guest.call(step, params) };
            if !replace(&mut guest.pending, true) {
                for (to, from) in guest.memory_mut().iter_mut().zip(&*lock(&memory)) {
                    *to = *from;
                }
            }
            let result = guest.call(step, params);
            if let Some(copy) = guest.copy() {
                *lock(&memory) = copy;
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "shares-an-instance-between-sessions",
        open: |package| {
            lock(&package.sessions).retain(|(_, session)| !is_free(session));
            package.open_kept(|_, _| true)
        },
        ..SOUND
    },
    Fault {
        name: "shares-an-instance-between-threads",
        open: |package| {
            lock(&package.sessions).retain(|(_, session)| !is_free(session));
            package.open_kept(|by, _| by != thread::current().id())
        },
        ..SOUND
    },
    Fault {
        name: "opens-one-session-at-a-time",
        open: |package| {
            let opened = package.open()?;
            let mut sessions = lock(&package.sessions);
            sessions.retain(|(_, session)| !is_free(session));
            if !sessions.is_empty() {
                return Err(Error::engine(Operation::Instantiate, "another session is open"));
            }
            sessions.push((thread::current().id(), opened.session.clone()));
            Ok(opened)
        },
        ..SOUND
    },
    Fault {
        name: "opens-sessions-on-one-thread-only",
        open: |package| {
            let opened = package.open()?;
            let id = thread::current().id();
            let mut sessions = lock(&package.sessions);
            match sessions.first() {
                Some((first, _)) if *first != id => {
                    Err(Error::engine(Operation::Instantiate, "another thread's package"))
                }
                Some(_) => Ok(opened),
                None => {
                    sessions.push((id, opened.session.clone()));
                    Ok(opened)
                }
            }
        },
        ..SOUND
    },
    Fault {
        name: "opens-100-sessions-only",
        open: |package| match package.opened.load(Relaxed) {
            ..100 => package.open(),
            _ => Err(Error::engine(Operation::Instantiate, "no place is left for an instance")),
        },
        ..SOUND
    },
    Fault {
        name: "opens-a-session-for-every-call",
        ask: |session, input| {
            session.session = session.package.open()?.session;
            session.ask(input)
        },
        ..SOUND
    },
    Fault {
        name: "answers-1000-calls-only",
        ask: |session, input| {
            let mut asked = lock(&session.package.asked);
            *asked += 1;
            if *asked > 1000 {
                return Err(Error::engine(Operation::Call, "no fuel is left"));
            }
            drop(asked);
            session.ask(input)
        },
        ..SOUND
    },
    // Modules.
    Fault {
        name: "tells-the-first-problem-only",
        error: |error| match error {
            ErrorKind::Interface { mut problems } => {
                problems.truncate(1);
                ErrorKind::Interface { problems }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-the-first-import-only",
        error: |error| match error {
            ErrorKind::Interface { mut problems } => {
                let mut imports = 0;
                problems.retain(|problem| {
                    !matches!(problem, Problem::UnknownImport { .. }) || {
                        imports += 1;
                        imports == 1
                    }
                });
                ErrorKind::Interface { problems }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "ignores-unknown-imports",
        refuse: |error| without(error, |problem| matches!(problem, Problem::UnknownImport { .. })),
        ..SOUND
    },
    Fault {
        name: "ignores-imports-of-wasi",
        refuse: |error| {
            without(error, |problem| match problem {
                Problem::UnknownImport { module, .. } => module.starts_with("wasi"),
                _ => false,
            })
        },
        ..SOUND
    },
    Fault {
        name: "ignores-a-mistyped-initialize",
        refuse: |error| {
            without(error, |problem| match problem {
                Problem::MistypedExport { export, .. } => export == Step::Initialize.export(),
                _ => false,
            })
        },
        ..SOUND
    },
    Fault {
        name: "ignores-types-of-exports",
        refuse: |error| {
            without(error, |problem| match problem {
                Problem::MistypedExport { expected, found, .. } => expected.kind() == found.kind(),
                _ => false,
            })
        },
        ..SOUND
    },
    Fault {
        name: "ignores-kinds-of-exports",
        refuse: |error| {
            without(error, |problem| match problem {
                Problem::MistypedExport { expected, found, .. } => expected.kind() != found.kind(),
                _ => false,
            })
        },
        ..SOUND
    },
    Fault {
        name: "takes-an-export-of-another-kind-for-a-missing-one",
        error: |error| match error {
            ErrorKind::Interface { problems } => {
                let missing = |problem| match problem {
                    Problem::MistypedExport { export, expected, found } if expected.kind() != found.kind() => {
                        Problem::MissingExport { export, expected }
                    }
                    other => other,
                };
                ErrorKind::Interface { problems: problems.into_iter().map(missing).collect() }
            }
            other => other,
        },
        ..SOUND
    },
    Fault { name: "needs-no-memory", refuse: |error| without_missing(error, "memory"), ..SOUND },
    Fault { name: "needs-no-info", refuse: |error| without_missing(error, Step::Info.export()), ..SOUND },
    Fault { name: "needs-no-alloc", refuse: |error| without_missing(error, Step::Alloc.export()), ..SOUND },
    Fault { name: "needs-no-dealloc", refuse: |error| without_missing(error, Step::FreeInput.export()), ..SOUND },
    Fault { name: "needs-no-generate", refuse: |error| without_missing(error, Step::Generate.export()), ..SOUND },
    Fault {
        name: "lists-imports-first",
        error: |error| match error {
            ErrorKind::Interface { mut problems } => {
                problems.sort_by_key(|problem| !matches!(problem, Problem::UnknownImport { .. }));
                ErrorKind::Interface { problems }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "accepts-any-feature",
        refuse: |error| Some(error).filter(|error| !matches!(error, ErrorKind::UnsupportedFeature { .. })),
        ..SOUND
    },
    Fault { name: "accepts-relaxed-simd", refuse: |error| with_feature(error, "relaxed-simd"), ..SOUND },
    Fault { name: "accepts-threads", refuse: |error| with_feature(error, "threads"), ..SOUND },
    Fault { name: "accepts-tail-call", refuse: |error| with_feature(error, "tail-call"), ..SOUND },
    Fault { name: "accepts-multi-memory", refuse: |error| with_feature(error, "multi-memory"), ..SOUND },
    Fault { name: "accepts-memory64", refuse: |error| with_feature(error, "memory64"), ..SOUND },
    Fault { name: "accepts-exception-handling", refuse: |error| with_feature(error, "exception-handling"), ..SOUND },
    Fault {
        name: "accepts-legacy-exception-handling",
        refuse: |error| with_feature(error, "legacy-exception-handling"),
        ..SOUND
    },
    Fault { name: "accepts-function-references", refuse: |error| with_feature(error, "function-references"), ..SOUND },
    Fault { name: "accepts-gc", refuse: |error| with_feature(error, "gc"), ..SOUND },
    Fault { name: "accepts-custom-page-sizes", refuse: |error| with_feature(error, "custom-page-sizes"), ..SOUND },
    Fault { name: "accepts-stack-switching", refuse: |error| with_feature(error, "stack-switching"), ..SOUND },
    Fault { name: "accepts-wide-arithmetic", refuse: |error| with_feature(error, "wide-arithmetic"), ..SOUND },
    Fault {
        name: "takes-unsupported-features-for-malformed-modules",
        error: |error| match error {
            ErrorKind::UnsupportedFeature { offset, .. } => ErrorKind::Malformed { offset },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "names-every-feature-relaxed-simd",
        error: |error| match error {
            ErrorKind::UnsupportedFeature { offset, backend, .. } => {
                ErrorKind::UnsupportedFeature { feature: "relaxed-simd".into(), offset, backend }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-the-offset-of-a-feature-behind-the-header",
        error: |error| match error {
            ErrorKind::UnsupportedFeature { feature, offset, backend } => {
                ErrorKind::UnsupportedFeature { feature, offset: offset.saturating_sub(8), backend }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-a-malformed-offset-behind-the-header",
        error: |error| match error {
            ErrorKind::Malformed { offset } => ErrorKind::Malformed { offset: offset.saturating_sub(8) },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "accepts-malformed-modules",
        refuse: |error| Some(error).filter(|error| !matches!(error, ErrorKind::Malformed { .. })),
        ..SOUND
    },
    Fault {
        name: "takes-truncated-modules-for-malformed-ones",
        error: |error| match error {
            ErrorKind::Truncated { offset, .. } => ErrorKind::Malformed { offset },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "miscounts-what-is-missing",
        error: |error| match error {
            ErrorKind::Truncated { offset, missing } => ErrorKind::Truncated { offset, missing: missing + 1 },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-all-that-is-no-module-for-malformed",
        error: |error| match error {
            ErrorKind::NotAModule { .. } => ErrorKind::Malformed { offset: 0 },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-components-for-another-version",
        error: |error| other_found(error, Found::Component, Found::Version),
        ..SOUND
    },
    Fault {
        name: "takes-text-for-unknown-bytes",
        error: |error| other_found(error, Found::Text, Found::Unknown),
        ..SOUND
    },
    Fault {
        name: "takes-empty-files-for-unknown-bytes",
        error: |error| other_found(error, Found::Empty, Found::Unknown),
        ..SOUND
    },
    Fault {
        name: "takes-unknown-bytes-for-text",
        error: |error| other_found(error, Found::Unknown, Found::Text),
        ..SOUND
    },
    Fault { name: "counts-no-imports", refuse: |error| uncounted(error, Item::Imports), ..SOUND },
    Fault { name: "counts-no-tables", refuse: |error| uncounted(error, Item::Tables), ..SOUND },
    Fault { name: "counts-no-elements", refuse: |error| uncounted(error, Item::TableElements), ..SOUND },
    Fault { name: "counts-no-frames", refuse: |error| uncounted(error, Item::FrameValues), ..SOUND },
    Fault {
        name: "compiles-when-a-session-is-opened",
        // What is wrong with a module is then only told by the first session.
        refuse: |_| None,
        ..SOUND
    },
    // Host functions: numbers.
    Fault {
        name: "swaps-parameters-of-host-functions",
        host: |name, slots, call| {
            if name.starts_with("sub") || name.starts_with("div") {
                slots.swap(0, 1);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "loses-the-upper-half-of-i64-parameters",
        host: |name, slots, call| {
            if matches!(name, "sub_i64" | "halve_i64" | "wide") {
                slots.iter_mut().for_each(|slot| *slot &= u64::from(u32::MAX));
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "loses-the-upper-half-of-an-i64-result",
        host: |name, slots, call| {
            call(slots)?;
            if matches!(name, "sub_i64" | "halve_i64" | "wide" | "pair" | "swap" | "twelve") {
                slots[0] &= u64::from(u32::MAX);
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "takes-i64-as-unsigned",
        host: |name, slots, call| match name {
            "halve_i64" => {
                slots[0] /= 2;
                Ok(())
            }
            _ => call(slots),
        },
        ..SOUND
    },
    Fault {
        name: "passes-f64-as-f32",
        host: |name, slots, call| {
            if name == "div_f64" {
                slots.iter_mut().for_each(|slot| *slot = f64::from(f64::from_bits(*slot) as f32).to_bits());
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "flushes-subnormal-numbers",
        host: |name, slots, call| {
            if name == "div_f32" && !f32::from_bits(slots[0] as u32).is_normal() {
                slots[0] &= 1 << 31;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "quietens-a-nan-for-the-guest",
        host: |name, slots, call| {
            if name == "convert" {
                slots[1] |= 1 << 51;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "makes-a-nan-from-the-guest-canonical",
        host: |name, slots, call| {
            call(slots)?;
            if name == "convert" && f32::from_bits(slots[0] as u32).is_nan() {
                slots[0] = 0x7fc0_0000;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "reverses-results",
        host: |name, slots, call| {
            call(slots)?;
            if name == "four" {
                slots[..4].reverse();
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "gives-no-more-results-than-there-are-parameters",
        host: |name, slots, call| {
            call(slots)?;
            if name == "four" {
                slots[..4].fill(0);
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "passes-eight-parameters-at-most",
        host: |name, slots, call| {
            if name == "twelve" {
                slots[8..].fill(0);
            }
            call(slots)
        },
        ..SOUND
    },
    // Host functions: state and memory.
    Fault {
        name: "shares-the-state-of-sessions",
        host: |name, slots, call| {
            call(slots)?;
            if name == "count" {
                CALLS.set(CALLS.get() + 1);
                slots[0] = CALLS.get().into();
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "gives-each-call-a-state-of-its-own",
        host: |name, slots, call| {
            call(slots)?;
            if name == "count" {
                slots[0] = 1;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "fills-no-buffer-to-its-end",
        host: |name, slots, call| {
            if name == "noted" {
                slots[1] = slots[1].saturating_sub(1);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "tells-no-length-of-what-does-not-fit",
        host: |name, slots, call| {
            let limit = slots.get(1).copied();
            call(slots)?;
            if name == "noted" && limit < slots.first().copied() {
                slots[0] = 0;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "packs-the-length-above-the-address",
        host: |name, slots, call| {
            call(slots)?;
            if matches!(name, "give" | "igets") {
                slots[0] = slots[0].rotate_left(32);
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "overlooks-ranges-outside",
        host: |_, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::OutOfBounds { .. }) => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "takes-an-empty-range-at-the-end-for-one-outside",
        host: |name, slots, call| {
            if let ("sum" | "oputs" | "eputs", [0x10000, 0, ..]) = (name, &*slots) {
                slots[0] += 1;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "takes-an-empty-range-past-the-end-for-one-inside",
        host: |name, slots, call| match (name, &*slots) {
            ("sum" | "oputs" | "eputs", [_, 0, ..]) => Ok(()),
            _ => call(slots),
        },
        ..SOUND
    },
    Fault {
        name: "wraps-ends-of-ranges",
        host: |name, slots, call| {
            let wraps = |address: u64, length: u64| (address as u32).checked_add(length as u32).is_none();
            match (name, &*slots) {
                ("sum" | "oputs" | "eputs", [address, length, ..]) if wraps(*address, *length) => Ok(()),
                _ => call(slots),
            }
        },
        ..SOUND
    },
    Fault {
        name: "replaces-what-is-not-utf8-in-arguments",
        host: |_, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::InvalidUtf8 { .. }) => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "takes-ranges-outside-for-traps",
        host: |_, slots, call| {
            call(slots).map_err(|error| match error.kind() {
                ErrorKind::OutOfBounds { .. } => Error::trap(Trap::MemoryOutOfBounds, "a range outside"),
                _ => error,
            })
        },
        ..SOUND
    },
    Fault {
        name: "names-no-argument",
        error: |error| {
            other_region(error, |region| match region {
                Region::Argument { function, .. } => Region::Argument { function, argument: "argument 1".into() },
                other => other,
            })
        },
        ..SOUND
    },
    Fault {
        name: "names-no-host-function",
        error: |error| {
            other_region(error, |region| match region {
                Region::Argument { .. } => Region::Input,
                other => other,
            })
        },
        ..SOUND
    },
    // Host functions: failures.
    Fault {
        name: "takes-failures-of-host-functions-for-success",
        host: |_, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::Host { .. }) => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "takes-failures-of-host-functions-for-traps",
        host: |_, slots, call| {
            call(slots).map_err(|error| match error.kind() {
                ErrorKind::Host { .. } => Error::trap(Trap::Unreachable, error),
                _ => error,
            })
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-words-of-an-error-only",
        host: |_, slots, call| {
            call(slots).map_err(|error| match (error.kind(), std::error::Error::source(&error)) {
                (kind @ ErrorKind::Host { .. }, Some(source)) => Error::with_source(kind.clone(), source.to_string()),
                _ => error,
            })
        },
        ..SOUND
    },
    Fault {
        name: "loses-the-words-of-a-panic",
        host: |name, slots, call| {
            let result = catch_unwind(AssertUnwindSafe(|| call(slots)));
            result.unwrap_or_else(|_| {
                Err(ErrorKind::HostPanic { module: "test".into(), name: name.to_owned().into() }.into())
            })
        },
        ..SOUND
    },
    Fault {
        name: "takes-a-panic-for-a-trap",
        host: |_, slots, call| {
            let result = catch_unwind(AssertUnwindSafe(|| call(slots)));
            result.unwrap_or_else(|_| Err(Error::trap(Trap::Unreachable, "a panic")))
        },
        ..SOUND
    },
    Fault {
        name: "takes-a-panic-for-success",
        host: |_, slots, call| catch_unwind(AssertUnwindSafe(|| call(slots))).unwrap_or(Ok(())),
        ..SOUND
    },
    Fault {
        name: "goes-on-after-a-panic",
        call: |guest, step, params| {
            held(guest, step, params, |error| matches!(error.kind(), ErrorKind::HostPanic { .. }))
        },
        ask: asked_holding,
        ..SOUND
    },
    Fault {
        name: "goes-on-after-a-failed-host-function",
        call: |guest, step, params| held(guest, step, params, |error| matches!(error.kind(), ErrorKind::Host { .. })),
        ask: asked_holding,
        ..SOUND
    },
    Fault {
        name: "goes-on-after-a-bad-argument",
        call: |guest, step, params| {
            held(guest, step, params, |error| {
                matches!(error.kind(), ErrorKind::OutOfBounds { .. } | ErrorKind::InvalidUtf8 { .. })
            })
        },
        ask: asked_holding,
        ..SOUND
    },
    Fault {
        name: "goes-on-after-an-exit",
        call: |guest, step, params| held(guest, step, params, |error| error.exit_code().is_some()),
        ask: asked_holding,
        ..SOUND
    },
    Fault {
        name: "tells-of-traps-only",
        fault: |session| session.poison().filter(|error| error.as_trap().is_some()),
        ..SOUND
    },
    Fault {
        name: "has-a-host-function-make-light-of-a-failure",
        host: |name, slots, call| match (name, call(slots)) {
            ("try", Err(_)) => {
                slots[0] = 1;
                Ok(())
            }
            (_, result) => result,
        },
        ..SOUND
    },
    Fault {
        name: "has-a-host-function-try-again",
        host: |name, slots, call| if name == "try_twice" { call(slots).or(Ok(())) } else { call(slots) },
        ..SOUND
    },
    Fault {
        name: "keeps-the-trap-where-the-host-has-another-error",
        host: |name, slots, call| match (name, call(slots)) {
            ("instead", Err(_)) => {
                Err(Error::new(ErrorKind::Trap { trap: Trap::Unreachable, export: Some("attempt".into()) }))
            }
            (_, result) => result,
        },
        ..SOUND
    },
    Fault {
        name: "names-the-outermost-export",
        error: |error| match error {
            ErrorKind::Trap { trap, export: Some(export) }
                if !export.starts_with("__mistletoe") && export != "free" =>
            {
                ErrorKind::Trap { trap, export: Some(Step::Generate.export().into()) }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-exit-code-0-for-success",
        host: |_, slots, call| match call(slots) {
            Err(error) if error.exit_code() == Some(0) => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "takes-an-exit-for-a-trap",
        error: |error| match error {
            ErrorKind::Exit { .. } => ErrorKind::Trap { trap: Trap::Unreachable, export: None },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "keeps-a-byte-of-an-exit-code",
        error: |error| match error {
            ErrorKind::Exit { code } => ErrorKind::Exit { code: code & 0xff },
            other => other,
        },
        ..SOUND
    },
    // Host functions: how deeply calls are nested.
    Fault {
        name: "nests-63-calls-only",
        host: |name, slots, call| nested(name, slots, call, |depth| depth > 63, || Err(too_deep())),
        ..SOUND
    },
    Fault {
        name: "nests-65-calls",
        host: |name, slots, call| nested(name, slots, call, |depth| depth > 64, || Ok(())),
        ..SOUND
    },
    Fault {
        name: "counts-calls-that-are-over",
        host: |name, slots, call| {
            if name == "again" {
                CALLS.set(CALLS.get() + 1);
                if CALLS.get() > 64 {
                    return Err(too_deep());
                }
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "counts-nested-calls-by-host-function",
        host: |name, slots, call| match (name, call(slots)) {
            ("again_kept", Err(error)) if error.as_trap() == Some(Trap::StackOverflow) => {
                slots[0] = 0;
                Ok(())
            }
            (_, result) => result,
        },
        ..SOUND
    },
    // Host functions: what is offered.
    Fault {
        name: "ignores-types-of-imports",
        refuse: |error| without(error, |problem| matches!(problem, Problem::MistypedImport { .. })),
        ..SOUND
    },
    Fault {
        name: "takes-a-mistyped-import-for-an-unknown-one",
        error: |error| match error {
            ErrorKind::Interface { problems } => {
                let unknown = |problem| match problem {
                    Problem::MistypedImport { module, name, found, .. } => {
                        Problem::UnknownImport { module, name, found }
                    }
                    other => other,
                };
                ErrorKind::Interface { problems: problems.into_iter().map(unknown).collect() }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "ignores-imports-that-are-no-functions",
        refuse: |error| {
            without(error, |problem| match problem {
                Problem::MistypedImport { found, .. } => found.kind() != "func",
                _ => false,
            })
        },
        ..SOUND
    },
    Fault {
        name: "calls-what-wasm-bindgen-leaves-an-error",
        host: |name, slots, call| match name {
            "__wbindgen_init_externref_table" => Err(Error::trap(Trap::Unreachable, "nobody calls it")),
            _ => call(slots),
        },
        ..SOUND
    },
    // Plugins: who frees what, and when.
    Fault {
        name: "frees-no-records",
        call: |guest, step, params| if step == Step::Free { Ok(0) } else { guest.call(step, params) },
        ..SOUND
    },
    Fault { name: "frees-records-twice", call: |guest, step, params| twice(guest, Step::Free, step, params), ..SOUND },
    Fault {
        name: "frees-records-in-reverse",
        host: giving,
        call: |guest, step, params| match step {
            Step::Free => match GIVEN.with(|given| given.borrow_mut().pop()) {
                Some(address) => guest.call(step, &[address]),
                None => guest.call(step, params),
            },
            _ => given_anew(guest, step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-first-record-only",
        call: |guest, step, params| match step {
            Step::Free if replace(&mut guest.pending, true) => Ok(0),
            Step::Run => {
                guest.pending = false;
                guest.call(step, params)
            }
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-records-with-the-next-request",
        host: giving,
        call: |guest, step, params| match step {
            Step::Free => {
                guest.pending = true;
                Ok(0)
            }
            Step::Run if take(&mut guest.pending) => {
                for address in GIVEN.with(RefCell::take) {
                    guest.call(Step::Free, &[address])?;
                }
                guest.call(step, params)
            }
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-null",
        call: |guest, step, params| {
            let result = guest.call(step, params)?;
            if let (Step::RunWithInput, [0, _]) = (step, params) {
                guest.call(Step::Free, &[0])?;
            }
            Ok(result)
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-input-before-run",
        call: |guest, step, params| match (step, params) {
            (Step::RunWithInput, &[address, _]) => {
                guest.call(Step::Free, &[address])?;
                guest.call(step, params)
            }
            (Step::Free, _) => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-records-after-a-trap",
        host: giving,
        call: |guest, step, params| {
            given_anew(guest, step, params).inspect_err(|_| {
                if step == Step::Run {
                    for address in GIVEN.with(RefCell::take) {
                        let _ = guest.call(Step::Free, &[address]);
                    }
                }
            })
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-input-after-a-trap",
        call: |guest, step, params| {
            guest.call(step, params).inspect_err(|_| {
                if let (Step::RunWithInput, [address, _]) = (step, params) {
                    let _ = guest.call(Step::Free, &[*address]);
                }
            })
        },
        ..SOUND
    },
    Fault {
        name: "goes-on-freeing-after-a-trap",
        call: |guest, step, params| {
            guest.call(step, params).inspect_err(|_| {
                if step == Step::Free {
                    let _ = guest.call(step, params);
                }
            })
        },
        ..SOUND
    },
    Fault {
        name: "drops-the-answer-where-free-traps",
        request: |session, input| {
            session.request(input)?;
            session.poison().map_or(Ok(()), Err)
        },
        ..SOUND
    },
    Fault {
        name: "skips-malloc-for-an-empty-input",
        call: |guest, step, params| match (step, params) {
            (Step::Malloc, [0]) => Ok(0),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "allocates-a-byte-more-for-an-input",
        call: |guest, step, params| match (step, params) {
            (Step::Malloc, &[length]) => guest.call(step, &[length + 1]),
            _ => guest.call(step, params),
        },
        ..SOUND
    },
    Fault {
        name: "frees-an-input-that-has-no-room",
        call: |guest, step, params| {
            let address = guest.call(step, params)?;
            if step == Step::Malloc && address as usize + params[0] as usize > guest.memory().len() {
                guest.call(Step::Free, &[address])?;
            }
            Ok(address)
        },
        ..SOUND
    },
    Fault {
        name: "poisons-where-an-input-has-no-room",
        call: |guest, step, params| match guest.call(step, params)? {
            0 if step == Step::Malloc && params != [0] => Err(ErrorKind::Allocation { length: params[0] }.into()),
            result => Ok(result),
        },
        ..SOUND
    },
    Fault {
        name: "initialises-for-every-request",
        call: |guest, step, params| {
            if matches!(step, Step::Run | Step::RunWithInput) && guest.has(Step::Initialize) {
                guest.call(Step::Initialize, &[])?;
            }
            guest.call(step, params)
        },
        ..SOUND
    },
    // Plugins: records.
    Fault {
        name: "hands-out-records-without-their-delimiter",
        host: |name, slots, call| {
            call(slots)?;
            if name == "igets" && slots[0] != 0 {
                slots[0] -= 1;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "leaves-the-last-record-without-a-delimiter",
        host: |name, slots, call| {
            call(slots)?;
            if name == "igets" && slots[0] != 0 {
                READ.set(READ.get() + (slots[0] as u32) as usize);
                if READ.get() > INPUT.get() {
                    slots[0] -= 1;
                }
            }
            Ok(())
        },
        request: |session, input| {
            READ.set(0);
            INPUT.set(input.len());
            session.request(input)
        },
        ..SOUND
    },
    Fault {
        name: "adds-a-delimiter-to-every-input",
        request: |session, input| session.request(&format!("{input}\n")),
        ..SOUND
    },
    Fault {
        name: "takes-an-empty-input-for-an-empty-record",
        request: |session, input| session.request(if input.is_empty() { "\n" } else { input }),
        ..SOUND
    },
    Fault {
        name: "drops-a-last-record-without-a-delimiter",
        request: |session, input| session.request(&input[..input.rfind('\n').map_or(0, |end| end + 1)]),
        ..SOUND
    },
    Fault {
        name: "drops-empty-records",
        request: |session, input| {
            let records = input.split_inclusive('\n').filter(|record| *record != "\n");
            session.request(&records.collect::<String>())
        },
        ..SOUND
    },
    Fault {
        name: "takes-crlf-for-a-line-feed",
        request: |session, input| session.request(&input.replace("\r\n", "\n")),
        ..SOUND
    },
    Fault {
        name: "ends-an-input-at-nul",
        request: |session, input| session.request(input.split('\0').next().unwrap_or_default()),
        ..SOUND
    },
    Fault {
        name: "keeps-unread-input-for-the-next-request",
        host: |name, slots, call| {
            call(slots)?;
            if name == "igets" {
                READ.set(READ.get() + (slots[0] as u32) as usize);
            }
            Ok(())
        },
        request: |session, input| {
            READ.set(0);
            let input = take(&mut session.kept.0) + input;
            let result = session.request(&input);
            if READ.get() > 0 {
                input.get(READ.get()..).unwrap_or_default().clone_into(&mut session.kept.0);
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "answers-with-minus-1-behind-the-last-record",
        host: |name, slots, call| {
            call(slots)?;
            if name == "igets" && slots[0] == 0 {
                slots[0] = u64::MAX;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "starts-the-input-anew-at-its-end",
        host: |name, slots, call| {
            call(slots)?;
            if name == "igets" {
                match slots[0] {
                    // The first record once more, where it was.
                    0 => slots[0] = FIRST.take(),
                    record if FIRST.get() == 0 => FIRST.set(record),
                    _ => {}
                }
            }
            Ok(())
        },
        ..SOUND
    },
    // Plugins: output.
    Fault {
        name: "swaps-the-streams",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            (stderr, stdout)
        },
        ..SOUND
    },
    Fault {
        name: "writes-errors-to-the-output",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            (stdout + &stderr, String::new())
        },
        ..SOUND
    },
    Fault { name: "keeps-no-errors", streams: |session| (session.streams().0, String::new()), ..SOUND },
    Fault {
        name: "keeps-nothing-of-a-failed-request",
        request: |session, input| {
            let result = session.request(input);
            session.silent = result.is_err();
            result
        },
        ..SOUND
    },
    Fault {
        name: "keeps-the-output-of-earlier-requests",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            session.kept.0 += &stdout;
            session.kept.1 += &stderr;
            session.kept.clone()
        },
        ..SOUND
    },
    Fault {
        name: "shows-the-last-output-again-on-a-poisoned-session",
        streams: |session| {
            let streams = session.streams();
            if streams != Default::default() || session.poison().is_none() {
                session.kept = streams;
            }
            session.kept.clone()
        },
        ..SOUND
    },
    Fault {
        name: "ends-output-at-nul",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            (stdout.split('\0').next().unwrap_or_default().to_owned(), stderr)
        },
        ..SOUND
    },
    Fault {
        name: "drops-output-that-is-not-utf8",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            (stdout.replace('\u{fffd}', ""), stderr.replace('\u{fffd}', ""))
        },
        ..SOUND
    },
    Fault {
        name: "ends-output-with-a-line-feed",
        streams: |session| {
            let (stdout, stderr) = session.streams();
            (stdout.trim_end_matches('\n').to_owned() + "\n", stderr)
        },
        ..SOUND
    },
    Fault {
        name: "limits-a-plugin-to-less-than-the-limit",
        limits: |limits| {
            let bytes = limits.max_output.saturating_sub(1);
            limits.max_output(bytes)
        },
        error: |error| match error {
            ErrorKind::TooLong { region, length, limit } => ErrorKind::TooLong { region, length, limit: limit + 1 },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-the-length-of-one-write-only",
        host: |name, slots, call| {
            let length = slots.get(1).copied().unwrap_or_default();
            call(slots).map_err(|error| match error.kind() {
                ErrorKind::TooLong { region, limit, .. } if name.ends_with("puts") => {
                    ErrorKind::TooLong { region: region.clone(), length, limit: *limit }.into()
                }
                _ => error,
            })
        },
        ..SOUND
    },
    Fault {
        name: "cuts-a-plugin's-output-at-the-limit",
        host: |_, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::TooLong { .. }) => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "goes-on-after-a-failed-request",
        call: |guest, step, params| match step {
            Step::Malloc | Step::Free | Step::Run | Step::RunWithInput => held(guest, step, params, |_| true),
            _ => guest.call(step, params),
        },
        request: |session, input| {
            HELD.take();
            let result = session.request(input);
            HELD.take().map_or(result, Err)
        },
        ..SOUND
    },
];

/// Makes one call of the protocol's twice.
fn twice(guest: &mut Guest, which: Step, step: Step, params: &[u32]) -> Result<u32> {
    let result = guest.call(step, params)?;
    if step == which { guest.call(step, params) } else { Ok(result) }
}

fn keep_fresh(guest: &mut Guest) -> Result<()> {
    guest.fresh = guest.copy().unwrap_or_default();
    Ok(())
}

/// Shows another address and length of an answer than the guest's.
fn show_span(guest: &mut Guest, step: Step, other: impl FnOnce(Span) -> Span) {
    let span = match step {
        Step::Info => guest.info,
        Step::Generate => guest.output,
        _ => None,
    };
    if let Some(span) = span {
        let other = other(span);
        if other != span {
            guest.show_fat_pointer(other);
            guest.moved = true;
        }
    }
}

/// Shows an answer with a replacement for what is not UTF-8, where all of that is tolerated.
fn lossy(guest: &mut Guest, step: Step, params: &[u32], tolerated: fn(&[u8], &Utf8Error) -> bool) -> Result<u32> {
    let result = guest.call(step, params)?;
    let span = match step {
        Step::Info => guest.info,
        Step::Generate => guest.output,
        _ => None,
    };
    let Some(mut rest) = span.and_then(|span| span.of(guest.memory())) else { return Ok(result) };
    let mut text = Vec::new();
    let mut bad = false;
    while let Err(error) = std::str::from_utf8(rest) {
        let (good, after) = rest.split_at(error.valid_up_to());
        if !tolerated(after, &error) {
            return Ok(result);
        }
        bad = true;
        text.extend(good);
        text.extend("\u{fffd}".bytes());
        // The rest of the character goes with its first byte.
        let tail = after.iter().skip(1).take(3).take_while(|byte| matches!(byte, 0x80..=0xbf)).count();
        rest = &after[1 + tail..];
    }
    if bad {
        text.extend(rest);
        guest.show_answer(&text);
    }
    Ok(result)
}

/// Alters outputs, but no info.
fn answer(session: &mut Opened, input: Option<&str>, alter: impl FnOnce(String) -> String) -> Result<String> {
    let answer = session.ask(input)?;
    Ok(if input.is_some() { alter(answer) } else { answer })
}

/// Refuses what is too long, and tells how long it is, in a host's own way.
fn limited(
    session: &mut Opened,
    input: Option<&str>,
    too_long: fn(&str, u64) -> bool,
    length: fn(&str) -> usize,
) -> Result<String> {
    let text = session.ask(input)?;
    let limit = session.package.max_output;
    if too_long(&text, limit) {
        let region = if input.is_some() { Region::Output } else { Region::Info };
        return Err(ErrorKind::TooLong { region, length: length(&text) as u64, limit }.into());
    }
    Ok(text)
}

/// At most 64 KiB of a text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(1 << 16);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn keep_error(session: &mut Opened, input: Option<&str>) -> Result<String> {
    let result = session.ask(input);
    if let Err(error) = &result {
        session.error = Some(error.clone());
    }
    result
}

/// Makes calls without telling the layer of a trap, so that it goes on with the instance.
fn going_on(guest: &mut Guest, step: Step, params: &[u32]) -> Result<u32> {
    let earlier = TRAPPED.take();
    if earlier.is_some() {
        // Not in this call of the host's, though.
        TRAPPED.set(earlier);
        return Ok(0);
    }
    match guest.call(step, params) {
        Err(error) if step != Step::Initialize => {
            TRAPPED.set(Some(match error.kind() {
                ErrorKind::Trap { trap, .. } => ErrorKind::Trap { trap: *trap, export: Some(step.export().into()) },
                other => other.clone(),
            }));
            Ok(0)
        }
        result => result,
    }
}

fn asked_going_on(session: &mut Opened, input: Option<&str>) -> Result<String> {
    TRAPPED.take();
    let result = session.ask(input);
    let Some(trap) = TRAPPED.take() else { return result };
    let in_dealloc =
        matches!(&trap, ErrorKind::Trap { export: Some(export), .. } if export == Step::FreeInput.export());
    let trap = Error::new(trap);
    session.error.get_or_insert(trap.clone());
    if in_dealloc { result } else { Err(trap) }
}

fn kept_answer(session: &mut Opened, input: Option<&str>) -> Result<String> {
    let question = input.map(str::to_owned);
    if let Some(answer) = session.answers.get(&question) {
        return Ok(answer.clone());
    }
    let answer = session.ask(input)?;
    session.answers.insert(question, answer.clone());
    Ok(answer)
}

fn package_answer(session: &mut Opened, input: Option<&str>) -> Result<String> {
    let question = input.map(str::to_owned);
    let kept = lock(&session.package.answers).get(&question).cloned();
    if let Some(answer) = kept {
        return Ok(answer);
    }
    let answer = session.ask(input)?;
    lock(&session.package.answers).insert(question, answer.clone());
    Ok(answer)
}

/// Whether a session that was kept has no user.
fn is_free(session: &Shared) -> bool {
    Arc::strong_count(session) == 1
}

fn renamed(error: ErrorKind, name: fn(Trap) -> Trap) -> ErrorKind {
    match error {
        ErrorKind::Trap { trap, export } => ErrorKind::Trap { trap: name(trap), export },
        other => other,
    }
}

fn one_renamed(error: ErrorKind, from: Trap, to: Trap) -> ErrorKind {
    match error {
        ErrorKind::Trap { trap, export } if trap == from => ErrorKind::Trap { trap: to, export },
        other => other,
    }
}

fn other_region(error: ErrorKind, other: fn(Region) -> Region) -> ErrorKind {
    match error {
        ErrorKind::OutOfBounds { region, address, length, memory } => {
            ErrorKind::OutOfBounds { region: other(region), address, length, memory }
        }
        ErrorKind::InvalidUtf8 { region, offset } => ErrorKind::InvalidUtf8 { region: other(region), offset },
        ErrorKind::TooLong { region, length, limit } => ErrorKind::TooLong { region: other(region), length, limit },
        error => error,
    }
}

fn other_found(error: ErrorKind, from: Found, to: Found) -> ErrorKind {
    match error {
        ErrorKind::NotAModule { found } if found == from => ErrorKind::NotAModule { found: to },
        other => other,
    }
}

/// Overlooks some problems; without any other the module is taken.
fn without(error: ErrorKind, overlooked: impl Fn(&Problem) -> bool) -> Option<ErrorKind> {
    match error {
        ErrorKind::Interface { mut problems } => {
            problems.retain(|problem| !overlooked(problem));
            (!problems.is_empty()).then_some(ErrorKind::Interface { problems })
        }
        other => Some(other),
    }
}

fn without_missing(error: ErrorKind, name: &str) -> Option<ErrorKind> {
    without(error, |problem| matches!(problem, Problem::MissingExport { export, .. } if export == name))
}

/// Takes modules that use a feature.
fn with_feature(error: ErrorKind, name: &str) -> Option<ErrorKind> {
    Some(error).filter(|error| !matches!(error, ErrorKind::UnsupportedFeature { feature, .. } if feature == name))
}

/// Takes modules with too many of something.
fn uncounted(error: ErrorKind, which: Item) -> Option<ErrorKind> {
    Some(error).filter(|error| !matches!(error, ErrorKind::TooMany { item, .. } if *item == which))
}

/// Makes calls without telling the layer of some of their errors, so that it goes on with the instance.
fn held(guest: &mut Guest, step: Step, params: &[u32], which: fn(&Error) -> bool) -> Result<u32> {
    if let Some(error) = HELD.take() {
        // Not in this call of the host's, though.
        HELD.set(Some(error));
        return Ok(0);
    }
    match guest.call(step, params) {
        Err(error) if !matches!(step, Step::Start | Step::Initialize) && which(&error) => {
            HELD.set(Some(error));
            Ok(0)
        }
        result => result,
    }
}

fn asked_holding(session: &mut Opened, input: Option<&str>) -> Result<String> {
    HELD.take();
    let result = session.ask(input);
    HELD.take().map_or(result, Err)
}

/// A call of a host function that calls back, or something else where it is nested too deeply.
fn nested(
    name: &str,
    slots: &mut [u64],
    call: &mut dyn FnMut(&mut [u64]) -> Result<()>,
    too_deep: fn(u32) -> bool,
    otherwise: fn() -> Result<()>,
) -> Result<()> {
    if !name.starts_with("again") {
        return call(slots);
    }
    DEPTH.set(DEPTH.get() + 1);
    let result = if too_deep(DEPTH.get()) {
        slots[0] = 0;
        otherwise()
    } else {
        call(slots)
    };
    DEPTH.set(DEPTH.get() - 1);
    result
}

fn too_deep() -> Error {
    ErrorKind::Trap { trap: Trap::StackOverflow, export: Some("again".into()) }.into()
}

/// Remembers what `igets` hands out.
fn giving(name: &str, slots: &mut [u64], call: &mut dyn FnMut(&mut [u64]) -> Result<()>) -> Result<()> {
    call(slots)?;
    if name == "igets" && slots[0] != 0 {
        GIVEN.with(|given| given.borrow_mut().push((slots[0] >> 32) as u32));
    }
    Ok(())
}

/// Makes a call, and forgets what earlier requests were given.
fn given_anew(guest: &mut Guest, step: Step, params: &[u32]) -> Result<u32> {
    if step == Step::Run {
        GIVEN.with(RefCell::take);
    }
    guest.call(step, params)
}

//! The stack that compiled code runs on: one of the layer's own, since a host's thread may have 2 MiB alone, which is too
//! little for real programs.
//!
//! A thread makes its stack when it first calls a guest, and keeps it. The stack takes address space; memory is taken as
//! far down as a guest ever came. A session that is called from inside a guest, by a host function, finds no room for a
//! guest of its own on that stack, and gets another.

use std::cell::Cell;

use corosensei::stack::{DefaultStack, Stack as _};
use mistletoe_abi::{ENGINE_STACK, Error, Operation, Result};

/// What is below a guest at least, for the host functions that it calls when its own part is full.
const HOST: usize = 1 << 20;
/// What is above it at most: the layer's own frames.
const ABOVE: usize = 1 << 20;
const SIZE: usize = ABOVE + ENGINE_STACK + HOST;

thread_local! {
    /// The lowest address of the stack in use; 0 where that is the thread's own.
    static LIMIT: Cell<usize> = const { Cell::new(0) };
    /// The stack that is kept for the next call.
    static KEPT: Cell<Option<DefaultStack>> = const { Cell::new(None) };
}

/// Whether there is room for a guest below this function's caller.
#[inline(always)]
fn has_room() -> bool {
    let here = 0_u8;
    // On another stack than the one in use, this is a number out of the range.
    let left = (&raw const here).addr().wrapping_sub(LIMIT.get());
    (ENGINE_STACK + HOST..=SIZE).contains(&left)
}

/// Runs `call` where there is room for a guest.
#[inline]
pub(crate) fn with_room<R>(call: impl FnOnce() -> R) -> Result<R> {
    if has_room() { Ok(call()) } else { switched(call) }
}

/// Runs `call` on another stack.
fn switched<R>(call: impl FnOnce() -> R) -> Result<R> {
    let stack = match KEPT.try_with(Cell::take).unwrap_or_default() {
        Some(stack) => stack,
        None => DefaultStack::new(SIZE).map_err(|error| Error::engine(Operation::Call, error))?,
    };
    let mut used = Used { stack: None, limit: LIMIT.replace(stack.limit().get()) };
    Ok(corosensei::on_stack(used.stack.insert(stack), call))
}

/// A stack in use. When that is over, by a panic too, the one before it is in use again, and this one is kept.
struct Used {
    stack: Option<DefaultStack>,
    limit: usize,
}

impl Drop for Used {
    fn drop(&mut self) {
        LIMIT.set(self.limit);
        let _ = KEPT.try_with(|kept| kept.set(self.stack.take()));
    }
}

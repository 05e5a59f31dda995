//! The stack that compiled code runs on.
//!
//! It is the layer's own, since a host's thread may have only 2 MiB, which is too little for real programs.
//!
//! A thread creates its stack when it first calls a guest, and keeps it. The stack takes address space, and memory only
//! as deep as a guest has ever gone. A session that is called from inside a guest, by a host function, finds no room
//! for a guest of its own on that stack. It gets another stack for the duration of the call.

use std::cell::{Cell, RefCell};

use corosensei::stack::{DefaultStack, Stack as _};
use mistletoe_abi::{ENGINE_STACK, Error, Operation, Result};

/// Minimum space below a guest, for the host functions that it calls when its own part is full.
const HOST: usize = 1 << 20;
/// Maximum space above a guest: the layer's own frames.
const ABOVE: usize = 1 << 20;
const SIZE: usize = ABOVE + ENGINE_STACK + HOST;

thread_local! {
    /// Lowest address of the stack in use; 0 if that is the thread's own.
    static LIMIT: Cell<usize> = const { Cell::new(0) };
    /// The stack that the thread keeps, borrowed while it is in use.
    static KEPT: RefCell<Option<DefaultStack>> = const { RefCell::new(None) };
}

/// Returns whether there is room for a guest on the current stack.
#[inline(always)]
pub(crate) fn has_room() -> bool {
    let here = 0_u8;
    // On a stack other than the one in use, this is out of the range.
    let left = (&raw const here).addr().wrapping_sub(LIMIT.get());
    (ENGINE_STACK + HOST..=SIZE).contains(&left)
}

/// Runs `call` on a stack with room for a guest.
#[inline(always)]
pub(crate) fn with_room<R>(call: impl FnOnce() -> R) -> Result<R> {
    if has_room() { Ok(call()) } else { switched(call) }
}

/// Runs `call` on the stack that the thread keeps, or on another if that one is in use.
fn switched<R>(call: impl FnOnce() -> R) -> Result<R> {
    let mut call = Some(call);
    // `KEPT` no longer exists while the thread ends.
    let on_kept = KEPT.try_with(|kept| {
        let mut kept = kept.try_borrow_mut().ok()?;
        let stack = match &mut *kept {
            Some(stack) => stack,
            none => match new() {
                Ok(stack) => none.insert(stack),
                Err(error) => return Some(Err(error)),
            },
        };
        Some(Ok(on_stack(stack, call.take()?)))
    });
    match (on_kept, call) {
        (Ok(Some(result)), _) => result,
        (_, Some(call)) => Ok(on_stack(&mut new()?, call)),
        (_, None) => Err(Error::engine(Operation::Call, "a stack was lost")),
    }
}

#[cold]
fn new() -> Result<DefaultStack> {
    DefaultStack::new(SIZE).map_err(|error| Error::engine(Operation::Call, error))
}

#[inline]
fn on_stack<R>(stack: &mut DefaultStack, call: impl FnOnce() -> R) -> R {
    // The lowest usable address: the guard page is below it.
    let _used = Used(LIMIT.replace(stack.base().get() - SIZE));
    corosensei::on_stack(stack, call)
}

/// A stack in use. Dropping it restores the one before, also on a panic.
struct Used(usize);

impl Drop for Used {
    #[inline]
    fn drop(&mut self) {
        LIMIT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::*;

    #[test]
    fn calls_share_a_stack_and_a_panic_leaves_it() {
        assert!(!has_room(), "a thread's own stack is too small");
        let (outer, inner) = with_room(|| (LIMIT.get(), with_room(|| LIMIT.get()))).expect("a stack");
        assert!(outer != 0);
        assert_eq!(inner.expect("a stack"), outer);
        let panicked = catch_unwind(AssertUnwindSafe(|| with_room(|| resume_unwind(Box::new("it panics")))));
        assert!(panicked.map(|result: Result<()>| result.is_ok()).is_err());
        assert_eq!(LIMIT.get(), 0);
        with_room(|| assert!(has_room())).expect("the stack is free again");
    }
}

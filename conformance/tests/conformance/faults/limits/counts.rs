//! Faults in the fuel count and the stack depth, in the limit on memory, and in what the host returns to the code.

use std::cell::Cell;

use mistletoe::{ErrorKind, Limits, Result};
use wasmparser::Operator;

use super::{Change, DROP};
use crate::faulty::{Code, Fault, SOUND, change, change_globals, i64_const, unbounded_memory};

thread_local! {
    /// How many times a deadline was ignored.
    static MISSED: Cell<u32> = const { Cell::new(0) };
}

pub(super) static FAULTS: &[Fault] = &[
    // The local that counts, and the global.
    Fault {
        name: "limits-forget-what-was-used-before-return",
        bytes: |wasm| unflushed(wasm, |ahead| matches!(ahead, [Operator::Return, ..])),
        ..SOUND
    },
    Fault {
        name: "limits-forget-what-was-used-before-a-branch-out",
        bytes: |wasm| unflushed(wasm, |ahead| matches!(ahead, [Operator::Br { .. }, ..])),
        ..SOUND
    },
    Fault {
        name: "limits-forget-what-was-used-before-br-if-out",
        bytes: |wasm| unflushed(wasm, |ahead| matches!(ahead, [Operator::BrIf { .. }, ..])),
        ..SOUND
    },
    Fault {
        name: "limits-forget-what-was-used-before-br-table-out",
        bytes: |wasm| unflushed(wasm, |ahead| matches!(ahead, [Operator::BrTable { .. }, ..])),
        ..SOUND
    },
    Fault {
        name: "limits-forget-what-was-used-before-the-end",
        bytes: |wasm| unflushed(wasm, |ahead| *ahead == [Operator::End]),
        ..SOUND
    },
    Fault {
        name: "limits-forget-what-was-used-before-unreachable",
        bytes: |wasm| unflushed(wasm, |ahead| matches!(ahead, [Operator::Unreachable, ..])),
        ..SOUND
    },
    Fault {
        name: "limits-forget-what-was-used-before-a-call",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let mut next = 2;
                next += 2 * usize::from(ahead.get(2..).is_some_and(|ahead| code.is_height_flush(ahead)));
                let is = code.is_flush(ahead) && ahead.get(next).is_some_and(|op| code.is_call(op));
                is.then_some((0..2, Vec::new()))
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-forget-what-a-call-used",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let (call, then) = ahead.split_first()?;
                (code.is_call(call) && code.is_reload(then)).then_some((1..3, Vec::new()))
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-forget-what-was-handed-out-for-a-function",
        bytes: |wasm| {
            change(wasm, |code, ahead| match ahead {
                [Operator::Call { function_index }, then @ ..]
                    if *function_index == code.at.slow && code.is_reload(then) && code.at.counts_fuel =>
                {
                    Some((1..3, Vec::new()))
                }
                _ => None,
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-forget-what-was-handed-out",
        bytes: |wasm| {
            change(wasm, |code, ahead| match ahead {
                [Operator::Call { function_index }, Operator::GlobalSet { .. }, ..]
                    if *function_index == code.at.tick =>
                {
                    Some((1..2, vec![DROP]))
                }
                _ => None,
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-start-with-fuel-at-hand",
        bytes: |wasm| change_globals(wasm, |_, height| (10, height)),
        ..SOUND
    },
    // The stack depth.
    Fault {
        name: "limits-allow-a-stack-1-higher",
        bytes: |wasm| change_globals(wasm, |fuel, height| (fuel, height + 1)),
        ..SOUND
    },
    Fault {
        name: "limits-allow-a-stack-1-less-high",
        bytes: |wasm| change_globals(wasm, |fuel, height| (fuel, height - 1)),
        ..SOUND
    },
    Fault {
        name: "limits-take-frames-for-1-less-high",
        bytes: |wasm| change(wasm, |code, ahead| frame(code, ahead, |height| height - 1)),
        ..SOUND
    },
    Fault {
        name: "limits-take-all-frames-for-empty",
        bytes: |wasm| change(wasm, |code, ahead| frame(code, ahead, |_| 8)),
        ..SOUND
    },
    Fault {
        name: "limits-count-no-operands-for-the-height",
        bytes: |wasm| change(wasm, |code, ahead| frame(code, ahead, |_| 8 + i64::from(code.local))),
        ..SOUND
    },
    Fault {
        name: "limits-count-no-locals-for-the-height",
        bytes: |wasm| change(wasm, |code, ahead| frame(code, ahead, |height| height - i64::from(code.local))),
        ..SOUND
    },
    Fault {
        name: "limits-count-their-own-locals-for-the-height",
        bytes: |wasm| change(wasm, |code, ahead| frame(code, ahead, |height| height + 2)),
        ..SOUND
    },
    Fault {
        name: "limits-look-at-no-reserve",
        bytes: |wasm| {
            change(wasm, |code, ahead| match ahead {
                [Operator::I64Const { .. }, Operator::I64LtS, ..] if code.is_wrapper() => {
                    Some((0..1, i64_const(i64::MIN)))
                }
                _ => None,
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-take-no-reserve",
        bytes: |wasm| {
            change(wasm, |code, ahead| match ahead {
                [Operator::I64Const { .. }, Operator::I64Sub, Operator::GlobalSet { .. }, ..] if code.is_wrapper() => {
                    Some((0..1, i64_const(0)))
                }
                _ => None,
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-forget-the-height-at-calls",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let is = code.is_own() && code.is_height_flush(ahead) && code.is_call(ahead.get(2)?);
                is.then_some((0..2, Vec::new()))
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-forget-the-height-at-indirect-calls",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let is = code.is_height_flush(ahead) && matches!(ahead.get(2)?, Operator::CallIndirect { .. });
                is.then_some((0..2, Vec::new()))
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-leave-the-height-as-a-call-left-it",
        bytes: |wasm| {
            change(wasm, |code, ahead| (code.is_wrapper() && code.is_height_flush(ahead)).then_some((0..2, Vec::new())))
        },
        ..SOUND
    },
    Fault {
        name: "limits-have-call-backs-begin-at-height-0",
        bytes: |wasm| {
            change(wasm, |code, ahead| match ahead {
                [Operator::GlobalGet { global_index }, Operator::LocalSet { .. }, ..]
                    if code.is_wrapper() && *global_index == code.at.height =>
                {
                    Some((0..1, i64_const(code.at.limit)))
                }
                _ => None,
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-trap-where-the-stack-is-too-high",
        bytes: |wasm| {
            change(wasm, |code, ahead| match ahead {
                [Operator::Call { function_index }, ..] if *function_index == code.at.overflow => {
                    Some((0..1, vec![DROP, 0x00]))
                }
                _ => None,
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-look-at-the-fuel-before-the-height",
        bytes: |wasm| {
            // Moves the check of the stack depth, seven instructions, after the other check, which is everything except
            // the last `end`.
            change(wasm, |code, ahead| {
                if code.index != code.at.slow || ahead.len() != code.code.len() {
                    return None;
                }
                let small = |index: u32| u8::try_from(index).ok().filter(|index| *index < 0x80);
                let (fuel, tick, overflow) = (small(code.at.fuel)?, small(code.at.tick)?, small(code.at.overflow)?);
                let spent = [0x42, 0, 0x53, 0x04, 0x40];
                let mut bytes = vec![0x23, fuel];
                bytes.extend(spent);
                bytes.extend([0x23, fuel, 0x10, tick, 0x24, fuel, 0x0b, 0x20, 0]);
                bytes.extend(spent);
                bytes.extend([0x20, 0, 0x10, overflow, 0x0b]);
                Some((0..ahead.len() - 1, bytes))
            })
        },
        ..SOUND
    },
    // Memory.
    Fault { name: "limits-allow-a-page-more", bytes: |wasm| unbounded_memory(wasm, Some(1)), ..SOUND },
    Fault { name: "limits-allow-any-memory", bytes: |wasm| unbounded_memory(wasm, None), ..SOUND },
    Fault {
        name: "limits-round-memory-up-to-pages",
        limits: |limits| {
            let memory = limits.memory().map(|bytes| bytes.next_multiple_of(65_536));
            limits.with_memory(memory)
        },
        ..SOUND
    },
    // What the host returns to the code.
    Fault {
        name: "limits-hand-out-more-than-is-left",
        host: |name, slots, call| {
            call(slots)?;
            if name == "tick" {
                slots[0] += 1000;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "limits-hand-out-less-than-is-left",
        host: |name, slots, call| {
            call(slots)?;
            if name == "tick" {
                slots[0] = slots[0].saturating_sub(1);
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "limits-miss-the-deadline",
        host: |name, slots, call| match call(slots) {
            Err(error) if name == "tick" && matches!(error.kind(), ErrorKind::TimedOut { .. }) => missed(slots, error),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "limits-miss-that-fuel-runs-out",
        host: |name, slots, call| match call(slots) {
            Err(error) if name == "tick" && matches!(error.kind(), ErrorKind::OutOfFuel { .. }) => missed(slots, error),
            result => result,
        },
        ..SOUND
    },
    Fault { name: "limits-know-no-limit-on-the-stack", limits: |limits| limits.with_stack(None), ..SOUND },
    Fault {
        name: "limits-know-only-the-default-for-the-stack",
        limits: |limits| {
            let default = Limits::default().stack();
            if limits.stack().is_some() { limits.with_stack(default) } else { limits }
        },
        ..SOUND
    },
];

fn frame(code: &Code, ahead: &[Operator], other: impl Fn(i64) -> i64) -> Change {
    let at = code.entry(ahead)?.frame?;
    match ahead.get(at)? {
        Operator::I64Const { value } => Some((at..at + 1, i64_const(other(*value)))),
        _ => None,
    }
}

fn unflushed(wasm: &[u8], before: fn(&[Operator]) -> bool) -> Option<Vec<u8>> {
    change(wasm, |code, ahead| {
        (code.is_own() && code.is_flush(ahead) && before(ahead.get(2..)?)).then_some((0..2, Vec::new()))
    })
}

/// Continues where the guest should be terminated, a hundred times on each thread.
fn missed(slots: &mut [u64], error: mistletoe::Error) -> Result<()> {
    if MISSED.replace(MISSED.get() + 1) >= 100 {
        MISSED.set(0);
        return Err(error);
    }
    slots[0] = 10_000;
    Ok(())
}

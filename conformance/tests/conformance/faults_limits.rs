//! Faults in limits: each puts one thing into the code, or answers it, as a pass plausibly does that has it wrong.
//!
//! Nothing else would end a guest that does not end by itself. So what should be forgotten comes a million units too late,
//! or is forgotten only where a guest comes to an end, or a hundred times.

use std::cell::Cell;
use std::ops::Range;

use mistletoe::{ErrorKind, Limits, Result};
use wasmparser::Operator;

use crate::faulty::{Code, Fault, SOUND, change, change_globals, i64_const, unbounded_memory};

const DROP: u8 = 0x1a;
const GLOBAL_SET: u8 = 0x24;
const I32_CONST: u8 = 0x41;
const I64_EXTEND_I32_S: u8 = 0xac;

thread_local! {
    /// How many times a deadline was not minded.
    static MISSED: Cell<u32> = const { Cell::new(0) };
}

type Change = Option<(Range<usize>, Vec<u8>)>;

pub(crate) static FAULTS: &[Fault] = &[
    // Where is looked.
    Fault {
        name: "limits-look-late-at-loops",
        bytes: |wasm| change(wasm, |code, ahead| late(code.turn(ahead)?.look)),
        ..SOUND
    },
    Fault {
        name: "limits-look-late-at-loops-for-the-time",
        bytes: |wasm| change(wasm, |code, ahead| late(code.turn(ahead)?.look.filter(|_| !code.at.counts_fuel))),
        ..SOUND
    },
    Fault {
        name: "limits-look-late-at-loops-with-parameters",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let turn = code.turn(ahead)?;
                let look = turn.look.filter(|look| matches!(ahead.get(look + 2), Some(Operator::If { .. })));
                late(look)
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-look-late-at-loops-with-parameters-for-the-time",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let turn = code.turn(ahead).filter(|_| !code.at.counts_fuel)?;
                let look = turn.look.filter(|look| matches!(ahead.get(look + 2), Some(Operator::If { .. })));
                late(look)
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-look-late-where-functions-begin",
        bytes: |wasm| change(wasm, |code, ahead| late(count_at_entry(code, ahead).filter(|_| code.at.counts_fuel))),
        ..SOUND
    },
    Fault {
        name: "limits-look-late-where-functions-begin-for-the-time",
        bytes: |wasm| change(wasm, |code, ahead| late(count_at_entry(code, ahead).filter(|_| !code.at.counts_fuel))),
        ..SOUND
    },
    Fault {
        name: "limits-look-only-at-the-height-where-functions-begin",
        bytes: |wasm| change(wasm, |code, ahead| height_alone(code, ahead).filter(|_| code.at.counts_fuel)),
        ..SOUND
    },
    Fault {
        name: "limits-look-only-at-the-height-where-functions-begin-for-the-time",
        bytes: |wasm| change(wasm, |code, ahead| height_alone(code, ahead).filter(|_| !code.at.counts_fuel)),
        ..SOUND
    },
    Fault {
        name: "limits-look-not-before-bulk-operations",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let look = code.pay(ahead)?.look?;
                paid(code, ahead).is_some_and(is_bulk).then_some((look..look + 2, Vec::new()))
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-look-not-behind-what-grows",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                grows(ahead.first()?).then_some(())?;
                let look = (0..12).find_map(|at| Some(at + code.pay(ahead.get(at..)?)?.look?))?;
                Some((look..look + 2, Vec::new()))
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-look-not-at-the-end-of-a-call",
        bytes: |wasm| {
            change(wasm, |code, ahead| match ahead {
                [count, Operator::I64Const { value: 0 }, Operator::I64LtS, ..]
                    if code.is_wrapper() && code.is_count(count) =>
                {
                    late(Some(1))
                }
                _ => None,
            })
        },
        ..SOUND
    },
    // What is charged.
    Fault {
        name: "limits-forget-loops",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let turn = code.turn(ahead)?;
                counts_down(ahead).then_some(())?;
                // The look is of three instructions, or ends with an `if` and what is in it.
                matches!(ahead.get(turn.end - 1), Some(Operator::BrIf { .. })).then_some((1..turn.end, Vec::new()))
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-charge-1-for-each-turn",
        bytes: |wasm| change(wasm, |code, ahead| charged(code.turn(ahead)?.charge, |_| 1)),
        ..SOUND
    },
    Fault {
        name: "limits-charge-1-where-a-function-begins",
        bytes: |wasm| change(wasm, |code, ahead| charged(code.entry(ahead)?.charge, |_| 1)),
        ..SOUND
    },
    Fault {
        name: "limits-charge-nothing-behind-if",
        bytes: |wasm| change(wasm, |code, ahead| uncharged(code, ahead, |op| matches!(op, Operator::If { .. }))),
        ..SOUND
    },
    Fault {
        name: "limits-charge-nothing-behind-else",
        bytes: |wasm| change(wasm, |code, ahead| uncharged(code, ahead, |op| *op == Operator::Else)),
        ..SOUND
    },
    Fault {
        name: "limits-charge-nothing-behind-br-if",
        bytes: |wasm| change(wasm, |code, ahead| uncharged(code, ahead, |op| matches!(op, Operator::BrIf { .. }))),
        ..SOUND
    },
    Fault {
        name: "limits-charge-nothing-behind-end",
        bytes: |wasm| change(wasm, |code, ahead| uncharged(code, ahead, |op| *op == Operator::End)),
        ..SOUND
    },
    Fault {
        name: "limits-charge-no-locals",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let locals = i64::from(code.declared.div_ceil(8));
                let charge = code.entry(ahead)?.charge.filter(|_| code.at.counts_fuel && locals != 0);
                charged(charge, |charge| charge - locals)
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-charge-each-local",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let more = code.declared - code.declared.div_ceil(8);
                let charge = code.entry(ahead)?.charge.filter(|_| code.at.counts_fuel && more != 0);
                charged(charge, |charge| charge + i64::from(more))
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-charge-parameters",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let locals = code.local.div_ceil(8) - code.declared.div_ceil(8);
                let charge = code.entry(ahead)?.charge.filter(|_| code.at.counts_fuel && locals != 0);
                charged(charge, |charge| charge + i64::from(locals))
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-do-not-charge-the-start-function",
        bytes: |wasm| {
            // What the host calls for it tells which it is.
            let started = Cell::new(None);
            change(wasm, |code, ahead| {
                if let [call @ Operator::Call { function_index }, ..] = ahead
                    && Some(code.index) == code.at.start
                    && code.is_call(call)
                {
                    started.set(Some(*function_index));
                }
                None
            });
            change(wasm, |code, ahead| {
                let charge = code.entry(ahead).filter(|_| code.at.counts_fuel && Some(code.index) == started.get());
                charged(charge?.charge, |_| 0)
            })
        },
        ..SOUND
    },
    // What is paid in proportion.
    Fault {
        name: "limits-do-not-pay-for-memory-fill",
        bytes: |wasm| unpaid(wasm, |op| matches!(op, Operator::MemoryFill { .. })),
        ..SOUND
    },
    Fault {
        name: "limits-do-not-pay-for-memory-copy",
        bytes: |wasm| unpaid(wasm, |op| matches!(op, Operator::MemoryCopy { .. })),
        ..SOUND
    },
    Fault {
        name: "limits-do-not-pay-for-memory-init",
        bytes: |wasm| unpaid(wasm, |op| matches!(op, Operator::MemoryInit { .. })),
        ..SOUND
    },
    Fault {
        name: "limits-do-not-pay-for-table-fill",
        bytes: |wasm| unpaid(wasm, |op| matches!(op, Operator::TableFill { .. })),
        ..SOUND
    },
    Fault {
        name: "limits-do-not-pay-for-table-copy",
        bytes: |wasm| unpaid(wasm, |op| matches!(op, Operator::TableCopy { .. })),
        ..SOUND
    },
    Fault {
        name: "limits-do-not-pay-for-table-init",
        bytes: |wasm| unpaid(wasm, |op| matches!(op, Operator::TableInit { .. })),
        ..SOUND
    },
    Fault {
        name: "limits-do-not-pay-for-memory-grow",
        bytes: |wasm| unpaid(wasm, |op| matches!(op, Operator::MemoryGrow { .. })),
        ..SOUND
    },
    Fault {
        name: "limits-do-not-pay-for-table-grow",
        bytes: |wasm| unpaid(wasm, |op| matches!(op, Operator::TableGrow { .. })),
        ..SOUND
    },
    Fault {
        name: "limits-do-not-pay-for-bulk-operations-in-time",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                code.pay(ahead).filter(|_| !code.at.counts_fuel)?;
                Some((1..6, Vec::new()))
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-have-what-does-not-grow-paid",
        bytes: |wasm| {
            change(wasm, |_, ahead| match ahead {
                [grow, Operator::LocalTee { .. }, Operator::I32Const { value: -1 }, Operator::I32Ne, ..]
                    if grows(grow) =>
                {
                    Some((2..4, vec![DROP, I32_CONST, 1]))
                }
                _ => None,
            })
        },
        ..SOUND
    },
    Fault {
        name: "limits-take-numbers-of-bulk-operations-as-signed",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                code.pay(ahead)?;
                Some((2..3, vec![I64_EXTEND_I32_S]))
            })
        },
        ..SOUND
    },
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
    // The height.
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
        name: "limits-look-at-no-height-of-functions-that-call-none",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let entry = code.entry(ahead).filter(|entry| entry.frame.is_some())?;
                if code.code.iter().any(|op| code.is_call(op)) { None } else { late(entry.look) }
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
                [Operator::Drop, ..] if code.is_wrapper() => {
                    let mut bytes = vec![DROP];
                    bytes.extend(i64_const(code.at.limit));
                    // One byte: the tests' modules have few globals.
                    bytes.extend([GLOBAL_SET, u8::try_from(code.at.height).ok().filter(|index| *index < 0x80)?]);
                    Some((0..1, bytes))
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
            // The look at the height, seven instructions, goes behind the other, which is all but the last `end`.
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
            let memory = limits.memory.map(|bytes| bytes.next_multiple_of(65_536));
            limits.memory(memory)
        },
        ..SOUND
    },
    // What is answered to the code.
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
    Fault { name: "limits-know-no-limit-on-the-stack", limits: |limits| limits.stack(None), ..SOUND },
    Fault {
        name: "limits-know-only-the-default-for-the-stack",
        limits: |limits| {
            let default = Limits::default().stack;
            if limits.stack.is_some() { limits.stack(default) } else { limits }
        },
        ..SOUND
    },
];

/// Has what is compared with 0 compared with much less.
fn late(look: Option<usize>) -> Change {
    look.map(|at| (at..at + 1, i64_const(-1_000_000)))
}

/// Where a function begins that looks at the count alone.
fn count_at_entry(code: &Code, ahead: &[Operator]) -> Option<usize> {
    let entry = code.entry(ahead).filter(|entry| entry.charge.is_some())?;
    entry.look.filter(|look| ahead.get(look.wrapping_sub(1)) != Some(&Operator::I64Or))
}

/// Has a function that begins look at the height alone, which came onto the stack before the count.
fn height_alone(code: &Code, ahead: &[Operator]) -> Change {
    let or = code.entry(ahead)?.look?.checked_sub(1).filter(|at| ahead.get(*at) == Some(&Operator::I64Or))?;
    Some((or..or + 1, vec![DROP]))
}

fn charged(charge: Option<(usize, i64)>, other: impl Fn(i64) -> i64) -> Change {
    let (at, charge) = charge?;
    let other = other(charge);
    (other != charge).then(|| (at..at + 1, i64_const(other)))
}

fn uncharged(code: &Code, ahead: &[Operator], behind: fn(&Operator) -> bool) -> Change {
    let (first, then) = ahead.split_first()?;
    (behind(first) && code.is_own() && code.charge(then).is_some()).then_some((1..5, Vec::new()))
}

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

/// Takes the payment from some of the instructions that cost in proportion.
fn unpaid(wasm: &[u8], which: fn(&Operator) -> bool) -> Option<Vec<u8>> {
    change(wasm, |code, ahead| match ahead.first()? {
        op if grows(op) => {
            let at = (0..12).find(|at| ahead.get(*at..).is_some_and(|ahead| code.pay(ahead).is_some()))?;
            which(op).then_some((at + 1..at + 6, Vec::new()))
        }
        _ => which(paid(code, ahead)?).then_some((1..6, Vec::new())),
    })
}

/// The bulk operation that is paid for ahead. What grows something has done it already.
fn paid<'a, 'b>(code: &Code, ahead: &'a [Operator<'b>]) -> Option<&'a Operator<'b>> {
    let look = code.pay(ahead)?.look?;
    // The look, and what brings the count back.
    ahead.get(look + 2..)?.iter().find(|op| !code.is_count(op) && !code.is_keep(op))
}

fn grows(op: &Operator) -> bool {
    matches!(op, Operator::MemoryGrow { .. } | Operator::TableGrow { .. })
}

fn is_bulk(op: &Operator) -> bool {
    matches!(
        op,
        Operator::MemoryFill { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryInit { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
    )
}

/// Whether what is in the loop ahead has no more in it, and goes on until a local is 0.
fn counts_down(ahead: &[Operator]) -> bool {
    let end = ahead.iter().position(|op| *op == Operator::End).unwrap_or_default();
    matches!(ahead.get(..end), Some([.., Operator::LocalTee { .. }, Operator::BrIf { .. }]))
}

/// Goes on where the guest should be ended, a hundred times on each thread.
fn missed(slots: &mut [u64], error: mistletoe::Error) -> Result<()> {
    if MISSED.replace(MISSED.get() + 1) >= 100 {
        MISSED.set(0);
        return Err(error);
    }
    slots[0] = 10_000;
    Ok(())
}

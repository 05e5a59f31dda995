//! Faults in where the code checks its limits, in what it charges, and in proportional charges.

use std::cell::Cell;

use wasmparser::Operator;

use super::{Change, DROP, late};
use crate::faulty::{Code, Fault, SOUND, change, i64_const};

const I32_CONST: u8 = 0x41;
const I64_EXTEND_I32_S: u8 = 0xac;

pub(super) static FAULTS: &[Fault] = &[
    // Checks.
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
    // Charges.
    Fault {
        name: "limits-forget-loops",
        bytes: |wasm| {
            change(wasm, |code, ahead| {
                let turn = code.turn(ahead)?;
                counts_down(ahead).then_some(())?;
                // The check has three instructions, or ends with an `if` and its body.
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
            // The wrapper that the host calls for the start function identifies it.
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
    // Proportional charges.
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
];

/// Returns the check at the entry of a function that checks only the count.
fn count_at_entry(code: &Code, ahead: &[Operator]) -> Option<usize> {
    let entry = code.entry(ahead).filter(|entry| entry.charge.is_some())?;
    entry.look.filter(|look| ahead.get(look.wrapping_sub(1)) != Some(&Operator::I64Or))
}

/// Makes the entry of a function check only the stack depth, which is on the stack below the count.
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

/// Removes the charge from some of the instructions with a proportional cost.
fn unpaid(wasm: &[u8], which: fn(&Operator) -> bool) -> Option<Vec<u8>> {
    change(wasm, |code, ahead| match ahead.first()? {
        op if grows(op) => {
            let at = (0..12).find(|at| ahead.get(*at..).is_some_and(|ahead| code.pay(ahead).is_some()))?;
            which(op).then_some((at + 1..at + 6, Vec::new()))
        }
        _ => which(paid(code, ahead)?).then_some((1..6, Vec::new())),
    })
}

/// Returns the bulk operation that the upcoming code pays for. Instructions that grow something pay after they ran.
fn paid<'a, 'b>(code: &Code, ahead: &'a [Operator<'b>]) -> Option<&'a Operator<'b>> {
    let look = code.pay(ahead)?.look?;
    // Skips the check, and the instructions that restore the count.
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

/// Returns whether the upcoming loop contains no other block, and runs until a local is 0.
fn counts_down(ahead: &[Operator]) -> bool {
    let end = ahead.iter().position(|op| *op == Operator::End).unwrap_or_default();
    matches!(ahead.get(..end), Some([.., Operator::LocalTee { .. }, Operator::BrIf { .. }]))
}

//! Faults in reading the guest's memory, and the fat pointer in it.

use crate::faulty::{Fault, Guest, SOUND, Span, Step};

pub(super) static FAULTS: &[Fault] = &[
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
];

/// Shows an address and length that differ from the guest's.
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

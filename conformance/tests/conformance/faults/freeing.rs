//! Faults in what is freed, by whom and when, including outputs that cannot be read.

use super::twice;
use crate::faulty::{Fault, SOUND, Span, Step};

pub(super) static FAULTS: &[Fault] = &[
    // What is freed, by whom and when.
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
            // The host has copied it since the last call, so it can be freed now.
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
];

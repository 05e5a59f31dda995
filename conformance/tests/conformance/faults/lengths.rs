//! Faults in the lengths of inputs and outputs: empty ones, rounded ones, and those in characters.

use std::mem::take;

use mistletoe::ErrorKind;

use crate::faulty::{CHARACTERS, Fault, SOUND, Step};

pub(super) static FAULTS: &[Fault] = &[
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
                // The layer does not accept null as an address. So it is shown an address after the memory.
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
];

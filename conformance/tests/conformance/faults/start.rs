//! Faults in how an instance starts.

use std::mem::take;

use mistletoe::types::{FuncType, ValType};

use super::twice;
use crate::faulty::{Fault, SOUND, Step, bounded_memory, lock};

pub(super) static FAULTS: &[Fault] = &[
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
            // The fault does not apply to instances without an `_initialize`.
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
    // How a session begins where the start of another one ended.
    Fault {
        name: "forgets-a-global-that-the-start-has-set",
        call: |guest, step, params| {
            if step == Step::Load {
                guest.memory_mut().iter_mut().take(8).for_each(|byte| *byte = 0);
            }
            guest.call(step, params)
        },
        ..SOUND
    },
    Fault {
        name: "forgets-that-the-start-has-grown-the-memory",
        call: |guest, step, params| guest.call(step, if step == Step::Load { &[0] } else { params }),
        ..SOUND
    },
    Fault { name: "lets-no-memory-grow", bytes: |wasm| bounded_memory(wasm, 0), ..SOUND },
    Fault { name: "lets-no-memory-grow-beyond-64-mib", bytes: |wasm| bounded_memory(wasm, 1 << 10), ..SOUND },
];

//! Faults in how calls of host functions fail, how deeply they nest, and which functions are defined.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mistletoe::types::Problem;
use mistletoe::{Error, ErrorKind, Result, Trap};

use super::{CALLS, HELD, held, without};
use crate::faulty::{Fault, Opened, SOUND, Step};

thread_local! {
    /// How many calls of a host function are in progress.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

pub(super) static FAULTS: &[Fault] = &[
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
    // Host functions: nesting depth of calls.
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
    // Host functions: which are defined.
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
];

fn asked_holding(session: &mut Opened, input: Option<&str>) -> Result<String> {
    HELD.take();
    let result = session.ask(input);
    HELD.take().map_or(result, Err)
}

/// Calls a host function that calls back, or `otherwise` if the call is nested too deeply.
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

//! Faults in the names of traps, and in their effects on a session.

use mistletoe::{Error, ErrorKind, Operation, Result, Trap};

use crate::faulty::{Fault, Guest, Opened, SOUND, Step, TRAPPED, lock};

pub(super) static FAULTS: &[Fault] = &[
    // Names of traps.
    Fault { name: "takes-every-trap-for-unreachable", error: |error| renamed(error, |_| Trap::Unreachable), ..SOUND },
    Fault {
        name: "swaps-memory-and-table-out-of-bounds",
        error: |error| {
            renamed(error, |trap| match trap {
                Trap::MemoryOutOfBounds => Trap::TableOutOfBounds,
                Trap::TableOutOfBounds => Trap::MemoryOutOfBounds,
                other => other,
            })
        },
        ..SOUND
    },
    Fault {
        name: "takes-overflow-for-division-by-zero",
        error: |error| one_renamed(error, Trap::IntegerOverflow, Trap::IntegerDivisionByZero),
        ..SOUND
    },
    Fault {
        name: "takes-division-by-zero-for-overflow",
        error: |error| one_renamed(error, Trap::IntegerDivisionByZero, Trap::IntegerOverflow),
        ..SOUND
    },
    Fault {
        name: "takes-bad-conversions-for-overflow",
        error: |error| one_renamed(error, Trap::BadConversionToInteger, Trap::IntegerOverflow),
        ..SOUND
    },
    Fault {
        name: "takes-overflow-for-bad-conversions",
        error: |error| one_renamed(error, Trap::IntegerOverflow, Trap::BadConversionToInteger),
        ..SOUND
    },
    Fault {
        name: "takes-calls-of-null-for-bad-signatures",
        error: |error| one_renamed(error, Trap::IndirectCallToNull, Trap::BadSignature),
        ..SOUND
    },
    Fault {
        name: "takes-bad-signatures-for-calls-of-null",
        error: |error| one_renamed(error, Trap::BadSignature, Trap::IndirectCallToNull),
        ..SOUND
    },
    Fault {
        name: "takes-table-out-of-bounds-for-calls-of-null",
        error: |error| one_renamed(error, Trap::TableOutOfBounds, Trap::IndirectCallToNull),
        ..SOUND
    },
    Fault {
        name: "takes-calls-of-null-for-table-out-of-bounds",
        error: |error| one_renamed(error, Trap::IndirectCallToNull, Trap::TableOutOfBounds),
        ..SOUND
    },
    Fault {
        name: "takes-stack-overflow-for-an-engine-failure",
        error: |error| match error {
            ErrorKind::Trap { trap: Trap::StackOverflow, .. } => ErrorKind::Engine { operation: Operation::Call },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-stack-overflow-for-memory-out-of-bounds",
        error: |error| one_renamed(error, Trap::StackOverflow, Trap::MemoryOutOfBounds),
        ..SOUND
    },
    Fault {
        name: "takes-traps-while-instantiating-for-engine-failures",
        error: |error| match error {
            ErrorKind::Trap { export: None, .. } => ErrorKind::Engine { operation: Operation::Instantiate },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-traps-in-initialize-for-engine-failures",
        error: |error| match error {
            ErrorKind::Trap { export: Some(export), .. } if export == "_initialize" => {
                ErrorKind::Engine { operation: Operation::Instantiate }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-no-export-of-a-trap",
        error: |error| match error {
            ErrorKind::Trap { trap, .. } => ErrorKind::Trap { trap, export: None },
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "tells-no-export-of-a-trap-in-initialize",
        error: |error| match error {
            ErrorKind::Trap { trap, export: Some(export) } if export == "_initialize" => {
                ErrorKind::Trap { trap, export: None }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-every-export-for-generate",
        error: |error| match error {
            ErrorKind::Trap { trap, export: Some(_) } => {
                ErrorKind::Trap { trap, export: Some(Step::Generate.export().into()) }
            }
            other => other,
        },
        ..SOUND
    },
    Fault {
        name: "takes-the-start-function-for-initialize",
        error: |error| match error {
            ErrorKind::Trap { trap, export: None } => {
                ErrorKind::Trap { trap, export: Some(Step::Initialize.export().into()) }
            }
            other => other,
        },
        ..SOUND
    },
    // Outputs that a panic leaves.
    Fault {
        name: "reports-the-trap-of-a-panic",
        ask: |session, input| {
            let output = session.ask(input)?;
            session.poison().filter(in_generate).map_or(Ok(output), Err)
        },
        ..SOUND
    },
    Fault {
        name: "takes-every-trap-for-a-panic",
        ask: |session, input| match session.ask(input) {
            Err(error) if in_generate(&error) => Ok(String::new()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "uses-a-session-after-a-panic",
        fault: |session| session.poison().filter(|fault| !in_generate(fault)),
        ..SOUND
    },
    // Effects of a trap on a session.
    Fault {
        name: "swallows-a-trap-in-dealloc",
        call: |guest, step, params| match guest.call(step, params) {
            Err(_) if step.frees() => Ok(0),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-output-after-a-trap-in-freeing-the-input",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            if let (Step::FreeInput, Err(_), Some(output)) = (step, &result, guest.held_output()) {
                return guest.free(output).and(result);
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "swallows-a-trap-in-generate",
        call: |guest, step, params| match guest.call(step, params) {
            Err(_) if step == Step::Generate => Ok(guest.fat_pointer),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "swallows-a-trap-in-initialize",
        call: |guest, step, params| match guest.call(step, params) {
            Err(_) if step == Step::Initialize => Ok(0),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "frees-the-input-after-a-trap-in-generate",
        call: |guest, step, params| {
            let result = guest.call(step, params);
            if step == Step::Generate && result.is_err() {
                guest.free(guest.input)?;
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "drops-an-output-when-dealloc-traps",
        ask: |session, input| {
            let before = session.poison().is_some();
            let answer = session.ask(input)?;
            match session.poison() {
                Some(fault) if !before => Err(fault),
                _ => Ok(answer),
            }
        },
        ..SOUND
    },
    Fault {
        name: "reports-a-trap-in-dealloc-instead-of-a-bad-output",
        ask: |session, input| {
            let before = session.poison().is_some();
            session.ask(input).map_err(|error| match session.poison() {
                Some(fault) if !before => fault,
                _ => error,
            })
        },
        ..SOUND
    },
    Fault {
        name: "goes-on-after-a-trap",
        call: going_on,
        ask: asked_going_on,
        fault: |session| session.error.clone(),
        ..SOUND
    },
    Fault {
        name: "opens-a-new-session-after-a-trap",
        ask: |session, input| match session.ask(input) {
            Err(error) if *error.kind() == ErrorKind::Poisoned => {
                session.session = session.package.open()?.session;
                session.ask(input)
            }
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "answers-info-after-a-trap",
        ask: |session, input| {
            let result = session.ask(input);
            match (input, &result) {
                (None, Ok(info)) => {
                    session.answers.insert(None, info.clone());
                }
                (None, Err(error)) if *error.kind() == ErrorKind::Poisoned => {
                    return session.answers.get(&None).cloned().map_or(result, Ok);
                }
                _ => {}
            }
            result
        },
        ..SOUND
    },
    Fault {
        name: "repeats-the-trap-instead-of-poisoned",
        ask: |session, input| {
            let before = session.poison();
            session.ask(input).map_err(|error| before.unwrap_or(error))
        },
        ..SOUND
    },
    Fault { name: "tells-of-no-fault", fault: |_| None, ..SOUND },
    Fault {
        name: "tells-of-faults-in-dealloc-only",
        fault: |session| {
            let dealloc = Step::FreeInput.export();
            session.poison().filter(
                |fault| matches!(fault.kind(), ErrorKind::Trap { export: Some(export), .. } if export == dealloc),
            )
        },
        ..SOUND
    },
    Fault {
        name: "replaces-the-fault-by-the-latest-error",
        ask: keep_error,
        fault: |session| session.poison().and_then(|fault| session.error.clone().or(Some(fault))),
        ..SOUND
    },
    Fault {
        name: "forgets-the-fault-once-told",
        ask: |session, input| {
            session.error = session.poison();
            session.ask(input)
        },
        fault: |session| session.poison().filter(|_| session.error.is_none()),
        ..SOUND
    },
    Fault {
        name: "poisons-after-any-error",
        ask: |session, input| match &session.error {
            Some(_) => Err(ErrorKind::Poisoned.into()),
            None => keep_error(session, input),
        },
        fault: |session| session.poison().or_else(|| session.error.clone()),
        ..SOUND
    },
    Fault {
        name: "poisons-the-whole-package",
        ask: |session, input| {
            let package = session.package.clone();
            if lock(&package.answers).contains_key(&None) {
                return Err(ErrorKind::Poisoned.into());
            }
            let result = session.ask(input);
            if session.poison().is_some() {
                lock(&package.answers).insert(None, String::new());
            }
            result
        },
        ..SOUND
    },
];

fn in_generate(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Trap { export: Some(export), .. } if export == Step::Generate.export())
}

fn renamed(error: ErrorKind, name: fn(Trap) -> Trap) -> ErrorKind {
    match error {
        ErrorKind::Trap { trap, export } => ErrorKind::Trap { trap: name(trap), export },
        other => other,
    }
}

fn one_renamed(error: ErrorKind, from: Trap, to: Trap) -> ErrorKind {
    match error {
        ErrorKind::Trap { trap, export } if trap == from => ErrorKind::Trap { trap: to, export },
        other => other,
    }
}

fn keep_error(session: &mut Opened, input: Option<&str>) -> Result<String> {
    let result = session.ask(input);
    if let Err(error) = &result {
        session.error = Some(error.clone());
    }
    result
}

/// Makes calls, but hides a trap from the layer, so that it continues to use the instance.
fn going_on(guest: &mut Guest, step: Step, params: &[u32]) -> Result<u32> {
    let earlier = TRAPPED.take();
    if earlier.is_some() {
        // Until the host's call ends, further calls of the guest do nothing.
        TRAPPED.set(earlier);
        return Ok(0);
    }
    match guest.call(step, params) {
        Err(error) if step != Step::Initialize => {
            TRAPPED.set(Some(match error.kind() {
                ErrorKind::Trap { trap, .. } => ErrorKind::Trap { trap: *trap, export: Some(step.export().into()) },
                other => other.clone(),
            }));
            Ok(0)
        }
        result => result,
    }
}

fn asked_going_on(session: &mut Opened, input: Option<&str>) -> Result<String> {
    TRAPPED.take();
    let result = session.ask(input);
    let Some(trap) = TRAPPED.take() else { return result };
    let in_dealloc =
        matches!(&trap, ErrorKind::Trap { export: Some(export), .. } if export == Step::FreeInput.export());
    let trap = Error::new(trap);
    session.error.get_or_insert(trap.clone());
    if in_dealloc { result } else { Err(trap) }
}

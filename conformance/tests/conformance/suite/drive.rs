//! Runs a guest on a backend: all its calls in sequence, through the layer's public interface.

use std::mem::take;
use std::vec;

use mistletoe::{AnyBackend, Caller, Error, ErrorKind, Handler, HandlerSession, Imports, Limits, Trap};
use wasmparser::{FuncType, ValType};

use super::link::{DRIVER, LOOK};
use super::script::Driven;

/// What a guest did with one set of limits.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Observation {
    /// Why the guest could not be loaded.
    pub(super) load: Option<ErrorKind>,
    /// The result of opening the session.
    pub(super) open: Option<Seen>,
    pub(super) calls: Vec<Seen>,
    /// Length and checksum of the memory at the end.
    pub(super) memory: Option<(usize, u32)>,
}

/// What a call did.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) result: Result<Vec<u64>, ErrorKind>,
    /// The values printed.
    pub(super) printed: Vec<(&'static str, Vec<u64>)>,
    /// The fuel used, if it is counted.
    pub(super) fuel: Option<u64>,
}

/// The state of a session: the host's part of the exchange with the guest.
#[derive(Debug, Default)]
pub(super) struct State {
    next: u32,
    arguments: vec::IntoIter<u64>,
    results: Vec<u64>,
    printed: Vec<(&'static str, Vec<u64>)>,
    memory: Option<(usize, u32)>,
}

type At<'a, 'b> = &'a mut Caller<'b, State>;

/// The functions of `spectest` and their parameters.
const PRINTS: [(&str, &[ValType]); 7] = [
    ("print", &[]),
    ("print_i32", &[ValType::I32]),
    ("print_i64", &[ValType::I64]),
    ("print_f32", &[ValType::F32]),
    ("print_f64", &[ValType::F64]),
    ("print_i32_f32", &[ValType::I32, ValType::F32]),
    ("print_f64_f64", &[ValType::F64, ValType::F64]),
];

/// Returns whether `spectest` has a function of this name and type.
pub(super) fn prints(name: &str, ty: &FuncType) -> bool {
    PRINTS.iter().any(|(other, params)| *other == name && *params == ty.params() && ty.results().is_empty())
}

/// Returns the imports of guests: the suite's functions, and those that drive the guest.
pub(super) fn imports() -> Imports<State> {
    fn print(caller: At<'_, '_>, name: &'static str, values: &[u64]) {
        caller.state_mut().printed.push((name, values.to_vec()));
    }
    let mut imports = Imports::new();
    imports
        .func("spectest", "print", |caller: At<'_, '_>| print(caller, "print", &[]))
        .func("spectest", "print_i32", |caller: At<'_, '_>, a: u32| print(caller, "print_i32", &[a.into()]))
        .func("spectest", "print_i64", |caller: At<'_, '_>, a: u64| print(caller, "print_i64", &[a]))
        .func("spectest", "print_f32", |caller: At<'_, '_>, a: f32| {
            print(caller, "print_f32", &[a.to_bits().into()]);
        })
        .func("spectest", "print_f64", |caller: At<'_, '_>, a: f64| print(caller, "print_f64", &[a.to_bits()]))
        .func("spectest", "print_i32_f32", |caller: At<'_, '_>, a: u32, b: f32| {
            print(caller, "print_i32_f32", &[a.into(), b.to_bits().into()]);
        })
        .func("spectest", "print_f64_f64", |caller: At<'_, '_>, a: f64, b: f64| {
            print(caller, "print_f64_f64", &[a.to_bits(), b.to_bits()]);
        })
        .func(DRIVER, "next", |caller: At<'_, '_>| caller.state().next)
        .func(DRIVER, "argument", |caller: At<'_, '_>| {
            caller.state_mut().arguments.next().ok_or("there is no such argument")
        })
        .func(DRIVER, "result", |caller: At<'_, '_>, slot: u64| caller.state_mut().results.push(slot))
        .func(DRIVER, "look", |caller: At<'_, '_>| {
            let memory = caller.memory();
            let seen = (memory.len(), crc32fast::hash(memory));
            caller.state_mut().memory = Some(seen);
        });
    imports
}

/// Runs all of a guest's calls.
///
/// A trap ends a session. Later calls have to see the state of the calls before the trap. So these are repeated in a
/// new session, and have to do the same. A call that traps is not repeated; none of the suite's leaves anything behind
/// that a later step checks.
pub(super) fn observe(
    driven: &Driven,
    backend: &AnyBackend,
    imports: &Imports<State>,
    limits: &Limits,
) -> Result<Observation, Error> {
    let mut observation = Observation::default();
    let handler = match Handler::with_imports(backend, &driven.wasm, imports, *limits) {
        Ok(handler) => handler,
        Err(error) => {
            observation.load = Some(error.kind().clone());
            return Ok(observation);
        }
    };
    let open = || handler.session_with(State::default());
    let mut session = match open() {
        Ok(mut session) => {
            let printed = take(&mut session.state_mut().printed);
            observation.open = Some(Seen { result: Ok(Vec::new()), printed, fuel: session.fuel_used()? });
            Some(session)
        }
        Err(error) => {
            let result = Err(error.kind().clone());
            observation.open = Some(Seen { result, printed: Vec::new(), fuel: None });
            return Ok(observation);
        }
    };
    for call in 0..driven.calls.len() {
        let mut live = match session.take() {
            Some(session) => session,
            None => again(driven, open()?, &observation.calls)?,
        };
        let seen = take_call(driven, call, &mut live)?;
        if seen.result.is_ok() {
            session = Some(live);
        }
        observation.calls.push(seen);
    }
    let mut session = match session {
        Some(session) => session,
        None => again(driven, open()?, &observation.calls)?,
    };
    session.state_mut().next = LOOK;
    session.run(&[])?;
    observation.memory = session.state().memory;
    Ok(observation)
}

/// Repeats the calls that returned in a new session.
fn again(
    driven: &Driven,
    mut session: HandlerSession<AnyBackend, State>,
    calls: &[Seen],
) -> Result<HandlerSession<AnyBackend, State>, Error> {
    session.state_mut().printed.clear();
    if driven.is_stateful {
        for (call, before) in calls.iter().enumerate().filter(|(_, seen)| seen.result.is_ok()) {
            let seen = take_call(driven, call, &mut session)?;
            if seen != *before {
                let problem = format!("the same call again: {before:?}, then {seen:?}");
                return Err(Error::engine(mistletoe::Operation::Call, problem));
            }
        }
    }
    Ok(session)
}

fn take_call(driven: &Driven, call: usize, session: &mut HandlerSession<AnyBackend, State>) -> Result<Seen, Error> {
    let call = &driven.calls[call];
    let state = session.state_mut();
    state.next = call.entry.number;
    state.arguments = call.arguments.clone().into_iter();
    state.results.clear();
    let result = session.run(&[]);
    // How deep an engine's own stack can get depends on the engine, and so does the fuel used by then.
    let overflows = result.as_ref().is_err_and(|error| error.as_trap() == Some(Trap::StackOverflow));
    let fuel = if overflows { None } else { session.fuel_used()? };
    let state = session.state_mut();
    let mut results = take(&mut state.results);
    // The guest reports the last result first.
    results.reverse();
    let result = result.map(|_| results).map_err(|error| error.kind().clone());
    Ok(Seen { result, printed: take(&mut state.printed), fuel })
}

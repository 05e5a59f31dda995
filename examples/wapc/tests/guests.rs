//! A guest in C on every backend, on the engine's own types and with them erased: answers, errors, calls of the host,
//! limits and pools are the same as for any other protocol.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use mistletoe::{
    AnyBackend, AnyProgram, Backend, ErrorKind, Imports, Limits, Pool, Program, Wasmer, Wasmi, Wasmtime, backend,
    backends,
};
use wapc_protocol::{Call, GuestError, HostCall, Wapc};

fn guest() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packages/wapc-c.wasm");
    fs::read(path).expect("the guest is committed")
}

/// A host whose only operation makes capitals.
fn host(call: HostCall<'_>) -> Result<Vec<u8>, String> {
    match (call.binding, call.namespace, call.operation) {
        ("text", "case", "upper") if call.payload.is_ascii() => Ok(call.payload.to_ascii_uppercase()),
        ("text", "case", "upper") => Err("no capitals for that".to_owned()),
        _ => Err(format!("there is no {}", call.operation)),
    }
}

fn limits() -> Limits {
    Limits::default().with_fuel(2_000_000).with_max_output(1_000)
}

/// The program on a backend whose type is known, and on one whose type is not: both give the same.
macro_rules! on_both {
    ($backend:expr, $check:ident) => {{
        let backend = $backend;
        let name = backend.name();
        let (wasm, imports) = (guest(), Imports::<()>::new());
        let typed = Program::with_protocol(Wapc::new(host), &backend, &wasm, &imports, limits()).expect("a guest");
        let any = AnyBackend::new(backend);
        let erased = AnyProgram::with_protocol(Wapc::new(host), &any, &wasm, &imports, limits()).expect("a guest");
        let (typed, erased) = ($check!(typed, name), $check!(erased, name));
        assert_eq!(typed, erased, "{name}");
        typed
    }};
}

/// Answers, errors, and how much fuel each took.
macro_rules! answers {
    ($program:expr, $name:expr) => {{
        let mut session = $program.session().expect("a session");
        let mut fuel = Vec::new();
        let long = "x".repeat(994);
        for (operation, payload, answer) in [
            ("greet", "world", Ok("hello, world".to_owned())),
            ("shout", "quietly", Ok("QUIETLY".to_owned())),
            ("shout", "später", Err("no capitals for that")),
            ("whisper", "", Err("no such operation")),
            ("greet", "", Ok("hello, ".to_owned())),
            ("greet", &long[..993], Ok(format!("hello, {}", &long[..993]))),
        ] {
            let found = session.call(Call { operation, payload: payload.as_bytes() }).expect("an answer");
            let answer = answer.map(String::into_bytes).map_err(|error| GuestError(error.to_owned()));
            assert_eq!(found, answer, "{}: {operation}", $name);
            fuel.push(session.fuel_used().expect("counted").expect("counted"));
        }
        assert!(session.fault().is_none());
        // A byte more than the limit: the call fails, in a host function of the protocol's.
        let error = session.call(Call { operation: "greet", payload: long.as_bytes() }).expect_err("too long");
        assert!(matches!(error.kind(), ErrorKind::TooLong { length: 1001, limit: 1000, .. }), "{}: {error}", $name);
        let error = session.call(Call { operation: "greet", payload: b"" }).expect_err("poisoned");
        assert_eq!(*error.kind(), ErrorKind::Poisoned, "{}", $name);
        let mut session = $program.session().expect("a session");
        let error = session.call(Call { operation: "spin", payload: b"" }).expect_err("no end");
        assert!(matches!(error.kind(), ErrorKind::OutOfFuel { limit: 2_000_000, .. }), "{}: {error}", $name);
        fuel
    }};
}

/// Threads share a pool of sessions.
macro_rules! pools {
    ($program:expr, $name:expr) => {{
        let (pool, answered) = (Pool::new(&$program, 2), AtomicUsize::new(0));
        let reused = pool.reused();
        thread::scope(|scope| {
            for i in 0..8 {
                let (pool, reused, answered) = (&pool, &reused, &answered);
                scope.spawn(move || {
                    let payload = i.to_string();
                    let call = Call { operation: "greet", payload: payload.as_bytes() };
                    let fresh = pool.session().and_then(|mut session| session.call(call)).expect("an answer");
                    let warm = reused.session().and_then(|mut session| session.call(call)).expect("an answer");
                    let answer = Ok(format!("hello, {i}").into_bytes());
                    assert_eq!((&fresh, &warm), (&answer, &answer), "{}", $name);
                    answered.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        answered.into_inner()
    }};
}

#[test]
fn a_guest_answers_alike_on_every_backend() {
    let mut fuel = BTreeSet::new();
    fuel.insert(on_both!(Wasmi::new(), answers));
    fuel.insert(on_both!(Wasmtime::new().expect("an engine"), answers));
    fuel.insert(on_both!(Wasmer::new(), answers));
    for info in backends() {
        fuel.insert(on_both!(backend(info.name()).expect("a backend"), answers));
    }
    assert_eq!(fuel.len(), 1, "{fuel:?}");
}

#[test]
fn threads_share_a_pool_of_guests() {
    assert_eq!(on_both!(Wasmi::new(), pools), 8);
    assert_eq!(on_both!(Wasmtime::new().expect("an engine"), pools), 8);
    assert_eq!(on_both!(Wasmer::new(), pools), 8);
    for info in backends() {
        assert_eq!(on_both!(backend(info.name()).expect("a backend"), pools), 8);
    }
}

#[test]
fn what_a_guest_logs_is_heard() {
    for info in backends() {
        let backend = backend(info.name()).expect("a backend");
        let (told, heard) = mpsc::channel();
        let protocol = Wapc::new(host).on_log(move |line| told.send(line.to_owned()).expect("it is heard"));
        let guest = AnyProgram::with_protocol(protocol, &backend, &guest(), &Imports::<()>::new(), limits());
        let mut session = guest.and_then(|guest| guest.session()).expect("a session");
        for operation in ["greet", "whisper"] {
            session.call(Call { operation, payload: b"" }).expect("an answer").map_or_else(drop, drop);
        }
        // The guest logs what it is asked for.
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["greet", "whisper"], "{}", info.name());
    }
}

#[test]
fn what_is_no_guest_is_refused_with_all_that_is_wrong() {
    let wasm = wat::parse_str(
        r#"(module
            (import "wapc" "__guest_request" (func (param i32)))
            (import "wapc" "__unknown" (func))
            (func (export "wapc_init") (result i32) (i32.const 0)))"#,
    );
    let wasm = wasm.expect("it assembles");
    let program =
        Program::<_, _, ()>::with_protocol(Wapc::new(host), &Wasmi::new(), &wasm, &Imports::new(), Limits::default());
    let error = program.expect_err("no guest");
    let ErrorKind::Interface { problems } = error.kind() else { panic!("{error}") };
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 5, "{problems:#?}");
    for (problem, part) in problems.iter().zip(["memory", "__guest_call", "wapc_init", "__guest_request", "__unknown"])
    {
        assert!(problem.contains(part), "{problem}");
    }
}

#[test]
fn a_guest_that_names_memory_it_has_not_is_told_of_it() {
    // Asks for its request at the end of its memory.
    let wasm = wat::parse_str(
        r#"(module
            (import "wapc" "__guest_request" (func $request (param i32 i32)))
            (memory (export "memory") 1)
            (func (export "__guest_call") (param i32 i32) (result i32)
                (call $request (i32.const 0) (i32.const 65535))
                (i32.const 1)))"#,
    );
    let wasm: Arc<[u8]> = wasm.expect("it assembles").into();
    for info in backends() {
        let backend = backend(info.name()).expect("a backend");
        let imports = Imports::<()>::new();
        let guest = AnyProgram::with_protocol(Wapc::new(host), &backend, &wasm, &imports, Limits::default());
        let mut session = guest.and_then(|guest| guest.session()).expect("a session");
        let error = session.call(Call { operation: "o", payload: b"ab" }).expect_err("no room");
        let ErrorKind::OutOfBounds { address: 65_535, length: 2, .. } = error.kind() else { panic!("{error:?}") };
        assert!(error.to_string().contains("`payload` of the host function `wapc.__guest_request`"), "{error}");
    }
}

//! Calls that another thread cancels, on every backend.
//!
//! Without the handle, these guests would run until their timeout, which is another error.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mistletoe::wasi::{self, Clock, OutputStream, Wasi};
use mistletoe::{
    AnyBackend, AnyCommand, AnyHandler, AnyPackage, Caller, CancelHandle, Error, ErrorKind, Imports, Limits, Package,
    Pool, Result,
};

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(120);

/// Signals that it is ready, and loops forever.
const EVER: &str = "(call $ready) (loop $ever (br $ever))";

/// Returns a package that runs `body` for the input `f`, and outputs its input otherwise.
fn package_text(start: &str, body: &str) -> String {
    format!(
        r#"(module
            (import "env" "ready" (func $ready))
            (import "env" "wait" (func $wait))
            (import "env" "ask" (func $ask))
            (import "env" "quick" (func $quick))
            (memory (export "memory") 1)
            {start}
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 102)) (then {body}))
                (i32.store (i32.const 8) (local.get 0))
                (i32.store (i32.const 12) (local.get 1))
                (i32.const 8)))"#
    )
}

struct State {
    wasi: Wasi,
    ready: Sender<()>,
}

impl AsMut<Wasi> for State {
    fn as_mut(&mut self) -> &mut Wasi {
        &mut self.wasi
    }
}

fn state() -> (State, Receiver<()>) {
    let (ready, is_ready) = mpsc::channel();
    (State { wasi: Wasi::default(), ready }, is_ready)
}

/// Functions that wait, that poll the deadline, and that return at once.
fn imports() -> Imports<State> {
    let mut imports = wasi::imports();
    imports.func("env", "ready", |caller: &mut Caller<'_, State>| caller.state().ready.send(()));
    imports.func("env", "wait", |caller: &mut Caller<'_, State>| caller.wait(LONG));
    imports.func("env", "ask", |caller: &mut Caller<'_, State>| -> Result<()> {
        loop {
            caller.in_time()?;
            thread::yield_now();
        }
    });
    imports.func("env", "quick", |_: &mut Caller<'_, State>| {});
    imports
}

/// If a cancellation is missed, the call ends with another error.
fn limits() -> Limits {
    Limits::default().with_timeout(LONG)
}

fn backends() -> impl Iterator<Item = AnyBackend> {
    mistletoe::backends().iter().map(|info| mistletoe::backend(info.name()).expect("a backend"))
}

fn package(backend: &AnyBackend, text: &str, limits: Limits) -> AnyPackage<State> {
    let wasm = wat::parse_str(text).expect("it assembles");
    AnyPackage::with_imports(backend, &wasm, &imports(), limits).expect("a package")
}

/// Returns the error of a call that is cancelled as soon as the guest is ready.
fn cancelled<R: Send>(
    handle: &CancelHandle,
    is_ready: &Receiver<()>,
    call: impl FnOnce() -> Result<R> + Send,
) -> ErrorKind {
    thread::scope(|scope| {
        let call = scope.spawn(call);
        is_ready.recv().expect("the guest comes so far");
        handle.cancel();
        call.join().expect("no panic").map(drop).expect_err("it was cancelled").kind().clone()
    })
}

fn during(export: Option<&'static str>) -> ErrorKind {
    ErrorKind::Cancelled { export: export.map(Into::into) }
}

#[test]
fn guest_code_and_host_functions_are_cancelled() {
    let bodies = [
        EVER,
        "(call $ready) (call $wait)",
        "(call $ready) (call $ask)",
        "(call $ready) (loop $l (call $quick) (br $l))",
    ];
    for backend in backends() {
        for body in bodies {
            let package = package(&backend, &package_text("", body), limits());
            let (state, is_ready) = state();
            let mut session = package.session_with(state).expect("a session");
            let handle = session.cancel_handle();
            let kind = cancelled(&handle, &is_ready, || session.generate("f"));
            assert_eq!(kind, during(Some("__mistletoe_generate")), "{} {body}", backend.name());
            // The guest was interrupted in the middle of a call.
            let poisoned = session.generate("x").expect_err("it is over");
            assert_eq!(*poisoned.kind(), ErrorKind::Poisoned);
            assert_eq!(session.fault().map(Error::kind), Some(&during(Some("__mistletoe_generate"))));
        }
    }
}

#[test]
fn without_any_limit_host_calls_see_it() {
    for backend in backends() {
        let text = package_text("", "(call $ready) (loop $l (call $quick) (br $l))");
        let package = package(&backend, &text, Limits::unlimited());
        let (state, is_ready) = state();
        let mut session = package.session_with(state).expect("a session");
        let handle = session.cancel_handle();
        let kind = cancelled(&handle, &is_ready, || session.generate("f"));
        assert_eq!(kind, during(Some("__mistletoe_generate")), "{}", backend.name());
    }
}

#[test]
fn what_counts_fuel_alone_is_cancelled() {
    for backend in backends() {
        let package =
            package(&backend, &package_text("", EVER), Limits::default().with_timeout(None).with_fuel(u64::MAX));
        let (state, is_ready) = state();
        let mut session = package.session_with(state).expect("a session");
        let handle = session.cancel_handle();
        let kind = cancelled(&handle, &is_ready, || session.generate("f"));
        assert_eq!(kind, during(Some("__mistletoe_generate")), "{}", backend.name());
    }
}

#[test]
fn opening_is_cancelled() {
    let starts = [
        (format!("(func $start {EVER}) (start $start)"), None),
        (format!("(func (export \"_initialize\") {EVER})"), Some("_initialize")),
        (format!("(func (export \"_start\") {EVER})"), Some("_start")),
    ];
    for backend in backends() {
        for (start, export) in &starts {
            let package = package(&backend, &package_text(start, ""), limits());
            let (state, is_ready) = state();
            let handle = CancelHandle::new();
            let kind = cancelled(&handle, &is_ready, || package.session_with_cancel(state, &handle).map(drop));
            assert_eq!(kind, during(*export), "{} {start}", backend.name());
        }
        // Cancelled before the start.
        let package = package(&backend, &package_text("(func $start (unreachable)) (start $start)", ""), limits());
        let handle = CancelHandle::new();
        handle.cancel();
        let error = package.session_with_cancel(state().0, &handle).map(drop).expect_err("it was cancelled");
        assert_eq!(*error.kind(), during(None));
        assert_eq!(error.to_string(), "cancelled");
    }
}

#[test]
fn a_handle_that_was_cancelled_before_ends_the_next_call_and_leaves_the_guest_alone() {
    for backend in backends() {
        let package = package(&backend, &package_text("", ""), limits());
        let handle = CancelHandle::new();
        let mut session = package.session_with_cancel(state().0, &handle).expect("a session");
        assert_eq!(session.generate("x").expect("an answer"), "x");
        drop(handle.clone().drop_guard().disarm());
        assert!(!handle.is_cancelled());
        drop(handle.clone().drop_guard());
        assert!(session.cancel_handle().is_cancelled(), "it is the session's");
        assert_eq!(*session.generate("x").expect_err("it was cancelled").kind(), during(None));
        assert!(session.fault().is_none());
    }
}

#[test]
fn a_deadline_needs_no_other_thread() {
    for backend in backends() {
        for body in [EVER, "(call $wait)", "(call $ask)", "(loop $ever (call $quick) (br $ever))"] {
            let package = package(&backend, &package_text("", body), limits());
            let handle = CancelHandle::with_deadline(Instant::now() + Duration::from_millis(20));
            let (state, _is_ready) = state();
            let mut session = package.session_with(state).expect("a session");
            session.set_cancel_handle(Some(handle.clone()));
            let kind = session.generate("f").expect_err("it does not end by itself").kind().clone();
            assert_eq!(kind, during(Some("__mistletoe_generate")), "{} {body}", backend.name());
            assert!(handle.is_cancelled());

            // As any other handle, it also ends what has not begun.
            let mut other = package.session_with(self::state().0).expect("a session");
            other.set_cancel_handle(Some(handle));
            assert_eq!(*other.generate("x").expect_err("it was cancelled").kind(), during(None));
            assert!(other.fault().is_none());
        }
        let package = package(&backend, &package_text("(func $start (unreachable)) (start $start)", ""), limits());
        let handle = CancelHandle::with_deadline(Instant::now());
        let error = package.session_with_cancel(state().0, &handle).map(drop).expect_err("it is too late");
        assert_eq!(*error.kind(), during(None), "{}", backend.name());
    }
}

#[test]
fn a_wait_ends_at_the_deadline() {
    let started = Instant::now();
    let handle = CancelHandle::with_deadline(started + Duration::from_millis(20));
    assert!(handle.wait(LONG), "the deadline has passed");
    assert!(started.elapsed() < LONG);
    let handle = CancelHandle::with_deadline(started + 2 * LONG);
    assert!(!handle.wait(Duration::from_millis(1)) && !handle.is_cancelled());
    handle.cancel();
    assert!(handle.is_cancelled());
}

#[test]
fn who_cancels_a_session_that_was_given_back_is_too_late() {
    for backend in backends() {
        let text = package_text("", EVER);
        let package = package(&backend, &text, limits());
        let (ready, is_ready) = mpsc::channel();
        let state = move || State { wasi: Wasi::default(), ready: ready.clone() };
        let pool = Pool::with_state(&package, 1, state).reused();
        let (first, second) = (CancelHandle::new(), CancelHandle::new());

        let mut session = pool.session_with_cancel(&first).expect("a session");
        let of_session = session.cancel_handle();
        assert_eq!(session.generate("x").expect("an answer"), "x");
        drop(session);
        first.cancel();
        assert!(of_session.is_cancelled());
        assert_eq!(pool.session().and_then(|mut session| session.generate("x")).expect("an answer"), "x");
        let mut session = pool.session_with_cancel(&second).expect("a session");
        assert_eq!(session.generate("x").expect("an answer"), "x");
        let kind = cancelled(&second, &is_ready, || session.generate("f"));
        assert_eq!(kind, during(Some("__mistletoe_generate")), "{}", backend.name());
        drop(session);
        // The session was poisoned, and is not reused.
        assert_eq!(pool.session().and_then(|mut session| session.generate("x")).expect("an answer"), "x");
    }
}

/// Returns a command that waits in a WASI function, with the arguments in `call`.
///
/// The data hold a subscription to the monotonic clock in an hour, and one to standard input.
fn command_text(function: &str, params: &str, call: &str) -> String {
    format!(
        r#"(module
            (import "env" "ready" (func $ready))
            (import "wasi_snapshot_preview1" "{function}" (func $wait (param {params}) (result i32)))
            (memory (export "memory") 16)
            ;; At 0 a vector of one buffer: 512 KiB at 65536.
            (data (i32.const 0) "\00\00\01\00\00\00\08\00")
            ;; At 64: the clock 1, relative, 3,600,000,000,000 ns.
            (data (i32.const 80) "\01")
            (data (i32.const 88) "\00\a0\b8\30\46\03\00\00")
            ;; At 128: reading from descriptor 0.
            (data (i32.const 136) "\01")
            (func (export "_start") (call $ready) (loop $again (drop (call $wait {call})) (br $again))))"#
    )
}

#[test]
fn waits_of_wasi_are_cancelled() {
    type Grant = fn() -> (Wasi, Option<Box<dyn Send>>);
    fn pipe() -> (OwnedFd, OwnedFd) {
        let (reader, writer) = io::pipe().expect("a pipe");
        (reader.into(), writer.into())
    }
    let clock: Grant = || (Wasi::builder().clock(Clock::System).build(), None);
    let input: Grant = || {
        let (reader, writer) = pipe();
        (Wasi::builder().clock(Clock::System).stdin_file(File::from(reader)).build(), Some(Box::new(writer)))
    };
    let output: Grant = || {
        let (reader, writer) = pipe();
        let output = OutputStream::limited_file(File::from(writer), u64::MAX);
        (Wasi::builder().stdout(output).build(), Some(Box::new(reader)))
    };
    // A fixed clock advances by the requested duration, so only the calls themselves take time.
    let fixed: Grant = || (Wasi::builder().clock(Clock::Fixed(SystemTime::UNIX_EPOCH)).build(), None);
    let waits = [
        ("the clock", command_text("poll_oneoff", "i32 i32 i32 i32", POLL_CLOCK), clock),
        ("the input", command_text("poll_oneoff", "i32 i32 i32 i32", POLL_INPUT), input),
        ("reading", command_text("fd_read", "i32 i32 i32 i32", READ), input),
        ("writing", command_text("fd_write", "i32 i32 i32 i32", WRITE), output),
        ("a fixed clock, over and over", command_text("poll_oneoff", "i32 i32 i32 i32", POLL_CLOCK), fixed),
        (
            "random bytes, over and over",
            command_text("random_get", "i32 i32", "(i32.const 0) (i32.const 900000)"),
            fixed,
        ),
    ];
    for backend in backends() {
        for (name, text, grant) in &waits {
            let wasm = wat::parse_str(text).expect("it assembles");
            for limits in [limits(), Limits::unlimited()] {
                let command = AnyCommand::with_imports(&backend, &wasm, &imports(), limits).expect("a command");
                let (wasi, _other_end) = grant();
                let (ready, is_ready) = mpsc::channel();
                let mut session = command.session_with(State { wasi, ready }).expect("a session");
                let handle = session.cancel_handle();
                let kind = cancelled(&handle, &is_ready, || session.run().0);
                assert_eq!(kind, during(Some("_start")), "{} {name}", backend.name());
            }
        }
    }
}

const POLL_CLOCK: &str = "(i32.const 64) (i32.const 512) (i32.const 1) (i32.const 1024)";
const POLL_INPUT: &str = "(i32.const 128) (i32.const 512) (i32.const 1) (i32.const 1024)";
const READ: &str = "(i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1024)";
const WRITE: &str = "(i32.const 1) (i32.const 0) (i32.const 1) (i32.const 1024)";

#[test]
fn plugins_are_cancelled_as_packages_are() {
    let text = format!(
        r#"(module
            (import "env" "ready" (func $ready))
            (memory (export "memory") 1)
            (func (export "malloc") (param i32) (result i32) (i32.const 1024))
            (func (export "free") (param i32))
            (func (export "run") {EVER}))"#
    );
    let wasm = wat::parse_str(text).expect("it assembles");
    for backend in backends() {
        let handler = AnyHandler::with_imports(&backend, &wasm, &imports(), limits()).expect("a plugin");
        let (state, is_ready) = state();
        let mut session = handler.session_with(state).expect("a session");
        let handle = session.cancel_handle();
        let kind = cancelled(&handle, &is_ready, || session.run(b""));
        assert_eq!(kind, during(Some("run")), "{}", backend.name());
    }
}

/// Panics in a host function, grows or traps, depending on the input.
///
/// Calls a host function that panics for `f`, grows its memory by a page and outputs the size for `g`, and traps for
/// `t`.
const TRAVELLER: &str = r#"(module
    (import "env" "panic" (func $panic))
    (memory (export "memory") 1)
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32) (local $first i32)
        (local.set $first (i32.load8_u (local.get 0)))
        (if (i32.eq (local.get $first) (i32.const 102)) (then (call $panic)))
        (if (i32.eq (local.get $first) (i32.const 116)) (then (unreachable)))
        (if (i32.eq (local.get $first) (i32.const 103)) (then
            (drop (memory.grow (i32.const 1)))
            ;; The page is there, and holds nothing yet.
            (if (i32.load (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4))) (then (unreachable)))
            (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const -1))
            (i32.store8 (local.get 0) (i32.add (i32.const 48) (memory.size)))))
        (i32.store (i32.const 8) (local.get 0))
        (i32.store (i32.const 12) (local.get 1))
        (i32.const 8)))"#;

/// Runs every step on its own thread, which ends before the next step begins.
///
/// No state of an engine may depend on the previous thread.
#[test]
fn sessions_go_from_thread_to_thread() {
    let wasm = wat::parse_str(TRAVELLER).expect("it assembles");
    let mut imports = Imports::new();
    imports.func("env", "panic", |_: &mut Caller<'_, ()>| -> () { std::panic::resume_unwind(Box::new("panics")) });
    for backend in backends() {
        let package = AnyPackage::with_imports(&backend, &wasm, &imports, limits()).expect("a package");
        let typed = Package::with_imports(&backend, &wasm, &imports, limits()).expect("a package");
        for ending in ["t", "f"] {
            let mut session = elsewhere(|| package.session()).expect("a session");
            let mut other = elsewhere(|| typed.session()).expect("a session");
            for pages in 2..9 {
                let (answer, second);
                (session, answer) = elsewhere(move || step(session, |session| session.generate("g")));
                (other, second) = elsewhere(move || step(other, |session| session.generate("g")));
                assert_eq!(answer.expect("an answer"), pages.to_string(), "{}", backend.name());
                assert_eq!(second.expect("an answer"), pages.to_string(), "{}", backend.name());
            }
            let (session, answer) = elsewhere(move || step(session, |session| session.generate(ending)));
            let error = answer.expect_err("the guest is ended");
            match ending {
                "t" => assert!(error.as_trap().is_some(), "{error}"),
                _ => assert!(matches!(error.kind(), ErrorKind::HostPanic { .. }), "{error}"),
            }
            let (session, answer) = elsewhere(move || step(session, |session| session.generate("x")));
            assert_eq!(*answer.expect_err("poisoned").kind(), ErrorKind::Poisoned);
            elsewhere(move || drop((session, other)));
        }
    }
}

fn step<S, R>(mut session: S, call: impl FnOnce(&mut S) -> R) -> (S, R) {
    let result = call(&mut session);
    (session, result)
}

fn elsewhere<R: Send>(call: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(call).join().expect("no panic"))
}

#[test]
fn a_wait_ends_when_its_handle_is_cancelled() {
    let handle = CancelHandle::new();
    assert!(!handle.wait(Duration::from_millis(1)));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| handle.wait(Duration::MAX));
        handle.cancel();
        assert!(waiting.join().expect("no panic"));
    });
    assert!(handle.wait(Duration::MAX), "it stays cancelled");
}

/// The channels of a host function: it signals that it was called, and waits for permission to continue.
struct Steps {
    begun: Sender<()>,
    goes_on: Receiver<()>,
}

#[test]
fn no_host_function_is_called_after_a_cancel() {
    let text = r#"(module
        (import "env" "step" (func $step))
        (memory (export "memory") 1)
        (func (export "_start") (loop $again (call $step) (br $again))))"#;
    let wasm = wat::parse_str(text).expect("it assembles");
    let mut imports = Imports::<Steps>::new();
    imports.func(
        "env",
        "step",
        |caller: &mut Caller<'_, Steps>| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let Steps { begun, goes_on } = caller.state();
            begun.send(())?;
            Ok(goes_on.recv()?)
        },
    );
    for backend in backends() {
        for limits in [limits(), Limits::unlimited()] {
            let command = AnyCommand::with_imports(&backend, &wasm, &imports, limits).expect("a command");
            let (begun, has_begun) = mpsc::channel();
            let (go_on, goes_on) = mpsc::channel();
            let mut session = command.session_with(Steps { begun, goes_on }).expect("a session");
            let handle = session.cancel_handle();
            let error = thread::scope(|scope| {
                let run = scope.spawn(|| session.run().0);
                // Enough calls that the clock is read in few of them.
                for _ in 0..200 {
                    has_begun.recv().expect("the guest calls it");
                    go_on.send(()).expect("it waits");
                }
                has_begun.recv().expect("the guest calls it");
                handle.cancel();
                go_on.send(()).expect("it waits");
                run.join().expect("no panic").expect_err("it was cancelled")
            });
            assert_eq!(*error.kind(), during(Some("_start")), "{}", backend.name());
            assert!(has_begun.try_recv().is_err(), "{}: it was called once more", backend.name());
        }
    }
}

#[test]
fn a_plugin_that_is_refused_a_request_has_no_output_of_an_earlier_one() {
    let text = r#"(module
        (import "httpwasm" "oputs" (func $oputs (param i32 i32)))
        (memory (export "memory") 1)
        (func (export "malloc") (param i32) (result i32) (i32.const 1024))
        (func (export "free") (param i32))
        (func (export "run") (call $oputs (i32.const 0) (i32.const 3)) (unreachable)))"#;
    let wasm = wat::parse_str(text).expect("it assembles");
    for backend in backends() {
        let handler = AnyHandler::with_imports(&backend, &wasm, &imports(), limits().with_max_input(1));
        let mut session = handler.expect("a plugin").session_with(state().0).expect("a session");
        assert!(session.run(b"x").expect_err("a trap").as_trap().is_some());
        let error = session.run(b"too long").expect_err("it is refused");
        assert!(matches!(error.kind(), ErrorKind::TooLong { .. }), "{error}");
        assert_eq!(session.unfinished(), Default::default(), "{}", backend.name());
    }
}

//! Sessions that begin where the start of another one ended.
//!
//! The first session of a program starts as any guest does. Each later one has to do exactly what it does.

mod cases;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mistletoe::backend::{HostFunc, Instance, ModuleSource, StoreData};
use mistletoe::host::Caller;
use mistletoe::types::FuncType;
use mistletoe::wasi::{self, OutputStream, Wasi};
use mistletoe::{AnyBackend, Backend, CancelHandle, ErrorKind, Imports, Limits, Package, Result};

/// A backend that counts the instances that begin with what another one has saved.
#[derive(Clone)]
struct Counting {
    backend: AnyBackend,
    loaded: Arc<AtomicU64>,
}

/// An instance of such a backend.
struct Counted {
    instance: <AnyBackend as Backend>::Instance,
    loaded: Arc<AtomicU64>,
}

impl Backend for Counting {
    type Module = <AnyBackend as Backend>::Module;
    type Instance = Counted;

    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<Self::Module> {
        self.backend.compile(source, imports)
    }

    fn instantiate(&self, module: &Self::Module, data: StoreData) -> Result<Counted> {
        Ok(Counted { instance: self.backend.instantiate(module, data)?, loaded: self.loaded.clone() })
    }
}

impl Instance for Counted {
    type Func = <<AnyBackend as Backend>::Instance as Instance>::Func;

    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<Self::Func> {
        if name == "mistletoe: load" {
            self.loaded.fetch_add(1, Ordering::Relaxed);
        }
        self.instance.get_func(name, ty)
    }

    fn call(&mut self, func: &Self::Func, slots: &mut [u64]) -> Result<()> {
        self.instance.call(func, slots)
    }

    fn memory(&self) -> &[u8] {
        self.instance.memory()
    }

    fn data(&self) -> &StoreData {
        self.instance.data()
    }

    fn data_mut(&mut self) -> &mut StoreData {
        self.instance.data_mut()
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        self.instance.memory_and_data()
    }
}

fn backends() -> impl Iterator<Item = Counting> {
    let all = mistletoe::backends().iter().filter(|info| info.is_enabled());
    all.map(|info| Counting { backend: mistletoe::backend(info.name()).expect("a backend"), loaded: Arc::default() })
}

/// The state of a session: WASI, a number that `test.next` passes out and counts up, and what `test.note` was given.
#[derive(Default)]
struct State {
    wasi: Wasi,
    next: u64,
    notes: Vec<u64>,
}

impl AsMut<Wasi> for State {
    fn as_mut(&mut self) -> &mut Wasi {
        &mut self.wasi
    }
}

fn imports() -> Imports<State> {
    let mut imports = wasi::imports::<State>();
    // Writes the number to an address if that is in the memory, and returns the lower half.
    imports.repeatable_func("test", "next", |caller: &mut Caller<'_, State>, address: u32| {
        let (mut output, state) = caller.output_and_state();
        state.next += 1;
        let address = address as usize;
        let Some(bytes) = output.get_mut(address..address + 8) else { return u32::MAX };
        bytes.copy_from_slice(&state.next.to_le_bytes());
        state.next as u32
    });
    imports.repeatable_func("test", "fail_at", |caller: &mut Caller<'_, State>, number: u64| {
        if caller.state().next == number { Err("it is that number") } else { Ok(()) }
    });
    imports.func("test", "note", |caller: &mut Caller<'_, State>, number: u64| caller.state_mut().notes.push(number));
    imports
}

/// Returns a package with declarations of its own. Its output is a digest of the memory, the sizes, what its function
/// `$own` returns, and the next number, time and random number of the session.
fn package(declarations: &str) -> Vec<u8> {
    let own = if declarations.contains("(func $own") { "" } else { "(func $own (result i64) (i64.const 0))" };
    let text = format!(
        r#"(module
        (import "test" "next" (func $next (param i32) (result i32)))
        (import "test" "fail_at" (func $fail_at (param i64)))
        (import "test" "note" (func $note (param i64)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1 3)
        (data (i32.const 30000) "what was there before")
        (global $digest (mut i64) (i64.const 0))
        ;; Takes long enough to be worth a record.
        (func $long
            (local $i i32)
            (loop $again
                (i32.store (i32.const 16) (i32.mul (i32.load (i32.const 16)) (i32.const 31)))
                (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 200000)))))
        (func $add (param i64)
            (global.set $digest
                (i64.mul (i64.xor (global.get $digest) (local.get 0)) (i64.const 0x100000001b3))))
        {own}
        {declarations}
        (func (export "__mistletoe_info") (result i32) (i32.const 8))
        (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "__mistletoe_dealloc") (param i32 i32))
        (func (export "__mistletoe_generate") (param i32 i32) (result i32)
            (local $i i32)
            (global.set $digest (i64.const 0))
            (loop $each
                (call $add (i64.load (local.get $i)))
                (br_if $each (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8)))
                    (i32.mul (memory.size) (i32.const 65536)))))
            (call $add (i64.extend_i32_u (memory.size)))
            (call $add (call $own))
            (call $add (i64.extend_i32_u (call $next (i32.const 512))))
            (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 512)))
            (call $add (i64.load (i32.const 512)))
            (drop (call $random (i32.const 512) (i32.const 8)))
            (call $add (i64.load (i32.const 512)))
            (local.set $i (i32.const 0))
            (loop $letters
                (i32.store8 offset=600 (local.get $i)
                    (i32.wrap_i64 (i64.add (i64.const 97)
                        (i64.and (i64.shr_u (global.get $digest) (i64.extend_i32_u (i32.mul (local.get $i) (i32.const 4))))
                            (i64.const 15)))))
                (br_if $letters (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 16))))
            (i32.store (i32.const 8) (i32.const 600))
            (i32.store (i32.const 12) (i32.const 16))
            (i32.const 8)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// What a session does.
#[derive(Debug, PartialEq)]
struct Seen {
    opened: Result<(Option<u64>, u64, u64), String>,
    answers: Vec<(Result<String, String>, Option<u64>)>,
    /// What the host program finds in the state at the end.
    state: Option<(u64, Vec<u64>, Vec<u8>)>,
}

/// Opens a session and lets it generate twice. Returns what it did, and whether the guest started by itself.
fn see(program: &Package<Counting, State>, state: State, backend: &Counting) -> (Seen, bool) {
    let kind = |error: mistletoe::Error| format!("{:?}", error.kind());
    let before = backend.loaded.load(Ordering::Relaxed);
    let opened = program.session_with(state);
    let started = backend.loaded.load(Ordering::Relaxed) == before;
    let mut session = match opened {
        Ok(session) => session,
        Err(error) => return (Seen { opened: Err(kind(error)), answers: Vec::new(), state: None }, started),
    };
    let fuel = session.fuel_used().expect("an engine");
    let opened = Ok((fuel, session.memory_size(), session.host_calls()));
    let answers = (0..2).map(|_| {
        let answer = session.generate("").map_err(kind);
        (answer, session.fuel_used().expect("an engine"))
    });
    let answers = answers.collect();
    let mut state = session.into_state();
    let state = Some((state.next, state.notes, state.wasi.take_stderr()));
    (Seen { opened, answers, state }, started)
}

fn program(backend: &Counting, wasm: &[u8], limits: Limits) -> Package<Counting, State> {
    Package::with_imports(backend, wasm, &imports(), limits).expect("a package")
}

/// Opens sessions with these states, and requires that each does what the first session of a program does with its
/// state. Returns for each whether its guest started by itself.
fn check<S>(
    name: &str,
    backend: &Counting,
    wasm: &[u8],
    limits: Limits,
    states: &[S],
    state: impl Fn(&S) -> State,
) -> Vec<bool> {
    let one = program(backend, wasm, limits);
    let each = states.iter().enumerate().map(|(i, with)| {
        let (expected, _) = see(&program(backend, wasm, limits), state(with), backend);
        let (seen, started) = see(&one, state(with), backend);
        assert_eq!(seen, expected, "{name}, session {i} on {}", backend.name());
        started
    });
    each.collect()
}

/// The limits of the tests: with a deadline alone, with fuel, with the stack alone, and with none, where the code is not
/// instrumented.
fn limits() -> [Limits; 4] {
    let stack = Limits::unlimited().with_stack(100_000);
    [Limits::default(), Limits::default().with_fuel(10_000_000), stack, Limits::unlimited()]
}

#[test]
fn each_session_does_what_the_first_does() {
    for backend in backends() {
        for &(name, recorded, declarations) in cases::STARTS {
            let wasm = package(declarations);
            for limits in limits() {
                if name == "endless" && limits.fuel().is_none() {
                    continue;
                }
                let state = |(): &()| State {
                    wasi: Wasi::builder().args(["one", "two"]).env([("A", "B")]).build(),
                    ..State::default()
                };
                let started = check(name, &backend, &wasm, limits, &[(); 5], state);
                let expected = [true, true, !recorded, !recorded, !recorded];
                assert_eq!(started, expected, "{name} on {}, {limits:?}", backend.name());
            }
        }
    }
}

#[test]
fn a_start_that_takes_no_time_is_not_recorded() {
    let wasm = package(r#"(func (export "_initialize") (drop (call $next (i32.const 100))))"#);
    for backend in backends() {
        for limits in limits() {
            let program = program(&backend, &wasm, limits);
            let session = |i| (program.session_with(State { next: i, ..State::default() }).expect("a session"), i);
            // It would be seen that the number is another one: a record is not used then.
            for (session, i) in (0..4).map(session) {
                assert_eq!(session.state().next, i + 1);
            }
        }
    }
}

/// What the host functions return differs, from the first call on or from a later one.
#[test]
fn sessions_with_other_states_start_by_themselves() {
    let declarations = r#"
        (func $start (drop (call $next (i32.const 100))) (call $long))
        (start $start)
        (func (export "_initialize")
            (drop (call $args_sizes (i32.const 110) (i32.const 114))) (drop (call $args (i32.const 200) (i32.const 300)))
            (call $long) (call $fail_at (i64.const 8))
            (drop (call $random (i32.const 400) (i32.const 8)))
            (drop (call $next (i32.const 120))))"#;
    let wasm = package(declarations);
    let state = |&(next, args, seed): &(u64, &str, u64)| State {
        wasi: Wasi::builder().args(args.split(' ')).random(wasi::Random::Seeded(seed)).build(),
        next,
        notes: Vec::new(),
    };
    let same = (1, "a b", 1);
    let states = [same, same, same, (2, "a b", 1), same, (1, "a c", 1), (1, "a", 1), (1, "a b", 2), (7, "a", 3), same];
    let expected = [true, true, false, true, false, true, true, true, true, false];
    for backend in backends() {
        for limits in limits() {
            assert_eq!(check("states", &backend, &wasm, limits, &states, state), expected, "{}", backend.name());
        }
    }
}

/// With more arguments, their pointers are written over the first of them.
#[test]
fn what_one_call_writes_is_written_in_its_order() {
    let wasm =
        package(r#"(func (export "_initialize") (drop (call $args (i32.const 200) (i32.const 206))) (call $long))"#);
    let state = |args: &&str| State { wasi: Wasi::builder().args(args.split(' ')).build(), ..State::default() };
    for backend in backends() {
        let states = ["x", "x", "x", "x y", "x"];
        let started = check("overlapping", &backend, &wasm, Limits::default(), &states, state);
        assert_eq!(started, [true, true, false, true, false], "{}", backend.name());
    }
}

#[test]
fn a_record_that_is_of_no_use_is_used_no_more() {
    let wasm = package(r#"(func (export "_initialize") (drop (call $next (i32.const 100))) (call $long))"#);
    let backend = backends().next().expect("a backend");
    let state = |next: &u64| State { next: *next, ..State::default() };
    let states: Vec<u64> = [0, 0].into_iter().chain(1..17).chain([0]).collect();
    assert_eq!(check("misses", &backend, &wasm, Limits::default(), &states, state), [true; 19]);
}

/// A host function fails in the recorded calls as it would have in the guest.
#[test]
fn a_host_function_may_fail_in_a_later_session() {
    let declarations = r#"
        (func $start (call $fail_at (i64.const 7)) (call $long))
        (start $start)
        (func (export "_initialize") (call $fail_at (i64.const 8)) (call $long))"#;
    let wasm = package(declarations);
    let state = |next: &u64| State { next: *next, ..State::default() };
    for backend in backends() {
        for limits in limits() {
            let started = check("failures", &backend, &wasm, limits, &[0, 0, 7, 0, 8, 0], state);
            assert_eq!(started, [true, true, true, false, true, false], "{}", backend.name());
        }
    }
}

/// The session is charged for its start, whether it makes it or not.
#[test]
fn fuel_limits_the_start_of_each_session() {
    let wasm = package(r#"(func (export "_initialize") (call $long) (drop (call $next (i32.const 100))))"#);
    for backend in backends() {
        let plenty = Limits::default().with_fuel(1_000_000_000);
        let rich = program(&backend, &wasm, plenty);
        let cost = see(&rich, State::default(), &backend).0.opened.expect("a session").0.expect("a number");
        (0..3).for_each(|_| _ = see(&rich, State::default(), &backend));
        assert!(!see(&rich, State::default(), &backend).1, "it begins from the record");
        for (fuel, opens) in [(cost - 1, false), (cost, true), (cost + 1, true)] {
            let limits = plenty.with_fuel(fuel);
            let expected = see(&program(&backend, &wasm, limits), State::default(), &backend).0;
            assert_eq!(expected.opened.is_ok(), opens);
            let limited = rich.with_limits(limits).expect("it counts");
            for _ in 0..4 {
                assert_eq!(see(&limited, State::default(), &backend).0, expected, "{fuel} on {}", backend.name());
            }
        }
        // No time is left for a record.
        let late = rich.with_limits(plenty.with_timeout(Duration::ZERO)).expect("it counts");
        let error = late.session_with(State::default()).map(drop).expect_err("no time");
        let export = Some("_initialize".into());
        assert_eq!(*error.kind(), ErrorKind::TimedOut { limit: Duration::ZERO, export });
    }
}

#[test]
fn a_cancelled_session_does_not_open_and_leaves_the_others_alone() {
    let wasm = package(r#"(func (export "_initialize") (call $long) (drop (call $next (i32.const 100))))"#);
    for backend in backends() {
        let program = program(&backend, &wasm, Limits::default());
        let cancelled = CancelHandle::new();
        cancelled.cancel();
        let expected = see(&program, State::default(), &backend).0;
        for _ in 0..4 {
            let error = program.session_with_cancel(State::default(), &cancelled).map(drop).expect_err("cancelled");
            assert_eq!(*error.kind(), ErrorKind::Cancelled { export: None });
            assert_eq!(see(&program, State::default(), &backend).0, expected, "{}", backend.name());
        }
        assert!(!see(&program, State::default(), &backend).1, "{}", backend.name());
    }
}

#[test]
fn sessions_with_a_backtrace_start_by_themselves() {
    let wasm = package(r#"(func (export "_initialize") (call $long) (unreachable))"#);
    let backend = backends().next().expect("a backend");
    let program = program(&backend, &wasm, Limits::default().with_backtrace(true));
    for _ in 0..3 {
        let error = program.session_with(State::default()).map(drop).expect_err("a trap");
        assert!(error.backtrace().is_some());
    }
}

#[test]
fn threads_open_sessions_at_once() {
    let wasm = package(r#"(func (export "_initialize") (call $long) (drop (call $next (i32.const 100))))"#);
    for backend in backends() {
        let expected = see(&program(&backend, &wasm, Limits::default()), State::default(), &backend).0;
        let program = program(&backend, &wasm, Limits::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..5).for_each(|_| assert_eq!(see(&program, State::default(), &backend).0, expected));
                });
            }
        });
    }
}

/// Numbers from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Returns declarations with a start of random steps, all of which a record can have.
fn random_start(numbers: &mut Numbers) -> String {
    let mut steps = String::from("(call $long)");
    for _ in 0..numbers.below(30) {
        // At times beyond the end of a memory of one or two pages.
        let address = numbers.below(150_000);
        let (near, number) = (numbers.below(65_000), numbers.below(1 << 30));
        steps += &match numbers.below(9) {
            0 => format!("(global.set $a (i32.add (global.get $a) (i32.const {number})))"),
            1 => format!("(global.set $b (f64.add (global.get $b) (f64.const {number})))"),
            2 => format!("(i64.store (i32.const {near}) (i64.const {number}))"),
            3 => format!("(global.set $a (memory.grow (i32.const {})))", numbers.below(2)),
            4 => format!("(memory.fill (i32.const {near}) (i32.const {}) (i32.const 500))", number % 256),
            5 => format!("(memory.copy (i32.const {near}) (i32.const {}) (i32.const 500))", numbers.below(65_000)),
            6 => format!("(global.set $a (call $next (i32.const {address})))"),
            7 => format!("(drop (call $random (i32.const {address}) (i32.const {})))", number % 100),
            _ => format!("(drop (call $clock (i32.const {}) (i64.const 0) (i32.const {address})))", number % 5),
        };
    }
    format!(
        r#"(global $a (mut i32) (i32.const 0)) (global $b (mut f64) (f64.const 0.5))
        (func $own (result i64) (i64.xor (i64.extend_i32_u (global.get $a)) (i64.reinterpret_f64 (global.get $b))))
        (func (export "_initialize") {steps})"#
    )
}

#[test]
fn random_starts_are_the_same_in_each_session() {
    for backend in backends() {
        // The backends share all that matters here. wasmi is the one that compiles quickly.
        let seeds = if backend.name().starts_with("wasmi") { 60 } else { 6 };
        for seed in 0..seeds {
            let mut numbers = Numbers(seed);
            let wasm = package(&random_start(&mut numbers));
            let limits = limits()[numbers.below(4) as usize];
            let states: Vec<u64> = [0, 0, 0].into_iter().chain((0..4).map(|_| numbers.below(3))).collect();
            let state = |seed: &u64| State {
                wasi: Wasi::builder().random(wasi::Random::Seeded(*seed)).stderr(OutputStream::captured(10)).build(),
                ..State::default()
            };
            let started = check(&format!("seed {seed}"), &backend, &wasm, limits, &states, state);
            assert_eq!(started[..3], [true, true, false], "seed {seed} on {}", backend.name());
        }
    }
}

//! Sessions of one compiled package with different limits, on every backend.

use std::time::{Duration, Instant};

use mistletoe::module::{self, DeclaredItem};
use mistletoe::{AnyBackend, AnyPackage, Caller, ErrorKind, Imports, Limits, Result};

/// Loops forever for the input `f`, and outputs other inputs.
const PACKAGE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32)
        (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 102)) (then (loop $ever (br $ever))))
        (i32.store (i32.const 8) (local.get 0))
        (i32.store (i32.const 12) (local.get 1))
        (i32.const 8)))"#;

fn backends() -> impl Iterator<Item = AnyBackend> {
    mistletoe::backends().iter().map(|info| mistletoe::backend(info.name()).expect("a backend"))
}

fn package(backend: &AnyBackend, limits: Limits) -> AnyPackage {
    let wasm = wat::parse_str(PACKAGE).expect("it assembles");
    AnyPackage::with_imports(backend, &wasm, &Imports::new(), limits).expect("a package")
}

/// Calls `generate` in a new session with these limits.
fn answer(package: &AnyPackage, limits: &Limits, input: &str) -> Result<String> {
    package.with_limits(*limits)?.session()?.generate(input)
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("a limit").kind().clone()
}

#[test]
fn sessions_have_limits_of_their_own() {
    let compiled = Limits::default().with_fuel(1_000_000);
    for backend in backends() {
        let package = package(&backend, compiled);
        let kind = |limits, input| kind(answer(&package, &limits, input));
        assert!(matches!(kind(compiled, "f"), ErrorKind::OutOfFuel { limit: 1_000_000, .. }));
        // 1 unit to allocate, 1 for the call before the loop, and 1 per iteration. The first iteration above the limit
        // ends the call.
        assert!(matches!(kind(compiled.with_fuel(50), "f"), ErrorKind::OutOfFuel { limit: 50, used: 51, .. }));
        let zero = compiled.with_fuel(u64::MAX).with_timeout(Duration::ZERO);
        assert!(matches!(kind(zero, "f"), ErrorKind::TimedOut { limit: Duration::ZERO, .. }));
        assert!(matches!(kind(compiled.with_max_input(2), "xyz"), ErrorKind::TooLong { limit: 2, .. }));
        assert!(matches!(kind(compiled.with_max_output(2), "xyz"), ErrorKind::TooLong { limit: 2, .. }));
        // The limits of the package itself do not change.
        assert_eq!(package.session().and_then(|mut session| session.generate("xyz")).expect("an answer"), "xyz");
    }
}

#[test]
fn what_counts_may_be_unlimited() {
    for backend in backends() {
        let package = package(&backend, Limits::default().with_fuel(1));
        let unlimited = package.with_limits(Limits::default().with_timeout(None)).expect("it counts both");
        assert_eq!(unlimited.session().and_then(|mut session| session.generate("x")).expect("an answer"), "x");
        // The code still counts.
        let limited = unlimited.with_limits(Limits::default().with_fuel(2)).expect("it counts both");
        assert!(matches!(kind(limited.session().and_then(|mut s| s.generate("x"))), ErrorKind::OutOfFuel { .. }));
    }
}

#[test]
fn what_is_in_the_code_is_fixed() {
    let backend = backends().next().expect("one");
    let unlimited = package(&backend, Limits::unlimited());
    let fixed = |package: &AnyPackage, limits| match kind(package.with_limits(limits)) {
        ErrorKind::FixedLimit { limit } => limit,
        other => panic!("{other}"),
    };
    assert_eq!(fixed(&unlimited, Limits::unlimited().with_fuel(1)), "fuel");
    assert_eq!(fixed(&unlimited, Limits::unlimited().with_timeout(Duration::ZERO)), "timeout");
    let default = package(&backend, Limits::default());
    assert_eq!(fixed(&default, Limits::default().with_memory(65_536)), "memory");
    assert_eq!(fixed(&default, Limits::default().with_stack(None)), "stack");
    assert_eq!(fixed(&default, Limits::default().with_table_elements(1)), "table_elements");
    assert_eq!(fixed(&default, Limits::default().with_max_module(1)), "max_module");
}

/// Returns a package with a loop of three iterations, each of which makes `calls` calls of an empty function.
fn loop_of(calls: usize) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            (func $nothing)
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                (local $left i32)
                (local.set $left (i32.const 3))
                (loop $again
                    {}
                    (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (i32.const 8)))"#,
        "(call $nothing)".repeat(calls)
    );
    wat::parse_str(text).expect("it assembles")
}

#[test]
fn a_loop_that_is_charged_more_than_is_handed_out_at_once_comes_to_its_end() {
    // Without fuel, 128 instructions count as one iteration, a call counts as 17 instructions, and 10,000 iterations
    // are handed out at once. With fuel, 100,000 units are handed out at once, and a call takes 1.
    let default = |calls| (calls, Limits::default());
    let fuel = |calls| (calls, Limits::default().with_fuel(1_000_000));
    for (calls, limits) in [default(75_200), default(75_400), default(160_000), fuel(99_900), fuel(100_100)] {
        let wasm = loop_of(calls);
        for backend in backends() {
            let imports = Imports::<()>::new();
            let package = AnyPackage::with_imports(&backend, &wasm, &imports, limits).expect("a package");
            let answer = package.session().and_then(|mut session| session.generate(""));
            assert_eq!(answer.expect("it ends"), "", "{calls} calls on {}", backend.name());
        }
    }
}

#[test]
fn slow_host_functions_are_not_called_on_when_the_time_is_over() {
    // If only the guest's own code checked the clock, the call would take 100 times the timeout.
    const WORK: Duration = Duration::from_millis(1);
    let wasm = wat::parse_str(
        r#"(module
            (import "host" "work" (func $work))
            (memory (export "memory") 1)
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                (loop $again (call $work) (br $again)) (unreachable)))"#,
    )
    .expect("it assembles");
    // The state counts the calls that begin after the deadline.
    let mut imports = Imports::<u32>::new();
    imports.func("host", "work", |caller: &mut Caller<'_, u32>| {
        let begin = Instant::now();
        *caller.state_mut() += u32::from(caller.deadline().is_some_and(|deadline| begin >= deadline));
        while begin.elapsed() < WORK {
            std::hint::spin_loop();
        }
    });
    for backend in backends() {
        let limits = Limits::default().with_timeout(Duration::from_millis(100));
        let package = AnyPackage::with_imports(&backend, &wasm, &imports, limits).expect("a package");
        let mut session = package.session_with(0).expect("a session");
        assert!(matches!(kind(session.generate("")), ErrorKind::TimedOut { .. }), "{}", backend.name());
        assert_eq!(*session.state(), 0, "{}", backend.name());
    }
}

#[test]
fn slow_host_functions_after_quick_ones_are_not_called_for_much_longer() {
    // The input `q` calls a quick function often, any other a slow one without end. Neither asks for the deadline.
    const TIME: Duration = Duration::from_millis(100);
    const WORK: Duration = Duration::from_millis(10);
    let wasm = wat::parse_str(
        r#"(module
            (import "host" "quick" (func $quick))
            (import "host" "slow" (func $slow))
            (memory (export "memory") 1)
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                (local $left i32)
                (if (i32.ne (i32.load8_u (local.get 0)) (i32.const 113)) (then (loop $again (call $slow) (br $again))))
                (local.set $left (i32.const 1000))
                (loop $again
                    (call $quick)
                    (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (i32.store (i32.const 8) (local.get 0))
                (i32.store (i32.const 12) (local.get 1))
                (i32.const 8)))"#,
    )
    .expect("it assembles");
    let mut imports = Imports::<u32>::new();
    imports.func("host", "quick", |_: &mut Caller<'_, u32>| {});
    imports.func("host", "slow", |caller: &mut Caller<'_, u32>| {
        *caller.state_mut() += 1;
        let begin = Instant::now();
        while begin.elapsed() < WORK {
            std::hint::spin_loop();
        }
    });
    for backend in backends() {
        let package = AnyPackage::with_imports(&backend, &wasm, &imports, Limits::default().with_timeout(TIME));
        let mut session = package.and_then(|package| package.session_with(0)).expect("a session");
        assert_eq!(session.generate("q").expect("it is quick"), "q", "{}", backend.name());
        assert!(matches!(kind(session.generate("s")), ErrorKind::TimedOut { .. }), "{}", backend.name());
        // Those before the time begins, and those within it.
        let most = 8 + TIME.div_duration_f64(WORK) as u32;
        assert!(*session.state() <= most, "{}: {} calls", backend.name(), session.state());
    }
}

#[test]
fn more_than_four_gib_of_memory_mean_four() {
    for backend in backends() {
        for memory in [4 << 30, (4 << 30) + 65_536, 5 << 30, u64::MAX] {
            let package = package(&backend, Limits::default().with_memory(memory));
            assert_eq!(answer(&package, &Limits::default().with_memory(memory), "xyz").expect("an answer"), "xyz");
        }
    }
}

#[test]
fn a_function_takes_at_most_so_many_units_of_stack() {
    // 8, 1 parameter, 2 operands, and 1 for every two of these instructions.
    let module = |eqz: usize| {
        let text = format!(
            r#"(module
                (memory (export "memory") 1)
                (func $large (param i32) (result i32) (local.get 0) {} (i32.add (i32.const 0)))
                (func (export "__mistletoe_info") (result i32) (i32.const 8))
                (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
                (func (export "__mistletoe_dealloc") (param i32 i32))
                (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                    (drop (call $large (i32.const 0)))
                    (i32.const 8)))"#,
            "i32.eqz ".repeat(eqz)
        );
        wat::parse_str(text).expect("it assembles")
    };
    // 11, and 262,133 for 524,265 of these instructions and the addition.
    let (highest, too_high) = (module(524_266), module(524_267));
    let imports = Imports::<()>::new();
    for backend in backends() {
        let package = |wasm| AnyPackage::with_imports(&backend, wasm, &imports, Limits::default());
        let answer = package(&highest).and_then(|package| package.session()?.generate(""));
        assert_eq!(answer.expect("an answer"), "", "{}", backend.name());
        assert_eq!(
            kind(package(&too_high).map(drop)),
            ErrorKind::Module(module::ErrorKind::TooMany { item: DeclaredItem::FrameUnits, limit: 262_144 }),
            "{}",
            backend.name()
        );
    }
}

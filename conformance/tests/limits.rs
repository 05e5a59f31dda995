//! Sessions of one compiled package with limits of their own, on every backend.

use std::time::Duration;

use mistletoe::{AnyBackend, AnyPackage, ErrorKind, Imports, Limits, Result};

/// For the input `f` a loop without an end, for others the input.
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

/// How a call ends in a fresh session with these limits.
fn answer(package: &AnyPackage, limits: &Limits, input: &str) -> Result<String> {
    package.with_limits(limits.clone())?.session()?.generate(input)
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("a limit").kind().clone()
}

#[test]
fn sessions_have_limits_of_their_own() {
    let compiled = Limits::default().fuel(1_000_000);
    for backend in backends() {
        let package = package(&backend, compiled.clone());
        let kind = |limits, input| kind(answer(&package, &limits, input));
        assert!(matches!(kind(compiled.clone(), "f"), ErrorKind::OutOfFuel { limit: 1_000_000, .. }));
        // 1 to allocate; the call before the loop, and its turns, of 1 each: the first one above.
        assert!(matches!(kind(compiled.clone().fuel(50), "f"), ErrorKind::OutOfFuel { limit: 50, used: 51 }));
        let zero = compiled.clone().fuel(u64::MAX).timeout(Duration::ZERO);
        assert!(matches!(kind(zero, "f"), ErrorKind::TimedOut { limit: Duration::ZERO }));
        assert!(matches!(kind(compiled.clone().max_input(2), "xyz"), ErrorKind::TooLong { limit: 2, .. }));
        assert!(matches!(kind(compiled.clone().max_output(2), "xyz"), ErrorKind::TooLong { limit: 2, .. }));
        // The package's own stay what they were.
        assert_eq!(package.session().and_then(|mut session| session.generate("xyz")).expect("an answer"), "xyz");
    }
}

#[test]
fn what_counts_may_be_unlimited() {
    for backend in backends() {
        let package = package(&backend, Limits::default().fuel(1));
        let unlimited = package.with_limits(Limits::default().timeout(None)).expect("it counts both");
        assert_eq!(unlimited.session().and_then(|mut session| session.generate("x")).expect("an answer"), "x");
        // Its code still counts.
        let limited = unlimited.with_limits(Limits::default().fuel(2)).expect("it counts both");
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
    assert_eq!(fixed(&unlimited, Limits::unlimited().fuel(1)), "fuel");
    assert_eq!(fixed(&unlimited, Limits::unlimited().timeout(Duration::ZERO)), "timeout");
    let default = package(&backend, Limits::default());
    assert_eq!(fixed(&default, Limits::default().memory(65_536)), "memory");
    assert_eq!(fixed(&default, Limits::default().stack(None)), "stack");
    assert_eq!(fixed(&default, Limits::default().table_elements(1)), "table_elements");
    assert_eq!(fixed(&default, Limits::default().max_module(1)), "max_module");
}

//! What a session tells of its use: memory and calls of host functions, the same on every backend that is compiled in.

use mistletoe::{AnyPackage, Imports, Limits};

/// Calls a host function as often as its input has bytes, and grows its memory by a page for each input of `g`s.
const PACKAGE: &str = r#"(module
    (import "env" "host" (func $host))
    (memory (export "memory") 2)
    (func (export "_initialize") (call $host))
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param $address i32) (param $length i32) (result i32)
        (if (i32.eq (i32.load8_u (local.get $address)) (i32.const 103))
            (then (drop (memory.grow (i32.const 1)))))
        (loop $next
            (call $host)
            (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 1)))))
        (i32.const 8)))"#;

/// Calls `test` with the package on each backend, with limits and without.
fn on_every_backend(test: impl Fn(&str, AnyPackage)) {
    let wasm = wat::parse_str(PACKAGE).expect("a module");
    let mut imports = Imports::new();
    imports.func("env", "host", |_: &mut mistletoe::Caller<'_, ()>| ());
    for info in mistletoe::backends().iter().filter(|info| info.is_enabled()) {
        let backend = mistletoe::backend(info.name()).expect("an engine");
        for limits in [Limits::default(), Limits::default().with_fuel(u64::MAX), Limits::unlimited()] {
            let package = AnyPackage::with_imports(&backend, &wasm, &imports, limits).expect("a package");
            test(&format!("{} with {limits:?}", info.name()), package);
        }
    }
}

#[test]
fn calls_of_host_functions_are_counted_from_the_opening_on() {
    on_every_backend(|name, package| {
        let mut session = package.session().expect("a session");
        assert_eq!(session.host_calls(), 1, "{name}");
        // Around the numbers of calls that go without a check of the clock: 1, 2, 4 and so on up to 64.
        let mut expected = 1;
        for calls in [1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 66, 200, 1_000, 1] {
            session.generate(&"x".repeat(calls)).expect("an output");
            expected += calls as u64;
            assert_eq!(session.host_calls(), expected, "{name}, {calls}");
        }
    });
}

#[test]
fn the_size_of_the_memory_is_the_most_that_there_was() {
    on_every_backend(|name, package| {
        let mut session = package.session().expect("a session");
        for (input, pages) in [("x", 2), ("g", 3), ("x", 3), ("g", 4)] {
            session.generate(input).expect("an output");
            assert_eq!(session.memory_size(), pages * 65_536, "{name}");
        }
    });
}

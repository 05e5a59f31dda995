//! More concurrent instances than an engine's pool has slots.

use mistletoe::{Backend, Package, Wasmtime};

/// More than the slots of wasmtime's pool on any machine.
const MORE: usize = 1_024 + 40;

/// Outputs its input, with the first byte replaced by the number of inputs so far.
const PACKAGE: &str = r#"(module
    (memory (export "memory") 1)
    (table 10 externref)
    (global $calls (mut i32) (i32.const 48))
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (local.get 0) (global.get $calls))
        (i32.store (i32.const 8) (local.get 0))
        (i32.store (i32.const 12) (local.get 1))
        (i32.const 8)))"#;

fn all_answer(backend: &impl Backend) {
    let name = backend.name();
    // Winch does not compile a table of `externref`.
    let package =
        PACKAGE.replace("(table 10 externref)", if name == "wasmtime-winch" { "" } else { "(table 10 externref)" });
    let wasm = wat::parse_str(package).expect("it assembles");
    let package = Package::new(backend, &wasm).expect("a package");
    let open = || {
        let mut session = package.session().expect("a session");
        assert_eq!(session.generate("? a").expect("an answer"), "1 a", "{name}");
        session
    };
    let mut sessions: Vec<_> = (0..MORE).map(|_| open()).collect();
    for session in &mut sessions {
        assert_eq!(session.generate("? b").expect("an answer"), "2 b", "{name}");
    }
    // Dropped instances without a slot do not affect the others.
    sessions.truncate(10);
    sessions.extend((0..100).map(|_| open()));
    for session in &mut sessions[..10] {
        assert_eq!(session.generate("? c").expect("an answer"), "3 c", "{name}");
    }
}

#[test]
fn more_instances_than_places_in_the_pool_all_answer() {
    all_answer(&Wasmtime::new().expect("an engine"));
    all_answer(&Wasmtime::winch().expect("an engine"));
    all_answer(&Wasmtime::pulley().expect("an engine"));
}

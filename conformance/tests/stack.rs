//! Checks the promises of `docs/metering.md` about the stack on every engine.
//!
//! A recursion ends at the layer's limit, at the same stack depth everywhere, and no engine's own stack overflows
//! first, on a thread with a stack of 2 MiB. The recursive functions hold values that an optimising compiler keeps
//! alive much longer than their code does.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use mistletoe::{AnyPackage, Caller, Error, ErrorKind, Imports, Limits};

/// Recurses while the parameter is not 0.
const DEEPER: &str = "(if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))))";
/// The number of values to keep, in most of the recursions.
///
/// Few, many, and enough that some frames alone exceed the limit.
const MANY: [usize; 3] = [10, 200, 3_000];
/// The number of nested host calls.
///
/// Each is made by the guest function that the previous one called back. The maximum is two more.
const NESTED: u32 = 62;
/// The number of host functions.
const HOST: usize = 100;

/// Returns names and the bodies of `$f`, each with `many` of something.
fn recursions(many: usize) -> Vec<(&'static str, String)> {
    let each = |write: &dyn Fn(usize) -> String| (0..many).map(write).collect::<String>();
    let float = |value: &str| format!("(global.set $d (f64.add (global.get $d) {value}))");
    let long = |value: &str| format!("(global.set $l (i64.add (global.get $l) {value}))");
    let int = |value: &str| format!("(global.set $i (i32.add (global.get $i) {value}))");
    // A compiler computes the values once, before both uses.
    let twice = |values: &str| format!("{values} {DEEPER} {values}");
    // A compiler computes the values once, before the loop.
    let turns = |values: &str| format!("(loop $l {DEEPER} {values} (br_if $l (i32.eqz (global.get $i))))");
    // A compiler computes the value only where it is needed, from all its operands.
    let late = |ty: &str| {
        let sum = each(&|i| {
            format!("(local.set ${ty} ({ty}.add (local.get ${ty}) ({ty}.load offset={} (i32.const 0))))", i * 4)
        });
        format!("{sum} {DEEPER} ({ty}.store (i32.const 0) (local.get ${ty}))")
    };
    let products = each(&|i| float(&format!("(f64.mul (local.get $f64) (f64.const {i}.5))")));
    let multiples = each(&|i| long(&format!("(i64.mul (local.get $i64) (i64.const {}))", 2 * i + 3)));
    let converted = each(&|i| float(&format!("(f64.convert_i64_u (i64.add (local.get $i64) (i64.const {i})))")));
    let selected = each(&|i| float(&format!("(select (local.get $f64) (f64.const {i}.5) (local.get 0))")));
    let masked = |i: usize| format!("(i32.and (local.get 0) (i32.const {i}))");
    let compared = each(&|i| int(&format!("(i32.lt_s (local.get 0) (i32.const {i}))")));
    let addresses = each(&|i| long(&format!("(i64.load {})", masked(i))));
    let elements = each(&|i| int(&format!("(ref.is_null (table.get $table {}))", masked(i % 300))));
    let indirect = each(&|i| format!("(call_indirect $table (type $none) {})", masked(i % 300)));
    let host = each(&|i| format!("(call $host{})", i % HOST));
    let vector = |value: &str| format!("(global.set $v (v128.xor (global.get $v) {value}))");
    let lanes = each(&|i| vector(&format!("(f32x4.mul (local.get $v128) (f32x4.splat (f32.const {i}.5)))")));
    let shuffles = each(&|i| {
        let lanes = (0..16).map(|lane| format!("{} ", (i + lane * 7) % 32)).collect::<String>();
        vector(&format!("(i8x16.shuffle {lanes} (local.get $v128) (v128.const i64x2 {i} 7))"))
    });
    let extracted = each(&|i| {
        float(&format!("(f64x2.extract_lane 1 (f64x2.add (local.get $v128) (f64x2.splat (f64.const {i}))))"))
    });
    let wide = |ty: &str| {
        let zero = if ty == "v128" { "v128.const i64x2 0 0".to_owned() } else { format!("{ty}.const 0") };
        let count = many.min(999);
        format!("(call $wide_{ty} (i32.const -1) {}) {}", format!("({zero})").repeat(count), "(drop)".repeat(count))
    };
    vec![
        ("nothing", DEEPER.into()),
        ("products before and after", twice(&products)),
        ("products in a loop", turns(&products)),
        ("multiples before and after", twice(&multiples)),
        ("multiples in a loop", turns(&multiples)),
        ("conversions in a loop", turns(&converted)),
        ("choices in a loop", turns(&selected)),
        ("comparisons in a loop", turns(&compared)),
        ("addresses in a loop", turns(&addresses)),
        ("elements of a table in a loop", turns(&elements)),
        ("calls through a table in a loop", turns(&indirect)),
        ("host functions in a loop", turns(&host)),
        ("vectors before and after", twice(&lanes)),
        ("vectors in a loop", turns(&lanes)),
        ("shuffles before and after", twice(&shuffles)),
        ("shuffles in a loop", turns(&shuffles)),
        ("lanes of vectors in a loop", turns(&extracted)),
        ("parameters and results of integers", wide("i64")),
        ("parameters and results of floats", wide("f64")),
        ("parameters and results of vectors", wide("v128")),
        ("a sum of integers that is needed late", late("i64")),
        ("a sum of floats that is needed late", late("f64")),
    ]
}

/// Returns a function that passes all its parameters to itself, and returns all its results.
fn wide(ty: &str, many: usize) -> String {
    let count = many.min(999);
    let each = |write: &dyn Fn(usize) -> String| (1..=count).map(write).collect::<String>();
    let types = format!("{ty} ").repeat(count);
    let get = each(&|i| format!("(local.get {i})"));
    let set = each(&|i| format!("(local.set {})", count + 1 - i));
    format!(
        "(func $wide_{ty} (param i32 {types}) (result {types})
            (if (local.get 0) (then (call $wide_{ty} (i32.sub (local.get 0) (i32.const 1)) {get}) {set}))
            {get})"
    )
}

/// Returns a package that recurses without end, below host functions that call back.
fn package(body: &str, many: usize) -> Vec<u8> {
    let wide = ["i64", "f64", "v128"].map(|ty| wide(ty, many)).concat();
    let mut hosts = String::new();
    for i in 0..HOST {
        write!(hosts, r#"(import "host" "{i}" (func $host{i}))"#).expect("memory");
    }
    let text = format!(
        r#"(module
            {hosts}
            (import "host" "again" (func $host_again (param i32)))
            (type $none (func))
            (memory (export "memory") 1000)
            (table $table 300 funcref)
            (elem (table $table) (i32.const 0) func {})
            (global $d (mut f64) (f64.const 0))
            (global $l (mut i64) (i64.const 0))
            (global $i (mut i32) (i32.const 1))
            (global $v (mut v128) (v128.const i64x2 0 0))
            (func $leaf)
            {wide}
            (func $f (param i32) (local $f64 f64) (local $i64 i64) (local $v128 v128)
                (local.set $f64 (global.get $d))
                (local.set $i64 (global.get $l))
                (local.set $v128 (global.get $v))
                {body})
            ;; So many calls of a host function that calls back, and then the recursion.
            (func $again (export "again") (param i32)
                (if (local.get 0)
                    (then (call $host_again (i32.sub (local.get 0) (i32.const 1))))
                    (else (call $f (i32.const -1)))))
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                (call $again (i32.const {NESTED}))
                (i32.const 8)))"#,
        "$leaf ".repeat(300)
    );
    wat::parse_str(text).expect("it assembles")
}

/// Returns the stack depth at which the package ends on a backend, on a thread with a stack of 2 MiB.
fn height(backend: &str, wasm: &[u8]) -> Result<u32, Error> {
    let run = || {
        let mut imports = Imports::<()>::new();
        for i in 0..HOST {
            imports.func("host", i.to_string(), |_: &mut Caller<'_, ()>| Ok::<_, Error>(()));
        }
        imports.func("host", "again", |caller: &mut Caller<'_, ()>, left: u32| {
            let again = caller.get_func::<(u32,), ()>("again")?;
            caller.call(&again, (left,))
        });
        let backend = mistletoe::backend(backend).expect("a backend");
        let limits = Limits::default().with_timeout(None);
        let package = AnyPackage::with_imports(&backend, wasm, &imports, limits)?;
        let error = package.session()?.generate("").expect_err("it has no end");
        match *error.kind() {
            ErrorKind::TooDeep { depth, .. } => Ok(depth),
            _ => Err(error),
        }
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(2 << 20).spawn_scoped(scope, run).expect("a thread");
        thread.join().expect("no panic")
    })
}

#[test]
fn no_engines_own_stack_is_full_first() {
    for many in MANY {
        for (name, body) in recursions(many) {
            let wasm = package(&body, many);
            let mut first = None;
            for backend in mistletoe::backends() {
                let backend = backend.name();
                let height = height(backend, &wasm).unwrap_or_else(|error| panic!("{many} {name}, {backend}: {error}"));
                assert_eq!(*first.get_or_insert(height), height, "{many} {name}, {backend}");
            }
        }
    }
}

/// Outputs its input, and recurses without end if that is one byte.
const RECURSES: &str = r#"(module
    (memory (export "memory") 1)
    (func $down (param i32) (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32)
        (if (i32.eq (local.get 1) (i32.const 1)) (then (call $down (i32.const -1))))
        (i32.store (i32.const 8) (local.get 0))
        (i32.store (i32.const 12) (local.get 1))
        (i32.const 8)))"#;

#[test]
fn calls_that_share_a_stack_find_the_same_room() {
    let wasm = wat::parse_str(RECURSES).expect("it assembles");
    let backends: Vec<_> = mistletoe::backends().iter().map(|info| info.name()).collect();
    // The depth, and an output before it, of sessions of all backends in turn.
    let turns = || {
        let turn = |name: &&str| {
            let backend = mistletoe::backend(name).expect("a backend");
            let package = AnyPackage::with_imports(&backend, &wasm, &Imports::<()>::new(), Limits::default())?;
            let mut session = package.session()?;
            assert_eq!(session.generate("two")?, "two", "{name}");
            Ok::<_, Error>(session.generate("1").expect_err("it has no end").kind().clone())
        };
        backends.iter().map(turn).collect::<Result<Vec<_>, _>>().expect("sessions")
    };
    let apart = turns();
    assert!(matches!(apart[0], ErrorKind::TooDeep { .. }), "{:?}", apart[0]);
    for name in &backends {
        let backend = mistletoe::backend(name).expect("a backend");
        assert_eq!(backend.with_room(turns).expect("a stack"), apart, "{name}");
        let nested = backend.with_room(|| backend.with_room(turns));
        assert_eq!(nested.and_then(|nested| nested).expect("a stack"), apart, "{name}");
    }
}

#[test]
fn a_panic_leaves_a_shared_stack() {
    for info in mistletoe::backends() {
        let backend = mistletoe::backend(info.name()).expect("a backend");
        let panics = AssertUnwindSafe(|| backend.with_room(|| resume_unwind(Box::new("it panics"))));
        let panicked = catch_unwind(panics);
        let payload = panicked.map(|result: Result<(), Error>| result.is_ok()).expect_err("it does not return");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"it panics"), "{}", info.name());
        assert_eq!(backend.with_room(|| 1).expect("a stack"), 1, "{}", info.name());
    }
}

//! How long after its deadline a guest that never ends is terminated.
//!
//! Prints the maximum of several calls on each backend, without and with a limit on fuel. The guests do as much as
//! possible between two checks of the clock.

use std::time::{Duration, Instant};

use mistletoe::{AnyPackage, ErrorKind, Imports, Limits};

const TIMEOUT: Duration = Duration::from_millis(100);
const CALLS: u32 = 5;

/// Returns guests: a name, functions, and the body of `__mistletoe_generate`, which has an `i32` and an `i64` local.
fn guests() -> Vec<(&'static str, String, String)> {
    let forever = |body: &str| format!("(loop $forever {body} (br $forever))");
    let small = "(global.set 0 (i32.add (global.get 0) (i32.const 1)))".repeat(16);
    let leaf = format!("(func $leaf {small})");
    vec![
        ("an empty loop", String::new(), forever("")),
        ("square roots", String::new(), forever(&"(drop (f64.sqrt (f64.load (i32.const 8))))".repeat(16))),
        (
            "divisions",
            String::new(),
            forever(&"(local.set $b (i64.div_u (i64.const -1) (i64.or (local.get $b) (i64.const 1))))".repeat(25)),
        ),
        (
            "a long loop",
            String::new(),
            forever(&"(local.set $a (i32.add (local.get $a) (i32.const 1)))".repeat(20_000)),
        ),
        ("calls", leaf.clone(), forever("(call $leaf)")),
        ("many calls", leaf, forever(&"(call $leaf)".repeat(200))),
        (
            "recursion",
            "(func $twice (param i32) (if (local.get 0) (then
                (call $twice (i32.sub (local.get 0) (i32.const 1)))
                (call $twice (i32.sub (local.get 0) (i32.const 1))))))"
                .into(),
            "(call $twice (i32.const 1000))".into(),
        ),
        (
            "memory.fill, 16 MiB",
            String::new(),
            forever("(memory.fill (i32.const 0) (i32.const 1) (i32.const 0x1000000))"),
        ),
        ("memory.fill, 63 bytes", String::new(), forever("(memory.fill (i32.const 0) (i32.const 1) (i32.const 63))")),
        ("table.fill", String::new(), forever("(table.fill (i32.const 0) (ref.null func) (i32.const 100000))")),
        ("memory.grow", String::new(), forever("(drop (memory.grow (i32.const 1)))")),
    ]
}

fn main() {
    for (name, functions, body) in guests() {
        let text = format!(
            r#"(module
                (memory (export "memory") 256 4000)
                (table 100000 funcref)
                (global (mut i32) (i32.const 0))
                {functions}
                (func (export "__mistletoe_info") (result i32) (i32.const 8))
                (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
                (func (export "__mistletoe_dealloc") (param i32 i32))
                (func (export "__mistletoe_generate") (param i32 i32) (result i32) (local $a i32) (local $b i64)
                    {body}
                    (i32.const 8)))"#
        );
        let wasm = wat::parse_str(text).expect("it assembles");
        println!("{name}");
        for info in mistletoe::backends() {
            let worst =
                |limits: Limits| (0..CALLS).map(|_| late(info.name(), &wasm, &limits)).max().unwrap_or_default();
            let limits = Limits::default().with_timeout(TIMEOUT);
            let (without, with) = (worst(limits), worst(limits.with_fuel(u64::MAX)));
            println!("  {:16} {without:>10.1?} {with:>10.1?}", info.name());
        }
    }
}

fn late(backend: &str, wasm: &[u8], limits: &Limits) -> Duration {
    let backend = mistletoe::backend(backend).expect("a backend");
    let package = AnyPackage::<()>::with_imports(&backend, wasm, &Imports::new(), *limits).expect("a package");
    let mut session = package.session().expect("a session");
    let begin = Instant::now();
    let error = session.generate("").expect_err("it goes on for ever");
    let took = begin.elapsed();
    assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error}");
    took.saturating_sub(TIMEOUT)
}

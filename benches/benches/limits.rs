//! The cost of limits.
//!
//! Runs the example packages and some purely computational code on the same engine without limits, with limits on time,
//! memory and stack, and with these and fuel. On wasmtime, also measures the engine's own limits. Then measures the
//! cost before the first call: reading, checking and rewriting a module, and compiling it. The ratios within one run
//! are the result.
//!
//! An argument selects the rows whose names contain it.

#[path = "compile_cost/no_engine.rs"]
mod no_engine;

use std::hint::black_box;
use std::path::Path;

use mistletoe::wasi::{Wasi, imports};
use mistletoe::{AnyPackage, Limits, Package};
use mistletoe_benches::baseline;
use mistletoe_benches::baseline::wasmtime::Settings;
use mistletoe_benches::interleaved::Comparison;
use no_engine::NoEngine;

const ENGINES: [&str; 3] = ["wasmtime", "wasmer", "wasmi"];
const INPUT: &str = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistInput\ndata:\n  name: my-namespace\n";

/// Purely computational code: a name, helper functions, and the body of `__mistletoe_generate`, which has three locals.
const LOOPS: [(&str, &str, &str); 6] = [
    (
        "hash",
        "",
        "(local.set $a (i32.const 20000)) (local.set $b (i32.const 0x811c9dc5))
        (loop $again
            (local.set $b (i32.mul (i32.xor (local.get $b) (i32.and (local.get $a) (i32.const 255))) (i32.const 0x01000193)))
            (br_if $again (local.tee $a (i32.sub (local.get $a) (i32.const 1)))))",
    ),
    (
        "sieve",
        "",
        "(memory.fill (i32.const 1024) (i32.const 0) (i32.const 20000))
        (local.set $a (i32.const 2))
        (loop $numbers
            (if (i32.eqz (i32.load8_u offset=1024 (local.get $a))) (then
                (local.set $b (i32.add (local.get $a) (local.get $a)))
                (block $done (loop $multiples
                    (br_if $done (i32.ge_u (local.get $b) (i32.const 20000)))
                    (i32.store8 offset=1024 (local.get $b) (i32.const 1))
                    (local.set $b (i32.add (local.get $b) (local.get $a)))
                    (br $multiples)))))
            (local.set $a (i32.add (local.get $a) (i32.const 1)))
            (br_if $numbers (i32.lt_u (local.get $a) (i32.const 20000))))",
    ),
    (
        "sort",
        "",
        "(loop $fill
            (i32.store8 offset=1024 (local.get $a) (i32.mul (local.get $a) (i32.const 167)))
            (br_if $fill (i32.lt_u (local.tee $a (i32.add (local.get $a) (i32.const 1))) (i32.const 256))))
        (local.set $a (i32.const 1))
        (loop $items
            (local.set $b (local.get $a))
            (block $placed (loop $shift
                (br_if $placed (i32.le_u
                    (i32.load8_u offset=1023 (local.get $b)) (local.tee $c (i32.load8_u offset=1024 (local.get $b)))))
                (i32.store8 offset=1024 (local.get $b) (i32.load8_u offset=1023 (local.get $b)))
                (i32.store8 offset=1023 (local.get $b) (local.get $c))
                (br_if $shift (local.tee $b (i32.sub (local.get $b) (i32.const 1))))))
            (br_if $items (i32.lt_u (local.tee $a (i32.add (local.get $a) (i32.const 1))) (i32.const 256))))",
    ),
    (
        "strings",
        "(func $append (param $end i32) (param $number i32) (result i32)
            (local $place i32)
            (local.set $place (i32.const 1000))
            (loop $digits
                (i32.store8 offset=1024 (local.get $end)
                    (i32.add (i32.rem_u (i32.div_u (local.get $number) (local.get $place)) (i32.const 10)) (i32.const 48)))
                (local.set $end (i32.add (local.get $end) (i32.const 1)))
                (br_if $digits (local.tee $place (i32.div_u (local.get $place) (i32.const 10)))))
            (i32.store8 offset=1024 (local.get $end) (i32.const 10))
            (i32.add (local.get $end) (i32.const 1)))",
        "(loop $again
            (local.set $b (call $append (local.get $b) (local.get $a)))
            (br_if $again (i32.lt_u (local.tee $a (i32.add (local.get $a) (i32.const 1))) (i32.const 1000))))",
    ),
    (
        "fib",
        "(func $fib (param i32) (result i32)
            (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0)) (else (i32.add
                (call $fib (i32.sub (local.get 0) (i32.const 1)))
                (call $fib (i32.sub (local.get 0) (i32.const 2)))))))",
        "(drop (call $fib (i32.const 18)))",
    ),
    (
        "matrix",
        "",
        "(local.set $a (i32.const 0))
        (loop $rows
            (local.set $b (i32.const 0))
            (loop $columns
                (local.set $c (i32.const 0))
                (loop $sum
                    (f64.store offset=32768 (local.get $b)
                        (f64.add
                            (f64.load offset=32768 (local.get $b))
                            (f64.mul (f64.load offset=1024 (local.get $c)) (f64.load offset=8192 (local.get $c)))))
                    (br_if $sum (i32.lt_u (local.tee $c (i32.add (local.get $c) (i32.const 8))) (i32.const 256))))
                (br_if $columns (i32.lt_u (local.tee $b (i32.add (local.get $b) (i32.const 8))) (i32.const 256))))
            (br_if $rows (i32.lt_u (local.tee $a (i32.add (local.get $a) (i32.const 8))) (i32.const 256))))",
    ),
];

fn module((_, functions, body): (&str, &str, &str)) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 2)
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 65536))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            {functions}
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                (local $a i32) (local $b i32) (local $c i32)
                {body}
                (i32.const 8)))"#
    );
    wat::parse_str(text).expect("it assembles")
}

/// Returns the packages that were built. `cargo xtask packages` builds the large ones.
fn packages() -> impl Iterator<Item = (String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let names = ["namespace-c", "namespace-rust", "namespace-go"];
    names.into_iter().filter_map(move |name| {
        let folders = [root.join("examples/packages"), root.join("target/packages")];
        let wasm = folders.iter().find_map(|folder| std::fs::read(folder.join(format!("{name}.wasm"))).ok())?;
        Some((name.to_owned(), wasm))
    })
}

fn limits() -> [(&'static str, Limits); 3] {
    [
        ("no limits", Limits::unlimited()),
        ("time, memory, stack", Limits::default()),
        ("and fuel", Limits::default().with_fuel(u64::MAX)),
    ]
}

/// Measures calls on an open session.
fn calls(title: &str, wasm: &[u8]) {
    for engine in ENGINES {
        let backend = mistletoe::backend(engine).expect("an engine");
        let mut comparison = Comparison::new();
        let mut expected = None;
        let mut checked = |answer: String| assert_eq!(*expected.get_or_insert_with(|| answer.clone()), answer);
        for (name, limits) in limits() {
            let package = AnyPackage::with_imports(&backend, wasm, &imports::<Wasi>(), limits).expect("a package");
            let mut session = package.session().expect("a session");
            checked(session.generate(INPUT).expect("an answer"));
            let work = move || drop(black_box(session.generate(black_box(INPUT)).expect("an answer")));
            if name == "no limits" { comparison.base(name, work) } else { comparison.add(name, work) }
        }
        if engine == "wasmtime" {
            let own = |epochs, fuel| Settings { epochs, fuel, ..Settings::default() };
            for (name, limits) in [
                ("by hand", own(false, false)),
                ("by hand, epochs", own(true, false)),
                ("by hand, fuel", own(false, true)),
                ("by hand, epochs and fuel", own(true, true)),
            ] {
                let package = baseline::wasmtime::Host::new(limits).and_then(|host| host.compile(wasm));
                let mut session = package.and_then(|package| package.session()).expect("a session");
                checked(session.generate(INPUT).expect("an answer"));
                let work = move || drop(black_box(session.generate(black_box(INPUT)).expect("an answer")));
                if name == "by hand" { comparison.base(name, work) } else { comparison.add(name, work) }
            }
        }
        print(&format!("{title}, {engine}"), comparison, 500);
    }
}

/// Measures the time from bytes to the engine's input, and to compiled code.
fn preparation(title: &str, wasm: &[u8]) {
    let mut comparison = Comparison::new();
    for (name, limits) in limits() {
        let work = move || {
            let package = Package::with_imports(&NoEngine, wasm, &imports::<Wasi>(), limits);
            black_box(package.expect("a package"));
        };
        if name == "no limits" { comparison.base(name, work) } else { comparison.add(name, work) }
    }
    for outcome in print(&format!("{title}, read, checked and rewritten"), comparison, 30) {
        println!("  {:32} {:9.0} MB/s", outcome.name, wasm.len() as f64 / outcome.time / 1e6);
    }
    for engine in ENGINES {
        let backend = mistletoe::backend(engine).expect("an engine");
        let mut comparison = Comparison::new();
        for (name, limits) in limits() {
            let backend = backend.clone();
            let work = move || {
                let package = AnyPackage::with_imports(&backend, wasm, &imports::<Wasi>(), limits);
                black_box(package.expect("a package"));
            };
            if name == "no limits" { comparison.base(name, work) } else { comparison.add(name, work) }
        }
        print(&format!("{title}, compiled by {engine}"), comparison, 7);
    }
}

fn print(title: &str, comparison: Comparison<'_>, rounds: usize) -> Vec<mistletoe_benches::interleaved::Outcome> {
    println!("{title}");
    let outcomes = comparison.run(rounds);
    for outcome in &outcomes {
        println!("  {outcome}");
    }
    outcomes
}

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or_default();
    let loops = LOOPS.into_iter().map(|code| (code.0.to_owned(), module(code)));
    for (name, wasm) in packages().chain(loops).filter(|(name, _)| name.contains(&filter)) {
        calls(&name, &wasm);
    }
    for (name, wasm) in packages().filter(|(name, _)| format!("preparation of {name}").contains(&filter)) {
        preparation(&name, &wasm);
    }
}

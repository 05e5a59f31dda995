//! What a call of a host function costs: a guest makes 1,000 of them in a row, on the layer and on a host written by hand
//! for the same engine. What counts is the ratio within one run.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mistletoe::{Backend, Caller, Error, Imports, Limits, Package, Session, Wasmer, Wasmi, Wasmtime};
use mistletoe_benches::by_hand;

const CALLS: u64 = 1_000;

/// The functions: name, type, and how the guest calls one. The first three use nothing of the instance that calls them
/// and cannot fail, which an engine makes the most of; the others are what hosts have functions for: one changes the
/// state, one reads a string.
const FUNCTIONS: [(&str, &str, &str); 5] = [
    ("nothing", "", "(call $f)"),
    ("add", "(param i32 i32) (result i32)", "(local.set $sum (call $f (local.get $sum) (i32.const 3)))"),
    (
        "wide",
        "(param i64 i64) (result i64)",
        "(local.set $sum (i32.wrap_i64 (call $f (i64.extend_i32_u (local.get $sum)) (i64.const 3))))",
    ),
    ("count", "(param i32) (result i32)", "(local.set $sum (i32.and (call $f (i32.const 0)) (i32.const 255)))"),
    (
        "text",
        "(param i32 i32) (result i32)",
        "(local.set $sum (i32.add (local.get $sum) (call $f (i32.const 256) (i32.const 16))))",
    ),
];

/// A guest that calls one of them in a loop when it is asked to generate. Its answer is empty, and its fat pointer the
/// sum of the results, which is checked.
fn guest((name, ty, call): (&str, &str, &str)) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "env" "{name}" (func $f {ty}))
            (memory (export "memory") 2)
            (data (i32.const 256) "sixteen letters!")
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 16))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                (local $left i32) (local $sum i32)
                (local.set $left (i32.const {CALLS}))
                (loop $again
                    {call}
                    (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (i32.add (i32.const 65536) (local.get $sum))))"#
    );
    wat::parse_str(text).expect("the guest assembles")
}

fn imports() -> Imports<u32> {
    let mut imports = Imports::new();
    imports
        .func("env", "nothing", |_: &mut Caller<'_, u32>| ())
        .func("env", "add", |_: &mut Caller<'_, u32>, a: u32, b: u32| a.wrapping_add(b))
        .func("env", "wide", |_: &mut Caller<'_, u32>, a: u64, b: u64| a ^ b)
        .func("env", "count", |caller: &mut Caller<'_, u32>, step: u32| {
            let count = caller.state_mut();
            *count = count.checked_add(step).ok_or("too many")?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(*count)
        })
        .func("env", "text", |caller: &mut Caller<'_, u32>, address: u32, length: u32| {
            Ok::<_, Error>(caller.str("text", address, length)?.len() as u32)
        });
    imports
}

fn session<B: Backend>(backend: &B, wasm: &[u8]) -> Session<B, u32> {
    let package = Package::with_imports(backend, wasm, &imports(), Limits::unlimited());
    package.and_then(|package| package.session()).expect("a session")
}

fn host_call(criterion: &mut Criterion) {
    for function in FUNCTIONS {
        let wasm = guest(function);
        let mut group = criterion.benchmark_group(format!("host call {}", function.0));
        group.throughput(Throughput::Elements(CALLS));
        macro_rules! bench {
            ($engine:expr, $by_hand:expr, $backend:expr) => {{
                let mut by_hand = $by_hand.expect("a host");
                let sum = by_hand.run().expect("an answer");
                let mut session = session(&$backend, &wasm);
                assert_eq!(session.generate("").expect("an answer"), "");
                assert!(sum >= 65536);
                group.bench_function(BenchmarkId::new("by hand", $engine), |bencher| {
                    bencher.iter(|| black_box(by_hand.run().expect("an answer")));
                });
                group.bench_function(BenchmarkId::new("mistletoe", $engine), |bencher| {
                    bencher.iter(|| black_box(session.generate("").expect("an answer")));
                });
            }};
        }
        bench!("wasmtime", by_hand::wasmtime::Calls::new(&wasm), Wasmtime::new().expect("an engine"));
        bench!("wasmi", by_hand::wasmi::Calls::new(&wasm), Wasmi::new());
        bench!("wasmer", by_hand::wasmer::Calls::new(&wasm), Wasmer::new());
        group.finish();
    }
}

criterion_group!(benches, host_call);
criterion_main!(benches);

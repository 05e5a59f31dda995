//! What limits cost: the example packages and some code that only computes, on the same engine without limits, with those
//! of time, memory and stack, and with fuel besides. What counts is the ratio within one run.

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mistletoe::wasi::{Wasi, imports};
use mistletoe::{AnyPackage, Limits};

const ENGINES: [&str; 3] = ["wasmtime", "wasmer", "wasmi"];

/// Code that only computes, as the body of `__mistletoe_generate` with three locals, and what functions it needs.
const LOOPS: [(&str, &str, &str); 4] = [
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

/// The packages that are there: `cargo xtask packages` builds the large ones.
fn packages() -> impl Iterator<Item = (String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let names = ["namespace-c", "namespace-rust", "namespace-go"];
    names.into_iter().filter_map(move |name| {
        let folders = [root.join("examples/packages"), root.join("target/packages")];
        let wasm = folders.iter().find_map(|folder| std::fs::read(folder.join(format!("{name}.wasm"))).ok())?;
        Some((name.to_owned(), wasm))
    })
}

fn limits(criterion: &mut Criterion) {
    let input = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistInput\ndata:\n  name: my-namespace\n";
    let loops = LOOPS.into_iter().map(|code| (code.0.to_owned(), module(code)));
    for (name, wasm) in packages().chain(loops) {
        let mut group = criterion.benchmark_group(format!("limits {name}"));
        for engine in ENGINES {
            let backend = mistletoe::backend(engine).expect("an engine");
            let mut expected = None;
            for (what, limits) in [
                ("none", Limits::unlimited()),
                ("time, memory, stack", Limits::default()),
                ("and fuel", Limits::default().fuel(u64::MAX)),
            ] {
                let package = AnyPackage::with_imports(&backend, &wasm, &imports::<Wasi>(), limits).expect("a package");
                let mut session = package.session().expect("a session");
                let answer = session.generate(input).expect("an answer");
                assert_eq!(*expected.get_or_insert_with(|| answer.clone()), answer);
                group.bench_function(BenchmarkId::new(what, engine), |bencher| {
                    bencher.iter(|| session.generate(black_box(input)).expect("an answer"));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, limits);
criterion_main!(benches);

//! A warm round trip: `generate` on a live session that echoes its input, through the static and the erased path, on
//! every engine, and for comparison a host written by hand for wasmtime. What counts is the ratio within one run.

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mistletoe::{AnyPackage, Backend, Imports, Limits, Package, Session, Wasmer, Wasmi, Wasmtime};
use mistletoe_benches::by_hand;

fn echo() -> Vec<u8> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/fixtures/protocol/echo.wat");
    wat::parse_file(fixture).expect("the fixture assembles")
}

fn session<B: Backend>(backend: B) -> Session<B> {
    let package = Package::with_imports(&backend, &echo(), &Imports::new(), Limits::unlimited());
    package.and_then(|package| package.session()).expect("a session")
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round trip");
    for size in [64, 4 << 10, 256 << 10, 4 << 20] {
        let input = "x".repeat(size);
        group.throughput(Throughput::Bytes(size as u64));
        macro_rules! bench {
            ($name:expr, $session:expr) => {{
                let mut session = $session;
                assert_eq!(session.generate(&input).expect("an answer"), input);
                group.bench_function(BenchmarkId::new($name, size), |bencher| {
                    bencher.iter(|| session.generate(black_box(&input)).expect("an answer"));
                });
            }};
        }
        bench!(
            "wasmtime by hand",
            by_hand::wasmtime::Package::new(&echo(), by_hand::wasmtime::Limits::default()).expect("a host")
        );
        bench!("wasmtime", session(Wasmtime::new().expect("an engine")));
        bench!("wasmer", session(Wasmer::new()));
        bench!("wasmi", session(Wasmi::new()));
        for info in mistletoe::backends() {
            let backend = mistletoe::backend(info.name()).expect("a backend");
            let package = AnyPackage::<()>::with_imports(&backend, &echo(), &Imports::new(), Limits::unlimited());
            let package = package.expect("a package");
            bench!(format!("{} erased", info.name()), package.session().expect("a session"));
        }
    }
    group.finish();
}

criterion_group!(benches, round_trip);
criterion_main!(benches);

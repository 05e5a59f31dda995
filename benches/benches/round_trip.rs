//! A warm round trip: `generate` on a live session that echoes its input, through the static and the erased path, on
//! every engine, and for comparison a host written by hand for wasmtime. What counts is the ratio within one run.

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mistletoe::{AnyPackage, Backend, Package, Session, Wasmer, Wasmi, Wasmtime};

fn echo() -> Vec<u8> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/fixtures/protocol/echo.wat");
    wat::parse_file(fixture).expect("the fixture assembles")
}

fn session<B: Backend>(backend: B) -> Session<B> {
    Package::new(&backend, &echo()).and_then(|package| package.session()).expect("a session")
}

/// The protocol's steps for one engine and this one package, as its author would write them.
mod by_hand {
    use wasmtime::{Config, Engine, Instance, Memory, Module, Result, Store, TypedFunc};

    pub(super) struct Host {
        store: Store<()>,
        memory: Memory,
        alloc: TypedFunc<u32, u32>,
        dealloc: TypedFunc<(u32, u32), ()>,
        generate: TypedFunc<(u32, u32), u32>,
    }

    impl Host {
        pub(super) fn new(wasm: &[u8]) -> Result<Self> {
            let engine = Engine::new(Config::new().cranelift_nan_canonicalization(true))?;
            let mut store = Store::new(&engine, ());
            let instance = Instance::new(&mut store, &Module::new(&engine, wasm)?, &[])?;
            Ok(Self {
                memory: instance.get_memory(&mut store, "memory").expect("a memory"),
                alloc: instance.get_typed_func(&mut store, "__mistletoe_alloc")?,
                dealloc: instance.get_typed_func(&mut store, "__mistletoe_dealloc")?,
                generate: instance.get_typed_func(&mut store, "__mistletoe_generate")?,
                store,
            })
        }

        pub(super) fn generate(&mut self, input: &str) -> Result<String> {
            let length = input.len() as u32;
            let address = self.alloc.call(&mut self.store, length)?;
            self.memory.write(&mut self.store, address as usize, input.as_bytes())?;
            let fat = self.generate.call(&mut self.store, (address, length))? as usize;
            let memory = self.memory.data(&self.store);
            let word = |at: usize| u32::from_le_bytes(memory[at..at + 4].try_into().expect("four bytes"));
            let (start, size) = (word(fat), word(fat + 4));
            let output = std::str::from_utf8(&memory[start as usize..start as usize + size as usize])?.to_owned();
            self.dealloc.call(&mut self.store, (address, length))?;
            self.dealloc.call(&mut self.store, (start, size))?;
            Ok(output)
        }
    }
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
        bench!("wasmtime by hand", by_hand::Host::new(&echo()).expect("a host"));
        bench!("wasmtime", session(Wasmtime::new().expect("an engine")));
        bench!("wasmer", session(Wasmer::new()));
        bench!("wasmi", session(Wasmi::new()));
        for info in mistletoe::backends() {
            let backend = mistletoe::backend(info.name()).expect("a backend");
            let package = AnyPackage::new(&backend, &echo()).expect("a package");
            bench!(format!("{} erased", info.name()), package.session().expect("a session"));
        }
    }
    group.finish();
}

criterion_group!(benches, round_trip);
criterion_main!(benches);

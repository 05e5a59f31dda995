//! The layer on every backend, with criterion: for the question whether a change makes the layer slower or faster.
//!
//! ```sh
//! cargo bench -p mistletoe-benches                                       # all
//! cargo bench -p mistletoe-benches -- wasmtime/round-trip                # a part, by its name
//! cargo bench -p mistletoe-benches -- --save-baseline before wasmi       # a baseline, and later …
//! cargo bench -p mistletoe-benches -- --baseline before wasmi            # … the comparison with it
//! ```
//!
//! Names are `BACKEND/GROUP/PACKAGE`. Packages, inputs and hosts are those of `compare`, which compares engines and hosts
//! within one run (`cargo xtask bench`): criterion measures one candidate after the other, so its times of two candidates
//! differ by what else the machine does meanwhile. Reports are in `target/criterion`.

#[path = "../compare/hosts.rs"]
#[allow(dead_code)]
mod hosts;
#[path = "../compare/packages.rs"]
#[allow(dead_code)]
mod packages;
#[cfg(feature = "peers")]
#[path = "../compare/peers.rs"]
mod peers;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mistletoe::Limits;

use crate::hosts::layer;
use crate::packages::{CALLS, EXAMPLES, Package};

/// Outputs of a session that is open.
fn round_trip(criterion: &mut Criterion) {
    let echoes = [("64 B", 64), ("4 KiB", 4 << 10), ("256 KiB", 256 << 10), ("4 MiB", 4 << 20)];
    let echoes = echoes.map(|(what, size)| Package::echo(what, size));
    each(criterion, "round-trip", echoes.into_iter().chain(examples()), |package, loaded, bencher| {
        let mut session = loaded.open();
        package.check(&session.answer(&package.input));
        bencher.iter(|| session.answer(black_box(&package.input)));
    });
}

/// Outputs of fresh sessions.
fn instance(criterion: &mut Criterion) {
    let packages = [Package::echo("echo, 4 KiB", 4 << 10)].into_iter().chain(examples());
    each(criterion, "instance", packages, |package, loaded, bencher| {
        bencher.iter(|| loaded.answer(black_box(&package.input)));
    });
}

/// A thousand calls of a host function.
fn host_call(criterion: &mut Criterion) {
    each(criterion, "host-call", Package::host_calls().into_iter(), |package, loaded, bencher| {
        let mut session = loaded.open();
        package.check(&session.answer(&package.input));
        bencher.iter(|| session.answer(black_box(&package.input)));
    });
}

/// From bytes to the first output.
fn cold_start(criterion: &mut Criterion) {
    for backend in mistletoe::backends() {
        let mut group = criterion.benchmark_group(format!("{}/cold-start", backend.name()));
        for package in [Package::echo("echo, 4 KiB", 4 << 10)].into_iter().chain(examples()) {
            let host = layer(backend.name(), package.offer, &Limits::default(), None);
            group.bench_with_input(BenchmarkId::from_parameter(name(&package)), &package, |bencher, package| {
                bencher.iter(|| host.load(black_box(&package.wasm)).answer(&package.input));
            });
        }
    }
}

/// Measures each package on each backend, compiled once, with the default limits.
fn each(
    criterion: &mut Criterion,
    what: &str,
    packages: impl Iterator<Item = Package>,
    measure: impl Fn(&Package, &dyn hosts::Loaded, &mut criterion::Bencher<'_>),
) {
    let packages: Vec<_> = packages.collect();
    for backend in mistletoe::backends() {
        let mut group = criterion.benchmark_group(format!("{}/{what}", backend.name()));
        for package in &packages {
            if what == "host-call" {
                group.throughput(Throughput::Elements(CALLS.into()));
            }
            let host = layer(backend.name(), package.offer, &Limits::default(), None);
            group.bench_with_input(BenchmarkId::from_parameter(name(package)), package, |bencher, package| {
                // Compiled when the benchmark is selected.
                let loaded = host.load(&package.wasm);
                measure(package, &*loaded, bencher);
            });
        }
    }
}

/// The example packages that are small, so that no benchmark takes seconds to compile one.
fn examples() -> impl Iterator<Item = Package> {
    EXAMPLES.iter().filter(|(_, _, is_large)| !is_large).filter_map(|(name, ..)| Package::find(name))
}

/// The name in a benchmark's: without the size, which changes with the package.
fn name(package: &Package) -> String {
    match package.name() {
        "echo" => package.what.replace(", ", "-").replace(' ', "-"),
        name => name.trim_matches('`').replace(' ', "-"),
    }
}

criterion_group!(benches, round_trip, instance, host_call, cold_start);
criterion_main!(benches);

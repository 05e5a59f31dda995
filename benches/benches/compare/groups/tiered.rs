//! The layer with two engines.
//!
//! Compared with the first engine alone at the beginning, and with the second engine alone at the end.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mistletoe::Limits;

use super::{Package, Run, answers, candidates, timed_candidates};
use crate::hosts::{Loaded, layer, tiered};

/// The name in place of an engine.
const ENGINE: &str = "tiered";

/// Measures the time from bytes to the first output, while wasmtime compiles in another thread.
///
/// The clock stops at the output. Before each measurement, wasmtime has compiled the same package, so that both
/// candidates begin with the same processor caches.
pub(super) fn first_answer(run: &mut Run, package: &Package) {
    let alone = &*layer("wasmi", package.offer, &Limits::unlimited(), None);
    let both = &*tiered(package.offer, 1);
    let works = [("wasmi alone", alone), ("tiered", both)].map(|(name, host)| {
        let first = move || {
            wait_for_wasmtime(&*both.load(&package.wasm));
            let begin = Instant::now();
            let loaded = host.load(black_box(&package.wasm));
            let answer = black_box(loaded.answer(&package.input));
            let time = begin.elapsed();
            package.check(&answer);
            time
        };
        let work = move |repetitions: u32| (0..repetitions).map(|_| first()).sum();
        (name, Box::new(work) as Box<dyn FnMut(u32) -> Duration>)
    });
    // wasmtime takes many times the measured time.
    let comparison = timed_candidates(Duration::from_micros(200), works);
    run.compare(&package.what, ENGINE, 1, comparison);
}

/// Opens two sessions. The second one runs on wasmtime.
fn wait_for_wasmtime(loaded: &dyn Loaded) {
    (0..2).for_each(|_| drop(loaded.open()));
}

/// Measures calls on a session that was opened after wasmtime had compiled.
pub(super) fn in_the_end(run: &mut Run, package: &Package) {
    let hosts = [
        ("wasmtime alone", layer("wasmtime", package.offer, &Limits::unlimited(), None)),
        // The first session already waits for wasmtime.
        ("tiered", tiered(package.offer, 0)),
    ];
    let works = hosts.map(|(name, host)| (name, answers(package, &*host.load(&package.wasm))));
    let comparison = candidates(Duration::from_millis(1), works);
    run.compare(&package.what, ENGINE, 1, comparison);
}

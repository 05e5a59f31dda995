//! Two engines, one after the other, on the layer: beside the first one alone at the beginning, and beside the second one
//! alone in the end.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mistletoe::Limits;

use super::{Package, Run, answers, candidates, timed_candidates};
use crate::hosts::{Loaded, layer, tiered};

/// What stands for the engine.
const ENGINE: &str = "tiered";

/// From bytes to the first answer, while wasmtime is to compile in a thread of its own. The time ends there. Before each,
/// wasmtime has compiled the same package: both begin with what that leaves in the processors' caches.
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
    // Wasmtime takes many times as long as what is timed.
    let comparison = timed_candidates(Duration::from_micros(200), works);
    run.compare(&package.what, ENGINE, 1, comparison);
}

/// The second session is wasmtime's.
fn wait_for_wasmtime(loaded: &dyn Loaded) {
    (0..2).for_each(|_| drop(loaded.open()));
}

/// Answers on an open session that was opened when wasmtime had compiled.
pub(super) fn in_the_end(run: &mut Run, package: &Package) {
    let hosts = [
        ("wasmtime alone", layer("wasmtime", package.offer, &Limits::unlimited(), None)),
        // The first session waits for wasmtime already.
        ("tiered", tiered(package.offer, 0)),
    ];
    let works = hosts.map(|(name, host)| (name, answers(package, &*host.load(&package.wasm))));
    let comparison = candidates(Duration::from_millis(1), works);
    run.compare(&package.what, ENGINE, 1, comparison);
}

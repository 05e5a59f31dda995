//! Benchmarks of every engine on the same fixtures. `benches/` has one file per question; run them with
//! `cargo bench -p mistletoe-benches`.

#![forbid(unsafe_code)]

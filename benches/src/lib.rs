//! Benchmarks of every engine on the same fixtures. `benches/` has one file per question; run them with
//! `cargo bench -p mistletoe-benches`. `by_hand` has what the layer is compared with: hosts for one engine each, as well
//! as their authors would write them.

#![forbid(unsafe_code)]

pub mod by_hand;
pub mod interleaved;

//! Benchmarks of every engine on the same fixtures. `benches/` has one program per question: `compare`, which is
//! `cargo xtask bench`, `limits` and `deadline`. `by_hand` has what the layer is compared with: hosts for one engine
//! each, as well as their authors would write them. `peers` has other layers over engines, behind a feature.

#![deny(unsafe_code)]

pub mod baseline;
pub mod interleaved;
#[cfg(feature = "peers")]
pub mod peers;

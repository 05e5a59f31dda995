//! Benchmarks of every engine on the same fixtures.
//!
//! `benches/` has one program per question: `compare` and `scheduler` (run by `cargo xtask bench`), `limits`, `deadline`
//! and `compile_cost`. `baseline` has the hosts that the layer is compared with, which are written for one engine each
//! and optimised. `peers` has other layers over engines, behind a feature. `plugin` has hosts of plugins by hand, which
//! the program `by-hand` puts behind HTTP, and `scheduler` has hosts of scheduler plugins by hand.

#![deny(unsafe_code)]

pub mod baseline;
pub mod interleaved;
pub mod measured;
#[cfg(feature = "peers")]
pub mod peers;
pub mod plugin;
pub mod run;
pub mod scheduler;

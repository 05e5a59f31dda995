//! Hosts written for one engine each and for the one module they run. They check nothing that the benchmarks do not
//! need.

pub mod wasmer;
pub mod wasmi;
pub mod wasmtime;

//! Hosts written for one engine each and for the one module they run. They check nothing that the benchmarks do not
//! need. Their host functions are such as could use the instance that calls them, as the layer's can.

pub mod wasmer;
pub mod wasmi;
pub mod wasmtime;

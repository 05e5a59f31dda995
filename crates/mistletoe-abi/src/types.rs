//! Engine-neutral WebAssembly types, and the ways in which a module can differ from what is expected.

pub use mistletoe_module::interface::Problem;
pub use mistletoe_module::types::*;

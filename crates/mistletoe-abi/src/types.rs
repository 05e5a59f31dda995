//! Engine-neutral WebAssembly types, and how a module can differ from what is expected.

pub use mistletoe_module::interface::Problem;
pub use mistletoe_module::types::*;

//! The interfaces that guests speak: each protocol's names, types and order of calls, one file each.
//!
//! - [`package`]: the package interface, `docs/abi.md` in code.
//! - [`httpwasm`]: plugins behind HTTP, `docs/httpwasm.md` in code.
//! - [`command`]: WASI commands.
//!
//! A [`Protocol`] says what a module has to export, which functions it offers itself, and takes its steps on a live
//! [`Guest`](crate::guest::Guest). Checking, compiling, linking, instantiating, limits, poisoning and every look at an
//! address are the same for all of them, in `program` and `guest`. A protocol can be a crate of its own.

pub use mistletoe_module::interface::MEMORY;

pub use crate::error::Region;
pub use crate::guest::export::ExportedFunc;

pub(crate) mod check;
pub mod command;
pub mod httpwasm;
pub mod package;
pub(crate) mod traits;

pub use check::Check;
pub use command::WasiCommand;
pub use httpwasm::HttpWasm;
pub use package::PackageInterface;
pub use traits::Protocol;

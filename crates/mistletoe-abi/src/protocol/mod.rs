//! The interfaces that guests speak: the names, types and order of calls of each protocol, one file each.
//!
//! - [`package`]: the package interface, which implements `docs/abi.md`.
//! - [`httpwasm`]: the interface of HTTP plugins, which implements `docs/httpwasm.md`.
//! - [`http_handler`]: the http-wasm interface of middleware, which implements `docs/http-handler.md`.
//! - [`command`]: WASI commands.
//!
//! A [`Protocol`] defines the exports that a module must have and the host functions that the protocol itself provides.
//! It makes its calls on a [`Guest`](crate::guest::Guest). Checking, compiling, linking, instantiating, limits,
//! poisoning and the checks of addresses are the same for all protocols; they are in `program` and `guest`. A protocol
//! can live in a separate crate.

pub use mistletoe_module::interface::MEMORY;

pub use crate::error::Region;
pub use crate::guest::export::ExportedFunc;

pub(crate) mod check;
pub mod command;
pub mod http_handler;
pub mod httpwasm;
pub mod package;
pub(crate) mod traits;

pub use check::Check;
pub use command::WasiCommand;
pub use http_handler::HttpHandler;
pub use httpwasm::HttpWasm;
pub use package::PackageInterface;
pub use traits::Protocol;

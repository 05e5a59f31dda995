//! Functions that a host program provides to guests: declared once, used on every engine.
//!
//! ```
//! use mistletoe_abi::host::{Caller, Imports};
//!
//! /// The state of one session.
//! #[derive(Default)]
//! struct Log(Vec<String>);
//!
//! let mut imports = Imports::<Log>::new();
//! imports.func("log", "write", |caller: &mut Caller<'_, Log>, address: u32, length: u32| {
//!     let message = caller.str("message", address, length)?.to_owned();
//!     caller.state_mut().0.push(message);
//!     Ok::<_, mistletoe_abi::Error>(())
//! });
//! ```
//!
//! - [`Imports`]: the functions, each with module, name and a closure. The parameters and results of the closure are
//!   Rust numbers. The closure's type is the function's type.
//! - [`Caller`]: the closure's access to the instance that calls it: the session's state, the guest's memory, its
//!   exports.
//! - [`Output`]: the guest's memory, for functions that only write to it.
//! - [`HostFunc`](crate::backend::HostFunc): the same with all types erased, for backends.

pub(crate) mod caller;
pub(crate) mod closure;
pub(crate) mod func;
pub(crate) mod imports;
pub(crate) mod metering;
pub(crate) mod name;
pub(crate) mod numbers;
pub(crate) mod opening;
pub(crate) mod output;
pub(crate) mod toolchain;

pub use caller::{Caller, GuestFunc};
pub use closure::HostFn;
pub use imports::Imports;
pub use numbers::{HostResult, WasmParams, WasmResults, WasmTy};
pub use output::Output;

/// Packs an address and a length into one `i64`, with the address in the upper half.
///
/// Interfaces without multi-value name a range this way.
pub fn pack(address: u32, length: u32) -> u64 {
    u64::from(address) << 32 | u64::from(length)
}

/// Unpacks an address and a length from one `i64`; see [`pack`].
pub fn unpack(range: u64) -> (u32, u32) {
    ((range >> 32) as u32, range as u32)
}

/// Sessions, programs and imports are invariant in their state.
///
/// A host function finds a state of the type that it was written for.
///
/// ```compile_fail,E0308
/// use mistletoe_abi::{Backend, Command};
///
/// fn contravariant<B: Backend>(command: Command<B, fn(&'static str)>) -> Command<B, for<'a> fn(&'a str)> {
///     command
/// }
/// ```
///
/// ```compile_fail,E0308
/// use mistletoe_abi::{Backend, CommandSession};
///
/// fn covariant<B: Backend>(session: CommandSession<B, for<'a> fn(&'a str)>) -> CommandSession<B, fn(&'static str)> {
///     session
/// }
/// ```
#[cfg(doctest)]
struct Invariant;

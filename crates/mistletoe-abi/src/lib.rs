//! The traits that a WebAssembly engine implements, and the engine-independent layer that runs packages on them.
//!
//! ```text
//!  bytes ──► module::ModuleSource ──► Backend::compile ──► Package ──► Backend::instantiate ──► Session
//!            one parse, one feature   an engine, linked    cheap to     an engine's Instance    the protocol's calls
//!            set, one error type      with host::Imports   share                                on one instance
//! ```
//!
//! - [`backend`]: [`Backend`] and [`Instance`], the two traits that an engine implements, and helpers for its author.
//!   Dispatch is static.
//! - [`module`]: the checks on a module before any engine sees it, and the listing of its imports and exports.
//! - [`host`]: functions that a host program provides to guests, and the session state that they work on.
//! - [`guest`]: an instance as a protocol sees it.
//! - [`protocol`]: one file for each interface that guests speak: names, types and order of calls. Everything else is
//!   the same for all protocols.
//! - [`program`]: [`Program`], a module that speaks a protocol, compiled once and shared by threads;
//!   [`ProgramSession`], one instance. [`Package`] (a string in, a string out), [`Handler`] (requests, the httpwasm
//!   interface), [`Middleware`] (the http-wasm interface) and [`Command`] (WASI programs) are programs. [`AnyProgram`]
//!   is a program whose backend is chosen at run time.
//! - [`layers`]: backends made of other backends: [`AnyBackend`], chosen at run time; [`Tiered`], two backends as one;
//!   `cache`, compiled code on disk (feature `cache`).
//! - [`pool`]: a capped number of concurrent sessions, for hosts that handle many calls.
//! - [`Limits`]: the resources that a guest may use. After the check, the layer instruments the module with the limits
//!   on its code, so engines need no support for them. [`CancelHandle`]: cancels a call from another thread.
//! - [`error`]: one error type, whose kinds are the same on every engine. [`Backtrace`]: the guest's stack in an error.
//!
//! The files of this crate have no cyclic dependencies. Public paths are re-exports; inside the crate each item is
//! imported from the file that defines it.
//!
//! # Contract
//!
//! The same package with the same input gives the same output or the same [`ErrorKind`] on every backend. To that end
//! the layer never asks an engine for what it can determine without one: it checks features, exports, imports,
//! addresses and text itself. A backend only compiles, instantiates, calls, and maps its traps to [`Trap`];
//! `docs/write-a-backend.md` shows how to write one.
//!
//! Guests are treated as hostile. No address, length, text or trap of a guest makes this crate panic or read outside
//! the guest's memory.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod backend;
mod backtrace;
mod cancel;
pub mod error;
pub mod guest;
pub mod host;
pub mod layers;
mod limits;
pub mod module;
pub mod pool;
pub mod program;
pub mod protocol;
mod trace;
pub mod types;

pub use backend::{Artifact, Backend, Instance};
pub use backtrace::{Backtrace, Frame};
pub use cancel::{CancelHandle, DropGuard};
pub use error::{Error, ErrorKind, Operation, Result, Trap};
pub use host::{Caller, Imports};
#[cfg(feature = "cache")]
pub use layers::cache;
pub use layers::{AnyBackend, Tiered};
pub use limits::{ENGINE_STACK, Limits};
pub use module::{Config, FEATURES, Feature, ModuleSource};
#[cfg(feature = "async")]
pub use pool::PoolPermit;
pub use pool::{Fresh, Pool, PooledSession, Reused, Sessions};
pub use program::any::{AnyProgram, AnyProgramSession};
pub use program::command::{AnyCommand, AnyCommandSession, Command, CommandSession};
pub use program::handler::{AnyHandler, AnyHandlerSession, Handler, HandlerSession};
pub use program::middleware::{AnyMiddleware, AnyMiddlewareSession, Middleware, MiddlewareSession};
pub use program::package::{AnyPackage, AnySession, Package, Session};
pub use program::{Program, ProgramSession};
pub use protocol::Protocol;

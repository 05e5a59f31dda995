//! The layer between WebAssembly engines and packages: the traits an engine implements, and everything that is the same
//! whatever the engine.
//!
//! ```text
//!  bytes ──► module::ModuleSource ──► Backend::compile ──► Package ──► Backend::instantiate ──► Session
//!            one reading, one set     an engine, linked    cheap to     an engine's Instance    the protocol's steps
//!            of features, one error   with host::Imports   share                                on one live instance
//! ```
//!
//! - [`backend`]: [`Backend`] and [`Instance`], all that an engine implements, and what helps its author. Dispatch is
//!   static.
//! - [`module`]: what is checked before any engine sees a module, and the listing of what it imports and exports.
//! - [`host`]: functions that a host program offers to guests, and the session's state they work on.
//! - [`guest`]: a live instance as a protocol sees it.
//! - [`protocol`]: one file for each interface that guests speak: names, types and order of calls. Everything else is
//!   the
//!   same for all of them.
//! - [`program`]: [`Program`], a module that speaks a protocol, compiled once and shared by threads;
//!   [`ProgramSession`], one
//!   live instance. [`Package`] (a string in, a string out), [`Handler`] (requests, the httpwasm interface) and
//!   [`Command`] (WASI programs) are programs. [`AnyProgram`] is one whose backend is chosen at run time.
//! - [`layers`]: backends made of backends: [`AnyBackend`], chosen at run time; [`Tiered`], two as one; `cache`,
//!   compiled
//!   code on disk, with the feature of that name.
//! - [`pool`]: sessions for hosts that answer many calls, at most so many at once.
//! - [`Limits`]: what a guest may use. The limits on its code are put into the module behind the check, so that no
//!   engine
//!   has to know of them. [`CancelHandle`]: ends a call from another thread.
//! - [`error`]: one error type, whose kinds are the same on every engine.
//!
//! No two files use each other, neither directly nor through others. The public paths are re-exports; inside the crate
//! each thing is named where it is.
//!
//! # Contract
//!
//! The same package with the same input gives the same answer or the same [`ErrorKind`] on every backend. To that end
//! an engine is never asked what can be known without it: features, exports, imports, addresses and text are checked
//! here. What is left to a backend is to compile, instantiate, call, and name its traps; `docs/write-a-backend.md`
//! shows how to write one.
//!
//! A guest is hostile. No address, length, text or trap of a guest's makes this crate panic or read outside the
//! guest's memory.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod backend;
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
pub use program::package::{AnyPackage, AnySession, Package, Session};
pub use program::{Program, ProgramSession};
pub use protocol::Protocol;

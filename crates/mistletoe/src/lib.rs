//! Hosts WebAssembly packages on the engine of your choice.
//!
//! A package is a WebAssembly module that takes a YAML string and answers with one. This crate runs it on the engine
//! that a cargo feature names: `wasmi` (the default), `wasmtime`, `wasmer`. The package gives the same answer on each.
//!
//! With one engine, chosen when the program is built, everything is dispatched statically:
//!
//! ```
//! # #[cfg(feature = "wasmi")] {
//! use mistletoe::{Package, Wasmi};
//!
//! # let wasm = wat::parse_str(include_str!("../tests/data/namespace.wat"))?;
//! let package = Package::new(&Wasmi::new(), &wasm)?;
//! let mut session = package.session()?;
//! let answer = session.generate("data:\n  name: web\n")?;
//! assert!(answer.contains("kind: Namespace"));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the engine chosen at run time, by name:
//!
//! ```
//! # #[cfg(feature = "wasmi")] {
//! use mistletoe::AnyPackage;
//!
//! # let wasm = wat::parse_str(include_str!("../tests/data/namespace.wat"))?;
//! let backend = mistletoe::backend("wasmi")?;
//! let package = AnyPackage::new(&backend, &wasm)?;
//! let answer = package.generate("data:\n  name: web\n")?;
//! assert!(answer.contains("name: web"));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A host that answers many calls bounds how many sessions are in use at once; callers wait for one in turn:
//!
//! ```
//! # #[cfg(feature = "wasmi")] {
//! use std::time::Duration;
//!
//! use mistletoe::{Package, Pool, Wasmi};
//!
//! # let wasm = wat::parse_str(include_str!("../tests/data/namespace.wat"))?;
//! let package = Package::new(&Wasmi::new(), &wasm)?;
//! let pool = Pool::new(&package, 8).wait(Duration::from_secs(1)).reused();
//! let answer = pool.generate("data:\n  name: web\n")?;
//! assert!(answer.contains("name: web"));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Packages from compilers that bring a system interface along (Go, C with a libc) import WASI; the feature `wasi` has
//! it. A package sees nothing of the machine unless the host grants it:
//!
//! ```
//! # #[cfg(all(feature = "wasmi", feature = "wasi"))] {
//! use mistletoe::wasi::{self, Wasi};
//! use mistletoe::{Limits, Package, Wasmi};
//!
//! # let wasm = wat::parse_str(include_str!("../tests/data/namespace.wat"))?;
//! let package = Package::with_imports(&Wasmi::new(), &wasm, &wasi::imports::<Wasi>(), Limits::default())?;
//! let mut session = package.session()?;
//! let answer = session.generate("data:\n  name: web\n")?;
//! let log = session.state().stderr();
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Functions of the host's own are [`Imports`]; plugins that answer requests are [`Handler`]s, programs [`Command`]s.
//!
//! With the feature `tracing` there are spans with the target `mistletoe`:
//!
//! | span | level | fields |
//! |---|---|---|
//! | `compile` | debug | `engine`, `bytes` (length of the module) |
//! | `instantiate` | debug | `engine`, `fuel` |
//! | `call`: one request | debug | `engine`, `fuel` |
//! | `export`: one function of the guest's | trace | `engine`, `export` |
//!
//! Each has `duration_us`, in microseconds, and `error` where it failed. `fuel` is there where fuel is counted.
//!
//! What a host program needs of [`mistletoe_abi`] is re-exported here, and in the module [`backend`](mod@backend) what
//! the author of an engine needs; with the feature `documents` there are the documents that packages exchange.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod backends;
#[cfg(feature = "documents")]
pub mod documents;

pub use backends::{BackendInfo, backend, backends};
#[cfg(feature = "async")]
pub use mistletoe_abi::PoolPermit;
#[cfg(feature = "cache")]
pub use mistletoe_abi::cache;
pub use mistletoe_abi::{
    AnyBackend, AnyCommand, AnyCommandSession, AnyHandler, AnyHandlerSession, AnyPackage, AnyProgram,
    AnyProgramSession, AnySession, Backend, Caller, CancelHandle, Command, CommandSession, DropGuard, Error, ErrorKind,
    FEATURES, Feature, Fresh, Handler, HandlerSession, Imports, Limits, Operation, Package, Pool, PooledSession,
    Program, ProgramSession, Protocol, Result, Reused, Session, Tiered, Trap,
};
pub use mistletoe_abi::{backend, error, guest, host, layers, module, pool, program, protocol, types};
#[cfg(feature = "wasi")]
pub use mistletoe_wasi as wasi;

#[cfg(feature = "wasmer")]
pub use mistletoe_wasmer::Wasmer;
#[cfg(feature = "wasmi")]
pub use mistletoe_wasmi::Wasmi;
#[cfg(feature = "wasmtime")]
pub use mistletoe_wasmtime::Wasmtime;

#[cfg(test)]
mod tests {
    #![allow(dead_code, unused_imports)]
    use super::*;

    /// Threads share programs and pools, and hand sessions on. That it compiles is the test.
    const fn crosses<P: pool::Sessions + Send + Sync>()
    where
        P::Session: Send,
        Pool<P>: Send + Sync,
        Pool<P, Reused>: Send + Sync,
        PooledSession<P, Reused>: Send,
    {
    }

    const _: () = crosses::<AnyPackage>();
    const _: () = crosses::<AnyHandler>();
    const _: () = crosses::<AnyCommand>();
    const _: () = crosses::<Handler<AnyBackend>>();
    #[cfg(feature = "wasmi")]
    const _: () = crosses::<Package<Wasmi>>();
    #[cfg(feature = "wasmtime")]
    const _: () = crosses::<Package<Wasmtime>>();
    #[cfg(feature = "wasmer")]
    const _: () = crosses::<Package<Wasmer>>();
}

//! Hosts WebAssembly packages on the engine of your choice.
//!
//! A package is a WebAssembly module that takes a YAML string and returns one; HTTP plugins, HTTP middleware and
//! WASI commands run on the same layer. Cargo features select the engines, `wasmi` (the default), `wasmtime` and `wasmer`, and the same
//! module gives the same output, or the same kind of error, on each.
//!
//! # One engine, chosen at compile time
//!
//! All calls are dispatched statically. A [`Package`] is checked and compiled once, and threads can share it. A
//! [`Session`] is one instance of it:
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
//! # An engine chosen by name
//!
//! [`AnyPackage`] runs on a backend that is chosen at run time. A request costs one additional virtual call:
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
//! [`backends()`] lists the names. [`AnyBackend::new`] makes a backend of this kind from a custom engine.
//!
//! | name | constructor | feature | engine |
//! |---|---|---|---|
//! | `wasmi` | `Wasmi::new()` | `wasmi` | interpreter; translates a module before its first call |
//! | `wasmi-lazy` | `Wasmi::lazy()` | `wasmi` | interpreter; translates each function at its first call |
//! | `wasmtime` | `Wasmtime::new()?` | `wasmtime` | optimising compiler, Cranelift |
//! | `wasmtime-winch` | `Wasmtime::winch()?` | `wasmtime-winch` | compiles faster, to slower code; lacks `externref` |
//! | `wasmtime-pulley` | `Wasmtime::pulley()?` | `wasmtime-pulley` | interpreter; runs where no code can be generated |
//! | `wasmer` | `Wasmer::new()` | `wasmer` | optimising compiler, Cranelift |
//!
//! # Pools
//!
//! A [`Pool`] caps concurrent sessions, for hosts that handle many calls. Callers queue in FIFO order and get
//! [`PoolExhausted`](ErrorKind::PoolExhausted) on timeout, by default after 10 seconds. Each session is a fresh
//! instance, unless the pool is [reused](Pool::reused):
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
//! With the feature `async`, `Pool::acquire` waits without blocking the thread, on any runtime.
//!
//! # Limits
//!
//! [`Limits`] bound what a guest may use. By default these are 10 seconds per call, 256 MiB of memory and 2,097,152
//! units of stack; fuel is not counted. The module is instrumented with the limits on memory, time, fuel and stack, so
//! every engine enforces them in the same way:
//!
//! ```
//! # #[cfg(feature = "wasmi")] {
//! use std::time::Duration;
//!
//! use mistletoe::{Imports, Limits, Package, Wasmi};
//!
//! # let wasm = wat::parse_str(include_str!("../tests/data/namespace.wat"))?;
//! let limits = Limits::default().with_timeout(Duration::from_secs(2)).with_memory(64 << 20).with_fuel(50_000_000);
//! let package = Package::with_imports(&Wasmi::new(), &wasm, &Imports::<()>::new(), limits)?;
//! let mut session = package.session()?;
//! session.generate("data:\n  name: web\n")?;
//! assert!(session.fuel_used()?.is_some());
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cancelling
//!
//! A [`CancelHandle`] cancels a call from another thread, on every engine. A call under way ends within some
//! milliseconds and poisons the session, if time or fuel is limited; every later call fails before it begins:
//!
//! ```
//! # #[cfg(feature = "wasmi")] {
//! use mistletoe::{ErrorKind, Package, Wasmi};
//!
//! # let wasm = wat::parse_str(include_str!("../tests/data/namespace.wat"))?;
//! let package = Package::new(&Wasmi::new(), &wasm)?;
//! let mut session = package.session()?;
//! let handle = session.cancel_handle();
//! handle.cancel();
//! let error = session.generate("data:\n  name: web\n").expect_err("the handle is cancelled");
//! assert!(matches!(error.kind(), ErrorKind::Cancelled { .. }));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! To cancel the opening of a session as well, make the handle first and pass it to
//! [`session_with_cancel`](Program::session_with_cancel).
//!
//! # WASI
//!
//! Modules from compilers with a system interface (Go, C with a libc) import WASI preview 1. The feature `wasi`
//! provides it. A guest has no access to the machine unless the host grants it: by default it has no arguments,
//! environment or directories, its standard input is empty, its standard output and error are captured (64 MiB each),
//! its clock stands still, and its random numbers come from the seed 0.
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
//! # Host functions
//!
//! [`Imports`] holds the functions that a host program provides to guests, declared once for all engines. Through its
//! [`Caller`] a function reaches the session's state and the guest's memory, and can call the guest back:
//!
//! ```
//! # #[cfg(feature = "wasmi")] {
//! use mistletoe::{Caller, Error, Imports, Limits, Package, Wasmi};
//!
//! # let wasm = wat::parse_str(include_str!("../tests/data/namespace.wat"))?;
//! let mut imports = Imports::<Vec<String>>::new();
//! imports.func("log", "write", |caller: &mut Caller<'_, Vec<String>>, address: u32, length: u32| {
//!     let line = caller.str("line", address, length)?.to_owned();
//!     caller.state_mut().push(line);
//!     Ok::<_, Error>(())
//! });
//! let package = Package::with_imports(&Wasmi::new(), &wasm, &imports, Limits::default())?;
//! let mut session = package.session_with(Vec::new())?;
//! session.generate("data:\n  name: web\n")?;
//! let lines = session.into_state();
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Plugins, middleware and commands
//!
//! A [`Handler`] is a plugin of the httpwasm interface: it takes a request and writes to two streams.
//!
//! ```
//! # #[cfg(feature = "wasmi")] {
//! use mistletoe::{Handler, Result, Wasmi};
//!
//! fn respond(wasm: &[u8], request: &[u8]) -> Result<Vec<u8>> {
//!     let handler = Handler::new(&Wasmi::new(), wasm)?;
//!     Ok(handler.run(request)?.stdout)
//! }
//! # }
//! ```
//!
//! A [`Middleware`] is a guest of the http-wasm interface. It sees a request before the next handler of a server, and the
//! response after it. The server implements [`Exchange`](protocol::http_handler::Exchange).
//!
//! ```
//! # #[cfg(feature = "wasmi")] {
//! use mistletoe::protocol::http_handler::InMemory;
//! use mistletoe::{Middleware, Result, Wasmi};
//!
//! fn is_refused(wasm: &[u8], path: &str) -> Result<bool> {
//!     let middleware = Middleware::new(&Wasmi::new(), wasm)?;
//!     let (next, _exchange) = middleware.session()?.handle_request(InMemory::new("GET", path));
//!     Ok(next?.is_none())
//! }
//! # }
//! ```
//!
//! A [`Command`] is a WASI program that runs once and ends with an exit code:
//!
//! ```
//! # #[cfg(all(feature = "wasmi", feature = "wasi"))] {
//! use mistletoe::wasi::{self, Wasi};
//! use mistletoe::{Command, Limits, Result, Wasmi};
//!
//! fn run(wasm: &[u8]) -> Result<u32> {
//!     let command = Command::with_imports(&Wasmi::new(), wasm, &wasi::imports::<Wasi>(), Limits::default())?;
//!     let wasi = Wasi::builder().args(["tool", "--help"]).build();
//!     let (code, _wasi) = command.session_with(wasi)?.run();
//!     code
//! }
//! # }
//! ```
//!
//! Packages, plugins, middleware and commands are [`Program`]s, which differ only in their [`Protocol`]. Limits, pools, cancelling,
//! host functions and backends by name ([`AnyHandler`], [`AnyMiddleware`], [`AnyCommand`]) work for all of them, and for custom protocols.
//!
//! # Faster starts
//!
//! [`Tiered`] is a backend of two engines: it runs on the first one while the second one compiles in the background.
//! With the feature `cache`, compiled code is cached on disk:
//!
//! ```no_run
//! # #[cfg(all(feature = "wasmtime", feature = "cache"))] {
//! use mistletoe::cache::{Cache, Cached};
//! use mistletoe::{Package, Wasmtime};
//!
//! # let wasm: &[u8] = &[];
//! let cache = Cache::open("/home/me/.cache/my-program")?;
//! let package = Package::new(&Cached::new(Wasmtime::new()?, cache), wasm)?;
//! # }
//! # Ok::<(), mistletoe::Error>(())
//! ```
//!
//! # Errors
//!
//! Every [`Error`] has an [`ErrorKind`] that is the same on every engine. After a failure inside the guest or a host
//! function the session is [poisoned](ErrorKind::Poisoned): open a new one.
//!
//! # Tracing
//!
//! With the feature `tracing` the crate emits spans with the target `mistletoe`:
//!
//! | span | level | fields |
//! |---|---|---|
//! | `compile` | debug | `engine`, `bytes` (length of the module) |
//! | `instantiate` | debug | `engine`, `fuel` |
//! | `call`: one request | debug | `engine`, `fuel` |
//! | `export`: one call of a guest's function | trace | `engine`, `export` |
//!
//! Each span has `duration_us`, in microseconds, and `error` if it failed. `fuel` is present if fuel is counted.
//!
//! # Cargo features
//!
//! Only `wasmi` is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `wasmi` | the engine wasmi, as `Wasmi` |
//! | `wasmtime` | the engine wasmtime, as `Wasmtime` |
//! | `wasmer` | the engine wasmer, as `Wasmer` |
//! | `wasmtime-winch` | wasmtime's compiler Winch, as `Wasmtime::winch`; includes `wasmtime` |
//! | `wasmtime-pulley` | wasmtime's interpreter Pulley, as `Wasmtime::pulley`; includes `wasmtime` |
//! | `wasmi-portable` | wasmi without tail calls: works in every build profile, but is slower; includes `wasmi` |
//! | `documents` | the module `documents`: the YAML documents that packages usually exchange |
//! | `wasi` | the module `wasi`: WASI preview 1 for guests, and directories of the host to grant |
//! | `yoke` | the module `yoke`: the host functions of yoke's packages, without access to a cluster |
//! | `cache` | the module `cache`: compiled code on disk, for the engines that compile |
//! | `debug-info` | in backtraces: files and lines from debug information, inlined functions, demangled names |
//! | `serde` | `Serialize` for error kinds and interface listings |
//! | `async` | `Pool::acquire` and `PoolPermit`: pools that can be awaited, on any runtime |
//! | `tracing` | the spans of [tracing](#tracing) |
//!
//! # Other crates
//!
//! This crate re-exports what a host program needs of [`mistletoe_abi`]. The module [`backend`](mod@backend) has what
//! the author of a custom engine needs.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod backends;
#[cfg(feature = "documents")]
pub mod documents;
pub mod units;
#[cfg(feature = "yoke")]
pub mod yoke;

pub use backends::{BackendInfo, backend, backends, default_backend};
#[cfg(feature = "async")]
pub use mistletoe_abi::PoolPermit;
#[cfg(feature = "cache")]
pub use mistletoe_abi::cache;
pub use mistletoe_abi::{
    AnyBackend, AnyCommand, AnyCommandSession, AnyHandler, AnyHandlerSession, AnyMiddleware, AnyMiddlewareSession,
    AnyPackage, AnyProgram, AnyProgramSession, AnySession, Backend, Backtrace, Caller, CancelHandle, Command,
    CommandSession, DropGuard, Error, ErrorKind, FEATURES, Feature, Frame, Fresh, Handler, HandlerSession, Imports,
    Limits, Middleware, MiddlewareSession, Operation, Package, Pool, PooledSession, Program, ProgramSession, Protocol,
    Result, Reused, Session, Tiered, Trap,
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

    /// Threads share programs and pools, and pass sessions on. The test is that this compiles.
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

//! Serves WebAssembly guests over HTTP: plugins, WASI commands as CGI programs, and packages, on any engine. Chains of
//! http-wasm middleware can be in front of them, of a fixed response, and of an upstream server.
//!
//! - [`config`]: the configuration, a TOML file, with all problems of it at once.
//! - [`Service`]: a `tower::Service` that a Rust program mounts in its own server. Guests run on threads of the service,
//!   as many per route as its pool has instances. Dropping a request's future, or its response's body, cancels its
//!   guest.
//! - [`Server`]: the service on a listener of its own, with limits on what clients may send and how slowly, and a
//!   second listener for health, metrics and a status page.
//!
//! `docs/serve.md` is the reference: the keys of the configuration, statuses, variables and metrics.
//!
//! ```no_run
//! use mistletoe_serve::config::Config;
//! use mistletoe_serve::{Files, Log, Server, Service};
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::read("serve.toml".as_ref())?;
//! let service = Service::new(&config, Files, Log::to_writer(std::io::stdout())?)?;
//! let server = Server::bind(&config, service).await?;
//! println!("listening on http://{}", server.address());
//! server.run(async { /* until the program is told to stop */ }).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Threads
//!
//! A service has threads of its own for guests. They are created when they are needed, and end when they are idle for ten
//! seconds. A route never takes more of them than its pools have instances, so that no route starves another.
//!
//! On Linux, a guest that has used a processor for 10 to 20 milliseconds gets a lower priority (its nice value plus 10), so
//! that other requests go first where the processors are busy. Its thread ends with it. The kernel has to count the time
//! of threads (`/proc/self/schedstat`).
//!
//! A thread of a route that is without work waits for more of it for a millisecond. Where the system has no more threads
//! to give, guests take turns on those that there are, and another route may wait that long for a thread, up to 16 times
//! in a row. A service keeps one thread from its beginning on.
//!
//! All requests of a service must come from one tokio runtime, which must run. One task ends all requests of a route that
//! wait for an instance for too long, another one begins those that a thread of the runtime has read together, and a
//! request may run on a thread that another one has started. Before a program ends that
//! runtime, [`Service::wait_for_guests`] lets the guests end that were cancelled. The names of upstreams are looked up on
//! the runtime's blocking threads. tokio panics if the system does not give it a first one; a [`Server`] keeps one.
//!
//! # Cargo features
//!
//! `wasmi`, `wasmtime`, `wasmer`, `wasmi-portable`, `wasmtime-winch` and `wasmtime-pulley` add an engine, as in
//! `mistletoe`. There is none by default. `otel` exports a span of each request to an OpenTelemetry collector
//! (`Spans`).

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod admin;
mod body;
mod budget;
pub mod config;
mod connection;
mod failure;
mod files;
mod framing;
mod headers;
mod kind;
mod log;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod record;
pub mod route;
mod seldom;
mod server;
mod service;
mod threads;
mod trace;
mod unread;

pub use body::{Body, BoxError};
pub use log::Log;
#[cfg(feature = "otel")]
#[cfg_attr(docsrs, doc(cfg(feature = "otel")))]
pub use otel::Spans;
pub use server::Server;
pub use service::{Files, Reload, RemoteAddr, Service, Source};

//! The server over real sockets, with clients that behave and clients that do not.

mod client;
mod clients;
mod failures;
mod faults;
mod guests;
mod http2;
mod idle;
mod kinds;
mod memory;
mod middleware;
#[cfg(feature = "otel")]
mod otel;
mod protocol;
mod refusals;
mod reload;
mod scheduler;
mod server;
mod service;
mod upstream;

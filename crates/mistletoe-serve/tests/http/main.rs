//! The server over real sockets, with clients that behave and clients that do not.

mod client;
mod clients;
mod failures;
mod faults;
mod guests;
mod kinds;
mod middleware;
mod protocol;
mod server;
mod service;
mod upstream;

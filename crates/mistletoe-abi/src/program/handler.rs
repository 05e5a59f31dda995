//! HTTP plugins as programs.

use std::mem;

use crate::backend::Backend;
use crate::error::Result;
use crate::program::any::{AnyProgram, AnyProgramSession};
use crate::program::{Program, ProgramSession};
use crate::protocol::httpwasm::{Delimiter, HttpWasm, Output};

/// A plugin of the httpwasm interface, compiled for one backend.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::protocol::httpwasm::Delimiter;
/// use mistletoe_abi::{Backend, Handler, Result};
///
/// /// The response to a request whose records end with a zero byte.
/// fn respond<B: Backend>(backend: &B, wasm: &[u8], request: &[u8]) -> Result<Vec<u8>> {
///     let handler = Handler::new(backend, wasm)?.delimiter(Delimiter::Nul);
///     Ok(handler.run(request)?.stdout)
/// }
/// ```
pub type Handler<B, T = ()> = Program<HttpWasm, B, T>;
/// An instance of a [`Handler`].
pub type HandlerSession<B, T = ()> = ProgramSession<HttpWasm, B, T>;
/// A [`Handler`] on any backend.
pub type AnyHandler<T = ()> = AnyProgram<HttpWasm, T>;
/// A [`HandlerSession`] on any backend.
pub type AnyHandlerSession<T = ()> = AnyProgramSession<HttpWasm, T>;

impl<B: Backend, T: Send + 'static> Handler<B, T> {
    /// Returns the same handler with another delimiter between the records of its input.
    ///
    /// The default is a line feed.
    #[must_use]
    pub fn delimiter(self, delimiter: Delimiter) -> Self {
        self.map_protocol(|protocol| protocol.delimiter = delimiter)
    }

    /// Handles one request on a fresh instance with the default state.
    ///
    /// # Errors
    ///
    /// As [`Program::session`] and [`ProgramSession::call`].
    pub fn run(&self, input: &[u8]) -> Result<Output>
    where
        T: Default,
    {
        self.session()?.run(input)
    }
}

impl<T: Send + 'static> AnyHandler<T> {
    /// Handles one request on a fresh instance; see [`Handler::run`].
    ///
    /// # Errors
    ///
    /// As [`Handler::run`].
    pub fn run(&self, input: &[u8]) -> Result<Output>
    where
        T: Default,
    {
        self.session()?.run(input)
    }
}

macro_rules! session {
    ([$($generics:tt)*] $session:ty) => {
        impl<$($generics)*> $session {
            /// Handles one request and returns the plugin's response.
            ///
            /// # Errors
            ///
            /// - As [`ProgramSession::call`].
            /// - [`TooLong`](crate::ErrorKind::TooLong) if the input or the output exceeds its limit.
            /// - [`Allocation`](crate::ErrorKind::Allocation) if the plugin's `malloc` returns null for its input, or
            ///   [`OutOfBounds`](crate::ErrorKind::OutOfBounds) if it returns a range outside the memory.
            pub fn run(&mut self, input: &[u8]) -> Result<Output> {
                self.call(input)
            }

            /// Takes what the plugin had written when the latest request failed.
            ///
            /// It is empty if the request succeeded, and after it was taken once.
            pub fn unfinished(&mut self) -> Output {
                mem::take(&mut self.store_mut().output)
            }
        }
    };
}

session!([B: Backend, T: 'static] HandlerSession<B, T>);
session!([T: 'static] AnyHandlerSession<T>);

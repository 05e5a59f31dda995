//! HTTP middleware as programs.

use std::any::Any;

use crate::backend::Backend;
use crate::error::Result;
use crate::program::any::{AnyProgram, AnyProgramSession};
use crate::program::{Program, ProgramSession};
use crate::protocol::http_handler::{Call, Exchange, HttpHandler, Next, State};

/// A guest of the http-wasm interface, compiled for one backend.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::protocol::http_handler::Exchange;
/// use mistletoe_abi::{Backend, Middleware, Pool, Result};
///
/// /// Passes a request through a guest and, if the guest lets it, through `next`.
/// fn serve<B: Backend, E: Exchange>(
///     pool: &Pool<Middleware<B>>,
///     exchange: E,
///     next: impl FnOnce(&mut E) -> bool,
/// ) -> Result<E> {
///     let mut session = pool.session()?;
///     let (result, mut exchange) = session.handle_request(exchange);
///     let Some(goes_on) = result? else { return Ok(exchange) };
///     let failed = !next(&mut exchange);
///     let (result, exchange) = session.handle_response(exchange, goes_on, failed);
///     result.map(|()| exchange)
/// }
/// ```
pub type Middleware<B, T = ()> = Program<HttpHandler, B, T>;
/// An instance of a [`Middleware`].
pub type MiddlewareSession<B, T = ()> = ProgramSession<HttpHandler, B, T>;
/// A [`Middleware`] on any backend.
pub type AnyMiddleware<T = ()> = AnyProgram<HttpHandler, T>;
/// A [`MiddlewareSession`] on any backend.
pub type AnyMiddlewareSession<T = ()> = AnyProgramSession<HttpHandler, T>;

macro_rules! session {
    ([$($generics:tt)*] $session:ty) => {
        impl<$($generics)*> $session {
            /// Passes a request to the guest. Returns whether it goes on to the next handler, and the exchange.
            ///
            /// With `None` the exchange has the guest's response. Otherwise the server calls the next handler, and then
            /// [`handle_response`](Self::handle_response) on this session, also if the next handler failed.
            ///
            /// The exchange is returned in any case. After an error it is as the guest left it, and its bodies may be
            /// read or written in part.
            ///
            /// # Errors
            ///
            /// - As [`ProgramSession::call`].
            /// - [`Host`](crate::ErrorKind::Host) with a [`Misuse`](crate::protocol::http_handler::Misuse) as its
            ///   source if the guest calls a function as it must not, or with the exchange's own error.
            /// - [`TooLong`](crate::ErrorKind::TooLong) if the guest reads more of a buffered body than
            ///   [`Limits::max_input`](crate::Limits::max_input), or writes more to a body than
            ///   [`Limits::max_output`](crate::Limits::max_output).
            pub fn handle_request<E: Exchange>(&mut self, exchange: E) -> (Result<Option<Next>>, E) {
                self.store_mut().put(Box::new(exchange));
                let result = self.call(Call::Request);
                (result, taken(self.store_mut()))
            }

            /// Passes the response of the next handler to the guest. Returns the exchange with the response to send.
            ///
            /// `failed` says that the next handler has no response. The exchange then has what the server makes of it.
            ///
            /// # Errors
            ///
            /// As [`handle_request`](Self::handle_request), and [`Engine`](crate::ErrorKind::Engine) if `next` is not
            /// from the latest request of this session.
            pub fn handle_response<E: Exchange>(&mut self, exchange: E, next: Next, failed: bool) -> (Result<()>, E) {
                self.store_mut().put(Box::new(exchange));
                let result = self.call(Call::Response { next, failed });
                (result.map(drop), taken(self.store_mut()))
            }
        }
    };
}

session!([B: Backend, T: 'static] MiddlewareSession<B, T>);
session!([T: 'static] AnyMiddlewareSession<T>);

/// Takes back the exchange that was put there.
fn taken<E: Exchange>(state: &mut State) -> E {
    let exchange = state.take().and_then(|exchange| (exchange as Box<dyn Any>).downcast().ok());
    match exchange {
        Some(exchange) => *exchange,
        None => unreachable!("the session has the exchange that was put there"),
    }
}

//! The http-wasm interface of middleware: a guest sees a request before the next handler, and the response after it.
//!
//! Rule numbers refer to `docs/http-handler.md`. The protocol enforces the rules. A server provides an [`Exchange`] for
//! each request, which stores and streams, and calls the next handler between
//! [`handle_request`](crate::MiddlewareSession::handle_request) and
//! [`handle_response`](crate::MiddlewareSession::handle_response).

mod exchange;
mod functions;
mod in_memory;
mod state;

use std::fmt;
use std::sync::Arc;

use crate::backend::instance::Instance;
use crate::error::Result;
use crate::guest::export::{ExportedFunc, START};
use crate::guest::{Func, Guest};
use crate::host::imports::Imports;
use crate::host::unpack;
use crate::limits::Limits;
use crate::protocol::check::Check;
use crate::protocol::traits::Protocol;
use state::Log;

pub use exchange::{BodyKind, Exchange, Features, HeaderKind, Level, Misuse};
pub use in_memory::{InMemory, Message};
pub use state::State;

/// Handles a request. Returns the guest's context in the upper half, and whether to go on in the lower.
const HANDLE_REQUEST: ExportedFunc<(), u64> = ExportedFunc::new("handle_request");
/// Handles the response. Takes the context, and whether the next handler failed.
const HANDLE_RESPONSE: ExportedFunc<(u32, u32), ()> = ExportedFunc::new("handle_response");

/// The default limit on the number of headers.
const MAX_HEADERS: u32 = 256;
/// The default limit on the bytes of headers.
const MAX_HEADER_BYTES: u64 = 64 << 10;

/// The protocol of middleware: the http-wasm interface, with the host's settings.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::protocol::HttpHandler;
/// use mistletoe_abi::protocol::http_handler::{Features, Level};
/// use mistletoe_abi::{Backend, Imports, Limits, Middleware, Result};
///
/// /// A guest with its configuration, whose log goes to standard error.
/// fn load<B: Backend>(backend: &B, wasm: &[u8]) -> Result<Middleware<B>> {
///     let protocol = HttpHandler::default()
///         .config(br#"{"users": ["ann"]}"#)
///         .features(Features::BUFFER_REQUEST | Features::BUFFER_RESPONSE)
///         .log(Level::Info, |level, message| eprintln!("{level}: {message}"));
///     Middleware::with_protocol(protocol, backend, wasm, &Imports::new(), Limits::default())
/// }
/// ```
#[derive(Clone)]
pub struct HttpHandler {
    config: Arc<[u8]>,
    features: Features,
    log: Option<(Level, Log)>,
    max_headers: u32,
    max_header_bytes: u64,
}

impl HttpHandler {
    /// Sets the guest's configuration, in a form that the guest defines. It is empty by default.
    #[must_use]
    pub fn config(self, config: impl AsRef<[u8]>) -> Self {
        Self { config: config.as_ref().into(), ..self }
    }

    /// Sets the features that the host supports; all by default.
    #[must_use]
    pub fn features(self, features: Features) -> Self {
        Self { features, ..self }
    }

    /// Sets where the guest's messages of at least this level go. By default they are dropped.
    ///
    /// `log` is called on the thread that calls the guest. Bytes of a message that are not UTF-8 are replaced by
    /// U+FFFD, and what exceeds 64 KiB is cut off.
    #[must_use]
    pub fn log(self, level: Level, log: impl Fn(Level, &str) + Send + Sync + 'static) -> Self {
        Self { log: Some((level, Arc::new(log))), ..self }
    }

    /// Sets the limit on the number of headers of one [kind](HeaderKind), each value counted; 256 by default.
    ///
    /// It applies when a guest sets or adds one, not to what the exchange has already.
    #[must_use]
    pub fn max_headers(self, headers: u32) -> Self {
        Self { max_headers: headers, ..self }
    }

    /// Sets the limit on all names and values of one [kind](HeaderKind) of headers together, and on a URI, in bytes;
    /// 64 KiB by default.
    ///
    /// It applies when a guest sets or adds one, not to what the exchange has already.
    #[must_use]
    pub fn max_header_bytes(self, bytes: u64) -> Self {
        Self { max_header_bytes: bytes, ..self }
    }
}

impl Default for HttpHandler {
    fn default() -> Self {
        Self {
            config: Arc::default(),
            features: Features::ALL,
            log: None,
            max_headers: MAX_HEADERS,
            max_header_bytes: MAX_HEADER_BYTES,
        }
    }
}

/// A request that goes on to the next handler, and whose response the guest then handles.
///
/// It belongs to the session that returned it. The next request of that session makes it invalid.
#[derive(Debug)]
pub struct Next {
    context: u32,
    features: Features,
    id: u64,
}

impl Next {
    /// Returns the features that the guest has enabled for this request.
    ///
    /// With [`Features::BUFFER_RESPONSE`], the server must not send the next handler's response before the guest has
    /// handled it. Otherwise it may.
    pub fn features(&self) -> Features {
        self.features
    }
}

/// A call of a guest, for the exchange that was lent to the session.
#[derive(Debug)]
pub enum Call {
    /// Handles the request.
    Request,
    /// Handles the response.
    Response {
        /// What the request returned.
        next: Next,
        /// Whether the next handler failed.
        failed: bool,
    },
}

/// The functions that every request needs.
#[derive(Debug)]
pub struct Exports<F> {
    handle_request: Func<F, (), u64>,
    handle_response: Func<F, (u32, u32), ()>,
}

impl Protocol for HttpHandler {
    type Exports<F: Send + Sync + 'static> = Exports<F>;
    type Store = State;
    type Request<'a> = Call;
    /// The request that goes on, if it does.
    type Response<'a> = Option<Next>;
    type Output = Option<Next>;

    const STARTS: bool = true;

    fn check(&self, exports: &mut Check<'_>) {
        exports.func(&HANDLE_REQUEST).func(&HANDLE_RESPONSE).optional_func(&START);
    }

    fn provide<T: Send + 'static>(&self, imports: &mut Imports<T>) {
        functions::provide(imports);
    }

    fn store(&self, limits: &Limits) -> State {
        State::new(self.clone(), limits)
    }

    fn resolve<I: Instance>(&self, guest: &mut Guest<I>) -> Result<Exports<I::Func>> {
        Ok(Exports {
            handle_request: guest.resolve(&HANDLE_REQUEST)?,
            handle_response: guest.resolve(&HANDLE_RESPONSE)?,
        })
    }

    fn call<I: Instance, R>(
        exports: &Exports<I::Func>,
        guest: &mut Guest<I>,
        call: Call,
        respond: impl FnOnce(Option<Next>) -> R,
    ) -> Result<R> {
        let next = match call {
            Call::Request => {
                guest.store_mut::<State>().begin_request();
                let (context, next) = unpack(guest.call(&exports.handle_request, ())?);
                guest.store_mut::<State>().end_request(context, next != 0)
            }
            Call::Response { next, failed } => {
                guest.store_mut::<State>().begin_response(&next)?;
                guest.call(&exports.handle_response, (next.context, failed.into()))?;
                guest.store_mut::<State>().end_response();
                None
            }
        };
        Ok(respond(next))
    }
}

impl fmt::Debug for HttpHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpHandler")
            .field("config", &self.config.len())
            .field("features", &self.features)
            .field("log", &self.log.as_ref().map(|(level, _)| level))
            .field("max_headers", &self.max_headers)
            .field("max_header_bytes", &self.max_header_bytes)
            .finish()
    }
}

//! What middleware consists of besides [`middleware!`](crate::middleware!): the trait, and requests and responses.

mod host;
#[cfg(target_family = "wasm")]
mod instance;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;

#[cfg(target_family = "wasm")]
pub use instance::Instance;

use crate::Error;
use crate::memory::fill;

/// Makes middleware of a type that implements [`Middleware`](crate::middleware::Middleware): a module with [the
/// http-wasm interface].
///
/// ```
/// use mistletoe_guest::middleware::{Action, Middleware, Request, Response};
/// use mistletoe_guest::{Error, middleware};
///
/// middleware!(MediaType);
///
/// /// Requires a media type.
/// struct MediaType(Vec<u8>);
///
/// impl Middleware for MediaType {
///     fn new(config: Vec<u8>) -> Result<Self, Error> {
///         if config.is_empty() {
///             return Err(Error::new("the configuration has no media type"));
///         }
///         Ok(Self(config))
///     }
///
///     fn handle_request(&mut self, request: &mut Request, response: &mut Response) -> Action {
///         if request.headers().get_all("content-type") != [&*self.0] {
///             response.set_status(415);
///             response.body_mut().write("another media type is required\n");
///             return Action::Respond;
///         }
///         request.headers_mut().remove("cookie");
///         Action::Next(0)
///     }
/// }
/// # fn main() {}
/// ```
///
/// If the middleware panics, the message and the line in the source go to the host's log at the level `error`, and the
/// call ends in a trap.
///
/// # Exports
///
/// A crate has one middleware, at most one `middleware!`, and is a `cdylib` for `wasm32-unknown-unknown`. It imports
/// the functions of the interface that it uses. The exports, `_start` among them, are only there on WebAssembly.
///
/// Elsewhere, such as in tests of the crate, there is no host: every text, list and body is empty, and changes are
/// dropped.
///
/// [the http-wasm interface]: https://github.com/mistletoe-rs/mistletoe/blob/main/docs/http-handler.md
#[macro_export]
macro_rules! middleware {
    ($middleware:ty $(,)?) => {
        const _: () = {
            $crate::__middleware!($middleware);
        };
    };
}

#[cfg(all(target_family = "wasm", not(target_os = "wasi")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __middleware {
    ($middleware:ty) => {
        static __INSTANCE: $crate::__private::Instance<$middleware> = $crate::__private::Instance::empty();

        #[unsafe(no_mangle)]
        pub extern "C" fn _start() {
            __INSTANCE.start();
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn handle_request() -> u64 {
            __INSTANCE.handle_request()
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn handle_response(context: u32, failed: u32) {
            __INSTANCE.handle_response(context, failed);
        }
    };
}

#[cfg(target_os = "wasi")]
#[doc(hidden)]
#[macro_export]
macro_rules! __middleware {
    ($($tokens:tt)*) => {
        ::core::compile_error!(
            "middleware needs the target wasm32-unknown-unknown: WASI's C library may define `_start` itself"
        );
    };
}

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __middleware {
    ($middleware:ty) => {
        const _: fn(
            &mut $middleware,
            &mut $crate::middleware::Request,
            &mut $crate::middleware::Response,
        ) -> $crate::middleware::Action = <$middleware as $crate::middleware::Middleware>::handle_request;
    };
}

/// Sees each HTTP request before the next handler of a server, and the response after it.
///
/// There is one value for each instance of the module. An instance handles one request at a time, and can handle more
/// than one: what the value holds is there in the next request.
pub trait Middleware: Sized {
    /// Features that are enabled for every request. If the host lacks one, the instance does not start.
    const FEATURES: &'static [Feature] = &[];

    /// Creates the middleware of a new instance. The host passes the configuration, bytes in a form that the middleware
    /// defines.
    ///
    /// # Errors
    ///
    /// If the configuration is unsuitable. The error goes to the host's log, and the instance does not start.
    fn new(config: Vec<u8>) -> Result<Self, Error>;

    /// Handles a request.
    fn handle_request(&mut self, request: &mut Request, response: &mut Response) -> Action;

    /// Handles the response of the next handler, to a request that [`handle_request`](Middleware::handle_request) has
    /// let through with this context. `failed` tells that the next handler failed.
    ///
    /// It can change the response only if [`Feature::BufferResponse`] is enabled.
    fn handle_response(&mut self, context: u32, request: &Request, response: &mut Response, failed: bool) {
        let _ = (context, request, response, failed);
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes on to the next handler. [`Middleware::handle_response`] gets the context, any number.
    Next(u32),
    /// The response that the middleware has made is sent.
    Respond,
}

/// What a host does only if it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The next handler can read all of the request's body, also what the middleware has read of it.
    BufferRequest = 1,
    /// The response is held back until the middleware has handled it, which can change it.
    BufferResponse = 2,
    /// Trailers can be read and changed.
    Trailers = 4,
}

/// How important a message of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For developers.
    Debug = -1,
    /// For operators.
    Info = 0,
    /// What may be wrong.
    Warn = 1,
    /// What is wrong.
    Error = 2,
}

/// Writes a message to the host's log, if the host logs this level.
///
/// ```
/// use mistletoe_guest::middleware::{self, Level};
///
/// middleware::log(Level::Info, format_args!("{} requests", 3));
/// ```
pub fn log(level: Level, message: impl Display) {
    let level = level as i32;
    // SAFETY: a number.
    if unsafe { host::log_enabled(level) } != 0 {
        let message = alloc::format!("{message}");
        // SAFETY: the host reads the bytes during the call.
        unsafe { host::log(level, message.as_ptr(), message.len()) }
    }
}

/// Enables a feature. Returns whether the host supports it.
fn enable(feature: Feature) -> bool {
    let bit = feature as u32;
    // SAFETY: a number.
    unsafe { host::enable_features(bit) & bit != 0 }
}

/// Returns the bytes of [`fill`] as a text.
fn text(get: unsafe extern "C" fn(*mut u8, usize) -> usize) -> String {
    // SAFETY: the host writes at most as many bytes as the buffer has.
    let bytes = fill(|buffer, limit| unsafe { get(buffer, limit) });
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Returns the entries of a list, each of which the host ends with a zero byte. The result of the host's function has
/// the number of entries in the upper half, and their length in the lower.
fn list(get: impl Fn(*mut u8, usize) -> u64) -> Vec<Vec<u8>> {
    let count = core::cell::Cell::new(0);
    let bytes = fill(|buffer, limit| {
        let result = get(buffer, limit);
        count.set((result >> 32) as usize);
        result as u32 as usize
    });
    bytes.split(|byte| *byte == 0).take(count.get()).map(<[u8]>::to_vec).collect()
}

/// A request on its way to the next handler.
///
/// After the next handler, it can only be read.
#[derive(Debug)]
pub struct Request {
    headers: Headers,
    trailers: Headers,
    body: Body,
}

impl Request {
    #[cfg(target_family = "wasm")]
    const CURRENT: Self = Self { headers: Headers(0), trailers: Headers(2), body: Body(0) };

    /// Returns the method, such as `GET`.
    pub fn method(&self) -> String {
        text(host::get_method)
    }

    /// Replaces the method: a token, in upper case as a rule.
    pub fn set_method(&mut self, method: &str) {
        // SAFETY: the host reads the bytes during the call.
        unsafe { host::set_method(method.as_ptr(), method.len()) }
    }

    /// Returns path and query, encoded as on the wire, such as `/a%20b?c=d`.
    pub fn uri(&self) -> String {
        text(host::get_uri)
    }

    /// Replaces path and query. Without a `?`, the request has no query any more.
    pub fn set_uri(&mut self, uri: &str) {
        // SAFETY: the host reads the bytes during the call.
        unsafe { host::set_uri(uri.as_ptr(), uri.len()) }
    }

    /// Returns the version of HTTP, such as `HTTP/1.1`.
    pub fn protocol_version(&self) -> String {
        text(host::get_protocol_version)
    }

    /// Returns the client's address and port, such as `192.0.2.1:1234` or `[2001:db8::1]:1234`.
    pub fn source_addr(&self) -> String {
        text(host::get_source_addr)
    }

    /// Returns the headers, `host` among them.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Returns the headers, to change them.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.headers
    }

    /// Returns the trailers. There are none without [`Feature::Trailers`].
    pub fn trailers(&self) -> &Headers {
        &self.trailers
    }

    /// Returns the trailers, to change them, which requires [`Feature::Trailers`].
    pub fn trailers_mut(&mut self) -> &mut Headers {
        &mut self.trailers
    }

    /// Returns the body. What is read of it is gone for the next handler, without [`Feature::BufferRequest`].
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Returns the body, to replace it.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Enables a feature for this request, before it goes on. Returns whether the host supports it.
    ///
    /// [`Middleware::FEATURES`] enables features for all requests.
    pub fn enable(&mut self, feature: Feature) -> bool {
        enable(feature)
    }
}

/// The response to a request: the middleware's own, or that of the next handler.
#[derive(Debug)]
pub struct Response {
    headers: Headers,
    trailers: Headers,
    body: Body,
}

impl Response {
    #[cfg(target_family = "wasm")]
    const CURRENT: Self = Self { headers: Headers(1), trailers: Headers(3), body: Body(1) };

    /// Returns the status, 200 by default.
    pub fn status(&self) -> u16 {
        // SAFETY: there are no arguments.
        unsafe { host::get_status_code() as u16 }
    }

    /// Replaces the status: 200 or above.
    pub fn set_status(&mut self, status: u16) {
        // SAFETY: a number.
        unsafe { host::set_status_code(status.into()) }
    }

    /// Returns the headers.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Returns the headers, to change them.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.headers
    }

    /// Returns the trailers. There are none without [`Feature::Trailers`].
    pub fn trailers(&self) -> &Headers {
        &self.trailers
    }

    /// Returns the trailers, to change them, which requires [`Feature::Trailers`].
    pub fn trailers_mut(&mut self) -> &mut Headers {
        &mut self.trailers
    }

    /// Returns the body of the next handler's response, which requires [`Feature::BufferResponse`].
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Returns the body, to write it.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }
}

/// The headers or trailers of a request or response. Names match in any case.
///
/// A name is a token (RFC 9110, section 5.6.2), and a value has no control characters except tabs: a host ends the call
/// otherwise.
#[derive(Debug)]
pub struct Headers(u32);

impl Headers {
    /// Returns all names, in lower case, each once.
    pub fn names(&self) -> Vec<String> {
        // SAFETY: the host writes at most as many bytes as the buffer has.
        let names = list(|buffer, limit| unsafe { host::get_header_names(self.0, buffer, limit) });
        names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Returns the first value of a name. Where a second value would matter, look at [`get_all`](Headers::get_all).
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.get_all(name).into_iter().next()
    }

    /// Returns all values of a name, in their order.
    pub fn get_all(&self, name: &str) -> Vec<Vec<u8>> {
        // SAFETY: the host reads the name, and writes at most as many bytes as the buffer has.
        list(|buffer, limit| unsafe { host::get_header_values(self.0, name.as_ptr(), name.len(), buffer, limit) })
    }

    /// Replaces all values of a name by one.
    pub fn insert(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        // SAFETY: the host reads the bytes during the call.
        unsafe { host::set_header_value(self.0, name.as_ptr(), name.len(), value.as_ptr(), value.len()) }
    }

    /// Adds a value after those that a name has.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        // SAFETY: the host reads the bytes during the call.
        unsafe { host::add_header_value(self.0, name.as_ptr(), name.len(), value.as_ptr(), value.len()) }
    }

    /// Removes all values of a name, if there are any.
    pub fn remove(&mut self, name: &str) {
        // SAFETY: the host reads the name during the call.
        unsafe { host::remove_header(self.0, name.as_ptr(), name.len()) }
    }
}

/// The body of a request or response, which can be read once, from its start to its end.
#[derive(Debug)]
pub struct Body(u32);

impl Body {
    /// Reads the next bytes into a buffer. Returns their number, which is 0 at the end, or if the buffer is empty.
    pub fn read(&self, buffer: &mut [u8]) -> usize {
        self.read_some(buffer).0
    }

    /// Reads the rest of the body, of any length: what the memory has no room for ends the call.
    pub fn read_to_end(&self) -> Vec<u8> {
        const STEP: usize = 8 << 10;
        let mut bytes = Vec::new();
        loop {
            let from = bytes.len();
            bytes.resize(from + STEP, 0);
            let (length, is_end) = self.read_some(bytes.get_mut(from..).unwrap_or_default());
            bytes.truncate(from + length);
            if is_end {
                return bytes;
            }
        }
    }

    /// Returns the number of bytes, and whether the body has ended.
    fn read_some(&self, buffer: &mut [u8]) -> (usize, bool) {
        if buffer.is_empty() {
            return (0, true);
        }
        // SAFETY: the host writes at most as many bytes as the buffer has.
        let result = unsafe { host::read_body(self.0, buffer.as_mut_ptr(), buffer.len()) };
        let length = result as u32 as usize;
        (length, result >> 32 != 0 || length == 0)
    }

    /// Appends to the body that goes on. The first call while a request or response is handled replaces it.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        // SAFETY: the host reads the bytes during the call.
        unsafe { host::write_body(self.0, bytes.as_ptr(), bytes.len()) }
    }
}

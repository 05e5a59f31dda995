//! What plugins need besides [`plugin!`](crate::plugin!): their standard streams, and their input in records.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::marker::PhantomData;

/// Makes a plugin of a function: a module with [the httpwasm interface].
///
/// The function takes the whole input, and returns any [`Response`](crate::plugin::Response).
///
/// ```
/// use mistletoe_guest::plugin;
///
/// plugin!(handle);
///
/// fn handle(body: &[u8]) -> Result<String, std::str::Utf8Error> {
///     Ok(format!("hello, {}\n", str::from_utf8(body)?))
/// }
/// # fn main() {}
/// ```
///
/// With `records:`, it takes the input in records, which the host delimits, as an iterator. A record ends with the
/// delimiter. Every byte of the input is in memory at once all the same: the host frees the records after the request.
///
/// ```
/// use mistletoe_guest::plugin;
///
/// plugin!(records: handle);
///
/// fn handle<'a>(records: impl Iterator<Item = &'a [u8]>) {
///     for record in records {
///         plugin::print(record);
///     }
/// }
/// # fn main() {}
/// ```
///
/// Both forms can write while they run, with [`print`](crate::plugin::print) and [`eprint`](crate::plugin::eprint). If
/// the function panics, the message and the line in the source go to the standard error, and the call ends in a trap.
///
/// The instance can be a used one: what the function leaves in statics is there in the next request.
///
/// # Exports
///
/// A crate has one plugin, at most one `plugin!`, and is a `cdylib` for `wasm32-unknown-unknown`. On WASI's target, the C
/// library has functions with the names of the interface. The exports are only there on WebAssembly.
///
/// [the httpwasm interface]: https://github.com/mistletoe-rs/mistletoe/blob/main/docs/httpwasm.md
#[macro_export]
macro_rules! plugin {
    (records: $handle:path $(,)?) => {
        const _: () = {
            fn __handle() {
                $crate::plugin::Records::with(|records| $crate::plugin::Response::respond($handle(records)));
            }

            $crate::__plugin!(__handle());
        };
    };
    ($handle:path $(,)?) => {
        const _: () = {
            fn __handle(input: &[u8]) {
                $crate::plugin::Response::respond($handle(input));
            }

            $crate::__plugin!(__handle(input));
        };
    };
}

#[cfg(all(target_family = "wasm", not(target_os = "wasi")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __plugin {
    (@exports) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn malloc(length: usize) -> *mut u8 {
            $crate::__private::allocate_sized(length)
        }

        /// # Safety
        ///
        /// The address is null or that of a block in use.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn free(address: *mut u8) {
            // SAFETY: the caller's promise.
            unsafe { $crate::__private::free_sized(address) }
        }
    };
    ($handle:ident()) => {
        $crate::__plugin!(@exports);

        #[unsafe(no_mangle)]
        pub extern "C" fn run() {
            $crate::__private::start($crate::__private::report, $crate::__private::install_log);
            $handle();
        }
    };
    ($handle:ident(input)) => {
        $crate::__plugin!(@exports);

        /// # Safety
        ///
        /// Address and length are those of the input.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn run(address: *const u8, length: usize) {
            $crate::__private::start($crate::__private::report, $crate::__private::install_log);
            // SAFETY: the caller's promise.
            $handle(unsafe { $crate::__private::bytes(address, length) });
        }
    };
}

#[cfg(target_os = "wasi")]
#[doc(hidden)]
#[macro_export]
macro_rules! __plugin {
    ($($tokens:tt)*) => {
        ::core::compile_error!(
            "plugins need the target wasm32-unknown-unknown: WASI's C library defines `malloc` itself"
        );
    };
}

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __plugin {
    ($handle:ident()) => {
        const _: fn() = $handle;
    };
    ($handle:ident(input)) => {
        const _: fn(&[u8]) = $handle;
    };
}

/// What the function of a plugin returns.
pub trait Response {
    /// Writes it to the plugin's standard streams.
    fn respond(self);
}

/// Writes nothing.
impl Response for () {
    fn respond(self) {}
}

/// Writes to the standard output.
impl Response for &[u8] {
    fn respond(self) {
        print(self);
    }
}

/// Writes to the standard output.
impl Response for Vec<u8> {
    fn respond(self) {
        print(self);
    }
}

/// Writes to the standard output.
impl Response for &str {
    fn respond(self) {
        print(self);
    }
}

/// Writes to the standard output.
impl Response for String {
    fn respond(self) {
        print(self);
    }
}

/// Writes an error to the standard error, as one line. The interface has no status: the request succeeds.
impl<R: Response, E: Display> Response for Result<R, E> {
    fn respond(self) {
        match self {
            Ok(response) => response.respond(),
            Err(error) => eprint(alloc::format!("{error:#}\n")),
        }
    }
}

/// Appends bytes to the standard output: the response.
pub fn print(bytes: impl AsRef<[u8]>) {
    write(bytes.as_ref(), false);
}

/// Appends bytes to the standard error, which a host logs.
pub fn eprint(bytes: impl AsRef<[u8]>) {
    write(bytes.as_ref(), true);
}

#[cfg(target_family = "wasm")]
#[link(wasm_import_module = "httpwasm")]
unsafe extern "C" {
    safe fn igets() -> u64;
    fn oputs(address: *const u8, length: usize);
    fn eputs(address: *const u8, length: usize);
}

#[cfg(target_family = "wasm")]
fn write(bytes: &[u8], is_error: bool) {
    let write = if is_error { eputs } else { oputs };
    // SAFETY: the host reads the bytes during the call.
    unsafe { write(bytes.as_ptr(), bytes.len()) }
}

/// For tests of plugins.
#[cfg(all(not(target_family = "wasm"), feature = "std"))]
fn write(bytes: &[u8], is_error: bool) {
    use std::io::Write as _;

    // A test that ignores its output does not fail for it.
    let _ = if is_error { std::io::stderr().write_all(bytes) } else { std::io::stdout().write_all(bytes) };
}

#[cfg(not(any(target_family = "wasm", feature = "std")))]
fn write(_: &[u8], _: bool) {}

/// The records of a request, in order. The macro makes it.
#[derive(Debug)]
pub struct Records<'a>(PhantomData<&'a ()>);

impl Records<'_> {
    /// Calls a function with the records that are not read yet. It cannot keep them:
    ///
    /// ```compile_fail
    /// let record = mistletoe_guest::plugin::Records::with(|mut records| records.next());
    /// ```
    #[doc(hidden)]
    pub fn with<R>(handle: impl for<'r> FnOnce(Records<'r>) -> R) -> R {
        handle(Records(PhantomData))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    #[cfg(target_family = "wasm")]
    fn next(&mut self) -> Option<&'a [u8]> {
        let record = igets();
        // SAFETY: the host has written the record to a block of `malloc`, and frees it after the request.
        (record != 0).then(|| unsafe { crate::memory::bytes((record >> 32) as *const u8, record as u32 as usize) })
    }

    /// There is no host.
    #[cfg(not(target_family = "wasm"))]
    fn next(&mut self) -> Option<&'a [u8]> {
        None
    }
}

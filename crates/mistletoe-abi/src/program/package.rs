//! Packages: programs that take a string and return a string.

use crate::backend::Backend;
use crate::error::Result;
use crate::pool::{Mode, Pool};
use crate::program::any::{AnyProgram, AnyProgramSession};
use crate::program::{Program, ProgramSession};
use crate::protocol::package::{PackageInterface, Request};

/// A package compiled for one backend.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::{Backend, Package, Result};
///
/// /// Compiles once, and generates each output on a fresh instance.
/// fn outputs<B: Backend>(backend: &B, wasm: &[u8], inputs: &[&str]) -> Result<Vec<String>> {
///     let package = Package::new(backend, wasm)?;
///     inputs.iter().map(|input| package.generate(input)).collect()
/// }
/// ```
pub type Package<B, T = ()> = Program<PackageInterface, B, T>;
/// An instance of a [`Package`].
///
/// # Examples
///
/// ```
/// use mistletoe_abi::{Backend, Package, Result};
///
/// /// Generates all outputs on one instance, which keeps its memory between calls.
/// fn lengths<B: Backend>(package: &Package<B>, inputs: &[&str]) -> Result<Vec<usize>> {
///     let mut session = package.session()?;
///     inputs.iter().map(|input| session.generate_with(input, |output| output.len())).collect()
/// }
/// ```
pub type Session<B, T = ()> = ProgramSession<PackageInterface, B, T>;
/// A [`Package`] on any backend.
pub type AnyPackage<T = ()> = AnyProgram<PackageInterface, T>;
/// A [`Session`] on any backend.
pub type AnySession<T = ()> = AnyProgramSession<PackageInterface, T>;

impl<B: Backend, T: Send + Default + 'static> Package<B, T> {
    /// Generates the output for `input` on a fresh instance with the default state.
    ///
    /// A fault while freeing is dropped with the instance. To see it, open a [session](Program::session).
    ///
    /// # Errors
    ///
    /// As [`Program::session`] and [`Session::generate`].
    pub fn generate(&self, input: &str) -> Result<String> {
        self.session()?.generate(input)
    }
}

impl<T: Send + Default + 'static> AnyPackage<T> {
    /// Generates the output for `input` on a fresh instance; see [`Package::generate`].
    ///
    /// # Errors
    ///
    /// As [`Package::generate`].
    pub fn generate(&self, input: &str) -> Result<String> {
        self.session()?.generate(input)
    }
}

macro_rules! session {
    ([$($generics:tt)*] $session:ty) => {
        impl<$($generics)*> $session {
            /// Returns the package's description of itself (rule 2).
            ///
            /// # Errors
            ///
            /// As [`ProgramSession::call`], and for a string that cannot be read
            /// [`OutOfBounds`](crate::ErrorKind::OutOfBounds), [`InvalidUtf8`](crate::ErrorKind::InvalidUtf8) or
            /// [`TooLong`](crate::ErrorKind::TooLong).
            pub fn info(&mut self) -> Result<String> {
                self.call(Request::Info)
            }

            /// Generates the output for `input` and returns a copy of it (rules 3 to 7).
            ///
            /// # Errors
            ///
            /// - As [`Session::info`].
            /// - [`TooLong`](crate::ErrorKind::TooLong) if the input exceeds its limit.
            /// - [`Allocation`](crate::ErrorKind::Allocation) if the package's allocator returns null for the input, or
            ///   [`OutOfBounds`](crate::ErrorKind::OutOfBounds) if it returns a range outside the memory.
            #[inline]
            pub fn generate(&mut self, input: &str) -> Result<String> {
                self.call(Request::Generate(input))
            }

            /// Generates the output for `input` and lends it to `read` without a copy, before it is freed (rule 8).
            ///
            /// If `read` panics, what the call allocated stays allocated in the guest. The panic has no other effect on
            /// the session.
            ///
            /// # Errors
            ///
            /// As [`Session::generate`].
            #[inline]
            pub fn generate_with<R>(&mut self, input: &str, read: impl FnOnce(&str) -> R) -> Result<R> {
                self.call_with(Request::Generate(input), read)
            }
        }
    };
}

session!([B: Backend, T: 'static] Session<B, T>);
session!([T: 'static] AnySession<T>);

impl<B: Backend, T: Send + 'static, M: Mode> Pool<Package<B, T>, M> {
    /// Generates the output for `input` on a session of the pool.
    ///
    /// # Errors
    ///
    /// As [`Pool::session`] and [`Session::generate`](crate::Session::generate).
    pub fn generate(&self, input: &str) -> Result<String> {
        self.session()?.generate(input)
    }
}

impl<T: Send + 'static, M: Mode> Pool<AnyPackage<T>, M> {
    /// Generates the output for `input` on a session of the pool.
    ///
    /// # Errors
    ///
    /// As [`Pool::session`] and [`Session::generate`](crate::Session::generate).
    pub fn generate(&self, input: &str) -> Result<String> {
        self.session()?.generate(input)
    }
}

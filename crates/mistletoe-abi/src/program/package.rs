//! Packages: programs that a string goes into and a string comes out of.

use crate::backend::Backend;
use crate::error::Result;
use crate::pool::{Mode, Pool};
use crate::program::any::{AnyProgram, AnyProgramSession};
use crate::program::{Program, ProgramSession};
use crate::protocol::package::{PackageInterface, Request};

/// A package compiled for one backend.
pub type Package<B, T = ()> = Program<PackageInterface, B, T>;
/// One live instance of a [`Package`].
pub type Session<B, T = ()> = ProgramSession<PackageInterface, B, T>;
/// A [`Package`] on any backend.
pub type AnyPackage<T = ()> = AnyProgram<PackageInterface, T>;
/// A [`Session`] on any backend.
pub type AnySession<T = ()> = AnyProgramSession<PackageInterface, T>;

impl<B: Backend, T: Send + Default + 'static> Package<B, T> {
    /// Answers one call on a fresh instance with the default state. A fault while freeing is dropped with the instance;
    /// a host that wants to know of it opens a [session](Program::session).
    ///
    /// # Errors
    ///
    /// As [`Program::session`] and [`Session::generate`].
    pub fn generate(&self, input: &str) -> Result<String> {
        self.session()?.generate(input)
    }
}

impl<T: Send + Default + 'static> AnyPackage<T> {
    /// As [`Package::generate`].
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
            /// The package's description of itself (rule 2).
            ///
            /// # Errors
            ///
            /// As [`ProgramSession::call`]; and for a string that cannot be read
            /// [`OutOfBounds`](crate::ErrorKind::OutOfBounds), [`InvalidUtf8`](crate::ErrorKind::InvalidUtf8) or
            /// [`TooLong`](crate::ErrorKind::TooLong).
            pub fn info(&mut self) -> Result<String> {
                self.call(Request::Info)
            }

            /// Has the package answer an input, and copies the answer (rules 3 to 7).
            ///
            /// # Errors
            ///
            /// As [`Session::info`], and [`Allocation`](crate::ErrorKind::Allocation) where the package has no room for
            /// the input.
            #[inline]
            pub fn generate(&mut self, input: &str) -> Result<String> {
                self.call(Request::Generate(input))
            }

            /// Has the package answer an input, and lends the answer to `read` before it is freed, without a copy (rule
            /// 8).
            ///
            /// If `read` panics, what the call allocated stays allocated in the guest; nothing else is harmed.
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
    /// Answers one call on a session of the pool's.
    ///
    /// # Errors
    ///
    /// As [`Pool::session`] and [`Session::generate`](crate::Session::generate).
    pub fn generate(&self, input: &str) -> Result<String> {
        self.session()?.generate(input)
    }
}

impl<T: Send + 'static, M: Mode> Pool<AnyPackage<T>, M> {
    /// Answers one call on a session of the pool's.
    ///
    /// # Errors
    ///
    /// As [`Pool::session`] and [`Session::generate`](crate::Session::generate).
    pub fn generate(&self, input: &str) -> Result<String> {
        self.session()?.generate(input)
    }
}

//! What a host program holds: a package, compiled once, and sessions of it.

use std::fmt;
use std::sync::Arc;

use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::module::{Interface, ValidModule};
use crate::protocol::{self, PackageInstance};

/// A package compiled for one backend. Threads can share it, and cloning it is cheap.
#[derive(Clone)]
pub struct Package<B: Backend> {
    backend: B,
    module: B::Module,
    interface: Arc<Interface>,
    limits: Limits,
}

impl<B: Backend> Package<B> {
    /// Checks and compiles a module in the binary format, with the default [`Limits`].
    ///
    /// # Errors
    ///
    /// Those of [`ValidModule::new`], [`Interface`](ErrorKind::Interface) where it is no package, and
    /// [`Engine`](ErrorKind::Engine).
    pub fn new(backend: &B, wasm: &[u8]) -> Result<Self> {
        Self::with_limits(backend, wasm, Limits::default())
    }

    /// Checks and compiles a module with limits of the host's choice.
    ///
    /// # Errors
    ///
    /// As [`Package::new`].
    pub fn with_limits(backend: &B, wasm: &[u8], limits: Limits) -> Result<Self> {
        let module = ValidModule::new(wasm)?;
        let problems = protocol::problems(module.interface());
        if !problems.is_empty() {
            return Err(ErrorKind::Interface { problems }.into());
        }
        Ok(Self {
            module: backend.compile(&module)?,
            interface: Arc::new(module.into_interface()),
            backend: backend.clone(),
            limits,
        })
    }

    /// What the module imports and exports.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// A fresh instance, initialised and ready for calls (rule 1).
    ///
    /// # Errors
    ///
    /// [`Trap`](ErrorKind::Trap) where the start function, an active segment or `_initialize` trapped, and
    /// [`Engine`](ErrorKind::Engine).
    pub fn session(&self) -> Result<Session<B>> {
        let instance = self.backend.instantiate(&self.module)?;
        Ok(Session { package: PackageInstance::new(instance, &self.interface)?, limits: self.limits.clone() })
    }

    /// Answers one call on a fresh instance. A fault while freeing is dropped with the instance; a host that wants to
    /// know of it opens a [session](Package::session).
    ///
    /// # Errors
    ///
    /// As [`Package::session`] and [`Session::generate`].
    pub fn generate(&self, input: &str) -> Result<String> {
        self.session()?.generate(input)
    }
}

/// One live instance of a package. Its memory stays as the last call left it.
///
/// It is `Send` where the engine's instances are.
pub struct Session<B: Backend> {
    package: PackageInstance<B::Instance>,
    limits: Limits,
}

impl<B: Backend> Session<B> {
    /// The package's description of itself (rule 2).
    ///
    /// # Errors
    ///
    /// [`Trap`](ErrorKind::Trap), [`Poisoned`](ErrorKind::Poisoned), and for a string that cannot be read
    /// [`OutOfBounds`](ErrorKind::OutOfBounds), [`InvalidUtf8`](ErrorKind::InvalidUtf8) or
    /// [`TooLong`](ErrorKind::TooLong).
    pub fn info(&mut self) -> Result<String> {
        self.package.info(&self.limits)
    }

    /// Has the package answer an input, and copies the answer (rules 3 to 7).
    ///
    /// # Errors
    ///
    /// As [`Session::info`], and [`Allocation`](ErrorKind::Allocation) where the package has no room for the input. After
    /// an error other than a trap or an engine's failure the session can be used again.
    pub fn generate(&mut self, input: &str) -> Result<String> {
        self.generate_with(input, str::to_owned)
    }

    /// Has the package answer an input, and lends the answer to `read` before it is freed, without a copy (rule 8).
    ///
    /// If `read` panics, what the call allocated stays allocated in the guest; nothing else is harmed.
    ///
    /// # Errors
    ///
    /// As [`Session::generate`].
    pub fn generate_with<R>(&mut self, input: &str, read: impl FnOnce(&str) -> R) -> Result<R> {
        self.package.generate(input, &self.limits, read)
    }

    /// What poisoned this session, if anything did. After an answered call this is a trap while freeing (rule 7): the
    /// answer was good, the session is at its end.
    pub fn fault(&self) -> Option<&Error> {
        self.package.fault()
    }
}

impl<B: Backend> fmt::Debug for Package<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Package")
            .field("backend", &self.backend.name())
            .field("interface", &self.interface)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> fmt::Debug for Session<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("fault", &self.fault()).field("limits", &self.limits).finish_non_exhaustive()
    }
}

//! A backend chosen at run time. The engine's type is erased once per session: a call of [`AnySession::generate`] costs
//! one virtual call more than [`Session::generate`], however many calls it makes into the guest.

use std::fmt;
use std::sync::Arc;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::module::Interface;
use crate::package::{Package, Session};

/// Any [`Backend`].
#[derive(Clone)]
pub struct AnyBackend(Arc<dyn DynBackend>);

/// A [`Package`] compiled for any backend.
#[derive(Clone)]
pub struct AnyPackage(Arc<dyn DynPackage>);

/// A [`Session`] of a package on any backend. It stays on its thread, since one engine's instances must.
pub struct AnySession(Box<dyn DynSession>);

trait DynBackend: Send + Sync {
    fn name(&self) -> &'static str;
    fn package(&self, wasm: &[u8], limits: Limits) -> Result<AnyPackage>;
}

trait DynPackage: Send + Sync {
    fn interface(&self) -> &Interface;
    fn session(&self) -> Result<AnySession>;
}

trait DynSession {
    fn info(&mut self) -> Result<String>;
    fn generate_with(&mut self, input: &str, read: &mut dyn FnMut(&str)) -> Result<()>;
    fn fault(&self) -> Option<&Error>;
}

impl<B: Backend> DynBackend for B {
    fn name(&self) -> &'static str {
        Backend::name(self)
    }

    fn package(&self, wasm: &[u8], limits: Limits) -> Result<AnyPackage> {
        Ok(AnyPackage(Arc::new(Package::with_limits(self, wasm, limits)?)))
    }
}

impl<B: Backend> DynPackage for Package<B> {
    fn interface(&self) -> &Interface {
        self.interface()
    }

    fn session(&self) -> Result<AnySession> {
        Ok(AnySession(Box::new(self.session()?)))
    }
}

impl<B: Backend> DynSession for Session<B> {
    fn info(&mut self) -> Result<String> {
        self.info()
    }

    fn generate_with(&mut self, input: &str, read: &mut dyn FnMut(&str)) -> Result<()> {
        self.generate_with(input, read)
    }

    fn fault(&self) -> Option<&Error> {
        self.fault()
    }
}

impl AnyBackend {
    /// Erases the type of a backend.
    pub fn new(backend: impl Backend) -> Self {
        Self(Arc::new(backend))
    }

    /// See [`Backend::name`].
    pub fn name(&self) -> &'static str {
        self.0.name()
    }
}

impl AnyPackage {
    /// See [`Package::new`].
    ///
    /// # Errors
    ///
    /// As [`Package::new`].
    pub fn new(backend: &AnyBackend, wasm: &[u8]) -> Result<Self> {
        Self::with_limits(backend, wasm, Limits::default())
    }

    /// See [`Package::with_limits`].
    ///
    /// # Errors
    ///
    /// As [`Package::new`].
    pub fn with_limits(backend: &AnyBackend, wasm: &[u8], limits: Limits) -> Result<Self> {
        backend.0.package(wasm, limits)
    }

    /// See [`Package::interface`].
    pub fn interface(&self) -> &Interface {
        self.0.interface()
    }

    /// See [`Package::session`].
    ///
    /// # Errors
    ///
    /// As [`Package::session`].
    pub fn session(&self) -> Result<AnySession> {
        self.0.session()
    }

    /// See [`Package::generate`].
    ///
    /// # Errors
    ///
    /// As [`Package::generate`].
    pub fn generate(&self, input: &str) -> Result<String> {
        self.session()?.generate(input)
    }
}

impl AnySession {
    /// See [`Session::info`].
    ///
    /// # Errors
    ///
    /// As [`Session::info`].
    pub fn info(&mut self) -> Result<String> {
        self.0.info()
    }

    /// See [`Session::generate`].
    ///
    /// # Errors
    ///
    /// As [`Session::generate`].
    pub fn generate(&mut self, input: &str) -> Result<String> {
        let mut answer = String::new();
        self.0.generate_with(input, &mut |output| output.clone_into(&mut answer))?;
        Ok(answer)
    }

    /// See [`Session::generate_with`].
    ///
    /// # Errors
    ///
    /// As [`Session::generate`].
    pub fn generate_with<R>(&mut self, input: &str, read: impl FnOnce(&str) -> R) -> Result<R> {
        let mut read = Some(read);
        let mut answer = None;
        self.0.generate_with(input, &mut |output| answer = read.take().map(|read| read(output)))?;
        match answer {
            Some(answer) => Ok(answer),
            // `Session::generate_with` calls its closure before it answers `Ok`.
            None => unreachable!("an answer that was never read"),
        }
    }

    /// See [`Session::fault`].
    pub fn fault(&self) -> Option<&Error> {
        self.0.fault()
    }
}

impl fmt::Debug for AnyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyBackend").field(&self.name()).finish()
    }
}

impl fmt::Debug for AnyPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyPackage").field("interface", self.interface()).finish_non_exhaustive()
    }
}

impl fmt::Debug for AnySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnySession").field("fault", &self.fault()).finish_non_exhaustive()
    }
}

//! What the cases are run on: something that loads packages and has sessions of them.
//!
//! A backend is all that a user of this suite has to bring: [`AnyBackend`] is a [`Host`]. The traits are here so that the
//! suite can be tried on hosts that do things wrong.

use mistletoe_abi::{AnyBackend, AnyPackage, AnySession, Error, Limits, Result};

/// Loads packages.
pub trait Host: Send + Sync {
    /// The name in reports.
    fn name(&self) -> &str;

    /// Checks and compiles a module.
    ///
    /// # Errors
    ///
    /// As [`AnyPackage::with_limits`].
    fn load(&self, wasm: &[u8], limits: Limits) -> Result<Box<dyn HostPackage>>;
}

/// A loaded package, which threads share.
pub trait HostPackage: Send + Sync {
    /// Opens a session.
    ///
    /// # Errors
    ///
    /// As [`AnyPackage::session`].
    fn open(&self) -> Result<Box<dyn HostSession>>;
}

/// A session, which stays on its thread.
pub trait HostSession {
    /// Asks for the package's description.
    ///
    /// # Errors
    ///
    /// As [`AnySession::info`].
    fn info(&mut self) -> Result<String>;

    /// Hands over an input.
    ///
    /// # Errors
    ///
    /// As [`AnySession::generate`].
    fn generate(&mut self, input: &str) -> Result<String>;

    /// Hands over an input, and reads the output where it lies.
    ///
    /// # Errors
    ///
    /// As [`AnySession::generate_with`].
    fn borrow(&mut self, input: &str, read: &mut dyn FnMut(&str)) -> Result<()> {
        self.generate(input).map(|output| read(&output))
    }

    /// What has poisoned the session.
    fn fault(&self) -> Option<Error>;
}

impl Host for AnyBackend {
    fn name(&self) -> &str {
        self.name()
    }

    fn load(&self, wasm: &[u8], limits: Limits) -> Result<Box<dyn HostPackage>> {
        Ok(Box::new(AnyPackage::with_limits(self, wasm, limits)?))
    }
}

impl HostPackage for AnyPackage {
    fn open(&self) -> Result<Box<dyn HostSession>> {
        Ok(Box::new(self.session()?))
    }
}

impl HostSession for AnySession {
    fn info(&mut self) -> Result<String> {
        self.info()
    }

    fn generate(&mut self, input: &str) -> Result<String> {
        self.generate(input)
    }

    fn borrow(&mut self, input: &str, read: &mut dyn FnMut(&str)) -> Result<()> {
        self.generate_with(input, read)
    }

    fn fault(&self) -> Option<Error> {
        self.fault().cloned()
    }
}

//! What a host program holds: a package, compiled once, and sessions of it.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::host::{Imports, StoreData};
use crate::limits::Limits;
use crate::module::Interface;
use crate::program::{Checked, Program};
use crate::protocol::package::{PackageInstance, problems};

/// A package compiled for one backend. Threads can share it, and cloning it is cheap.
///
/// Its sessions have a state of type `T`, which the host functions that it was linked with work on.
pub struct Package<B: Backend, T = ()> {
    program: Program<B>,
    state: PhantomData<fn(T) -> T>,
}

impl<B: Backend> Package<B> {
    /// Checks and compiles a module in the binary format that imports nothing, with the default [`Limits`].
    ///
    /// # Errors
    ///
    /// As [`Package::with_imports`].
    pub fn new(backend: &B, wasm: &[u8]) -> Result<Self> {
        Self::with_imports(backend, wasm, &Imports::new(), Limits::default())
    }
}

impl<B: Backend, T: Send + 'static> Package<B, T> {
    /// Checks and compiles a module in the binary format, and links it with those of the imports that it asks for.
    ///
    /// # Errors
    ///
    /// Those of [`ModuleSource::validate`](crate::ModuleSource::validate),
    /// [`Interface`](crate::ErrorKind::Interface) where it is no package or imports what is not offered, and
    /// [`Engine`](crate::ErrorKind::Engine).
    pub fn with_imports(backend: &B, wasm: &[u8], imports: &Imports<T>, limits: Limits) -> Result<Self> {
        Self::compile(backend, Checked::new(wasm, problems, |_| (), imports, limits)?)
    }

    pub(crate) fn compile(backend: &B, checked: Checked<'_>) -> Result<Self> {
        Ok(Self { program: Program::compile(backend, checked)?, state: PhantomData })
    }

    /// What the module imports and exports.
    pub fn interface(&self) -> &Interface {
        self.program.interface()
    }

    /// The same package, not compiled again, whose sessions have other limits: on time, on fuel, and on the length of
    /// inputs and outputs.
    ///
    /// # Errors
    ///
    /// [`FixedLimit`](crate::ErrorKind::FixedLimit) where another limit differs from what it was compiled with, or where
    /// time or fuel is to be limited and its code does not count it.
    pub fn with_limits(&self, limits: Limits) -> Result<Self> {
        Ok(Self { program: self.program.with_limits(limits)?, state: PhantomData })
    }

    /// A fresh instance, initialised and ready for calls (rule 1), whose state is the default.
    ///
    /// # Errors
    ///
    /// As [`Package::session_with`].
    pub fn session(&self) -> Result<Session<B, T>>
    where
        T: Default,
    {
        self.session_with(T::default())
    }

    /// A fresh instance, initialised and ready for calls (rule 1), with a state for its host functions.
    ///
    /// # Errors
    ///
    /// [`Trap`](crate::ErrorKind::Trap) where the start function, an active segment, `_initialize` or `_start` trapped, what a
    /// host function gave that was called from there, the limits' errors as in [`Session::info`], and [`Engine`](crate::ErrorKind::Engine).
    pub fn session_with(&self, state: T) -> Result<Session<B, T>> {
        self.open(Box::new(state))
    }

    pub(crate) fn open(&self, state: Box<dyn Any + Send>) -> Result<Session<B, T>> {
        let package = PackageInstance::new(self.program.reactor(state, Box::new(()))?)?;
        Ok(Session { package, limits: *self.program.limits(), state: PhantomData })
    }

    /// Answers one call on a fresh instance with the default state. A fault while freeing is dropped with the instance;
    /// a host that wants to know of it opens a [session](Package::session).
    ///
    /// # Errors
    ///
    /// As [`Package::session`] and [`Session::generate`].
    pub fn generate(&self, input: &str) -> Result<String>
    where
        T: Default,
    {
        self.session()?.generate(input)
    }
}

/// One live instance of a package. Its memory stays as the last call left it.
///
/// It is `Send` where the engine's instances are.
pub struct Session<B: Backend, T = ()> {
    package: PackageInstance<B::Instance>,
    limits: Limits,
    state: PhantomData<Cell<T>>,
}

impl<B: Backend, T: 'static> Session<B, T> {
    /// The package's description of itself (rule 2).
    ///
    /// # Errors
    ///
    /// [`Trap`](crate::ErrorKind::Trap); the limits' [`TimedOut`](crate::ErrorKind::TimedOut),
    /// [`OutOfFuel`](crate::ErrorKind::OutOfFuel) and [`TooDeep`](crate::ErrorKind::TooDeep); what a host function gave
    /// ([`Host`](crate::ErrorKind::Host),
    /// [`HostPanic`](crate::ErrorKind::HostPanic), [`Exit`](crate::ErrorKind::Exit) and others);
    /// [`Poisoned`](crate::ErrorKind::Poisoned) after either; and for a string that cannot be read
    /// [`OutOfBounds`](crate::ErrorKind::OutOfBounds), [`InvalidUtf8`](crate::ErrorKind::InvalidUtf8) or
    /// [`TooLong`](crate::ErrorKind::TooLong).
    pub fn info(&mut self) -> Result<String> {
        self.package.guest_mut().begin()?;
        self.package.info(&self.limits)
    }

    /// Has the package answer an input, and copies the answer (rules 3 to 7).
    ///
    /// # Errors
    ///
    /// As [`Session::info`], and [`Allocation`](crate::ErrorKind::Allocation) where the package has no room for the
    /// input. After an error that did not come from inside a call the session can be used again;
    /// [`Session::fault`] tells.
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
        self.package.guest_mut().begin()?;
        self.package.generate(input, &self.limits, read)
    }

    /// How much [fuel](Limits::fuel) the latest call has used, also where it failed; `None` where fuel is not counted.
    /// Before the first call, it is what opening the session took.
    ///
    /// # Errors
    ///
    /// [`Engine`](crate::ErrorKind::Engine).
    pub fn fuel_used(&mut self) -> Result<Option<u64>> {
        self.package.guest_mut().fuel_used()
    }

    /// What poisoned this session, if anything did. After an answered call this is a trap while freeing (rule 7): the
    /// answer was good, the session is at its end.
    pub fn fault(&self) -> Option<&Error> {
        self.package.guest().fault()
    }

    /// The state that host functions work on.
    pub fn state(&self) -> &T {
        self.data().state()
    }

    /// The state that host functions work on, to be changed between calls.
    pub fn state_mut(&mut self) -> &mut T {
        self.data_mut().state_mut()
    }

    pub(crate) fn data(&self) -> &StoreData {
        self.package.guest().data()
    }

    pub(crate) fn data_mut(&mut self) -> &mut StoreData {
        self.package.guest_mut().data_mut()
    }
}

impl<B: Backend, T> Session<B, T> {
    /// Whether it can answer another call, as far as can be known before.
    pub(crate) fn is_usable(&self) -> bool {
        self.package.guest().fault().is_none()
    }
}

impl<B: Backend, T> Clone for Package<B, T> {
    fn clone(&self) -> Self {
        Self { program: self.program.clone(), state: PhantomData }
    }
}

impl<B: Backend, T> fmt::Debug for Package<B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Package")
            .field("backend", &self.program.backend().name())
            .field("interface", &self.program.interface())
            .field("limits", self.program.limits())
            .finish_non_exhaustive()
    }
}

impl<B: Backend, T> fmt::Debug for Session<B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("fault", &self.package.guest().fault())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

//! What a host program holds to have plugins answer requests.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::host::Imports;
use crate::limits::Limits;
use crate::module::Interface;
use crate::program::{Checked, Program};
use crate::protocol::httpwasm::{self, Delimiter, Exchange, HttpInstance, Output};
use crate::types::Problem;

/// A plugin of the httpwasm interface, compiled for one backend. Threads can share it, and cloning it is cheap.
///
/// Its sessions have a state of type `T`, which the host functions that it was linked with work on.
pub struct Handler<B: Backend, T = ()> {
    program: Program<B>,
    delimiter: Delimiter,
    state: PhantomData<fn(T) -> T>,
}

impl<B: Backend> Handler<B> {
    /// Checks and compiles a module in the binary format that imports nothing but the interface's own functions, with
    /// the default [`Limits`].
    ///
    /// # Errors
    ///
    /// As [`Handler::with_imports`].
    pub fn new(backend: &B, wasm: &[u8]) -> Result<Self> {
        Self::with_imports(backend, wasm, &Imports::new(), Limits::default())
    }
}

impl<B: Backend, T: Send + 'static> Handler<B, T> {
    /// Checks and compiles a module in the binary format, and links it with the interface's own functions and with
    /// those of the imports that it asks for.
    ///
    /// # Errors
    ///
    /// As [`Package::with_imports`](crate::Package::with_imports).
    pub fn with_imports(backend: &B, wasm: &[u8], imports: &Imports<T>, limits: Limits) -> Result<Self> {
        let checked = Checked::new(wasm, httpwasm::problems, httpwasm::offer, imports, limits)?;
        let program = Program::compile(backend, checked)?;
        Ok(Self { program, delimiter: Delimiter::default(), state: PhantomData })
    }

    /// Everything in which a module is no plugin that `imports` are enough for; empty if it is one.
    pub fn problems(interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        Checked::problems(interface, httpwasm::problems, httpwasm::offer, imports).1
    }

    /// The same handler for inputs whose records end otherwise than in a line feed.
    pub fn delimiter(mut self, delimiter: Delimiter) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// What the module imports and exports.
    pub fn interface(&self) -> &Interface {
        self.program.interface()
    }

    /// The same handler, not compiled again, with other limits: see [`Package::with_limits`](crate::Package::with_limits).
    ///
    /// # Errors
    ///
    /// As [`Package::with_limits`](crate::Package::with_limits).
    pub fn with_limits(&self, limits: Limits) -> Result<Self> {
        Ok(Self { program: self.program.with_limits(limits)?, delimiter: self.delimiter, state: PhantomData })
    }

    /// A fresh instance, initialised and ready for requests, with a state for its host functions.
    ///
    /// # Errors
    ///
    /// As [`Package::session_with`](crate::Package::session_with).
    pub fn session_with(&self, state: T) -> Result<HandlerSession<B, T>> {
        let exchange = Exchange::new(self.delimiter, self.program.limits());
        let guest = self.program.reactor(Box::new(state), Box::new(exchange))?;
        Ok(HandlerSession { handler: HttpInstance::new(guest, self.interface())?, state: PhantomData })
    }

    /// Answers one request on a fresh instance with the default state.
    ///
    /// # Errors
    ///
    /// As [`Handler::session_with`] and [`HandlerSession::run`].
    pub fn run(&self, input: &[u8]) -> Result<Output>
    where
        T: Default,
    {
        self.session_with(T::default())?.run(input)
    }
}

/// One live instance of a plugin. Its memory stays as the last request left it.
///
/// It is `Send` where the engine's instances are.
pub struct HandlerSession<B: Backend, T = ()> {
    handler: HttpInstance<B::Instance>,
    state: PhantomData<Cell<T>>,
}

impl<B: Backend, T: 'static> HandlerSession<B, T> {
    /// Has the plugin answer a request.
    ///
    /// # Errors
    ///
    /// [`Trap`](crate::ErrorKind::Trap); the limits' errors as in [`Session::info`](crate::Session::info); what a host
    /// function gave, among them
    /// [`TooLong`](crate::ErrorKind::TooLong) for more output than the limit; [`Poisoned`](crate::ErrorKind::Poisoned)
    /// after either; and [`Allocation`](crate::ErrorKind::Allocation) or
    /// [`OutOfBounds`](crate::ErrorKind::OutOfBounds) where the plugin has no room for its input.
    pub fn run(&mut self, input: &[u8]) -> Result<Output> {
        self.handler.guest_mut().begin()?;
        self.handler.run(input)?;
        Ok(self.handler.take_output())
    }

    /// What the latest request's answer was when it failed; empty where it did not.
    pub fn unfinished(&mut self) -> Output {
        self.handler.take_output()
    }

    /// How much [fuel](Limits::fuel) the latest request has used, also where it failed; `None` where fuel is not counted.
    ///
    /// # Errors
    ///
    /// [`Engine`](crate::ErrorKind::Engine).
    pub fn fuel_used(&mut self) -> Result<Option<u64>> {
        self.handler.guest_mut().fuel_used()
    }

    /// What poisoned this session, if anything did. After an answered request this is a trap while freeing: the answer
    /// was good, the session is at its end.
    pub fn fault(&self) -> Option<&Error> {
        self.handler.guest().fault()
    }

    /// The state that host functions work on.
    pub fn state(&self) -> &T {
        self.handler.guest().data().state()
    }

    /// The state that host functions work on, to be changed between requests.
    pub fn state_mut(&mut self) -> &mut T {
        self.handler.guest_mut().data_mut().state_mut()
    }
}

impl<B: Backend, T> Clone for Handler<B, T> {
    fn clone(&self) -> Self {
        Self { program: self.program.clone(), delimiter: self.delimiter, state: PhantomData }
    }
}

impl<B: Backend, T> fmt::Debug for Handler<B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("backend", &self.program.backend().name())
            .field("interface", &self.program.interface())
            .field("limits", self.program.limits())
            .field("delimiter", &self.delimiter)
            .finish_non_exhaustive()
    }
}

impl<B: Backend, T> fmt::Debug for HandlerSession<B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerSession").field("fault", &self.handler.guest().fault()).finish_non_exhaustive()
    }
}

//! What a host program holds to run WASI commands.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use crate::backend::Backend;
use crate::error::Result;
use crate::guest::Guest;
use crate::host::Imports;
use crate::limits::Limits;
use crate::module::Interface;
use crate::program::{Checked, Program};
use crate::protocol::command;
use crate::types::Problem;

/// A WASI command compiled for one backend: a program that runs once, from `_start` to its exit. Threads can share it,
/// and cloning it is cheap.
///
/// What it can do is in its imports; the crate `mistletoe-wasi` has those of WASI preview 1.
pub struct Command<B: Backend, T = ()> {
    program: Program<B>,
    state: PhantomData<fn(T) -> T>,
}

impl<B: Backend, T: Send + 'static> Command<B, T> {
    /// Checks and compiles a module in the binary format, and links it with those of the imports that it asks for.
    ///
    /// # Errors
    ///
    /// As [`Package::with_imports`](crate::Package::with_imports).
    pub fn with_imports(backend: &B, wasm: &[u8], imports: &Imports<T>, limits: Limits) -> Result<Self> {
        let checked = Checked::new(wasm, command::problems, |_| (), imports, limits)?;
        Ok(Self { program: Program::compile(backend, checked)?, state: PhantomData })
    }

    /// Everything in which a module is no command that `imports` are enough for; empty if it is one.
    pub fn problems(interface: &Interface, imports: &Imports<T>) -> Vec<Problem> {
        Checked::problems(interface, command::problems, |_| (), imports).1
    }

    /// What the module imports and exports.
    pub fn interface(&self) -> &Interface {
        self.program.interface()
    }

    /// The same command, not compiled again, with other limits: see [`Package::with_limits`](crate::Package::with_limits).
    ///
    /// # Errors
    ///
    /// As [`Package::with_limits`](crate::Package::with_limits).
    pub fn with_limits(&self, limits: Limits) -> Result<Self> {
        Ok(Self { program: self.program.with_limits(limits)?, state: PhantomData })
    }

    /// A fresh instance that has not run yet, with a state for its host functions.
    ///
    /// # Errors
    ///
    /// As [`Package::session_with`](crate::Package::session_with).
    pub fn session_with(&self, state: T) -> Result<CommandSession<B, T>> {
        let guest = self.program.instantiate(Box::new(state), Box::new(()))?;
        Ok(CommandSession { guest, state: PhantomData })
    }
}

/// An instance of a command. It runs once.
///
/// It is `Send` where the engine's instances are.
pub struct CommandSession<B: Backend, T = ()> {
    guest: Guest<B::Instance>,
    state: PhantomData<Cell<T>>,
}

impl<B: Backend, T: 'static> CommandSession<B, T> {
    /// Runs the program. Gives the code that it exits with, 0 where `_start` simply returns, and the state as the program
    /// left it.
    ///
    /// # Errors
    ///
    /// [`Trap`](crate::ErrorKind::Trap), the limits' errors as in [`Session::info`](crate::Session::info), what a host
    /// function gave, and [`Engine`](crate::ErrorKind::Engine).
    pub fn run(mut self) -> (Result<u32>, T) {
        let result = self.guest.begin().and_then(|()| command::run(&mut self.guest));
        (result, self.guest.data_mut().take_state())
    }

    /// The state that host functions work on.
    pub fn state(&self) -> &T {
        self.guest.data().state()
    }
}

impl<B: Backend, T> Clone for Command<B, T> {
    fn clone(&self) -> Self {
        Self { program: self.program.clone(), state: PhantomData }
    }
}

impl<B: Backend, T> fmt::Debug for Command<B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("backend", &self.program.backend().name())
            .field("interface", &self.program.interface())
            .finish_non_exhaustive()
    }
}

impl<B: Backend, T> fmt::Debug for CommandSession<B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSession").finish_non_exhaustive()
    }
}

//! WASI commands: programs that run once, from `_start` to their exit.

use crate::any::{AnyProgram, AnyProgramSession};
use crate::backend::{Backend, Instance};
use crate::error::Result;
use crate::guest::{Func, Guest};
use crate::limits::Limits;
use crate::program::{Program, ProgramSession};
use crate::protocol::{Check, Protocol, START};

/// A WASI command compiled for one backend.
///
/// What it can do is in its imports; the crate `mistletoe-wasi` has those of WASI preview 1.
pub type Command<B, T = ()> = Program<WasiCommand, B, T>;
/// An instance of a [`Command`].
pub type CommandSession<B, T = ()> = ProgramSession<WasiCommand, B, T>;
/// A [`Command`] on any backend.
pub type AnyCommand<T = ()> = AnyProgram<WasiCommand, T>;
/// A [`CommandSession`] on any backend.
pub type AnyCommandSession<T = ()> = AnyProgramSession<WasiCommand, T>;

/// The protocol of WASI commands. A guest is asked once.
#[derive(Clone, Copy, Debug, Default)]
pub struct WasiCommand;

impl Protocol for WasiCommand {
    type Exports<F: Send + Sync + 'static> = Func<F, (), ()>;
    type Store = ();
    type Request<'a> = ();
    /// The code that the program exits with: 0 where it simply returns.
    type Response<'a> = u32;
    type Output = u32;

    const INITIALIZES: bool = false;

    fn check(&self, exports: &mut Check<'_>) {
        exports.func(&START);
    }

    fn store(&self, _: &Limits) {}

    fn resolve<I: Instance>(&self, guest: &mut Guest<I>) -> Result<Func<I::Func, (), ()>> {
        guest.resolve(&START)
    }

    fn call<I: Instance, R>(
        start: &Func<I::Func, (), ()>,
        guest: &mut Guest<I>,
        (): (),
        respond: impl FnOnce(u32) -> R,
    ) -> Result<R> {
        match guest.call(start, ()) {
            Ok(()) => Ok(respond(0)),
            Err(error) => error.exit_code().map(respond).ok_or(error),
        }
    }
}

macro_rules! session {
    ([$($generics:tt)*] $session:ty) => {
        impl<$($generics)*> $session {
            /// Runs the program. Gives the code that it exits with, 0 where `_start` simply returns, and the state as the
            /// program left it.
            ///
            /// # Errors
            ///
            /// As [`ProgramSession::call`].
            pub fn run(mut self) -> (Result<u32>, T) {
                let result = self.call(());
                (result, self.into_state())
            }
        }
    };
}

session!([B: Backend, T: 'static] CommandSession<B, T>);
session!([T: 'static] AnyCommandSession<T>);

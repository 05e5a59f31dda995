//! WASI commands as programs.

use crate::backend::Backend;
use crate::error::Result;
use crate::program::any::{AnyProgram, AnyProgramSession};
use crate::program::{Program, ProgramSession};
use crate::protocol::command::WasiCommand;

/// A WASI command compiled for one backend.
///
/// Its imports decide what it can do. The crate `mistletoe-wasi` provides those of WASI preview 1.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::{Backend, Command, Imports, Limits, Result};
///
/// /// Runs a program with the functions of `imports`, and returns its exit code and its state.
/// fn run<B: Backend, T: Send + 'static>(
///     backend: &B,
///     wasm: &[u8],
///     imports: &Imports<T>,
///     state: T,
/// ) -> Result<(u32, T)> {
///     let command = Command::with_imports(backend, wasm, imports, Limits::default())?;
///     let (code, state) = command.session_with(state)?.run();
///     Ok((code?, state))
/// }
/// ```
pub type Command<B, T = ()> = Program<WasiCommand, B, T>;
/// An instance of a [`Command`].
pub type CommandSession<B, T = ()> = ProgramSession<WasiCommand, B, T>;
/// A [`Command`] on any backend.
pub type AnyCommand<T = ()> = AnyProgram<WasiCommand, T>;
/// A [`CommandSession`] on any backend.
pub type AnyCommandSession<T = ()> = AnyProgramSession<WasiCommand, T>;

macro_rules! session {
    ([$($generics:tt)*] $session:ty) => {
        impl<$($generics)*> $session {
            /// Runs the program. Returns its exit code and the state as the program left it.
            ///
            /// The exit code is 0 if `_start` returns.
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

//! WASI commands: programs that run once, from `_start` to their exit.

use crate::backend::instance::Instance;
use crate::error::Result;
use crate::guest::export::START;
use crate::guest::{Func, Guest};
use crate::limits::Limits;
use crate::protocol::check::Check;
use crate::protocol::traits::Protocol;

/// The protocol of WASI commands. A guest gets one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct WasiCommand;

impl Protocol for WasiCommand {
    type Exports<F: Send + Sync + 'static> = Func<F, (), ()>;
    type Store = ();
    type Request<'a> = ();
    /// The exit code of the program: 0 if `_start` returns.
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

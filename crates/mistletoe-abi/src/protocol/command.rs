//! WASI commands: programs that run once, from `_start` to their exit.

use crate::backend::Instance;
use crate::error::Result;
use crate::guest::Guest;
use crate::module::Interface;
use crate::protocol::{Check, START};
use crate::types::Problem;

/// Everything in which a module's exports do not fit a WASI command; empty if it is one.
pub fn problems(interface: &Interface) -> Vec<Problem> {
    Check::new(interface).func(&START).problems()
}

/// Runs a program, and gives the code it exits with: 0 where it simply returns.
pub(crate) fn run<I: Instance>(guest: &mut Guest<I>) -> Result<u32> {
    let start = guest.resolve(&START)?;
    match guest.call(&start, []) {
        Ok(_) => Ok(0),
        Err(error) => error.exit_code().ok_or(error),
    }
}

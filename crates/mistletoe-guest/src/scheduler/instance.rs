//! An instance of a plugin, as the host calls it.

use alloc::vec::Vec;
use core::cell::RefCell;

use super::{Cycle, Severity, host, log};
use crate::Error;

/// The plugin in a static, which only a module without threads may have.
#[derive(Debug)]
pub struct Instance<P> {
    new: fn(Vec<u8>) -> Result<P, Error>,
    started: RefCell<Option<(P, Cycle)>>,
}

// SAFETY: the crate does not compile for WebAssembly with threads, so there is one thread.
unsafe impl<P> Sync for Instance<P> {}

impl<P> Instance<P> {
    /// Returns an instance that was not started.
    pub const fn new(new: fn(Vec<u8>) -> Result<P, Error>) -> Self {
        Self { new, started: RefCell::new(None) }
    }

    /// Calls a function of the plugin. Hosts that do not call `_initialize` start it by the first call.
    pub fn call<R>(&self, call: impl FnOnce(&mut P, &mut Cycle) -> R) -> R {
        crate::__private::start(report, super::log::install);
        let mut started = self.started.borrow_mut();
        let (plugin, cycle) = started.get_or_insert_with(|| match (self.new)(host::get(host::get_config)) {
            Ok(plugin) => (plugin, Cycle::default()),
            Err(error) => {
                log(Severity::Fatal, error);
                crate::__private::trap()
            }
        });
        call(plugin, cycle)
    }
}

/// Reports a panic: to the log, and for the reason of the failure.
fn report(message: &str) {
    log(Severity::Error, message);
    crate::wasi::write_stderr(message);
}

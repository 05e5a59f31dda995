//! An instance of middleware, as the host calls it.

use core::cell::RefCell;
use core::fmt::Display;

use super::{Action, Level, Middleware, Request, Response, enable, host, log};
use crate::memory::fill;

/// The middleware in a static, which only a module without threads may have.
#[derive(Debug)]
pub struct Instance<M>(RefCell<Option<M>>);

// SAFETY: the crate does not compile for WebAssembly with threads, so there is one thread.
unsafe impl<M> Sync for Instance<M> {}

impl<M: Middleware> Instance<M> {
    /// Returns an instance that was not started.
    pub const fn empty() -> Self {
        Self(RefCell::new(None))
    }

    /// Creates the middleware.
    pub fn start(&self) {
        crate::__private::start(report, install_log);
        if let Some(missing) = M::FEATURES.iter().find(|feature| !enable(**feature)) {
            fail(format_args!("the host does not support the feature {missing:?}"));
        }
        // SAFETY: the host writes at most as many bytes as the buffer has.
        let config = fill(|buffer, limit| unsafe { host::get_config(buffer, limit) });
        match M::new(config) {
            Ok(middleware) => *self.0.borrow_mut() = Some(middleware),
            Err(error) => fail(error),
        }
    }

    /// Handles the request. Returns the context in the upper half, and in the lower whether the request goes on.
    pub fn handle_request(&self) -> u64 {
        let action = self.with(|middleware| {
            middleware.handle_request(&mut const { Request::CURRENT }, &mut const { Response::CURRENT })
        });
        match action {
            Action::Next(context) => u64::from(context) << 32 | 1,
            Action::Respond => 0,
        }
    }

    /// Handles the response, with what the host passes.
    pub fn handle_response(&self, context: u32, failed: u32) {
        self.with(|middleware| {
            middleware.handle_response(context, &Request::CURRENT, &mut const { Response::CURRENT }, failed != 0);
        });
    }

    fn with<R>(&self, call: impl FnOnce(&mut M) -> R) -> R {
        match &mut *self.0.borrow_mut() {
            Some(middleware) => call(middleware),
            None => fail("the host has not called `_start`"),
        }
    }
}

fn report(message: &str) {
    log(Level::Error, message);
}

/// Ends the call.
fn fail(error: impl Display) -> ! {
    log(Level::Error, error);
    crate::__private::trap()
}

/// Sends the messages of the crate `log` to the host's log, at the levels that the host logs.
fn install_log() {
    #[cfg(feature = "log")]
    {
        use ::log::{LevelFilter, Log, Metadata, Record, set_logger, set_max_level};

        struct Logger;

        impl Log for Logger {
            fn enabled(&self, _: &Metadata<'_>) -> bool {
                true
            }

            fn log(&self, record: &Record<'_>) {
                let level = match record.level() {
                    ::log::Level::Error => Level::Error,
                    ::log::Level::Warn => Level::Warn,
                    ::log::Level::Info => Level::Info,
                    ::log::Level::Debug | ::log::Level::Trace => Level::Debug,
                };
                log(level, format_args!("{}: {}", record.target(), record.args()));
            }

            fn flush(&self) {}
        }

        // The lowest level that the host logs.
        let levels = [
            (Level::Debug, LevelFilter::Debug),
            (Level::Info, LevelFilter::Info),
            (Level::Warn, LevelFilter::Warn),
            (Level::Error, LevelFilter::Error),
        ];
        // SAFETY: a number.
        let mut logged = levels.into_iter().filter(|(level, _)| unsafe { host::log_enabled(*level as i32) != 0 });
        // The author may have set another one.
        if set_logger(&Logger).is_ok() {
            set_max_level(logged.next().map_or(LevelFilter::Off, |(_, filter)| filter));
        }
    }
}

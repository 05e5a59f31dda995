//! Spans for `tracing`, if the feature of that name is on. If it is off, they do nothing.
//!
//! A span of a call takes its engine's name as a closure: reaching an instance's data takes some engines 50 instructions.

#[cfg(feature = "tracing")]
pub(crate) use on::{call, compile, export, instantiate};

#[cfg(not(feature = "tracing"))]
pub(crate) use off::{call, compile, export, instantiate};

#[cfg(feature = "tracing")]
mod on {
    use std::time::Instant;

    use tracing::field::Empty;
    use tracing::span::EnteredSpan;
    use tracing::{Span, debug_span, trace_span};

    use crate::error::Result;

    /// A span that is entered until this is dropped.
    pub(crate) struct Scope {
        span: EnteredSpan,
        /// Set only if the span is enabled.
        begun: Option<Instant>,
    }

    pub(crate) fn compile(engine: &str, bytes: usize) -> Scope {
        Scope::new(debug_span!(target: "mistletoe", "compile", engine, bytes, duration_us = Empty, error = Empty))
    }

    pub(crate) fn instantiate(engine: &str) -> Scope {
        Scope::new(
            debug_span!(target: "mistletoe", "instantiate", engine, fuel = Empty, duration_us = Empty, error = Empty),
        )
    }

    pub(crate) fn call(engine: impl FnOnce() -> &'static str) -> Scope {
        Scope::new(
            debug_span!(target: "mistletoe", "call", engine = engine(), fuel = Empty, duration_us = Empty, error = Empty),
        )
    }

    pub(crate) fn export(engine: impl FnOnce() -> &'static str, export: &str) -> Scope {
        Scope::new(
            trace_span!(target: "mistletoe", "export", engine = engine(), export, duration_us = Empty, error = Empty),
        )
    }

    impl Scope {
        fn new(span: Span) -> Self {
            let begun = (!span.is_disabled()).then(Instant::now);
            Self { span: span.entered(), begun }
        }

        /// Records the fuel used. `fuel` is called only if the span is enabled.
        pub(crate) fn fuel(&self, fuel: impl FnOnce() -> Result<Option<u64>>) {
            if self.begun.is_some()
                && let Ok(Some(fuel)) = fuel()
            {
                self.span.record("fuel", fuel);
            }
        }

        pub(crate) fn ended<T>(&self, result: Result<T>) -> Result<T> {
            if self.begun.is_some()
                && let Err(error) = &result
            {
                self.span.record("error", tracing::field::display(error));
            }
            result
        }
    }

    impl Drop for Scope {
        fn drop(&mut self) {
            if let Some(begun) = self.begun {
                self.span.record("duration_us", u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use crate::error::Result;

    pub(crate) struct Scope;

    #[inline(always)]
    pub(crate) fn compile(_engine: &str, _bytes: usize) -> Scope {
        Scope
    }

    #[inline(always)]
    pub(crate) fn instantiate(_engine: &str) -> Scope {
        Scope
    }

    #[inline(always)]
    pub(crate) fn call(_engine: impl FnOnce() -> &'static str) -> Scope {
        Scope
    }

    #[inline(always)]
    pub(crate) fn export(_engine: impl FnOnce() -> &'static str, _export: &str) -> Scope {
        Scope
    }

    impl Scope {
        #[inline(always)]
        pub(crate) fn fuel(&self, _fuel: impl FnOnce() -> Result<Option<u64>>) {}

        #[inline(always)]
        pub(crate) fn ended<T>(&self, result: Result<T>) -> Result<T> {
            result
        }
    }
}

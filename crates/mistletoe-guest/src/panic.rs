//! Panics, which the host gets as messages.

#[cfg(target_family = "wasm")]
pub use reporter::{panicked, start};

/// The reporter in a static, which only a module without threads may have.
#[cfg(target_family = "wasm")]
mod reporter {
    use core::cell::Cell;
    use core::fmt::Display;
    use core::panic::Location;

    use super::text;

    /// What is done with the message of a panic, before the trap.
    type Report = fn(&str);

    struct Reporter(Cell<Option<Report>>);

    // SAFETY: the crate does not compile for WebAssembly with threads, so there is one thread.
    unsafe impl Sync for Reporter {}

    static REPORTER: Reporter = Reporter(Cell::new(None));

    /// Prepares a call into the guest, which reports its panics by `report`. Before the first call, it installs the log.
    #[inline]
    pub fn start(report: Report, install_log: impl FnOnce()) {
        if REPORTER.0.replace(Some(report)).is_none() {
            start_first(install_log);
        }
    }

    #[cold]
    fn start_first(install_log: impl FnOnce()) {
        #[cfg(feature = "std")]
        std::panic::set_hook(std::boxed::Box::new(|info| {
            panicked(info.payload_as_str().unwrap_or("the panic has no message"), info.location());
        }));
        install_log();
    }

    /// Reports a panic.
    pub fn panicked(message: impl Display, location: Option<&Location<'_>>) {
        if let Some(report) = REPORTER.0.get() {
            report(&text(message, location));
        }
    }
}

#[cfg(any(target_family = "wasm", test))]
fn text(message: impl core::fmt::Display, location: Option<&core::panic::Location<'_>>) -> alloc::string::String {
    match location {
        Some(location) => alloc::format!("panicked at {location}: {message}"),
        None => alloc::format!("panicked: {message}"),
    }
}

/// Defines the panic handler of a package or plugin that is `no_std`.
///
/// It reports the message and the line in the source, as the standard library's does with the feature `std`, and ends
/// the call in a trap. Such a crate also needs an allocator, such as the crate `dlmalloc` with its feature `global`.
///
/// ```ignore
/// #![no_std]
/// extern crate alloc;
///
/// mistletoe_guest::panic_handler!();
/// ```
#[macro_export]
macro_rules! panic_handler {
    () => {
        #[cfg(target_family = "wasm")]
        #[panic_handler]
        fn panic(info: &::core::panic::PanicInfo<'_>) -> ! {
            $crate::__private::panicked(info.message(), info.location());
            $crate::__private::trap()
        }
    };
}

/// Ends the call.
#[cfg(target_family = "wasm")]
pub fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    compile_error!("packages and plugins have 32-bit addresses");
}

#[cfg(test)]
mod tests {
    use core::panic::Location;

    #[test]
    fn a_message_has_its_line() {
        let here = Location::caller();
        let line = here.line();
        assert!(super::text("no room", Some(here)).ends_with(&alloc::format!(":{line}:20: no room")));
        assert_eq!(super::text("no room", None), "panicked: no room");
    }
}

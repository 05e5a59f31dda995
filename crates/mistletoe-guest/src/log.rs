//! The host's log.

use core::fmt::Arguments;

/// Writes a line to the host's log, with the syntax of `format!`.
///
/// It is a line on WASI's standard error; `mistctl` shows it in its log. A package that does not log imports nothing
/// for it. Before you log, know your hosts: one that provides no WASI refuses the import.
///
/// ```
/// mistletoe_guest::log!("{} replicas", 3);
/// ```
#[macro_export]
macro_rules! log {
    ($($format:tt)*) => {
        $crate::log::line(::core::format_args!($($format)*))
    };
}

/// Writes a line to the host's log. [`log!`](crate::log!) is the short form.
pub fn line(line: Arguments<'_>) {
    crate::wasi::write_stderr(&alloc::format!("{line}\n"));
}

/// Sends the lines of the crate `log` to the host's log, at the level `info` and above at first.
#[cfg(feature = "log")]
#[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
pub(crate) fn install() {
    use log::{LevelFilter, Log, Metadata, Record, set_logger, set_max_level};

    struct Logger;

    impl Log for Logger {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            line(format_args!("{} {}: {}", record.level(), record.target(), record.args()));
        }

        fn flush(&self) {}
    }

    // The author may have set another one.
    if set_logger(&Logger).is_ok() {
        set_max_level(LevelFilter::Info);
    }
}

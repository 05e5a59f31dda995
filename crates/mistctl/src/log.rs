//! What a package or plugin says beside its answer.

use mistletoe::wasi::Wasi;

use crate::cli::ErrorFormat;
use crate::failure::{Level, note};

/// Prints what was written to WASI's standard output and standard error, each line as the package's own. An error as JSON
/// stands alone.
pub(crate) fn print(wasi: &mut Wasi, format: ErrorFormat) {
    if format == ErrorFormat::Json {
        return;
    }
    for stream in [wasi.take_stdout(), wasi.take_stderr()] {
        for line in String::from_utf8_lossy(&stream).lines() {
            note(Level::Log, line);
        }
    }
}

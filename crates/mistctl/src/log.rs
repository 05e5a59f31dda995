//! The log of a package or plugin: what it writes beside its output or response.

use mistletoe::wasi::{Builder, OutputStream, Wasi};

use crate::stderr::{Level, Lines};

/// Maximum number of bytes of each stream.
const MAX: u64 = 1 << 20;

/// Returns WASI for a package or plugin.
///
/// What it writes to its standard output and standard error is shown as it comes, each line as the guest's own.
pub(crate) fn wasi() -> Builder {
    let log = || OutputStream::limited_stream(Lines::new(Level::Log), MAX);
    Wasi::builder().stdout(log()).stderr(log())
}

//! What a package or plugin says beside its answer.

use mistletoe::wasi::{Builder, OutputStream, Wasi};

use crate::stderr::{Level, Lines};

/// How many bytes one of the streams takes.
const MAX: u64 = 1 << 20;

/// WASI for a guest that owes an answer. What it writes to its standard output and standard error is shown as it comes,
/// each line as the guest's own.
pub(crate) fn wasi() -> Builder {
    let log = || OutputStream::limited_stream(Lines::new(Level::Log), MAX);
    Wasi::builder().stdout(log()).stderr(log())
}

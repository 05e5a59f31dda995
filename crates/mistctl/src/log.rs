//! The log of a package or plugin: what it writes beside its output or response.

use std::io::{self, Write};

use mistletoe::wasi::{Builder, OutputStream, Wasi};

use crate::stderr::{Level, Lines};

/// Maximum number of bytes of each stream.
pub(crate) const MAX: u64 = 1 << 20;

/// Returns WASI for a call of a package that is repeated: what it writes was shown already.
pub(crate) fn silent() -> Builder {
    let log = || OutputStream::limited_stream(io::sink(), MAX);
    Wasi::builder().stdout(log()).stderr(log())
}

/// Returns WASI for a package or plugin.
///
/// What it writes to its standard output and standard error is shown as it comes, each line as the guest's own.
pub(crate) fn wasi() -> Builder {
    let log = || stream(io::sink());
    Wasi::builder().stdout(log()).stderr(log())
}

/// Returns a stream whose lines are shown, and which is also written to `copy`.
pub(crate) fn stream(copy: impl Write + Send + 'static) -> OutputStream {
    OutputStream::limited_stream(Log { lines: Lines::new(Level::Log), copy }, MAX)
}

struct Log<W> {
    lines: Lines,
    copy: W,
}

impl<W: Write> Write for Log<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.lines.write(bytes)?;
        self.copy.write_all(bytes.get(..written).unwrap_or(bytes))?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns WASI for a package that is called once more, whose log need not be shown again.
///
/// Each stream takes `limit` bytes, as the guest can see. With [`MAX`], nothing differs from [`wasi`] for the guest.
pub(crate) fn discarded(limit: u64) -> Builder {
    let none = || OutputStream::limited_stream(io::sink(), limit);
    Wasi::builder().stdout(none()).stderr(none())
}

/// Shows logs that were kept.
pub(crate) fn show(logs: &[Vec<u8>]) {
    for log in logs {
        // Standard error that cannot be written is not a failure.
        let _ = Lines::new(Level::Log).write_all(log);
    }
}

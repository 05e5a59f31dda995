//! What a package or plugin says beside its answer.

use std::io::{self, Write};

use mistletoe::wasi::{Builder, Output, Wasi};

use crate::cli::ErrorFormat;
use crate::failure::{Level, notes};

/// How many bytes one of the streams takes.
const MAX: usize = 1 << 20;

/// WASI for a guest that owes an answer. What it writes to its standard output and standard error is shown as it comes,
/// each line as the guest's own.
pub(crate) fn wasi(format: ErrorFormat) -> Builder {
    let log = || Output::stream(Log { rest: Vec::new(), written: 0, format });
    Wasi::builder().stdout(log()).stderr(log())
}

struct Log {
    rest: Vec<u8>,
    written: usize,
    format: ErrorFormat,
}

impl Log {
    fn show(&mut self) {
        // An error as JSON stands alone.
        if self.format == ErrorFormat::Text {
            notes(Level::Log, String::from_utf8_lossy(&self.rest).lines());
        }
        self.rest.clear();
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = bytes.get(..(MAX - self.written).min(bytes.len())).unwrap_or_default();
        if bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written += bytes.len();
        self.rest.extend_from_slice(bytes);
        // Only whole lines, and all of them at once: each time costs the host more than the guest.
        if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.rest.split_off(end + 1);
            self.show();
            self.rest = rest;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The last line need not have an end.
impl Drop for Log {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            self.show();
        }
    }
}

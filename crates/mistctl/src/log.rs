//! What a package or plugin says beside its answer.

use std::io::{self, Write};

use mistletoe::wasi::{Builder, Output, Wasi};

use crate::cli::ErrorFormat;
use crate::failure::{Level, note};

/// How much one of the streams takes.
const MAX: usize = 64 << 20;
/// A line that is longer is shown in pieces.
const MAX_LINE: usize = 64 << 10;

/// WASI for a guest that owes an answer. What it writes to its standard output and standard error is shown as it comes,
/// each line as the guest's own.
pub(crate) fn wasi(format: ErrorFormat) -> Builder {
    let log = || Output::stream(Log { line: Vec::new(), written: 0, format });
    Wasi::builder().stdout(log()).stderr(log())
}

struct Log {
    line: Vec<u8>,
    written: usize,
    format: ErrorFormat,
}

impl Log {
    fn show(&mut self) {
        // An error as JSON stands alone.
        if self.format == ErrorFormat::Text {
            note(Level::Log, String::from_utf8_lossy(&self.line).trim_end_matches(['\r', '\n']));
        }
        self.line.clear();
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = bytes.get(..(MAX - self.written).min(bytes.len())).unwrap_or_default();
        if bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written += bytes.len();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n').flat_map(|line| line.chunks(MAX_LINE)) {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() >= MAX_LINE {
                self.show();
            }
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
        if !self.line.is_empty() {
            self.show();
        }
    }
}

//! The three standard streams.

use std::fmt;
use std::io::{self, Read, Write};

use crate::errno::Errno;

/// Where the guest's standard output or standard error goes.
pub struct Output(Sink);

enum Sink {
    Captured { bytes: Vec<u8>, limit: usize },
    Stream { stream: Box<dyn Write + Send>, room: u64 },
}

/// How much is captured unless the host says otherwise.
const CAPTURED: usize = 64 << 20;

impl Output {
    /// Kept for [`Wasi::stdout`](crate::Wasi::stdout) and [`Wasi::stderr`](crate::Wasi::stderr), up to so many bytes. A
    /// guest that writes more gets [`Errno::NoSpc`], as from a disk that is full. What a guest wrote that fails before its
    /// session is open is lost; only a [stream](Output::stream) has it.
    pub fn captured(limit: usize) -> Self {
        Self(Sink::Captured { bytes: Vec::new(), limit })
    }

    /// Written to a stream as it comes, which is flushed after each of the guest's writes.
    pub fn stream(stream: impl Write + Send + 'static) -> Self {
        Self::limited_stream(stream, u64::MAX)
    }

    /// The same, up to so many bytes. A guest that writes more gets [`Errno::NoSpc`], as from a disk that is full.
    pub fn limited_stream(stream: impl Write + Send + 'static, limit: u64) -> Self {
        Self(Sink::Stream { stream: Box::new(stream), room: limit })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Sink::Captured { bytes, .. } => bytes,
            Sink::Stream { .. } => &[],
        }
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        match &mut self.0 {
            Sink::Captured { bytes, .. } => std::mem::take(bytes),
            Sink::Stream { .. } => Vec::new(),
        }
    }

    /// Writes all that it can.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match &mut self.0 {
            Sink::Captured { bytes: captured, limit } => {
                let room = limit.saturating_sub(captured.len()).min(bytes.len());
                if room == 0 && !bytes.is_empty() {
                    return Err(Errno::NoSpc);
                }
                captured.extend_from_slice(&bytes[..room]);
                Ok(room)
            }
            Sink::Stream { room: 0, .. } if !bytes.is_empty() => Err(Errno::NoSpc),
            Sink::Stream { stream, room } => {
                let bytes = &bytes[..bytes.len().min(usize::try_from(*room).unwrap_or(usize::MAX))];
                let mut done = 0;
                while done < bytes.len() {
                    match uninterrupted(|| stream.write(&bytes[done..])) {
                        Ok(0) => break,
                        Ok(more) => done = bytes.len().min(done + more),
                        Err(_) if done > 0 => break,
                        Err(error) => return Err(error.into()),
                    }
                }
                *room -= done as u64;
                Ok(done)
            }
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        match &mut self.0 {
            Sink::Captured { .. } => Ok(()),
            Sink::Stream { stream, .. } => Ok(uninterrupted(|| stream.flush())?),
        }
    }
}

impl Default for Output {
    /// Captured, up to 64 MiB.
    fn default() -> Self {
        Self::captured(CAPTURED)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Sink::Captured { .. } => "Output::captured",
            Sink::Stream { .. } => "Output::stream",
        })
    }
}

/// The standard input.
pub(crate) struct Input(Box<dyn Read + Send>);

impl Input {
    pub(crate) fn new(reader: impl Read + Send + 'static) -> Self {
        Self(Box::new(reader))
    }

    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Errno> {
        Ok(uninterrupted(|| self.0.read(bytes))?.min(bytes.len()))
    }
}

impl Default for Input {
    fn default() -> Self {
        Self::new(io::empty())
    }
}

/// A signal to the host is not the guest's business.
pub(crate) fn uninterrupted<T>(mut step: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match step() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_captured_is_bounded() {
        let mut output = Output::captured(5);
        assert_eq!(output.write(b"abc"), Ok(3));
        assert_eq!(output.write(b"def"), Ok(2));
        assert_eq!(output.write(b"g"), Err(Errno::NoSpc));
        assert_eq!(output.write(b""), Ok(0));
        assert_eq!(output.take(), b"abcde");
        assert_eq!(output.write(b"h"), Ok(1));
    }

    #[test]
    fn a_stream_is_bounded_too() {
        let mut output = Output::limited_stream(io::sink(), 5);
        assert_eq!(output.write(b"abc"), Ok(3));
        assert_eq!(output.write(b"def"), Ok(2));
        assert_eq!(output.write(b"g"), Err(Errno::NoSpc));
        assert_eq!(output.write(b""), Ok(0));
    }
}

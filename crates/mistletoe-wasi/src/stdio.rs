//! The three standard streams.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::time::Duration;

#[cfg(unix)]
use rustix::event::PollFlags;

use crate::errno::Errno;
use crate::stat::FileType;
use crate::work::{LOOK, Work};

/// Destination of a guest's standard output or standard error.
pub struct OutputStream {
    sink: Sink,
    terminal: bool,
    on_full: Option<OnFull>,
    on_error: Option<OnError>,
}

type OnFull = Box<dyn FnOnce() + Send>;
type OnError = Box<dyn FnMut(Errno) + Send>;

enum Sink {
    Captured { bytes: Vec<u8>, limit: usize },
    Stream { stream: Stream, room: u64 },
}

enum Stream {
    /// A write waits inside the writer, without a time limit.
    Writer(Box<dyn Write + Send>),
    /// A write can wait for readiness with a time limit.
    #[cfg(unix)]
    Descriptor(std::os::fd::OwnedFd),
}

/// Default limit of captured output, in bytes.
const CAPTURED: usize = 64 << 20;

impl OutputStream {
    /// Captures up to `limit` bytes for [`Wasi::stdout`](crate::Wasi::stdout) and
    /// [`Wasi::stderr`](crate::Wasi::stderr).
    ///
    /// A guest that writes more gets [`Errno::NoSpc`], as from a full disk. If a guest fails before its session is
    /// open, its captured output is lost; only a [stream](OutputStream::stream) receives it.
    pub fn captured(limit: usize) -> Self {
        Self::new(Sink::Captured { bytes: Vec::new(), limit })
    }

    /// Writes to a stream as the output comes, and flushes it after each of the guest's writes.
    ///
    /// The guest waits for the stream even beyond its deadline and when it is cancelled. With
    /// [`OutputStream::limited_file`] it does not.
    pub fn stream(stream: impl Write + Send + 'static) -> Self {
        Self::limited_stream(stream, u64::MAX)
    }

    /// Writes to a stream as [`OutputStream::stream`] does, up to `limit` bytes.
    ///
    /// A guest that writes more gets [`Errno::NoSpc`], as from a full disk.
    pub fn limited_stream(stream: impl Write + Send + 'static, limit: u64) -> Self {
        Self::new(Sink::Stream { stream: Stream::Writer(Box::new(stream)), room: limit })
    }

    /// Writes to a file, which may be a pipe or a terminal, up to `limit` bytes.
    ///
    /// The limit works as in [`OutputStream::limited_stream`]. On Unix, a wait for the file's reader ends at the
    /// guest's deadline or its cancellation. The guest sees a terminal as one.
    pub fn limited_file(file: File, limit: u64) -> Self {
        let terminal = file.is_terminal();
        // A write to a file on a disk waits for no reader.
        #[cfg(unix)]
        let stream = match file.metadata() {
            Ok(metadata) if metadata.is_file() => Stream::Writer(Box::new(file)),
            _ => Stream::Descriptor(file.into()),
        };
        #[cfg(not(unix))]
        let stream = Stream::Writer(Box::new(file));
        Self::new(Sink::Stream { stream, room: limit }).terminal(terminal)
    }

    fn new(sink: Sink) -> Self {
        Self { sink, terminal: false, on_full: None, on_error: None }
    }

    /// Calls `hears` when a guest first writes more than there is room for.
    #[must_use]
    pub fn on_full(mut self, hears: impl FnOnce() + Send + 'static) -> Self {
        self.on_full = Some(Box::new(hears));
        self
    }

    /// Calls `hears` when the guest's output cannot be written. The guest may ignore that error.
    #[must_use]
    pub fn on_error(mut self, hears: impl FnMut(Errno) + Send + 'static) -> Self {
        self.on_error = Some(Box::new(hears));
        self
    }

    /// Sets whether the guest sees a terminal (`isatty`).
    ///
    /// The default is that it does not; [`OutputStream::limited_file`] checks its file.
    #[must_use]
    pub fn terminal(mut self, terminal: bool) -> Self {
        self.terminal = terminal;
        self
    }

    pub(crate) fn filetype(&self) -> FileType {
        stream_type(self.terminal)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.sink {
            Sink::Captured { bytes, .. } => bytes,
            Sink::Stream { .. } => &[],
        }
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        match &mut self.sink {
            Sink::Captured { bytes, .. } => std::mem::take(bytes),
            Sink::Stream { .. } => Vec::new(),
        }
    }

    /// Writes as much as it can.
    pub(crate) fn write(&mut self, bytes: &[u8], work: &Work) -> Result<usize, Errno> {
        let room = match &self.sink {
            Sink::Captured { bytes, limit } => limit.saturating_sub(bytes.len()),
            Sink::Stream { room, .. } => usize::try_from(*room).unwrap_or(usize::MAX),
        };
        let fits = &bytes[..bytes.len().min(room)];
        let written = self.sink.write(fits, work).inspect_err(|errno| {
            if let Some(hears) = self.on_error.as_mut().filter(|_| *errno != Errno::TimedOut) {
                hears(*errno);
            }
        })?;
        if written == bytes.len() || written < fits.len() {
            return Ok(written);
        }
        if let Some(hears) = self.on_full.take() {
            hears();
        }
        if fits.is_empty() { Err(Errno::NoSpc) } else { Ok(written) }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        match &mut self.sink {
            Sink::Captured { .. } => Ok(()),
            Sink::Stream { stream, .. } => Ok(stream.flush()?),
        }
    }
}

impl Sink {
    fn write(&mut self, bytes: &[u8], work: &Work) -> Result<usize, Errno> {
        match self {
            Self::Captured { bytes: captured, .. } => {
                captured.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Self::Stream { stream, room } => {
                let mut done = 0;
                while done < bytes.len() {
                    match stream.write(&bytes[done..], work) {
                        Ok(0) => break,
                        Ok(more) => done = bytes.len().min(done + more),
                        Err(_) if done > 0 => break,
                        Err(error) => return Err(error),
                    }
                }
                *room -= done as u64;
                Ok(done)
            }
        }
    }
}

impl Stream {
    /// Writes some of the bytes; [`Errno::TimedOut`] if the guest's time ends before any can be written.
    fn write(&mut self, bytes: &[u8], work: &Work) -> Result<usize, Errno> {
        // The write may wait.
        work.count(LOOK);
        match self {
            Self::Writer(writer) => Ok(uninterrupted(|| writer.write(bytes))?),
            #[cfg(unix)]
            Self::Descriptor(fd) => {
                // A pipe that has room for anything has room for this many bytes.
                let some = if work.is_bounded() { &bytes[..bytes.len().min(4096)] } else { bytes };
                descriptor::when_ready(&*fd, PollFlags::OUT, work, |fd| rustix::io::write(fd, some))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Writer(writer) => uninterrupted(|| writer.flush()),
            #[cfg(unix)]
            Self::Descriptor(_) => Ok(()),
        }
    }
}

impl Default for OutputStream {
    /// Captures up to 64 MiB.
    fn default() -> Self {
        Self::captured(CAPTURED)
    }
}

impl fmt::Debug for OutputStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.sink {
            Sink::Captured { .. } => "OutputStream::captured",
            Sink::Stream { .. } => "OutputStream::stream",
        })
    }
}

/// The standard input.
pub(crate) struct Input {
    source: Source,
    terminal: bool,
}

enum Source {
    /// A read waits inside the reader, without a time limit.
    Reader(Box<dyn Read + Send>),
    /// A read can wait for readiness with a time limit.
    #[cfg(unix)]
    Descriptor(Box<dyn std::os::fd::AsFd + Send>),
}

impl Input {
    pub(crate) fn new(reader: impl Read + Send + 'static) -> Self {
        Self { source: Source::Reader(Box::new(reader)), terminal: false }
    }

    /// Reads the process's own input. `std` has a buffer for it: it would read ahead what others are to read after the
    /// guest.
    pub(crate) fn inherit() -> Self {
        let stdin = io::stdin();
        let terminal = stdin.is_terminal();
        #[cfg(unix)]
        let source = Source::Descriptor(Box::new(stdin));
        #[cfg(not(unix))]
        let source = Source::Reader(Box::new(stdin));
        Self { source, terminal }
    }

    pub(crate) fn file(file: File) -> Self {
        let terminal = file.is_terminal();
        #[cfg(unix)]
        let source = Source::Descriptor(Box::new(file));
        #[cfg(not(unix))]
        let source = Source::Reader(Box::new(file));
        Self { source, terminal }
    }

    pub(crate) fn filetype(&self) -> FileType {
        stream_type(self.terminal)
    }

    /// Reads once, when there is something to read or the end is reached.
    ///
    /// Returns [`Errno::TimedOut`] if the guest's time ends before.
    pub(crate) fn read(&mut self, bytes: &mut [u8], work: &Work) -> Result<usize, Errno> {
        // The read may wait.
        work.count(LOOK);
        match &mut self.source {
            Source::Reader(reader) => Ok(uninterrupted(|| reader.read(bytes))?.min(bytes.len())),
            #[cfg(unix)]
            Source::Descriptor(fd) => {
                descriptor::when_ready(&**fd, PollFlags::IN, work, |fd| rustix::io::read(fd, &mut *bytes))
            }
        }
    }

    /// Waits for something to read, or the end, and returns whether there is.
    ///
    /// Waits for at most `time` where that is given, and no longer than the work may take.
    #[cfg_attr(not(unix), allow(unused_variables))]
    pub(crate) fn is_ready(&self, time: Option<Duration>, work: &Work) -> bool {
        match &self.source {
            Source::Reader(_) => true,
            #[cfg(unix)]
            Source::Descriptor(fd) => descriptor::is_ready(fd.as_fd(), PollFlags::IN, time, work),
        }
    }
}

impl Default for Input {
    fn default() -> Self {
        Self::new(io::empty())
    }
}

/// Returns the type of a stream: a terminal, or unknown.
fn stream_type(terminal: bool) -> FileType {
    if terminal { FileType::CharacterDevice } else { FileType::Unknown }
}

/// Descriptors whose readiness can be waited for.
#[cfg(unix)]
mod descriptor {
    use std::os::fd::{AsFd, BorrowedFd};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Result;

    use crate::errno::Errno;
    use crate::stdio::uninterrupted;
    use crate::work::Work;

    /// Reads or writes as soon as it would not wait; [`Errno::TimedOut`] if the guest's time ends before.
    pub(super) fn when_ready(
        fd: &dyn AsFd,
        flags: PollFlags,
        work: &Work,
        mut step: impl FnMut(BorrowedFd<'_>) -> Result<usize>,
    ) -> std::result::Result<usize, Errno> {
        let mut wait = work.is_bounded();
        loop {
            if wait && !is_ready(fd.as_fd(), flags, None, work) {
                return Err(Errno::TimedOut);
            }
            match uninterrupted(|| Ok(step(fd.as_fd())?)) {
                // A program that shares the descriptor may have made it non-blocking.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => wait = true,
                result => return Ok(result?),
            }
        }
    }

    /// Waits until reading or writing would not wait, and returns whether that is so.
    ///
    /// Waits for at most `time` where that is given, and no longer than the work may take.
    pub(super) fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags, time: Option<Duration>, work: &Work) -> bool {
        // Most descriptors are ready. This spares them a reading of the clock.
        if ready_within(fd, flags, Duration::ZERO) == Ok(true) {
            return true;
        }
        // A time that is never reached is no limit.
        let until = time.and_then(|time| Instant::now().checked_add(time));
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let round = [left, work.patience()].into_iter().flatten().fold(ROUND, Duration::min);
            match ready_within(fd, flags, round) {
                Ok(true) => return true,
                Ok(false) if left.is_some_and(|left| left <= round) || work.is_over() => return false,
                Ok(false) | Err(rustix::io::Errno::INTR) => {}
                // The read or write reports what is wrong.
                Err(_) => return true,
            }
        }
    }

    /// Maximum duration of one round of waiting, which systems limit.
    const ROUND: Duration = Duration::from_secs(3600);

    fn ready_within(fd: BorrowedFd<'_>, flags: PollFlags, time: Duration) -> Result<bool> {
        let time = Timespec::try_from(time).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        Ok(poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&time))? > 0)
    }
}

/// Repeats a step that a signal to the host interrupts. The guest does not notice the signal.
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
    fn what_is_written_is_bounded() {
        for output in [OutputStream::captured(5), OutputStream::limited_stream(io::sink(), 5)] {
            let (told, heard) = std::sync::mpsc::channel();
            let mut output = output.on_full(move || told.send(()).unwrap());
            assert_eq!(output.write(b"abc", &Work::default()), Ok(3));
            assert!(heard.try_recv().is_err());
            assert_eq!(output.write(b"def", &Work::default()), Ok(2));
            assert_eq!(heard.try_recv(), Ok(()));
            assert_eq!(output.write(b"g", &Work::default()), Err(Errno::NoSpc));
            assert_eq!(output.write(b"", &Work::default()), Ok(0));
            assert!(heard.try_recv().is_err());
        }
    }

    #[test]
    fn what_just_fits_is_not_too_much() {
        let (told, heard) = std::sync::mpsc::channel();
        let mut output = OutputStream::captured(5).on_full(move || told.send(()).unwrap());
        assert_eq!(output.write(b"abcde", &Work::default()), Ok(5));
        assert!(heard.try_recv().is_err());
        assert_eq!(output.write(b"f", &Work::default()), Err(Errno::NoSpc));
        assert_eq!(heard.try_recv(), Ok(()));
        // Taking the output makes room.
        assert_eq!(output.take(), b"abcde");
        assert_eq!(output.write(b"g", &Work::default()), Ok(1));
    }
}

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

/// Where the guest's standard output or standard error goes.
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
    /// Waited for by whoever writes.
    Writer(Box<dyn Write + Send>),
    /// Can be waited for.
    #[cfg(unix)]
    Descriptor(std::os::fd::OwnedFd),
}

/// How much is captured unless the host says otherwise.
const CAPTURED: usize = 64 << 20;

impl OutputStream {
    /// Kept for [`Wasi::stdout`](crate::Wasi::stdout) and [`Wasi::stderr`](crate::Wasi::stderr), up to so many bytes. A
    /// guest that writes more gets [`Errno::NoSpc`], as from a disk that is full. What a guest wrote that fails before
    /// its session is open is lost; only a [stream](OutputStream::stream) has it.
    pub fn captured(limit: usize) -> Self {
        Self::new(Sink::Captured { bytes: Vec::new(), limit })
    }

    /// Written to a stream as it comes, which is flushed after each of the guest's writes. The guest waits for it
    /// beyond its deadline, and when it is cancelled; [`OutputStream::limited_file`] does not.
    pub fn stream(stream: impl Write + Send + 'static) -> Self {
        Self::limited_stream(stream, u64::MAX)
    }

    /// The same, up to so many bytes. A guest that writes more gets [`Errno::NoSpc`], as from a disk that is full.
    pub fn limited_stream(stream: impl Write + Send + 'static, limit: u64) -> Self {
        Self::new(Sink::Stream { stream: Stream::Writer(Box::new(stream)), room: limit })
    }

    /// Written to a file, which may be a pipe or a terminal, up to so many bytes as [`OutputStream::limited_stream`].
    /// The guest waits for whoever reads it no longer than it has time, and is told of a terminal.
    pub fn limited_file(file: File, limit: u64) -> Self {
        let terminal = file.is_terminal();
        // What is written to a file on a disk, nobody has to read first.
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

    /// Hears of it when a guest first writes more than there is room for.
    #[must_use]
    pub fn on_full(mut self, hears: impl FnOnce() + Send + 'static) -> Self {
        self.on_full = Some(Box::new(hears));
        self
    }

    /// Hears of it when what the guest writes cannot be written, which a guest may make light of.
    #[must_use]
    pub fn on_error(mut self, hears: impl FnMut(Errno) + Send + 'static) -> Self {
        self.on_error = Some(Box::new(hears));
        self
    }

    /// Whether the guest is told that it is a terminal (`isatty`), as it is not unless said here.
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

    /// Writes all that it can.
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
    /// Writes some of it; [`Errno::TimedOut`] where the guest's time ends before anything can be written.
    fn write(&mut self, bytes: &[u8], work: &Work) -> Result<usize, Errno> {
        // It may wait.
        work.count(LOOK);
        match self {
            Self::Writer(writer) => Ok(uninterrupted(|| writer.write(bytes))?),
            #[cfg(unix)]
            Self::Descriptor(fd) => {
                // Where there is room for anything in a pipe, there is for so much.
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
    /// Captured, up to 64 MiB.
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
    /// Waited for by whoever reads.
    Reader(Box<dyn Read + Send>),
    /// Can be waited for.
    #[cfg(unix)]
    Descriptor(Box<dyn std::os::fd::AsFd + Send>),
}

impl Input {
    pub(crate) fn new(reader: impl Read + Send + 'static) -> Self {
        Self { source: Source::Reader(Box::new(reader)), terminal: false }
    }

    /// The process's own. `std`'s has a buffer, and reads ahead into it what others are to read after the guest.
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

    /// Reads once, when there is something to read or its end was reached; [`Errno::TimedOut`] where the guest's time
    /// ends before.
    pub(crate) fn read(&mut self, bytes: &mut [u8], work: &Work) -> Result<usize, Errno> {
        // It may have waited.
        work.count(LOOK);
        match &mut self.source {
            Source::Reader(reader) => Ok(uninterrupted(|| reader.read(bytes))?.min(bytes.len())),
            #[cfg(unix)]
            Source::Descriptor(fd) => {
                descriptor::when_ready(&**fd, PollFlags::IN, work, |fd| rustix::io::read(fd, &mut *bytes))
            }
        }
    }

    /// Waits until there is something to read, or the end, but for `time` at most where that is given, unless the work
    /// is over before; whether there is.
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

/// A terminal, or something of which nothing is known.
fn stream_type(terminal: bool) -> FileType {
    if terminal { FileType::CharacterDevice } else { FileType::Unknown }
}

/// What can be waited for.
#[cfg(unix)]
mod descriptor {
    use std::os::fd::{AsFd, BorrowedFd};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Result;

    use crate::errno::Errno;
    use crate::stdio::uninterrupted;
    use crate::work::Work;

    /// Reads or writes once it would not wait, or the guest's time has ended, which is [`Errno::TimedOut`].
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
                // Whoever shares it may have made it so that nobody waits.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => wait = true,
                result => return Ok(result?),
            }
        }
    }

    /// Whether reading or writing would not wait, after waiting for `time` at most where that is given, unless the work
    /// is over before.
    pub(super) fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags, time: Option<Duration>, work: &Work) -> bool {
        // Mostly it is, and there is no clock to be read for that.
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
                // Reading or writing says what is wrong.
                Err(_) => return true,
            }
        }
    }

    /// How long one round of waiting takes at most, which systems put limits to.
    const ROUND: Duration = Duration::from_secs(3600);

    fn ready_within(fd: BorrowedFd<'_>, flags: PollFlags, time: Duration) -> Result<bool> {
        let time = Timespec::try_from(time).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        Ok(poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&time))? > 0)
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
        // What was taken out leaves room.
        assert_eq!(output.take(), b"abcde");
        assert_eq!(output.write(b"g", &Work::default()), Ok(1));
    }
}

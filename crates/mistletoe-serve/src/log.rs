//! The log: one JSON object per line.

use std::fmt;
use std::io::{self, Write};
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::metrics::now;

/// Maximum number of lines that wait for a writer.
const WAITING: usize = 4_096;
/// Maximum number of bytes of these lines.
const WAITING_BYTES: usize = 16 << 20;
/// Maximum number of bytes of a guest's line that are kept until it ends. A longer line is logged as several.
const MAX_LINE: usize = 8 << 10;

/// Destination of the log: a line for each request, and one for each line that a guest writes beside its response.
///
/// Cloning is cheap; clones are the same log. The default is no log.
#[derive(Clone, Default)]
pub struct Log(Option<Arc<Inner>>);

struct Inner {
    lines: SyncSender<Message>,
    /// Bytes of the lines that wait.
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

enum Message {
    Line(Vec<u8>),
    /// Everything before this is to be written, and then this to be dropped.
    Flush(Sender<()>),
}

/// An entry of the log.
#[derive(Serialize)]
struct Entry<'a, T> {
    time: String,
    event: &'static str,
    #[serde(flatten)]
    fields: &'a T,
}

/// A line that a guest wrote.
#[derive(Serialize)]
struct GuestLine<'a> {
    route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    middleware: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'a str>,
    line: &'a str,
}

impl Log {
    /// Logs to a writer, on a thread of its own.
    ///
    /// A writer that is slow or fails holds up no request: lines that find no room are dropped, and counted.
    ///
    /// # Errors
    ///
    /// The errors of starting a thread.
    pub fn to_writer(mut writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let inner = Arc::new(Inner { lines, waiting: AtomicUsize::new(0), dropped: AtomicU64::new(0) });
        // The thread ends with the last clone of the log.
        let log = Arc::downgrade(&inner);
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            let (mut lines, mut flushing) = (Vec::new(), Vec::new());
            while let Ok(first) = waiting.recv() {
                // All that wait, in one write.
                for message in iter::once(first).chain(waiting.try_iter().take(WAITING)) {
                    match message {
                        Message::Line(line) => lines.extend(line),
                        Message::Flush(done) => flushing.push(done),
                    }
                }
                let result = writer.write_all(&lines).and_then(|()| writer.flush());
                if let Some(log) = log.upgrade() {
                    log.waiting.fetch_sub(lines.len(), Ordering::Relaxed);
                    if result.is_err() {
                        let lost = lines.iter().filter(|byte| **byte == b'\n').count();
                        log.dropped.fetch_add(lost as u64, Ordering::Relaxed);
                    }
                }
                lines.clear();
                // Many lines came at once. Others need less.
                lines.shrink_to(MAX_LINE);
                flushing.clear();
            }
        })?;
        Ok(Self(Some(inner)))
    }

    /// Waits until all lines so far are written, for at most `time`. Returns whether they are.
    pub fn flush(&self, time: Duration) -> bool {
        let Some(inner) = &self.0 else { return true };
        let (done, flushed) = mpsc::channel();
        // Dropping the sender is the answer. A queue that is full is not written in time.
        inner.lines.try_send(Message::Flush(done)).is_ok()
            && flushed.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }

    /// Returns the number of lines that were lost, because the writer was too slow or failed.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.dropped.load(Ordering::Relaxed))
    }

    pub(crate) fn entry(&self, event: &'static str, fields: &impl Serialize) {
        let Some(inner) = &self.0 else { return };
        let time = now();
        let Ok(mut line) = serde_json::to_vec(&Entry { time, event, fields }) else { return };
        line.push(b'\n');
        let length = line.len();
        let fits = inner.waiting.fetch_add(length, Ordering::Relaxed) + length <= WAITING_BYTES;
        if !fits || inner.lines.try_send(Message::Line(line)).is_err() {
            inner.waiting.fetch_sub(length, Ordering::Relaxed);
            inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns a writer of a guest's lines. There is no request while a guest starts for none.
    pub(crate) fn of_guest(
        &self,
        route: &Arc<str>,
        middleware: Option<&Arc<str>>,
        request: Option<&Arc<str>>,
    ) -> GuestLog {
        GuestLog {
            log: self.clone(),
            route: route.clone(),
            middleware: middleware.cloned(),
            request: request.cloned(),
            level: None,
            rest: Vec::new(),
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("is_on", &self.0.is_some()).finish()
    }
}

/// Logs the lines of a guest's stream. The last line need not have an end.
pub(crate) struct GuestLog {
    log: Log,
    route: Arc<str>,
    middleware: Option<Arc<str>>,
    request: Option<Arc<str>>,
    level: Option<&'static str>,
    rest: Vec<u8>,
}

impl GuestLog {
    fn line(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        let (middleware, request) = (self.middleware.as_deref(), self.request.as_deref());
        let line = GuestLine { route: &self.route, middleware, request, level: self.level, line: &line };
        self.log.entry("guest", &line);
    }

    /// Logs a message with its level, as one line or more.
    pub(crate) fn message(&mut self, level: &'static str, message: &str) {
        self.level = Some(level);
        // The log takes every byte.
        let _ = self.write_all(message.as_bytes()).and_then(|()| self.write_all(b"\n"));
    }
}

impl Write for GuestLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.log.0.is_none() {
            return Ok(bytes.len());
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut piece = piece;
            while !piece.is_empty() {
                let (now, later) = piece.split_at(piece.len().min(MAX_LINE - self.rest.len().min(MAX_LINE - 1)));
                self.rest.extend_from_slice(now);
                piece = later;
                if self.rest.ends_with(b"\n") || self.rest.len() >= MAX_LINE {
                    let line = std::mem::take(&mut self.rest);
                    self.line(line.strip_suffix(b"\n").unwrap_or(&line));
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            self.line(&self.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes nothing until the mutex can be locked.
    #[derive(Clone, Default)]
    struct Slow(Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_writer_holds_up_nobody() {
        let slow = Slow::default();
        let log = Log::to_writer(slow.clone()).expect("a thread");
        let held = slow.0.lock().expect("no panic");
        // What the thread has taken already finds room again.
        (0..3 * WAITING).for_each(|line| log.entry("test", &Map::from([("line", line)])));
        assert!(log.dropped() >= WAITING as u64, "{}", log.dropped());
        assert!(!log.flush(Duration::ZERO));
        drop(held);
        while !log.flush(Duration::from_secs(100)) {}
        let written = slow.0.lock().expect("no panic").iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(written as u64 + log.dropped(), 3 * WAITING as u64);
    }

    /// A full disk.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_are_lost_are_counted() {
        let log = Log::to_writer(Full).expect("a thread");
        (0..3).for_each(|line| log.entry("test", &Map::from([("line", line)])));
        assert!(log.flush(Duration::from_secs(100)));
        assert_eq!(log.dropped(), 3);
    }

    type Map = std::collections::BTreeMap<&'static str, usize>;

    #[test]
    fn a_guest_writes_lines_of_bounded_length() {
        let written = Slow::default();
        let log = Log::to_writer(written.clone()).expect("a thread");
        let mut guest = log.of_guest(&"r".into(), None, Some(&"1".into()));
        for part in ["one\ntw", "o\r\n\n", &"x".repeat(MAX_LINE + 5), "\n\u{1b}[2J"] {
            guest.write_all(part.as_bytes()).expect("written");
        }
        drop(guest);
        assert!(log.flush(Duration::from_secs(100)));
        let written = written.0.lock().expect("no panic").clone();
        let lines: Vec<serde_json::Value> = written
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect();
        let lines: Vec<_> = lines.iter().map(|line| line["line"].as_str().expect("a line")).collect();
        assert_eq!(lines, ["one", "two", "", &"x".repeat(MAX_LINE), "xxxxx", "\u{1b}[2J"]);
        assert!(!written.contains(&0x1b), "JSON escapes what a terminal acts on");
    }
}

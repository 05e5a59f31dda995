//! The log: one JSON object per line.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Maximum number of lines that wait for a writer.
const WAITING: usize = 4_096;
/// Maximum number of bytes of these lines.
const WAITING_BYTES: usize = 16 << 20;
/// How long a line waits for others. To wake the writer for each line would cost more than the line itself.
const GATHER: Duration = Duration::from_millis(10);
/// Maximum number of bytes of memory that a thread keeps for its next line.
const KEPT: usize = 1 << 10;
/// Maximum number of bytes of memory that is kept for the lines that wait next.
const KEPT_QUEUE: usize = 1 << 20;
/// The last second of the year 9999, since 1970. RFC 3339 has no later one.
const LAST_SECOND: u64 = 253_402_300_799;
/// Maximum number of bytes of a guest's line that are kept until it ends. A longer line is logged as several.
const MAX_LINE: usize = 8 << 10;

/// Destination of the log: a line for each request, and one for each line that a guest writes beside its response.
///
/// Cloning is cheap; clones are the same log. The default is no log.
#[derive(Clone, Default)]
pub struct Log(Option<Arc<Open>>);

/// The writer ends after the last clone of the log, when all lines are written.
struct Open(Arc<Inner>);

struct Inner {
    queue: Mutex<Queue>,
    /// Wakes the writer.
    work: Condvar,
    dropped: AtomicU64,
}

/// What waits for the writer.
#[derive(Default)]
struct Queue {
    lines: usize,
    bytes: Vec<u8>,
    /// Dropped after the lines are written.
    flushing: Vec<Sender<()>>,
    is_closed: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.lines == 0 && self.flushing.is_empty()
    }

    fn has_room(&self, length: usize) -> bool {
        self.lines < WAITING && self.bytes.len() + length <= WAITING_BYTES
    }

    /// Returns whether the writer waits for no more lines.
    fn is_urgent(&self) -> bool {
        let is_half_full = self.lines >= WAITING / 2 || self.bytes.len() >= WAITING_BYTES / 2;
        is_half_full || self.is_closed || !self.flushing.is_empty()
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue. Wakes the writer if there is something to write now, or if it is not to wait for more.
    fn change<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queue = self.queue();
        let before = (queue.is_empty(), queue.is_urgent());
        let result = change(&mut queue);
        let wakes = before != (queue.is_empty(), queue.is_urgent());
        drop(queue);
        if wakes {
            self.work.notify_one();
        }
        result
    }

    /// Waits for lines, and takes them; `None` after the last ones. The next lines go to `memory`, which is empty.
    fn take(&self, memory: Vec<u8>) -> Option<Queue> {
        let queue = self.work.wait_while(self.queue(), |queue| queue.is_empty() && !queue.is_closed);
        let queue = queue.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.work.wait_timeout_while(queue, GATHER, |queue| !queue.is_urgent());
        let (mut queue, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let is_closed = queue.is_closed;
        let taken = mem::replace(&mut *queue, Queue { is_closed, bytes: memory, ..Queue::default() });
        (!taken.is_empty()).then_some(taken)
    }

    fn write(&self, mut writer: impl Write) {
        let (mut is_cut, mut memory) = (false, Vec::new());
        while let Some(taken) = self.take(mem::take(&mut memory)) {
            let written = write(&mut writer, &taken.bytes, &mut is_cut);
            let lost = taken.bytes.get(written..).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
            self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            // Requests do not wait while the queue grows again.
            if taken.bytes.capacity() <= KEPT_QUEUE {
                memory = taken.bytes;
                memory.clear();
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.change(|queue| queue.is_closed = true);
    }
}

/// A line that is being written: a JSON object, which a thread uses again for its next line.
///
/// A server writes one for each request. So the fields are written as they come, with names that need no escapes.
#[derive(Default)]
pub(crate) struct Line {
    bytes: Vec<u8>,
    second: Second,
    /// Whether a value is no JSON.
    is_broken: bool,
}

/// The latest second, as text. Most lines are of the same one as the line before.
#[derive(Default)]
struct Second {
    number: Option<u64>,
    text: String,
}

impl Line {
    fn begin(&mut self, event: &'static str) {
        self.bytes.clear();
        self.is_broken = false;
        self.bytes.extend_from_slice(b"{\"time\":\"");
        self.second.write(SystemTime::now(), &mut self.bytes);
        self.bytes.push(b'"');
        self.text("event", event);
    }

    /// Adds a field. The name is written as it is.
    pub(crate) fn field(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) {
        self.begin_field(name);
        self.value(value);
    }

    /// Adds a field if there is a value.
    pub(crate) fn optional(&mut self, name: &'static str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.field(name, &value);
        }
    }

    /// Adds a text.
    pub(crate) fn text(&mut self, name: &'static str, text: &str) {
        // Without an end on the way, so that the compiler does it for many bytes at once.
        let is_escaped = |any, byte: &u8| any | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\');
        if text.as_bytes().iter().fold(false, is_escaped) {
            return self.field(name, text);
        }
        self.begin_field(name);
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(b'"');
    }

    /// Adds an address, as a text. `Display` takes as long for it as all other fields together.
    pub(crate) fn address(&mut self, name: &'static str, address: SocketAddr) {
        let SocketAddr::V4(address) = address else { return self.field(name, &address) };
        self.begin_field(name);
        self.bytes.push(b'"');
        for (octet, end) in address.ip().octets().iter().zip(b"...:") {
            self.value(octet);
            self.bytes.push(*end);
        }
        self.value(&address.port());
        self.bytes.push(b'"');
    }

    fn begin_field(&mut self, name: &'static str) {
        self.bytes.extend_from_slice(b",\"");
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) {
        self.is_broken |= serde_json::to_writer(&mut self.bytes, value).is_err();
    }

    fn end(&mut self) -> Option<&[u8]> {
        self.bytes.extend_from_slice(b"}\n");
        (!self.is_broken).then_some(&*self.bytes)
    }
}

impl Second {
    /// Writes a time with its milliseconds, as RFC 3339 has it.
    fn write(&mut self, time: SystemTime, line: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = since.as_secs();
        if self.number != Some(number) {
            self.text.clear();
            let second = UNIX_EPOCH + Duration::from_secs(number.min(LAST_SECOND));
            // A `String` takes every text.
            let _ = write!(self.text, "{}", humantime::format_rfc3339_seconds(second));
            self.number = Some(number);
        }
        line.extend_from_slice(self.text.trim_end_matches('Z').as_bytes());
        let millis = since.subsec_millis();
        let digit = |place| b'0' + (millis / place % 10) as u8;
        line.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
    }
}

impl Log {
    /// Logs to a writer, on a thread of its own.
    ///
    /// A writer that is slow or fails holds up no request: lines that find no room are dropped, and counted.
    ///
    /// # Errors
    ///
    /// The errors of starting a thread.
    pub fn to_writer(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let inner = Inner { queue: Mutex::default(), work: Condvar::new(), dropped: AtomicU64::new(0) };
        let open = Open(Arc::new(inner));
        let inner = open.0.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || inner.write(writer))?;
        Ok(Self(Some(Arc::new(open))))
    }

    /// Waits until all lines so far are written, for at most `time`. Returns whether they are.
    pub fn flush(&self, time: Duration) -> bool {
        let Some(open) = &self.0 else { return true };
        let (done, flushed) = mpsc::channel();
        open.0.change(|queue| queue.flushing.push(done));
        // Dropping the sender is the answer.
        flushed.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }

    /// Returns the number of lines that were lost, because the writer was too slow or failed.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |open| open.0.dropped.load(Ordering::Relaxed))
    }

    /// Logs a line with these fields after its time and its event.
    pub(crate) fn entry(&self, event: &'static str, fields: impl FnOnce(&mut Line)) {
        let Some(open) = &self.0 else { return };
        thread_local! {
            static LINE: Cell<Line> = Cell::default();
        }
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.begin(event);
        fields(&mut line);
        let Some(bytes) = line.end() else { return };
        let is_taken = open.0.change(|queue| {
            let has_room = queue.has_room(bytes.len());
            if has_room {
                queue.lines += 1;
                queue.bytes.extend_from_slice(bytes);
            }
            has_room
        });
        if line.bytes.capacity() <= KEPT {
            let _ = LINE.try_with(|kept| kept.set(line));
        }
        if !is_taken {
            open.0.dropped.fetch_add(1, Ordering::Relaxed);
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

/// Writes lines, and returns how many bytes were written. After a line that was cut, the next one begins anew.
fn write(writer: &mut impl Write, lines: &[u8], is_cut: &mut bool) -> usize {
    if *is_cut && writer.write_all(b"\n").is_err() {
        return 0;
    }
    *is_cut = false;
    let mut rest = lines;
    while !rest.is_empty() {
        match writer.write(rest) {
            Ok(written) if written > 0 => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    let written = lines.len() - rest.len();
    *is_cut = lines.get(..written).and_then(<[u8]>::last).is_some_and(|last| *last != b'\n');
    if writer.flush().is_ok() { written } else { 0 }
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
        self.log.entry("guest", |fields| {
            fields.text("route", &self.route);
            fields.optional("middleware", middleware);
            fields.optional("request", request);
            fields.optional("level", self.level);
            fields.text("line", &line);
        });
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
        (0..3 * WAITING).for_each(|line| log.entry("test", |fields| fields.field("line", &line)));
        assert!(log.dropped() >= WAITING as u64, "{}", log.dropped());
        assert!(!log.flush(Duration::ZERO));
        drop(held);
        while !log.flush(Duration::from_secs(100)) {}
        let written = slow.0.lock().expect("no panic").iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(written as u64 + log.dropped(), 3 * WAITING as u64);
    }

    #[test]
    fn a_line_is_json_with_its_fields_in_their_order() {
        let mut line = Line::default();
        for address in ["127.0.0.1:80", "255.10.0.99:65535", "[::1]:8080", "[fe80::1%7]:0"] {
            let address: SocketAddr = address.parse().expect("an address");
            line.begin("a test");
            line.text("text", "\"\\\u{1b}\n→");
            for text in ["", "→ ~", "\"", "\\", "\u{1f}"] {
                line.text("t", text);
            }
            line.address("address", address);
            line.optional("none", None::<u64>);
            line.optional("number", Some(1.5));
            let text = str::from_utf8(line.end().expect("JSON")).expect("UTF-8");
            let rest = text.split_once('Z').expect("a time").1;
            let expected = format!(
                r#"","event":"a test","text":"\"\\\u001b\n→","t":"","t":"→ ~","t":"\"","t":"\\","t":"\u001f","address":"{address}","number":1.5}}"#
            );
            assert_eq!(rest, format!("{expected}\n"));
            serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        }
        line.begin("a test");
        // JSON has no such names.
        line.field("map", &std::collections::BTreeMap::from([((), ())]));
        assert!(line.end().is_none());
    }

    #[test]
    fn a_time_is_as_humantime_formats_it() {
        let mut second = Second::default();
        for millis in [0, 1, 999, 1_000, 1_010, 1_100, 951_782_399_999, 1_796_092_478_046, 253_402_300_799_999] {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            let mut text = Vec::new();
            second.write(time, &mut text);
            assert_eq!(str::from_utf8(&text), Ok(&*humantime::format_rfc3339_millis(time).to_string()));
        }
    }

    /// Sends what is written to it.
    struct Sending(Sender<Vec<u8>>);

    impl Write for Sending {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_without_a_flush_and_the_last_ones_after_the_end() {
        let (sender, written) = mpsc::channel();
        let log = Log::to_writer(Sending(sender)).expect("a thread");
        let line = |number| log.entry("test", |fields| fields.field("line", &number));
        let next = || written.recv_timeout(Duration::from_secs(100));
        line(1);
        assert!(next().is_ok_and(|bytes| bytes.ends_with(b"\"line\":1}\n")));
        line(2);
        drop(log);
        assert!(next().is_ok_and(|bytes| bytes.ends_with(b"\"line\":2}\n")));
        assert_eq!(next(), Err(RecvTimeoutError::Disconnected), "the writer has ended");
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
        (0..3).for_each(|line| log.entry("test", |fields| fields.field("line", &line)));
        assert!(log.flush(Duration::from_secs(100)));
        assert_eq!(log.dropped(), 3);
    }

    /// A disk with this much room.
    #[derive(Clone)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().expect("no panic");
            let (written, room) = &mut *disk;
            let length = bytes.len().min(*room);
            if length == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            written.extend_from_slice(&bytes[..length]);
            *room -= length;
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_whole_again_once_a_disk_has_room() {
        let disk = Disk(Arc::new(Mutex::new((Vec::new(), 100))));
        let log = Log::to_writer(disk.clone()).expect("a thread");
        let line = |line: usize| {
            log.entry("test", |fields| fields.field("line", &line));
            assert!(log.flush(Duration::from_secs(100)));
        };
        (0..4).for_each(line);
        disk.0.lock().expect("no panic").1 = usize::MAX;
        (4..6).for_each(line);
        let written = String::from_utf8(disk.0.lock().expect("no panic").0.clone()).expect("UTF-8");
        let lines: Vec<_> = written
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).map(|line| line["line"].as_u64()).ok())
            .collect();
        // The second one is cut: a line has 60 bytes.
        assert_eq!(lines, [Some(Some(0)), None, Some(Some(4)), Some(Some(5))], "{written}");
        assert_eq!(log.dropped(), 3);
    }

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

//! Tests of the functions as a guest calls them, without an engine: a memory, and calls with addresses into it.

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::errno::Errno;
use crate::memory::Memory;
use crate::stat::rights;
use crate::wasi::Wasi;
use crate::work::{PIECE, Work};
use crate::{Builder, OutputStream};

/// A guest with a page of memory.
struct Guest {
    wasi: Wasi,
    memory: Vec<u8>,
}

/// Address that results are written to.
const OUT: u32 = 8;
/// Address at which only a part of any result lies inside the memory.
const EDGE: u32 = 65536 - 2;

impl Guest {
    fn new(builder: Builder) -> Self {
        Self { wasi: builder.build(), memory: vec![0; 65536] }
    }

    fn call(&mut self, call: impl FnOnce(&mut Wasi, &mut Memory<'_>) -> Result<(), Errno>) -> Result<(), Errno> {
        self.call_until(None, call)
    }

    /// Runs a call of a guest whose time ends.
    fn call_until(
        &mut self,
        deadline: Option<Instant>,
        call: impl FnOnce(&mut Wasi, &mut Memory<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let result = Cell::new(Ok(()));
        let mut memory = Memory::new(&mut self.memory, Work::until(deadline, None));
        self.wasi.answer("test", &mut memory, |wasi, memory| {
            result.set(call(wasi, memory));
            result.get()
        });
        result.get()
    }

    fn put(&mut self, address: usize, bytes: &[u8]) {
        self.memory[address..address + bytes.len()].copy_from_slice(bytes);
    }

    fn u32(&self, address: u32) -> u32 {
        let address = address as usize;
        u32::from_le_bytes(self.memory[address..address + 4].try_into().unwrap())
    }

    fn u64(&self, address: u32) -> u64 {
        u64::from(self.u32(address)) | u64::from(self.u32(address + 4)) << 32
    }

    /// Describes one buffer of this length at 4096 in the list at 16.
    fn vector(&mut self, length: u32) {
        self.put(16, &4096u32.to_le_bytes());
        self.put(20, &length.to_le_bytes());
    }

    fn write(&mut self, fd: u32, bytes: &[u8]) -> Result<u32, Errno> {
        self.put(4096, bytes);
        self.vector(bytes.len() as u32);
        self.call(|wasi, memory| wasi.fd_write(memory, fd, 16, 1, OUT))?;
        Ok(self.u32(OUT))
    }

    fn read(&mut self, fd: u32, length: u32) -> Result<Vec<u8>, Errno> {
        self.vector(length);
        self.call(|wasi, memory| wasi.fd_read(memory, fd, 16, 1, OUT))?;
        Ok(self.memory[4096..4096 + self.u32(OUT) as usize].to_vec())
    }
}

#[test]
fn streams_are_no_terminals_and_stand_nowhere() {
    let mut guest = Guest::new(Wasi::builder().stdin("input"));
    assert_eq!(guest.read(0, 3), Ok(b"inp".to_vec()));
    assert_eq!(guest.read(0, 30), Ok(b"ut".to_vec()));
    assert_eq!(guest.read(0, 30), Ok(vec![]));
    assert_eq!((guest.write(1, b"out"), guest.write(2, b"err")), (Ok(3), Ok(3)));
    assert_eq!((guest.wasi.stdout(), guest.wasi.stderr()), (&b"out"[..], &b"err"[..]));
    assert_eq!((guest.wasi.take_stdout(), guest.wasi.stdout()), (b"out".to_vec(), &b""[..]));
    for fd in 0..3 {
        assert_eq!(guest.call(|wasi, memory| wasi.fd_fdstat_get(memory, fd, 64)), Ok(()));
        let right = if fd == 0 { rights::READ } else { rights::WRITE };
        assert_eq!((guest.memory[64], guest.u64(72)), (0, right | rights::POLL));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_seek(memory, fd, 0, 1, OUT)), Err(Errno::Spipe));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_tell(memory, fd, OUT)), Err(Errno::Spipe));
        assert_eq!(guest.call(|wasi, memory| wasi.sock_shutdown(memory, fd, 1)), Err(Errno::NotSock));
        assert_eq!(guest.call(|wasi, memory| wasi.path_unlink_file(memory, fd, 0, 1)), Err(Errno::Inval));
    }
    assert_eq!(guest.write(0, b"x"), Err(Errno::NotCapable));
    assert_eq!((guest.read(1, 1), guest.read(9, 1)), (Err(Errno::NotCapable), Err(Errno::Badf)));
}

#[test]
fn a_bad_pointer_is_a_fault_and_nothing_is_done() {
    let mut guest = Guest::new(Wasi::builder().stdin("input"));
    guest.put(4096, b"out");
    guest.vector(3);
    assert_eq!(guest.call(|wasi, memory| wasi.fd_write(memory, 1, 16, 1, EDGE)), Err(Errno::Fault));
    assert_eq!(guest.call(|wasi, memory| wasi.fd_write(memory, 1, 16, 1 << 30, OUT)), Err(Errno::Fault));
    assert_eq!(guest.call(|wasi, memory| wasi.fd_read(memory, 0, 16, 1, u32::MAX)), Err(Errno::Fault));
    assert_eq!(guest.wasi.stdout(), b"");
    assert_eq!(guest.read(0, 9), Ok(b"input".to_vec()));
    assert_eq!(guest.call(|wasi, memory| wasi.clock_time_get(memory, 1, 0, EDGE)), Err(Errno::Fault));
    assert_eq!(guest.call(|wasi, memory| wasi.clock_time_get(memory, 1, 0, OUT)), Ok(()));
    assert_eq!(guest.u64(OUT), 1);
    assert_eq!(guest.call(|wasi, memory| wasi.random_get(memory, 1, u32::MAX)), Err(Errno::Fault));
    assert_eq!(guest.call(|wasi, memory| wasi.args_sizes_get(memory, OUT, EDGE)), Err(Errno::Fault));
    assert_eq!(guest.call(|wasi, memory| wasi.poll_oneoff(memory, 0, EDGE, 1, OUT)), Err(Errno::Fault));
    assert_eq!(guest.call(|wasi, memory| wasi.poll_oneoff(memory, 0, 0, u32::MAX, OUT)), Err(Errno::Fault));
}

#[test]
fn streams_are_written_and_flushed_at_once() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<String>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let text = &bytes[..bytes.len().min(2)];
            self.0.lock().unwrap().push_str(&String::from_utf8_lossy(text));
            Ok(text.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.lock().unwrap().push('|');
            Ok(())
        }
    }
    let log = Log::default();
    let mut guest = Guest::new(Wasi::builder().stdout(OutputStream::stream(log.clone())));
    assert_eq!((guest.write(1, b"hello"), guest.write(1, b"!")), (Ok(5), Ok(1)));
    assert_eq!(*log.0.lock().unwrap(), "hello|!|");
}

#[test]
fn descriptors_move_and_close() {
    let mut guest = Guest::new(Wasi::builder());
    assert_eq!(guest.call(|wasi, memory| wasi.fd_renumber(memory, 2, 7)), Err(Errno::Badf));
    assert_eq!(guest.call(|wasi, memory| wasi.fd_renumber(memory, 7, 2)), Err(Errno::Badf));
    assert_eq!(guest.call(|wasi, memory| wasi.fd_renumber(memory, 2, 2)), Ok(()));
    assert_eq!(guest.call(|wasi, memory| wasi.fd_renumber(memory, 2, 1)), Ok(()));
    assert_eq!((guest.write(1, b"x"), guest.write(2, b"x")), (Ok(1), Err(Errno::Badf)));
    assert_eq!(guest.wasi.stderr(), b"x");
    assert_eq!(guest.call(|wasi, memory| wasi.fd_close(memory, 1)), Ok(()));
    assert_eq!(guest.call(|wasi, memory| wasi.fd_close(memory, 1)), Err(Errno::Badf));
}

#[test]
fn rights_are_only_taken_away() {
    let mut guest = Guest::new(Wasi::builder());
    let mut set = |rights| guest.call(|wasi, memory| wasi.fd_fdstat_set_rights(memory, 1, rights, 0));
    assert_eq!(set(rights::READ), Err(Errno::NotCapable));
    assert_eq!(set(rights::POLL), Ok(()));
    assert_eq!(set(rights::WRITE), Err(Errno::NotCapable));
    assert_eq!(guest.write(1, b"x"), Err(Errno::NotCapable));
}

/// Encodes a subscription.
///
/// It is to a clock (0) by its number, timeout and flags, or to a descriptor that is read (1) or written (2).
fn subscription(userdata: u64, kind: u8, number: u32, timeout: u64, flags: u16) -> Vec<u8> {
    let mut record = [userdata, u64::from(kind), u64::from(number), timeout, 0, u64::from(flags)].map(u64::to_le_bytes);
    record[1][1] = 0xff;
    record.concat()
}

#[test]
fn polling_moves_a_fixed_clock() {
    let mut guest = Guest::new(Wasi::builder());
    let mut poll = |subscriptions: &[Vec<u8>]| {
        guest.put(1024, &subscriptions.concat());
        guest.call(|wasi, memory| wasi.poll_oneoff(memory, 1024, 2048, subscriptions.len() as u32, OUT))?;
        let events = guest.memory[2048..].chunks(32).take(guest.u32(OUT) as usize);
        Ok(events.map(|event| (event[0], event[8], event[10])).collect::<Vec<_>>())
    };
    assert_eq!(poll(&[]), Err(Errno::Inval));
    assert_eq!(poll(&[subscription(1, 3, 0, 0, 0)]), Err(Errno::Inval));
    assert_eq!(poll(&[subscription(1, 0, 9, 0, 0)]), Err(Errno::Inval));
    assert_eq!(poll(&[subscription(1, 0, 0, 0, 2)]), Err(Errno::Inval));
    let hour = 3_600_000_000_000;
    let clocks = [subscription(1, 0, 1, hour, 0), subscription(2, 0, 0, hour + 1, 0), subscription(3, 0, 1, hour, 0)];
    assert_eq!(poll(&clocks), Ok(vec![(1, 0, 0), (3, 0, 0)]));
    let absolute = [subscription(4, 0, 1, hour + 5, 1), subscription(5, 0, 1, 1, 1)];
    assert_eq!(poll(&absolute), Ok(vec![(5, 0, 0)]));
    assert_eq!(poll(&absolute[..1]), Ok(vec![(4, 0, 0)]));
    let fds = [subscription(6, 1, 0, 0, 0), subscription(7, 2, 1, 0, 0), subscription(8, 1, 99, 0, 0)];
    assert_eq!(poll(&[&clocks[..], &fds[..]].concat()), Ok(vec![(6, 0, 1), (7, 0, 2), (8, 8, 1)]));
    assert_eq!(guest.call(|wasi, memory| wasi.clock_time_get(memory, 1, 0, OUT)), Ok(()));
    assert_eq!(guest.u64(OUT), hour + 5);
}

#[test]
fn what_there_is_no_time_for_is_left_after_a_piece() {
    let mut guest = Guest::new(Wasi::builder());
    guest.memory.resize(4 * PIECE, 0);
    let length = 3 * PIECE as u32;
    let random = |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.random_get(memory, 4096, length);
    assert_eq!(guest.call_until(Some(Instant::now()), random), Err(Errno::TimedOut));
    assert!(guest.memory[4096..4096 + PIECE].chunks(64).all(|bytes| bytes.iter().any(|&byte| byte != 0)));
    assert!(guest.memory[4096 + PIECE..].iter().all(|&byte| byte == 0));
    guest.vector(length);
    let print = |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.fd_write(memory, 1, 16, 1, OUT);
    assert_eq!(guest.call_until(Some(Instant::now()), print), Err(Errno::TimedOut));
    assert_eq!(guest.wasi.stdout().len(), PIECE);
    // While there is time, everything is done.
    assert_eq!((guest.call(random), guest.call(print)), (Ok(()), Ok(())));
    assert_eq!(guest.wasi.stdout().len(), 4 * PIECE);
    assert!(guest.memory[4096 + 3 * PIECE - 64..4096 + 3 * PIECE].iter().any(|&byte| byte != 0));
}

#[test]
fn only_what_is_long_looks_at_the_clock() {
    let mut guest = Guest::new(Wasi::builder().args(["a".repeat(30_000)]));
    let is_long = |guest: &mut Guest, call: &dyn Fn(&mut Wasi, &mut Memory<'_>) -> Result<(), Errno>| {
        let mut memory = Memory::new(&mut guest.memory, Work::default());
        call(&mut guest.wasi, &mut memory).unwrap();
        memory.work.is_long()
    };
    assert!(!is_long(&mut guest, &|wasi, memory| wasi.random_get(memory, 0, 1000)));
    assert!(is_long(&mut guest, &|wasi, memory| wasi.random_get(memory, 0, 60_000)));
    guest.vector(0);
    assert!(!is_long(&mut guest, &|wasi, memory| wasi.environ_get(memory, 0, 4096)));
    assert!(is_long(&mut guest, &|wasi, memory| wasi.args_get(memory, 0, 4096)));
    guest.put(1024, &subscription(1, 0, 1, 5, 0));
    assert!(is_long(&mut guest, &|wasi, memory| wasi.poll_oneoff(memory, 1024, 2048, 1, OUT)));
}

#[test]
fn a_terminal_is_one_where_the_host_says_so() {
    let mut guest = Guest::new(Wasi::builder().stderr(OutputStream::captured(9).terminal(true)));
    for (fd, kind) in [(0, 0), (1, 0), (2, 2)] {
        assert_eq!(guest.call(|wasi, memory| wasi.fd_fdstat_get(memory, fd, 64)), Ok(()));
        // A C library takes a device that cannot seek for a terminal.
        assert_eq!((guest.memory[64], guest.u64(72) & (rights::SEEK | rights::TELL)), (kind, 0), "{fd}");
        assert_eq!(guest.call(|wasi, memory| wasi.fd_filestat_get(memory, fd, 64)), Ok(()));
        assert_eq!(guest.memory[64 + 16], kind, "{fd}");
    }
}

/// Tests with a pipe as the standard input or output.
#[cfg(unix)]
mod pipes {
    use std::fs::File;
    use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::Clock;

    /// Returns a guest with this clock, the other reader of its input, and the writer.
    fn guest(clock: Clock) -> (Guest, PipeReader, PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        let stdin = File::from(OwnedFd::from(reader.try_clone().unwrap()));
        (Guest::new(Wasi::builder().clock(clock).stdin_file(stdin)), reader, writer)
    }

    const HOUR: u64 = 3_600_000_000_000;

    /// Waits for the input and for a clock. Returns the events' user data (1 or 2), errors and flags.
    fn poll(guest: &mut Guest, time: u64) -> Vec<(u8, u8, u8)> {
        guest.put(1024, &[subscription(1, 1, 0, 0, 0), subscription(2, 0, 1, time, 0)].concat());
        assert_eq!(guest.call(|wasi, memory| wasi.poll_oneoff(memory, 1024, 2048, 2, OUT)), Ok(()));
        let events = guest.memory[2048..].chunks(32).take(guest.u32(OUT) as usize);
        events.map(|event| (event[0], event[8], event[24])).collect()
    }

    #[test]
    fn polling_waits_for_input_or_the_clock() {
        let (mut guest, _reader, mut writer) = guest(Clock::System);
        assert_eq!(poll(&mut guest, 1_000_000), [(2, 0, 0)]);
        assert_eq!(poll(&mut guest, 0), [(2, 0, 0)]);
        writer.write_all(b"ab").unwrap();
        assert_eq!(poll(&mut guest, HOUR), [(1, 0, 0)]);
        assert_eq!(poll(&mut guest, 0), [(1, 0, 0), (2, 0, 0)]);
        assert_eq!(guest.read(0, 9), Ok(b"ab".to_vec()));
        assert_eq!(poll(&mut guest, 1_000_000), [(2, 0, 0)]);
        // Input that comes while the guest waits ends the wait.
        let writing = std::thread::spawn(move || writer.write_all(b"c").map(|()| writer));
        assert_eq!(poll(&mut guest, HOUR), [(1, 0, 0)]);
        assert_eq!(guest.read(0, 9), Ok(b"c".to_vec()));
        // So does the end of the input.
        drop(writing.join().unwrap().unwrap());
        assert_eq!(poll(&mut guest, HOUR), [(1, 0, 0)]);
        assert_eq!(guest.read(0, 9), Ok(vec![]));
    }

    #[test]
    fn a_clock_that_stands_still_does_not_wait_for_input() {
        let (mut guest, _reader, mut writer) = guest(Clock::Fixed(std::time::UNIX_EPOCH));
        assert_eq!(poll(&mut guest, HOUR), [(2, 0, 0)]);
        assert_eq!(guest.call(|wasi, memory| wasi.clock_time_get(memory, 0, 0, OUT)), Ok(()));
        assert_eq!(guest.u64(OUT), HOUR);
        writer.write_all(b"ab").unwrap();
        assert_eq!(poll(&mut guest, HOUR), [(1, 0, 0)]);
        // Without a clock to wait for, the guest waits for the input.
        guest.read(0, 9).unwrap();
        let writing = std::thread::spawn(move || writer.write_all(b"c").map(|()| writer));
        guest.put(1024, &subscription(1, 1, 0, 0, 0));
        assert_eq!(guest.call(|wasi, memory| wasi.poll_oneoff(memory, 1024, 2048, 1, OUT)), Ok(()));
        assert_eq!((guest.u32(OUT), guest.memory[2048]), (1, 1));
        writing.join().unwrap().unwrap();
    }

    #[test]
    fn input_is_waited_for_no_longer_than_there_is_time() {
        let (mut guest, reader, mut writer) = guest(Clock::System);
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        guest.put(1024, &[subscription(1, 1, 0, 0, 0), subscription(2, 0, 1, HOUR, 0)].concat());
        let poll = |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.poll_oneoff(memory, 1024, 2048, 2, OUT);
        assert_eq!(guest.call_until(soon(), poll), Err(Errno::TimedOut));
        guest.vector(9);
        let read = |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.fd_read(memory, 0, 16, 1, OUT);
        assert_eq!(guest.call_until(soon(), read), Err(Errno::TimedOut));
        // A program that shares the pipe may have made it non-blocking.
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        assert_eq!(guest.call_until(soon(), read), Err(Errno::TimedOut));
        let writing = std::thread::spawn(move || writer.write_all(b"ab").map(|()| writer));
        assert_eq!(guest.read(0, 9), Ok(b"ab".to_vec()));
        let _writer = writing.join().unwrap().unwrap();
    }

    #[test]
    fn output_is_waited_for_no_longer_than_there_is_time() {
        let (reader, writer) = std::io::pipe().unwrap();
        let shared = writer.try_clone().unwrap();
        // Without a reader, the pipe takes a limited number of bytes.
        let stdout = File::from(OwnedFd::from(writer));
        let mut guest = Guest::new(Wasi::builder().stdout(OutputStream::limited_file(stdout, u64::MAX)));
        guest.memory.resize(64 * PIECE, 0);
        guest.vector(60 * PIECE as u32);
        let print = |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.fd_write(memory, 1, 16, 1, OUT);
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        // Some of it is written. Whether the guest gets that result does not matter.
        let _ = guest.call_until(soon(), print);
        assert_eq!(guest.call_until(soon(), print), Err(Errno::TimedOut));
        // Without a deadline, the guest waits for the reader, even if a program that shares the pipe has made it
        // non-blocking.
        rustix::io::ioctl_fionbio(&shared, true).unwrap();
        drop(shared);
        let reading = std::thread::spawn(move || std::io::copy(&mut { reader }, &mut std::io::sink()));
        assert_eq!(guest.call(print), Ok(()));
        assert_eq!(guest.u32(OUT), 60 * PIECE as u32);
        drop(guest);
        assert!(reading.join().unwrap().unwrap() > 60 * PIECE as u64);
    }

    #[test]
    fn no_more_input_is_taken_than_is_asked_for() {
        let (mut guest, mut reader, mut writer) = guest(Clock::System);
        writer.write_all(b"one\ntwo\n").unwrap();
        drop(writer);
        assert_eq!(guest.read(0, 4), Ok(b"one\n".to_vec()));
        // A check for more input takes nothing.
        assert_eq!(poll(&mut guest, HOUR), [(1, 0, 0)]);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "two\n");
    }
}

#[cfg(all(feature = "dirs", unix))]
mod dirs {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::Access::{ReadOnly, ReadWrite};
    use crate::listing::Listing;
    use crate::work::ASKING;

    const CREATE: u32 = 1;
    const DIRECTORY: u32 = 2;
    const EXCLUSIVE: u32 = 4;
    const TRUNCATE: u32 = 8;
    const READ: u64 = rights::READ;
    const WRITE: u64 = rights::WRITE;

    impl Guest {
        fn granted(dir: &Path, access: crate::Access) -> Self {
            Self::new(Wasi::builder().dir(dir, "/", access).unwrap())
        }

        /// Writes a path to the memory.
        fn path(&mut self, address: u32, path: impl AsRef<[u8]>) -> (u32, u32) {
            self.put(address as usize, path.as_ref());
            (address, path.as_ref().len() as u32)
        }

        fn open_at(&mut self, fd: u32, path: impl AsRef<[u8]>, how: u32, rights: u64) -> Result<u32, Errno> {
            let (path, length) = self.path(1024, path);
            self.call(|wasi, memory| wasi.path_open(memory, fd, 1, path, length, how, rights, 0, 0, OUT))?;
            Ok(self.u32(OUT))
        }

        fn open(&mut self, path: impl AsRef<[u8]>, how: u32, rights: u64) -> Result<u32, Errno> {
            self.open_at(3, path, how, rights)
        }

        /// Runs every function that changes something at a path, with `other` as the second path. Returns the results
        /// by name.
        fn changes(&mut self, path: &str, other: &str) -> Vec<(&'static str, Result<(), Errno>)> {
            let ((a, al), (b, bl)) = (self.path(1024, path), self.path(8192, other));
            let mut results = vec![
                ("mkdir", self.call(|wasi, memory| wasi.path_create_directory(memory, 3, a, al))),
                ("times", self.call(|wasi, memory| wasi.path_filestat_set_times(memory, 3, 1, a, al, 0, 0, 5))),
                ("link from", self.call(|wasi, memory| wasi.path_link(memory, 3, 0, a, al, 3, b, bl))),
                ("link to", self.call(|wasi, memory| wasi.path_link(memory, 3, 0, b, bl, 3, a, al))),
                ("rename from", self.call(|wasi, memory| wasi.path_rename(memory, 3, a, al, 3, b, bl))),
                ("rename to", self.call(|wasi, memory| wasi.path_rename(memory, 3, b, bl, 3, a, al))),
                ("symlink", self.call(|wasi, memory| wasi.path_symlink(memory, b, bl, 3, a, al))),
                ("unlink", self.call(|wasi, memory| wasi.path_unlink_file(memory, 3, a, al))),
                ("rmdir", self.call(|wasi, memory| wasi.path_remove_directory(memory, 3, a, al))),
            ];
            for (name, how, rights) in [("create", CREATE, WRITE), ("truncate", TRUNCATE, WRITE), ("write", 0, WRITE)] {
                results.push((name, self.open(path, how, rights).map(drop)));
            }
            results
        }

        fn list(&mut self, fd: u32, cookie: u64) -> Result<Vec<String>, Errno> {
            self.call(|wasi, memory| wasi.fd_readdir(memory, fd, 4096, 8192, cookie, OUT))?;
            let (mut at, end, mut names) = (4096, 4096 + self.u32(OUT), vec![]);
            while at < end {
                let length = self.u32(at + 16);
                names.push(String::from_utf8_lossy(&self.memory[at as usize + 24..][..length as usize]).into_owned());
                at += 24 + length;
            }
            Ok(names)
        }
    }

    /// Creates `in`, which is to be granted, and `out`, which is not. Links lead from one to the other.
    fn tree() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("in/sub")).unwrap();
        fs::create_dir_all(path("out/dir")).unwrap();
        fs::write(path("in/file"), "inside").unwrap();
        fs::write(path("out/secret"), "outside").unwrap();
        symlink("../out/secret", path("in/to-file")).unwrap();
        symlink(path("out"), path("in/to-dir")).unwrap();
        symlink("../../out", path("in/sub/to-dir")).unwrap();
        symlink("round", path("in/round")).unwrap();
        symlink("file", path("in/link")).unwrap();
        root
    }

    /// Returns the names and contents of what lies below a directory, and the targets of links.
    fn contents(dir: &Path) -> Vec<String> {
        let mut all = vec![];
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let link = fs::read_link(&path).map(|target| target.display().to_string());
            let is_dir = link.is_err() && path.is_dir();
            let text = link.or_else(|_| fs::read_to_string(&path)).unwrap_or_default();
            all.push(format!("{} {text}", path.display()));
            all.extend(if is_dir { contents(&path) } else { vec![] });
        }
        all.sort();
        all
    }

    #[test]
    fn no_path_leads_out() {
        let root = tree();
        let mut guest = Guest::granted(&root.path().join("in"), ReadWrite);
        let before = contents(&root.path().join("out"));
        let outside = root.path().join("out/secret").display().to_string();
        let paths = [
            "../out/secret",
            "sub/../../out/secret",
            "sub/../../in/file",
            "./../out/new",
            "to-dir/secret",
            "to-dir/dir/",
            "to-dir/../out/secret",
            "sub/to-dir/secret",
            "sub/to-dir/new",
            "sub/../to-dir/dir/new",
            outside.as_str(),
            "/file",
        ];
        for path in paths {
            assert_eq!(guest.open(path, 0, READ), Err(Errno::NotCapable), "{path}");
            assert_eq!(guest.open(path, CREATE | EXCLUSIVE, WRITE), Err(Errno::NotCapable), "{path}");
            let (a, al) = guest.path(1024, path);
            for follow in 0..2 {
                let result = guest.call(|wasi, memory| wasi.path_filestat_get(memory, 3, follow, a, al, 64));
                assert_eq!(result, Err(Errno::NotCapable), "{path}");
            }
            let result = guest.call(|wasi, memory| wasi.path_readlink(memory, 3, a, al, 4096, 100, OUT));
            assert_eq!(result, Err(Errno::NotCapable), "{path}");
            for (function, result) in guest.changes(path, "file") {
                assert_eq!(result, Err(Errno::NotCapable), "{function} {path}");
            }
        }
        for path in ["to-file", "to-dir"] {
            for how in [0, DIRECTORY, CREATE, TRUNCATE] {
                assert_eq!(guest.open(path, how, READ), Err(Errno::NotCapable), "{path}");
            }
        }
        let ((a, al), (b, bl)) = (guest.path(1024, &outside), guest.path(8192, "absolute"));
        assert_eq!(guest.call(|wasi, memory| wasi.path_symlink(memory, a, al, 3, b, bl)), Err(Errno::NotCapable));
        assert_eq!(contents(&root.path().join("out")), before);
        assert_eq!(fs::read_to_string(root.path().join("in/file")).unwrap(), "inside");
    }

    #[test]
    fn links_are_moved_and_removed_but_not_what_they_lead_to() {
        let root = tree();
        let mut guest = Guest::granted(&root.path().join("in"), ReadWrite);
        let before = contents(&root.path().join("out"));
        for link in ["to-file", "to-dir"] {
            let ((a, al), (b, bl)) = (guest.path(1024, link), guest.path(8192, "moved"));
            assert_eq!(guest.call(|wasi, memory| wasi.path_rename(memory, 3, a, al, 3, b, bl)), Ok(()));
            assert_eq!(guest.open("moved", 0, READ), Err(Errno::NotCapable));
            let (b, bl) = guest.path(8192, "moved");
            assert_eq!(guest.call(|wasi, memory| wasi.path_link(memory, 3, 0, b, bl, 3, a, al)), Ok(()), "{link}");
            assert_eq!(guest.call(|wasi, memory| wasi.path_unlink_file(memory, 3, b, bl)), Ok(()));
        }
        assert_eq!(contents(&root.path().join("out")), before);
    }

    #[test]
    fn nothing_changes_below_what_is_granted_for_reading() {
        let root = tree();
        let dir = root.path().join("in");
        let denied = Arc::new(Mutex::new(vec![]));
        let heard = denied.clone();
        let builder = Wasi::builder().dir(&dir, "/", ReadOnly).unwrap();
        let mut guest = Guest::new(builder.on_denied(move |denied| heard.lock().unwrap().push(denied.to_string())));
        let before = contents(&dir);
        for path in ["file", "sub", "new", "sub/new", "link"] {
            for (function, result) in guest.changes(path, "file") {
                assert_eq!(result, Err(Errno::NotCapable), "{function} {path}");
            }
        }
        assert_eq!(denied.lock().unwrap().len(), 5 * 12);
        assert_eq!(denied.lock().unwrap()[0], "test: file: not granted");
        assert_eq!(denied.lock().unwrap()[4], "test: file, file: not granted");
        // What is opened through it is granted for reading, too.
        let sub = guest.open("sub", DIRECTORY, READ).unwrap();
        assert_eq!(guest.open_at(sub, "new", CREATE, WRITE), Err(Errno::NotCapable));
        let file = guest.open("file", 0, READ).unwrap();
        assert_eq!(guest.read(file, 100), Ok(b"inside".to_vec()));
        assert_eq!(guest.write(file, b"x"), Err(Errno::NotCapable));
        for fd in [3, sub, file] {
            let result = guest.call(|wasi, memory| wasi.fd_filestat_set_times(memory, fd, 0, 0, 5));
            assert_eq!(result, Err(Errno::NotCapable));
        }
        assert_eq!(guest.call(|wasi, memory| wasi.fd_filestat_set_size(memory, file, 0)), Err(Errno::NotCapable));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_allocate(memory, file, 0, 99)), Err(Errno::NotCapable));
        assert_eq!(contents(&dir), before);
    }

    #[test]
    fn a_file_granted_for_reading_gets_no_second_name_to_write_it_by() {
        let root = tree();
        let [from, to] = ["in", "out"].map(|name| root.path().join(name));
        let builder = Wasi::builder().dir(from, "/from", ReadOnly).unwrap().dir(to, "/to", ReadWrite).unwrap();
        let mut guest = Guest::new(builder);
        let ((a, al), (b, bl)) = (guest.path(1024, "file"), guest.path(8192, "new"));
        let results = [
            guest.call(|wasi, memory| wasi.path_link(memory, 3, 0, a, al, 4, b, bl)),
            guest.call(|wasi, memory| wasi.path_rename(memory, 3, a, al, 4, b, bl)),
        ];
        assert_eq!(results, [Err(Errno::NotCapable); 2]);
    }

    #[test]
    fn odd_paths_have_their_codes() {
        let root = tree();
        let mut guest = Guest::granted(&root.path().join("in"), ReadWrite);
        let long = "x".repeat(300);
        let deep = "sub/../".repeat(700);
        let cases: &[(&[u8], Errno)] = &[
            (b"", Errno::NoEnt),
            (b"missing", Errno::NoEnt),
            (b"file/", Errno::NotDir),
            (b"file/x", Errno::NotDir),
            (b"round", Errno::Loop),
            (b"a\0b", Errno::Inval),
            (b"\xff\xfe", Errno::Ilseq),
            (long.as_bytes(), Errno::NameTooLong),
            (deep.as_bytes(), Errno::NameTooLong),
        ];
        for (path, errno) in cases {
            assert_eq!(guest.open(path, 0, READ), Err(*errno), "{}", String::from_utf8_lossy(path));
        }
        assert_eq!(guest.open("sub", 0, WRITE), Err(Errno::IsDir));
        assert_eq!(guest.open("file", DIRECTORY, READ), Err(Errno::NotDir));
        assert_eq!(guest.open("file", CREATE | EXCLUSIVE, WRITE), Err(Errno::Exist));
        assert_eq!(guest.open("file", CREATE | DIRECTORY, READ), Err(Errno::Inval));
        assert_eq!(guest.open("file", 16, READ), Err(Errno::Inval));
        assert_eq!(guest.call(|wasi, memory| wasi.path_open(memory, 3, 2, 0, 1, 0, 0, 0, 0, OUT)), Err(Errno::Inval));
        let file = guest.open("file", 0, READ).unwrap();
        assert_eq!(guest.open_at(file, "x", 0, READ), Err(Errno::NotDir));
        assert_eq!(guest.open_at(99, "x", 0, READ), Err(Errno::Badf));
        assert_eq!(guest.read(3, 1), Err(Errno::Badf));
        let (path, length) = guest.path(1024, "unmade");
        let open = guest.call(|wasi, memory| wasi.path_open(memory, 3, 1, path, length, 1, WRITE, 0, 0, EDGE));
        assert_eq!(open, Err(Errno::Fault));
        assert!(!root.path().join("in/unmade").exists());
    }

    #[test]
    fn a_pipe_is_not_opened() {
        let root = tree();
        let pipe = root.path().join("in/pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let denied = Arc::new(Mutex::new(vec![]));
        let heard = denied.clone();
        let builder = Wasi::builder().dir(root.path().join("in"), "/", ReadWrite).unwrap();
        let mut guest = Guest::new(builder.on_denied(move |denied| heard.lock().unwrap().push(denied.to_string())));
        assert_eq!(guest.open("pipe", 0, READ), Err(Errno::NotSup));
        assert_eq!(guest.open("pipe", 0, READ | WRITE), Err(Errno::NotSup));
        assert_eq!(guest.open("pipe", 0, WRITE), Err(Errno::NotSup));
        let (path, length) = guest.path(1024, "pipe");
        let times = guest.call(|wasi, memory| wasi.path_filestat_set_times(memory, 3, 1, path, length, 0, 0, 5));
        assert_eq!(times, Err(Errno::NotSup));
        assert_eq!(*denied.lock().unwrap(), ["test: pipe: not granted"; 4]);
        // This call fails because of its flags, so it is not a denial.
        let flags = guest.call(|wasi, memory| wasi.path_open(memory, 3, 1, path, length, 0, READ, 0, 2, OUT));
        assert_eq!((flags, denied.lock().unwrap().len()), (Err(Errno::NotSup), 4));
    }

    #[test]
    fn files_are_read_and_written_where_they_stand() {
        let root = tree();
        let mut guest = Guest::granted(&root.path().join("in"), ReadWrite);
        let file = guest.open("new", CREATE, READ | WRITE).unwrap();
        let seek = |guest: &mut Guest, offset, whence| {
            guest.call(|wasi, memory| wasi.fd_seek(memory, file, offset, whence, OUT)).map(|()| guest.u64(OUT))
        };
        assert_eq!(guest.write(file, b"0123456789"), Ok(10));
        assert_eq!(seek(&mut guest, -4, 1), Ok(6));
        assert_eq!(guest.read(file, 100), Ok(b"6789".to_vec()));
        assert_eq!(seek(&mut guest, -11, 2), Err(Errno::Inval));
        assert_eq!(seek(&mut guest, i64::MAX, 2), Err(Errno::Inval));
        assert_eq!(seek(&mut guest, 0, 3), Err(Errno::Inval));
        assert_eq!(seek(&mut guest, 12, 0), Ok(12));
        assert_eq!(guest.write(file, b"x"), Ok(1));
        assert_eq!(fs::read(root.path().join("in/new")).unwrap(), b"0123456789\0\0x");
        assert_eq!(guest.call(|wasi, memory| wasi.fd_fdstat_set_flags(memory, file, 1)), Ok(()));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_fdstat_set_flags(memory, file, 2)), Err(Errno::Inval));
        assert_eq!(seek(&mut guest, 0, 0), Ok(0));
        assert_eq!(guest.write(file, b"!"), Ok(1));
        assert_eq!(seek(&mut guest, 0, 1), Ok(14));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_filestat_set_size(memory, file, 3)), Ok(()));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_allocate(memory, file, 0, 2)), Ok(()));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_allocate(memory, file, 3, 1)), Ok(()));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_filestat_get(memory, file, 64)), Ok(()));
        assert_eq!((guest.memory[80], guest.u64(96)), (4, 4));
        let times = |flags| {
            move |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.fd_filestat_set_times(memory, file, 5, 6, flags)
        };
        assert_eq!(guest.call(times(3)), Err(Errno::Inval));
        assert_eq!(guest.call(times(16)), Err(Errno::Inval));
        assert_eq!(guest.call(times(5)), Ok(()));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_filestat_get(memory, file, 64)), Ok(()));
        assert_eq!((guest.u64(104), guest.u64(112)), (5, 6));
    }

    #[test]
    fn directories_list_in_order_and_as_they_were() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b", "a", "C", "\u{e9}"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        let mut guest = Guest::granted(root.path(), ReadOnly);
        assert_eq!(guest.list(3, 0), Ok(["., .., C, a, b, \u{e9}"].join("").split(", ").map(str::to_owned).collect()));
        fs::remove_file(root.path().join("a")).unwrap();
        assert_eq!(guest.list(3, 3), Ok(["a", "b", "\u{e9}"].map(str::to_owned).to_vec()));
        assert_eq!(guest.list(3, 0).map(|names| names.len()), Ok(5));
        assert_eq!(guest.list(3, u64::MAX), Ok(vec![]));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_readdir(memory, 3, EDGE, 9, 0, OUT)), Err(Errno::Fault));
    }

    #[test]
    fn names_are_limited() {
        let root = tree();
        let dir = crate::files::Dir::grant(&root.path().join("in"), ReadOnly).unwrap();
        let list = |limit| Listing::read(&dir, limit, &Work::default()).map(|listing| listing.len());
        assert_eq!(list(8), Ok(8));
        for limit in 0..8 {
            assert_eq!(list(limit), Err(Errno::NoMem), "{limit}");
        }
    }

    #[test]
    fn the_last_entry_is_cut_off() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("name"), "").unwrap();
        let dir = crate::files::Dir::grant(root.path(), ReadOnly).unwrap();
        let listing = Listing::read(&dir, 3, &Work::default()).unwrap();
        let encode = |cookie, buffer: &mut [u8]| listing.encode(&dir, cookie, buffer, &Work::default());
        let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino().to_le_bytes();
        let mut all = [0xff; 96];
        // Each entry has 24 bytes and its name.
        assert_eq!(encode(0, &mut all), Ok(25 + 26 + 28));
        assert_eq!((&all[..8], &all[8..16]), (&1u64.to_le_bytes()[..], &inode(root.path())[..]));
        assert_eq!(all[16..25], [1, 0, 0, 0, 3, 0, 0, 0, b'.']);
        assert_eq!((&all[51..59], &all[59..67]), (&3u64.to_le_bytes()[..], &inode(&root.path().join("name"))[..]));
        assert_eq!((&all[67..75], &all[75..80]), (&[4, 0, 0, 0, 4, 0, 0, 0][..], &b"name\xff"[..]));
        for size in 0..96 {
            let mut some = [0xff; 96];
            assert_eq!(encode(0, &mut some[..size]), Ok(size.min(79)));
            assert_eq!(some[..size.min(79)], all[..size.min(79)]);
            assert!(some[size..].iter().all(|&byte| byte == 0xff));
        }
        assert_eq!(encode(2, &mut all), Ok(28));
        assert_eq!((encode(3, &mut all), encode(u64::MAX, &mut all)), (Ok(0), Ok(0)));
        // The removed file is listed as before, without what only an existing file can tell.
        fs::remove_file(root.path().join("name")).unwrap();
        assert_eq!((encode(2, &mut all), &all[8..16], all[20]), (Ok(28), &[0; 8][..], 4));
    }

    #[test]
    fn a_list_is_read_again_only_where_that_can_tell_something_new() {
        // Nothing in this directory has changed for some time.
        let dir = crate::files::Dir::grant(Path::new("/"), ReadOnly).unwrap();
        assert!(Listing::read(&dir, 1000, &Work::default()).unwrap().is_current(&dir));
        // A directory that changed a moment ago can change again without showing it.
        let root = tempfile::tempdir().unwrap();
        let dir = crate::files::Dir::grant(root.path(), ReadOnly).unwrap();
        let mut listing = Listing::read(&dir, 1000, &Work::default()).unwrap();
        assert!(!listing.is_current(&dir));
        listing.settle();
        assert!(listing.is_current(&dir));
        fs::File::open(root.path()).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(!listing.is_current(&dir));
    }

    /// A function without time left stops after one piece.
    #[test]
    fn files_and_directories_are_worked_on_in_pieces() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), vec![b'x'; 4 * PIECE]).unwrap();
        let mut guest = Guest::granted(root.path(), ReadWrite);
        guest.memory.resize(8 * PIECE, 0);
        let (file, new) = (guest.open("file", 0, READ).unwrap(), guest.open("new", CREATE, WRITE).unwrap());
        let mut late = |call: &dyn Fn(&mut Wasi, &mut Memory<'_>) -> Result<(), Errno>, address: usize, length| {
            // Several buffers, each longer than a piece.
            for buffer in 0..3 {
                guest.put(16 + 8 * buffer, &((address + buffer * length) as u32).to_le_bytes());
                guest.put(20 + 8 * buffer, &(length as u32).to_le_bytes());
            }
            assert_eq!(guest.call_until(Some(Instant::now()), call), Err(Errno::TimedOut));
            guest.memory[address..].iter().filter(|&&byte| byte == b'x').count()
        };
        let length = PIECE + 7;
        assert_eq!(late(&|wasi, memory| wasi.fd_pread(memory, file, 16, 3, 5, OUT), 4096, length), PIECE);
        assert_eq!(late(&|wasi, memory| wasi.fd_read(memory, file, 16, 3, OUT), 4 * PIECE, length), PIECE);
        late(&|wasi, memory| wasi.fd_pwrite(memory, new, 16, 3, 0, OUT), 4096, length);
        assert_eq!(fs::metadata(root.path().join("new")).unwrap().len(), PIECE as u64);
        late(&|wasi, memory| wasi.fd_write(memory, new, 16, 3, OUT), 4096, length);
        assert_eq!(fs::metadata(root.path().join("new")).unwrap().len(), PIECE as u64);

        for name in 0..PIECE as u64 / ASKING {
            fs::write(root.path().join(name.to_string()), "").unwrap();
        }
        let list = |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.fd_readdir(memory, 3, 4096, 1 << 20, 0, OUT);
        assert_eq!(guest.call_until(Some(Instant::now()), list), Err(Errno::TimedOut));
        assert_eq!(guest.call(list), Ok(()));
        // Continuing with the existing list takes time, too, where much is asked for.
        let more =
            |length| move |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.fd_readdir(memory, 3, 4096, length, 1, OUT);
        assert_eq!(guest.call_until(Some(Instant::now()), more(1 << 20)), Err(Errno::TimedOut));
        assert_eq!(guest.call_until(Some(Instant::now()), more(4096)), Ok(()));

        // Each subscription asks for the size of the file.
        let many = 10_000;
        guest.put(4096, &subscription(1, 1, file, 0, 0).repeat(many));
        let events = 4096 + 48 * many as u32;
        let poll = |wasi: &mut Wasi, memory: &mut Memory<'_>| wasi.poll_oneoff(memory, 4096, events, many as u32, OUT);
        assert_eq!(guest.call_until(Some(Instant::now()), poll), Err(Errno::TimedOut));
        assert_eq!((guest.call(poll), guest.u32(OUT)), (Ok(()), many as u32));
    }

    #[test]
    fn devices_that_only_give_or_take_bytes_are_opened_as_files() {
        let denied = Arc::new(Mutex::new(vec![]));
        let heard = denied.clone();
        let builder = Wasi::builder().dir("/dev", "/", ReadWrite).unwrap();
        let mut guest = Guest::new(builder.on_denied(move |denied| heard.lock().unwrap().push(denied.to_string())));
        let [null, zero, random] =
            ["null", "zero", "urandom"].map(|name| guest.open(name, CREATE | TRUNCATE, READ | WRITE).unwrap());
        assert_eq!((guest.write(null, b"abc"), guest.read(null, 9)), (Ok(3), Ok(vec![])));
        assert_eq!((guest.write(zero, b"abc"), guest.read(zero, 3)), (Ok(3), Ok(vec![0; 3])));
        let numbers = guest.read(random, 32).unwrap();
        assert_ne!((numbers.len(), &numbers), (32, &guest.read(random, 32).unwrap()));
        // They are not terminals, which cannot seek.
        assert_eq!(guest.call(|wasi, memory| wasi.fd_fdstat_get(memory, null, 64)), Ok(()));
        assert_eq!((guest.memory[64], guest.u64(72) & rights::SEEK), (2, rights::SEEK));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_filestat_get(memory, null, 64)), Ok(()));
        assert_eq!(guest.memory[80], 2);
        // They have no end, either.
        guest.put(1024, &subscription(1, 1, zero, 0, 0));
        assert_eq!(guest.call(|wasi, memory| wasi.poll_oneoff(memory, 1024, 2048, 1, OUT)), Ok(()));
        assert_eq!((guest.u32(OUT), guest.memory[2048 + 8], guest.memory[2048 + 24]), (1, 0, 0));
        assert_eq!(guest.open("null", DIRECTORY, READ), Err(Errno::NotDir));
        assert_eq!(*denied.lock().unwrap(), [""; 0]);

        for (name, expected) in [("full", 1), ("tty", 2)] {
            assert_eq!(guest.open(name, 0, READ), Err(Errno::NotSup), "{name}");
            assert_eq!(denied.lock().unwrap().len(), expected, "{name}");
        }
        assert_eq!(denied.lock().unwrap()[0], "test: full: not granted");
    }

    #[test]
    fn descriptors_are_limited() {
        let root = tree();
        let mut guest = Guest::granted(&root.path().join("in"), ReadWrite);
        let opened = (0..2000).take_while(|_| guest.open("file", 0, READ).is_ok()).count();
        // A host with a lower limit for its processes reports it in its own way.
        let errno = guest.open("new", CREATE, WRITE);
        assert!(opened == 996 && errno == Err(Errno::Mfile) || opened < 996, "{opened} {errno:?}");
        assert!(!root.path().join("in/new").exists());
        assert_eq!(guest.call(|wasi, memory| wasi.fd_close(memory, 3)), Ok(()));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_prestat_get(memory, 3, OUT)), Err(Errno::Badf));
    }

    #[test]
    fn granted_directories_have_the_guests_names() {
        let root = tree();
        let builder = Wasi::builder().dir(root.path().join("in"), "/data", ReadOnly).unwrap();
        let mut guest = Guest::new(builder);
        assert_eq!(guest.call(|wasi, memory| wasi.fd_prestat_get(memory, 3, OUT)), Ok(()));
        assert_eq!(guest.u64(OUT), 5 << 32);
        assert_eq!(guest.call(|wasi, memory| wasi.fd_prestat_dir_name(memory, 3, 64, 4)), Err(Errno::NameTooLong));
        assert_eq!(guest.call(|wasi, memory| wasi.fd_prestat_dir_name(memory, 3, 64, 9)), Ok(()));
        assert_eq!(&guest.memory[64..70], b"/data\0");
        assert_eq!(guest.call(|wasi, memory| wasi.fd_prestat_get(memory, 4, OUT)), Err(Errno::Badf));
        let missing = Wasi::builder().dir(root.path().join("missing"), "/", ReadOnly);
        assert_eq!(missing.err().map(|error| error.kind()), Some(std::io::ErrorKind::NotFound));
    }
}

//! `poll_oneoff`: waits for clocks and descriptors.

use std::time::{Duration, Instant};

use crate::errno::Errno;
use crate::memory::Memory;
use crate::stat::{FileType, rights};
use crate::table::{Node, OpenFile};
use crate::wasi::Wasi;
use crate::work::{ASKING, PIECE, Work};

/// Sizes of the records in the guest's memory, in bytes.
const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;
/// Maximum number of subscriptions in one call.
const MAX_SUBSCRIPTIONS: u32 = 10_000;

/// One thing that a guest waits for.
struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    what: What,
}

enum What {
    /// Nanoseconds from now.
    Time(u64),
    /// The standard input, which may not be ready yet.
    Input,
    /// Another descriptor, which is ready, or an error, at once.
    Fd(Result<Ready, Errno>),
}

/// Readiness of a descriptor.
#[derive(Clone, Copy, Default)]
struct Ready {
    /// Number of bytes that can be read or written. For anything but a file it only says that there may be some.
    bytes: u64,
    /// Whether a file was read to its end.
    at_end: bool,
}

impl Ready {
    const STREAM: Self = Self { bytes: 1, at_end: false };
}

impl Wasi {
    pub(crate) fn poll_oneoff(
        &mut self,
        memory: &mut Memory<'_>,
        subscriptions: u32,
        events: u32,
        count: u32,
        done: u32,
    ) -> Result<(), Errno> {
        memory.array(subscriptions, count, SUBSCRIPTION)?;
        memory.array(events, count, EVENT)?;
        memory.range(done, 4)?;
        // The limits are those of `poll` on other systems: checking a subscription takes the host's time, and the list
        // takes its memory.
        if count == 0 || count > MAX_SUBSCRIPTIONS {
            return Err(Errno::Inval);
        }
        // All subscriptions are read before the first event is written, which may overwrite them.
        let mut list = Vec::with_capacity(count as usize);
        for index in 0..count {
            list.push(self.subscription(memory, subscriptions + index * SUBSCRIPTION)?);
            memory.work.add(ASKING)?;
        }
        let (passed, input) = self.wait(&list, &memory.work);
        // The guest's time may have ended first.
        memory.work.add(PIECE as u64)?;
        let mut written = 0;
        for Subscription { userdata, kind, what } in list {
            let ready = match what {
                What::Time(time) if time > passed => continue,
                What::Time(_) => Ok(Ready::default()),
                What::Input if !input => continue,
                What::Input => Ok(Ready::STREAM),
                What::Fd(ready) => ready,
            };
            let Ready { bytes, at_end } = ready.unwrap_or_default();
            let mut event = [0; EVENT as usize];
            event[..8].copy_from_slice(&userdata);
            event[8..10].copy_from_slice(&(ready.err().map_or(0, |errno| errno as u16)).to_le_bytes());
            event[10] = kind;
            event[16..24].copy_from_slice(&bytes.to_le_bytes());
            event[24] = u8::from(at_end);
            memory.write(events + written * EVENT, &event)?;
            written += 1;
        }
        memory.write_u32(done, written)
    }

    /// Waits for the first of these events, unless the work is over before.
    ///
    /// Returns how many nanoseconds have passed on the guest's clock, and whether there is something to read from the
    /// standard input.
    fn wait(&mut self, list: &[Subscription], work: &Work) -> (u64, bool) {
        let mut input = false;
        // Without a clock or a ready descriptor, there is no limit.
        let mut limit = None;
        for subscription in list {
            let time = match subscription.what {
                What::Time(time) => time,
                What::Input => {
                    input = true;
                    continue;
                }
                What::Fd(_) => 0,
            };
            limit = Some(limit.map_or(time, |limit: u64| limit.min(time)));
        }
        if input {
            let begun = Instant::now();
            // On a frozen clock, the time has passed at once: input that is not there yet comes too late.
            let real = limit.map(|limit| if self.time.is_real() { limit } else { 0 });
            if self.stdin.is_ready(real.map(Duration::from_nanos), work) {
                let passed = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                return (if self.time.is_real() { passed } else { 0 }, true);
            }
            if self.time.is_real() {
                return (limit.unwrap_or_default(), false);
            }
        }
        let limit = limit.unwrap_or_default();
        self.time.wait(limit, work);
        (limit, false)
    }

    fn subscription(&self, memory: &Memory<'_>, address: u32) -> Result<Subscription, Errno> {
        let record: [u8; SUBSCRIPTION as usize] = memory.read(address)?;
        let kind = record[8];
        let what = match kind {
            0 => {
                let now = self.time.now(u32_at(&record, 16)).ok_or(Errno::Inval)?;
                match u64_at(&record, 40) & 0xffff {
                    0 => What::Time(u64_at(&record, 24)),
                    1 => What::Time(u64_at(&record, 24).saturating_sub(now)),
                    _ => return Err(Errno::Inval),
                }
            }
            1 => self.ready(u32_at(&record, 16), rights::READ),
            2 => self.ready(u32_at(&record, 16), rights::WRITE),
            _ => return Err(Errno::Inval),
        };
        let mut userdata = [0; 8];
        userdata.copy_from_slice(&record[..8]);
        Ok(Subscription { userdata, kind, what })
    }

    /// Returns what a read from or a write to a descriptor waits for.
    fn ready(&self, fd: u32, right: u64) -> What {
        let ready = self.table.get(fd).and_then(|descriptor| match &descriptor.node {
            Node::Dir(_) => Err(Errno::Badf),
            _ if descriptor.rights & right == 0 => Err(Errno::Badf),
            Node::Stdin => Ok(None),
            Node::File(OpenFile { file, position, .. }) if right == rights::READ => {
                let stat = file.stat()?;
                // A device has no size, and therefore no end.
                if stat.filetype != FileType::RegularFile {
                    return Ok(Some(Ready::STREAM));
                }
                let bytes = stat.size.saturating_sub(*position);
                Ok(Some(Ready { bytes, at_end: bytes == 0 }))
            }
            _ => Ok(Some(Ready::STREAM)),
        });
        match ready {
            Ok(None) => What::Input,
            Ok(Some(ready)) => What::Fd(Ok(ready)),
            Err(errno) => What::Fd(Err(errno)),
        }
    }
}

fn u32_at(record: &[u8], offset: usize) -> u32 {
    u64_at(record, offset) as u32
}

fn u64_at(record: &[u8], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&record[offset..offset + 8]);
    u64::from_le_bytes(bytes)
}

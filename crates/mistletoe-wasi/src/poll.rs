//! `poll_oneoff`: waiting.

use std::time::Instant;

use crate::errno::Errno;
use crate::memory::Memory;
use crate::stat::rights;
use crate::table::{Node, OpenFile};
use crate::wasi::Wasi;

/// Sizes of the records in the guest's memory.
const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;
/// How many subscriptions there can be at once.
const MAX_SUBSCRIPTIONS: u32 = 10_000;

/// What a guest waits for.
struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    what: What,
}

enum What {
    /// So many nanoseconds from now.
    Time(u64),
    /// A descriptor, which has so many bytes or an error at once: nothing here is ever not ready.
    Fd(Result<u64, Errno>),
}

impl Wasi {
    pub(crate) fn poll_oneoff(
        &mut self,
        memory: &mut Memory<'_>,
        deadline: Option<Instant>,
        subscriptions: u32,
        events: u32,
        count: u32,
        done: u32,
    ) -> Result<(), Errno> {
        memory.array(subscriptions, count, SUBSCRIPTION)?;
        memory.array(events, count, EVENT)?;
        memory.range(done, 4)?;
        // As of `poll` on other systems; looking at each takes the host's time.
        if count == 0 || count > MAX_SUBSCRIPTIONS {
            return Err(Errno::Inval);
        }
        // The list is read twice, so that it takes no memory of the host's: its length is the guest's to choose.
        let mut wait = u64::MAX;
        for index in 0..count {
            match self.subscription(memory, subscriptions + index * SUBSCRIPTION)?.what {
                What::Time(time) => wait = wait.min(time),
                What::Fd(_) => wait = 0,
            }
        }
        let mut written = 0;
        for index in 0..count {
            let Subscription { userdata, kind, what } =
                self.subscription(memory, subscriptions + index * SUBSCRIPTION)?;
            let ready = match what {
                What::Time(time) if time > wait => continue,
                What::Time(_) => Ok(0),
                What::Fd(ready) => ready,
            };
            let mut event = [0; EVENT as usize];
            event[..8].copy_from_slice(&userdata);
            event[8..10].copy_from_slice(&(ready.err().map_or(0, |errno| errno as u16)).to_le_bytes());
            event[10] = kind;
            event[16..24].copy_from_slice(&ready.unwrap_or(0).to_le_bytes());
            memory.write(events + written * EVENT, &event)?;
            written += 1;
        }
        self.time.wait(wait, deadline);
        memory.write_u32(done, written)
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
            1 => What::Fd(self.ready(u32_at(&record, 16), rights::READ)),
            2 => What::Fd(self.ready(u32_at(&record, 16), rights::WRITE)),
            _ => return Err(Errno::Inval),
        };
        let mut userdata = [0; 8];
        userdata.copy_from_slice(&record[..8]);
        Ok(Subscription { userdata, kind, what })
    }

    /// How many bytes can be read or written; of a stream it is only known that there may be some.
    fn ready(&self, fd: u32, right: u64) -> Result<u64, Errno> {
        let descriptor = self.table.get(fd)?;
        match &descriptor.node {
            Node::Dir(_) => Err(Errno::Badf),
            _ if descriptor.rights & right == 0 => Err(Errno::Badf),
            Node::File(OpenFile { file, position, .. }) if right == rights::READ => {
                Ok(file.stat()?.size.saturating_sub(*position))
            }
            _ => Ok(1),
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

//! The contents of a directory at the time when a guest began to list it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use crate::clock::since_epoch;
use crate::errno::Errno;
use crate::files::Dir;
use crate::stat::{FileType, Filestat};
use crate::work::{ASKING, Work};

/// Maximum number of names in all directories that a guest lists at the same time.
///
/// Each name has up to 255 bytes. Beyond the maximum, a call is [`Errno::NoMem`].
pub(crate) const MAX_LISTED: usize = 100_000;

/// Maximum age of a list for a guest that begins again, if the directory shows no change.
///
/// Not all file systems show changes.
const CURRENT: Duration = Duration::from_secs(1);

/// Resolution that the times of a file system can have, in nanoseconds: two changes within it can look like one.
const COARSE: u64 = 2_000_000_000;

/// Names in byte order, with their types as far as they are known.
pub(crate) struct Listing {
    entries: Vec<(Box<str>, FileType)>,
    /// Attributes of the directory itself, from before it was read.
    own: Filestat,
    read: Instant,
    /// Whether a later change of the directory shows in its times.
    is_settled: bool,
}

impl Listing {
    /// Reads a directory of at most `limit` names, including `.` and `..`.
    pub(crate) fn read(dir: &Dir, limit: usize, work: &Work) -> Result<Self, Errno> {
        let (own, read) = (dir.stat()?, Instant::now());
        let changed = own.modified.max(own.changed).saturating_add(COARSE);
        let is_settled = changed < since_epoch(SystemTime::now());
        // Sorted from the start, to avoid one long step at the end.
        let mut names = BTreeMap::new();
        let room = limit.checked_sub(2).ok_or(Errno::NoMem)?;
        dir.list(|name, filetype| {
            if names.len() == room {
                return Err(Errno::NoMem);
            }
            names.insert(name.into_boxed_str(), filetype);
            work.add(ASKING)
        })?;
        let dots = [".", ".."].map(|name| (name.into(), FileType::Directory));
        Ok(Self { entries: dots.into_iter().chain(names).collect(), own, read, is_settled })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Marks the list as if the directory had not changed for a while before it was read.
    #[cfg(all(test, feature = "dirs", unix))]
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
    }

    /// Returns whether reading the directory again would give the same list.
    pub(crate) fn is_current(&self, dir: &Dir) -> bool {
        let times = |stat: Filestat| (stat.modified, stat.changed);
        self.is_settled && self.read.elapsed() < CURRENT && dir.stat().is_ok_and(|own| times(own) == times(self.own))
    }

    /// Writes entries from index `cookie` on and returns how much of the buffer was used.
    ///
    /// The last entry is cut off where the buffer ends.
    pub(crate) fn encode(&self, dir: &Dir, cookie: u64, buffer: &mut [u8], work: &Work) -> Result<usize, Errno> {
        let size = buffer.len();
        let mut rest = buffer;
        let start = usize::try_from(cookie).unwrap_or(usize::MAX);
        let entries = self.entries.get(start..).unwrap_or_default();
        for (index, (name, filetype)) in entries.iter().enumerate() {
            if rest.is_empty() {
                break;
            }
            let next = cookie + index as u64 + 1;
            work.add(ASKING)?;
            let (inode, filetype) = self.attributes(dir, name, *filetype);
            let mut head = [0; 24];
            head[..8].copy_from_slice(&next.to_le_bytes());
            head[8..16].copy_from_slice(&inode.to_le_bytes());
            head[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
            head[20] = filetype as u8;
            for part in [&head, name.as_bytes()] {
                let (filled, left) = rest.split_at_mut(part.len().min(rest.len()));
                filled.copy_from_slice(&part[..filled.len()]);
                rest = left;
            }
        }
        Ok(size - rest.len())
    }

    /// Returns the inode and type of an entry. Only the entries that the guest gets are looked up.
    fn attributes(&self, dir: &Dir, name: &str, filetype: FileType) -> (u64, FileType) {
        match name {
            // The guest must not learn what lies above the directory.
            "." | ".." => (self.own.inode, FileType::Directory),
            // A file that was removed since then has no inode.
            name => dir.stat_at(name, false).map_or((0, filetype), |stat| (stat.inode, stat.filetype)),
        }
    }
}

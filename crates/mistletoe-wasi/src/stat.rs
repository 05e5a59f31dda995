//! What the guest is told of files, in the specification's layout.

/// Rights, one bit each.
pub(crate) mod rights {
    pub(crate) const READ: u64 = 1 << 1;
    pub(crate) const SEEK: u64 = 1 << 2;
    pub(crate) const SET_FLAGS: u64 = 1 << 3;
    pub(crate) const TELL: u64 = 1 << 5;
    pub(crate) const WRITE: u64 = 1 << 6;
    pub(crate) const ADVISE: u64 = 1 << 7;
    pub(crate) const ALLOCATE: u64 = 1 << 8;
    pub(crate) const CREATE_DIRECTORY: u64 = 1 << 9;
    pub(crate) const CREATE_FILE: u64 = 1 << 10;
    pub(crate) const LINK_SOURCE: u64 = 1 << 11;
    pub(crate) const LINK_TARGET: u64 = 1 << 12;
    pub(crate) const OPEN: u64 = 1 << 13;
    pub(crate) const READDIR: u64 = 1 << 14;
    pub(crate) const READLINK: u64 = 1 << 15;
    pub(crate) const RENAME_SOURCE: u64 = 1 << 16;
    pub(crate) const RENAME_TARGET: u64 = 1 << 17;
    pub(crate) const PATH_STAT: u64 = 1 << 18;
    pub(crate) const PATH_SET_SIZE: u64 = 1 << 19;
    pub(crate) const PATH_SET_TIMES: u64 = 1 << 20;
    pub(crate) const STAT: u64 = 1 << 21;
    pub(crate) const SET_SIZE: u64 = 1 << 22;
    pub(crate) const SET_TIMES: u64 = 1 << 23;
    pub(crate) const SYMLINK: u64 = 1 << 24;
    pub(crate) const REMOVE_DIRECTORY: u64 = 1 << 25;
    pub(crate) const UNLINK: u64 = 1 << 26;
    pub(crate) const POLL: u64 = 1 << 27;
    pub(crate) const DATASYNC: u64 = 1 << 0;
    pub(crate) const SYNC: u64 = 1 << 4;

    /// What a descriptor needs to be written through.
    pub(crate) const WRITING: u64 = WRITE | ALLOCATE | SET_SIZE;
    /// What nothing below a directory has that was granted for reading.
    pub(crate) const CHANGING: u64 = WRITING
        | CREATE_DIRECTORY
        | CREATE_FILE
        | LINK_SOURCE
        | LINK_TARGET
        | RENAME_SOURCE
        | RENAME_TARGET
        | PATH_SET_SIZE
        | PATH_SET_TIMES
        | SET_TIMES
        | SYMLINK
        | REMOVE_DIRECTORY
        | UNLINK;
    pub(crate) const FILE: u64 =
        DATASYNC | READ | SEEK | SET_FLAGS | SYNC | TELL | ADVISE | STAT | SET_TIMES | POLL | WRITING;
    pub(crate) const DIR: u64 = (CHANGING & !WRITING) | OPEN | READDIR | READLINK | PATH_STAT | STAT;
    pub(crate) const ALL: u64 = FILE | DIR;
}

/// A file appends, whatever its position.
pub(crate) const APPEND: u16 = 1;
/// Kept for the guest, and without effect: files are always ready.
pub(crate) const NONBLOCK: u16 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FileType {
    Unknown = 0,
    #[cfg_attr(not(all(feature = "dirs", unix)), allow(dead_code))]
    BlockDevice = 1,
    #[cfg_attr(not(all(feature = "dirs", unix)), allow(dead_code))]
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    #[cfg_attr(not(all(feature = "dirs", unix)), allow(dead_code))]
    Socket = 6,
    #[cfg_attr(not(all(feature = "dirs", unix)), allow(dead_code))]
    SymbolicLink = 7,
}

/// A file's attributes; times in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filestat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) filetype: FileType,
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) accessed: u64,
    pub(crate) modified: u64,
    pub(crate) changed: u64,
}

impl Filestat {
    /// A stream's, of which nothing is known.
    pub(crate) const STREAM: Self = Self {
        device: 0,
        inode: 0,
        filetype: FileType::Unknown,
        links: 0,
        size: 0,
        accessed: 0,
        modified: 0,
        changed: 0,
    };

    pub(crate) fn encode(&self) -> [u8; 64] {
        let Self { device, inode, filetype, links, size, accessed, modified, changed } = *self;
        let fields = [device, inode, filetype as u64, links, size, accessed, modified, changed];
        let mut bytes = [0; 64];
        for (bytes, field) in bytes.chunks_exact_mut(8).zip(fields) {
            bytes.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) inode: u64,
    pub(crate) filetype: FileType,
}

/// Writes entries from the `cookie`th on, the last of them cut off where the buffer ends; how much of it was used.
pub(crate) fn encode_entries(entries: &[Entry], cookie: u64, buffer: &mut [u8]) -> usize {
    let size = buffer.len();
    let mut rest = buffer;
    for (next, entry) in (1u64..).zip(entries).skip(usize::try_from(cookie).unwrap_or(usize::MAX)) {
        let mut head = [0; 24];
        head[..8].copy_from_slice(&next.to_le_bytes());
        head[8..16].copy_from_slice(&entry.inode.to_le_bytes());
        head[16..20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
        head[20] = entry.filetype as u8;
        for part in [&head, entry.name.as_bytes()] {
            let (filled, left) = rest.split_at_mut(part.len().min(rest.len()));
            filled.copy_from_slice(&part[..filled.len()]);
            rest = left;
        }
        if rest.is_empty() {
            break;
        }
    }
    size - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_type_is_a_byte_and_padding() {
        let stat = Filestat { device: 1, inode: 2, filetype: FileType::Directory, size: 5, ..Filestat::STREAM };
        let bytes = stat.encode();
        assert_eq!((bytes[0], bytes[8], &bytes[16..24], bytes[32]), (1, 2, &[3, 0, 0, 0, 0, 0, 0, 0][..], 5));
    }

    #[test]
    fn the_last_entry_is_cut_off() {
        let entry = |name: &str| Entry { name: name.to_owned(), inode: 9, filetype: FileType::RegularFile };
        let entries = [entry("."), entry("name")];
        let mut all = [0xff; 80];
        assert_eq!(encode_entries(&entries, 0, &mut all), 53);
        assert_eq!(all[..8], 1u64.to_le_bytes());
        assert_eq!(all[16..25], [1, 0, 0, 0, 4, 0, 0, 0, b'.']);
        assert_eq!((all[25], &all[49..54]), (2, &b"name\xff"[..]));
        for size in 0..80 {
            let mut some = [0xff; 80];
            assert_eq!(encode_entries(&entries, 0, &mut some[..size]), size.min(53));
            assert_eq!(some[..size.min(53)], all[..size.min(53)]);
            assert!(some[size..].iter().all(|&byte| byte == 0xff));
        }
        assert_eq!(encode_entries(&entries, 1, &mut all), 28);
        assert_eq!(encode_entries(&entries, 2, &mut all), 0);
        assert_eq!(encode_entries(&entries, u64::MAX, &mut all), 0);
    }
}

//! Attributes and rights of files, in the specification's layout.

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

    /// Rights that a descriptor needs to be written through.
    pub(crate) const WRITING: u64 = WRITE | ALLOCATE | SET_SIZE;
    /// Rights that no descriptor has below a directory granted for reading.
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

/// The file appends, whatever its position.
pub(crate) const APPEND: u16 = 1;
/// Stored for the guest, without effect: files are always ready.
pub(crate) const NONBLOCK: u16 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FileType {
    Unknown = 0,
    #[cfg_attr(not(all(feature = "dirs", unix)), allow(dead_code))]
    BlockDevice = 1,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    #[cfg_attr(not(all(feature = "dirs", unix)), allow(dead_code))]
    Socket = 6,
    #[cfg_attr(not(all(feature = "dirs", unix)), allow(dead_code))]
    SymbolicLink = 7,
}

/// Attributes of a file. Times are in nanoseconds since 1970.
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
    /// Returns the attributes of a stream, of which only the type is known.
    pub(crate) fn stream(filetype: FileType) -> Self {
        Self { device: 0, inode: 0, filetype, links: 0, size: 0, accessed: 0, modified: 0, changed: 0 }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_type_is_a_byte_and_padding() {
        let stat = Filestat { device: 1, inode: 2, size: 5, ..Filestat::stream(FileType::Directory) };
        let bytes = stat.encode();
        assert_eq!((bytes[0], bytes[8], &bytes[16..24], bytes[32]), (1, 2, &[3, 0, 0, 0, 0, 0, 0, 0][..], 5));
    }
}

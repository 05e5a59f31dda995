//! `path_*`: the functions on paths below a directory.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::errno::Errno;
use crate::fd::known_flags;
use crate::files::{How, Opened};
use crate::memory::Memory;
use crate::stat::rights;
use crate::table::{Descriptor, Node, OpenDir, OpenFile};
use crate::wasi::Wasi;

impl Wasi {
    pub(crate) fn path_create_directory(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<(), Errno> {
        let path = memory.path(path, length)?;
        self.table.dir(fd, rights::CREATE_DIRECTORY)?.create_dir(path)
    }

    pub(crate) fn path_filestat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        stat: u32,
    ) -> Result<(), Errno> {
        let path = memory.path(path, length)?;
        let attributes = self.table.dir(fd, rights::PATH_STAT)?.stat_at(path, follows(lookup)?)?;
        memory.write(stat, &attributes.encode())
    }

    pub(crate) fn path_filestat_set_times(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Result<(), Errno> {
        let path = memory.path(path, length)?;
        let (accessed, modified) = self.times(accessed, modified, flags)?;
        match self.table.dir(fd, rights::PATH_SET_TIMES)?.set_times(path, follows(lookup)?, accessed, modified)? {
            Some(()) => Ok(()),
            None => Err(memory.deny(Errno::NotSup)),
        }
    }

    pub(crate) fn path_link(
        &mut self,
        memory: &mut Memory<'_>,
        old_fd: u32,
        lookup: u32,
        old: u32,
        old_length: u32,
        new_fd: u32,
        new: u32,
        new_length: u32,
    ) -> Result<(), Errno> {
        let (old, new) = (memory.path(old, old_length)?, memory.path(new, new_length)?);
        if follows(lookup)? {
            return Err(Errno::Inval);
        }
        let source = self.table.dir(old_fd, rights::LINK_SOURCE)?;
        source.link(old, self.table.dir(new_fd, rights::LINK_TARGET)?, new)
    }

    pub(crate) fn path_open(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        how: u32,
        asked: u64,
        _inheriting: u64,
        flags: u32,
        opened: u32,
    ) -> Result<(), Errno> {
        memory.range(opened, 4)?;
        let path = memory.path(path, length)?;
        let [create, directory, exclusive, truncate] = [1, 2, 4, 8].map(|bit| how & bit != 0);
        if how > 15 || directory && (create || exclusive || truncate) {
            return Err(Errno::Inval);
        }
        let flags = known_flags(flags).ok_or(if flags > 31 { Errno::Inval } else { Errno::NotSup })?;
        let write = asked & rights::WRITE != 0;
        // A guest that asks for neither gets to read, because the host has to open the file for something.
        let read = asked & rights::READ != 0 || !write;
        let how = How { read, write, create, exclusive, truncate, directory, follow: follows(lookup)? };

        let right = |right, needed| if needed { right } else { 0 };
        let needed = rights::OPEN | right(rights::CREATE_FILE, create) | right(rights::PATH_SET_SIZE, truncate);
        let dir = self.table.dir(fd, needed)?;
        let inheriting = self.table.get(fd)?.inheriting;
        let may = inheriting & dir.rights();
        if write && may & rights::WRITE == 0 || !write && may & rights::READ == 0 {
            return Err(Errno::NotCapable);
        }
        self.table.room()?;
        let asked = may & !right(rights::READ, !read) & !right(rights::WRITING, !write);
        let node = match dir.open(path, how)? {
            Opened::File(file) => Node::File(OpenFile { file, position: 0, flags }),
            Opened::Dir(dir) => Node::Dir(OpenDir { dir, listing: None, granted: None }),
            Opened::Other => return Err(memory.deny(Errno::NotSup)),
        };
        let descriptor = Descriptor::opened(node, asked, inheriting);
        let fd = self.table.insert(descriptor)?;
        memory.write_u32(opened, fd)
    }

    pub(crate) fn path_readlink(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        path: u32,
        length: u32,
        buffer: u32,
        size: u32,
        used: u32,
    ) -> Result<(), Errno> {
        memory.range(buffer, size)?;
        memory.range(used, 4)?;
        let path = memory.path(path, length)?;
        let target = self.table.dir(fd, rights::READLINK)?.read_link(path)?;
        let target = &target[..target.len().min(size as usize)];
        memory.write(buffer, target)?;
        memory.write_u32(used, target.len() as u32)
    }

    pub(crate) fn path_remove_directory(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<(), Errno> {
        let path = memory.path(path, length)?;
        self.table.dir(fd, rights::REMOVE_DIRECTORY)?.remove_dir(path)
    }

    pub(crate) fn path_rename(
        &mut self,
        memory: &mut Memory<'_>,
        old_fd: u32,
        old: u32,
        old_length: u32,
        new_fd: u32,
        new: u32,
        new_length: u32,
    ) -> Result<(), Errno> {
        let (old, new) = (memory.path(old, old_length)?, memory.path(new, new_length)?);
        let source = self.table.dir(old_fd, rights::RENAME_SOURCE)?;
        source.rename(old, self.table.dir(new_fd, rights::RENAME_TARGET)?, new)
    }

    pub(crate) fn path_symlink(
        &mut self,
        memory: &mut Memory<'_>,
        old: u32,
        old_length: u32,
        fd: u32,
        new: u32,
        new_length: u32,
    ) -> Result<(), Errno> {
        let (old, new) = (memory.path(old, old_length)?, memory.path(new, new_length)?);
        self.table.dir(fd, rights::SYMLINK)?.symlink(old, new)
    }

    pub(crate) fn path_unlink_file(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<(), Errno> {
        let path = memory.path(path, length)?;
        self.table.dir(fd, rights::UNLINK)?.unlink(path)
    }

    /// Returns the times that a guest sets: one that it names, the current time of its own clock, or none.
    pub(crate) fn times(&self, accessed: u64, modified: u64, flags: u32) -> Result<(Time, Time), Errno> {
        let pick = |time, given, now| match (flags & given != 0, flags & now != 0) {
            (true, true) => Err(Errno::Inval),
            (true, false) => Ok(Some(UNIX_EPOCH + Duration::from_nanos(time))),
            (false, true) => Ok(Some(UNIX_EPOCH + Duration::from_nanos(self.time.real()))),
            (false, false) => Ok(None),
        };
        if flags > 15 {
            return Err(Errno::Inval);
        }
        Ok((pick(accessed, 1, 2)?, pick(modified, 4, 8)?))
    }
}

type Time = Option<SystemTime>;

/// Returns whether a symbolic link at the end of a path is followed.
fn follows(lookup: u32) -> Result<bool, Errno> {
    if lookup > 1 { Err(Errno::Inval) } else { Ok(lookup == 1) }
}

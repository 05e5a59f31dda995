//! `fd_*`: the functions on descriptors; and `sock_*`, for which no descriptor is a socket.

use crate::errno::Errno;
use crate::listing::{Listing, MAX_LISTED};
use crate::memory::Memory;
use crate::stat::{APPEND, FileType, Filestat, NONBLOCK, rights};
use crate::table::{Node, OpenDir, OpenFile};
use crate::wasi::Wasi;
use crate::work::{LOOK, PIECE};

impl Wasi {
    pub(crate) fn fd_advise(
        &mut self,
        _: &mut Memory<'_>,
        fd: u32,
        _offset: u64,
        length: u64,
        advice: u32,
    ) -> Result<(), Errno> {
        self.table.file(fd, rights::ADVISE, Errno::Badf)?;
        // The advice is checked, but not passed on.
        if advice > 5 || i64::try_from(length).is_err() { Err(Errno::Inval) } else { Ok(()) }
    }

    pub(crate) fn fd_allocate(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        memory.work.count(LOOK);
        let open = self.table.file(fd, rights::ALLOCATE, Errno::Spipe)?;
        let end = offset.checked_add(length).ok_or(Errno::Fbig)?;
        if length == 0 {
            return Err(Errno::Inval);
        }
        if end > open.file.stat()?.size { open.file.set_size(end) } else { Ok(()) }
    }

    pub(crate) fn fd_close(&mut self, _: &mut Memory<'_>, fd: u32) -> Result<(), Errno> {
        self.table.close(fd)
    }

    pub(crate) fn fd_datasync(&mut self, memory: &mut Memory<'_>, fd: u32) -> Result<(), Errno> {
        memory.work.count(LOOK);
        self.table.file(fd, rights::DATASYNC, Errno::Badf)?.file.sync(false)
    }

    pub(crate) fn fd_sync(&mut self, memory: &mut Memory<'_>, fd: u32) -> Result<(), Errno> {
        memory.work.count(LOOK);
        self.table.file(fd, rights::SYNC, Errno::Badf)?.file.sync(true)
    }

    pub(crate) fn fd_fdstat_get(&mut self, memory: &mut Memory<'_>, fd: u32, stat: u32) -> Result<(), Errno> {
        let descriptor = self.table.get(fd)?;
        let (filetype, flags) = match &descriptor.node {
            node @ (Node::Stdin | Node::Stdout | Node::Stderr) => (self.stream_type(node), 0),
            Node::File(open) => (open.file.filetype(), open.flags),
            Node::Dir(_) => (FileType::Directory, 0),
        };
        let mut bytes = [0; 24];
        bytes[0] = filetype as u8;
        bytes[2..4].copy_from_slice(&flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&descriptor.rights.to_le_bytes());
        bytes[16..].copy_from_slice(&descriptor.inheriting.to_le_bytes());
        memory.write(stat, &bytes)
    }

    fn stream_type(&self, node: &Node) -> FileType {
        match node {
            Node::Stdin => self.stdin.filetype(),
            Node::Stderr => self.stderr.filetype(),
            _ => self.stdout.filetype(),
        }
    }

    pub(crate) fn fd_fdstat_set_flags(&mut self, _: &mut Memory<'_>, fd: u32, flags: u32) -> Result<(), Errno> {
        let open = self.table.file(fd, rights::SET_FLAGS, Errno::Badf)?;
        open.flags = known_flags(flags).ok_or(Errno::Inval)?;
        Ok(())
    }

    pub(crate) fn fd_fdstat_set_rights(
        &mut self,
        _: &mut Memory<'_>,
        fd: u32,
        rights: u64,
        inheriting: u64,
    ) -> Result<(), Errno> {
        let descriptor = self.table.get_mut(fd)?;
        if rights & !descriptor.rights != 0 || inheriting & !descriptor.inheriting != 0 {
            return Err(Errno::NotCapable);
        }
        (descriptor.rights, descriptor.inheriting) = (rights, inheriting);
        Ok(())
    }

    pub(crate) fn fd_filestat_get(&mut self, memory: &mut Memory<'_>, fd: u32, stat: u32) -> Result<(), Errno> {
        let descriptor = self.table.get(fd)?;
        let attributes = match &descriptor.node {
            node @ (Node::Stdin | Node::Stdout | Node::Stderr) => Filestat::stream(self.stream_type(node)),
            Node::File(open) => descriptor.need(rights::STAT).and_then(|()| open.file.stat())?,
            Node::Dir(open) => descriptor.need(rights::STAT).and_then(|()| open.dir.stat())?,
        };
        memory.write(stat, &attributes.encode())
    }

    pub(crate) fn fd_filestat_set_size(&mut self, memory: &mut Memory<'_>, fd: u32, size: u64) -> Result<(), Errno> {
        memory.work.count(LOOK);
        self.table.file(fd, rights::SET_SIZE, Errno::Badf)?.file.set_size(size)
    }

    pub(crate) fn fd_filestat_set_times(
        &mut self,
        _: &mut Memory<'_>,
        fd: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Result<(), Errno> {
        let (accessed, modified) = self.times(accessed, modified, flags)?;
        let descriptor = self.table.get(fd)?;
        match &descriptor.node {
            Node::Stdin | Node::Stdout | Node::Stderr => Err(Errno::Badf),
            Node::File(open) => {
                descriptor.need(rights::SET_TIMES).and_then(|()| open.file.set_times(accessed, modified))
            }
            Node::Dir(open) => {
                descriptor.need(rights::SET_TIMES)?;
                open.dir.set_times(".", true, accessed, modified).map(|_| ())
            }
        }
    }

    pub(crate) fn fd_pread(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        offset: u64,
        done: u32,
    ) -> Result<(), Errno> {
        let stream = if let Node::Stdin = self.table.get(fd)?.node { Errno::Spipe } else { Errno::Badf };
        let open = self.table.file(fd, rights::READ | rights::SEEK, stream)?;
        memory.range(done, 4)?;
        let vectors = memory.vectors(vectors, count)?;
        let mut position = offset;
        let total = memory.transfer(&vectors, |bytes, _| advance(&mut position, |at| open.file.read_at(bytes, at)))?;
        memory.write_u32(done, total)
    }

    pub(crate) fn fd_pwrite(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        offset: u64,
        done: u32,
    ) -> Result<(), Errno> {
        let stream = if let Node::Stdin = self.table.get(fd)?.node { Errno::Badf } else { Errno::Spipe };
        let open = self.table.file(fd, rights::WRITE | rights::SEEK, stream)?;
        memory.range(done, 4)?;
        let vectors = memory.vectors(vectors, count)?;
        // Appending ignores the offset, as on Linux.
        let mut position = if open.flags & APPEND != 0 { open.file.stat()?.size } else { offset };
        let total = memory.transfer(&vectors, |bytes, _| advance(&mut position, |at| open.file.write_at(bytes, at)))?;
        memory.write_u32(done, total)
    }

    pub(crate) fn fd_read(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        done: u32,
    ) -> Result<(), Errno> {
        let descriptor = self.table.get_mut(fd)?;
        if let Node::Dir(_) = descriptor.node {
            return Err(Errno::Badf);
        }
        descriptor.need(rights::READ)?;
        memory.range(done, 4)?;
        let mut vectors = memory.vectors(vectors, count)?;
        let total = match &mut descriptor.node {
            Node::File(OpenFile { file, position, .. }) => {
                memory.transfer(&vectors, |bytes, _| advance(position, |at| file.read_at(bytes, at)))?
            }
            _ => {
                // One read into one buffer: to fill more, the guest would have to wait for input that may never come.
                vectors.retain(|&(_, length)| length > 0);
                match vectors.first() {
                    Some(&(address, length)) => {
                        let (bytes, work) = memory.bytes_and_work(address, length.min(PIECE as u32))?;
                        self.stdin.read(bytes, work)? as u32
                    }
                    None => 0,
                }
            }
        };
        memory.write_u32(done, total)
    }

    pub(crate) fn fd_write(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        done: u32,
    ) -> Result<(), Errno> {
        let descriptor = self.table.get_mut(fd)?;
        if let Node::Dir(_) = descriptor.node {
            return Err(Errno::Badf);
        }
        descriptor.need(rights::WRITE)?;
        memory.range(done, 4)?;
        let vectors = memory.vectors(vectors, count)?;
        let total = match &mut descriptor.node {
            Node::File(OpenFile { file, position, flags }) => {
                if *flags & APPEND != 0 {
                    *position = file.stat()?.size;
                }
                memory.transfer(&vectors, |bytes, _| advance(position, |at| file.write_at(bytes, at)))?
            }
            node => {
                let output = if let Node::Stderr = node { &mut self.stderr } else { &mut self.stdout };
                let total = memory.transfer(&vectors, |bytes, work| output.write(bytes, work))?;
                // Bytes that the stream took count as written. A stream that cannot pass them on reports it once it
                // takes no more.
                let _ = output.flush();
                total
            }
        };
        memory.write_u32(done, total)
    }

    pub(crate) fn fd_prestat_get(&mut self, memory: &mut Memory<'_>, fd: u32, stat: u32) -> Result<(), Errno> {
        match &self.table.get(fd)?.node {
            Node::Dir(OpenDir { granted: Some(name), .. }) => {
                let mut bytes = [0; 8];
                bytes[4..].copy_from_slice(&(name.len() as u32).to_le_bytes());
                memory.write(stat, &bytes)
            }
            // C libraries and Go treat this as the end of the list, or continue with the next descriptor.
            _ => Err(Errno::Badf),
        }
    }

    pub(crate) fn fd_prestat_dir_name(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        name: u32,
        length: u32,
    ) -> Result<(), Errno> {
        match &self.table.get(fd)?.node {
            Node::Dir(OpenDir { granted: Some(granted), .. }) if granted.len() <= length as usize => {
                memory.write(name, granted.as_bytes())
            }
            Node::Dir(OpenDir { granted: Some(_), .. }) => Err(Errno::NameTooLong),
            _ => Err(Errno::NotDir),
        }
    }

    pub(crate) fn fd_readdir(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        buffer: u32,
        length: u32,
        cookie: u64,
        used: u32,
    ) -> Result<(), Errno> {
        self.table.dir(fd, rights::READDIR)?;
        memory.range(used, 4)?;
        memory.range(buffer, length)?;
        let listed = self.table.listed();
        let Node::Dir(open) = &mut self.table.get_mut(fd)?.node else { return Err(Errno::NotDir) };
        let known = open.listing.as_ref().is_some_and(|listing| cookie != 0 || listing.is_current(&open.dir));
        if !known {
            let own = open.listing.take().map_or(0, |listing| listing.len());
            open.listing = Some(Listing::read(&open.dir, MAX_LISTED.saturating_sub(listed - own), &memory.work)?);
        }
        let size = match &open.listing {
            Some(listing) => {
                let (buffer, work) = memory.bytes_and_work(buffer, length)?;
                listing.encode(&open.dir, cookie, buffer, work)?
            }
            None => 0,
        };
        memory.write_u32(used, size as u32)
    }

    pub(crate) fn fd_renumber(&mut self, _: &mut Memory<'_>, from: u32, to: u32) -> Result<(), Errno> {
        self.table.renumber(from, to)
    }

    pub(crate) fn fd_seek(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        offset: i64,
        whence: u32,
        position: u32,
    ) -> Result<(), Errno> {
        // Reading the position needs a lesser right than moving it.
        let right = if (offset, whence) == (0, 1) { rights::TELL } else { rights::SEEK };
        let open = self.table.file(fd, right, Errno::Spipe)?;
        memory.range(position, 8)?;
        let from = match whence {
            0 => 0,
            1 => open.position,
            2 => open.file.stat()?.size,
            _ => return Err(Errno::Inval),
        };
        let to = from.checked_add_signed(offset).filter(|&to| i64::try_from(to).is_ok()).ok_or(Errno::Inval)?;
        open.position = to;
        memory.write_u64(position, to)
    }

    pub(crate) fn fd_tell(&mut self, memory: &mut Memory<'_>, fd: u32, position: u32) -> Result<(), Errno> {
        let open = self.table.file(fd, rights::TELL, Errno::Spipe)?;
        memory.write_u64(position, open.position)
    }

    fn no_socket(&self, fd: u32) -> Result<(), Errno> {
        self.table.get(fd).and(Err(Errno::NotSock))
    }

    pub(crate) fn sock_accept(&mut self, _: &mut Memory<'_>, fd: u32, _flags: u32, _opened: u32) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    pub(crate) fn sock_recv(
        &mut self,
        _: &mut Memory<'_>,
        fd: u32,
        _vectors: u32,
        _count: u32,
        _flags: u32,
        _done: u32,
        _out_flags: u32,
    ) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    pub(crate) fn sock_send(
        &mut self,
        _: &mut Memory<'_>,
        fd: u32,
        _vectors: u32,
        _count: u32,
        _flags: u32,
        _done: u32,
    ) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    pub(crate) fn sock_shutdown(&mut self, _: &mut Memory<'_>, fd: u32, _how: u32) -> Result<(), Errno> {
        self.no_socket(fd)
    }
}

/// Returns the flags of a descriptor, if a file can have all of them here.
pub(crate) fn known_flags(flags: u32) -> Option<u16> {
    u16::try_from(flags).ok().filter(|flags| flags & !(APPEND | NONBLOCK) == 0)
}

/// Runs a step at a position and advances the position by the bytes done.
fn advance(position: &mut u64, step: impl FnOnce(u64) -> Result<usize, Errno>) -> Result<usize, Errno> {
    let done = step(*position)?;
    *position = position.saturating_add(done as u64);
    Ok(done)
}

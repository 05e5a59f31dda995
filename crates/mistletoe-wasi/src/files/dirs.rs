//! The host's directories and their contents. `cap-primitives` resolves paths, and never leaves the directory that it
//! starts from.

use std::fs::FileTimes;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

use cap_primitives::ambient_authority;
use cap_primitives::fs::{self as cap, FileTypeExt, FollowSymlinks, MetadataExt, OpenOptions, SystemTimeSpec};

use crate::builder::Access;
use crate::errno::Errno;
use crate::stat::{FileType, Filestat, rights};
use crate::stdio::uninterrupted;

/// A granted directory, or one below it.
pub(crate) struct Dir {
    dir: fs::File,
    access: Access,
}

/// A file below a granted directory, or a device that acts as one.
pub(crate) struct File {
    file: fs::File,
    filetype: FileType,
}

/// The result of opening a path.
pub(crate) enum Opened {
    File(File),
    Dir(Dir),
    /// A pipe, a socket, or a device that does more than give or take bytes. It stays closed.
    Other,
}

/// Options for opening a path.
#[derive(Default)]
pub(crate) struct How {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
    pub(crate) follow: bool,
}

impl Dir {
    pub(crate) fn grant(path: &Path, access: Access) -> io::Result<Self> {
        Ok(Self { dir: cap::open_ambient_dir(path, ambient_authority())?, access })
    }

    /// Returns the upper bound of the rights of descriptors below it.
    pub(crate) fn rights(&self) -> u64 {
        match self.access {
            Access::ReadOnly => rights::ALL & !rights::CHANGING,
            Access::ReadWrite => rights::ALL,
        }
    }

    pub(crate) fn open(&self, path: &str, how: How) -> Result<Opened, Errno> {
        // Merely opening a pipe or a device may have an effect. This checks what the path leads to now, not what is
        // opened then: the opened file is checked below.
        if let Ok(metadata) = self.metadata_at(path, how.follow) {
            match filetype(metadata.file_type()) {
                FileType::RegularFile | FileType::Directory | FileType::SymbolicLink => {}
                _ if how.directory => return Err(Errno::NotDir),
                FileType::CharacterDevice if is_harmless(metadata.rdev()) => {}
                _ => return Ok(Opened::Other),
            }
        }
        // The two methods with an underscore exist for cap-fs-ext, which accepts any release of this major version.
        let mut options = OpenOptions::new();
        options
            .read(how.read)
            .write(how.write || how.create || how.truncate)
            .create(how.create)
            .create_new(how.create && how.exclusive)
            .truncate(how.truncate)
            ._cap_fs_ext_follow(follow(how.follow))
            // Without this, the host would wait for the writer of a pipe.
            ._cap_fs_ext_nonblock(true);
        let file = cap::open(&self.dir, path.as_ref(), &options)?;
        let metadata = cap::Metadata::from_file(&file)?;
        match filetype(metadata.file_type()) {
            FileType::Directory => Ok(Opened::Dir(Self { dir: file, access: self.access })),
            _ if how.directory => Err(Errno::NotDir),
            filetype @ FileType::RegularFile => Ok(Opened::File(File { file, filetype })),
            filetype @ FileType::CharacterDevice if is_harmless(metadata.rdev()) => {
                Ok(Opened::File(File { file, filetype }))
            }
            _ => Ok(Opened::Other),
        }
    }

    pub(crate) fn stat(&self) -> Result<Filestat, Errno> {
        Ok(filestat(&cap::Metadata::from_file(&self.dir)?))
    }

    pub(crate) fn stat_at(&self, path: &str, follows: bool) -> Result<Filestat, Errno> {
        Ok(filestat(&self.metadata_at(path, follows)?))
    }

    fn metadata_at(&self, path: &str, follows: bool) -> io::Result<cap::Metadata> {
        // A slash at the end asks for a directory, and for the one that a link leads to.
        let follows = follows || path.ends_with('/') || path.ends_with("/.");
        cap::stat(&self.dir, path.as_ref(), follow(follows))
    }

    /// Passes on the name of each entry, with its type where the system reports that with the name.
    pub(crate) fn list(&self, mut hear: impl FnMut(String, FileType) -> Result<(), Errno>) -> Result<(), Errno> {
        for entry in cap::read_base_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|_| Errno::Ilseq)?;
            hear(name, entry.file_type().map_or(FileType::Unknown, filetype))?;
        }
        Ok(())
    }

    /// Sets the times of what a path leads to. Returns `None` if that stays closed.
    pub(crate) fn set_times(
        &self,
        path: &str,
        follows: bool,
        accessed: Option<SystemTime>,
        modified: Option<SystemTime>,
    ) -> Result<Option<()>, Errno> {
        if !follows {
            let spec = |time: Option<SystemTime>| {
                time.map(|time| SystemTimeSpec::Absolute(cap_primitives::time::SystemTime::from_std(time)))
            };
            return Ok(Some(cap::set_times_nofollow(&self.dir, path.as_ref(), spec(accessed), spec(modified))?));
        }
        // Sets them on a file opened here: `cap_primitives` would wait for the other end of a pipe.
        let open = |read| self.open(path, How { read, write: !read, follow: true, ..How::default() });
        match open(true).or_else(|error| if error == Errno::Acces { open(false) } else { Err(error) })? {
            Opened::File(File { file, .. }) | Opened::Dir(Self { dir: file, .. }) => {
                let mut times = fs::FileTimes::new();
                times = accessed.map_or(times, |time| times.set_accessed(time));
                times = modified.map_or(times, |time| times.set_modified(time));
                Ok(Some(file.set_times(times)?))
            }
            Opened::Other => Ok(None),
        }
    }

    pub(crate) fn create_dir(&self, path: &str) -> Result<(), Errno> {
        Ok(cap::create_dir(&self.dir, path.as_ref(), &cap::DirOptions::new())?)
    }

    pub(crate) fn link(&self, old: &str, new_dir: &Self, new: &str) -> Result<(), Errno> {
        Ok(cap::hard_link(&self.dir, old.as_ref(), &new_dir.dir, new.as_ref())?)
    }

    pub(crate) fn read_link(&self, path: &str) -> Result<Vec<u8>, Errno> {
        Ok(cap::read_link(&self.dir, path.as_ref())?.into_os_string().into_vec())
    }

    pub(crate) fn remove_dir(&self, path: &str) -> Result<(), Errno> {
        // A slash at the end only says that the path is a directory. `cap_primitives` would look for a `.` in it.
        let path = match path.trim_end_matches('/') {
            "" => path,
            name => name,
        };
        Ok(cap::remove_dir(&self.dir, path.as_ref())?)
    }

    pub(crate) fn rename(&self, old: &str, new_dir: &Self, new: &str) -> Result<(), Errno> {
        // A slash at the end asks for a directory; that of the new path is not checked otherwise. What always exists
        // (`.`, `..`) is not a name to rename to, whatever it asks for.
        let named = !matches!(new.trim_end_matches('/').rsplit('/').next(), Some("" | "." | ".."));
        if new.ends_with('/') && named && self.stat_at(old, false)?.filetype != FileType::Directory {
            let outside = new_dir.stat_at(new, false) == Err(Errno::NotCapable);
            return Err(if outside { Errno::NotCapable } else { Errno::NotDir });
        }
        Ok(cap::rename(&self.dir, old.as_ref(), &new_dir.dir, new.as_ref())?)
    }

    pub(crate) fn symlink(&self, target: &str, path: &str) -> Result<(), Errno> {
        Ok(cap::symlink(target.as_ref(), &self.dir, path.as_ref())?)
    }

    pub(crate) fn unlink(&self, path: &str) -> Result<(), Errno> {
        Ok(cap::remove_file(&self.dir, path.as_ref())?)
    }
}

impl File {
    pub(crate) fn filetype(&self) -> FileType {
        self.filetype
    }

    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
        Ok(uninterrupted(|| self.file.read_at(bytes, offset))?)
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        Ok(uninterrupted(|| self.file.write_at(bytes, offset))?)
    }

    pub(crate) fn stat(&self) -> Result<Filestat, Errno> {
        Ok(filestat(&cap::Metadata::from_file(&self.file)?))
    }

    pub(crate) fn set_size(&self, size: u64) -> Result<(), Errno> {
        Ok(self.file.set_len(size)?)
    }

    pub(crate) fn set_times(&self, accessed: Option<SystemTime>, modified: Option<SystemTime>) -> Result<(), Errno> {
        let mut times = FileTimes::new();
        times = accessed.map_or(times, |time| times.set_accessed(time));
        times = modified.map_or(times, |time| times.set_modified(time));
        Ok(self.file.set_times(times)?)
    }

    /// Writes out what the system holds back, with or without the file's attributes.
    pub(crate) fn sync(&self, attributes: bool) -> Result<(), Errno> {
        Ok(if attributes { self.file.sync_all() } else { self.file.sync_data() }?)
    }
}

fn follow(follows: bool) -> FollowSymlinks {
    if follows { FollowSymlinks::Yes } else { FollowSymlinks::No }
}

fn filestat(metadata: &cap::Metadata) -> Filestat {
    let nanoseconds = |seconds: i64, nanoseconds: i64| {
        u64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)).unwrap_or(0)
    };
    Filestat {
        device: metadata.dev(),
        inode: metadata.ino(),
        filetype: filetype(metadata.file_type()),
        links: metadata.nlink(),
        size: metadata.len(),
        accessed: nanoseconds(metadata.atime(), metadata.atime_nsec()),
        modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// Returns whether a character device only gives or takes bytes, as the system's own devices at these paths do.
fn is_harmless(device: u64) -> bool {
    ["/dev/null", "/dev/zero", "/dev/urandom"].iter().any(|path| {
        let metadata = fs::metadata(path);
        metadata.is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == device)
    })
}

fn filetype(file_type: cap::FileType) -> FileType {
    match () {
        () if file_type.is_dir() => FileType::Directory,
        () if file_type.is_file() => FileType::RegularFile,
        () if file_type.is_symlink() => FileType::SymbolicLink,
        () if file_type.is_block_device() => FileType::BlockDevice,
        () if file_type.is_char_device() => FileType::CharacterDevice,
        () if file_type.is_socket() => FileType::Socket,
        () => FileType::Unknown,
    }
}

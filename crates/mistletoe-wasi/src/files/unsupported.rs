//! Types without values, for hosts where no directory can be granted: nothing is ever opened.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::builder::Access;
use crate::errno::Errno;
use crate::stat::{FileType, Filestat};

pub(crate) enum Dir {}

pub(crate) enum File {}

#[allow(dead_code)]
pub(crate) enum Opened {
    File(File),
    Dir(Dir),
    Other,
}

#[allow(dead_code)]
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
    pub(crate) fn grant(_: &Path, _: Access) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

type Time = Option<SystemTime>;

macro_rules! never {
    ($ty:ty: $($name:ident($($param:ty),*) -> $answer:ty;)*) => {
        impl $ty {
            $(pub(crate) fn $name(&self, $(_: $param),*) -> $answer {
                match *self {}
            })*
        }
    };
}

never! { Dir:
    rights() -> u64;
    open(&str, How) -> Result<Opened, Errno>;
    stat() -> Result<Filestat, Errno>;
    stat_at(&str, bool) -> Result<Filestat, Errno>;
    list(impl FnMut(String, FileType) -> Result<(), Errno>) -> Result<(), Errno>;
    set_times(&str, bool, Time, Time) -> Result<Option<()>, Errno>;
    create_dir(&str) -> Result<(), Errno>;
    link(&str, &Self, &str) -> Result<(), Errno>;
    read_link(&str) -> Result<Vec<u8>, Errno>;
    remove_dir(&str) -> Result<(), Errno>;
    rename(&str, &Self, &str) -> Result<(), Errno>;
    symlink(&str, &str) -> Result<(), Errno>;
    unlink(&str) -> Result<(), Errno>;
}

never! { File:
    filetype() -> FileType;
    read_at(&mut [u8], u64) -> Result<usize, Errno>;
    write_at(&[u8], u64) -> Result<usize, Errno>;
    stat() -> Result<Filestat, Errno>;
    set_size(u64) -> Result<(), Errno>;
    set_times(Time, Time) -> Result<(), Errno>;
    sync(bool) -> Result<(), Errno>;
}

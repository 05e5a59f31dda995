//! Files that are read again at each reload, whatever has taken their place.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

/// Reads a whole file, of at most `limit` bytes.
///
/// Anything but a regular file is an error: a pipe waits for its writer, and a device may have no end.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::other(format!("it is longer than {limit} bytes"));
    let file = open(path)?;
    // What is open is what is read, whatever has this path by now.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // Also those with holes, which are not worth reading.
    if metadata.len() > limit {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    // It may have grown.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_long()) } else { Ok(bytes) }
}

/// Opens a file without waiting for anything, such as the writer of a pipe.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;

        use rustix::fs::OFlags;
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    }
    options.read(true).open(path)
}

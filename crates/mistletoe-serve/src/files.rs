//! Files that are read again at each reload, whatever has taken their place.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// Reads a whole file, of at most `limit` bytes.
///
/// Anything but a regular file is an error: opening a pipe waits for its writer, and a device may have no end.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::other(format!("it is longer than {limit} bytes"));
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // Also those with holes, which are not worth reading.
    if metadata.len() > limit {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    // It may have grown.
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_long()) } else { Ok(bytes) }
}

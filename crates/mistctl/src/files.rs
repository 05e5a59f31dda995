//! Reading what the command line names, however large or odd it is.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::Failure;

/// The largest package and the largest input, in bytes: the library's limits, where a file could be longer.
const MAX_PACKAGE: u64 = 256 << 20;
/// The longest package in the text format, in bytes: assembling one was seen to take 91 times its length in memory.
const MAX_TEXT: usize = 16 << 20;
const MAX_INPUT: u64 = 64 << 20;

/// The file of a module, in the binary or the text format.
pub(crate) fn module(path: &Path) -> Result<Vec<u8>, Failure> {
    read(path, MAX_PACKAGE)
}

/// A module in the binary format. What starts like a module or a component is taken as it is, all other text is
/// assembled; the file's ending does not matter.
pub(crate) fn assembled(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let assembled = match std::str::from_utf8(&bytes) {
        // The library says what is wrong with empty files.
        Ok(text) if !text.is_empty() && !bytes.starts_with(b"\0asm") => {
            if text.len() > MAX_TEXT {
                let cause = format!("it is text, and longer than {} MiB: assemble it first", MAX_TEXT >> 20);
                return Err(Failure::read(path, &*cause));
            }
            wat::parse_str(text.trim_start_matches('\u{feff}'))
        }
        _ => return Ok(bytes),
    };
    assembled.map_err(|source| Failure::Assembly { file: path.display().to_string(), source })
}

/// A file that is handed on as it is read.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::read(path, error))
}

/// An input, whatever is in it; `-` is standard input.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    if path == Path::new("-") { limited(io::stdin(), path, MAX_INPUT, 0) } else { read(path, MAX_INPUT) }
}

/// A YAML file as text; `-` is standard input.
pub(crate) fn input(path: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes(path)?).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Failure::read(path, &*format!("it is not UTF-8 from byte {offset} on"))
    })
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let file = open(path)?;
    let length = file.metadata().map_or(0, |metadata| metadata.len().min(limit));
    limited(file, path, limit, length as usize)
}

/// Reads to the end, but not for ever: a device has no end. `length` is how long it probably is.
fn limited(source: impl Read, path: &Path, limit: u64, length: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // A byte more, where the end is found. Where there is no room, reading says so.
    let _ = bytes.try_reserve_exact(length + 1);
    source.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Failure::read(path, error))?;
    if bytes.len() as u64 > limit {
        let cause: Cow<'_, str> = format!("it is longer than {} MiB", limit >> 20).into();
        return Err(Failure::read(path, &*cause));
    }
    Ok(bytes)
}

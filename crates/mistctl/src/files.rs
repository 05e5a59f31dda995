//! Reads what the command line names, whatever its size and content.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;
use crate::registries::{Registries, is_reference};

/// Maximum length of a package and of an input, in bytes: the library's limits, which a file could exceed.
const MAX_PACKAGE: u64 = 256 << 20;
/// Maximum length of a package in the text format, in bytes. Assembling one took 91 times its length in memory.
const MAX_TEXT: usize = 16 << 20;
const MAX_INPUT: u64 = 64 << 20;

/// Reads a module, in the binary or the text format: a file, standard input, or what a reference names.
pub(crate) fn module(path: &Path, registries: &Registries) -> Result<Vec<u8>, Failure> {
    match registries.pull(path)? {
        Some(module) => Ok(module),
        None if path == Path::new("-") => limited(stdin()?, named(path), MAX_PACKAGE, 0),
        None => read(path, MAX_PACKAGE),
    }
}

/// Returns the name of a module: its file's, or the last part of a reference's path.
pub(crate) fn name(path: &Path) -> Cow<'_, str> {
    match path.to_str().filter(|_| is_reference(path)) {
        Some(text) => {
            let path = text.split(['@', '?', '#']).next().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            name.split(':').next().unwrap_or_default().into()
        }
        None => path.file_name().unwrap_or_default().to_string_lossy(),
    }
}

/// Returns the name of a module without the extension of modules. What else follows a dot is a part of the name.
pub(crate) fn stem(path: &Path) -> String {
    let name = name(path);
    [".wasm", ".wat"].iter().find_map(|extension| name.strip_suffix(extension)).unwrap_or(&name).to_owned()
}

/// Whether standard input is taken.
static IS_STDIN_TAKEN: AtomicBool = AtomicBool::new(false);

/// Returns standard input, which has one content for one purpose.
fn stdin() -> Result<io::Stdin, Failure> {
    match IS_STDIN_TAKEN.swap(true, Ordering::Relaxed) {
        true => Err(Failure::usage("standard input, `-`, is named more than once")),
        false => Ok(io::stdin()),
    }
}

/// Returns a module in the binary format.
///
/// Bytes that start like a module or a component are returned unchanged, all other text is assembled. The file's
/// extension does not matter.
pub(crate) fn assembled(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let assembled = match std::str::from_utf8(&bytes) {
        // The library says what is wrong with an empty file.
        Ok(text) if !text.is_empty() && !bytes.starts_with(b"\0asm") => {
            if text.len() > MAX_TEXT {
                let cause = format!("it is text, and longer than {} MiB: assemble it first", MAX_TEXT >> 20);
                return Err(Failure::read(path, &*cause));
            }
            wat::parse_str(text.trim_start_matches('\u{feff}')).map_err(|mut error| {
                error.set_path(path);
                error
            })
        }
        _ => return Ok(bytes),
    };
    assembled.map_err(|source| Failure::Assembly { file: path.display().to_string(), source })
}

/// Opens a file that is passed on unread.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::read(path, error))
}

/// Reads an input of any content; `-` is standard input.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    if path == Path::new("-") { limited(stdin()?, named(path), MAX_INPUT, 0) } else { read(path, MAX_INPUT) }
}

/// Returns the name of an input for an error about it.
pub(crate) fn named(path: &Path) -> &Path {
    if path == Path::new("-") { Path::new("standard input") } else { path }
}

/// Reads a YAML file as text; `-` is standard input.
pub(crate) fn input(path: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes(path)?).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Failure::read(named(path), &*format!("it is not UTF-8 from byte {offset} on"))
    })
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let file = open(path)?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    // Also a file with holes, which is not worth reading.
    if length > limit {
        return Err(too_long(path, limit));
    }
    limited(file, path, limit, length as usize)
}

/// Reads to the end. More than `limit` bytes are an error: a device has no end. `length` is the expected length.
fn limited(source: impl Read, path: &Path, limit: u64, length: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // One more byte, to find the end. If there is no room, the read says so.
    let _ = bytes.try_reserve_exact(length + 1);
    source.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Failure::read(path, error))?;
    if bytes.len() as u64 > limit {
        return Err(too_long(path, limit));
    }
    Ok(bytes)
}

fn too_long(path: &Path, limit: u64) -> Failure {
    Failure::read(path, &*format!("it is longer than {} MiB", limit >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_has_a_name_without_its_extension() {
        for (path, expected) in [
            ("web.wasm", "web"),
            ("a/my.app.wasm", "my.app"),
            ("a.b/my.app", "my.app"),
            ("web.wat", "web"),
            ("web", "web"),
        ] {
            assert_eq!(stem(Path::new(path)), expected, "{path}");
        }
        for (path, expected) in [
            ("oci://h:5000/a.b/my.app", "my.app"),
            ("oci://h:5000/a/my.app:1.2", "my.app"),
            ("oci://h/web:1.2.wasm", "web"),
            ("oci://h/web@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "web"),
            ("https://h/a/my.app.wasm?x=/y.z", "my.app"),
            #[cfg(feature = "registry")]
            ("mistletoe/examples/web:0.1.2", "web"),
        ] {
            assert_eq!(stem(Path::new(path)), expected, "{path}");
        }
    }
}

//! Names this very version of the source: what it puts into modules is part of what is compiled, and compiled code is
//! kept only for the same.

use std::fs;
use std::hash::{DefaultHasher, Hash as _};
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=src");
    let mut hasher = DefaultHasher::new();
    hash(Path::new("src"), &mut hasher);
    println!("cargo::rustc-env=MISTLETOE_SOURCE={:016x}", std::hash::Hasher::finish(&hasher));
}

/// Every file below a folder, in the order of their names.
fn hash(folder: &Path, hasher: &mut DefaultHasher) {
    let entries = fs::read_dir(folder).expect("the source can be read");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the source can be read").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash(&path, hasher);
        } else {
            path.hash(hasher);
            fs::read(&path).expect("the source can be read").hash(hasher);
        }
    }
}

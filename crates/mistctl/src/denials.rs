//! Accesses that a program was denied.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use mistletoe::wasi::Denied;
use serde::Serialize;

use crate::stderr::{self, Excerpt, Level, note};

/// Maximum number of distinct denials that are shown.
const MAX: usize = 100;
/// Maximum number of bytes of a path that are shown.
const MAX_PATH: usize = 400;

/// Shows each distinct denial once, up to a maximum, and finally how many more there were.
#[derive(Default)]
pub(crate) struct Denials {
    /// Hashes with a random seed: a program chooses the paths, and may try very many.
    shown: HashSet<u64>,
    hasher: RandomState,
    more: u64,
}

#[derive(Serialize)]
struct Report<'a> {
    level: Level,
    #[serde(flatten)]
    denied: Field<'a>,
    message: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Field<'a> {
    Access { function: &'a str, paths: &'a [String] },
    Rest { more: u64 },
}

impl Denials {
    pub(crate) fn hear(&mut self, denied: &Denied) {
        let hash = self.hasher.hash_one((denied.function, &denied.paths));
        if self.shown.len() == MAX || !self.shown.insert(hash) {
            self.more += 1;
            return;
        }
        let mut denied = denied.clone();
        for path in &mut denied.paths {
            *path = Excerpt::of(&*path, MAX_PATH);
        }
        show(Field::Access { function: denied.function, paths: &denied.paths }, denied.to_string());
    }
}

impl Drop for Denials {
    fn drop(&mut self) {
        if self.more > 0 {
            let (more, s) = (self.more, if self.more == 1 { "" } else { "s" });
            show(Field::Rest { more }, format!("{more} more time{s}, the same or beyond the first {MAX}"));
        }
    }
}

fn show(denied: Field<'_>, message: String) {
    if stderr::is_json() {
        stderr::object(&Report { level: Level::Denied, denied, message });
    } else {
        note(Level::Denied, &message);
    }
}

//! `mistctl cache`, and the cache that the other verbs use.

use std::env;
use std::error::Error as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use mistletoe::cache::Cache;
use mistletoe::{AnyBackend, Backend as _};

use crate::cli::CacheVerb;
use crate::failure::Failure;
use crate::print;
use crate::stderr::{Level, note, printable};

pub(crate) fn run(verb: &CacheVerb) -> Result<(), Failure> {
    let folder = folder().ok_or_else(|| Failure::usage("there is no home directory; set MISTLETOE_CACHE"))?;
    if let CacheVerb::Path = verb {
        return print(&format!("{}\n", folder.display()));
    }
    // A missing directory is an empty cache. It is not created just to be listed.
    if !folder.exists() {
        return Ok(());
    }
    let cache = Cache::open(folder)?;
    match verb {
        CacheVerb::Clear => Ok(cache.clear()?),
        _ => print(&list(&cache)?),
    }
}

/// Returns one line per entry: the time since its last use, its size in bytes, the backend, and its name.
fn list(cache: &Cache) -> Result<String, Failure> {
    let mut list = String::new();
    for entry in cache.entries()? {
        let age = age(SystemTime::now().duration_since(entry.used).unwrap_or_default());
        let backend = printable(entry.compiler.split(' ').next().unwrap_or_default());
        list.push_str(&format!("{age:>5} {:>12}  {backend:<16} {}\n", entry.bytes, entry.name));
    }
    Ok(list)
}

fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds if seconds < 60 => format!("{seconds}s"),
        seconds if seconds < 60 * 60 => format!("{}min", seconds / 60),
        seconds if seconds < 48 * 60 * 60 => format!("{}h", seconds / 60 / 60),
        seconds => format!("{}d", seconds / 60 / 60 / 24),
    }
}

/// Adds the user's cache to a backend whose engine's code can be cached. Without a cache it compiles as usual.
pub(crate) fn with(backend: AnyBackend) -> AnyBackend {
    let warn = |text: &str| note(Level::Warning, text);
    let Some(folder) = folder().filter(|_| backend.compatibility_key().is_some()) else { return backend };
    match Cache::open(folder) {
        Ok(cache) => {
            let cache = cache.on_error(move |error| warn(&format!("{error}: {}", error.source)));
            backend.cached(cache)
        }
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            warn(&format!("{error}{cause}; --no-cache does without"));
            backend
        }
    }
}

/// Returns the directory of the cache, if there is one for this user.
fn folder() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG specification has relative paths ignored.
    let absolute = |path: &PathBuf| path.is_absolute();
    let home = || {
        if cfg!(windows) {
            variable("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            variable("HOME").map(|home| home.join("Library/Caches"))
        } else {
            variable("XDG_CACHE_HOME").filter(absolute).or_else(|| variable("HOME").map(|home| home.join(".cache")))
        }
    };
    variable("MISTLETOE_CACHE").or_else(|| home().filter(absolute).map(|caches| caches.join("mistletoe")))
}

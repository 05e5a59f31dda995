//! `mistctl cache`, and the caches that the other verbs use: of compiled code, and of modules from registries.

use std::cmp::Reverse;
use std::env;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::cli::CacheVerb;
use crate::failure::Failure;
use crate::print;

pub(crate) fn run(verb: &CacheVerb) -> Result<(), Failure> {
    let folder = folder().ok_or_else(|| Failure::usage("there is no home directory; set MISTLETOE_CACHE"))?;
    if let CacheVerb::Path = verb {
        return print(&format!("{}\n", folder.display()));
    }
    // A missing directory is an empty cache. It is not created just to be listed.
    if !folder.exists() {
        return Ok(());
    }
    let mut lines = Vec::new();
    #[cfg(feature = "cache")]
    {
        let cache = mistletoe::cache::Cache::open(&folder)?;
        match verb {
            CacheVerb::Clear => cache.clear()?,
            _ => lines.extend(cache.entries()?.into_iter().map(|entry| {
                let backend = entry.compiler.split(' ').next().unwrap_or_default().to_owned();
                (entry.used, entry.bytes, backend, entry.name)
            })),
        }
    }
    #[cfg(feature = "registry")]
    if let Some(folder) = registry_folder().filter(|folder| folder.exists()) {
        let failed = |error| Failure::read(&folder, error);
        let cache = mistletoe_registry::Cache::open(&folder).map_err(failed)?;
        match verb {
            CacheVerb::Clear => cache.clear().map_err(failed)?,
            _ => lines.extend(
                cache
                    .entries()
                    .map_err(failed)?
                    .into_iter()
                    .map(|entry| (entry.used, entry.bytes, "registry".to_owned(), entry.name.to_string())),
            ),
        }
    }
    // Most recently used first.
    lines.sort_by_key(|line| Reverse(line.0));
    print(&lines.into_iter().map(line).collect::<String>())
}

/// Returns the line of an entry: the time since its last use, its size in bytes, where it is from, and its name.
fn line((used, bytes, from, name): (SystemTime, u64, String, String)) -> String {
    let age = age(SystemTime::now().duration_since(used).unwrap_or_default());
    format!("{age:>5} {bytes:>12}  {:<16} {name}\n", crate::stderr::printable(&from))
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
#[cfg(feature = "cache")]
pub(crate) fn with(backend: mistletoe::AnyBackend) -> mistletoe::AnyBackend {
    use std::error::Error as _;

    use mistletoe::Backend as _;

    use crate::stderr::{Level, note};

    let warn = |text: &str| note(Level::Warning, text);
    let Some(folder) = folder().filter(|_| backend.compatibility_key().is_some()) else { return backend };
    match mistletoe::cache::Cache::open(folder) {
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

/// Returns the directory of the modules from registries, if there is one for this user.
#[cfg(feature = "registry")]
pub(crate) fn registry_folder() -> Option<PathBuf> {
    folder().map(|folder| folder.join("registry"))
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

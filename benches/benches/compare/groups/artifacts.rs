//! Compiled code on disk, as engines serialise it, in a temporary directory.

use mistletoe::Backend as _;
use mistletoe::cache::Cache;
use mistletoe_benches::measured::Row;
use tempfile::TempDir;

use super::{Run, limits_to_compare, packages};
use crate::hosts::layer;

/// Returns a cache in a temporary directory. Any error of the cache panics.
pub(super) fn cache() -> (TempDir, Cache) {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::open(folder.path().join("cache")).expect("a cache");
    let cache = cache.on_error(|error| panic!("{error}: {}", error.source));
    (folder, cache)
}

/// Measures the size of compiled code, as the engines serialise it.
pub(super) fn artifacts(run: &mut Run) {
    for package in packages(run) {
        for engine in mistletoe::backends().iter().map(|backend| backend.name()) {
            if mistletoe::backend(engine).expect("an engine").compatibility_key().is_none() {
                continue;
            }
            eprintln!("{}, {engine}", package.what);
            for (name, limits) in limits_to_compare() {
                let (_folder, cache) = cache();
                drop(layer(engine, package.offer, &limits, Some(&cache)).load(&package.wasm));
                let bytes = cache.entries().expect("a folder").iter().map(|entry| entry.bytes).sum::<u64>();
                run.rows.push(Row::bytes(&package.what, engine, name, bytes as f64, package.wasm.len() as f64));
            }
        }
    }
}

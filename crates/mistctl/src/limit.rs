//! Limits as the command line has them.

use std::time::Duration;

use mistletoe::units;

/// A limit, or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit<T>(pub(crate) Option<T>);

/// Parses `262144`, `64Mi`, `64MiB`, `64MB`.
pub(crate) fn size(text: &str) -> Result<Limit<u64>, &'static str> {
    units::size(text).map(Limit)
}

/// Parses `200ms`, `2s`, `1m`.
pub(crate) fn time(text: &str) -> Result<Limit<Duration>, &'static str> {
    units::time(text).map(Limit)
}

/// Parses `50M`, `1000`.
pub(crate) fn fuel(text: &str) -> Result<Limit<u64>, &'static str> {
    units::fuel(text).map(Limit)
}

/// Parses `10000`.
pub(crate) fn stack(text: &str) -> Result<Limit<u32>, &'static str> {
    units::stack(text).map(Limit)
}

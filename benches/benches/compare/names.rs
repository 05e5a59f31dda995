//! The names that select the groups.
//!
//! `cargo xtask bench` includes this file, too, so that it knows them before anything is built.

pub(crate) const NAMES: [&str; 9] =
    ["round-trip", "instance", "cold-start", "host-call", "limits", "threads", "compile", "artifacts", "memory"];

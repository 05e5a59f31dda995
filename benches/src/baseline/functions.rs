//! The host functions of the hand-written hosts.
//!
//! These are the part of WASI that Go's runtime needs, with nothing granted, and the functions of the benchmark of host
//! calls.

use std::sync::LazyLock;
use std::time::Instant;

use super::{Result, range, range_mut};

pub(super) const WASI: &str = "wasi_snapshot_preview1";

const SUCCESS: u32 = 0;
const BAD_FILE: u32 = 8;
const NOT_SUPPORTED: u32 = 58;

/// Calls a macro with each function of WASI and its parameters.
///
/// The macro defines a function that calls the one of the same name here, with the memory before the arguments.
macro_rules! wasi {
    ($define:ident) => {
        $define!(args_get(a: u32, b: u32));
        $define!(args_sizes_get(a: u32, b: u32));
        $define!(clock_time_get(a: u32, b: u64, c: u32));
        $define!(environ_get(a: u32, b: u32));
        $define!(environ_sizes_get(a: u32, b: u32));
        $define!(fd_close(a: u32));
        $define!(fd_fdstat_get(a: u32, b: u32));
        $define!(fd_fdstat_set_flags(a: u32, b: u32));
        $define!(fd_prestat_dir_name(a: u32, b: u32, c: u32));
        $define!(fd_prestat_get(a: u32, b: u32));
        $define!(fd_write(a: u32, b: u32, c: u32, d: u32));
        $define!(poll_oneoff(a: u32, b: u32, c: u32, d: u32));
        $define!(random_get(a: u32, b: u32));
        $define!(sched_yield());
    };
}
pub(super) use wasi;

pub(super) fn args_get(_: &mut [u8], _: u32, _: u32) -> Result<u32> {
    Ok(SUCCESS)
}

pub(super) fn args_sizes_get(memory: &mut [u8], count: u32, size: u32) -> Result<u32> {
    range_mut(memory, count, 4)?.fill(0);
    range_mut(memory, size, 4)?.fill(0);
    Ok(SUCCESS)
}

pub(super) fn clock_time_get(memory: &mut [u8], _: u32, _: u64, at: u32) -> Result<u32> {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let now = BEGIN.elapsed().as_nanos() as u64;
    range_mut(memory, at, 8)?.copy_from_slice(&now.to_le_bytes());
    Ok(SUCCESS)
}

pub(super) fn environ_get(_: &mut [u8], _: u32, _: u32) -> Result<u32> {
    Ok(SUCCESS)
}

pub(super) fn environ_sizes_get(memory: &mut [u8], count: u32, size: u32) -> Result<u32> {
    args_sizes_get(memory, count, size)
}

pub(super) fn fd_close(_: &mut [u8], _: u32) -> Result<u32> {
    Ok(BAD_FILE)
}

/// The standard streams are character devices.
pub(super) fn fd_fdstat_get(memory: &mut [u8], file: u32, at: u32) -> Result<u32> {
    if file > 2 {
        return Ok(BAD_FILE);
    }
    let stat = range_mut(memory, at, 24)?;
    stat.fill(0);
    stat[0] = 2;
    Ok(SUCCESS)
}

pub(super) fn fd_fdstat_set_flags(_: &mut [u8], file: u32, _: u32) -> Result<u32> {
    Ok(if file > 2 { BAD_FILE } else { SUCCESS })
}

pub(super) fn fd_prestat_dir_name(_: &mut [u8], _: u32, _: u32, _: u32) -> Result<u32> {
    Ok(BAD_FILE)
}

/// There are no open directories.
pub(super) fn fd_prestat_get(_: &mut [u8], _: u32, _: u32) -> Result<u32> {
    Ok(BAD_FILE)
}

pub(super) fn fd_write(_: &mut [u8], _: u32, _: u32, _: u32, _: u32) -> Result<u32> {
    Ok(BAD_FILE)
}

pub(super) fn poll_oneoff(_: &mut [u8], _: u32, _: u32, _: u32, _: u32) -> Result<u32> {
    Ok(NOT_SUPPORTED)
}

/// The bytes seed a hash, so any value is good enough.
pub(super) fn random_get(memory: &mut [u8], at: u32, length: u32) -> Result<u32> {
    range_mut(memory, at, length)?.fill(4);
    Ok(SUCCESS)
}

pub(super) fn sched_yield(_: &mut [u8]) -> Result<u32> {
    Ok(SUCCESS)
}

pub(super) const ENV: &str = "env";

/// Changes the state, or fails.
#[inline]
pub(super) fn count(count: &mut u32, step: u32) -> Result<u32> {
    *count = count.checked_add(step).ok_or("too many")?;
    Ok(*count)
}

/// Reads a string argument.
#[inline]
pub(super) fn text(memory: &[u8], address: u32, length: u32) -> Result<u32> {
    Ok(std::str::from_utf8(range(memory, address, length)?)?.len() as u32)
}

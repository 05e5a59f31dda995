//! Faults in WASI: each makes one plausible mistake in one function, or in one of its cases.

use mistletoe::{ErrorKind, Result, Trap};

use crate::faulty::{Fault, SOUND};

type Call<'a> = &'a mut dyn FnMut(&mut [u64]) -> Result<()>;

pub(super) static FAULTS: &[Fault] = &[
    // Errors in general.
    Fault {
        name: "wasi-outside-memory-is-a-trap",
        host: |name, slots, call| {
            call(slots)?;
            match slots {
                [FAULT, ..] if is_wasi(name) => {
                    Err(ErrorKind::Trap { trap: Trap::MemoryOutOfBounds, export: None }.into())
                }
                _ => Ok(()),
            }
        },
        ..SOUND
    },
    Fault {
        name: "wasi-outside-memory-is-invalid",
        host: |name, slots, call| answers(is_wasi(name), FAULT, INVAL, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-not-granted-is-not-permitted",
        host: |name, slots, call| answers(is_wasi(name), NOTCAPABLE, PERM, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-not-granted-is-not-there",
        host: |name, slots, call| answers(name.starts_with("path_"), NOTCAPABLE, NOENT, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-used-the-other-way-is-not-open",
        host: |name, slots, call| answers(matches!(name, "fd_read" | "fd_write"), NOTCAPABLE, BADF, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-too-many-in-the-system",
        host: |name, slots, call| answers(name == "path_open", MFILE, NFILE, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-loops-are-missing-files",
        host: |name, slots, call| answers(name.starts_with("path_"), LOOP, NOENT, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-not-utf8-is-invalid",
        host: |name, slots, call| answers(name.starts_with("path_"), ILSEQ, INVAL, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-streams-without-position-are-not-open",
        host: |name, slots, call| answers(matches!(name, "fd_seek" | "fd_tell"), SPIPE, BADF, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-sockets-are-not-supported",
        host: |name, slots, call| answers(name.starts_with("sock_"), NOTSOCK, NOTSUP, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-a-full-directory-exists",
        host: |name, slots, call| answers(name == "path_remove_directory", NOTEMPTY, EXIST, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-a-directory-is-not-to-be-unlinked",
        host: |name, slots, call| answers(name == "path_unlink_file", ISDIR, PERM, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-grants-end-at-no-directory",
        host: |name, slots, call| answers(name == "fd_prestat_get", BADF, NOTDIR, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-a-short-buffer-for-a-name-is-no-error",
        host: |name, slots, call| answers(name == "fd_prestat_dir_name", NAMETOOLONG, SUCCESS, slots, call),
        ..SOUND
    },
    // Streams.
    Fault {
        name: "wasi-writes-the-first-buffer-only",
        host: |name, slots, call| with(name, "fd_write", 2, |count| count.min(1), slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-writes-errors-to-the-output",
        host: |name, slots, call| with(name, "fd_write", 0, |fd| if fd == 2 { 1 } else { fd }, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-writes-no-errors",
        host: |name, slots, call| match (name, &mut *slots) {
            ("fd_write", [fd @ 2, ..]) => {
                *fd = SUCCESS;
                Ok(())
            }
            _ => call(slots),
        },
        ..SOUND
    },
    Fault {
        name: "wasi-streams-stay-open",
        host: |name, slots, call| match (name, &mut *slots) {
            ("fd_close", [fd @ 0..=2, ..]) => {
                *fd = SUCCESS;
                Ok(())
            }
            _ => call(slots),
        },
        ..SOUND
    },
    // Exit.
    Fault {
        name: "wasi-an-exit-code-is-a-byte",
        host: |name, slots, call| with(name, "proc_exit", 0, |code| code & 0xff, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-exit-0-returns",
        host: |name, slots, call| if let ("proc_exit", [0, ..]) = (name, &*slots) { Ok(()) } else { call(slots) },
        ..SOUND
    },
    Fault {
        name: "wasi-an-exit-is-a-trap",
        host: |name, slots, call| match call(slots) {
            Err(_) if name == "proc_exit" => Err(ErrorKind::Trap { trap: Trap::Unreachable, export: None }.into()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "wasi-a-signal-ends-the-guest",
        host: |name, slots, call| match (name, &*slots) {
            ("proc_raise", [signal, ..]) => Err(ErrorKind::Exit { code: 128 + *signal as u32 }.into()),
            _ => call(slots),
        },
        ..SOUND
    },
    // Clocks, waiting, random numbers.
    Fault {
        name: "wasi-unknown-clocks-show-real-time",
        host: |name, slots, call| {
            with(name, "clock_time_get", 0, |clock| if clock > 3 { 0 } else { clock }, slots, call)
        },
        ..SOUND
    },
    Fault {
        name: "wasi-no-cpu-clocks",
        host: |name, slots, call| {
            if let ("clock_time_get" | "clock_res_get", [clock @ 2..=3, ..]) = (name, &mut *slots) {
                *clock = 4;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "wasi-waits-for-nothing",
        host: |name, slots, call| {
            let nothing = name == "poll_oneoff" && slots.get(2) == Some(&0);
            answers(nothing, INVAL, SUCCESS, slots, call)
        },
        ..SOUND
    },
    Fault {
        name: "wasi-waits-for-the-first-only",
        host: |name, slots, call| with(name, "poll_oneoff", 2, |count| count.min(1), slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-draws-random-bytes-twice",
        host: |name, slots, call| {
            if name == "random_get" {
                call(&mut slots.to_vec())?;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "wasi-draws-eight-random-bytes-at-most",
        host: |name, slots, call| with(name, "random_get", 1, |length| length.min(8), slots, call),
        ..SOUND
    },
    // Opening.
    Fault {
        name: "wasi-opens-through-links",
        host: |name, slots, call| with(name, "path_open", 1, |_| 1, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-opens-without-creat",
        host: |name, slots, call| with(name, "path_open", 4, |how| how & !1, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-opens-without-directory",
        host: |name, slots, call| with(name, "path_open", 4, |how| how & !2, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-opens-without-excl",
        host: |name, slots, call| with(name, "path_open", 4, |how| how & !4, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-opens-without-trunc",
        host: |name, slots, call| with(name, "path_open", 4, |how| how & !8, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-opens-with-unknown-flags",
        host: |name, slots, call| with(name, "path_open", 4, |how| how & 15, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-opens-without-append",
        host: |name, slots, call| with(name, "path_open", 7, |flags| flags & !1, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-opens-for-all",
        host: |name, slots, call| with(name, "path_open", 5, |rights| rights | 66, slots, call),
        ..SOUND
    },
    // Files.
    Fault {
        name: "wasi-stat-follows-links",
        host: |name, slots, call| with(name, "path_filestat_get", 1, |_| 1, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-stat-follows-no-links",
        host: |name, slots, call| with(name, "path_filestat_get", 1, |_| 0, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-times-follow-links",
        host: |name, slots, call| with(name, "path_filestat_set_times", 1, |_| 1, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-times-are-never-now",
        host: |name, slots, call| with(name, "path_filestat_set_times", 6, |flags| flags & !10, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-link-ignores-its-flags",
        host: |name, slots, call| with(name, "path_link", 1, |_| 0, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-pread-has-32-bits",
        host: |name, slots, call| with(name, "fd_pread", 3, |at| at & 0xffff_ffff, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-pwrite-at-the-start",
        host: |name, slots, call| with(name, "fd_pwrite", 3, |_| 0, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-seek-has-32-bits",
        host: |name, slots, call| with(name, "fd_seek", 1, |by| by & 0xffff_ffff, slots, call),
        ..SOUND
    },
    // The order CUR, END, SET.
    Fault {
        name: "wasi-seek-is-the-previews-before",
        host: |name, slots, call| with(name, "fd_seek", 2, |from| (from + 1) % 3, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-readdir-has-no-cookies",
        host: |name, slots, call| with(name, "fd_readdir", 3, |_| 0, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-unknown-advice-is-taken",
        host: |name, slots, call| with(name, "fd_advise", 3, |advice| advice % 6, slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-flags-are-not-set",
        host: |name, slots, call| not_done(name, "fd_fdstat_set_flags", slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-rights-are-kept",
        host: |name, slots, call| not_done(name, "fd_fdstat_set_rights", slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-nothing-is-allocated",
        host: |name, slots, call| not_done(name, "fd_allocate", slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-sizes-are-kept",
        host: |name, slots, call| not_done(name, "fd_filestat_set_size", slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-nothing-is-moved",
        host: |name, slots, call| not_done(name, "path_rename", slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-nothing-is-linked",
        host: |name, slots, call| not_done(name, "path_link", slots, call),
        ..SOUND
    },
    Fault {
        name: "wasi-renumbers-the-other-way",
        host: |name, slots, call| {
            if name == "fd_renumber" {
                slots.swap(0, 1);
            }
            call(slots)
        },
        ..SOUND
    },
];

const SUCCESS: u64 = 0;
const BADF: u64 = 8;
const EXIST: u64 = 20;
const FAULT: u64 = 21;
const ILSEQ: u64 = 25;
const INVAL: u64 = 28;
const ISDIR: u64 = 31;
const LOOP: u64 = 32;
const MFILE: u64 = 33;
const NAMETOOLONG: u64 = 37;
const NFILE: u64 = 41;
const NOENT: u64 = 44;
const NOTDIR: u64 = 54;
const NOTEMPTY: u64 = 55;
const NOTSOCK: u64 = 57;
const NOTSUP: u64 = 58;
const PERM: u64 = 63;
const SPIPE: u64 = 70;
const NOTCAPABLE: u64 = 76;

/// Returns whether this is the name of a WASI function that returns an error number.
fn is_wasi(name: &str) -> bool {
    let groups = ["args_", "environ_", "clock_", "fd_", "path_", "poll_", "random_", "sock_"];
    groups.iter().any(|group| name.starts_with(group))
}

/// Replaces one error number by another.
fn answers(wrong: bool, from: u64, to: u64, slots: &mut [u64], call: Call<'_>) -> Result<()> {
    call(slots)?;
    if let (true, [errno, ..]) = (wrong, slots)
        && *errno == from
    {
        *errno = to;
    }
    Ok(())
}

/// Runs a function with one parameter changed.
fn with(
    name: &str,
    function: &str,
    param: usize,
    other: fn(u64) -> u64,
    slots: &mut [u64],
    call: Call<'_>,
) -> Result<()> {
    if name == function {
        slots[param] = other(slots[param]);
    }
    call(slots)
}

/// Reports success without running the function.
fn not_done(name: &str, function: &str, slots: &mut [u64], call: Call<'_>) -> Result<()> {
    if name == function {
        slots[0] = SUCCESS;
        return Ok(());
    }
    call(slots)
}

//! WASI preview 1 for guests, implemented once over the layer's host functions: the same on every engine.
//!
//! ```
//! use mistletoe_wasi::{Wasi, imports};
//!
//! let imports = imports::<Wasi>();
//! let session = Wasi::builder().args(["tool", "--help"]).stdin("some input").build();
//! ```
//!
//! A guest has what its [`Builder`] grants and nothing else. The defaults are hermetic, the same on every run and every
//! machine:
//!
//! | functions | configured with | default |
//! |---|---|---|
//! | `args_*`, `environ_*` | [`Builder::args`], [`Builder::env`] | none |
//! | `fd_read` of 0 | [`Builder::stdin`], [`Builder::inherit_stdin`], [`Builder::stdin_file`] | empty |
//! | `fd_write` to 1 and 2 | [`Builder::stdout`], [`Builder::stderr`] | captured, 64 MiB each |
//! | `clock_*`, `poll_oneoff` | [`Builder::clock`] | a [frozen clock](Clock::Fixed) |
//! | `random_get` | [`Builder::random`] | [numbers from the seed](Random::Seeded) 0 |
//! | `path_*`, `fd_*` of files and directories | [`Builder::dir`] | no directories |
//! | `sock_*` | | no sockets |
//! | `proc_exit` | | terminates the guest with [`ErrorKind::Exit`](mistletoe_abi::ErrorKind::Exit) |
//! | `proc_raise` | | [`Errno::NoSys`] |
//! | `sched_yield` | | does nothing |
//!
//! No argument of a guest makes a function trap or panic. A pointer outside the guest's memory is [`Errno::Fault`], and
//! the call then does nothing. What the host keeps for a guest is bounded: 1,000 descriptors, 100,000 names in the
//! directories that it lists at once, paths of 4,095 bytes, and the captured output.
//!
//! # Time
//!
//! A function that can take long works in pieces, of 256 KiB or 1,024 names or subscriptions, and checks the guest's
//! [deadline](mistletoe_abi::Caller::deadline) between them. A wait ends at the deadline if it is for a clock, for a
//! standard input that is the process's own or a file, or for the reader of a standard output that is a file. The guest
//! does not resume afterwards: it ends with [`ErrorKind::TimedOut`](mistletoe_abi::ErrorKind::TimedOut). An operation
//! that the system performs in one piece, on a disk or over a network, runs to its end, and so does a call of the
//! host's own reader or writer.
//!
//! A directory lists as it was when the guest began to list it. When the guest begins again (cookie 0), the directory
//! is read again, unless the list is less than a second old and the directory's own times show that nothing has changed
//! since.
//!
//! # Directories
//!
//! `cap-primitives` resolves a path from the granted directory and does not leave it: not by `..`, from the root, or
//! through symbolic links. A path that would leave it is [`Errno::NotCapable`], and so is any kind of writing below a
//! directory granted for reading; [`Builder::on_denied`] is called for both.
//!
//! Of devices, only the host's own `/dev/null`, `/dev/zero` and `/dev/urandom` are opened, which a guest uses as files.
//! A pipe, a socket or another device in a granted directory is [`Errno::NotSup`], and [`Builder::on_denied`] is called
//! for it, too. It is not opened, unless another program puts it there between the check and the opening. In neither
//! case does the host wait for its other end.
//!
//! The host is responsible for granting two directories of which one lies within the other: an access that is refused
//! through one may be possible through the other. It is also responsible for the files of `/proc` and similar, which
//! are files to a guest. A name that is not UTF-8 makes its directory unlistable ([`Errno::Ilseq`]). Where a host
//! limits the size of its files (`ulimit -f`), the system terminates a process that exceeds the limit, unless the host
//! program ignores that signal.
//!
//! # What differs from wasmtime's
//!
//! Programs see what wasmtime's own WASI (release 48) shows them, except for:
//!
//! - What was not granted is [`Errno::NotCapable`], not [`Errno::Perm`]. So is the use of a descriptor in a way that it
//!   was not opened for (wasmtime: [`Errno::Badf`], or [`Errno::Inval`] where a file's size is set).
//! - Pointers outside the memory and invalid flags and enumerations are errors; wasmtime traps. wasmtime also traps on
//!   an exit code of 126 or more. Pointers need no alignment here.
//! - File calls on a directory's descriptor are [`Errno::Badf`]. `fd_readdir` on anything but a directory is
//!   [`Errno::NotDir`] (wasmtime: [`Errno::Badf`]), and `fd_allocate` on a stream is [`Errno::Spipe`] (wasmtime:
//!   [`Errno::Badf`]).
//! - Reads and writes use all buffers; wasmtime uses the first that is not empty, as a read of the standard input does
//!   here.
//! - A file opened with `CREAT` or `TRUNC` and only with rights to read cannot be written to.
//! - A symbolic link with `..` in its target can be created. It is not followed out of the directory.
//! - A directory lists in the byte order of its names, as it was when the guest began.
//! - A directory can be removed by a path with a trailing slash (wasmtime: [`Errno::Inval`]). Only a directory can be
//!   renamed to a path with a trailing slash (wasmtime: a file, too).
//! - Pipes, sockets and devices in a directory are not opened, except for the [three](#directories) that act as files.
//! - A file has the device and inode number that it has on the host.
//! - `fd_allocate` extends a file, and `fd_fdstat_set_rights` removes rights (wasmtime: [`Errno::NotSup`] for both).
//! - `path_*` on the descriptor of anything but a directory is always [`Errno::NotDir`].
//! - `poll_oneoff` reports a bad descriptor in its event (wasmtime: as the function's error), waits for every clock
//!   that exists, reports how many bytes of a file are left to read (wasmtime: 1), and reports no end of a device. It
//!   takes nothing from the standard input; wasmtime reads ahead of what was asked for.
//! - `proc_raise` is [`Errno::NoSys`] (wasmtime: [`Errno::NotSup`]).
//! - `fd_seek` beyond 2^63 - 1 is [`Errno::Inval`].
//! - The rights of streams are to read or write, and to poll; no descriptor inherits them.
//! - `fd_advise` checks its arguments and does nothing else.
//! - The clocks of the process's and the thread's time exist; they show the monotonic time.
//! - The rights that `path_open` asks for select reading and writing, and are otherwise ignored.
//! - Appending writes at the current end of the file. Other processes can append in between.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
// The specification determines the number of parameters.
#![allow(clippy::too_many_arguments)]

mod builder;
mod clock;
mod errno;
mod fd;
mod files;
mod imports;
mod listing;
mod memory;
mod path;
mod poll;
mod random;
mod stat;
mod stdio;
mod strings;
mod table;
#[cfg(test)]
mod tests;
mod wasi;
mod work;

pub use builder::{Access, Builder};
pub use clock::Clock;
pub use errno::Errno;
pub use imports::{MODULE, add_to, imports};
pub use random::Random;
pub use stdio::OutputStream;
pub use wasi::{Denied, Wasi};

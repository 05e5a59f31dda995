//! WASI preview 1 for guests, once, over the layer's own host functions: the same on every engine.
//!
//! ```
//! use mistletoe_wasi::{Wasi, imports};
//!
//! let imports = imports::<Wasi>();
//! let session = Wasi::builder().args(["tool", "--help"]).stdin("some input").build();
//! ```
//!
//! A guest has what its [`Builder`] grants and nothing else. What it has unless told otherwise is hermetic, the same on
//! every run and every machine:
//!
//! | functions | what they need | unless granted |
//! |---|---|---|
//! | `args_*`, `environ_*` | [`Builder::args`], [`Builder::env`] | none |
//! | `fd_read` of 0 | [`Builder::stdin`], [`Builder::inherit_stdin`], [`Builder::stdin_file`] | empty |
//! | `fd_write` to 1 and 2 | [`Builder::stdout`], [`Builder::stderr`] | captured, 64 MiB each |
//! | `clock_*`, `poll_oneoff` | [`Builder::clock`] | a [clock that stands still](Clock::Fixed) |
//! | `random_get` | [`Builder::random`] | [numbers from a seed](Random::Seeded), which is 0 |
//! | `path_*`, `fd_*` of files and directories | [`Builder::dir`] | no directories |
//! | `sock_*` | | there are no sockets |
//! | `proc_exit` | | ends the guest with [`ErrorKind::Exit`](mistletoe_abi::ErrorKind::Exit) |
//! | `proc_raise` | | [`Errno::NoSys`] |
//! | `sched_yield` | | does nothing |
//!
//! Nothing that a guest passes makes a function trap or panic: a pointer outside its memory is [`Errno::Fault`], and
//! nothing is done then. What is kept for a guest is bounded: 1,000 descriptors, 100,000 names in the directories that
//! it lists at once, paths of 4,095 bytes, and what is captured.
//!
//! # Time
//!
//! A function that can take long works in pieces, of 256 KiB or 1,024 names or subscriptions, and looks at the guest's
//! [deadline](mistletoe_abi::Caller::deadline) between them. It waits no longer than that for a clock, for a standard
//! input that is the process's own or a file, or for whoever reads a standard output that is a file. The guest does not
//! go on afterwards: it ends with [`ErrorKind::TimedOut`](mistletoe_abi::ErrorKind::TimedOut). What the system does in
//! one piece, to a disk or over a network, it does to the end, and so does a reader or writer of the host's.
//!
//! A directory is listed as it was when the guest began. Where it begins again (cookie 0), the list is read anew,
//! unless it is less than a second old and the directory's own times say that nothing changed since.
//!
//! # Directories
//!
//! A path is looked up from the directory that was granted and does not leave it, by `..`, from the root, or through
//! symbolic links; `cap-primitives` sees to that. Such a path is [`Errno::NotCapable`], and so is any kind of writing
//! below a directory that was granted for reading; [`Builder::on_denied`] hears of both. Of devices, only those are
//! opened that the host has as `/dev/null`, `/dev/zero` and `/dev/urandom`, which a guest uses as files. A pipe, a
//! socket or another device that lies in a granted directory is [`Errno::NotSup`], of which [`Builder::on_denied`]
//! hears, too, and is not opened, unless another program puts it there at that very moment; the host does not wait for
//! its other end in either case.
//!
//! Two directories where one lies within the other are the host's to think about: what is refused through one may be
//! possible through the other. So are the files of `/proc` and the like, which are files to a guest. A name that is not
//! UTF-8 makes its directory unlistable ([`Errno::Ilseq`]). Where a host limits the size of its files (`ulimit -f`),
//! the system ends a process that exceeds it, unless the host program ignores that signal.
//!
//! # What differs from wasmtime's
//!
//! Programs see what wasmtime's own WASI (of its release 48) would show them, but for these:
//!
//! - What was not granted is [`Errno::NotCapable`] and not [`Errno::Perm`], and so is a descriptor used in a way that
//!   it
//!   was not opened for (there [`Errno::Badf`], or [`Errno::Inval`] where a file's size is set).
//! - Pointers outside the memory, and invalid flags and enumerations, are errors, where wasmtime traps; so is an exit
//!   code of 126 or more there. Pointers need no alignment here.
//! - File calls on a directory's descriptor are [`Errno::Badf`]; `fd_readdir` on what is no directory is
//!   [`Errno::NotDir`] (there [`Errno::Badf`]), and `fd_allocate` on a stream [`Errno::Spipe`] (there [`Errno::Badf`]).
//! - Reading and writing go through all buffers, where wasmtime takes the first that is not empty.
//! - A file opened with `CREAT` or `TRUNC` and with rights to read alone cannot be written to.
//! - A symbolic link with `..` in its target can be made, and is not followed out of the directory.
//! - A directory lists in the order of its names' bytes, and as it was when the guest began.
//! - A directory is removed also where a slash is at the end of its path (there [`Errno::Inval`]). To what ends with a
//!   slash,
//!   only a directory is renamed (there a file, too).
//! - Pipes, sockets and devices in a directory are not opened, but for the [three](#directories) that are as good as
//!   files.
//! - A file has the device and inode number that it has on the host.
//! - `fd_allocate` makes a file longer, and `fd_fdstat_set_rights` takes rights away; there both are [`Errno::NotSup`].
//! - `path_*` on a descriptor that is no directory's are [`Errno::NotDir`] always.
//! - `poll_oneoff` reports a bad descriptor in its event (there it is the function's error), waits for all clocks that
//!   there are, tells how many bytes of a file are left to read (there 1), and knows no end of a device. It takes nothing
//!   from the standard input, of which wasmtime reads ahead what was not asked for.
//! - `proc_raise` is [`Errno::NoSys`] (there [`Errno::NotSup`]).
//! - `fd_seek` beyond 2^63 - 1 is [`Errno::Inval`].
//! - The rights of streams are to read or write, and to poll; nothing inherits them.
//! - `fd_advise` checks its arguments and does no more.
//! - The clocks of the process's and the thread's time are there: they show the monotonic time.
//! - The rights that `path_open` asks for decide between reading and writing, and are otherwise not looked at.
//! - Appending is done at the end that the file has at that moment; other processes can append in between.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
// The specification's functions have as many as they have.
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

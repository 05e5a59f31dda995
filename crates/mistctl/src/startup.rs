//! Finds out whether standard output was closed when the process started.
//!
//! This can be known only before Rust's runtime begins. The runtime opens `/dev/null` in the place of a closed standard
//! stream, so that no other file gets its number. After that, writes to the stream succeed, and the data is lost. A
//! function that the system's loader calls therefore checks the stream first.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

use std::io;

/// Checks that standard output was open when the process started.
///
/// Otherwise returns the error that a write to it would have returned.
#[cfg(unix)]
pub fn stdout_is_open() -> io::Result<()> {
    if unix::was_closed() { Err(io::Error::from_raw_os_error(libc::EBADF)) } else { Ok(()) }
}

/// Returns `Ok`. Only Unix has the check.
#[cfg(not(unix))]
pub fn stdout_is_open() -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "nothing else runs before the runtime")]
mod unix {
    use std::sync::atomic::{AtomicBool, Ordering};

    static CLOSED: AtomicBool = AtomicBool::new(false);

    pub(crate) fn was_closed() -> bool {
        CLOSED.load(Ordering::Relaxed)
    }

    extern "C" fn look() {
        // SAFETY: The call asks whether a number is a descriptor, and changes nothing. It fails only if the number is
        // not a descriptor.
        let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
        CLOSED.store(flags == -1, Ordering::Relaxed);
    }

    // SAFETY: The section holds functions of this type. The loader calls each of them once, on the only thread that
    // exists. It may pass arguments; `look` takes none, which the C calling convention allows. `look` needs nothing
    // that the runtime sets up: it makes one system call and stores to an atomic.
    #[used]
    #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
    #[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
    static LOOK: extern "C" fn() = look;
}

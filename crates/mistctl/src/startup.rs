//! What is known of the process only before Rust's runtime begins: whether its standard output is closed.
//!
//! The runtime opens `/dev/null` in the place of a standard stream that is closed, so that no other file takes its
//! number. From then on, writing to it succeeds, and what is written is lost. So this looks at the stream before, in a
//! function that the system's loader calls.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

use std::io;

/// An error if standard output was closed when the process began: the one that writing to it would have been.
#[cfg(unix)]
pub fn stdout_is_open() -> io::Result<()> {
    if unix::was_closed() { Err(io::Error::from_raw_os_error(libc::EBADF)) } else { Ok(()) }
}

/// An error if standard output was closed when the process began.
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
        // SAFETY: It asks about a number, whether that is a descriptor or not, and changes nothing. It fails in no
        // other way than that it is none.
        let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
        CLOSED.store(flags == -1, Ordering::Relaxed);
    }

    // SAFETY: The section holds functions of this type, which the loader calls once each, on the only thread that there
    // is. It may pass arguments; `look` takes none, which the C calling convention allows. `look` needs nothing that
    // the runtime sets up: it makes one system call and stores to an atomic.
    #[used]
    #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
    #[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
    static LOOK: extern "C" fn() = look;
}

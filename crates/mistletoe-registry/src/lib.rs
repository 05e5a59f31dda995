//! WebAssembly modules from OCI registries: by digest, bounded, with signatures, and cached.
//!
//! - [`Reference`]: where a module comes from.
//! - [`Puller`]: from a reference to the module, with a [`Cache`], a [`Lock`] file, and [`signature`]s.
//! - [`Client`]: the calls of the OCI distribution specification, of which the above is made.
//! - [`Artifact`]: a module as it is pushed.
//!
//! ```no_run
//! use mistletoe_registry::{Client, Puller, Reference};
//!
//! let reference = "oci://registry.example/apps/web@sha256:\
//!                  93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476";
//! let module = Puller::new(Client::new()).pull(&reference.parse()?)?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! The crate is blocking, and knows nothing of WebAssembly: it returns the bytes that were pushed.
//! `docs/registries.md` describes the layouts that are read, the lock file and the cache.

#![forbid(unsafe_code)]

mod cache;
mod client;
mod digest;
mod error;
mod layout;
mod lock;
mod manifest;
mod puller;
pub mod reference;
pub mod signature;

pub use cache::Cache;
pub use client::{Client, Credentials, Fetched, MAX_MANIFEST, Progress, Pushed};
pub use digest::{Digest, DigestError};
pub use error::{Error, ErrorKind, Result};
pub use layout::{Artifact, MAX_MODULE};
pub use lock::{LOCK_FILE, Lock};
pub use manifest::Descriptor;
pub use puller::{Change, Event, Module, Puller, Tags};
pub use reference::{Image, ParseError, Reference};

use std::fmt;

/// Maximum number of characters of a foreign text that are shown.
const MAX_SHOWN: usize = 300;

/// Returns a foreign text as a part of a message: shortened, and without control characters.
fn shown(text: impl fmt::Display) -> String {
    /// Takes what fits, and ends the formatting with an error if there is more.
    struct Beginning {
        shown: String,
        left: usize,
    }

    impl fmt::Write for Beginning {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
                self.shown.push(if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
            }
            Ok(())
        }
    }

    let mut beginning = Beginning { shown: String::new(), left: MAX_SHOWN };
    let is_all = fmt::write(&mut beginning, format_args!("{text}")).is_ok();
    beginning.shown + if is_all { "" } else { "…" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_is_short_and_printable() {
        assert_eq!(shown("a\x1b[2J\nb"), "a\u{fffd}[2J\u{fffd}b");
        assert_eq!(shown("ä".repeat(300)), "ä".repeat(300));
        assert_eq!(shown("ä".repeat(301)), format!("{}…", "ä".repeat(300)));
        assert_eq!(shown(format_args!("{}{}", "a".repeat(300), "")), "a".repeat(300));
    }
}

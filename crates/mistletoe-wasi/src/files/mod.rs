//! Files and directories of the host, where directories can be granted; types without a value where they cannot.

#[cfg(all(feature = "dirs", unix))]
mod dirs;
#[cfg(not(all(feature = "dirs", unix)))]
mod unsupported;

#[cfg(all(feature = "dirs", unix))]
pub(crate) use dirs::*;
#[cfg(not(all(feature = "dirs", unix)))]
pub(crate) use unsupported::*;

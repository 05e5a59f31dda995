//! Files and directories of the host. Where directories cannot be granted, the types have no values.

#[cfg(all(feature = "dirs", unix))]
mod dirs;
#[cfg(not(all(feature = "dirs", unix)))]
mod unsupported;

#[cfg(all(feature = "dirs", unix))]
pub(crate) use dirs::*;
#[cfg(not(all(feature = "dirs", unix)))]
pub(crate) use unsupported::*;

//! What a host allows a package.

/// Limits of a [`Package`](crate::Package) and its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Length in bytes that an output or info may have; 64 MiB by default.
    pub max_output: u64,
}

impl Limits {
    /// These limits with another maximum for outputs, in bytes.
    pub fn max_output(mut self, bytes: u64) -> Self {
        self.max_output = bytes;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_output: 64 << 20 }
    }
}

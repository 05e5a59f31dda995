//! The state of one session.

use std::fmt;

use crate::builder::Builder;
use crate::clock::Time;
use crate::errno::Errno;
use crate::memory::Memory;
use crate::random::Source;
use crate::stdio::{Input, OutputStream};
use crate::strings::Strings;
use crate::table::Table;

/// State of one session of a guest: its arguments, streams, clock, random numbers and open files.
///
/// The default is hermetic: see the table in the [crate documentation](crate).
pub struct Wasi {
    pub(crate) args: Strings,
    pub(crate) env: Strings,
    pub(crate) stdin: Input,
    pub(crate) stdout: OutputStream,
    pub(crate) stderr: OutputStream,
    pub(crate) time: Time,
    pub(crate) random: Source,
    pub(crate) table: Table,
    pub(crate) on_denied: Option<OnDenied>,
}

pub(crate) type OnDenied = Box<dyn FnMut(&Denied) + Send>;

/// An access below a directory that was refused because it was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denied {
    /// Function that the guest called.
    pub function: &'static str,
    /// The path or both paths that the guest named, relative to the directories that it named with them.
    pub paths: Vec<String>,
}

impl Wasi {
    /// Returns a builder of a session.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns what the guest has written to its standard output, if that is captured.
    pub fn stdout(&self) -> &[u8] {
        self.stdout.bytes()
    }

    /// Returns what the guest has written to its standard error, if that is captured.
    pub fn stderr(&self) -> &[u8] {
        self.stderr.bytes()
    }

    /// Takes out what [`Wasi::stdout`] returns. The guest continues with nothing captured.
    pub fn take_stdout(&mut self) -> Vec<u8> {
        self.stdout.take()
    }

    /// Takes out what [`Wasi::stderr`] returns. The guest continues with nothing captured.
    pub fn take_stderr(&mut self) -> Vec<u8> {
        self.stderr.take()
    }

    /// Runs one function on behalf of the guest and returns its error code.
    pub(crate) fn answer(
        &mut self,
        function: &'static str,
        memory: &mut Memory<'_>,
        call: impl FnOnce(&mut Self, &mut Memory<'_>) -> Result<(), Errno>,
    ) -> u32 {
        let Err(errno) = call(self, memory) else { return 0 };
        let denied = errno == Errno::NotCapable || memory.is_denied();
        if let (true, Some(on_denied)) = (denied, &mut self.on_denied) {
            let paths = memory.named();
            if !paths.is_empty() {
                on_denied(&Denied { function, paths });
            }
        }
        errno as u32
    }

    pub(crate) fn proc_raise(&mut self, _: &mut Memory<'_>, _signal: u32) -> Result<(), Errno> {
        Err(Errno::NoSys)
    }

    pub(crate) fn sched_yield(&mut self, _: &mut Memory<'_>) -> Result<(), Errno> {
        Ok(())
    }
}

impl Default for Wasi {
    fn default() -> Self {
        Self::builder().build()
    }
}

impl AsMut<Self> for Wasi {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl fmt::Debug for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wasi").finish_non_exhaustive()
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Paths are the guest's text. Escaped, they cannot control a terminal.
        let paths: Vec<_> = self.paths.iter().map(|path| path.escape_debug().to_string()).collect();
        write!(f, "{}: {}: not granted", self.function, paths.join(", "))
    }
}

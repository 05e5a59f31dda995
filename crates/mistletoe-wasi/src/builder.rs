//! The builder of a session.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use crate::clock::{Clock, Time};
use crate::files::Dir;
use crate::random::{Random, Source};
use crate::stdio::{Input, OutputStream};
use crate::strings::Strings;
use crate::table::Table;
use crate::wasi::{Denied, OnDenied, Wasi};

/// Configures a session; created by [`Wasi::builder`].
///
/// The table in the [crate documentation](crate) lists the defaults.
#[derive(Default)]
pub struct Builder {
    args: Strings,
    env: Strings,
    stdin: Input,
    stdout: OutputStream,
    stderr: OutputStream,
    clock: Clock,
    random: Random,
    table: Table,
    on_denied: Option<OnDenied>,
}

/// Access of a guest to a granted directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Listing directories and reading what is in them.
    ReadOnly,
    /// All operations.
    ReadWrite,
}

impl Builder {
    /// Adds arguments. The first argument of all is the program's name.
    ///
    /// Guests see an argument end at its first NUL.
    #[must_use]
    pub fn args<S: Into<Vec<u8>>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().for_each(|arg| self.args.push(arg.into()));
        self
    }

    /// Adds environment variables.
    ///
    /// Guests see a variable end at its first NUL.
    #[must_use]
    pub fn env<K: Into<Vec<u8>>, V: AsRef<[u8]>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        for (key, value) in vars {
            let mut var = key.into();
            var.push(b'=');
            var.extend_from_slice(value.as_ref());
            self.env.push(var);
        }
        self
    }

    /// Uses these bytes as the standard input.
    #[must_use]
    pub fn stdin(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin_reader(Cursor::new(bytes.into()))
    }

    /// Uses the process's own standard input.
    ///
    /// The guest takes no more bytes of it than it asks for. On Unix, a wait for input ends at the guest's deadline or
    /// its cancellation; elsewhere the input behaves as with [`Builder::stdin_reader`]. Bytes that [`std::io::stdin`]
    /// has already read ahead are not seen.
    #[must_use]
    pub fn inherit_stdin(mut self) -> Self {
        self.stdin = Input::inherit();
        self
    }

    /// Uses a file as the standard input, which may be a pipe or a terminal.
    ///
    /// The guest reads and waits as with [`Builder::inherit_stdin`].
    #[must_use]
    pub fn stdin_file(mut self, file: File) -> Self {
        self.stdin = Input::file(file);
        self
    }

    /// Uses a reader as the standard input.
    ///
    /// The input always counts as ready. A read takes as long as the reader takes, without a limit.
    #[must_use]
    pub fn stdin_reader(mut self, reader: impl Read + Send + 'static) -> Self {
        self.stdin = Input::new(reader);
        self
    }

    /// Sets the destination of the standard output.
    #[must_use]
    pub fn stdout(mut self, output: OutputStream) -> Self {
        self.stdout = output;
        self
    }

    /// Sets the destination of the standard error.
    #[must_use]
    pub fn stderr(mut self, output: OutputStream) -> Self {
        self.stderr = output;
        self
    }

    /// Sets the source of the guest's clocks.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of random numbers.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Grants a directory and everything below it, which the guest sees as `guest_path`.
    ///
    /// This opens the directory: renaming it later changes nothing.
    ///
    /// # Errors
    ///
    /// The errors of opening the directory. [`Unsupported`](io::ErrorKind::Unsupported) on a host that is not Unix, and
    /// without the crate's feature `dirs`.
    pub fn dir(
        mut self,
        host_path: impl AsRef<Path>,
        guest_path: impl Into<String>,
        access: Access,
    ) -> io::Result<Self> {
        let dir = Dir::grant(host_path.as_ref(), access)?;
        self.table.grant(dir, guest_path.into()).map_err(io::Error::other)?;
        Ok(self)
    }

    /// Calls `hears` for each access below a directory that is refused because it was not granted.
    #[must_use]
    pub fn on_denied(mut self, hears: impl FnMut(&Denied) + Send + 'static) -> Self {
        self.on_denied = Some(Box::new(hears));
        self
    }

    /// Builds the session.
    pub fn build(self) -> Wasi {
        let Self { args, env, stdin, stdout, stderr, clock, random, table, on_denied } = self;
        let (time, random) = (Time::new(clock), Source::new(random));
        Wasi { args, env, stdin, stdout, stderr, time, random, table, on_denied }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}

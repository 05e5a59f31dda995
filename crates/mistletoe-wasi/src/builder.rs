//! What a session is given.

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

/// Equips a session: [`Wasi::builder`]. What is not said stays as the table at the head of the crate has it.
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

/// What a guest may do below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// List it, and read what is there.
    ReadOnly,
    /// Everything.
    ReadWrite,
}

impl Builder {
    /// Adds arguments; the first of all is the program's name. Guests see them end at the first NUL.
    #[must_use]
    pub fn args<S: Into<Vec<u8>>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().for_each(|arg| self.args.push(arg.into()));
        self
    }

    /// Adds environment variables. Guests see them end at the first NUL.
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

    /// The standard input.
    #[must_use]
    pub fn stdin(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin_reader(Cursor::new(bytes.into()))
    }

    /// The standard input is the process's own: the guest takes no more of it than it asks for, and can wait for it no
    /// longer than it has time. What [`std::io::stdin`] has read ahead is not seen.
    #[must_use]
    pub fn inherit_stdin(mut self) -> Self {
        self.stdin = Input::inherit();
        self
    }

    /// The standard input from a file, which may be a pipe or a terminal: as [`Builder::inherit_stdin`].
    #[must_use]
    pub fn stdin_file(mut self, file: File) -> Self {
        self.stdin = Input::file(file);
        self
    }

    /// The standard input from a reader, which is always ready: the guest waits where the reader does, without a limit.
    #[must_use]
    pub fn stdin_reader(mut self, reader: impl Read + Send + 'static) -> Self {
        self.stdin = Input::new(reader);
        self
    }

    /// Where the standard output goes.
    #[must_use]
    pub fn stdout(mut self, output: OutputStream) -> Self {
        self.stdout = output;
        self
    }

    /// Where the standard error goes.
    #[must_use]
    pub fn stderr(mut self, output: OutputStream) -> Self {
        self.stderr = output;
        self
    }

    /// What the guest's clocks show.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Where random numbers come from.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Grants a directory and all below it, which the guest sees as `guest_path`. It is opened now, so that renaming it
    /// later changes nothing.
    ///
    /// # Errors
    ///
    /// Those of opening it; [`Unsupported`](io::ErrorKind::Unsupported) on a host that is no Unix, and without the
    /// crate's feature `dirs`.
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

    /// Hears of each access below a directory that is refused because it was not granted.
    #[must_use]
    pub fn on_denied(mut self, hears: impl FnMut(&Denied) + Send + 'static) -> Self {
        self.on_denied = Some(Box::new(hears));
        self
    }

    /// The session.
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

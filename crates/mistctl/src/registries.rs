//! Modules in registries and behind URLs, wherever a verb takes a module.

use std::path::{Path, PathBuf};

use clap::Args;

#[cfg(not(feature = "registry"))]
use crate::failure::Failure;
use crate::input::ValueArgs;

/// What counts when a module is in a registry.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Registries (`oci://…`, `https://…`)")]
pub(crate) struct Registries {
    #[cfg(feature = "registry")]
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[cfg(feature = "registry")]
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// Take only digests, and tags that mistletoe.lock has.
    #[cfg(feature = "registry")]
    #[arg(long)]
    locked: bool,
    /// Take what a tag is now, and neither read nor write mistletoe.lock.
    #[cfg(feature = "registry")]
    #[arg(long, conflicts_with = "locked")]
    allow_tag: bool,
    /// The directory of the lock file; empty for the working directory.
    #[cfg_attr(not(feature = "registry"), allow(dead_code, reason = "only registries have a lock file"))]
    #[arg(skip)]
    directory: PathBuf,
}

/// How registries are connected to.
#[cfg(feature = "registry")]
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Connection {
    /// Connect without encryption, and so send passwords in plain text. Loopback addresses need no flag.
    #[arg(long)]
    plain_http: bool,
    /// Accept the certificates of a PEM file in addition to the system's, which SSL_CERT_FILE replaces.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Which signatures are needed.
#[cfg(feature = "registry")]
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Trust {
    /// Take only a module with a signature by a public key in FILE (PEM); may be repeated. No transparency log is
    /// consulted.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,
    /// Take only modules with the signatures that the policy in FILE (TOML) requires [default: MISTLETOE_POLICY].
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    policy: Option<PathBuf>,
}

impl Registries {
    /// Returns the same with the lock file beside a file.
    pub(crate) fn beside(&self, file: &Path) -> Self {
        let mut beside = self.clone();
        beside.directory = file.parent().unwrap_or(Path::new("")).to_owned();
        beside
    }

    /// Returns the same with the lock file beside the first file of values.
    pub(crate) fn beside_values(&self, values: &ValueArgs) -> Self {
        values.files.iter().find(|file| file.as_os_str() != "-").map_or_else(|| self.clone(), |file| self.beside(file))
    }
}

#[cfg(not(feature = "registry"))]
impl Registries {
    /// Refuses what this build cannot pull. Anything else is a file.
    pub(crate) fn pull(&self, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
        if is_reference(path) {
            let text = path.display();
            return Err(Failure::usage(format!(
                "{text}: this build has no registries: build with --features registry"
            )));
        }
        Ok(None)
    }
}

/// Returns whether a path is a reference to a module elsewhere, also one that is wrong or that this build cannot pull.
pub(crate) fn is_reference(path: &Path) -> bool {
    #[cfg(feature = "registry")]
    let is_reference = !matches!(
        mistletoe_registry::Reference::from_path(path),
        Ok(mistletoe_registry::Reference::File(_) | mistletoe_registry::Reference::Stdin)
    );
    #[cfg(not(feature = "registry"))]
    let is_reference = path
        .to_str()
        .is_some_and(|text| ["oci://", "https://", "http://"].iter().any(|scheme| text.starts_with(scheme)));
    is_reference
}

#[cfg(feature = "registry")]
pub(crate) use with_feature::{client, puller};

#[cfg(feature = "registry")]
mod with_feature {
    use std::env;
    use std::fs::File;
    use std::io::Read as _;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use mistletoe_registry::signature::{MAX_KEY_FILE, Policy, PublicKey};
    use mistletoe_registry::{Cache, Client, Event, LOCK_FILE, Progress, Puller, Reference, Tags};

    use super::{Connection, Registries, Trust};
    use crate::failure::Failure;
    use crate::stderr::{self, Level, note};

    /// Interval at which progress is shown.
    const INTERVAL: Duration = Duration::from_millis(100);

    impl Registries {
        /// Pulls a module, if the path is not that of a file.
        pub(crate) fn pull(&self, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
            let reference = Reference::from_path(path);
            let reference = reference.map_err(|error| Failure::usage(format!("{} {error}", path.display())))?;
            match reference {
                Reference::File(_) | Reference::Stdin if self.trust.key.is_empty() => Ok(None),
                Reference::Stdin => Err(Failure::usage("--key is for modules in registries, not for standard input")),
                reference => Ok(Some(self.puller()?.pull(&reference)?.bytes)),
            }
        }

        /// Returns the lock file, if it counts.
        #[cfg(feature = "serve")]
        pub(crate) fn lock_file(&self) -> Option<PathBuf> {
            (!self.allow_tag).then(|| self.directory.join(LOCK_FILE))
        }

        /// Returns whether tags are held: by a lock file, or by not having one.
        pub(crate) fn has_lock_file(&self) -> bool {
            self.locked || self.directory.join(LOCK_FILE).exists()
        }

        /// Returns what pulls, with the lock file in the directory.
        pub(crate) fn puller(&self) -> Result<Puller, Failure> {
            let file = self.directory.join(LOCK_FILE);
            let tags = if self.allow_tag { Tags::Allow } else { Tags::Lock { file, is_frozen: self.locked } };
            let puller = puller(client(&self.connection)).tags(tags);
            self.trust.apply(puller)
        }
    }

    impl Trust {
        /// Returns the file of the policy, if there is one.
        pub(crate) fn policy(&self) -> Option<PathBuf> {
            let from_env = || env::var_os("MISTLETOE_POLICY").filter(|value| !value.is_empty()).map(PathBuf::from);
            self.policy.clone().or_else(from_env)
        }

        /// Returns the same puller, which asks for these signatures.
        pub(crate) fn apply(&self, puller: Puller) -> Result<Puller, Failure> {
            if !self.key.is_empty() {
                return Ok(puller.keys(public_keys(&self.key)?));
            }
            match self.policy() {
                None => Ok(puller),
                Some(file) => {
                    let policy = Policy::read(&file).map_err(|error| Failure::refused(&file, error.to_string()))?;
                    Ok(puller.policy(policy))
                }
            }
        }
    }

    fn public_keys(files: &[PathBuf]) -> Result<Vec<PublicKey>, Failure> {
        let mut keys = Vec::new();
        for file in files {
            let mut text = String::new();
            let read = File::open(file).and_then(|open| open.take(MAX_KEY_FILE + 1).read_to_string(&mut text));
            read.map_err(|error| Failure::read(file, error))?;
            keys.extend(PublicKey::from_pem(&text).map_err(|error| Failure::refused(file, error.to_string()))?);
        }
        Ok(keys)
    }

    /// Returns a client that shows its progress, if standard error is a terminal.
    pub(crate) fn client(connection: &Connection) -> Client {
        let mut client = Client::new().plain_http(connection.plain_http);
        if let Some(ca) = &connection.ca {
            client = client.ca(ca);
        }
        if stderr::is_interactive() {
            let last = Mutex::new(None::<Instant>);
            client = client.on_progress(move |progress| show(&last, progress));
        }
        client
    }

    /// Shows progress in a line that the next one replaces.
    fn show(last: &Mutex<Option<Instant>>, Progress { received, total, .. }: Progress) {
        let Ok(mut last) = last.lock() else { return };
        let is_done = total == Some(received);
        if !is_done && last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let line = match total {
            Some(_) if is_done => String::new(),
            Some(total) => format!("{:.1} of {:.1} MiB", mib(received), mib(total)),
            None => format!("{:.1} MiB", mib(received)),
        };
        stderr::progress(&line);
    }

    /// Returns a puller with the user's cache, which says what is worth knowing.
    pub(crate) fn puller(client: Client) -> Puller {
        let puller = Puller::new(client).on_event(|event| match event {
            Event::Resolved { pinned } => note(Level::Info, &format!("resolved to {pinned}")),
            Event::Verified { pinned, signature } if stderr::is_verbose() => {
                note(Level::Info, &format!("{pinned}: {signature}"));
            }
            Event::Cache { digest, error } => note(Level::Warning, &format!("{digest} in the cache: {error}")),
            _ => {}
        });
        match crate::cache::registry_folder().map(Cache::open) {
            None => puller,
            Some(Ok(cache)) => puller.cache(cache),
            Some(Err(error)) => {
                note(Level::Warning, &format!("the cache cannot be used, so modules are pulled again: {error}"));
                puller
            }
        }
    }
}

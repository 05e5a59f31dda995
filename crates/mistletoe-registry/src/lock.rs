//! The lock file: which digests tags had.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use mistletoe_store::open_file;
use serde::Deserialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::reference::Reference;

/// Name of a lock file.
pub const LOCK_FILE: &str = "mistletoe.lock";
/// Maximum length of a lock file, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// How long a change by another process is waited for. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Interval between attempts.
const INTERVAL: Duration = Duration::from_millis(5);
/// The only version of the format.
const VERSION: u32 = 1;

/// A lock file: the digests of references that have none.
///
/// ```toml
/// version = 1
///
/// [[module]]
/// reference = "oci://registry.example/apps/web:1.2"
/// digest = "sha256:93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476"
/// ```
///
/// The entries are sorted by reference, so that two versions of a file differ only in what has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    file: PathBuf,
    digests: BTreeMap<String, Digest>,
}

/// The right to change a lock file, which one process has at a time, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _locked: File,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    #[serde(default)]
    module: Vec<Module>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Module {
    reference: String,
    digest: String,
}

impl Lock {
    /// Returns a lock file without entries, which is not written yet.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), digests: BTreeMap::new() }
    }

    /// Reads a lock file. Returns nothing if it does not exist.
    ///
    /// # Errors
    ///
    /// [`File`](crate::ErrorKind::File) if the file cannot be read, or is not a lock file.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        let failed = |problem: String| Error::file(file, problem);
        let mut text = String::new();
        match open_file(file).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
            Ok(_) if text.len() as u64 > MAX_FILE => return Err(failed("the file is longer than 4 MiB".to_owned())),
            Ok(_) => {}
        }
        let parsed: Text = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| before.matches('\n').count() + 1);
            let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            failed(format!("{line}{}", crate::shown(error.message())))
        })?;
        if parsed.version != VERSION {
            return Err(failed(format!("version {} is not {VERSION}, the only one that is known", parsed.version)));
        }
        let mut digests = BTreeMap::new();
        for Module { reference, digest } in parsed.module {
            let parsed = reference.parse::<Reference>().ok();
            let key = parsed.as_ref().filter(|reference| reference.digest().is_none()).and_then(key);
            let Some(key) = key.filter(|key| *key == reference) else {
                return Err(failed(format!("{:?} is not a reference with a tag", crate::shown(&reference))));
            };
            let digest = digest.parse().map_err(|error| failed(format!("{reference}: {error}")))?;
            if digests.insert(key, digest).is_some() {
                return Err(failed(format!("{reference} occurs twice")));
            }
        }
        Ok(Some(Self { file: file.to_owned(), digests }))
    }

    /// Returns the file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the digest that was recorded for a reference.
    pub fn get(&self, reference: &Reference) -> Option<Digest> {
        self.digests.get(&key(reference)?).copied()
    }

    /// Records the digest of a reference, and returns the one before.
    pub fn insert(&mut self, reference: &Reference, digest: Digest) -> Option<Digest> {
        self.digests.insert(key(reference)?, digest)
    }

    /// Returns the references and their digests, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.digests.iter().map(|(reference, digest)| (reference.as_str(), *digest))
    }

    /// Waits until no other process changes the file. What is read after this is what a write replaces.
    pub(crate) fn turn(file: &Path) -> Result<Turn> {
        Self::turn_within(file, PATIENCE)
    }

    fn turn_within(file: &Path, patience: Duration) -> Result<Turn> {
        let failed = |problem: String| Error::file(file, format!("it cannot be changed: {problem}"));
        let end = Instant::now() + patience;
        let locked = lockable(directory(file)).map_err(|error| failed(error.to_string()))?;
        loop {
            match locked.try_lock() {
                Ok(()) => return Ok(Turn { _locked: locked }),
                Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(INTERVAL),
                Err(TryLockError::WouldBlock) => {
                    return Err(failed(format!(
                        "another process has locked its directory for {} s",
                        patience.as_secs()
                    )));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error.to_string())),
            }
        }
    }

    /// Writes the file: it is the new one or the old one at any time.
    ///
    /// What another process has written since [`read`](Self::read) is lost. [`Puller`](crate::Puller) reads and writes
    /// in turn with other processes.
    ///
    /// # Errors
    ///
    /// [`File`](crate::ErrorKind::File) if the file cannot be written.
    pub fn write(&self) -> Result<()> {
        let write = || {
            let mut builder = tempfile::Builder::new();
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            let mut file = builder.prefix(".mistletoe.lock-").tempfile_in(directory(&self.file))?;
            file.write_all(self.text().as_bytes())?;
            file.persist(&self.file).map(drop).map_err(|error| error.error)
        };
        write().map_err(|error| Error::file(&self.file, format!("it cannot be written: {error}")))
    }

    fn text(&self) -> String {
        let mut text = format!("# The digests of modules. `mistctl update` renews them.\nversion = {VERSION}\n");
        for (reference, digest) in &self.digests {
            // A reference has no control characters.
            let reference = reference.replace('\\', r"\\").replace('"', r#"\""#);
            text.push_str(&format!("\n[[module]]\nreference = \"{reference}\"\ndigest = \"{digest}\"\n"));
        }
        text
    }
}

fn directory(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens what stands for a lock file that is changed: not the file itself, which each change replaces, but its
/// directory. So nothing is left behind.
#[cfg(unix)]
fn lockable(directory: &Path) -> io::Result<File> {
    File::open(directory)
}

/// Opens what stands for a lock file that is changed: a file that stays, as directories cannot be opened everywhere.
#[cfg(not(unix))]
fn lockable(directory: &Path) -> io::Result<File> {
    File::options().create(true).write(true).truncate(false).open(directory.join(".mistletoe.lock-turn"))
}

/// Returns what a reference is called in a lock file, with the tag `latest` if it has none.
fn key(reference: &Reference) -> Option<String> {
    match reference {
        Reference::Image(image) => Some(format!("{}:{}", image.repository(), image.tag_or_latest())),
        Reference::Url(url) => Some(url.as_str().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn reference(text: &str) -> Reference {
        text.parse().expect("a reference")
    }

    #[test]
    fn a_lock_file_is_sorted_and_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(LOCK_FILE);
        assert_eq!(Lock::read(&file).expect("read"), None);
        let mut lock = Lock::new(&file);
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        assert_eq!(lock.insert(&reference("oci://h/b"), one), None);
        assert_eq!(lock.insert(&reference(r#"https://h/x?it=1'"\\"#), one), None);
        assert_eq!(lock.insert(&reference("oci://h/a:1"), one), None);
        assert_eq!(lock.insert(&reference(&format!("oci://h/a:1@{DIGEST}")), two), Some(one));
        assert_eq!(lock.insert(&reference("file.wasm"), one), None);
        lock.write().expect("written");
        let read = Lock::read(&file).expect("read").expect("it exists");
        assert_eq!(read, lock);
        let names: Vec<_> = read.iter().map(|(reference, _)| reference).collect();
        assert_eq!(names, [r#"https://h/x?it=1'"\\"#, "oci://h/a:1", "oci://h/b:latest"]);
        assert_eq!(read.get(&reference("oci://h/b:latest")), Some(one));
        assert_eq!(read.get(&reference("oci://h/b:2")), None);
        assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn a_turn_is_waited_for_and_not_forever() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(LOCK_FILE);
        let turn = Lock::turn(&file).expect("free");
        let error = Lock::turn_within(&file, Duration::ZERO).expect_err("taken").to_string();
        assert!(error.ends_with("it cannot be changed: another process has locked its directory for 0 s"), "{error}");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::turn(&file).map(drop));
            drop(turn);
            waiting.join().expect("no panic").expect("free again");
        });
    }

    #[test]
    fn what_is_not_a_lock_file_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(LOCK_FILE);
        let entry = |reference: &str, digest: &str| {
            format!("version = 1\n[[module]]\nreference = '{reference}'\ndigest = '{digest}'\n")
        };
        let twice = format!("{}{}", entry("oci://h/a:1", DIGEST), &entry("oci://h/a:1", DIGEST)[12..]);
        for (text, problem) in [
            ("", "line 1: missing field `version`"),
            ("version = 2", "version 2 is not 1"),
            ("version = 1\nother = 1", "unknown field `other`"),
            ("version = 1\n\n]", "line 3: "),
            (&entry("oci://h/a", DIGEST), "is not a reference with a tag"),
            (&entry("a.wasm", DIGEST), "is not a reference with a tag"),
            (&entry(&format!("oci://h/a@{DIGEST}"), DIGEST), "is not a reference with a tag"),
            (&entry("oci://h/a:1", "sha256:1"), "oci://h/a:1: expected `sha256:`"),
            (&twice, "oci://h/a:1 occurs twice"),
        ] {
            std::fs::write(&file, text).expect("written");
            let error = Lock::read(&file).expect_err(problem).to_string();
            assert!(error.contains(problem), "{error} instead of {problem}");
        }
    }
}

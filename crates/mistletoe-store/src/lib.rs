//! Files in a private directory, each complete or absent: what caches on disk stand on.
//!
//! An entry of a [`Store`] has a [`Name`], which is a digest, and one file or several, which differ in their
//! extensions. A file is written under another name, and moved into place when it is complete. It is never changed
//! there, so any number of processes can use a directory at once.
//!
//! On Unix, directory and files must belong to this user, and no other user may be able to write to them. The store
//! does not look at what is in a file: its user compares digests.
//!
//! ```no_run
//! use std::io::{Read as _, Write as _};
//!
//! use mistletoe_store::{Name, Store};
//!
//! # fn example(name: Name) -> std::io::Result<()> {
//! let store = Store::open("/home/me/.cache/my-program", "blob", &[])?;
//! let mut file = store.create()?;
//! file.write_all(b"text")?;
//! file.persist(name, "blob")?;
//! store.evict(1 << 30)?;
//!
//! let mut text = String::new();
//! store.read(name, "blob")?.read_to_string(&mut text)?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

/// Prefix of the names of files that are not complete yet.
const UNFINISHED: &str = ".unfinished-";
/// An unfinished file older than this was abandoned by its writer.
const ABANDONED: Duration = Duration::from_secs(3600);
/// How exactly the time of the last use is kept. Each change of it is a write to the disk.
const MOMENT: Duration = Duration::from_secs(60);

/// A directory of entries.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    main: &'static str,
    others: &'static [&'static str],
}

/// The name of an entry: a digest, in text as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name([u8; 32]);

/// An entry of a [`Store`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The entry's name.
    pub name: Name,
    /// Length of its files, in bytes.
    pub bytes: u64,
    /// Time of the last use, to the minute.
    pub used: SystemTime,
}

/// A file that is not part of an entry yet. Dropping it removes it.
#[derive(Debug)]
pub struct Unfinished<'a> {
    store: &'a Store,
    file: NamedTempFile,
}

impl Store {
    /// Opens the store in a directory.
    ///
    /// Every entry has a file with the extension `main`, and may have files with the extensions `others`. If the
    /// directory does not exist, it is created, on Unix with access for this user alone.
    ///
    /// # Errors
    ///
    /// The directory cannot be created; on Unix, it belongs to another user or other users can write to it.
    pub fn open(
        directory: impl Into<PathBuf>,
        main: &'static str,
        others: &'static [&'static str],
    ) -> io::Result<Self> {
        let directory = directory.into();
        make(&directory)?;
        private(&fs::metadata(&directory)?)?;
        Ok(Self { directory, main, others })
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the path of one of an entry's files.
    pub fn path(&self, name: Name, extension: &str) -> PathBuf {
        self.directory.join(name.to_string()).with_extension(extension)
    }

    /// Opens one of an entry's files for reading.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if it does not exist; it is not a regular file, belongs to another user,
    /// or other users can write to it.
    pub fn read(&self, name: Name, extension: &str) -> io::Result<File> {
        let file = regular(open(&self.path(name, extension), Links::Refuse)?)?;
        private(&file.metadata()?)?;
        Ok(file)
    }

    /// Marks an entry as used now, by its main file. An entry that was used a moment before stays as it is.
    pub fn touch(&self, file: &File) {
        let used = file.metadata().and_then(|metadata| metadata.modified()).ok();
        if used.and_then(|time| time.elapsed().ok()).is_none_or(|age| age >= MOMENT) {
            // A failure to do so does not make the entry unusable.
            let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        }
    }

    /// Starts a file, whose entry may not be known yet.
    ///
    /// # Errors
    ///
    /// The file cannot be created.
    pub fn create(&self) -> io::Result<Unfinished<'_>> {
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.directory)?;
        Ok(Unfinished { store: self, file })
    }

    /// Writes one of an entry's files.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, name: Name, extension: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.create()?;
        file.write_all(bytes)?;
        file.persist(name, extension)
    }

    /// Removes an entry, if it still exists.
    ///
    /// # Errors
    ///
    /// A file cannot be removed. The others are removed nevertheless.
    pub fn remove(&self, name: Name) -> io::Result<()> {
        let mut result = Ok(());
        for extension in self.extensions() {
            result = result.and(remove(&self.path(name, extension)));
        }
        result
    }

    /// Lists the entries, most recently used first.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries: HashMap<Name, (u64, Option<SystemTime>)> = HashMap::new();
        for path in self.files()? {
            let Some(name) = self.name(&path) else { continue };
            // Another process may have removed the file meanwhile.
            let Ok(metadata) = path.symlink_metadata() else { continue };
            let (bytes, used) = entries.entry(name).or_default();
            *bytes = bytes.saturating_add(metadata.len());
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if path.extension() == Some(OsStr::new(self.main)) {
                *used = Some(modified);
            } else {
                // It counts as well if another process has removed the main file.
                used.get_or_insert(modified);
            }
        }
        let entry = |(name, (bytes, used)): (Name, (u64, Option<SystemTime>))| Some(Entry { name, bytes, used: used? });
        let mut entries: Vec<Entry> = entries.into_iter().filter_map(entry).collect();
        entries.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.name.cmp(&b.name)));
        Ok(entries)
    }

    /// Removes the least recently used entries until the rest has at most `max_bytes`, and abandoned files. An entry
    /// that is larger alone is removed, and displaces no other.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or a file cannot be removed. The others are removed nevertheless.
    pub fn evict(&self, max_bytes: u64) -> io::Result<()> {
        let mut bytes: u64 = 0;
        let mut result = Ok(());
        for entry in self.entries()? {
            if entry.bytes <= max_bytes {
                bytes = bytes.saturating_add(entry.bytes);
            }
            if entry.bytes > max_bytes || bytes > max_bytes {
                result = result.and(self.remove(entry.name));
            }
        }
        for path in self.files()?.into_iter().filter(|path| is_unfinished(path)) {
            let age = path.symlink_metadata().and_then(|metadata| metadata.modified()).ok();
            if age.and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age > ABANDONED) {
                result = result.and(remove(&path));
            }
        }
        result
    }

    /// Removes all entries and unfinished files. Files that do not belong to the store stay.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or a file cannot be removed. The others are removed nevertheless.
    pub fn clear(&self) -> io::Result<()> {
        let mut result = Ok(());
        for path in self.files()? {
            if self.name(&path).is_some() || is_unfinished(&path) {
                result = result.and(remove(&path));
            }
        }
        result
    }

    fn extensions(&self) -> impl Iterator<Item = &'static str> {
        [self.main].into_iter().chain(self.others.iter().copied())
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(&self.directory)?.map(|entry| Ok(entry?.path())).collect()
    }

    /// Returns the name of the entry that a file belongs to, if it belongs to one.
    fn name(&self, path: &Path) -> Option<Name> {
        let extension = path.extension()?;
        self.extensions().find(|known| extension == *known)?;
        path.file_stem()?.to_str()?.parse().ok()
    }
}

impl Unfinished<'_> {
    /// Moves the file into place, where it replaces an earlier one.
    ///
    /// # Errors
    ///
    /// The file cannot be moved.
    pub fn persist(self, name: Name, extension: &str) -> io::Result<()> {
        self.file.persist(self.store.path(name, extension)).map(drop).map_err(|error| error.error)
    }
}

impl Write for Unfinished<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl From<[u8; 32]> for Name {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is not 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAName;

impl fmt::Display for NotAName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected 64 hexadecimal digits in lower case")
    }
}

impl std::error::Error for NotAName {}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let digit = |byte: &u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NotAName),
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(NotAName) };
        let bytes = pairs.iter().map(|[high, low]| Ok(digit(high)? << 4 | digit(low)?));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
        bytes.try_into().map(Self).map_err(|_| NotAName)
    }
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()))
}

/// Removes a file, if it still exists.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(unix)]
fn make(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(not(unix))]
fn make(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// Opens a regular file for reading, or the one that a link leads to. Anything else is an error at once: to open a pipe
/// would wait for a writer, and a device may have no end.
///
/// # Errors
///
/// It is not a regular file, or it cannot be opened.
pub fn open_file(path: &Path) -> io::Result<File> {
    regular(open(path, Links::Follow)?)
}

/// What the last part of a path may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Follow,
    Refuse,
}

/// Opens what a path names, without waiting for it.
#[cfg(unix)]
fn open(path: &Path, links: Links) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    // A terminal must not become the one that controls the process.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = if links == Links::Refuse { flags | OFlags::NOFOLLOW } else { flags };
    match rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())) {
        Ok(file) => Ok(file.into()),
        Err(Errno::LOOP) if links == Links::Refuse => Err(irregular()),
        // A socket.
        Err(Errno::NXIO) => Err(irregular()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(unix))]
fn open(path: &Path, links: Links) -> io::Result<File> {
    let metadata = if links == Links::Refuse { path.symlink_metadata()? } else { path.metadata()? };
    if metadata.is_file() { File::open(path) } else { Err(irregular()) }
}

/// Returns a file if it is a regular one.
fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}

fn irregular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")
}

/// Refuses what belongs to another user, or what other users can write to.
#[cfg(unix)]
fn private(metadata: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "other users can write to it"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn private(_: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn store(directory: &Path) -> Store {
        Store::open(directory.join("store"), "main", &["other"]).expect("a store")
    }

    fn name(byte: u8) -> Name {
        Name::from([byte; 32])
    }

    fn age(store: &Store, name: Name, seconds: u64) {
        let file = store.read(name, "main").expect("it exists");
        let then = SystemTime::now() - Duration::from_secs(seconds);
        file.set_times(FileTimes::new().set_modified(then)).expect("set");
    }

    #[test]
    fn a_name_is_its_text() {
        let text = format!("{}{}", "0123456789abcdef".repeat(3), "f".repeat(16));
        assert_eq!(text.parse::<Name>().map(|name| name.to_string()), Ok(text.clone()));
        for bad in ["", "0", &text[1..], &text.to_uppercase(), &format!("{text}00"), &text.replace('0', "g")] {
            assert_eq!(bad.parse::<Name>(), Err(NotAName), "{bad}");
        }
    }

    #[test]
    fn a_file_is_complete_or_absent() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(directory.path());
        let mut file = store.create().expect("a file");
        file.write_all(b"te").expect("written");
        assert_eq!(store.read(name(1), "main").map(drop).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
        file.write_all(b"xt").expect("written");
        file.persist(name(1), "main").expect("moved");
        let mut text = String::new();
        store.read(name(1), "main").expect("a file").read_to_string(&mut text).expect("text");
        assert_eq!(text, "text");
        drop(store.create().expect("a file"));
        assert_eq!(fs::read_dir(store.directory()).expect("a directory").count(), 1);
    }

    #[test]
    fn the_least_recently_used_entries_go_with_all_their_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(directory.path());
        for byte in 1..=3 {
            store.write(name(byte), "main", &[0; 6]).expect("written");
            store.write(name(byte), "other", &[0; 4]).expect("written");
            age(&store, name(byte), 100 - u64::from(byte));
        }
        let foreign = store.directory().join("foreign");
        fs::write(&foreign, "").expect("written");
        let left =
            || store.entries().expect("entries").iter().map(|entry| (entry.name, entry.bytes)).collect::<Vec<_>>();
        store.evict(30).expect("room for all");
        assert_eq!(left(), [(name(3), 10), (name(2), 10), (name(1), 10)]);
        store.evict(29).expect("evicted");
        assert_eq!(left(), [(name(3), 10), (name(2), 10)]);
        store.touch(&store.read(name(2), "main").expect("a file"));
        store.evict(10).expect("evicted");
        assert_eq!(left(), [(name(2), 10)]);
        let modified =
            || fs::metadata(store.path(name(2), "main")).and_then(|metadata| metadata.modified()).expect("set");
        let used = modified();
        store.touch(&store.read(name(2), "main").expect("a file"));
        assert_eq!(modified(), used, "it was used a moment before");
        store.clear().expect("cleared");
        assert_eq!(left(), []);
        assert!(foreign.exists() && fs::read_dir(store.directory()).expect("a directory").count() == 1);
    }

    #[test]
    fn an_entry_larger_than_the_limit_displaces_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(directory.path());
        store.write(name(1), "main", &[0; 6]).expect("written");
        age(&store, name(1), 100);
        store.write(name(2), "main", &[0; 11]).expect("written");
        store.evict(10).expect("evicted");
        let left: Vec<_> = store.entries().expect("entries").iter().map(|entry| entry.name).collect();
        assert_eq!(left, [name(1)]);
    }

    #[test]
    fn a_file_without_its_main_file_is_removed_like_an_entry() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(directory.path());
        store.write(name(1), "other", &[0; 6]).expect("written");
        store.evict(6).expect("room for it");
        assert!(store.path(name(1), "other").exists());
        store.evict(5).expect("evicted");
        assert!(!store.path(name(1), "other").exists());
    }

    #[test]
    fn an_abandoned_file_is_removed_and_one_under_way_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(directory.path());
        let new = store.create().expect("a file");
        let old = store.create().expect("a file");
        let then = SystemTime::now() - ABANDONED - Duration::from_secs(1);
        old.file.as_file().set_times(FileTimes::new().set_modified(then)).expect("set");
        store.evict(0).expect("evicted");
        assert_eq!((new.file.path().exists(), old.file.path().exists()), (true, false));
    }

    #[test]
    fn an_entry_that_cannot_be_removed_keeps_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(directory.path());
        let names =
            |store: &Store| -> Vec<_> { store.entries().expect("entries").iter().map(|entry| entry.name).collect() };
        for remove in [|store: &Store| store.evict(0), Store::clear] {
            for byte in [1, 3] {
                store.write(name(byte), "main", &[0; 6]).expect("written");
                age(&store, name(byte), 100 - u64::from(byte));
            }
            // Not a file. It comes between the two, and before both in any directory.
            for (byte, extension) in [(2, "main"), (2, "other"), (0, "main")] {
                fs::create_dir_all(store.path(name(byte), extension)).expect("a directory");
            }
            let abandoned = store.create().expect("a file");
            let then = SystemTime::now() - ABANDONED - Duration::from_secs(1);
            abandoned.file.as_file().set_times(FileTimes::new().set_modified(then)).expect("set");
            remove(&store).expect_err("a directory");
            let left = names(&store);
            assert!(left.len() == 2 && left.contains(&name(0)) && left.contains(&name(2)), "{left:?}");
            assert!(!abandoned.file.path().exists());
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_a_file_is_not_waited_for() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "text").expect("written");
        symlink(path("file"), path("link")).expect("a link");
        for name in ["file", "link"] {
            let mut text = String::new();
            open_file(&path(name)).and_then(|mut file| file.read_to_string(&mut text)).expect("a file");
            assert_eq!(text, "text");
        }
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().expect("mkfifo runs").success());
        symlink(path("pipe"), path("to-pipe")).expect("a link");
        let _listener = std::os::unix::net::UnixListener::bind(path("socket")).expect("a socket");
        for name in ["pipe", "to-pipe", "socket", ".", "/dev/null", "/dev/zero"] {
            let error = open_file(&path(name)).expect_err(name);
            assert_eq!(error.to_string(), "it is not a regular file", "{name}");
        }
        assert_eq!(open_file(&path("none")).map_err(|error| error.kind()).err(), Some(io::ErrorKind::NotFound));
    }

    #[cfg(unix)]
    #[test]
    fn what_others_can_write_to_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let directory = tempfile::tempdir().expect("a directory");
        let open = Store::open(directory.path().join("a/b"), "main", &[]).expect("a store");
        let mode = fs::metadata(open.directory()).expect("a directory").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        open.write(name(1), "main", b"x").expect("written");
        let path = open.path(name(1), "main");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o602)).expect("set");
        assert_eq!(
            open.read(name(1), "main").map_err(|error| error.kind()).err(),
            Some(io::ErrorKind::PermissionDenied)
        );
        symlink(&path, open.path(name(2), "main")).expect("a link");
        fs::create_dir(open.path(name(3), "main")).expect("a directory");
        // A socket's path has to be short.
        let socket = directory.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        fs::rename(socket, open.path(name(4), "main")).expect("moved");
        let pipe = std::process::Command::new("mkfifo").arg(open.path(name(5), "main")).status().expect("mkfifo runs");
        assert!(pipe.success());
        for byte in 2..=5 {
            let error = open.read(name(byte), "main").map_err(|error| error.kind()).err();
            assert_eq!(error, Some(io::ErrorKind::InvalidData), "{byte}");
        }
        fs::set_permissions(open.directory(), fs::Permissions::from_mode(0o770)).expect("set");
        let again = Store::open(open.directory(), "main", &[]);
        assert_eq!(again.map_err(|error| error.kind()).err(), Some(io::ErrorKind::PermissionDenied));
    }
}

//! Content on disk, by its digest.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mistletoe_store::{Store, Unfinished};

use crate::digest::Digest;
use crate::layout::MAX_MODULE;

/// The default of [`Cache::max_bytes`].
const MAX_BYTES: u64 = 1 << 30;
const BLOB: &str = "blob";
/// What was read to verify a manifest's signatures. It is verified again each time, so it has no digest.
const SIGNATURES: &str = "signatures";
/// Which file had the content when it was last compared with its digest: see [`Cache::get`].
const COMPARED: &str = "compared";
/// Content that is shorter is compared whenever it is read: that is as quick as to find out which file it was.
const LONG: usize = 64 << 10;
/// A file that was changed so short a time ago could be changed again without another time: clocks of file systems are
/// coarse.
const SETTLED: Duration = Duration::from_secs(2);

/// A directory of what registries have sent. Cloning it is cheap.
///
/// Content is compared with its digest when it is read. Long content is not compared again while a local file system of
/// Unix says that it is the same file, unchanged since then, unless its signatures are checked. It is removed if it
/// differs. The directory is private, files are complete or absent, and any number of processes can use it at once: see
/// [`mistletoe_store`].
///
/// ```no_run
/// use mistletoe_registry::{Cache, Client, Puller, Reference};
///
/// let cache = Cache::open("/home/me/.cache/my-program")?.max_bytes(1 << 28);
/// let puller = Puller::new(Client::new()).cache(cache);
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cache {
    store: Store,
    max_bytes: u64,
    settled: Duration,
    sync: fn(&File) -> io::Result<()>,
}

/// When content is compared with its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Each time.
    Always,
    /// Unless it is known to be what was compared before.
    IfChanged,
}

impl Cache {
    /// Opens the cache in a directory, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let store = Store::open(directory, BLOB, &[SIGNATURES, COMPARED])?;
        Ok(Self { store, max_bytes: MAX_BYTES, settled: SETTLED, sync: File::sync_all })
    }

    /// Sets the limit on the content in the cache, in bytes. The default is 1 GiB. The least recently used content is
    /// removed first.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        self.store.directory()
    }

    /// Lists the content, most recently used first.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn entries(&self) -> io::Result<Vec<mistletoe_store::Entry>> {
        self.store.entries()
    }

    /// Removes all content.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or a file cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        self.store.clear()
    }

    /// Returns the content with a digest, if there is any. What has another digest is removed, and is an error.
    ///
    /// To compute a digest takes several times as long as to read the file. So it is kept which file had it: a file
    /// with the same number, length and time of change is not compared again, if `compare` allows that. A local file
    /// system of Unix sets that time itself whenever a file is written to or another one is put in its place. FUSE and
    /// network file systems need not, and nor does a program that has mapped the file to write to it. That is enough
    /// against accidents. It is none against programs of the same user, which can change this record as well.
    pub(crate) fn get(&self, digest: Digest, compare: Compare) -> io::Result<Option<Vec<u8>>> {
        let file = match self.store.read(digest.name(), BLOB) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        let length = file.metadata()?.len().min(MAX_MODULE);
        // If there is no room, the read says so.
        let _ = bytes.try_reserve_exact(length as usize + 1);
        let version = version(&file);
        (&file).take(MAX_MODULE + 1).read_to_end(&mut bytes)?;
        // Also after the last byte: what was read is of this version, and not in part of the next one.
        let version =
            version.filter(|_| bytes.len() >= LONG).filter(|before| self::version(&file).as_ref() == Some(before));
        if compare == Compare::IfChanged && version.is_some() && self.compared(digest) == version {
            self.store.touch(&file);
            return Ok(Some(bytes));
        }
        if Digest::of(&bytes) != digest {
            self.store.remove(digest.name())?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what was written"));
        }
        // To have used it is a change, too. Then the next time is soon enough.
        self.store.touch(&file);
        if let Some(version) = version
            && self.compared(digest).as_ref() != Some(&version)
            && changed(&file).is_some_and(|age| age >= self.settled)
            // What was compared may be in memory alone. After a crash, the disk could have other bytes under the same
            // version.
            && (self.sync)(&file).is_ok()
            && self::version(&file).as_ref() == Some(&version)
        {
            // Without it, the content is compared again.
            let _ = self.store.write(digest.name(), COMPARED, version.as_bytes());
        }
        Ok(Some(bytes))
    }

    /// Returns the version of the file that was last compared with its digest.
    fn compared(&self, digest: Digest) -> Option<String> {
        let mut version = String::new();
        self.store.read(digest.name(), COMPARED).ok()?.take(256).read_to_string(&mut version).ok()?;
        Some(version)
    }

    /// Starts to store content.
    pub(crate) fn create(&self) -> io::Result<Unfinished<'_>> {
        self.store.create()
    }

    /// Stores content whose digest was compared.
    pub(crate) fn keep(&self, file: Unfinished<'_>, digest: Digest) -> io::Result<()> {
        file.persist(digest.name(), BLOB)?;
        self.store.evict(self.max_bytes)
    }

    pub(crate) fn put(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.create()?;
        file.write_all(bytes)?;
        self.keep(file, digest)
    }

    /// Returns what was read to verify the signatures of a manifest.
    pub(crate) fn signatures(&self, manifest: Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.store.read(manifest.name(), SIGNATURES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    pub(crate) fn put_signatures(&self, manifest: Digest, bytes: &[u8]) -> io::Result<()> {
        self.store.write(manifest.name(), SIGNATURES, bytes)?;
        self.store.evict(self.max_bytes)
    }
}

/// Returns a text that differs between any two files of local file systems that exist, and from before to after any
/// change of one.
#[cfg(unix)]
fn version(file: &File) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let file = file.metadata().ok()?;
    let (seconds, nanoseconds) = (file.ctime(), file.ctime_nsec());
    Some(format!("{} {} {} {seconds}.{nanoseconds:09}", file.dev(), file.ino(), file.size()))
}

/// The standard library has no such text here: content is compared each time.
#[cfg(not(unix))]
fn version(_: &File) -> Option<String> {
    None
}

/// Returns how long ago a file was changed.
#[cfg(unix)]
fn changed(file: &File) -> Option<Duration> {
    use std::os::unix::fs::MetadataExt as _;
    use std::time::SystemTime;
    let seconds = u64::try_from(file.metadata().ok()?.ctime()).ok()?;
    // Rounded up, so that it was not later.
    let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.checked_add(1)?))?;
    SystemTime::now().duration_since(changed).ok()
}

#[cfg(not(unix))]
fn changed(_: &File) -> Option<Duration> {
    None
}

#[cfg(all(test, unix))]
impl Cache {
    /// Damages content, and says that it was compared.
    pub(crate) fn damage(&self, digest: Digest, damaged: &[u8]) {
        std::fs::write(self.store.path(digest.name(), BLOB), damaged).expect("written");
        let wrong = version(&self.store.read(digest.name(), BLOB).expect("open")).expect("a version");
        self.store.write(digest.name(), COMPARED, wrong.as_bytes()).expect("written");
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::time::Instant;

    use super::*;

    /// Far more than what is waited for takes.
    #[cfg(unix)]
    const SOON: Duration = Duration::from_secs(30);

    fn cache(directory: &tempfile::TempDir) -> Cache {
        Cache::open(directory.path().join("cache")).expect("a cache")
    }

    /// Waits until the clock of the file system goes on from the last change of a file.
    #[cfg(unix)]
    fn tick(directory: &tempfile::TempDir, file: &Path) {
        use std::os::unix::fs::MetadataExt as _;
        let time = |path: &Path| path.metadata().map(|file| (file.ctime(), file.ctime_nsec())).expect("a file");
        let other = directory.path().join("tick");
        let end = Instant::now() + SOON;
        loop {
            std::fs::write(&other, b"").expect("written");
            if time(&other) > time(file) {
                break;
            }
            assert!(Instant::now() < end, "the clock stands still");
        }
    }

    /// Gets content until it is recorded which file has it.
    #[cfg(unix)]
    fn until_compared(cache: &Cache, directory: &tempfile::TempDir, digest: Digest, content: &[u8]) {
        let end = Instant::now() + SOON;
        while cache.compared(digest).is_none() {
            assert!(cache.get(digest, Compare::IfChanged).expect("read").is_some_and(|found| found == content));
            assert!(Instant::now() < end, "nothing is recorded");
        }
        tick(directory, &cache.store.path(digest.name(), BLOB));
    }

    #[test]
    fn content_is_compared_with_its_digest_at_each_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = cache(&directory);
        let digest = Digest::of(b"content");
        assert_eq!(cache.get(digest, Compare::IfChanged).expect("read"), None);
        cache.put(digest, b"content").expect("written");
        assert_eq!(cache.get(digest, Compare::IfChanged).expect("read").as_deref(), Some(&b"content"[..]));
        for damaged in [&b""[..], b"contenT", b"content!"] {
            cache.put(digest, b"content").expect("written");
            std::fs::write(cache.store.path(digest.name(), BLOB), damaged).expect("written");
            assert!(cache.get(digest, Compare::IfChanged).is_err());
            assert_eq!(cache.get(digest, Compare::IfChanged).expect("removed"), None);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_has_not_changed_is_not_compared_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let content = vec![1; LONG];
        let digest = Digest::of(&content);
        let get = |cache: &Cache| cache.get(digest, Compare::IfChanged).map_err(|error| error.to_string());
        let mut cache = cache(&directory);
        cache.put(digest, &content).expect("written");
        assert_eq!(get(&cache).as_ref(), Ok(&Some(content.clone())));
        assert_eq!(cache.compared(digest), None, "it was changed a moment ago");
        // No wait for it.
        cache.settled = Duration::ZERO;
        until_compared(&cache, &directory, digest, &content);
        // It is what saves the time: a wrong version would let wrong content pass.
        let damaged = [&[2][..], &content[1..]].concat();
        cache.damage(digest, &damaged);
        assert_eq!(get(&cache), Ok(Some(damaged)));
        // But not where that is not good enough.
        assert!(cache.get(digest, Compare::Always).is_err());
        assert_eq!(get(&cache), Ok(None));
    }

    #[cfg(unix)]
    #[test]
    fn what_may_not_be_on_the_disk_is_compared_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let content = vec![1; LONG];
        let digest = Digest::of(&content);
        let fails = |_: &File| Err(io::ErrorKind::Other.into());
        let cache = Cache { settled: Duration::ZERO, sync: fails, ..cache(&directory) };
        cache.put(digest, &content).expect("written");
        let path = cache.store.path(digest.name(), BLOB);
        // Until long enough ago for it to be recorded.
        let end = Instant::now() + SOON;
        while changed(&File::open(&path).expect("open")).is_none() {
            assert!(Instant::now() < end, "the clock stands still");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(cache.get(digest, Compare::IfChanged).expect("read").is_some_and(|found| found == content));
        assert_eq!(cache.compared(digest), None);
        let cache = Cache { sync: File::sync_all, ..cache };
        assert!(cache.get(digest, Compare::IfChanged).expect("read").is_some_and(|found| found == content));
        assert!(cache.compared(digest).is_some());
    }

    #[cfg(unix)]
    #[test]
    fn any_change_of_a_file_is_noticed() {
        let content = vec![1; LONG];
        let (digest, damaged) = (Digest::of(&content), [&[2][..], &content[1..]].concat());
        type Change = fn(&Path, &[u8]);
        let changes: [(&str, Change); 3] = [
            ("written to", |path, damaged| std::fs::write(path, damaged).expect("written")),
            ("with its times as before", |path, damaged| {
                let file = File::options().write(true).open(path).expect("open");
                let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
                (&file).write_all(damaged).and_then(|()| file.set_modified(modified)).expect("written");
            }),
            ("replaced", |path, damaged| {
                let (other, modified) =
                    (path.with_extension("other"), path.metadata().and_then(|metadata| metadata.modified()));
                std::fs::write(&other, damaged).expect("written");
                let file = File::options().write(true).open(&other).expect("open");
                file.set_modified(modified.expect("a time")).expect("set");
                std::fs::rename(&other, path).expect("moved");
            }),
        ];
        for (name, change) in changes {
            let directory = tempfile::tempdir().expect("a directory");
            let cache = Cache { settled: Duration::ZERO, ..cache(&directory) };
            cache.put(digest, &content).expect("written");
            until_compared(&cache, &directory, digest, &content);
            assert!(
                cache.get(digest, Compare::IfChanged).expect("read").is_some_and(|found| found == content),
                "{name}"
            );
            change(&cache.store.path(digest.name(), BLOB), &damaged);
            assert!(cache.get(digest, Compare::IfChanged).is_err(), "{name}");
            assert_eq!(cache.compared(digest), None, "{name}");
            assert_eq!(cache.get(digest, Compare::IfChanged).expect("removed"), None, "{name}");
        }
    }

    #[test]
    fn signatures_go_with_their_manifest() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = cache(&directory);
        let digest = Digest::of(b"content");
        cache.put(digest, b"content").expect("written");
        cache.put_signatures(digest, b"signatures").expect("written");
        assert_eq!(cache.signatures(digest, 4).expect("read").as_deref(), Some(&b"sign"[..]));
        let cache = cache.max_bytes(7 + 10 + 1);
        cache.put(Digest::of(b"2"), b"2").expect("written");
        assert_eq!(cache.entries().expect("entries").len(), 2);
        let cache = cache.max_bytes(7 + 10);
        cache.put(Digest::of(b"2"), b"2").expect("written");
        assert_eq!(cache.signatures(digest, 4).expect("read"), None);
    }
}

//! Content on disk, by its digest.

use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use mistletoe_store::{Store, Unfinished};

use crate::digest::Digest;
use crate::layout::MAX_MODULE;

/// The default of [`Cache::max_bytes`].
const MAX_BYTES: u64 = 1 << 30;
const BLOB: &str = "blob";
/// What was read to verify a manifest's signatures. It is verified again each time, so it has no digest.
const SIGNATURES: &str = "signatures";

/// A directory of what registries have sent. Cloning it is cheap.
///
/// Content is compared with its digest whenever it is read, and removed if it differs. The directory is private, files
/// are complete or absent, and any number of processes can use it at once: see [`mistletoe_store`].
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
}

impl Cache {
    /// Opens the cache in a directory, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        Ok(Self { store: Store::open(directory, BLOB, &[SIGNATURES])?, max_bytes: MAX_BYTES })
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
    pub(crate) fn get(&self, digest: Digest) -> io::Result<Option<Vec<u8>>> {
        let file = match self.store.read(digest.name(), BLOB) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        let length = file.metadata()?.len().min(MAX_MODULE);
        // If there is no room, the read says so.
        let _ = bytes.try_reserve_exact(length as usize + 1);
        (&file).take(MAX_MODULE + 1).read_to_end(&mut bytes)?;
        if Digest::of(&bytes) != digest {
            self.store.remove(digest.name())?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what was written"));
        }
        self.store.touch(&file);
        Ok(Some(bytes))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_compared_with_its_digest_at_each_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(directory.path().join("cache")).expect("a cache");
        let digest = Digest::of(b"content");
        assert_eq!(cache.get(digest).expect("read"), None);
        cache.put(digest, b"content").expect("written");
        assert_eq!(cache.get(digest).expect("read").as_deref(), Some(&b"content"[..]));
        for damaged in [&b""[..], b"contenT", b"content!"] {
            cache.put(digest, b"content").expect("written");
            std::fs::write(cache.store.path(digest.name(), BLOB), damaged).expect("written");
            assert!(cache.get(digest).is_err());
            assert_eq!(cache.get(digest).expect("removed"), None);
        }
    }

    #[test]
    fn signatures_go_with_their_manifest() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(directory.path().join("cache")).expect("a cache");
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

//! Compiled code, cached on disk: the second start of a host program does not compile.
//!
//! ```no_run
//! # use mistletoe_abi::{Backend, Package, Result};
//! use mistletoe_abi::cache::{Cache, Cached};
//!
//! # fn open<B: Backend>(engine: B, wasm: &[u8]) -> Result<()> {
//! let cache = Cache::open("/home/me/.cache/my-program")?;
//! let package = Package::new(&Cached::new(engine, cache), wasm)?;
//! # Ok(())
//! # }
//! ```
//!
//! An entry is two files: the compiled code as the engine serialized it, and its digest. The entry's name is a digest
//! of everything that the code depends on: the module, the limits that it is instrumented with, the source of this
//! layer, and [`Backend::compatibility_key`], which covers engine, version, settings and target. Each file is written
//! under another name and moved into place when it is complete, and never changed there. Any number of processes can
//! use a cache at once.
//!
//! # Why it is sound
//!
//! Engines do not verify the compiled code that they load. The cache therefore loads only what an engine of the same
//! name and settings serialized. On Unix, directory and files must belong to this user, and no other user may be able
//! to write to them. The digest over every byte and the entry's name is compared before an engine sees the first byte.
//! An entry that is truncated, altered, renamed or owned by another user is ignored, reported and replaced. A program
//! of the same user that changes a file while it is in use is not defended against: it can change this process as well.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use blake3::{Hash, Hasher};
use mistletoe_store::{Name, Store};

use crate::backend::store::StoreData;
use crate::backend::{Artifact, Backend, Keep};
use crate::error::{Error, ErrorKind, Result};
use crate::host::func::HostFunc;
use crate::module::{Feature, ModuleSource};

/// The default of [`Cache::max_bytes`].
const MAX_BYTES: u64 = 1 << 30;
/// Bytes of a digest file that are read at most. It holds a digest in hexadecimal digits and a label.
const MAX_DIGEST: u64 = 4096;
const CODE: &str = "code";
const DIGEST: &str = "digest";

/// A directory of compiled code. Cloning it is cheap.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    store: Store,
    max_bytes: u64,
    report: Box<dyn Fn(&CacheError) + Send + Sync>,
}

/// A backend that caches the code it compiles on disk, if its engine supports that.
///
/// An engine without a [`compatibility_key`](Backend::compatibility_key) compiles as without a cache.
///
/// # Examples
///
/// ```no_run
/// use mistletoe_abi::cache::{Cache, Cached};
/// use mistletoe_abi::{Backend, Package, Result};
///
/// /// Compiles on the first call. Later calls, also in other processes, load the code.
/// fn load<B: Backend>(engine: B, wasm: &[u8]) -> Result<Package<Cached<B>>> {
///     let cache = Cache::open("/home/me/.cache/my-program")?;
///     Package::new(&Cached::new(engine, cache), wasm)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Cached<B> {
    backend: B,
    cache: Cache,
}

/// A problem with a cache entry, reported to [`Cache::on_error`].
///
/// It never fails a compilation: the module is compiled as without a cache.
#[derive(Debug)]
#[non_exhaustive]
pub struct CacheError {
    /// The file, or the cache's directory if old entries could not be removed.
    pub path: PathBuf,
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A cache entry: the compiled code of one module.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The entry's name: 64 hexadecimal digits.
    pub name: String,
    /// The backend that compiled it: its name and its [`Backend::compatibility_key`].
    ///
    /// This is the unverified text of the digest file: do not trust it.
    pub compiler: String,
    /// Length of the entry's two files, in bytes.
    pub bytes: u64,
    /// The time of the last use.
    pub used: SystemTime,
}

/// Everything that compiled code depends on.
pub(crate) struct Key {
    name: Hash,
    compiler: String,
}

impl Cache {
    /// Opens the cache in a directory.
    ///
    /// If the directory does not exist, it is created, on Unix with access for this user alone.
    ///
    /// # Errors
    ///
    /// [`Cache`](ErrorKind::Cache) if the directory cannot be created, and on Unix if it belongs to another user or
    /// other users can write to it.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        match Store::open(&folder, CODE, &[DIGEST]) {
            Ok(store) => {
                let report = Box::new(|_: &CacheError| ());
                Ok(Self(Arc::new(Inner { store, max_bytes: MAX_BYTES, report })))
            }
            Err(error) => Err(Error::with_source(ErrorKind::Cache { path: folder }, error)),
        }
    }

    /// Sets the limit on the compiled code in the cache, in bytes. The default is 1 GiB.
    ///
    /// The limit is enforced when an entry is added: the least recently used entries are removed first. An entry that
    /// is larger than the limit is not stored.
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.with(|inner| inner.max_bytes = bytes)
    }

    /// Sets a callback for entries that could not be used, and for files that could not be written or removed.
    ///
    /// By default these problems are ignored.
    pub fn on_error(self, report: impl Fn(&CacheError) + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.report = Box::new(report))
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Inner {
            store: shared.store.clone(),
            max_bytes: shared.max_bytes,
            report: Box::new(move |error| (shared.report)(error)),
        });
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// Returns the cache's directory.
    pub fn folder(&self) -> &Path {
        self.0.store.directory()
    }

    /// Lists the entries, most recently used first.
    ///
    /// # Errors
    ///
    /// [`Cache`](ErrorKind::Cache) if the directory cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let entry = |entry: mistletoe_store::Entry| {
            let digest = self.read_digest(entry.name).unwrap_or_default();
            let compiler = digest.split_once('\n').map(|(_, compiler)| compiler).unwrap_or_default().to_owned();
            Entry { name: entry.name.to_string(), compiler, bytes: entry.bytes, used: entry.used }
        };
        let entries = self.0.store.entries().map_err(|error| self.failed(error))?;
        Ok(entries.into_iter().map(entry).collect())
    }

    /// Removes all entries and unfinished files. Files that do not belong to the cache stay.
    ///
    /// # Errors
    ///
    /// [`Cache`](ErrorKind::Cache) if the directory cannot be read or a file cannot be removed.
    pub fn clear(&self) -> Result<()> {
        self.0.store.clear().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::with_source(ErrorKind::Cache { path: self.folder().to_owned() }, error)
    }

    /// Loads the code stored under this key, if there is any and it is exactly what was saved.
    pub(crate) fn load(&self, key: &Key) -> Option<Artifact> {
        match self.read(key) {
            Ok(artifact) => Some(artifact),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.discard(key, error);
                None
            }
        }
    }

    /// Removes and reports an entry that could not be used.
    pub(crate) fn discard(&self, key: &Key, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) {
        // An entry that cannot be removed is replaced by the next one, or reported again.
        let _ = self.0.store.remove(key.name());
        self.report(self.0.store.path(key.name(), CODE), source.into());
    }

    fn report(&self, path: PathBuf, source: Box<dyn std::error::Error + Send + Sync>) {
        (self.0.report)(&CacheError { path, source });
    }

    /// Stores code under this key.
    pub(crate) fn store(&self, key: &Key, code: &[u8]) {
        if code.len() as u64 > self.0.max_bytes {
            return;
        }
        let digest = format!("{}\n{}", digest(key, code), key.compiler);
        let Inner { store, max_bytes, .. } = &*self.0;
        let name = key.name();
        // A process that reads between the two writes finds that the files do not match, and compiles.
        let stored = store.write(name, CODE, code).and_then(|()| store.write(name, DIGEST, digest.as_bytes()));
        if let Err(error) = stored {
            self.report(store.path(name, CODE), error.into());
        }
        if let Err(error) = store.evict(*max_bytes) {
            self.report(self.folder().to_owned(), self.failed(error).into());
        }
    }

    fn read_digest(&self, name: Name) -> io::Result<String> {
        // With room for all of it, it is read at once.
        let mut text = String::with_capacity(MAX_DIGEST as usize + 1);
        self.0.store.read(name, DIGEST)?.take(MAX_DIGEST).read_to_string(&mut text)?;
        Ok(text)
    }

    fn read(&self, key: &Key) -> io::Result<Artifact> {
        let file = self.0.store.read(key.name(), CODE)?;
        let expected = self.read_digest(key.name())?;
        let mut hasher = hasher(key);
        hasher.update_reader(&file)?;
        let found = hasher.finalize();
        let expected = expected.lines().next().and_then(|digest| Hash::from_hex(digest).ok());
        if expected != Some(found) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what was written"));
        }
        self.0.store.touch(&file);
        Ok(Artifact::new(file))
    }
}

/// Starts an entry's digest with its name, so that an entry under another name does not verify.
fn hasher(key: &Key) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.update(key.name.as_bytes());
    hasher
}

fn digest(key: &Key, code: &[u8]) -> Hash {
    hasher(key).update(code).finalize()
}

impl Key {
    fn new(module: &ModuleSource<'_>, compiler: String) -> Self {
        let mut hasher = Hasher::new();
        let config = format!("{:?}", module.config());
        // Each with its length, so that different parts never concatenate to the same bytes.
        for part in [mistletoe_module::SOURCE, env!("MISTLETOE_SOURCE"), &config, &compiler] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(module.wasm());
        Self { name: hasher.finalize(), compiler }
    }

    fn name(&self) -> Name {
        Name::from(*self.name.as_bytes())
    }
}

impl<B> Cached<B> {
    /// Returns the same backend with a cache.
    pub fn new(backend: B, cache: Cache) -> Self {
        Self { backend, cache }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<B: Backend> Backend for Cached<B> {
    type Module = B::Module;
    type Instance = B::Instance;

    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn warning(&self) -> Option<String> {
        self.backend.warning()
    }

    fn supports(&self, feature: Feature) -> bool {
        self.backend.supports(feature)
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<B::Module> {
        let Some(key) = self.backend.compatibility_key() else { return self.backend.compile(source, imports) };
        let key = Key::new(source, format!("{} {key}", self.backend.name()));
        if let Some(artifact) = self.cache.load(&key) {
            match self.backend.deserialize(&artifact, imports) {
                Ok(module) => return Ok(module),
                Err(error) => self.cache.discard(&key, error),
            }
        }
        let compiled = self.backend.compile(source, imports)?;
        let cache = self.cache.clone();
        let keep = move |code: Result<Vec<u8>>| match code {
            Ok(code) => cache.store(&key, &code),
            Err(error) => cache.discard(&key, error),
        };
        self.backend.serialize_later(&compiled, Box::new(keep));
        Ok(compiled)
    }

    fn instantiate(&self, module: &B::Module, data: StoreData) -> Result<B::Instance> {
        self.backend.instantiate(module, data)
    }

    fn compatibility_key(&self) -> Option<String> {
        self.backend.compatibility_key()
    }

    fn serialize(&self, module: &B::Module) -> Result<Vec<u8>> {
        self.backend.serialize(module)
    }

    fn serialize_later(&self, module: &B::Module, keep: Keep) {
        self.backend.serialize_later(module, keep);
    }

    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<B::Module> {
        self.backend.deserialize(artifact, imports)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("folder", &self.folder()).field("max_bytes", &self.0.max_bytes).finish()
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the compiled code in {} is of no use", self.path.display())
    }
}

impl std::error::Error for CacheError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

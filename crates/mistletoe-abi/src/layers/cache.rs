//! Compiled code on disk, so that a program's second start need not compile.
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
//! An entry is two files: compiled code as the engine serialized it, and its digest. It is named by a digest of all
//! that the code depends on: the module, the limits that are put into it, the layer's own source, and what
//! [`Backend::compatibility_key`] says of engine, version, settings and target. Both files come to their place
//! complete, and are never changed there; so any number of processes can use a cache at once.
//!
//! # Why it is sound
//!
//! Engines run what they load without a look at it. So they are given nothing but what an engine of the same name and
//! settings has serialized: the folder is this user's, and nobody else can write there; and the digest of every byte,
//! together with the entry's name, is compared before an engine sees the first one. What is cut off, flipped, renamed
//! or another's is ignored, reported, and replaced. Left is a program of the same user that changes a file while it is
//! in use: such a one can change this process as well.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, FileTimes};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blake3::{Hash, Hasher};

use crate::backend::store::StoreData;
use crate::backend::{Artifact, Backend, Keep};
use crate::error::{Error, ErrorKind, Result};
use crate::host::func::HostFunc;
use crate::module::{Feature, ModuleSource};

/// How much a cache holds unless told otherwise.
const MAX_BYTES: u64 = 1 << 30;
/// A digest file holds a digest, in hexadecimal digits, and a label: no more than this.
const MAX_DIGEST: u64 = 4096;
/// What is half written after so long is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(3600);
const CODE: &str = "code";
const DIGEST: &str = "digest";

/// A folder of compiled code. Cloning it is cheap.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    max_bytes: u64,
    report: Box<dyn Fn(&CacheError) + Send + Sync>,
}

/// A backend that keeps what it compiles in a cache, where its engine can.
#[derive(Clone, Debug)]
pub struct Cached<B> {
    backend: B,
    cache: Cache,
}

/// Something was wrong with an entry; the package was compiled as without a cache.
#[derive(Debug)]
#[non_exhaustive]
pub struct CacheError {
    /// The file.
    pub path: PathBuf,
    /// What was wrong with it.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a cache holds of one module.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Its name: 64 hexadecimal digits.
    pub name: String,
    /// What compiled it, as [`Backend::compatibility_key`] says it. Whatever stands in the file: it is not to be
    /// trusted.
    pub compiler: String,
    /// Length of the compiled code in bytes.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// All that compiled code depends on.
pub(crate) struct Key {
    name: Hash,
    compiler: String,
}

impl Cache {
    /// The cache in a folder, which is made if it is not there, for this user alone.
    ///
    /// # Errors
    ///
    /// [`Cache`](ErrorKind::Cache) where it cannot be made, and on Unix where it is another user's or others can write
    /// there.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        match make(&folder).and_then(|()| fs::metadata(&folder)).and_then(|metadata| private(&metadata)) {
            Ok(()) => {
                let report = Box::new(|_: &CacheError| ());
                Ok(Self(Arc::new(Inner { folder, max_bytes: MAX_BYTES, report })))
            }
            Err(error) => Err(Error::with_source(ErrorKind::Cache { path: folder }, error)),
        }
    }

    /// This cache with another limit on what it holds, in bytes: 1 GiB by default. What was not used for the longest
    /// time goes first. The limit is looked at when something is added.
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.with(|inner| inner.max_bytes = bytes)
    }

    /// This cache, which tells of entries that were of no use, and of what could not be written.
    pub fn on_error(self, report: impl Fn(&CacheError) + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.report = Box::new(report))
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Inner {
            folder: shared.folder.clone(),
            max_bytes: shared.max_bytes,
            report: Box::new(move |error| (shared.report)(error)),
        });
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// What it holds, the latest used first.
    ///
    /// # Errors
    ///
    /// [`Cache`](ErrorKind::Cache) where the folder cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for path in self.files()? {
            let name = path.file_stem().and_then(OsStr::to_str).filter(|name| Hash::from_hex(name).is_ok());
            if path.extension() != Some(OsStr::new(CODE)) {
                continue;
            }
            // What is gone by now is no entry.
            if let (Some(name), Ok(metadata)) = (name, path.symlink_metadata()) {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let digest = read_digest(&path.with_extension(DIGEST)).unwrap_or_default();
                let compiler = digest.split_once('\n').map(|(_, compiler)| compiler).unwrap_or_default().to_owned();
                entries.push(Entry { name: name.to_owned(), compiler, bytes: metadata.len(), used });
            }
        }
        entries.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.name.cmp(&b.name)));
        Ok(entries)
    }

    /// Removes all entries, and what is left of writing some. Files that are not the cache's own stay.
    ///
    /// # Errors
    ///
    /// [`Cache`](ErrorKind::Cache) where one cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for path in self.files()? {
            if is_entry(&path) || is_unfinished(&path) {
                remove(&path).map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let paths = fs::read_dir(self.folder()).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        paths.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::with_source(ErrorKind::Cache { path: self.folder().to_owned() }, error)
    }

    fn path(&self, key: &Key, extension: &str) -> PathBuf {
        self.folder().join(key.name.to_hex().as_str()).with_extension(extension)
    }

    /// The code that was kept under this name, if there is any and it is what was saved.
    pub(crate) fn load(&self, key: &Key) -> Option<Artifact> {
        let path = self.path(key, CODE);
        match read(&path, &self.path(key, DIGEST), key) {
            Ok(artifact) => Some(artifact),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.discard(key, error);
                None
            }
        }
    }

    /// Removes what was of no use.
    pub(crate) fn discard(&self, key: &Key, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) {
        let path = self.path(key, CODE);
        // What cannot be removed is replaced, or reported again.
        let _ = remove(&path);
        let _ = remove(&path.with_extension(DIGEST));
        self.report(path, source.into());
    }

    fn report(&self, path: PathBuf, source: Box<dyn std::error::Error + Send + Sync>) {
        (self.0.report)(&CacheError { path, source });
    }

    /// Keeps code under this name.
    pub(crate) fn store(&self, key: &Key, code: &[u8]) {
        if code.len() as u64 > self.0.max_bytes {
            return;
        }
        let digest = format!("{}\n{}", digest(key, code), key.compiler);
        let path = self.path(key, CODE);
        // Whoever comes in between finds that they do not belong together, and compiles.
        let stored = self.write(&path, code).and_then(|()| self.write(&self.path(key, DIGEST), digest.as_bytes()));
        if let Err(error) = stored {
            self.report(path, error.into());
        }
        if let Err(error) = self.evict() {
            self.report(self.folder().to_owned(), error.into());
        }
    }

    /// Puts a complete file into its place, which nobody may change there.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(self.folder())?;
        file.write_all(bytes)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    }

    /// Removes the entries that were not used for the longest time, until the rest is no more than allowed.
    fn evict(&self) -> Result<()> {
        let mut bytes: u64 = 0;
        for entry in self.entries()? {
            bytes = bytes.saturating_add(entry.bytes);
            if bytes > self.0.max_bytes {
                let path = self.folder().join(&entry.name);
                for extension in [CODE, DIGEST] {
                    remove(&path.with_extension(extension)).map_err(|error| self.failed(error))?;
                }
            }
        }
        for path in self.files()?.into_iter().filter(|path| is_unfinished(path)) {
            let age = path.symlink_metadata().and_then(|metadata| metadata.modified()).ok();
            if age.and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age > ABANDONED) {
                remove(&path).map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }
}

/// How names of files begin that are not complete yet.
const UNFINISHED: &str = ".unfinished-";

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()))
}

fn is_entry(path: &Path) -> bool {
    let named = path.file_stem().and_then(OsStr::to_str).is_some_and(|name| Hash::from_hex(name).is_ok());
    named && path.extension().is_some_and(|extension| extension == CODE || extension == DIGEST)
}

/// Removes a file, which may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(unix)]
fn make(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Refuses what is another user's, or what others can write to.
#[cfg(unix)]
fn private(metadata: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
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

/// Opens a file of the cache's own: a regular one, this user's, and no link.
fn open(path: &Path) -> io::Result<File> {
    // Before it is opened: a pipe would be waited for.
    if !path.symlink_metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"));
    }
    let file = File::open(path)?;
    private(&file.metadata()?)?;
    Ok(file)
}

fn read_digest(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.take(MAX_DIGEST).read_to_string(&mut text)?;
    Ok(text)
}

fn read(code: &Path, digest: &Path, key: &Key) -> io::Result<Artifact> {
    let file = open(code)?;
    let expected = read_digest(digest)?;
    let mut hasher = hasher(key);
    hasher.update_reader(&file)?;
    let found = hasher.finalize();
    let expected = expected.lines().next().and_then(|digest| Hash::from_hex(digest).ok());
    if expected != Some(found) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what was written"));
    }
    // It was used now. That it cannot be noted is no reason not to use it.
    let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
    Ok(Artifact::new(file))
}

/// What an entry's digest begins with, so that an entry under another's name is none.
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
        // Each with its length, so that no two are the same put together.
        for part in [mistletoe_module::SOURCE, env!("MISTLETOE_SOURCE"), &config, &compiler] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(module.wasm());
        Self { name: hasher.finalize(), compiler }
    }
}

impl<B> Cached<B> {
    /// The same backend with a cache.
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
        f.debug_struct("Cache").field("folder", &self.0.folder).field("max_bytes", &self.0.max_bytes).finish()
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

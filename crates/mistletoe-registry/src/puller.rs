//! From a reference to a module: what it is now, whether it may be used, and its bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mistletoe_store::open_file;
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Compare};
use crate::client::{Client, MAX_MANIFEST, found};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Artifact, Layer, MAX_MODULE};
use crate::lock::Lock;
use crate::manifest::{Descriptor, Document, Manifest};
use crate::reference::{Image, Package, Reference, Repository, Url};
use crate::signature::{self, BUNDLE, Fetch, Policy, Requirement, SigningKey, Verified};

/// Maximum length of the objects of a manifest's signatures that are kept together, in bytes of their file.
const MAX_SIGNATURES: u64 = 16 << 20;

/// Gets modules by reference.
///
/// ```no_run
/// use mistletoe_registry::{Cache, Client, Lock, Puller, Reference, Tags};
///
/// let reference: Reference = "oci://registry.example/apps/web:1.2".parse()?;
/// let puller = Puller::new(Client::new())
///     .cache(Cache::open("/home/me/.cache/my-program")?)
///     .tags(Tags::Lock { file: "mistletoe.lock".into(), is_frozen: false });
/// let module = puller.pull(&reference)?;
/// println!("{}: {} bytes", module.reference, module.bytes.len());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Puller {
    client: Client,
    cache: Option<Cache>,
    tags: Tags,
    trust: Trust,
    home: Option<PathBuf>,
    report: Arc<dyn Fn(Event<'_>) + Send + Sync>,
}

/// What a reference without a digest means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tags {
    /// An error.
    #[default]
    Refuse,
    /// The digest in a lock file. A reference that is not in it is resolved and recorded, if the file exists and is not
    /// frozen.
    Lock {
        /// The lock file.
        file: PathBuf,
        /// Whether the file stays as it is.
        is_frozen: bool,
    },
    /// Whatever the reference resolves to.
    Allow,
}

/// Which signatures a module needs.
#[derive(Clone, Debug, Default)]
enum Trust {
    #[default]
    None,
    Keys(Requirement),
    Policy(Policy),
}

/// What a [`Puller`] tells its user.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A reference without a digest was resolved.
    Resolved {
        /// The same reference, with its digest.
        pinned: &'a Reference,
    },
    /// A signature is good.
    Verified {
        /// The reference, with its digest.
        pinned: &'a Reference,
        /// The signature.
        signature: &'a Verified,
    },
    /// The cache cannot be used for some content. The module is pulled nevertheless.
    Cache {
        /// The digest of the content.
        digest: Digest,
        /// The cause.
        error: &'a std::io::Error,
    },
}

/// A module.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Module {
    /// Where it is from, with a digest if the reference can have one.
    pub reference: Reference,
    /// The bytes, as they were pushed: a module in the binary or the text format.
    pub bytes: Vec<u8>,
}

/// A change of a lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The reference.
    pub reference: String,
    /// The digest before, if there was one.
    pub before: Option<Digest>,
    /// The digest now.
    pub now: Digest,
}

impl fmt::Debug for Puller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Puller").field("cache", &self.cache).field("tags", &self.tags).finish_non_exhaustive()
    }
}

impl Puller {
    /// Returns a puller without a cache, which takes digests only and looks at no signatures.
    ///
    /// Git registries are in the directory `registries` of the one that `MIST_HOME_LOCATION` names, which is by default
    /// `~/.mistletoe`.
    pub fn new(client: Client) -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        let home = variable("MIST_HOME_LOCATION").or_else(|| variable(home).map(|home| home.join(".mistletoe")));
        Self { client, cache: None, tags: Tags::default(), trust: Trust::None, home, report: Arc::new(|_| ()) }
    }

    /// Sets the cache.
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Sets what references without a digest mean.
    pub fn tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }

    /// Requires of every module a signature by one of some keys.
    pub fn keys(mut self, keys: Vec<signature::PublicKey>) -> Self {
        self.trust = Trust::Keys(Requirement::signed_by(keys));
        self
    }

    /// Requires the signatures that a policy says. Files, standard input and packages in git registries are the user's
    /// own: a policy does not apply to them.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.trust = Trust::Policy(policy);
        self
    }

    /// Sets the directory of the git registries.
    pub fn registries(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Sets a callback for events. By default they are ignored.
    pub fn on_event(mut self, report: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        self.report = Arc::new(report);
        self
    }

    /// Returns the client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Gets a module. Standard input is not read here.
    ///
    /// What is in the cache is not asked for again: a reference with a digest, or one that the lock file has, needs no
    /// connection the second time.
    ///
    /// # Errors
    ///
    /// Any [`ErrorKind`]. Nothing is written but complete content into the cache, and to the lock file once the module
    /// is there, if nothing is recorded for the reference by then.
    pub fn pull(&self, reference: &Reference) -> Result<Module> {
        let (pinned, lock_file) = self.pin(reference)?;
        let bytes = match &pinned {
            Reference::Image(image) => self.image(image)?,
            Reference::Url(url) => self.url(url)?,
            Reference::Package(package) => self.unsigned(&pinned, || read(&self.package(package)?))?,
            Reference::File(path) => self.unsigned(&pinned, || read(path))?,
            Reference::Stdin => {
                let problem = "standard input is read by its user".to_owned();
                return Err(Error::new("-", ErrorKind::File { problem }));
            }
        };
        if let (Some(file), Some(digest)) = (lock_file, pinned.digest()) {
            let _turn = Lock::turn(file)?;
            // Read again: it may have changed while the module arrived. What it has for the reference by now, such as
            // that of an update, is not older than this.
            if let Some(mut lock) = Lock::read(file)?
                && lock.get(reference).is_none()
            {
                lock.insert(reference, digest);
                lock.write()?;
            }
        }
        Ok(Module { reference: pinned, bytes })
    }

    /// Checks the signatures of a reference, without getting the module.
    ///
    /// # Errors
    ///
    /// [`Signature`](ErrorKind::Signature) if there is no good one, and those of the connection.
    pub fn verify(&self, image: &Image) -> Result<Option<Verified>> {
        let image = self.pinned(image)?;
        let digest = self.client.resolve(&image)?;
        // Of what the registry has, not of what it says that it has.
        let image = image.with_digest(digest);
        self.manifest(&image)?;
        self.trusted(&image, digest)
    }

    /// Returns what a reference is now: the reference with a digest.
    ///
    /// # Errors
    ///
    /// As [`Client::resolve`]. What has no digest is an error.
    pub fn resolve(&self, reference: &Reference) -> Result<Reference> {
        match reference {
            Reference::Image(image) => Ok(Reference::Image(image.with_digest(self.client.resolve(image)?))),
            Reference::Url(url) => {
                Ok(Reference::Url(url.with_digest(self.client.get(url, MAX_MODULE, &mut std::io::sink())?)))
            }
            _ => {
                let problem = "only `oci://` and `https://` have digests".to_owned();
                Err(Error::new(reference, ErrorKind::File { problem }))
            }
        }
    }

    /// Resolves references again, or all that a lock file has if none are given, and writes the lock file.
    ///
    /// # Errors
    ///
    /// Those of [`resolve`](Self::resolve) and [`Lock::read`]; the file then stays as it is.
    pub fn update(&self, file: &Path, references: &[Reference]) -> Result<Vec<Change>> {
        let lock = Lock::read(file)?.unwrap_or_else(|| Lock::new(file));
        let all: Result<Vec<Reference>> = lock
            .iter()
            .map(|(text, _)| text.parse().map_err(|error| Error::with_source(text, ErrorKind::Reference, error)))
            .collect();
        let references = if references.is_empty() { &all? } else { references };
        let mut resolved = Vec::new();
        for reference in references {
            if reference.digest().is_some() {
                let problem = "it has a digest, so there is nothing to record".to_owned();
                return Err(Error::new(reference, ErrorKind::File { problem }));
            }
            resolved.extend(self.resolve(reference)?.digest().map(|now| (reference, now)));
        }
        let _turn = Lock::turn(file)?;
        // Read again: it may have changed while registries were asked.
        let mut lock = Lock::read(file)?.unwrap_or_else(|| Lock::new(file));
        let mut record = |(reference, now): (&Reference, Digest)| Change {
            reference: reference.to_string(),
            before: lock.insert(reference, now),
            now,
        };
        let changes = resolved.into_iter().map(&mut record).collect();
        lock.write()?;
        Ok(changes)
    }

    /// Pushes a module to a repository, under the reference's tag, which is `latest` if it has none. Returns the
    /// reference with the tag and the digest.
    ///
    /// # Errors
    ///
    /// Those of [`Client::push_blob`]; [`Reference`](ErrorKind::Reference) if the reference has a digest, which is
    /// that of what is pushed.
    pub fn push(&self, image: &Image, artifact: &Artifact<'_>) -> Result<Image> {
        if image.digest().is_some() {
            return Err(Error::with_source(image, ErrorKind::Reference, "the digest follows from what is pushed"));
        }
        let repository = image.repository();
        self.client.push_blob(repository, artifact.module)?;
        self.client.push_blob(repository, &artifact.config)?;
        // What a reference without a tag names when it is pulled.
        let image = image.with_tag(image.tag_or_latest());
        let pushed = self.client.push_manifest(repository, image.tag(), Artifact::MEDIA_TYPE, &artifact.manifest)?;
        Ok(image.with_digest(pushed.digest))
    }

    /// Signs what a reference names, in the format of cosign 3, and pushes the signature next to it. Returns the
    /// reference with its digest.
    ///
    /// [`tags`](Self::tags) says what a reference without a digest names. It is not recorded in a lock file.
    ///
    /// On a registry without a list of referrers, the signature is added to an index under a tag (OCI distribution
    /// specification, "Pushing Manifests with Subject"), which is read and written again. The specification has no way
    /// to write it only if it has not changed: of two signatures at the same moment, one may be lost. Sign again then.
    ///
    /// # Errors
    ///
    /// Those of the connection; [`Signature`](ErrorKind::Signature) if the list of referrers cannot be changed;
    /// [`NoDigest`](ErrorKind::NoDigest) and [`NotLocked`](ErrorKind::NotLocked).
    pub fn sign(&self, image: &Image, key: &SigningKey) -> Result<Image> {
        let image = &self.pinned(image)?;
        let fetched = self.client.manifest(image)?;
        let image = image.with_digest(fetched.digest);
        let repository = image.repository();
        let media_type = Document::parse(&image, &fetched.bytes)?.media_type();
        let refused =
            |error: Box<dyn std::error::Error + Send + Sync>| Error::with_source(&image, ErrorKind::Signature, error);
        let signature = key.sign(&fetched.bytes, media_type).map_err(|error| refused(error.into()))?;
        self.client.push_blob(repository, signature::CONFIG)?;
        self.client.push_blob(repository, &signature.bundle)?;
        let pushed = self.client.push_manifest(repository, None, signature::MANIFEST, &signature.manifest)?;
        if !pushed.is_listed {
            let tag = signature::referrers_tag(&fetched.digest);
            let index = self.client.tagged(repository, &tag)?;
            let index = signature.add_to_index(index.as_ref().map(|index| &*index.bytes));
            if let Some(index) = index.map_err(|reason| refused(reason.to_string().into()))? {
                self.client.push_manifest(repository, Some(&tag), signature::INDEX, &index)?;
            }
        }
        Ok(image)
    }

    /// Returns an image with its digest.
    fn pinned(&self, image: &Image) -> Result<Image> {
        Ok(match self.pin(&Reference::Image(image.clone()))?.0 {
            Reference::Image(image) => image,
            // A reference stays what it is.
            _ => image.clone(),
        })
    }

    /// Returns the reference with its digest, and the lock file if it does not have it yet.
    fn pin(&self, reference: &Reference) -> Result<(Reference, Option<&Path>)> {
        if reference.digest().is_some() || !matches!(reference, Reference::Image(_) | Reference::Url(_)) {
            return Ok((reference.clone(), None));
        }
        let resolved = || {
            let pinned = self.resolve(reference)?;
            (self.report)(Event::Resolved { pinned: &pinned });
            Ok::<_, Error>(pinned)
        };
        let no_digest = || {
            let pinned = self.resolve(reference)?.to_string();
            Err(Error::new(reference, ErrorKind::NoDigest { pinned }))
        };
        match &self.tags {
            Tags::Refuse => no_digest(),
            Tags::Allow => Ok((resolved()?, None)),
            Tags::Lock { file, is_frozen } => {
                let lock = Lock::read(file)?;
                let known = lock.as_ref().and_then(|lock| lock.get(reference));
                match (reference, known) {
                    (Reference::Image(image), Some(digest)) => Ok((Reference::Image(image.with_digest(digest)), None)),
                    (Reference::Url(url), Some(digest)) => Ok((Reference::Url(url.with_digest(digest)), None)),
                    _ if *is_frozen => Err(Error::new(reference, ErrorKind::NotLocked)),
                    _ if lock.is_none() => no_digest(),
                    _ => Ok((resolved()?, Some(file.as_path()))),
                }
            }
        }
    }

    fn image(&self, image: &Image) -> Result<Vec<u8>> {
        let digest = self.client.resolve(image)?;
        let image = image.with_digest(digest);
        let document = self.manifest(&image)?;
        self.trusted(&image, digest)?;
        let manifest = match document {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => self.entry(&image, index.wasm(&image)?)?,
        };
        let layer = Layer::of(&image, &manifest)?;
        let subject = format!("{}@{}", image.repository(), layer.descriptor.digest);
        let bytes = self.blob(&image, &layer.descriptor)?;
        layer.unpack(subject, bytes)
    }

    /// Returns the manifest that an index refers to.
    fn entry(&self, image: &Image, entry: &Descriptor) -> Result<Manifest> {
        let image = image.with_digest(entry.digest);
        let (document, found) = self.sized_manifest(&image)?;
        if found != entry.size {
            return Err(Error::new(image, ErrorKind::Length { expected: entry.size, found }));
        }
        match document {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => {
                let problem = "the entry of the index is an index".to_owned();
                Err(Error::new(image, ErrorKind::Layout { problem }))
            }
        }
    }

    /// Returns the manifest or the index with the digest of a reference.
    fn manifest(&self, image: &Image) -> Result<Document> {
        self.sized_manifest(image).map(|(document, _)| document)
    }

    /// Returns the same, and its length.
    fn sized_manifest(&self, image: &Image) -> Result<(Document, u64)> {
        let cached = image.digest().and_then(|digest| self.cached(digest, self.compare(image)));
        let bytes = match cached {
            Some(bytes) => bytes,
            None => {
                let fetched = self.client.manifest(image)?;
                self.keep(fetched.digest, &fetched.bytes);
                fetched.bytes
            }
        };
        let length = bytes.len() as u64;
        if length > MAX_MANIFEST {
            return Err(Error::new(image, ErrorKind::TooLarge { limit: MAX_MANIFEST }));
        }
        Ok((Document::parse(image, &bytes)?, length))
    }

    /// Returns a blob of an image, which has the length and the digest that its descriptor says.
    fn blob(&self, image: &Image, blob: &Descriptor) -> Result<Vec<u8>> {
        let repository = image.repository();
        let subject = || format!("{repository}@{}", blob.digest);
        // Before the cache is looked at: a manifest with another length is wrong, whatever is there.
        if blob.size > MAX_MODULE {
            return Err(Error::new(subject(), ErrorKind::TooLarge { limit: MAX_MODULE }));
        }
        let bytes = match self.cached(blob.digest, self.compare(image)) {
            Some(bytes) => bytes,
            None => self.receive(blob.digest, |sink| self.client.blob(repository, blob, MAX_MODULE, sink))?,
        };
        let (expected, found) = (blob.size, bytes.len() as u64);
        if expected == found { Ok(bytes) } else { Err(Error::new(subject(), ErrorKind::Length { expected, found })) }
    }

    fn url(&self, url: &Url) -> Result<Vec<u8>> {
        let requirement = match &self.trust {
            Trust::None => None,
            Trust::Keys(requirement) => Some(requirement),
            Trust::Policy(policy) => Some(policy.for_reference(url.as_str())),
        };
        if requirement.is_some_and(|requirement| requirement.required) {
            return Err(Error::with_source(url, ErrorKind::Signature, "only modules in registries have signatures"));
        }
        match url.digest() {
            Some(digest) => match self.cached(digest, Compare::IfChanged) {
                Some(bytes) => Ok(bytes),
                None => self.receive(digest, |sink| self.client.get(url, MAX_MODULE, sink).map(drop)),
            },
            // Every URL has been resolved.
            None => Err(Error::new(url, ErrorKind::NotFound)),
        }
    }

    /// Receives content into the cache, or into memory if there is none.
    fn receive(&self, digest: Digest, receive: impl Fn(&mut dyn std::io::Write) -> Result<()>) -> Result<Vec<u8>> {
        let file = self.cache.as_ref().and_then(|cache| {
            let file = cache.create();
            file.inspect_err(|error| (self.report)(Event::Cache { digest, error })).ok().map(|file| (cache, file))
        });
        if let Some((cache, mut file)) = file {
            match receive(&mut file) {
                Ok(()) => {
                    let kept = cache.keep(file, digest);
                    if let Err(error) = &kept {
                        (self.report)(Event::Cache { digest, error });
                    }
                    // What is larger than the cache is not in it any more.
                    if let Some(bytes) = self.cached(digest, Compare::Always) {
                        return Ok(bytes);
                    }
                }
                // The disk is full, for example.
                Err(error) if matches!(error.kind(), ErrorKind::File { .. }) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    let error = std::io::Error::other(cause.unwrap_or_else(|| error.to_string()));
                    (self.report)(Event::Cache { digest, error: &error });
                }
                Err(error) => return Err(error),
            }
        }
        let mut bytes = Vec::new();
        receive(&mut bytes)?;
        Ok(bytes)
    }

    fn cached(&self, digest: Digest, compare: Compare) -> Option<Vec<u8>> {
        let found = self.cache.as_ref()?.get(digest, compare);
        found.unwrap_or_else(|error| {
            (self.report)(Event::Cache { digest, error: &error });
            None
        })
    }

    fn keep(&self, digest: Digest, bytes: &[u8]) {
        if let Some(Err(error)) = self.cache.as_ref().map(|cache| cache.put(digest, bytes)) {
            (self.report)(Event::Cache { digest, error: &error });
        }
    }

    /// Returns what is required of the signatures of an image, or nothing if they are not looked at.
    fn requirement(&self, image: &Image) -> Option<&Requirement> {
        let requirement = match &self.trust {
            Trust::None => return None,
            Trust::Keys(requirement) => requirement,
            Trust::Policy(policy) => policy.for_reference(&image.to_string()),
        };
        (requirement.required || !requirement.keys.is_empty()).then_some(requirement)
    }

    /// Returns when the content of an image is compared with its digest: each time if its signatures are checked. What
    /// a signature says is no better than that comparison.
    fn compare(&self, image: &Image) -> Compare {
        if self.requirement(image).is_some() { Compare::Always } else { Compare::IfChanged }
    }

    /// Checks the signatures that are required of a manifest.
    fn trusted(&self, image: &Image, digest: Digest) -> Result<Option<Verified>> {
        let Some(requirement) = self.requirement(image) else { return Ok(None) };
        let told = |verified: Option<Verified>| {
            if let Some(signature) = &verified {
                (self.report)(Event::Verified { pinned: &Reference::Image(image.clone()), signature });
            }
            verified
        };
        // What was read before suffices, if it is still good under the keys of today.
        let kept = self.cache.as_ref().and_then(|cache| cache.signatures(digest, MAX_SIGNATURES).ok().flatten());
        let kept = kept.and_then(|kept| serde_json::from_slice::<Objects>(&kept).ok());
        let kept = kept.and_then(|kept| requirement.check(&kept, &digest).ok());
        if let Some(verified @ Some(_)) = kept {
            return Ok(told(verified));
        }
        // That there was no signature is no verdict: one may have been added, which has to be good.
        let was_unsigned = kept.is_some();
        // A list of many signatures has the time of one operation.
        let client = self.client.as_one_operation();
        // What is there already does not wait for a registry that cannot be asked.
        let client = if was_unsigned { client.attempts(1, Duration::ZERO) } else { client };
        let remote = Remote { client, repository: image.repository(), seen: RefCell::new(Some(Objects::default())) };
        match requirement.check(&remote, &digest) {
            Ok(verified) => {
                if let Some(cache) = &self.cache
                    && let Some(seen) = remote.seen.into_inner()
                    && let Ok(seen) = serde_json::to_vec(&seen)
                    && seen.len() as u64 <= MAX_SIGNATURES
                    && let Err(error) = cache.put_signatures(digest, &seen)
                {
                    (self.report)(Event::Cache { digest, error: &error });
                }
                Ok(told(verified))
            }
            // A registry that cannot be asked has nothing new to say.
            Err(signature::Error::Fetch(error)) if was_unsigned && error.kind().is_temporary() => Ok(None),
            Err(signature::Error::Fetch(error)) => Err(error),
            Err(error) => Err(Error::with_source(image, ErrorKind::Signature, error)),
        }
    }

    /// Reads what has no signatures, unless keys are required of everything.
    fn unsigned(&self, reference: &Reference, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        match self.trust {
            Trust::Keys(_) => {
                let problem = "only modules in registries have signatures";
                Err(Error::with_source(reference, ErrorKind::Signature, problem))
            }
            _ => read(),
        }
    }

    /// Returns the file of a package in a git registry.
    fn package(&self, package: &Package) -> Result<PathBuf> {
        let failed = |problem: String| Error::new(package, ErrorKind::File { problem });
        let home = self.home.as_ref();
        let home = home.ok_or_else(|| failed("there is no home directory; set MIST_HOME_LOCATION".to_owned()))?;
        let clone = home.join("registries").join(package.registry());
        if !clone.is_dir() {
            let problem = format!(
                "{} is not a directory: clone the registry there (a file with a colon in its name begins with `./`)",
                clone.display()
            );
            return Err(failed(problem));
        }
        // A clone is another's content: its links must not lead to the user's own files.
        let resolved = |path: &Path| fs::canonicalize(path).map_err(|error| Error::file(path, error.to_string()));
        let file = package.file(&clone);
        let target = resolved(&file)?;
        if target.starts_with(resolved(&clone)?) {
            Ok(target)
        } else {
            Err(Error::file(&file, "it is a link that leaves its registry"))
        }
    }
}

/// Reads a file of at most [`MAX_MODULE`] bytes.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open_file(path).and_then(|file| file.take(MAX_MODULE + 1).read_to_end(&mut bytes));
    read.map_err(|error| Error::file(path, error.to_string()))?;
    if bytes.len() as u64 > MAX_MODULE {
        return Err(Error::new(path.display(), ErrorKind::TooLarge { limit: MAX_MODULE }));
    }
    Ok(bytes)
}

/// A repository, as the check of signatures reads it, and what was read.
struct Remote<'a> {
    client: Client,
    repository: &'a Repository,
    /// Nothing if it is too long to be kept: a list can lead to hundreds of MiB.
    seen: RefCell<Option<Objects>>,
}

impl Remote<'_> {
    /// Adds objects of a length to those that were read.
    fn saw(&self, length: usize, add: impl FnOnce(&mut Objects)) {
        let mut seen = self.seen.borrow_mut();
        *seen = seen.take().filter(|seen| seen.length + length as u64 <= MAX_SIGNATURES);
        if let Some(seen) = &mut *seen {
            seen.length += length as u64;
            add(seen);
        }
    }
}

/// What was read to check signatures.
#[derive(Default, Deserialize, Serialize)]
struct Objects {
    manifests: BTreeMap<String, Bytes>,
    referrers: Option<Vec<Bytes>>,
    blobs: BTreeMap<String, Bytes>,
    #[serde(skip)]
    length: u64,
}

/// Bytes, in base64.
#[derive(Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct Bytes(Vec<u8>);

impl Clone for Bytes {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        STANDARD.encode(bytes.0)
    }
}

impl TryFrom<String> for Bytes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

impl Fetch for Remote<'_> {
    type Error = Error;

    fn manifest(&self, reference: &str) -> Result<Option<Vec<u8>>> {
        let bytes = match reference.parse() {
            // The check of signatures compares digests: an object that was swapped does not end it.
            Ok(digest) => found(self.client.unchecked_manifest(self.repository, &digest, MAX_MANIFEST))?,
            Err(_) => self.client.tagged(self.repository, reference)?.map(|fetched| fetched.bytes),
        };
        if let Some(bytes) = &bytes {
            self.saw(bytes.len(), |seen| drop(seen.manifests.insert(reference.to_owned(), Bytes(bytes.clone()))));
        }
        Ok(bytes)
    }

    fn referrers(&self, subject: &Digest) -> Result<Option<Vec<Vec<u8>>>> {
        let pages = self.client.referrers(self.repository, *subject, BUNDLE)?;
        if let Some(pages) = &pages {
            let length = pages.iter().map(Vec::len).sum();
            self.saw(length, |seen| seen.referrers = Some(pages.iter().cloned().map(Bytes).collect()));
        }
        Ok(pages)
    }

    fn blob(&self, digest: &Digest, _: u64) -> Result<Option<Vec<u8>>> {
        let bytes = found(self.client.unchecked_blob(self.repository, digest, signature::MAX_OBJECT))?;
        if let Some(bytes) = &bytes {
            self.saw(bytes.len(), |seen| drop(seen.blobs.insert(digest.to_string(), Bytes(bytes.clone()))));
        }
        Ok(bytes)
    }
}

impl Fetch for Objects {
    type Error = std::convert::Infallible;

    fn manifest(&self, reference: &str) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.manifests.get(reference).map(|bytes| bytes.0.clone()))
    }

    fn referrers(&self, _: &Digest) -> Result<Option<Vec<Vec<u8>>>, Self::Error> {
        Ok(self.referrers.as_ref().map(|pages| pages.iter().map(|page| page.0.clone()).collect()))
    }

    fn blob(&self, digest: &Digest, _: u64) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.blobs.get(&digest.to_string()).map(|bytes| bytes.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn content_is_always_compared_if_signatures_are_checked() {
        let module = vec![1; 64 << 10];
        let artifact = Artifact::new(&module, &BTreeMap::new(), 0);
        // Nobody listens there.
        let reference: Reference = format!("oci://127.0.0.1:1/web@{}", artifact.digest()).parse().expect("a reference");
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let policy = Policy::parse("[default]\nkeys = ['p256.pub']\nrequired = false", &data).expect("a policy");
        let unchecked = Policy::parse("[default]\nrequired = false", &data).expect("a policy");
        let damaged = [&[2][..], &module[1..]].concat();
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(directory.path().join("cache")).expect("a cache");
        cache.put(artifact.digest(), &artifact.manifest).expect("written");
        cache
            .put_signatures(artifact.digest(), br#"{"manifests": {}, "referrers": null, "blobs": {}}"#)
            .expect("written");
        cache.put(Digest::of(&module), &module).expect("written");
        cache.damage(Digest::of(&module), &damaged);
        let puller = Puller::new(Client::new().attempts(1, Duration::ZERO)).cache(cache.clone());
        for puller in [puller.clone(), puller.clone().policy(unchecked)] {
            assert!(puller.pull(&reference).expect("not compared").bytes == damaged);
        }
        let puller = puller.policy(policy);
        assert_eq!(puller.pull(&reference).expect_err("compared").kind(), &ErrorKind::Connection);
        cache.put(Digest::of(&module), &module).expect("written");
        assert!(puller.pull(&reference).expect("it is right").bytes == module);
    }

    #[test]
    fn what_is_too_long_to_be_kept_is_not_kept_in_memory() {
        let image = Image::parse("oci://host/web").expect("an image");
        let seen = RefCell::new(Some(Objects::default()));
        let remote = Remote { client: Client::new(), repository: image.repository(), seen };
        let saw = |name: &str, length: u64| {
            remote.saw(length as usize, |seen| drop(seen.blobs.insert(name.to_owned(), Bytes(Vec::new()))));
            remote.seen.borrow().as_ref().map(|seen| seen.blobs.len())
        };
        assert_eq!(saw("a", MAX_SIGNATURES - 1), Some(1));
        assert_eq!(saw("b", 1), Some(2));
        assert_eq!(saw("c", 1), None);
        // A part of it would not say whether there are other signatures.
        assert_eq!(saw("d", 0), None);
    }
}

//! `mistctl pull`, `push`, `verify`, `sign` and `update`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use mistletoe_registry::signature::{MAX_KEY_FILE, SigningKey};
use mistletoe_registry::{Artifact, Image, LOCK_FILE, Lock, Puller, Reference, Tags};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::registries::{Connection, Registries, Trust, client, puller};
use crate::{files, print, print_bytes};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    mistctl pull oci://registry.example/apps/web:1.2 -o web.wasm\n  \
    mistctl pull oci://registry.example/apps/web:1.2 --key cosign.pub\n\n\
    Without -o, the module is pulled into the cache, and the reference with its digest is printed.")]
pub(crate) struct Pull {
    /// The module: `oci://HOST/PATH[:TAG][@DIGEST]` or `https://HOST/PATH[#sha256=HEX]`.
    #[arg(value_name = "REF")]
    reference: String,
    /// File to write the module to; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    registries: Registries,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    mistctl push web.wasm oci://registry.example/apps/web:1.2 --annotation org.opencontainers.image.version=1.2\n\n\
    Prints the reference with its digest. The time in the configuration is SOURCE_DATE_EPOCH, if it is set: then the\n\
    same module has the same digest.")]
pub(crate) struct Push {
    /// The module, in the binary or the text format.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where it is pushed to: `oci://HOST/PATH[:TAG]`. Without a tag, it is `latest`.
    #[arg(value_name = "REF")]
    reference: String,
    /// An annotation of the manifest; may be repeated.
    #[arg(long = "annotation", value_name = "K=V", value_parser = annotation)]
    annotations: Vec<(String, String)>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    mistctl verify oci://registry.example/apps/web:1.2 --key cosign.pub\n\n\
    Signatures are those of cosign 2 and 3 with a key: ECDSA P-256 or Ed25519. No certificate is accepted, and no\n\
    transparency log is consulted. A tag is what the registry says now: mistletoe.lock is not read.")]
pub(crate) struct Verify {
    /// The module: `oci://HOST/PATH[:TAG][@DIGEST]`.
    #[arg(value_name = "REF")]
    reference: String,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out key.pub\n  \
    mistctl sign oci://registry.example/apps/web@sha256:… --key key.pem\n\n\
    The signature has the format of cosign 3. It is pushed to the same repository, and is in no transparency log.\n\
    A tag can name something else by now: it is signed only if mistletoe.lock in the working directory has its\n\
    digest, or with --allow-tag. Prints the reference with the digest that was signed.")]
pub(crate) struct Sign {
    /// The module: `oci://HOST/PATH[:TAG][@DIGEST]`.
    #[arg(value_name = "REF")]
    reference: String,
    /// File with the private key (PEM, without a password).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Sign what a tag is now, and do not read mistletoe.lock.
    #[arg(long)]
    allow_tag: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    mistctl update\n  \
    mistctl update oci://registry.example/apps/web:1.2 --lock-file deploy/mistletoe.lock\n\n\
    Prints one line for each reference: the digest now, and the one before if it has changed.")]
pub(crate) struct Update {
    /// References without a digest, which are added if they are new [default: all in the lock file].
    #[arg(value_name = "REF")]
    references: Vec<String>,
    /// The lock file, which is created if there are references.
    #[arg(long, value_name = "FILE", default_value = LOCK_FILE)]
    lock_file: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn pull(arguments: &Pull) -> Result<(), Failure> {
    let reference = parse(&arguments.reference)?;
    if !matches!(reference, Reference::Image(_) | Reference::Url(_)) {
        return Err(Failure::usage(format!("{reference} is not in a registry; expected `oci://` or `https://`")));
    }
    let puller = arguments.registries.puller_or_any()?;
    let module = puller.pull(&reference)?;
    match &arguments.output {
        None => print(&format!("{}\n", module.reference)),
        Some(path) if path.as_os_str() == "-" => print_bytes(&module.bytes),
        Some(path) => write(path, &module.bytes),
    }
}

impl Registries {
    /// Returns what pulls without running anything: a tag that no lock file has is resolved and shown.
    fn puller_or_any(&self) -> Result<Puller, Failure> {
        let puller = self.puller()?;
        Ok(if self.has_lock_file() { puller } else { puller.tags(Tags::Allow) })
    }
}

/// Writes a file: it is complete, or as it was before.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error| Failure::write(path, error);
    // What is not a file, such as a pipe, is not replaced.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return fs::write(path, bytes).map_err(failed);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut builder = tempfile::Builder::new();
        // Before the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.prefix(".mistctl-").tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(failed)
}

pub(crate) fn push(arguments: &Push) -> Result<(), Failure> {
    let image = image(&arguments.reference)?;
    if !matches!(Reference::from_path(&arguments.file), Ok(Reference::File(_) | Reference::Stdin)) {
        return Err(Failure::usage(format!("{} is not a file", arguments.file.display())));
    }
    let wasm = files::assembled(&arguments.file, files::module(&arguments.file, &Registries::default())?)?;
    if !wasm.starts_with(b"\0asm\x01\0\0\0") {
        return Err(Failure::refused(&arguments.file, "it is not a WebAssembly module"));
    }
    let annotations: BTreeMap<_, _> = arguments.annotations.iter().cloned().collect();
    let artifact = Artifact::new(&wasm, &annotations, created()?);
    let pushed = Puller::new(client(&arguments.connection)).push(&image, &artifact)?;
    print(&format!("{pushed}\n"))
}

/// Returns the time of the configuration, in seconds since 1970 (<https://reproducible-builds.org/specs/source-date-epoch>).
fn created() -> Result<u64, Failure> {
    match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().map_err(|_| Failure::usage("SOURCE_DATE_EPOCH is not a number of seconds since 1970")),
        Err(_) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            Ok(now.map_or(0, |now| now.as_secs()))
        }
    }
}

pub(crate) fn verify(arguments: &Verify) -> Result<(), Failure> {
    let image = image(&arguments.reference)?;
    if arguments.trust.key.is_empty() && arguments.trust.policy().is_none() {
        return Err(Failure::usage("expected --key or --policy"));
    }
    // What the registry has now, whatever was read before.
    let puller = Puller::new(client(&arguments.connection)).tags(Tags::Allow);
    match arguments.trust.apply(puller)?.verify(&image)? {
        Some(verified) => print(&format!("{verified}\n")),
        None => print("the policy requires no signature\n"),
    }
}

pub(crate) fn sign(arguments: &Sign) -> Result<(), Failure> {
    let image = image(&arguments.reference)?;
    // It does not grow, so that no copy of the key is left behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE as usize + 1));
    let file = files::open(&arguments.key)?;
    file.take(MAX_KEY_FILE + 1).read_to_string(&mut text).map_err(|error| Failure::read(&arguments.key, error))?;
    let key = SigningKey::from_pem(&text).map_err(|error| Failure::refused(&arguments.key, error.to_string()))?;
    let puller = Puller::new(client(&arguments.connection));
    let file = PathBuf::from(LOCK_FILE);
    let tags = match arguments.allow_tag {
        true => Tags::Allow,
        // Not recorded: a digest that nobody has looked at is not to be signed.
        // A digest needs no lock file, whatever it is.
        false if image.digest().is_none() && is_locked(&file, &image)? => Tags::Lock { file, is_frozen: true },
        false => Tags::Refuse,
    };
    let signed = puller.tags(tags).sign(&image, &key)?;
    print(&format!("{signed}\n"))
}

fn is_locked(file: &Path, image: &Image) -> Result<bool, Failure> {
    let lock = Lock::read(file)?;
    Ok(lock.is_some_and(|lock| lock.get(&Reference::Image(image.clone())).is_some()))
}

pub(crate) fn update(arguments: &Update) -> Result<(), Failure> {
    let references: Vec<_> = arguments.references.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
    if references.is_empty() && !arguments.lock_file.exists() {
        let file = arguments.lock_file.display();
        return Err(Failure::usage(format!("{file} does not exist; references create it")));
    }
    let changes = puller(client(&arguments.connection)).update(&arguments.lock_file, &references)?;
    let mut text = String::new();
    for change in changes {
        let before = match change.before {
            Some(before) if before != change.now => format!(" (before: {before})"),
            _ => String::new(),
        };
        text.push_str(&format!("{} {}{before}\n", change.reference, change.now));
    }
    print(&text)
}

fn parse(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{text} {error}")))
}

fn image(text: &str) -> Result<Image, Failure> {
    Image::parse(text).map_err(|error| Failure::usage(format!("{text} {error}")))
}

fn annotation(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE"),
    }
}

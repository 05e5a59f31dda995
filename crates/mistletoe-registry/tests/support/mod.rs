//! What the tests share.

pub(crate) mod docker;
pub(crate) mod proxy;
pub(crate) mod server;
pub(crate) mod tls;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::{Duration, Instant};

use mistletoe_registry::{Artifact, Cache, Client, Credentials, Digest, Error, ErrorKind, Puller, Reference};
use server::{Content, Fault, Origin, Request, Server};
use tempfile::TempDir;

/// What an error may take at most, with its attempts: far more than it takes, and less than the time of an operation,
/// which would hide that nothing else ended it.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A client with short times, and without the user's credentials.
pub(crate) fn client() -> Client {
    Client::new()
        .credentials(Credentials::none())
        .attempts(3, Duration::from_millis(1))
        .read_timeout(Duration::from_millis(500))
        .timeout(Duration::from_secs(60))
}

/// A module of some length. It is not valid, which the crate does not look at.
pub(crate) fn module(length: usize) -> Vec<u8> {
    let noise = (0u32..).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    b"\0asm\x01\0\0\0".iter().copied().chain(noise).take(length).collect()
}

/// A repository `web` with a module under the tag `1`, the manifest's digest, and the module's.
pub(crate) fn repository(module: &[u8]) -> (Content, Digest, Digest) {
    let artifact = Artifact::new(module, &BTreeMap::new(), 0);
    let (manifest, layer) = (artifact.digest(), Digest::of(module));
    let media_type = Artifact::MEDIA_TYPE.to_owned();
    let content = HashMap::from([
        ("/v2/".to_owned(), (String::new(), b"{}".to_vec())),
        ("/v2/web/manifests/1".to_owned(), (media_type.clone(), artifact.manifest.clone())),
        (format!("/v2/web/manifests/{manifest}"), (media_type, artifact.manifest)),
        (format!("/v2/web/blobs/{layer}"), ("application/octet-stream".to_owned(), module.to_vec())),
        ("/file.wasm".to_owned(), ("application/wasm".to_owned(), module.to_vec())),
    ]);
    (content, manifest, layer)
}

pub(crate) fn memory(module: &[u8]) -> Origin {
    Origin::Memory(repository(module).0)
}

/// Length of the module. More than one resumed transfer's progress, and more than buffers of sockets hold.
pub(crate) const LENGTH: usize = 8 << 20;

/// Pulls `oci://ADDRESS/web@DIGEST` with a cache in `directory`.
pub(crate) fn pull(server: &Server, digest: Digest, client: Client, directory: &TempDir) -> Result<Vec<u8>, Error> {
    let reference: Reference = format!("oci://{}/web@{digest}", server.address).parse().expect("a reference");
    let cache = Cache::open(directory.path().join("cache")).expect("a cache");
    Puller::new(client).cache(cache).pull(&reference).map(|module| module.bytes)
}

/// Returns the lengths of the content in the cache, sorted.
pub(crate) fn cached(directory: &TempDir) -> Vec<u64> {
    let entries = fs::read_dir(directory.path().join("cache")).expect("a directory");
    let entries = entries.map(|entry| entry.expect("an entry"));
    // And not what says that it was compared.
    let content = entries.filter(|entry| entry.path().extension() != Some("compared".as_ref()));
    let mut lengths: Vec<_> = content.map(|entry| entry.metadata().expect("a file").len()).collect();
    lengths.sort_unstable();
    lengths
}

pub(crate) fn is_blob(request: &Request) -> bool {
    request.path.contains("/blobs/")
}

/// The same fault for every request of a blob.
pub(crate) fn of_blobs(fault: Fault) -> impl Fn(&Request, usize) -> Option<Fault> + Send + Sync {
    move |request, _| is_blob(request).then(|| fault.clone())
}

/// The same fault for every request of a manifest.
fn of_manifests(fault: Fault) -> impl Fn(&Request, usize) -> Option<Fault> + Send + Sync {
    move |request, _| (!is_blob(request)).then(|| fault.clone())
}

/// Pulls `web` with this manifest and module from an origin behind a proxy, with each fault once.
pub(crate) fn faults_are_errors(origin: impl Fn() -> Origin, manifest: &[u8], bytes: &[u8]) {
    let (digest, layer) = (Digest::of(manifest), Digest::of(bytes));
    let (length, manifest_length) = (bytes.len() as u64, manifest.len() as u64);
    let mut other = bytes.to_vec();
    other[bytes.len() / 2] ^= 1;
    let swapped = ErrorKind::Digest { expected: layer, found: Digest::of(&other) };
    let mut other_manifest = manifest.to_vec();
    other_manifest.push(b' ');
    let swapped_manifest = ErrorKind::Digest { expected: digest, found: Digest::of(&other_manifest) };
    let long = vec![b' '; (4 << 20) + 1];
    let reply = |status, body: &str| Fault::Reply(status, Vec::new(), body.as_bytes().to_vec());
    let after = |seconds: &str| vec![("Retry-After", seconds.to_owned())];
    let wait = Duration::from_secs(61);
    let again = vec![("Location", "/v2/web/blobs/again".to_owned())];
    let json = r#"{"errors":[{"code":"DENIED","message":"no\u001b[2J"},{"code":"X"}]}"#;
    // The fault, the kind of the error, and how often the request is sent.
    let of_a_blob: Vec<(Fault, ErrorKind, usize)> = vec![
        (Fault::Close, ErrorKind::Connection, 3),
        (Fault::Cut(1), ErrorKind::Connection, 3),
        (Fault::Garbage, ErrorKind::Protocol { problem: "the response is not HTTP".to_owned() }, 1),
        (Fault::Length(length - 1), ErrorKind::Length { expected: length, found: length - 1 }, 1),
        (Fault::Length(length + 1), ErrorKind::Length { expected: length, found: length + 1 }, 1),
        (Fault::Length(u64::MAX), ErrorKind::Length { expected: length, found: u64::MAX }, 1),
        (Fault::Body(b"short".to_vec()), ErrorKind::Length { expected: length, found: 5 }, 1),
        (Fault::Body(other), swapped, 1),
        (Fault::Stall, ErrorKind::TimedOut, 3),
        (Fault::Drip(Duration::from_millis(10)), ErrorKind::TooSlow, 1),
        (Fault::Reply(429, after("61"), Vec::new()), ErrorKind::RetryAfter { wait }, 1),
        (Fault::Reply(429, after("0"), Vec::new()), ErrorKind::Status { status: 429, message: None }, 3),
        (Fault::Reply(307, again, Vec::new()), ErrorKind::Redirect { reason: "there are more than 5" }, 6),
        (reply(404, ""), ErrorKind::NotFound, 1),
        (reply(403, json), ErrorKind::Unauthorized, 1),
        (reply(418, json), ErrorKind::Status { status: 418, message: Some("DENIED: no\u{fffd}[2J; X".to_owned()) }, 1),
        (reply(500, ""), ErrorKind::Status { status: 500, message: None }, 3),
        (reply(204, ""), ErrorKind::Status { status: 204, message: None }, 1),
    ];
    for (fault, kind, count) in of_a_blob {
        let server = Server::start(origin(), of_blobs(fault.clone()));
        let directory = TempDir::new().expect("a directory");
        let begin = Instant::now();
        let error = pull(&server, digest, client(), &directory).expect_err("a fault");
        assert!(begin.elapsed() < SOON, "{fault:?}: {:?}", begin.elapsed());
        assert_eq!(error.kind(), &kind, "{fault:?}: {error}");
        assert_eq!(server.requests().iter().filter(|request| is_blob(request)).count(), count, "{fault:?}");
        assert_eq!(cached(&directory), [manifest_length], "{fault:?}");
    }
    // How much of it is read before that is not determined.
    let server = Server::start(origin(), of_blobs(Fault::Endless));
    let directory = TempDir::new().expect("a directory");
    let begin = Instant::now();
    let error = pull(&server, digest, client(), &directory).expect_err("a fault");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert!(
        matches!(error.kind(), ErrorKind::Length { expected, found } if *expected == length && *found > length),
        "{error}"
    );
    // What the sockets hold on the way.
    assert!(server.sent() < length + (32 << 20), "{}", server.sent());
    assert_eq!(cached(&directory), [manifest_length]);
    let of_a_manifest: Vec<(Fault, ErrorKind)> = vec![
        (Fault::Close, ErrorKind::Connection),
        (Fault::EndlessHead, ErrorKind::Protocol { problem: "the response is not HTTP".to_owned() }),
        (Fault::Cut(10), ErrorKind::Connection),
        (Fault::Length(5 << 20), ErrorKind::TooLarge { limit: 4 << 20 }),
        (Fault::Body(other_manifest), swapped_manifest),
        (Fault::Body(long), ErrorKind::TooLarge { limit: 4 << 20 }),
        (Fault::Endless, ErrorKind::TooLarge { limit: 4 << 20 }),
        (Fault::Stall, ErrorKind::TimedOut),
        (Fault::Drip(Duration::from_millis(10)), ErrorKind::TooSlow),
    ];
    for (fault, kind) in of_a_manifest {
        let server = Server::start(origin(), of_manifests(fault.clone()));
        let directory = TempDir::new().expect("a directory");
        let begin = Instant::now();
        let error = pull(&server, digest, client(), &directory).expect_err("a fault");
        assert!(begin.elapsed() < SOON, "{fault:?}: {:?}", begin.elapsed());
        assert_eq!(error.kind(), &kind, "{fault:?}: {error}");
        assert_eq!(cached(&directory), [0u64; 0], "{fault:?}");
    }
}

//! Against Debian's `docker-registry`, with and without TLS and passwords, and with `skopeo` at the other end. These
//! tests need both programs, `openssl` and `htpasswd`, and run with `--include-ignored`.

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use mistletoe_registry::signature::{PublicKey, SigningKey, referrers_tag};
use mistletoe_registry::{
    Artifact, Cache, Client, Credentials, Digest, Error, ErrorKind, Image, LOCK_FILE, Lock, Puller, Reference, Tags,
};
use support::docker::{Registry, blob, run, skopeo};
use support::server::{Fault, Origin, Request, Server};
use support::{LENGTH, client, faults_are_errors, is_blob, module};
use tempfile::TempDir;

fn image(text: &str) -> Image {
    Image::parse(text).expect("an image")
}

fn push(image: &Image, module: &[u8]) -> Image {
    let annotations = BTreeMap::from([("org.opencontainers.image.title".to_owned(), "web".to_owned())]);
    let artifact = Artifact::new(module, &annotations, 1_000_000_000);
    let pushed = Puller::new(client()).push(image, &artifact).expect("pushed");
    assert_eq!(pushed, image.with_digest(artifact.digest()));
    pushed
}

fn pull(image: &Image) -> Result<Vec<u8>, Error> {
    Puller::new(client()).pull(&Reference::Image(image.clone())).map(|module| module.bytes)
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn what_is_pushed_is_pulled_also_by_skopeo() {
    let (registry, bytes) = (Registry::start(), module(LENGTH));
    let name = format!("{}/apps/web:1.2", registry.address);
    let image = image(&format!("oci://{name}"));
    client().ping(image.repository().host()).expect("a registry");
    let error = client().resolve(&image).expect_err("nothing is there");
    assert_eq!(error.kind(), &ErrorKind::NotFound);
    let pushed = push(&image, &bytes);
    assert_eq!(client().resolve(&image).expect("a digest"), pushed.digest().expect("a digest"));
    assert!(pull(&pushed).expect("pulled") == bytes);
    // The same again changes nothing.
    assert_eq!(push(&image, &bytes), pushed);
    // Without a tag, it is pushed to what a reference without a tag names.
    let untagged = self::image(&format!("oci://{}/apps/web", registry.address));
    let artifact = Artifact::new(&bytes, &BTreeMap::new(), 0);
    let latest = Puller::new(client()).push(&untagged, &artifact).expect("pushed");
    assert_eq!(latest.to_string(), format!("{untagged}:latest@{}", artifact.digest()));
    assert_eq!(client().resolve(&untagged).expect("a digest"), artifact.digest());
    let directory = TempDir::new().expect("a directory");
    skopeo(&format!("docker://{name}"), &format!("dir:{}", directory.path().display()));
    let manifest = fs::read(directory.path().join("manifest.json")).expect("a manifest");
    assert_eq!(Some(Digest::of(&manifest)), pushed.digest());
    assert!(blob(directory.path(), &Digest::of(&bytes).to_string()) == bytes);
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn what_skopeo_pushes_is_pulled() {
    let (registry, bytes) = (Registry::start(), module(LENGTH));
    let from = push(&image(&format!("oci://{}/web:1", registry.address)), &bytes);
    let name = format!("{}/copies/web:2", registry.address);
    skopeo(&format!("docker://{}/web:1", registry.address), &format!("docker://{name}"));
    let copy = image(&format!("oci://{name}"));
    let copy = copy.with_digest(client().resolve(&copy).expect("a digest"));
    assert_eq!(copy.digest(), from.digest());
    assert!(pull(&copy).expect("pulled") == bytes);
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn an_image_with_a_plugin_is_pulled() {
    // The image that `FROM scratch` and `COPY plugin.wasm ./` make, as skopeo pushes it: an OCI layout with one layer.
    let (registry, bytes) = (Registry::start(), module(100_000));
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("plugin.wasm"), &bytes).expect("written");
    run(Command::new("tar").args(["-czf", "layer.tar.gz", "plugin.wasm"]).current_dir(directory.path()));
    let layout = directory.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).expect("created");
    let add = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).expect("written");
        format!(r#""digest": "{digest}", "size": {}"#, bytes.len())
    };
    let layer = add(&fs::read(directory.path().join("layer.tar.gz")).expect("read"));
    let config = add(br#"{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}"#);
    let oci = "application/vnd.oci.image";
    let manifest = add(format!(
        r#"{{"schemaVersion": 2, "mediaType": "{oci}.manifest.v1+json",
            "config": {{"mediaType": "{oci}.config.v1+json", {config}}},
            "layers": [{{"mediaType": "{oci}.layer.v1.tar+gzip", {layer}}}],
            "annotations": {{"module.wasm.image/variant": "compat"}}}}"#
    )
    .as_bytes());
    let index =
        format!(r#"{{"schemaVersion": 2, "manifests": [{{"mediaType": "{oci}.manifest.v1+json", {manifest}}}]}}"#);
    fs::write(layout.join("index.json"), index).expect("written");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("written");
    let name = format!("{}/plugin:1", registry.address);
    skopeo(&format!("oci:{}", layout.display()), &format!("docker://{name}"));
    let plugin = image(&format!("oci://{name}"));
    assert!(pull(&plugin.with_digest(client().resolve(&plugin).expect("a digest"))).expect("pulled") == bytes);
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn a_module_is_pulled_through_an_index() {
    let (registry, bytes) = (Registry::start(), module(LENGTH));
    let named = |name: &str| image(&format!("oci://{}/{name}", registry.address));
    let (wasm, other) = (push(&named("web:wasm"), &bytes), push(&named("web:other"), b"not a module"));
    let size = |image: &Image| client().manifest(image).expect("a manifest").bytes.len();
    let oci = "application/vnd.oci.image";
    // With this length of the module's manifest.
    let push_index = |tag: &str, length: usize| {
        let entries = [(&other, size(&other), "amd64", "linux"), (&wasm, length, "wasm", "wasip1")];
        let entries = entries.map(|(image, size, architecture, os)| {
            let digest = image.digest().expect("a digest");
            format!(
                r#"{{"mediaType": "{oci}.manifest.v1+json", "digest": "{digest}", "size": {size},
                    "platform": {{"architecture": "{architecture}", "os": "{os}"}}}}"#
            )
        });
        let media_type = format!("{oci}.index.v1+json");
        let index =
            format!(r#"{{"schemaVersion": 2, "mediaType": "{media_type}", "manifests": [{}]}}"#, entries.join(", "));
        let image = named(&format!("web:{tag}"));
        let pushed = client().push_manifest(image.repository(), Some(tag), &media_type, index.as_bytes());
        image.with_digest(pushed.expect("pushed").digest)
    };
    let length = size(&wasm);
    let index = push_index("index", length);
    assert!(pull(&index).expect("pulled") == bytes);
    // And as skopeo copies it.
    let name = |name: &str| format!("docker://{}/{name}", registry.address);
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "--quiet"])
        .args([name("web:index"), name("copies/web:2")]));
    let copy = named("copies/web:2");
    assert_eq!(client().resolve(&copy).expect("a digest"), index.digest().expect("a digest"));
    assert!(pull(&copy.with_digest(index.digest().expect("a digest"))).expect("pulled") == bytes);
    for wrong in [length - 1, length + 1] {
        let error = pull(&push_index("wrong", wrong)).expect_err("another length");
        let (expected, found) = (wrong as u64, length as u64);
        assert_eq!(error.kind(), &ErrorKind::Length { expected, found }, "{error}");
    }
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn with_encryption_and_a_password() {
    let (registry, bytes) = (Registry::secured(), module(100_000));
    let image = image(&format!("oci://localhost:{}/web:1", registry.address.port()));
    let with = || client().ca(registry.ca());
    let user = || with().credentials(Credentials::from_file(registry.credentials()));
    let artifact = Artifact::new(&bytes, &BTreeMap::new(), 0);
    let pushed = Puller::new(user()).push(&image, &artifact).expect("pushed");
    let pull = |client: Client| Puller::new(client).pull(&Reference::Image(pushed.clone())).map(|module| module.bytes);
    assert!(pull(user()).expect("pulled") == bytes);
    assert_eq!(pull(with()).expect_err("no password").kind(), &ErrorKind::Unauthorized);
    let wrong = registry.directory.path().join("wrong.json");
    let host = format!("localhost:{}", registry.address.port());
    fs::write(&wrong, format!(r#"{{"auths": {{"{host}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#)).expect("written");
    let wrong = with().credentials(Credentials::from_file(wrong));
    assert_eq!(pull(wrong).expect_err("a wrong password").kind(), &ErrorKind::Unauthorized);
    // Another certificate than the registry's.
    let other = Registry::secured();
    let error = pull(client().ca(other.ca())).expect_err("a wrong certificate");
    assert_eq!(error.kind(), &ErrorKind::Tls, "{error}");
    // The registry does not speak plain HTTP.
    let error = pull(client()).expect_err("no encryption");
    assert!(matches!(error.kind(), ErrorKind::Status { status: 400, .. }), "{error}");
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn behind_a_proxy_with_faults() {
    let (registry, bytes) = (Registry::start(), module(LENGTH));
    let pushed = push(&image(&format!("oci://{}/web:1", registry.address)), &bytes);
    let digest = pushed.digest().expect("a digest");
    let pull = |fault: Option<Fault>, times: usize| {
        let server = Server::start(Origin::Upstream(registry.address), move |request: &Request, earlier| {
            fault.clone().filter(|_| is_blob(request) && earlier < times)
        });
        pull(&image(&format!("oci://{}/web@{digest}", server.address)))
    };
    assert!(pull(None, 0).expect("no fault") == bytes);
    assert!(pull(Some(Fault::Cut(LENGTH / 3)), 2).expect("resumed") == bytes);
    assert!(pull(Some(Fault::Close), 2).expect("tried again") == bytes);
    let busy = Fault::Reply(503, vec![("Retry-After", "0".to_owned())], Vec::new());
    assert!(pull(Some(busy), 2).expect("tried again") == bytes);
    let error = pull(Some(Fault::Endless), usize::MAX).expect_err("too long");
    assert!(matches!(error.kind(), ErrorKind::Length { found, .. } if *found > LENGTH as u64), "{error}");
    // To the registry itself.
    let layer = Digest::of(&bytes);
    let storage = vec![("Location", format!("http://{}/v2/web/blobs/{layer}", registry.address))];
    assert!(pull(Some(Fault::Reply(307, storage, Vec::new())), usize::MAX).expect("redirected") == bytes);
    let manifest = client().manifest(&pushed).expect("a manifest").bytes;
    faults_are_errors(|| Origin::Upstream(registry.address), &manifest, &bytes);
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn a_lock_file_records_tags_and_holds_them() {
    let registry = Registry::start();
    let image = image(&format!("oci://{}/web:1", registry.address));
    let reference = Reference::Image(image.clone());
    let first = push(&image, &module(100));
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join(LOCK_FILE);
    let tags = |is_frozen| Tags::Lock { file: file.clone(), is_frozen };
    let puller = |tags| Puller::new(client()).tags(tags);
    let error = puller(tags(false)).pull(&reference).expect_err("no lock file");
    assert_eq!(error.kind(), &ErrorKind::NoDigest { pinned: first.to_string() });
    assert!(!file.exists());
    let error = puller(tags(true)).pull(&reference).expect_err("no lock file");
    assert_eq!(error.kind(), &ErrorKind::NotLocked);
    Lock::new(&file).write().expect("written");
    assert_eq!(puller(tags(true)).pull(&reference).expect_err("not recorded").kind(), &ErrorKind::NotLocked);
    assert_eq!(puller(tags(false)).pull(&reference).expect("recorded").reference, Reference::Image(first.clone()));
    let recorded = || Lock::read(&file).expect("read").expect("it exists").get(&reference);
    assert_eq!(recorded(), first.digest());
    // The tag moves, and what is pulled does not.
    let second = push(&image, &module(200));
    for is_frozen in [false, true] {
        let module = puller(tags(is_frozen)).pull(&reference).expect("pulled");
        assert_eq!(module.reference, Reference::Image(first.clone()));
    }
    assert_eq!(puller(Tags::Allow).pull(&reference).expect("allowed").bytes.len(), 200);
    let changes = puller(tags(false)).update(&file, &[]).expect("updated");
    assert_eq!((changes.len(), changes[0].before, Some(changes[0].now)), (1, first.digest(), second.digest()));
    assert_eq!(recorded(), second.digest());
    assert_eq!(puller(tags(true)).pull(&reference).expect("pulled").bytes.len(), 200);
    // A tag that is gone changes nothing.
    let text = fs::read(&file).expect("read");
    let gone = format!("oci://{}/gone:1", registry.address).parse().expect("a reference");
    puller(tags(false)).update(&file, &[reference.clone(), gone]).expect_err("gone");
    assert!(fs::read(&file).expect("read") == text);
}

fn key(directory: &TempDir, name: &str) -> SigningKey {
    let file = directory.path().join(name);
    run(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&file));
    SigningKey::from_pem(&fs::read_to_string(file).expect("read")).expect("a key")
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn a_signature_is_pushed_found_and_kept() {
    let registry = Registry::start();
    let directory = TempDir::new().expect("a directory");
    let (mine, other) = (key(&directory, "mine"), key(&directory, "other"));
    let keys = |key: &SigningKey| -> Vec<PublicKey> { vec![key.public_key().clone()] };
    let image = push(&image(&format!("oci://{}/web:1", registry.address)), &module(100));
    let reference = Reference::Image(image.clone());
    let cache = Cache::open(directory.path().join("cache")).expect("a cache");
    let puller = |key: &SigningKey| Puller::new(client()).cache(cache.clone()).keys(keys(key));
    let refused = |result: Result<mistletoe_registry::Module, Error>, text: &str| {
        let error = result.expect_err(text);
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(*error.kind() == ErrorKind::Signature && cause.contains(text), "{error}: {cause}");
    };
    refused(puller(&mine).pull(&reference), "is not signed");
    let plain = Puller::new(client());
    assert_eq!(plain.sign(&image, &mine).expect("signed"), image);
    puller(&mine).pull(&reference).expect("a good signature");
    refused(puller(&other).pull(&reference), "key");
    // A second signature is added to the first.
    plain.sign(&image, &other).expect("signed");
    let verified = puller(&other).verify(&image).expect("good").expect("a signature");
    assert_eq!(&verified.key, other.public_key());
    puller(&mine).pull(&reference).expect("still good");
    // Another module under the same tag is not signed.
    let swapped = push(&Image::parse(&format!("oci://{}/web:1", registry.address)).expect("an image"), &module(200));
    refused(puller(&mine).pull(&Reference::Image(swapped)), "is not signed");
    // Without the registry, what was read before is checked again.
    drop(registry);
    puller(&mine).pull(&reference).expect("kept");
    let third = key(&directory, "third");
    let error = puller(&third).pull(&reference).expect_err("another key");
    assert_eq!(error.kind(), &ErrorKind::Connection);
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn a_signature_names_the_media_type_of_what_it_signs() {
    let (registry, bytes) = (Registry::start(), module(100));
    let docker = "application/vnd.docker";
    let image = image(&format!("oci://{}/web:1", registry.address));
    let repository = image.repository();
    client().push_blob(repository, &bytes).expect("pushed");
    client().push_blob(repository, b"{}").expect("pushed");
    let manifest = format!(
        r#"{{"schemaVersion": 2, "mediaType": "{docker}.distribution.manifest.v2+json",
            "config": {{"mediaType": "{docker}.container.image.v1+json", "digest": "{}", "size": 2}},
            "layers": [{{"mediaType": "{docker}.image.rootfs.diff.tar.gzip", "digest": "{}", "size": 100}}]}}"#,
        Digest::of(b"{}"),
        Digest::of(&bytes)
    );
    let media_type = format!("{docker}.distribution.manifest.v2+json");
    let pushed = client().push_manifest(repository, Some("1"), &media_type, manifest.as_bytes()).expect("pushed");
    let directory = TempDir::new().expect("a directory");
    Puller::new(client()).tags(Tags::Allow).sign(&image, &key(&directory, "mine")).expect("signed");
    let json = |name: &str| -> serde_json::Value {
        let separator = if name.contains(':') { '@' } else { ':' };
        let image = self::image(&format!("{repository}{separator}{name}"));
        serde_json::from_slice(&client().manifest(&image).expect("a manifest").bytes).expect("JSON")
    };
    let index = json(&referrers_tag(&pushed.digest));
    let signature = json(index["manifests"][0]["digest"].as_str().expect("a digest"));
    assert_eq!(signature["subject"]["mediaType"], media_type.as_str(), "{signature}");
    assert_eq!(signature["subject"]["digest"], pushed.digest.to_string());
}

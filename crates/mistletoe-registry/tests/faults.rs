//! What a hostile or broken server does: each a clear error, in bounded time and memory, and no file that is not
//! complete.

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use mistletoe_registry::signature::{self, BUNDLE, SigningKey};
use mistletoe_registry::{Artifact, Digest, ErrorKind, Image, LOCK_FILE, Lock, Puller, Reference, Tags};
use support::server::{Content, Fault, Origin, Request, Server};
use support::{LENGTH, cached, client, faults_are_errors, is_blob, memory, module, of_blobs, pull, repository};
use tempfile::TempDir;

type Faults = Box<dyn Fn(&Request, usize) -> Option<Fault> + Send + Sync>;

#[test]
fn a_fault_is_an_error_and_leaves_no_file() {
    let bytes = module(LENGTH);
    let (content, digest, _) = repository(&bytes);
    let manifest = content[&format!("/v2/web/manifests/{digest}")].1.clone();
    faults_are_errors(|| Origin::Memory(content.clone()), &manifest, &bytes);
}

#[test]
fn an_endless_body_is_read_up_to_its_limit() {
    let (content, digest, _) = repository(&module(1000));
    let server = Server::start(Origin::Memory(content), of_blobs(Fault::Endless));
    let directory = TempDir::new().expect("a directory");
    let error = pull(&server, digest, client(), &directory).expect_err("too long");
    assert!(matches!(error.kind(), ErrorKind::Length { expected: 1000, found } if *found > 1000), "{error}");
    // What the sockets hold on the way.
    assert!(server.sent() < 64 << 20, "{}", server.sent());
}

#[test]
fn a_cut_blob_is_resumed() {
    let bytes = module(LENGTH);
    let (content, digest, _) = repository(&bytes);
    let cases: Vec<(&str, Faults)> = vec![
        (
            "every part but the last",
            Box::new(|request, earlier| (is_blob(request) && earlier < 5).then_some(Fault::Cut(LENGTH / 6))),
        ),
        (
            "a server without parts",
            Box::new(|request, earlier| match (is_blob(request), earlier) {
                (false, _) => None,
                (true, 0) => Some(Fault::Cut(LENGTH / 2)),
                (true, _) => Some(Fault::NoRange),
            }),
        ),
        ("a short stall", Box::new(|request, earlier| (is_blob(request) && earlier == 0).then_some(Fault::Stall))),
    ];
    for (name, faults) in cases {
        let server = Server::start(Origin::Memory(content.clone()), faults);
        let directory = TempDir::new().expect("a directory");
        assert!(pull(&server, digest, client(), &directory).expect(name) == bytes, "{name}");
        assert_eq!(cached(&directory).last(), Some(&(LENGTH as u64)), "{name}");
        let blobs: Vec<_> = server.requests().into_iter().filter(is_blob).collect();
        let ranges: Vec<_> = blobs.iter().map(|request| request.header("range").map(str::to_owned)).collect();
        assert_eq!(ranges[0], None, "{name}");
        if name == "every part but the last" {
            let expected: Vec<_> = (1..6).map(|part| Some(format!("bytes={}-", part * (LENGTH / 6)))).collect();
            assert_eq!(ranges[1..], expected);
        }
    }
}

#[test]
fn a_cut_without_progress_is_tried_three_times() {
    let (content, digest, _) = repository(&module(LENGTH));
    let server = Server::start(Origin::Memory(content), of_blobs(Fault::Cut(1)));
    let directory = TempDir::new().expect("a directory");
    pull(&server, digest, client(), &directory).expect_err("cut");
    assert_eq!(server.requests().iter().filter(|request| is_blob(request)).count(), 3);
}

#[test]
fn another_part_than_requested_is_an_error() {
    let bytes = module(LENGTH);
    let (content, digest, _) = repository(&bytes);
    let server = Server::start(Origin::Memory(content), move |request, earlier| {
        if !is_blob(request) {
            return None;
        }
        let range = ("Content-Range", format!("bytes 0-{}/{LENGTH}", LENGTH - 1));
        Some(if earlier == 0 { Fault::Cut(LENGTH / 2) } else { Fault::Reply(206, vec![range], Vec::new()) })
    });
    let directory = TempDir::new().expect("a directory");
    let error = pull(&server, digest, client(), &directory).expect_err("another part");
    assert_eq!(error.kind(), &ErrorKind::Protocol { problem: "it is not the requested part".to_owned() });
}

#[test]
fn a_busy_server_is_asked_again_and_is_told_how_long_to_wait() {
    let bytes = module(100);
    let (content, digest, _) = repository(&bytes);
    let busy = |after: &str| Fault::Reply(429, vec![("Retry-After", after.to_owned())], Vec::new());
    for (after, is_waited_for) in [("0", true), ("Sun, 06 Nov 1994 08:49:37 GMT", true), ("soon", true), ("61", false)]
    {
        let fault = busy(after);
        let faults = move |request: &Request, earlier: usize| (is_blob(request) && earlier < 2).then(|| fault.clone());
        let server = Server::start(Origin::Memory(content.clone()), faults);
        let directory = TempDir::new().expect("a directory");
        let pulled = pull(&server, digest, client(), &directory);
        match is_waited_for {
            true => assert!(pulled.expect(after) == bytes),
            false => {
                let wait = Duration::from_secs(61);
                assert_eq!(pulled.expect_err(after).kind(), &ErrorKind::RetryAfter { wait });
            }
        }
    }
}

#[test]
fn redirects_are_followed_up_to_five_and_not_everywhere() {
    let bytes = module(100);
    let (content, digest, layer) = repository(&bytes);
    let blob = format!("/v2/web/blobs/{layer}");
    let to = |location: String| Fault::Reply(307, vec![("Location", location)], Vec::new());
    // A chain of redirects on one host: `?5` is the fifth one.
    let mut chained = content.clone();
    let target = chained[&blob].clone();
    chained.insert(format!("{blob}?5"), target);
    for (limit, is_followed) in [(5, true), (6, false)] {
        let faults = {
            let blob = blob.clone();
            move |request: &Request, _: usize| {
                let step: usize = match request.path.strip_prefix(&blob)? {
                    "" => 0,
                    query => query[1..].parse().ok()?,
                };
                (step < limit).then(|| to(format!("{blob}?{}", step + 1)))
            }
        };
        let server = Server::start(Origin::Memory(chained.clone()), faults);
        let directory = TempDir::new().expect("a directory");
        let pulled = pull(&server, digest, client(), &directory);
        match is_followed {
            true => assert!(pulled.expect("five") == bytes),
            false => {
                assert_eq!(pulled.expect_err("six").kind(), &ErrorKind::Redirect { reason: "there are more than 5" });
            }
        }
    }
    for (location, kind) in [
        ("http://registry.invalid/x", ErrorKind::PlainHttp),
        ("ftp://127.0.0.1/x", ErrorKind::Redirect { reason: "its location is not a URL" }),
        ("http://user@127.0.0.1/x", ErrorKind::Redirect { reason: "its location is not a URL" }),
        ("http://registry.invalid/x?signature=secret", ErrorKind::PlainHttp),
    ] {
        let server = Server::start(Origin::Memory(content.clone()), of_blobs(to(location.to_owned())));
        let directory = TempDir::new().expect("a directory");
        let error = pull(&server, digest, client(), &directory).expect_err(location);
        assert_eq!(error.kind(), &kind);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let without = Fault::Reply(307, Vec::new(), Vec::new());
    let server = Server::start(Origin::Memory(content), of_blobs(without));
    let directory = TempDir::new().expect("a directory");
    let error = pull(&server, digest, client(), &directory).expect_err("no location");
    assert!(matches!(error.kind(), ErrorKind::Protocol { .. }), "{error}");
}

/// Writes a configuration of Docker with a password for a host.
fn credentials(directory: &TempDir, host: &str) -> mistletoe_registry::Credentials {
    let file = directory.path().join("config.json");
    // "user:secret" in base64.
    fs::write(&file, format!(r#"{{"auths": {{"{host}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#)).expect("written");
    mistletoe_registry::Credentials::from_file(file)
}

#[test]
fn credentials_stay_with_their_host() {
    let bytes = module(100);
    let (content, digest, layer) = repository(&bytes);
    // Where the redirect leads: another port is another host.
    let storage = Server::start(
        Origin::Memory([("/storage".to_owned(), (String::new(), bytes.clone()))].into()),
        |_: &Request, _| None,
    );
    let location = format!("http://{}/storage", storage.address);
    let blob = format!("/v2/web/blobs/{layer}");
    let server = Server::start(Origin::Memory(content), move |request, _| match request.header("authorization") {
        Some("Basic dXNlcjpzZWNyZXQ=") if request.path == blob => {
            Some(Fault::Reply(307, vec![("Location", location.clone())], Vec::new()))
        }
        Some("Basic dXNlcjpzZWNyZXQ=") => None,
        _ => Some(Fault::Reply(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())], Vec::new())),
    });
    let directory = TempDir::new().expect("a directory");
    let with = client().credentials(credentials(&directory, &server.address.to_string()));
    assert!(pull(&server, digest, with, &directory).expect("pulled") == bytes);
    let seen = storage.requests();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].header("authorization").is_none(), "{seen:?}");
    // The password is known after the first time.
    let refused = server.requests().iter().filter(|request| request.header("authorization").is_none()).count();
    assert_eq!(refused, 1);

    let directory = TempDir::new().expect("a directory");
    let error = pull(&server, digest, client(), &directory).expect_err("no password");
    assert_eq!(error.kind(), &ErrorKind::Unauthorized);
}

#[test]
fn a_token_is_fetched_with_the_password_and_used_without_it() {
    let bytes = module(100);
    let (content, digest, _) = repository(&bytes);
    let tokens = Server::start(
        Origin::Memory(
            [(
                "/token?service=s&scope=repository%3Aweb%3Apull".to_owned(),
                ("application/json".to_owned(), br#"{"token":"t0ken"}"#.to_vec()),
            )]
            .into(),
        ),
        |_: &Request, _| None,
    );
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", tokens.address);
    let server = Server::start(Origin::Memory(content), move |request, _| match request.header("authorization") {
        Some("Bearer t0ken") => None,
        _ => Some(Fault::Reply(401, vec![("WWW-Authenticate", challenge.clone())], Vec::new())),
    });
    for user in [None, Some("Basic dXNlcjpzZWNyZXQ=")] {
        let directory = TempDir::new().expect("a directory");
        let with = match user {
            None => client(),
            Some(_) => client().credentials(credentials(&directory, &server.address.to_string())),
        };
        assert!(pull(&server, digest, with, &directory).expect("pulled") == bytes);
        let last = tokens.requests().pop().expect("a request");
        assert_eq!(last.header("authorization"), user);
    }
    // Once for both requests of a pull.
    assert_eq!(tokens.requests().len(), 2);
    assert!(server.requests().iter().all(|request| request.header("authorization") != Some("Basic dXNlcjpzZWNyZXQ=")));
}

#[test]
fn a_token_service_that_fails_is_an_error() {
    let (content, digest, _) = repository(&module(100));
    for (challenge, kind) in [
        ("Bearer realm=\"http://tokens.invalid/\"", ErrorKind::PlainHttp),
        ("Negotiate", ErrorKind::Unauthorized),
        ("Bearer realm=\"/x\"", ErrorKind::Protocol { problem: "the URL of the token service is not one".to_owned() }),
    ] {
        let server = Server::start(Origin::Memory(content.clone()), move |_, _| {
            Some(Fault::Reply(401, vec![("WWW-Authenticate", challenge.to_owned())], Vec::new()))
        });
        let directory = TempDir::new().expect("a directory");
        assert_eq!(pull(&server, digest, client(), &directory).expect_err(challenge).kind(), &kind);
    }
    for (status, body, kind) in [
        (401, "", ErrorKind::Unauthorized),
        (200, "{}", ErrorKind::Protocol { problem: "the token service sent no token".to_owned() }),
        (200, r#"{"token":"a\nb"}"#, ErrorKind::Protocol { problem: "the token service sent no token".to_owned() }),
    ] {
        let tokens = Server::start(Origin::Memory(content.clone()), move |_, _| {
            Some(Fault::Reply(status, Vec::new(), body.as_bytes().to_vec()))
        });
        let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.address);
        let server = Server::start(Origin::Memory(content.clone()), move |_, _| {
            Some(Fault::Reply(401, vec![("WWW-Authenticate", challenge.clone())], Vec::new()))
        });
        let directory = TempDir::new().expect("a directory");
        assert_eq!(pull(&server, digest, client(), &directory).expect_err(body).kind(), &kind);
    }
}

#[test]
fn what_is_cached_needs_no_server() {
    let bytes = module(LENGTH);
    let (content, digest, layer) = repository(&bytes);
    let directory = TempDir::new().expect("a directory");
    let server = Server::start(Origin::Memory(content), |_, _| None);
    for _ in 0..2 {
        assert!(pull(&server, digest, client(), &directory).expect("pulled") == bytes);
    }
    assert_eq!(server.requests().len(), 2);
    // Damaged content is fetched again.
    let file = directory.path().join("cache").join(layer.hex()).with_extension("blob");
    fs::write(&file, b"damaged").expect("written");
    assert!(pull(&server, digest, client(), &directory).expect("pulled") == bytes);
    assert_eq!(server.requests().len(), 3);
    assert!(pull(&server, digest, client(), &directory).expect("cached") == bytes);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_descriptor_of_another_length_is_an_error_even_if_the_content_is_cached() {
    let bytes = module(100);
    let (mut content, digest, _) = repository(&bytes);
    let manifest = content[&format!("/v2/web/manifests/{digest}")].1.clone();
    let directory = TempDir::new().expect("a directory");
    let text = String::from_utf8(manifest).expect("text");
    for (size, kind) in [
        ("99", ErrorKind::Length { expected: 99, found: 100 }),
        ("268435457", ErrorKind::TooLarge { limit: 256 << 20 }),
    ] {
        let other = text.replace("\"size\":100}", &format!("\"size\":{size}}}"));
        assert_ne!(text, other);
        let other_digest = Digest::of(other.as_bytes());
        content.insert(format!("/v2/web/manifests/{other_digest}"), (String::new(), other.into_bytes()));
        let server = Server::start(Origin::Memory(content.clone()), |_, _| None);
        assert!(pull(&server, digest, client(), &directory).expect("pulled") == bytes);
        let error = pull(&server, other_digest, client(), &directory).expect_err(size);
        assert_eq!(error.kind(), &kind);
    }
}

#[test]
fn a_url_is_pulled_by_its_digest() {
    let bytes = module(LENGTH);
    let digest = Digest::of(&bytes);
    let server = Server::start(memory(&bytes), |_: &Request, earlier| (earlier == 0).then_some(Fault::Cut(LENGTH / 2)));
    let reference = |fragment: &str| -> Reference {
        format!("http://{}/file.wasm{fragment}", server.address).parse().expect("a URL")
    };
    let puller = Puller::new(client());
    let pinned = reference(&format!("#sha256={}", digest.hex()));
    assert!(puller.pull(&pinned).expect("resumed").bytes == bytes);
    let other = reference(&format!("#sha256={}", Digest::of(b"").hex()));
    let error = puller.pull(&other).expect_err("another digest");
    assert_eq!(error.kind(), &ErrorKind::Digest { expected: Digest::of(b""), found: digest });
    let error = puller.pull(&reference("")).expect_err("no digest");
    assert_eq!(error.kind(), &ErrorKind::NoDigest { pinned: pinned.to_string() });
    let module = puller.tags(Tags::Allow).pull(&reference("")).expect("allowed");
    assert!(module.bytes == bytes && module.reference == pinned);
}

#[test]
fn a_url_without_a_digest_is_not_resumed() {
    let server = Server::start(memory(&module(LENGTH)), |_: &Request, _| Some(Fault::Cut(LENGTH / 2)));
    let reference = format!("http://{}/file.wasm", server.address).parse().expect("a URL");
    let error = Puller::new(client()).tags(Tags::Allow).pull(&reference).expect_err("cut");
    assert_eq!(error.kind(), &ErrorKind::Connection);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_registry_is_told_from_another_server() {
    let server = Server::start(memory(&module(10)), |_, _| None);
    let image = Image::parse(&format!("oci://{}/web:1", server.address)).expect("an image");
    client().ping(image.repository().host()).expect("a registry");
    let server = Server::start(Origin::Memory([].into()), |_, _| None);
    let image = Image::parse(&format!("oci://{}/web:1", server.address)).expect("an image");
    let error = client().ping(image.repository().host()).expect_err("not a registry");
    assert_eq!(error.kind(), &ErrorKind::NotFound);
}

#[test]
fn what_the_lock_file_gets_while_a_module_arrives_stays() {
    let (content, digest, _) = repository(&module(100));
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join(LOCK_FILE);
    Lock::new(&file).write().expect("written");
    let other: Reference = "oci://host/other:1".parse().expect("a reference");
    let faults = {
        let (file, other) = (file.clone(), other.clone());
        move |request: &Request, _: usize| {
            if is_blob(request) {
                let mut lock = Lock::read(&file).expect("read").expect("it exists");
                lock.insert(&other, Digest::of(b"other"));
                lock.write().expect("written");
            }
            None
        }
    };
    let server = Server::start(Origin::Memory(content), faults);
    let reference: Reference = format!("oci://{}/web:1", server.address).parse().expect("a reference");
    let tags = Tags::Lock { file: file.clone(), is_frozen: false };
    Puller::new(client()).tags(tags).pull(&reference).expect("pulled");
    let lock = Lock::read(&file).expect("read").expect("it exists");
    assert_eq!((lock.get(&reference), lock.get(&other)), (Some(digest), Some(Digest::of(b"other"))));
}

#[test]
fn referrers_come_in_pages_from_one_host() {
    let (mut content, digest, _) = repository(&module(100));
    content.insert("/next".to_owned(), (String::new(), b"two".to_vec()));
    let path = format!("/v2/web/referrers/{digest}?artifactType=a%2Fb");
    let referrers = |fault: Fault| {
        let path = path.clone();
        let faults = move |request: &Request, _: usize| (request.path == path).then(|| fault.clone());
        let server = Server::start(Origin::Memory(content.clone()), faults);
        let image = Image::parse(&format!("oci://{}/web", server.address)).expect("an image");
        (client().referrers(image.repository(), digest, "a/b"), server.requests().len())
    };
    let page = |link: &str| Fault::Reply(200, vec![("Link", link.to_owned())], b"one".to_vec());
    let cases: [(&str, &[&[u8]]); 4] = [
        ("</next>; rel=\"next\"", &[b"one", b"two"]),
        ("</other>; rel=\"prev\", </next>; x=y; rel=next", &[b"one", b"two"]),
        ("</next>; rel=\"prev\"", &[b"one"]),
        ("/next; rel=\"next\"", &[b"one"]),
    ];
    for (link, pages) in cases {
        let found = referrers(page(link)).0.expect(link).expect("a list");
        assert_eq!(found, pages, "{link}");
    }
    for (link, requests) in [("<http://127.0.0.2/next>; rel=next", 1), (&*format!("<{path}>; rel=next"), 16)] {
        let (found, sent) = referrers(page(link));
        let error = found.expect_err(link);
        assert!(matches!(error.kind(), ErrorKind::Protocol { .. }), "{error}");
        assert_eq!(sent, requests, "{link}");
    }
    for status in [400, 404, 405] {
        assert_eq!(referrers(Fault::Reply(status, Vec::new(), Vec::new())).0.expect("no list"), None, "{status}");
    }
}

/// Adds two signatures of a repository's module, whose list is under a tag, and returns the key, and the paths and
/// digests of the first one's manifest and bundle.
fn signed(content: &mut Content, digest: Digest) -> (SigningKey, [(String, Digest); 2]) {
    let key = |name: &str| {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        SigningKey::from_pem(&fs::read_to_string(file).expect("read")).expect("a key")
    };
    let subject = content[&format!("/v2/web/manifests/{digest}")].1.clone();
    let (mut index, mut objects) = (None, Vec::new());
    for name in ["other.key", "p256.key"] {
        let signature = key(name).sign(&subject, Artifact::MEDIA_TYPE).expect("signed");
        index = signature.add_to_index(index.as_deref()).expect("an index");
        for (kind, bytes) in [("manifests", signature.manifest), ("blobs", signature.bundle)] {
            let (path, digest) = (format!("/v2/web/{kind}/{}", Digest::of(&bytes)), Digest::of(&bytes));
            content.insert(path.clone(), (String::new(), bytes));
            objects.push((path, digest));
        }
    }
    let list = format!("/v2/web/manifests/{}", signature::referrers_tag(&digest));
    content.insert(list, (String::new(), index.expect("an index")));
    objects.truncate(2);
    (key("p256.key"), objects.try_into().expect("two"))
}

#[test]
fn a_swapped_object_is_a_signature_that_does_not_count() {
    let bytes = module(100);
    let (mut content, digest, _) = repository(&bytes);
    let (key, objects) = signed(&mut content, digest);
    let other = signature::PublicKey::from_pem(include_str!("data/ed25519.pub")).expect("keys");
    for (path, expected) in objects {
        let right = content[&path].1.clone();
        let of_same_length = right.iter().map(|byte| byte ^ 1).collect();
        for swapped in [of_same_length, b"short".to_vec(), [&*right, b" "].concat(), Vec::new()] {
            let found = Digest::of(&swapped);
            content.insert(path.clone(), (String::new(), swapped));
            let server = Server::start(Origin::Memory(content.clone()), |_, _| None);
            let reference = format!("oci://{}/web@{digest}", server.address).parse().expect("a reference");
            let pull = |keys| Puller::new(client()).keys(keys).pull(&reference);
            let error = pull(other.clone()).expect_err("no signature of this key");
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let reason = format!("the content of {expected} has the digest {found}");
            assert!(*error.kind() == ErrorKind::Signature && cause.contains(&reason), "{error}: {cause}");
            // The other signature is good.
            assert!(pull(vec![key.public_key().clone()]).expect("signed").bytes == bytes);
        }
        content.insert(path, (String::new(), right));
    }
}

#[test]
fn the_check_of_many_signatures_ends_within_the_time_of_one_operation() {
    let (mut content, digest, _) = repository(&module(100));
    let (key, _) = signed(&mut content, digest);
    let manifests: Vec<Vec<u8>> = (0..64).map(|i| format!("{i:>100}").into_bytes()).collect();
    let mut entries = Vec::new();
    for manifest in &manifests {
        let digest = Digest::of(manifest);
        entries.push(format!(
            r#"{{"mediaType": "x", "artifactType": "{BUNDLE}", "digest": "{digest}", "size": {}}}"#,
            manifest.len()
        ));
        content.insert(format!("/v2/web/manifests/{digest}"), (String::new(), manifest.clone()));
    }
    let index = format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, entries.join(","));
    content.insert(
        format!("/v2/web/manifests/{}", signature::referrers_tag(&digest)),
        (String::new(), index.into_bytes()),
    );
    let slow: Vec<String> =
        manifests.iter().map(|manifest| format!("/v2/web/manifests/{}", Digest::of(manifest))).collect();
    let is_slow = slow.clone();
    // Each response takes 100 ms, and all of them more than three times the limit.
    let server = Server::start(Origin::Memory(content), move |request, _| {
        is_slow.contains(&request.path).then_some(Fault::Drip(Duration::from_millis(1)))
    });
    let reference = format!("oci://{}/web@{digest}", server.address).parse().expect("a reference");
    let client = client().timeout(Duration::from_secs(2)).read_timeout(Duration::from_secs(10));
    let puller = Puller::new(client).keys(vec![key.public_key().clone()]);
    let error = puller.pull(&reference).expect_err("too slow");
    assert_eq!(error.kind(), &ErrorKind::TimedOut, "{error}");
    let asked = server.requests().iter().filter(|request| slow.contains(&request.path)).count();
    assert!((1..slow.len()).contains(&asked), "{asked}");
}

#[test]
fn threads_share_a_cache() {
    let bytes = Arc::new(module(LENGTH));
    let (content, digest, _) = repository(&bytes);
    let server = Server::start(Origin::Memory(content), |_, _| None);
    let directory = TempDir::new().expect("a directory");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(pull(&server, digest, client(), &directory).expect("pulled") == *bytes));
        }
    });
    assert_eq!(cached(&directory).len(), 2);
}

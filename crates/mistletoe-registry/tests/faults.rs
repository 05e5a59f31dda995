//! What a hostile or broken server does: each a clear error, in bounded time and memory, and no file that is not
//! complete.

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mistletoe_registry::signature::{self, BUNDLE, SigningKey};
use mistletoe_registry::{Artifact, Cache, Client, Digest, ErrorKind, Image, LOCK_FILE, Lock, Puller, Reference, Tags};
use support::server::{Content, Fault, Origin, Request, Server};
use support::{LENGTH, SOON, cached, client, faults_are_errors, is_blob, memory, module, of_blobs, pull, repository};
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
fn trailers_without_end_take_the_time_of_an_operation() {
    let bytes = module(1000);
    let (content, digest, _) = repository(&bytes);
    let of_all = |request: &Request, _: usize| (request.method == "GET").then_some(Fault::Trailers);
    for faults in [Box::new(of_blobs(Fault::Trailers)) as Faults, Box::new(of_all)] {
        let server = Server::start(Origin::Memory(content.clone()), faults);
        let directory = TempDir::new().expect("a directory");
        let begin = Instant::now();
        let error = pull(&server, digest, client().timeout(Duration::from_secs(2)), &directory).expect_err("no end");
        assert_eq!(error.kind(), &ErrorKind::TimedOut, "{error}");
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        assert!(cached(&directory).iter().all(|length| *length != 1000));
    }
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

/// What a registry responds to a push: to the question for a blob, to the start of an upload, to the upload, and to the
/// manifest.
fn stored(request: &Request) -> Fault {
    let reply = |status, headers| Fault::Reply(status, headers, Vec::new());
    match (&*request.method, is_blob(request)) {
        ("HEAD", _) => reply(404, Vec::new()),
        ("POST", _) => reply(202, vec![("Location", "/v2/web/blobs/uploads/1?state=x".to_owned())]),
        _ => reply(201, Vec::new()),
    }
}

#[test]
fn a_fault_of_a_push_is_an_error() {
    let bytes = module(1000);
    let artifact = Artifact::new(&bytes, &BTreeMap::new(), 0);
    let push = |faults: Faults| {
        let server = Server::start(Origin::Memory(Content::new()), faults);
        let image = Image::parse(&format!("oci://{}/web:1", server.address)).expect("an image");
        let begin = Instant::now();
        let pushed = Puller::new(client()).push(&image, &artifact).map(drop);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        (pushed, server.requests())
    };
    let (pushed, requests) = push(Box::new(|request, _| Some(stored(request))));
    pushed.expect("pushed");
    let sent: Vec<_> = requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    let blob = |bytes: &[u8]| format!("/v2/web/blobs/{}", Digest::of(bytes));
    let upload = |bytes: &[u8]| format!("PUT /v2/web/blobs/uploads/1?state=x&digest={}", Digest::of(bytes));
    let of_blob =
        |bytes: &[u8]| [format!("HEAD {}", blob(bytes)), "POST /v2/web/blobs/uploads/".to_owned(), upload(bytes)];
    let expected = [&of_blob(&bytes)[..], &of_blob(&artifact.config), &["PUT /v2/web/manifests/1".to_owned()]].concat();
    assert_eq!(sent, expected);

    let reply = |status, body: &str| Fault::Reply(status, Vec::new(), body.as_bytes().to_vec());
    let to = |status, location: &str| Fault::Reply(status, vec![("Location", location.to_owned())], Vec::new());
    let after = |seconds: &str| Fault::Reply(429, vec![("Retry-After", seconds.to_owned())], Vec::new());
    let status = |status| ErrorKind::Status { status, message: None };
    let denied = r#"{"errors":[{"code":"DENIED","message":"no"}]}"#;
    let invalid = r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#;
    let message = Some("DIGEST_INVALID".to_owned());
    let wait = Duration::from_secs(61);
    let no_location = ErrorKind::Protocol { problem: "the response has no location".to_owned() };
    let not_a_url = ErrorKind::Redirect { reason: "its location is not a URL" };
    // The request, the fault, how the push ends, and how often the request is sent.
    let cases: Vec<(&str, Fault, ErrorKind, usize)> = vec![
        ("HEAD", Fault::Close, ErrorKind::Connection, 3),
        ("HEAD", reply(401, ""), ErrorKind::Unauthorized, 1),
        ("HEAD", reply(500, ""), status(500), 3),
        ("POST", Fault::Close, ErrorKind::Connection, 3),
        ("POST", Fault::Garbage, ErrorKind::Protocol { problem: "the response is not HTTP".to_owned() }, 1),
        ("POST", reply(401, ""), ErrorKind::Unauthorized, 1),
        ("POST", reply(403, denied), ErrorKind::Unauthorized, 1),
        ("POST", reply(404, ""), ErrorKind::NotFound, 1),
        ("POST", reply(201, ""), status(201), 1),
        ("POST", reply(202, ""), no_location, 1),
        ("POST", to(202, "ftp://127.0.0.1/x"), not_a_url.clone(), 1),
        ("POST", to(202, "/x y"), not_a_url, 1),
        ("POST", to(202, "http://registry.invalid/x"), ErrorKind::PlainHttp, 1),
        ("POST", to(307, "/v2/"), ErrorKind::Redirect { reason: "only downloads are redirected" }, 1),
        ("POST", after("61"), ErrorKind::RetryAfter { wait }, 1),
        ("PUT", Fault::Close, ErrorKind::Connection, 3),
        ("PUT", Fault::EndlessHead, ErrorKind::Protocol { problem: "the response is not HTTP".to_owned() }, 1),
        ("PUT", reply(401, ""), ErrorKind::Unauthorized, 1),
        ("PUT", reply(400, invalid), ErrorKind::Status { status: 400, message }, 1),
        ("PUT", reply(413, ""), status(413), 1),
        ("PUT", reply(503, ""), status(503), 3),
        ("PUT", reply(204, ""), status(204), 1),
        ("PUT", to(307, "/v2/"), ErrorKind::Redirect { reason: "only downloads are redirected" }, 1),
    ];
    for (method, fault, kind, count) in cases {
        // Once of a blob, and once of the manifest.
        for of_blob in [true, false] {
            if !of_blob && method != "PUT" {
                continue;
            }
            let (fails, once) = (method.to_owned(), fault.clone());
            let (pushed, requests) = push(Box::new(move |request, _| {
                let is_hit = request.method == fails && is_blob(request) == of_blob;
                Some(if is_hit { once.clone() } else { stored(request) })
            }));
            let error = pushed.expect_err(method);
            assert_eq!(error.kind(), &kind, "{method} {of_blob} {fault:?}: {error}");
            let is_hit = |request: &&Request| request.method == method && is_blob(request) == of_blob;
            assert_eq!(requests.iter().filter(is_hit).count(), count, "{method} {of_blob} {fault:?}");
            // The manifest comes last: it refers to the blobs.
            let has_manifest = requests.iter().any(|request| !is_blob(request));
            assert_eq!(has_manifest, !of_blob, "{method} {fault:?}");
        }
    }
    // What passes is no error.
    for fault in [after("0"), reply(502, ""), Fault::Close] {
        for method in ["HEAD", "POST", "PUT"] {
            let (fails, once) = (method.to_owned(), fault.clone());
            let (pushed, _) = push(Box::new(move |request, earlier| {
                Some(if request.method == fails && earlier == 0 { once.clone() } else { stored(request) })
            }));
            pushed.unwrap_or_else(|error| panic!("{method} {fault:?}: {error}"));
        }
    }
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
fn an_identity_token_is_exchanged_for_a_token() {
    let bytes = module(100);
    let (content, digest, _) = repository(&bytes);
    let tokens = Server::start(Origin::Memory(Content::new()), |request, _| {
        let is_form = request.header("content-type") == Some("application/x-www-form-urlencoded");
        let form = String::from_utf8_lossy(&request.body);
        let expected = "service=s&scope=repository%3Aweb%3Apull&grant_type=refresh_token&client_id=mistctl&\
                        refresh_token=id%2Ftoken%3D";
        let is_good = request.method == "POST" && request.path == "/token" && is_form && form == expected;
        let (status, body) = if is_good { (200, r#"{"access_token":"t0ken"}"#) } else { (400, "") };
        Some(Fault::Reply(status, Vec::new(), body.as_bytes().to_vec()))
    });
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", tokens.address);
    let server = Server::start(Origin::Memory(content), move |request, _| match request.header("authorization") {
        Some("Bearer t0ken") => None,
        _ => Some(Fault::Reply(401, vec![("WWW-Authenticate", challenge.clone())], Vec::new())),
    });
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("config.json");
    for (token, is_taken) in [("id/token=", true), ("other", false)] {
        let directory = TempDir::new().expect("a directory");
        fs::write(&file, format!(r#"{{"auths": {{"{}": {{"identitytoken": "{token}"}}}}}}"#, server.address))
            .expect("written");
        let with = client().credentials(mistletoe_registry::Credentials::from_file(&file));
        let pulled = pull(&server, digest, with, &directory).map_err(|error| error.kind().clone());
        assert_eq!(pulled, if is_taken { Ok(bytes.clone()) } else { Err(ErrorKind::Unauthorized) }, "{token}");
    }
    // It goes to the token service alone.
    assert!(server.requests().iter().all(|request| !format!("{request:?}").contains("id/token")));
    assert!(tokens.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_signature_that_the_registry_lists_needs_no_list_of_its_own() {
    let (content, digest, _) = repository(&module(100));
    let key = signed(&mut content.clone(), digest).0;
    let list = signature::referrers_tag(&digest);
    for is_listed in [true, false] {
        let server = Server::start(Origin::Memory(content.clone()), move |request, _| {
            let fields = match is_listed && request.path.contains("/manifests/") {
                true => vec![("OCI-Subject", digest.to_string())],
                false => Vec::new(),
            };
            match stored(request) {
                _ if request.method == "GET" => None,
                Fault::Reply(201, _, body) => Some(Fault::Reply(201, fields, body)),
                fault => Some(fault),
            }
        });
        let image = Image::parse(&format!("oci://{}/web@{digest}", server.address)).expect("an image");
        assert_eq!(Puller::new(client()).sign(&image, &key).expect("signed"), image);
        let requests = server.requests();
        let puts = requests.iter().filter(|request| request.method == "PUT" && request.path.contains("/manifests/"));
        let (signatures, lists): (Vec<_>, Vec<_>) = puts.partition(|request| !request.path.ends_with(&list));
        let subject = format!("\"subject\":{{\"digest\":\"{digest}\"");
        assert!(String::from_utf8_lossy(&signatures[0].body).contains(&subject));
        assert_eq!((signatures.len(), lists.len()), (1, usize::from(!is_listed)));
        assert_eq!(requests.iter().any(|request| request.path.ends_with(&list)), !is_listed);
    }
}

#[test]
fn a_tag_is_signed_only_if_its_digest_is_known() {
    let (content, digest, _) = repository(&module(100));
    let key = signed(&mut content.clone(), digest).0;
    let server = Server::start(Origin::Memory(content), |request, _| {
        (request.method != "GET" && request.path != "/v2/web/manifests/1").then(|| stored(request))
    });
    let tag = Image::parse(&format!("oci://{}/web:1", server.address)).expect("an image");
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join(LOCK_FILE);
    let sign = |tags| Puller::new(client()).tags(tags).sign(&tag, &key).map_err(|error| error.kind().clone());
    let locked = || Tags::Lock { file: file.clone(), is_frozen: true };
    let pinned = tag.with_digest(digest);
    assert_eq!(sign(Tags::Refuse), Err(ErrorKind::NoDigest { pinned: pinned.to_string() }));
    assert_eq!(sign(locked()), Err(ErrorKind::NotLocked));
    let is_read = |request: &Request| matches!(&*request.method, "HEAD" | "GET");
    assert!(server.requests().iter().all(is_read), "something was stored");
    assert_eq!(sign(Tags::Allow), Ok(pinned.clone()));
    let mut lock = Lock::new(&file);
    lock.insert(&Reference::Image(tag.clone()), digest);
    lock.write().expect("written");
    assert_eq!(sign(locked()), Ok(pinned));
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
fn a_newer_record_of_the_lock_file_stays() {
    let (content, digest, _) = repository(&module(100));
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join(LOCK_FILE);
    let newer = Digest::of(b"newer");
    let updated = Arc::new(Mutex::new(None));
    let faults = {
        let (file, updated) = (file.clone(), updated.clone());
        move |request: &Request, _: usize| {
            let updated: Option<Reference> = updated.lock().expect("no panic").clone();
            if let Some(updated) = updated.filter(|_| is_blob(request)) {
                let mut lock = Lock::new(&file);
                lock.insert(&updated, newer);
                lock.write().expect("written");
            }
            None
        }
    };
    let server = Server::start(Origin::Memory(content), faults);
    let reference: Reference = format!("oci://{}/web:1", server.address).parse().expect("a reference");
    let puller = Puller::new(client()).tags(Tags::Lock { file: file.clone(), is_frozen: false });
    for (update, recorded) in [(None, digest), (Some(reference.clone()), newer)] {
        Lock::new(&file).write().expect("written");
        *updated.lock().expect("no panic") = update;
        let module = puller.pull(&reference).expect("pulled");
        // What was asked for before.
        assert_eq!(module.reference.digest(), Some(digest));
        let lock = Lock::read(&file).expect("read").expect("it exists");
        assert_eq!(lock.get(&reference), Some(recorded));
    }
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
fn a_signature_that_is_added_counts_for_what_may_be_unsigned() {
    let bytes = module(100);
    let (mut content, digest, _) = repository(&bytes);
    signed(&mut content, digest);
    // The list of signatures, of which the first is by another key than the policy's.
    let path = format!("/v2/web/manifests/{}", signature::referrers_tag(&digest));
    let (_, list) = content.remove(&path).expect("a list");
    let mut wrong: serde_json::Value = serde_json::from_slice(&list).expect("JSON");
    wrong["manifests"].as_array_mut().expect("a list").truncate(1);
    let wrong = wrong.to_string().into_bytes();
    let asked_for = path.clone();
    let state = Arc::new(Mutex::new(None));
    let of_list = state.clone();
    let server = Server::start(Origin::Memory(content), move |request, _| {
        let state: Option<Fault> = of_list.lock().expect("no panic").clone();
        let state = state.filter(|_| request.path == path);
        // The body of a response that says that there is nothing would not be waited for.
        if matches!(state, Some(Fault::Stall)) {
            std::thread::sleep(Duration::from_secs(1));
        }
        state
    });
    let set = |fault| *state.lock().expect("no panic") = fault;
    let policy = "[default]\nkeys = ['p256.pub']\nrequired = false";
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let policy = signature::Policy::parse(policy, &data).expect("a policy");
    let directory = TempDir::new().expect("a directory");
    let cache = Cache::open(directory.path().join("cache")).expect("a cache");
    let puller_of = |client: Client| Puller::new(client).cache(cache.clone()).policy(policy.clone());
    let puller = puller_of(client());
    let reference: Reference = format!("oci://{}/web@{digest}", server.address).parse().expect("a reference");
    let pull = || puller.pull(&reference).map(|module| module.bytes).map_err(|error| error.kind().clone());
    assert_eq!(pull().as_ref(), Ok(&bytes));
    // Of a registry that cannot be asked now, there is nothing new. It is asked once.
    let reply = |status, wait: &str| Fault::Reply(status, vec![("Retry-After", wait.to_owned())], Vec::new());
    let faults = [408, 429, 500, 503, 504].map(|status| reply(status, "1"));
    for fault in faults.into_iter().chain([Fault::Close, Fault::Stall, reply(503, "61")]) {
        set(Some(fault.clone()));
        let before = server.requests().len();
        assert_eq!(pull().as_ref(), Ok(&bytes), "{fault:?}");
        let asked = server.requests().split_off(before).iter().filter(|request| request.path == asked_for).count();
        assert_eq!(asked, 1, "{fault:?}");
    }
    // Nor of one that is not there, or whose encryption fails.
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("an address");
    let garbage = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let no_tls = garbage.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in garbage.incoming().map_while(Result::ok) {
            // After the client's first message, so that the connection does not end with it unread.
            let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(&[b'x'; 64]));
        }
    });
    for (client, address) in [(client(), gone), (client().ca(support::tls::ca()), no_tls)] {
        let (puller, begin) = (puller_of(client.attempts(5, SOON)), Instant::now());
        let reference = format!("oci://{address}/web@{digest}").parse().expect("a reference");
        assert!(puller.pull(&reference).expect("unsigned before").bytes == bytes);
        assert!(begin.elapsed() < SOON / 2, "{:?}", begin.elapsed());
    }
    // An answer that is another one counts.
    set(Some(Fault::Reply(403, Vec::new(), Vec::new())));
    assert_eq!(pull(), Err(ErrorKind::Unauthorized));
    set(Some(Fault::Reply(200, Vec::new(), wrong)));
    assert_eq!(pull(), Err(ErrorKind::Signature));
    set(Some(Fault::Reply(200, Vec::new(), list)));
    assert_eq!(pull().as_ref(), Ok(&bytes));
    // A good one is kept.
    let before = server.requests().len();
    assert_eq!((pull().as_ref(), server.requests().len()), (Ok(&bytes), before));
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

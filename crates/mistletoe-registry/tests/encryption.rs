//! What an encrypted connection is for: nothing that is sent over one goes on in plain text, and credentials stay with
//! their host.

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::Command;

use mistletoe_registry::{Artifact, Client, Credentials, Digest, Error, ErrorKind, Image, Puller};
use support::proxy::VARIABLES;
use support::server::{Content, Fault, Origin, Request, Server};
use support::{client, is_blob, memory, module, pull, repository, tls};
use tempfile::TempDir;

const PASSWORD: &str = "Basic dXNlcjpzZWNyZXQ=";

fn encrypted() -> Client {
    client().ca(tls::ca())
}

/// Returns whether the environment names no proxy. If it does, this runs a test in a process without one.
fn without_proxy(test: &str) -> bool {
    if VARIABLES.iter().all(|name| env::var_os(name).is_none()) {
        return true;
    }
    let mut command = Command::new(env::current_exe().expect("this program"));
    for name in VARIABLES {
        command.env_remove(name);
    }
    assert!(command.args(["--exact", test]).status().expect("it starts").success());
    false
}

/// A client with a password for a server.
fn with_password(server: &Server, directory: &TempDir) -> Client {
    let file = directory.path().join("config.json");
    let text = format!(r#"{{"auths": {{"{}": {{"auth": "{}"}}}}}}"#, server.address, &PASSWORD[6..]);
    fs::write(&file, text).expect("written");
    encrypted().credentials(Credentials::from_file(file))
}

/// Asks for the password, and then responds with this.
fn asked_for(request: &Request, then: Option<Fault>) -> Option<Fault> {
    match request.header("authorization") {
        Some(PASSWORD) => then,
        _ => Some(Fault::Reply(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())], Vec::new())),
    }
}

fn to(status: u16, location: String) -> Fault {
    Fault::Reply(status, vec![("Location", location)], Vec::new())
}

/// A server that takes whatever is stored in it.
fn storage(start: impl Fn(Origin, fn(&Request, usize) -> Option<Fault>) -> Server) -> Server {
    start(Origin::Memory(Content::new()), |request, _| {
        (request.method == "PUT").then(|| Fault::Reply(201, Vec::new(), Vec::new()))
    })
}

/// Pushes to a server whose uploads go to another one.
fn push_to(other: &str, client: impl Fn(&Server) -> Client) -> (Result<Image, Error>, Server) {
    let location = format!("{other}/upload");
    let server = tls::start(Origin::Memory(Content::new()), move |request, _| {
        let then = match &*request.method {
            "POST" => Some(to(202, location.clone())),
            "PUT" => Some(Fault::Reply(201, Vec::new(), Vec::new())),
            _ => None,
        };
        asked_for(request, then)
    });
    let image = Image::parse(&format!("oci://{}/web:1", server.address)).expect("an image");
    let bytes = module(1000);
    let pushed = Puller::new(client(&server)).push(&image, &Artifact::new(&bytes, &BTreeMap::new(), 0));
    (pushed, server)
}

#[test]
fn an_upload_does_not_leave_an_encrypted_connection() {
    let storage = storage(Server::start);
    let directory = TempDir::new().expect("a directory");
    let (pushed, _) = push_to(&format!("http://{}", storage.address), |server| with_password(server, &directory));
    let error = pushed.expect_err("plain text");
    assert_eq!(error.kind(), &ErrorKind::Redirect { reason: "it leads from HTTPS to HTTP" }, "{error}");
    assert_eq!(storage.requests().len(), 0);
}

#[test]
fn an_upload_to_another_host_is_without_credentials() {
    let storage = storage(tls::start);
    let directory = TempDir::new().expect("a directory");
    let location = format!("https://{}", storage.address);
    let (pushed, server) = push_to(&location, |server| with_password(server, &directory));
    pushed.expect("pushed");
    let requests = storage.requests();
    // The module and its configuration.
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.header("authorization").is_none()), "{requests:?}");
    assert!(requests.iter().all(|request| request.path.starts_with("/upload?digest=sha256:")), "{requests:?}");
    assert!(server.requests().iter().any(|request| request.header("authorization") == Some(PASSWORD)));
}

#[test]
fn a_download_does_not_leave_an_encrypted_connection() {
    let bytes = module(100);
    let (content, digest, layer) = repository(&bytes);
    let files = || Origin::Memory([("/storage".to_owned(), (String::new(), bytes.clone()))].into());
    let (plain, secure) = (Server::start(files(), |_, _| None), tls::start(files(), |_, _| None));
    let from = |location: String| {
        let server = tls::start(Origin::Memory(content.clone()), move |request, _| {
            asked_for(request, is_blob(request).then(|| to(307, location.clone())))
        });
        let directory = TempDir::new().expect("a directory");
        pull(&server, digest, with_password(&server, &directory), &directory)
    };
    let error = from(format!("http://{}/storage", plain.address)).expect_err("plain text");
    assert_eq!(error.kind(), &ErrorKind::Redirect { reason: "it leads from HTTPS to HTTP" }, "{error}");
    assert!(error.subject().ends_with(&format!("/v2/web/blobs/{layer}")), "{error}");
    assert_eq!(plain.requests().len(), 0);
    assert!(from(format!("https://{}/storage", secure.address)).expect("redirected") == bytes);
    let requests = secure.requests();
    assert!(requests.len() == 1 && requests[0].header("authorization").is_none(), "{requests:?}");
}

#[test]
fn a_url_is_pulled_by_its_digest() {
    // `0.0.0.0` would be asked for from a proxy.
    if !without_proxy("a_url_is_pulled_by_its_digest") {
        return;
    }
    let bytes = module(1000);
    let server = tls::start(memory(&bytes), |_, _| None);
    let pull = |host: &str, digest: Digest, client: Client| {
        let text = format!("https://{host}:{}/file.wasm#sha256={}", server.address.port(), digest.hex());
        Puller::new(client).pull(&text.parse().expect("a URL")).map(|module| module.bytes)
    };
    let digest = Digest::of(&bytes);
    for host in ["localhost", "127.0.0.1"] {
        assert!(pull(host, digest, encrypted()).expect(host) == bytes);
    }
    let error = pull("localhost", Digest::of(b""), encrypted()).expect_err("another digest");
    assert_eq!(error.kind(), &ErrorKind::Digest { expected: Digest::of(b""), found: digest });
    // A name that the certificate does not have, and a certificate that nobody vouches for.
    for (host, client) in [("0.0.0.0", encrypted()), ("localhost", client())] {
        assert_eq!(pull(host, digest, client).expect_err(host).kind(), &ErrorKind::Tls, "{host}");
    }
}

#[test]
fn a_password_does_not_go_to_a_token_service_in_plain_text() {
    let (content, digest, _) = repository(&module(100));
    let tokens = Server::start(Origin::Memory(Content::new()), |_, _| None);
    let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.address);
    let server = tls::start(Origin::Memory(content), move |_, _| {
        Some(Fault::Reply(401, vec![("WWW-Authenticate", challenge.clone())], Vec::new()))
    });
    let directory = TempDir::new().expect("a directory");
    let error = pull(&server, digest, with_password(&server, &directory), &directory).expect_err("plain text");
    let problem = "the token service is not encrypted".to_owned();
    assert_eq!(error.kind(), &ErrorKind::Protocol { problem }, "{error}");
    assert_eq!(tokens.requests().len(), 0);
}

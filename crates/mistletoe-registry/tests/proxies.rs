//! Proxies, which the environment names. Each test pulls in a process of its own, with an environment of its own.

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use std::env;
use std::error::Error as _;
use std::process::{Command, Stdio};

use mistletoe_registry::{Digest, Puller, Reference};
use support::proxy::{Kind, Proxy, VARIABLES};
use support::server::{Origin, Server};
use support::{client, module, repository, tls};

/// What makes a process one that pulls: the reference.
const REFERENCE: &str = "MISTLETOE_TEST_REFERENCE";

/// Pulls the reference in the environment, and prints the length or the error.
#[test]
fn child() {
    let Ok(text) = env::var(REFERENCE) else { return };
    let (scheme, text) = text.split_once(' ').expect("a scheme and a reference");
    let client = client().ca(tls::ca()).plain_http(scheme == "http");
    let reference: Reference = text.parse().expect("a reference");
    match Puller::new(client).pull(&reference) {
        Ok(module) => println!("\npulled {} bytes", module.bytes.len()),
        Err(error) => println!("\n{error}: {}", error.source().map(ToString::to_string).unwrap_or_default()),
    }
}

/// Pulls `web` from a host in a process with these variables, and returns what it printed.
fn pull(scheme: &str, host: &str, digest: Digest, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env::current_exe().expect("this program"));
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.args(["--exact", "child", "--nocapture"]).envs(variables.iter().copied()).stderr(Stdio::inherit());
    command.env(REFERENCE, format!("{scheme} oci://{host}/web@{digest}"));
    let output = command.output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let line = text.lines().find(|line| line.starts_with("pulled ") || line.contains("://") || line.contains("PROXY"));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// Returns a name of a server on this machine that is not known to be one.
fn direct(server: &Server) -> String {
    format!("0.0.0.0:{}", server.address.port())
}

#[test]
fn a_pull_goes_through_the_proxy() {
    let (content, digest, _) = repository(&module(1000));
    let plain = Server::start(Origin::Memory(content.clone()), |_, _| None);
    let secure = tls::start(Origin::Memory(content), |_, _| None);
    for (scheme, host, kind, variable, proxy_scheme, target) in [
        ("https", "registry.example", Kind::Http, "HTTPS_PROXY", "http://", "registry.example:443"),
        ("https", "registry.example:5000", Kind::Http, "all_proxy", "http://", "registry.example:5000"),
        ("https", "registry.example", Kind::Http, "HTTP_PROXY", "", "registry.example:443"),
        ("http", "registry.example", Kind::Http, "ALL_PROXY", "http://", "registry.example:80"),
        ("http", "192.0.2.1:5000", Kind::Http, "http_proxy", "http://", "192.0.2.1:5000"),
        ("https", "registry.example", Kind::Https, "HTTPS_PROXY", "https://", "registry.example:443"),
        ("http", "registry.example", Kind::Https, "ALL_PROXY", "https://", "registry.example:80"),
        ("https", "registry.example", Kind::Socks, "ALL_PROXY", "socks5h://", "registry.example:443"),
        ("http", "192.0.2.1", Kind::Socks, "HTTPS_PROXY", "socks5://", "192.0.2.1:80"),
    ] {
        let server = if scheme == "http" { &plain } else { &secure };
        let proxy = Proxy::start(kind, server.address);
        let value = format!("{proxy_scheme}{}", proxy.address);
        // A later variable does not count.
        let variables = [(variable, &*value), ("http_proxy", "http://127.0.0.1:1")];
        let variables = if variable == "http_proxy" { &variables[..1] } else { &variables };
        assert_eq!(pull(scheme, host, digest, variables), "pulled 1000 bytes", "{variable}={value}");
        // The manifest and the module.
        assert_eq!(proxy.targets(), [target, target], "{variable}={value}");
    }
}

#[test]
fn a_proxy_gets_the_password_in_its_url() {
    let (content, digest, _) = repository(&module(1000));
    let server = tls::start(Origin::Memory(content), |_, _| None);
    let proxy = Proxy::start(Kind::Http, server.address);
    let value = format!("http://user:secret@{}", proxy.address);
    assert_eq!(pull("https", "registry.example", digest, &[("HTTPS_PROXY", &value)]), "pulled 1000 bytes");
    // "user:secret" in base64.
    assert_eq!(proxy.targets()[0], "registry.example:443 Basic dXNlcjpzZWNyZXQ=");
    assert!(server.requests().iter().all(|request| request.header("proxy-authorization").is_none()));
}

#[test]
fn some_hosts_have_no_proxy() {
    let (content, digest, _) = repository(&module(1000));
    let server = Server::start(Origin::Memory(content), |_, _| None);
    let proxy = Proxy::start(Kind::Http, server.address);
    let value = format!("http://{}", proxy.address);
    let loopback = server.address.to_string();
    assert_eq!(pull("http", &loopback, digest, &[("ALL_PROXY", &value)]), "pulled 1000 bytes");
    let host = direct(&server);
    for exception in ["0.0.0.0", "registry.example,0.0.0.0", "*", ".0.0"] {
        // Also one that could not be used.
        for proxy in [&*value, "ftp://127.0.0.1"] {
            let variables = [("ALL_PROXY", proxy), ("NO_PROXY", exception)];
            assert_eq!(pull("http", &host, digest, &variables), "pulled 1000 bytes", "{proxy}: {exception}");
        }
    }
    let unusable = [("ALL_PROXY", "ftp://127.0.0.1"), ("NO_PROXY", "registry.example")];
    let found = pull("http", &host, digest, &unusable);
    assert!(found.contains("ALL_PROXY: it is not the URL of a proxy that is supported"), "{found}");
    assert_eq!(proxy.targets(), [""; 0]);
    let other = [("ALL_PROXY", &*value), ("NO_PROXY", "registry.example")];
    assert_eq!(pull("http", &host, digest, &other), "pulled 1000 bytes");
    assert_eq!(proxy.targets(), [&*host, &*host]);
}

#[test]
fn without_its_proxy_nothing_is_pulled() {
    let (content, digest, _) = repository(&module(1000));
    let server = Server::start(Origin::Memory(content), |_, _| None);
    let proxy = Proxy::start(Kind::Refusing, server.address);
    let refusing = format!("http://{}", proxy.address);
    for (variable, value, problem) in [
        ("HTTPS_PROXY", &*refusing, "the connection failed: CONNECT proxy failed"),
        ("ALL_PROXY", "http://127.0.0.1:1", "the connection failed: io: Connection refused"),
        ("ALL_PROXY", "socks5h://127.0.0.1:1", "the connection failed: io: Connection refused"),
        ("ALL_PROXY", "ftp://user:secret@127.0.0.1", "ALL_PROXY: it is not the URL of a proxy that is supported"),
        ("http_proxy", "http://", "http_proxy: it is not the URL of a proxy that is supported"),
    ] {
        let found = pull("http", &direct(&server), digest, &[(variable, value)]);
        assert!(found.contains(problem) && !found.contains("secret"), "{variable}={value}: {found}");
    }
    assert_eq!(server.requests().len(), 0);
    // With any of these, it would have been found.
    assert_eq!(pull("http", &direct(&server), digest, &[]), "pulled 1000 bytes");
}

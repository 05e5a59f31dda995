//! Credentials, where Docker and Podman keep them.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mistletoe_store::open_file;
use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::reference::Repository;

/// Maximum length of a file with credentials, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Maximum length of a helper's output, in bytes.
const MAX_OUTPUT: u64 = 64 << 10;
/// How long a helper may take. It may ask the user.
const HELPER: Duration = Duration::from_secs(60);
/// The keys of Docker Hub. Docker's is the URL of an interface that no longer exists; the others are names of the host.
const HUB: [&str; 4] = ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"];
/// Interval at which a helper that has closed its output is checked for its end.
const INTERVAL: Duration = Duration::from_millis(5);

/// Where credentials are looked up, when a registry asks for them.
///
/// The files have the format of Docker's `config.json` and of `containers-auth.json(5)`: `credHelpers` and `credsStore`
/// name programs, `docker-credential-NAME`, and `auths` has passwords by host or repository.
///
/// ```no_run
/// use mistletoe_registry::{Client, Credentials};
///
/// let client = Client::new().credentials(Credentials::from_file("config.json"));
/// ```
#[derive(Clone, Debug)]
pub struct Credentials {
    files: Vec<PathBuf>,
    /// Whether the files need not exist.
    are_optional: bool,
    helper_timeout: Duration,
}

/// What a registry gets.
#[derive(PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// A refresh token of OAuth 2.0.
    IdentityToken(String),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Credentials {
    /// Returns no credentials.
    pub fn none() -> Self {
        Self { files: Vec::new(), are_optional: true, helper_timeout: HELPER }
    }

    /// Returns those of a file.
    pub fn from_file(file: impl Into<PathBuf>) -> Self {
        Self { files: vec![file.into()], are_optional: false, ..Self::none() }
    }

    /// Returns the user's: those of the file that `REGISTRY_AUTH_FILE` names, or else those of
    /// `$XDG_RUNTIME_DIR/containers/auth.json` and of `config.json` in the directory that `DOCKER_CONFIG` names, which
    /// is by default `~/.docker`.
    pub fn from_env() -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = variable("REGISTRY_AUTH_FILE") {
            return Self::from_file(file);
        }
        let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        let docker = variable("DOCKER_CONFIG").or_else(|| variable(home).map(|home| home.join(".docker")));
        let podman = variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json"));
        let docker = docker.map(|directory| directory.join("config.json"));
        Self { files: podman.into_iter().chain(docker).collect(), ..Self::none() }
    }

    /// Returns the credentials for a repository, if there are any.
    pub(super) fn get(&self, repository: &Repository) -> Result<Option<Credential>> {
        for file in &self.files {
            let Some(config) = self.read(file)? else { continue };
            let host = repository.host().to_string();
            if let Some((helper, server)) = config.helper(&host)
                && let Some(credential) = ask(helper, server, self.helper_timeout)?
            {
                return Ok(Some(credential));
            }
            for auth in keys(&host).iter().filter_map(|key| config.auth(key, repository.path())) {
                if let Some(credential) = auth.credential(file)? {
                    return Ok(Some(credential));
                }
            }
        }
        Ok(None)
    }

    fn read(&self, file: &Path) -> Result<Option<Config>> {
        let failed = |problem: String| Error::new(file.display(), ErrorKind::Credentials { problem });
        let mut text = Vec::new();
        match open_file(file).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.are_optional => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
            Ok(_) if text.len() as u64 > MAX_FILE => return Err(failed("the file is longer than 1 MiB".to_owned())),
            Ok(_) => {}
        }
        // The message of the error would show a part of the text.
        let not_read = |error: serde_json::Error| {
            failed(format!("line {}, column {}: it is not a Docker configuration", error.line(), error.column()))
        };
        serde_json::from_slice(&text).map(Some).map_err(not_read)
    }
}

/// Returns what a host is called in a configuration, the preferred key first.
fn keys(host: &str) -> Vec<&str> {
    if HUB.contains(&host) { HUB.to_vec() } else { vec![host] }
}

impl Config {
    /// Returns the helper for a host, and what to ask it for.
    fn helper<'a>(&'a self, host: &'a str) -> Option<(&'a str, &'a str)> {
        let keys = keys(host);
        let helper = keys.iter().find_map(|key| Some((self.cred_helpers.get(*key)?.as_str(), *key)));
        helper.or_else(|| Some((self.creds_store.as_deref()?, *keys.first()?)))
    }

    /// Returns the entry for a repository, or else for the namespace that contains it, or else for its host.
    fn auth(&self, host: &str, path: &str) -> Option<&Auth> {
        let mut key = format!("{host}/{path}");
        loop {
            if let Some(auth) = self.auths.get(&key) {
                return Some(auth);
            }
            match key.rfind('/') {
                Some(end) => key.truncate(end),
                None => break,
            }
        }
        // In older files the key is a URL, of whose path only the host counts.
        let is_host = |key: &str| {
            let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
            rest.and_then(|rest| rest.split('/').next()) == Some(host)
        };
        self.auths.iter().find(|(key, _)| is_host(key)).map(|(_, auth)| auth)
    }
}

impl Auth {
    fn credential(&self, file: &Path) -> Result<Option<Credential>> {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = set(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        let Some(auth) = set(&self.auth) else { return Ok(None) };
        let text = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.split_once(':')) {
            Some((user, password)) => {
                let password = password.trim_end_matches('\0').to_owned();
                Ok(Some(Credential::Password { user: user.to_owned(), password }))
            }
            None => {
                let problem = "an entry of `auths` is not the base64 of `USER:PASSWORD`".to_owned();
                Err(Error::new(file.display(), ErrorKind::Credentials { problem }))
            }
        }
    }
}

/// Asks a credential helper, a program with the protocol of `docker-credential-helpers`.
fn ask(helper: &str, server: &str, timeout: Duration) -> Result<Option<Credential>> {
    let program = format!("docker-credential-{helper}");
    let failed = |problem: String| Error::new(&program, ErrorKind::Credentials { problem });
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if helper.is_empty() || helper.len() > 100 || !helper.bytes().all(is_name) {
        let problem = "the name of a helper has letters, digits, `-`, `_` and `.`".to_owned();
        return Err(Error::new("credentials", ErrorKind::Credentials { problem }));
    }
    let (status, output) = run(&program, server, timeout).map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        // The protocol has no other sign of it than this text.
        if String::from_utf8_lossy(&output).contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(format!("it failed ({status})")));
    }
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|_| failed("its output is not that of a helper".to_owned()))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credential::IdentityToken(answer.secret),
        _ => Credential::Password { user: answer.username, password: answer.secret },
    }))
}

/// Runs `PROGRAM get` within a time, and returns its status and output.
fn run(program: &str, input: &str, timeout: Duration) -> io::Result<(ExitStatus, Vec<u8>)> {
    let end = Instant::now() + timeout;
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {} s", timeout.as_secs()));
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Killed(command.spawn()?);
    if let Some(mut stdin) = child.0.stdin.take() {
        // Less than a pipe holds. A helper that reads nothing says so by its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stdout = child.0.stdout.take();
    let (sender, receiver) = mpsc::channel();
    // The thread ends with the pipe, even if nobody waits for it any more.
    thread::Builder::new().spawn(move || {
        let mut output = Vec::new();
        let read = stdout.map(|stdout| stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output));
        let _ = sender.send(read.unwrap_or(Ok(0)).map(|_| output));
    })?;
    let output = receiver.recv_timeout(timeout).map_err(|_| late())??;
    if output.len() as u64 > MAX_OUTPUT {
        return Err(io::Error::other("its output is longer than 64 KiB"));
    }
    loop {
        match child.0.try_wait()? {
            Some(status) => return Ok((status, output)),
            None if Instant::now() >= end => return Err(late()),
            None => thread::sleep(INTERVAL),
        }
    }
}

/// A process that does not outlive its use.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // A process that has ended is not an error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Image;

    fn repository(text: &str) -> Repository {
        Image::parse(text).expect("an image").repository().clone()
    }

    fn config(text: &str) -> Config {
        serde_json::from_str(text).expect("a configuration")
    }

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn the_most_specific_entry_counts() {
        // The texts are base64 of a:1, b:2:3, c:4 and d:5.
        let config = config(
            r#"{"auths": {"h:1/x/y": {"auth": "YToxCg=="}, "h:1/x": {"auth": "YjoyOjM="}, "h:1": {"auth": "Yzo0"},
                "https://old.example/v1/": {"auth": "ZDo1"}, "bad": {"auth": "YQ=="}, "empty": {},
                "token": {"identitytoken": "t"}}, "unknown": 1}"#,
        );
        let user = |host: &str, path: &str| {
            config.auth(host, path).map(|auth| auth.credential(Path::new("f"))).transpose().map(Option::flatten)
        };
        for (host, path, expected) in [
            ("h:1", "x/y", password("a", "1\n")),
            ("h:1", "x/y/z", password("a", "1\n")),
            ("h:1", "x/yz", password("b", "2:3")),
            ("h:1", "z", password("c", "4")),
            ("h", "x", None),
            ("old.example", "x", password("d", "5")),
            ("old.example:5000", "x", None),
            ("empty", "x", None),
            ("token", "x", Some(Credential::IdentityToken("t".to_owned()))),
        ] {
            assert_eq!(user(host, path).expect("readable"), expected, "{host}/{path}");
        }
        assert!(user("bad", "x").is_err());
    }

    #[test]
    fn docker_hub_has_several_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.json");
        let url = "https://index.docker.io/v1/";
        for host in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            for key in [url, "index.docker.io", "docker.io", "docker.io/apps", "registry-1.docker.io"] {
                // The text is base64 of b:2:3.
                std::fs::write(&file, format!(r#"{{"auths": {{"{key}": {{"auth": "YjoyOjM="}}}}}}"#)).expect("written");
                let image = repository(&format!("oci://{host}/apps/web"));
                let found = Credentials::from_file(&file).get(&image).expect("readable");
                assert_eq!(found, password("b", "2:3"), "{host}, {key}");
            }
            for key in [url, "index.docker.io", "docker.io"] {
                let config = config(&format!(r#"{{"credHelpers": {{"{key}": "hub"}}, "credsStore": "all"}}"#));
                assert_eq!(config.helper(host), Some(("hub", key)), "{host}");
            }
            let both = config(&format!(r#"{{"credHelpers": {{"docker.io": "podman", "{url}": "docker"}}}}"#));
            assert_eq!(both.helper(host), Some(("docker", url)), "{host}");
            assert_eq!(config(r#"{"credsStore": "all"}"#).helper(host), Some(("all", url)));
        }
        // Docker leaves empty entries for what its store has.
        let text = format!(r#"{{"auths": {{"{url}": {{}}, "docker.io": {{"auth": "YjoyOjM="}}}}}}"#);
        std::fs::write(&file, text).expect("written");
        let found = Credentials::from_file(&file).get(&repository("oci://docker.io/apps/web"));
        assert_eq!(found.expect("readable"), password("b", "2:3"));
        let other = config(&format!(r#"{{"credHelpers": {{"{url}": "hub", "h:1": "h"}}, "credsStore": "all"}}"#));
        assert_eq!(other.helper("h:1"), Some(("h", "h:1")));
        assert_eq!(other.helper("h"), Some(("all", "h")));
    }

    #[test]
    fn an_unusable_file_is_an_error_without_its_content() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.json");
        let credentials = Credentials::from_file(&file);
        let image = repository("oci://host/x");
        assert!(credentials.get(&image).is_err_and(|error| error.to_string().contains("No such file")));
        std::fs::write(&file, r#"{"auths": {"host": {"auth": 5, "secret"}}}"#).expect("written");
        let error = credentials.get(&image).map(drop).expect_err("not JSON").to_string();
        assert!(error.contains("line 1, column") && !error.contains("secret"), "{error}");
        std::fs::write(&file, vec![b' '; MAX_FILE as usize + 1]).expect("written");
        assert!(credentials.get(&image).is_err_and(|error| error.to_string().contains("longer than 1 MiB")));
    }

    #[cfg(unix)]
    #[test]
    fn helpers_are_bounded() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let run = |script: &str, timeout| {
            let path = directory.path().join("helper");
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
            run(path.to_str().expect("text"), "host", timeout).map(|(status, output)| (status.success(), output))
        };
        let (is_success, output) = run("test \"$1\" = get && cat", HELPER).expect("it runs");
        assert!(is_success && output == b"host", "{output:?}");
        let (is_success, _) = run("exit 1", HELPER).expect("it runs");
        assert!(!is_success);
        assert!(run("yes", HELPER).is_err_and(|error| error.to_string().contains("longer")));
        let late = Duration::from_millis(50);
        for script in ["exec sleep 600", "exec sleep 600 >&-"] {
            assert!(run(script, late).is_err_and(|error| error.kind() == io::ErrorKind::TimedOut), "{script}");
        }
    }

    #[test]
    fn a_helper_is_a_name_and_not_a_path() {
        for helper in ["", "../x", "a/b", "a b", "x\0", &"a".repeat(101)] {
            let error = ask(helper, "host", HELPER).map(drop).expect_err(helper);
            assert!(error.to_string().contains("the name of a helper"), "{error}");
        }
    }
}

//! Debian's `docker-registry`, on a free port and with its files in a temporary directory.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Longer than a start takes. A test that waits for this long has failed.
const LONG: Duration = Duration::from_secs(60);
/// What the registry with passwords takes, and the same in base64, with a colon between.
pub(crate) const USER: (&str, &str) = ("user", "pass:word");
const AUTH: &str = "dXNlcjpwYXNzOndvcmQ=";

/// A registry, which is stopped when this is dropped.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    child: Child,
}

impl Registry {
    /// Starts a registry without encryption and passwords.
    pub(crate) fn start() -> Self {
        Self::with("", TempDir::new().expect("a directory"))
    }

    /// Starts a registry with a certificate for `localhost`, which is in [`ca`](Self::ca), and with the password of
    /// [`USER`].
    pub(crate) fn secured() -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        // Without this, the certificate is one of an authority, which cannot be a server's.
        let server = ["-addext", "basicConstraints=critical,CA:FALSE"];
        let files = ["-keyout", &path("key.pem"), "-out", &path("ca.pem")];
        run(Command::new("openssl").args(new).args(subject).args(server).args(files));
        let (user, password) = USER;
        let line = run(Command::new("htpasswd").args(["-Bbn", user, password])).stdout;
        fs::write(directory.path().join("htpasswd"), line).expect("written");
        let options = format!(
            "  tls: {{certificate: {}, key: {}}}\nauth:\n  htpasswd: {{realm: test, path: {}}}\n",
            path("ca.pem"),
            path("key.pem"),
            path("htpasswd")
        );
        Self::with(&options, directory)
    }

    fn with(options: &str, directory: TempDir) -> Self {
        let (storage, file) = (directory.path().join("storage"), directory.path().join("config.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:0\n{options}",
            storage.display()
        );
        fs::write(&file, text).expect("written");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("docker-registry starts (apt-get install docker-registry)");
        let (sender, addresses) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        // Reads on, so that the registry never waits for it.
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let _ = sender.send(rest.split([',', '"']).next().and_then(|address| address.parse().ok()));
                }
            }
        });
        let address = addresses.recv_timeout(LONG).expect("a line with its address").expect("an address");
        Self { address, directory, child }
    }

    /// Returns the file with the registry's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Writes a file with the credentials for the registry.
    pub(crate) fn credentials(&self) -> PathBuf {
        let text = format!(r#"{{"auths": {{"localhost:{}": {{"auth": "{AUTH}"}}}}}}"#, self.address.port());
        let file = self.directory.path().join("config.json");
        fs::write(&file, text).expect("written");
        file
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies an image with skopeo (`apt-get install skopeo`), without encryption.
pub(crate) fn skopeo(from: &str, to: &str) {
    let flags = ["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--quiet"];
    run(Command::new("skopeo").args(flags).args([from, to]));
}

/// Runs a program that has to succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Returns the file of a blob in a directory that skopeo wrote with `dir:`.
pub(crate) fn blob(directory: &Path, digest: &str) -> Vec<u8> {
    fs::read(directory.join(digest.trim_start_matches("sha256:"))).expect("a blob")
}

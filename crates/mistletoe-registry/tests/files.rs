//! Files that the user, or someone else, has put there: what is not one is an error and not a wait, and several
//! processes can change one.

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mistletoe_registry::signature::Policy;
use mistletoe_registry::{Cache, Credentials, Digest, LOCK_FILE, Lock, Puller, Reference, Tags};
use support::server::{Fault, Origin, Server};
use support::{cached, client, memory, module, repository};
use tempfile::TempDir;

/// Longer than anything here takes. A test that waits for this long has failed.
const LONG: Duration = Duration::from_secs(60);

fn reference(text: &str) -> Reference {
    text.parse().expect("a reference")
}

/// Returns the message of what has to fail, and soon.
fn problem<E: std::error::Error>(read: impl FnOnce() -> Result<(), E> + Send + 'static) -> String {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(read().map_err(|error| error.to_string())));
    receiver.recv_timeout(LONG).expect("it does not wait").expect_err("not a file")
}

#[cfg(unix)]
#[test]
fn a_pipe_is_an_error_at_once() {
    let directory = TempDir::new().expect("a directory");
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    for file in [pipe, "/dev/zero".into()] {
        let expected = format!("{}: it is not a regular file", file.display());
        let path = file.clone();
        assert_eq!(problem(move || Lock::read(&path).map(drop)), expected);
        let path = file.clone();
        let cannot = expected.replace(": it is", ": it cannot be read: it is");
        assert_eq!(problem(move || Policy::read(&path).map(drop)), cannot);
        let text = format!("[[rule]]\nreference = 'oci://a/b'\nkeys = ['{}']", file.display());
        assert_eq!(problem(move || Policy::parse(&text, Path::new("")).map(drop)), format!("line 1: {cannot}"));

        // A registry that asks for a password.
        let server = Server::start(memory(&module(100)), |_, _| {
            Some(Fault::Reply(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())], Vec::new()))
        });
        let puller = Puller::new(client().credentials(Credentials::from_file(&file)));
        let image = reference(&format!("oci://{}/web@{}", server.address, Digest::of(b"")));
        let expected = expected.replace(": it is", ": the credentials cannot be used: it is");
        assert_eq!(problem(move || puller.pull(&image).map(drop)), expected);
    }
}

/// Number of processes that use the same files at once.
const PROCESSES: usize = 4;
/// Number of references that each of them records.
const RECORDS: usize = 25;
/// What makes a process of this test: its number, the registry, and the directory.
const CHILD: &str = "MISTLETOE_TEST_CHILD";

/// Starts processes that run this test, and ends when they have succeeded.
fn processes(test: &str, address: SocketAddr, directory: &Path) {
    let start = |i| {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", test, "--nocapture"]).stdout(Stdio::null());
        command.env(CHILD, format!("{i} {address} {}", directory.display())).spawn().expect("it starts")
    };
    let children: Vec<_> = (0..PROCESSES).map(start).collect();
    for mut child in children {
        assert!(child.wait().expect("it ends").success());
    }
}

/// Returns number, registry and directory of this process, if it is one of those.
fn child() -> Option<(usize, String, PathBuf)> {
    let text = env::var(CHILD).ok()?;
    let mut words = text.splitn(3, ' ');
    let mut word = || words.next().expect("three words");
    Some((word().parse().expect("a number"), word().to_owned(), word().into()))
}

#[test]
fn processes_that_change_a_lock_file_at_once_lose_no_record() {
    if let Some((number, address, directory)) = child() {
        let file = directory.join(LOCK_FILE);
        let puller = Puller::new(client()).tags(Tags::Lock { file: file.clone(), is_frozen: false });
        for i in 0..RECORDS {
            let reference = reference(&format!("oci://{address}/web:{number}-{i}"));
            // Both ways to record one.
            match i % 2 {
                0 => drop(puller.pull(&reference).expect("pulled")),
                _ => drop(puller.update(&file, &[reference]).expect("updated")),
            }
        }
        return;
    }
    let (mut content, _, _) = repository(&module(100));
    for name in (0..PROCESSES).flat_map(|number| (0..RECORDS).map(move |i| format!("{number}-{i}"))) {
        content.insert(format!("/v2/web/manifests/{name}"), content["/v2/web/manifests/1"].clone());
    }
    let server = Server::start(Origin::Memory(content), |_, _| None);
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join(LOCK_FILE);
    Lock::new(&file).write().expect("written");
    processes("processes_that_change_a_lock_file_at_once_lose_no_record", server.address, directory.path());
    let lock = Lock::read(&file).expect("read").expect("it exists");
    assert_eq!(lock.iter().count(), PROCESSES * RECORDS);
    // Nothing is left behind.
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
}

#[test]
fn processes_share_a_cache() {
    // Less than one process's modules, so that files are removed while others read them.
    const LIMIT: u64 = 3 << 16;
    const LENGTH: usize = 1 << 16;
    let bytes = |i: usize| module(LENGTH + i);
    if let Some((number, address, directory)) = child() {
        for i in 0..2 * RECORDS {
            let i = (i + number) % 5;
            let cache = Cache::open(directory.join("cache")).expect("a cache").max_bytes(LIMIT);
            let puller = Puller::new(client()).cache(cache).on_event(|event| panic!("{event:?}"));
            let url = format!("http://{address}/{i}.wasm#sha256={}", Digest::of(&bytes(i)).hex());
            assert!(puller.pull(&reference(&url)).expect("pulled").bytes == bytes(i));
        }
        return;
    }
    let content = (0..5).map(|i| (format!("/{i}.wasm"), (String::new(), bytes(i)))).collect();
    let server = Server::start(Origin::Memory(content), |_, _| None);
    let directory = TempDir::new().expect("a directory");
    processes("processes_share_a_cache", server.address, directory.path());
    let lengths = cached(&directory);
    assert!(lengths.iter().sum::<u64>() <= LIMIT && lengths.iter().all(|length| *length >= LENGTH as u64));
    assert!(server.requests().len() < PROCESSES * 2 * RECORDS, "nothing was read from the cache");
}

#[cfg(unix)]
#[test]
fn a_git_registry_has_its_own_files_alone() {
    use std::os::unix::fs::symlink;
    let directory = TempDir::new().expect("a directory");
    let clone = directory.path().join("registries/r");
    fs::create_dir_all(clone.join("web")).expect("created");
    let package = |version: &str| clone.join(format!("web/web-{version}.mist-pack.wasm"));
    let pull = |text: &str| {
        let (puller, reference) = (Puller::new(client()).registries(directory.path()), reference(text));
        move || puller.pull(&reference).map(|module| module.bytes)
    };
    fs::write(package("1"), "module").expect("written");
    symlink("web-1.mist-pack.wasm", package("2")).expect("a link");
    for text in ["r/web:1", "r/web:2"] {
        assert_eq!(pull(text)().expect(text), b"module");
    }

    fs::write(directory.path().join("secret"), "secret").expect("written");
    fs::create_dir(directory.path().join("other")).expect("created");
    fs::write(directory.path().join("other/other-1.mist-pack.wasm"), "secret").expect("written");
    symlink("../../../secret", package("3")).expect("a link");
    symlink(directory.path().join("other"), clone.join("other")).expect("a link");
    for text in ["r/web:3", "r/other:1"] {
        let pull = pull(text);
        let error = problem(move || pull().map(drop));
        assert!(error.ends_with("it is a link that leaves its registry"), "{error}");
    }
    assert!(std::process::Command::new("mkfifo").arg(package("4")).status().expect("mkfifo runs").success());
    let pull = pull("r/web:4");
    let error = problem(move || pull().map(drop));
    assert!(error.ends_with("web-4.mist-pack.wasm: it is not a regular file"), "{error}");
}

//! `mistctl` with registries. The tests need `openssl`. Those that are ignored also need `docker-registry`, and run
//! with `--include-ignored`.

#![cfg(feature = "registry")]

#[path = "support/docker.rs"]
#[allow(dead_code, reason = "not every test needs all of it")]
mod docker;
#[path = "support/origin.rs"]
#[allow(dead_code, reason = "not every test needs all of it")]
mod origin;
#[cfg(all(feature = "serve", unix))]
#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "support/server.rs"]
mod server;
#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

use docker::{Registry, run};
use mistletoe_registry::signature::{SigningKey, referrers_tag};
use mistletoe_registry::{Artifact, Digest};
use origin::{Content, Fault, Origin};
use support::{Scratch, command, example, fed, text};
#[cfg(all(feature = "serve", unix))]
use {
    server::Server,
    std::process::Stdio,
    support::{answering, result},
};

/// Runs mistctl in a directory, with a cache of its own there and without the user's credentials and policy.
fn prepared(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.current_dir(scratch.0.path()).env("MISTLETOE_CACHE", scratch.path("cache"));
    command.env("DOCKER_CONFIG", scratch.path("none")).env_remove("REGISTRY_AUTH_FILE").env_remove("XDG_RUNTIME_DIR");
    command.env_remove("MISTLETOE_POLICY").env("SOURCE_DATE_EPOCH", "0");
    // An address of this machine that does not say so would be asked for from a proxy.
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
}

fn output(scratch: &Scratch, arguments: &[&str]) -> Output {
    prepared(scratch, arguments).output().expect("mistctl starts")
}

/// Runs mistctl, which has to succeed, and returns its standard output.
fn good(scratch: &Scratch, arguments: &[&str]) -> String {
    let output = output(scratch, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// Runs mistctl, which has to fail with a status and a text in standard error.
fn bad(scratch: &Scratch, arguments: &[&str], status: i32, problem: &str) {
    let output = output(scratch, arguments);
    let stderr = text(&output.stderr);
    assert!(output.status.code() == Some(status) && stderr.contains(problem), "{arguments:?}: {stderr}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: web\n";

/// Pushes the example package, and returns the reference with its digest.
fn pushed(scratch: &Scratch, registry: &Registry, tag: &str) -> String {
    let reference = format!("oci://{}/apps/web:{tag}", registry.address);
    good(scratch, &["push", &example("namespace.wat"), &reference, "--annotation", "a=b"]).trim_end().to_owned()
}

fn lines(scratch: &Scratch, directory: &str) -> usize {
    fs::read_dir(scratch.path(directory)).map_or(0, Iterator::count)
}

#[test]
fn a_wrong_reference_is_wrong_usage_with_a_position() {
    let scratch = Scratch::new();
    for arguments in
        [&["pull", "oci://host/Web"][..], &["inspect", "oci://host/Web"], &["push", "x.wasm", "oci://host/Web"]]
    {
        bad(&scratch, arguments, 2, "oci://host/Web at byte 11: a path has lower-case letters");
    }
    bad(&scratch, &["inspect", "ftp://host/web"], 2, "unknown scheme");
    bad(&scratch, &["pull", "web.wasm"], 2, "web.wasm is not in a registry");
    bad(&scratch, &["verify", "oci://host/web"], 2, "expected --key or --policy");
    bad(&scratch, &["update"], 2, "mistletoe.lock does not exist");
    bad(&scratch, &["update", "--lock-file", "x", "app.wasm"], 3, "only `oci://` and `https://` have digests");
    bad(
        &scratch,
        &["inspect", "http://registry.invalid/web.wasm", "--allow-tag"],
        3,
        "the connection is not encrypted",
    );
    bad(&scratch, &["inspect", "oci://host/web", "--locked"], 3, "it is not in mistletoe.lock");
}

#[cfg(feature = "serve")]
#[test]
fn a_reference_is_no_configuration() {
    let scratch = Scratch::new();
    for reference in ["oci://host/web:v1.toml", "https://host/web.toml"] {
        bad(&scratch, &["serve", reference, "--locked"], 3, "it is not in mistletoe.lock");
    }
}

#[test]
fn a_package_of_a_git_registry_is_a_file() {
    let scratch = Scratch::new();
    let directory = scratch.path("home/registries/mistletoe/examples/web");
    fs::create_dir_all(&directory).expect("created");
    fs::copy(example("namespace.wat"), directory.join("web-0.1.2.mist-pack.wasm")).expect("copied");
    let run = |reference: &str| {
        let mut command = prepared(&scratch, &["generate", "web", "-p", reference]);
        command.env("MIST_HOME_LOCATION", scratch.path("home")).output().expect("mistctl starts")
    };
    let output = run("mistletoe/examples/web:0.1.2");
    assert_eq!(text(&output.stdout), NAMESPACE, "{}", text(&output.stderr));
    assert!(text(&run("mistletoe/examples/web:0.1.3").stderr).contains("web-0.1.3.mist-pack.wasm"));
    assert!(text(&run("other/web:1").stderr).contains("clone the registry there"));
}

#[test]
fn keys_are_not_for_files() {
    let scratch = Scratch::new();
    run(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(scratch.path("key.pem")));
    let public = ["pkey", "-pubout", "-in", "key.pem", "-out", "key.pub"];
    run(Command::new("openssl").args(public).current_dir(scratch.0.path()));
    let file = example("namespace.wat");
    bad(&scratch, &["generate", "web", "-p", &file, "--key", "key.pub"], 3, "the signature is not accepted");
    bad(&scratch, &["generate", "web", "-p", "-", "--key", "key.pub"], 2, "not for standard input");
    bad(&scratch, &["generate", "web", "-p", &file, "--key", "key.pem"], 3, "key.pem");
}

/// A repository `web` with a module under the tag `1`, and the digest of its manifest.
fn repository(module: &str) -> (Content, Digest) {
    let module = fs::read(example(module)).expect("read");
    let artifact = Artifact::new(&module, &BTreeMap::new(), 0);
    let digest = artifact.digest();
    let mut content = Content::new();
    for name in ["1".to_owned(), digest.to_string()] {
        content.insert(format!("/v2/web/manifests/{name}"), (String::new(), artifact.manifest.clone()));
    }
    content.insert(format!("/v2/web/blobs/{}", Digest::of(&module)), (String::new(), module));
    (content, digest)
}

/// Starts a registry with some content.
fn registry(content: Content) -> origin::Server {
    origin::Server::start(Origin::Memory(content), |_, _| None)
}

#[test]
fn a_failed_pull_leaves_files_as_they_were() {
    let (content, _) = repository("namespace-c.wasm");
    let fault = |request: &origin::Request, _: usize| request.path.contains("/blobs/").then_some(Fault::Length(1));
    let server = origin::Server::start(Origin::Memory(content), fault);
    let tag = format!("oci://{}/web:1", server.address);
    let scratch = Scratch::new();
    let lock = format!("version = 1\n[[module]]\nreference = 'oci://h/other:1'\ndigest = '{}'\n", Digest::of(b""));
    scratch.file("mistletoe.lock", &lock);
    scratch.file("web.wasm", "before");
    for arguments in [
        &["pull", &tag, "-o", "web.wasm"][..],
        &["pull", &tag, "-o", "new.wasm"],
        &["pull", &tag],
        &["generate", "web", "-p", &tag],
        &["update", &tag, &tag.replace(":1", ":gone")],
    ] {
        let problem = if arguments[0] == "update" { "not found" } else { "it has 1 bytes instead of" };
        bad(&scratch, arguments, 3, problem);
        assert_eq!(fs::read_to_string(scratch.path("web.wasm")).expect("read"), "before", "{arguments:?}");
        assert_eq!(fs::read_to_string(scratch.path("mistletoe.lock")).expect("read"), lock, "{arguments:?}");
        // And the cache.
        assert_eq!(lines(&scratch, ""), 3, "{arguments:?}");
    }
}

#[test]
fn plain_http_is_for_those_who_ask_for_it() {
    let (content, digest) = repository("namespace-c.wasm");
    let server = registry(content);
    // An address of this machine that does not say so.
    let reference = format!("oci://0.0.0.0:{}/web@{digest}", server.address.port());
    let scratch = Scratch::new();
    bad(&scratch, &["generate", "web", "-p", &reference], 3, "error: https://0.0.0.0:");
    assert_eq!(good(&scratch, &["generate", "web", "-p", &reference, "--plain-http"]), NAMESPACE);
}

#[test]
fn other_verbs_take_references_too() {
    let (content, digest) = repository("namespace-c.wasm");
    let server = registry(content);
    let (tag, pinned) = (format!("oci://{}/web:1", server.address), format!("oci://{}/web@{digest}", server.address));
    let scratch = Scratch::new();
    let list = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems: []\nfunctionConfig:\n  \
                apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: web}\n";
    let function = |arguments: &[&str]| {
        let output = fed(prepared(&scratch, &["fn"]).args(arguments), list.as_bytes());
        (output.status.code(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let (status, stdout, stderr) = function(&[&pinned]);
    assert!(status == Some(0) && stdout.contains("kind: Namespace"), "{stdout}{stderr}");
    let (status, stdout, stderr) = function(&[&tag]);
    assert!(status == Some(3) && stdout.is_empty() && stderr.contains("it is now"), "{stdout}{stderr}");
    // The lock file is beside the configuration.
    fs::create_dir_all(scratch.path("deploy/tests")).expect("created");
    scratch.file("deploy/config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n");
    good(&scratch, &["update", &tag, "--lock-file", "deploy/mistletoe.lock"]);
    let (status, stdout, stderr) = function(&[&tag, "--config", "deploy/config.yaml", "--locked"]);
    assert!(status == Some(0) && stdout.contains("kind: Namespace"), "{stdout}{stderr}");

    // And in the directory of tests.
    let indented = NAMESPACE.replace('\n', "\n    ");
    scratch.file("deploy/tests/web.yaml", format!("files:\n  namespace.yaml: |\n    {}\n", indented.trim_end()));
    for arguments in [&["-p", &pinned][..], &["-p", &tag, "--locked"]] {
        let tested = good(&scratch, &[&["test", "deploy"], arguments].concat());
        assert_eq!(tested, "ok       web\n1 passed, 0 failed\n", "{arguments:?}");
    }
    fs::remove_file(scratch.path("deploy/mistletoe.lock")).expect("removed");
    bad(&scratch, &["test", "deploy", "-p", &tag, "--locked"], 3, "not in mistletoe.lock");
}

#[cfg(all(feature = "serve", unix))]
#[test]
fn plugins_of_a_scheduler_are_references_too() {
    let (content, digest) = repository("node-number-c.wasm");
    let registry = registry(content);
    let scratch = Scratch::new();
    let pinned = format!("oci://{}/web@{digest}", registry.address);
    let arguments = ["serve", "scheduler", "--listen", "127.0.0.1:0", "--plugin", &pinned];
    let server = Server::spawn(prepared(&scratch, &arguments).stdout(Stdio::null()));
    let request = fs::read_to_string(example("scheduler-names.json")).expect("read");
    let (status, scores) = server.post("/scheduler/prioritize", &request);
    assert!(status == 200 && scores.starts_with(r#"[{"Host":"node-1","Score":0}"#), "{scores}");
    let tag = format!("oci://{}/web:1", registry.address);
    bad(&scratch, &["serve", "scheduler", "--plugin", &tag, "--locked"], 3, "not in mistletoe.lock");
}

/// Makes keys for signatures, and returns the private one.
fn key(scratch: &Scratch, name: &str) -> SigningKey {
    let (private, public) = (format!("{name}.pem"), format!("{name}.pub"));
    let new = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &private];
    run(Command::new("openssl").args(new).current_dir(scratch.0.path()));
    let public = ["pkey", "-pubout", "-in", &private, "-out", &public];
    run(Command::new("openssl").args(public).current_dir(scratch.0.path()));
    SigningKey::from_pem(&fs::read_to_string(scratch.path(&private)).expect("read")).expect("a key")
}

/// Adds a signature of a manifest in the format of cosign 3, as one of `digest`.
fn sign(content: &mut Content, key: &SigningKey, manifest: &[u8], digest: Digest) {
    let signature = key.sign(manifest, Artifact::MEDIA_TYPE).expect("signed");
    let list = signature.add_to_index(None).expect("an index").expect("a new one");
    let mut add = |kind: &str, name: String, bytes| {
        content.insert(format!("/v2/web/{kind}/{name}"), (String::new(), bytes));
    };
    add("manifests", referrers_tag(&digest), list);
    add("blobs", Digest::of(&signature.bundle).to_string(), signature.bundle);
    add("manifests", Digest::of(&signature.manifest).to_string(), signature.manifest);
}

/// Adds a signature in the format of cosign 2. The annotation has the signature of `signed`, the layer has the text
/// that is a signature of `digest`.
fn sign_simply(scratch: &Scratch, content: &mut Content, digest: Digest, signed: impl Fn(&str) -> String) {
    let payload = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{digest}"}},
            "type":"cosign container image signature"}},"optional":null}}"#
    );
    scratch.file("payload", signed(&payload));
    let signature = ["dgst", "-sha256", "-sign", "mine.pem", "-out", "signature", "payload"];
    run(Command::new("openssl").args(signature).current_dir(scratch.0.path()));
    let base64 = ["base64", "-A", "-in", "signature"];
    let signature = run(Command::new("openssl").args(base64).current_dir(scratch.0.path())).stdout;
    let manifest = format!(
        r#"{{"schemaVersion": 2, "config": {{"mediaType": "x", "digest": "{digest}", "size": 0}}, "layers": [
            {{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": "{}", "size": {},
              "annotations": {{"dev.cosignproject.cosign/signature": "{}"}}}}]}}"#,
        Digest::of(payload.as_bytes()),
        payload.len(),
        text(&signature)
    );
    content.insert(format!("/v2/web/blobs/{}", Digest::of(payload.as_bytes())), (String::new(), payload.into_bytes()));
    content.insert(format!("/v2/web/manifests/{}.sig", referrers_tag(&digest)), (String::new(), manifest.into_bytes()));
}

#[test]
fn nothing_is_run_unless_it_is_signed() {
    let scratch = Scratch::new();
    let (mine, other) = (key(&scratch, "mine"), key(&scratch, "other"));
    // A program that says that it runs.
    let (content, digest) = repository("command-c.wasm");
    let manifest = content[&format!("/v2/web/manifests/{digest}")].1.clone();
    let layer = fs::read(example("command-c.wasm")).map(|bytes| format!("/v2/web/blobs/{}", Digest::of(&bytes)));
    let layer = layer.expect("read");
    let with = |change: &dyn Fn(&mut Content)| {
        let mut content = content.clone();
        change(&mut content);
        content
    };
    let signed = with(&|content| sign(content, &mine, &manifest, digest));
    let signed_simply = with(&|content| sign_simply(&scratch, content, digest, str::to_owned));
    let swapped = |content: &Content| {
        let mut content = content.clone();
        content.get_mut(&layer).expect("a module").1[100] ^= 1;
        content
    };
    let bundle = |content: &mut Content| {
        let is_bundle = |path: &&String| path.contains("/blobs/") && **path != layer;
        let path = content.keys().find(is_bundle).expect("a bundle").clone();
        content.get_mut(&path).expect("a bundle").1[0] ^= 1;
    };
    let good: &[(&str, Content)] = &[("cosign 3", signed.clone()), ("cosign 2", signed_simply.clone())];
    let bad: &[(&str, Content, &str)] = &[
        ("unsigned", content.clone(), "is not signed"),
        ("another key", with(&|content| sign(content, &other, &manifest, digest)), "another key made the signature"),
        ("another manifest", with(&|content| sign(content, &mine, b"{}", digest)), "the signature is of"),
        ("a swapped module", swapped(&signed), "it has the digest"),
        ("a swapped module of cosign 2", swapped(&signed_simply), "it has the digest"),
        (
            "a swapped layer of the signature",
            with(&|content| {
                sign(content, &mine, &manifest, digest);
                bundle(content);
            }),
            "the content of",
        ),
        (
            "a changed annotation",
            with(&|content| sign_simply(&scratch, content, digest, |text| format!("{text} "))),
            "another key made the signature, or the signature or its text was changed",
        ),
    ];
    let run = |content: &Content| {
        let server = registry(content.clone());
        let reference = format!("oci://{}/web@{digest}", server.address);
        // Not what was pulled before.
        let _ = fs::remove_dir_all(scratch.path("cache"));
        let policy = format!("[[rule]]\nreference = 'oci://{}/...'\nkeys = ['mine.pub']\n", server.address);
        scratch.file("policy.toml", policy);
        [["--key", "mine.pub"], ["--policy", "policy.toml"]].map(|trust| {
            let output = output(&scratch, &[&["run", &reference][..], &trust].concat());
            (output.status.code(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
        })
    };
    for (name, content) in good {
        for (_, stdout, stderr) in run(content) {
            assert!(stdout.starts_with("arg 0 web\n"), "{name}: {stderr}");
        }
    }
    for (name, content, problem) in bad {
        for (status, stdout, stderr) in run(content) {
            assert_eq!((status, &*stdout), (Some(3), ""), "{name}: {stderr}");
            assert!(stderr.contains(problem), "{name}: {stderr}");
        }
    }
}

#[test]
fn a_lock_file_is_read_only_where_it_counts() {
    let scratch = Scratch::new();
    let mine = key(&scratch, "mine");
    let (mut content, digest) = repository("namespace-c.wasm");
    let manifest = content[&format!("/v2/web/manifests/{digest}")].1.clone();
    sign(&mut content, &mine, &manifest, digest);
    // A registry that has everything that is pushed, and lists signatures.
    let server = origin::Server::start(Origin::Memory(content), move |request, _| {
        let (status, field) = match &*request.method {
            "HEAD" if request.path.contains("/blobs/") => (200, Vec::new()),
            "PUT" => (201, vec![("OCI-Subject", digest.to_string())]),
            _ => return None,
        };
        Some(Fault::Reply(status, field, Vec::new()))
    });
    let tag = format!("oci://{}/web:1", server.address);
    let pinned = format!("{tag}@{digest}");
    scratch.file("mistletoe.lock", "x");
    assert_eq!(good(&scratch, &["sign", &pinned, "--key", "mine.pem"]), format!("{pinned}\n"));
    assert_eq!(good(&scratch, &["sign", &tag, "--key", "mine.pem", "--allow-tag"]), format!("{pinned}\n"));
    assert!(good(&scratch, &["verify", &tag, "--key", "mine.pub"]).contains("no transparency log was consulted"));
    bad(&scratch, &["sign", &tag, "--key", "mine.pem"], 3, "mistletoe.lock: line 1");
}

#[cfg(unix)]
#[test]
fn progress_is_shown_on_a_terminal_alone() {
    use std::io::Read as _;

    use rustix::fs::OFlags;
    use rustix::pty::{self, OpenptFlags};

    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module.resize(1 << 20, 0);
    let artifact = Artifact::new(&module, &BTreeMap::new(), 0);
    let digest = artifact.digest();
    let content = Content::from([
        (format!("/v2/web/manifests/{digest}"), (String::new(), artifact.manifest)),
        (format!("/v2/web/blobs/{}", Digest::of(&module)), (String::new(), module.clone())),
    ]);
    let server = registry(content);
    let reference = format!("oci://{}/web@{digest}", server.address);
    let pull = |name: &str| {
        let scratch = Scratch::new();
        let mut command = prepared(&scratch, &["pull", &reference]);
        command.env("TERM", name).env_remove("NO_COLOR");
        let piped = command.output().expect("mistctl starts");
        assert_eq!((piped.status.code(), text(&piped.stderr)), (Some(0), ""));
        fs::remove_dir_all(scratch.path("cache")).expect("removed");

        let ours = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        pty::grantpt(&ours).expect("granted");
        pty::unlockpt(&ours).expect("unlocked");
        let path = pty::ptsname(&ours, Vec::new()).expect("its name").into_string().expect("text");
        let theirs = OFlags::RDWR | OFlags::NOCTTY;
        let theirs = rustix::fs::open(path, theirs, rustix::fs::Mode::empty()).expect("opened");
        // It is short enough for the terminal to hold, and its end is no error only on some systems.
        command.stdout(std::process::Stdio::null());
        assert!(command.stderr(theirs).status().expect("mistctl starts").success());
        drop(command);
        let mut shown = Vec::new();
        let _ = fs::File::from(ours).read_to_end(&mut shown);
        text(&shown).to_owned()
    };
    let shown = pull("xterm");
    assert!(shown.starts_with("\r\x1b[K") && shown.contains(" of 1.0 MiB"), "{shown:?}");
    // The line is gone at the end.
    assert!(shown.ends_with("\r\x1b[K"), "{shown:?}");
    assert_eq!(pull("dumb"), "");
}

#[test]
#[ignore = "needs docker-registry"]
fn a_module_is_pushed_pulled_and_run_also_without_the_registry() {
    let (scratch, registry) = (Scratch::new(), Registry::start());
    let pinned = pushed(&scratch, &registry, "1.2");
    assert!(pinned.starts_with(&format!("oci://{}/apps/web:1.2@sha256:", registry.address)), "{pinned}");
    assert_eq!(pushed(&scratch, &registry, "1.2"), pinned, "the same module has the same digest");
    assert_eq!(good(&scratch, &["generate", "web", "-p", &pinned]), NAMESPACE);
    assert_eq!(good(&scratch, &["pull", &pinned, "-o", "web.wasm"]), "");
    assert_eq!(good(&scratch, &["generate", "web", "-p", "web.wasm"]), NAMESPACE);
    let listed = good(&scratch, &["cache", "list"]);
    assert!(listed.lines().count() == 2 && listed.lines().all(|line| line.contains(" registry ")), "{listed}");
    drop(registry);
    assert_eq!(good(&scratch, &["generate", "web", "-p", &pinned]), NAMESPACE);
    assert!(good(&scratch, &["inspect", &pinned]).contains("name: namespace"));
    assert!(good(&scratch, &["check", &pinned]).contains("findings: []"));
    assert!(good(&scratch, &["values", &pinned]).contains("declares no values"));
    assert_eq!(good(&scratch, &["cache", "clear"]), "");
    assert_eq!(lines(&scratch, "cache/registry"), 0);
    bad(&scratch, &["generate", "web", "-p", &pinned], 3, "the connection failed");
}

#[test]
#[ignore = "needs docker-registry"]
fn a_tag_needs_a_lock_file_or_a_flag() {
    let (scratch, registry) = (Scratch::new(), Registry::start());
    let pinned = pushed(&scratch, &registry, "1");
    let tag = pinned.split('@').next().expect("a tag").to_owned();
    fs::create_dir(scratch.path("deploy")).expect("created");
    scratch.file("deploy/values.yaml", "{}");
    let generate = |more: &[&str]| output(&scratch, &[&["generate", "web", "-p", &tag], more].concat());
    bad(&scratch, &["generate", "web", "-p", &tag], 3, &format!("it is now {pinned}"));
    let allowed = generate(&["--allow-tag"]);
    assert_eq!((text(&allowed.stdout), text(&allowed.stderr)), (NAMESPACE, &*format!("info: resolved to {pinned}\n")));
    assert!(!scratch.path("mistletoe.lock").exists());
    // Beside the values.
    let updated = good(&scratch, &["update", &tag, "--lock-file", "deploy/mistletoe.lock"]);
    assert_eq!(updated, format!("{tag} {}\n", pinned.split_once('@').expect("a digest").1));
    assert_eq!(text(&generate(&["-f", "deploy/values.yaml", "--locked"]).stdout), NAMESPACE);
    bad(&scratch, &["generate", "web", "-p", &tag, "--locked"], 3, "not in mistletoe.lock");
    // The tag moves: nothing changes until the lock file does.
    let other = format!("oci://{}/apps/web:1", registry.address);
    let moved = good(&scratch, &["push", &example("namespace.wat"), &other, "--annotation", "a=c"]);
    assert_ne!(moved.trim_end(), pinned);
    let resolved = output(&scratch, &["pull", &tag]);
    assert_eq!(text(&resolved.stdout), moved);
    let pull = |directory: &str| {
        let mut command = prepared(&scratch, &["pull", &tag]);
        text(&command.current_dir(scratch.path(directory)).output().expect("mistctl starts").stdout).to_owned()
    };
    assert_eq!(pull("deploy"), format!("{pinned}\n"));
    let updated = good(&scratch, &["update", "--lock-file", "deploy/mistletoe.lock"]);
    assert!(updated.contains(&format!("(before: {})", pinned.split_once('@').expect("a digest").1)), "{updated}");
    assert_eq!(pull("deploy"), moved);
}

#[test]
#[ignore = "needs docker-registry"]
fn signatures_decide_what_runs() {
    let (scratch, registry) = (Scratch::new(), Registry::start());
    let pinned = pushed(&scratch, &registry, "1");
    for name in ["mine", "other"] {
        key(&scratch, name);
    }
    let policy = format!(
        "[[rule]]\nreference = \"oci://{}/apps/...\"\nkeys = [\"mine.pub\"]\n[default]\nrequired = false\n",
        registry.address
    );
    scratch.file("policy.toml", policy);
    let generate = |more: &[&'static str]| [&["generate", "web", "-p", &pinned][..], more].concat();
    bad(&scratch, &generate(&["--key", "mine.pub"]), 3, "is not signed");
    bad(&scratch, &generate(&["--policy", "policy.toml"]), 3, "is not signed");
    bad(&scratch, &["verify", &pinned, "--key", "mine.pub"], 3, "is not signed");
    let tag = pinned.split('@').next().expect("a tag");
    bad(&scratch, &["sign", tag, "--key", "mine.pem"], 3, &format!("it is now {pinned}"));
    bad(&scratch, &["verify", &pinned, "--key", "mine.pub"], 3, "is not signed");
    assert_eq!(good(&scratch, &["sign", &pinned, "--key", "mine.pem"]), format!("{pinned}\n"));
    // The digest that was signed is printed.
    assert_eq!(good(&scratch, &["sign", tag, "--key", "mine.pem", "--allow-tag"]), format!("{pinned}\n"));
    scratch.file("mistletoe.lock", "version = 1\n");
    bad(&scratch, &["sign", tag, "--key", "mine.pem"], 3, &format!("it is now {pinned}"));
    good(&scratch, &["update", tag]);
    good(&scratch, &["push", &example("namespace.wat"), tag, "--annotation", "a=moved"]);
    assert_eq!(good(&scratch, &["sign", tag, "--key", "mine.pem"]), format!("{pinned}\n"));
    fs::remove_file(scratch.path("mistletoe.lock")).expect("removed");
    let verified = good(&scratch, &["verify", &pinned, "--key", "mine.pub"]);
    assert!(verified.contains("no transparency log was consulted"), "{verified}");
    bad(&scratch, &["verify", &pinned, "--key", "other.pub"], 3, "the signature is not accepted");
    bad(&scratch, &generate(&["--key", "other.pub"]), 3, "the signature is not accepted");
    assert_eq!(good(&scratch, &generate(&["--key", "mine.pub"])), NAMESPACE);
    assert_eq!(good(&scratch, &generate(&["--policy", "policy.toml"])), NAMESPACE);
    let mut from_env = prepared(&scratch, &generate(&[]));
    from_env.env("MISTLETOE_POLICY", scratch.path("policy.toml"));
    assert_eq!(text(&from_env.output().expect("mistctl starts").stdout), NAMESPACE);
    bad(&scratch, &["verify", &pinned, "--policy", "mine.pub"], 3, "mine.pub");
}

#[test]
#[ignore = "needs docker-registry"]
fn encryption_and_a_password() {
    let (scratch, registry) = (Scratch::new(), Registry::secured());
    let reference = format!("oci://localhost:{}/web:1", registry.address.port());
    let (ca, config) = (registry.ca().display().to_string(), registry.credentials());
    let file = example("namespace.wat");
    let push = ["push", &file, &reference, "--ca", &ca];
    bad(&scratch, &push, 3, "access is denied");
    for variable in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG"] {
        let value = if variable == "DOCKER_CONFIG" { registry.directory.path() } else { &config };
        let output = prepared(&scratch, &push).env(variable, value).output().expect("mistctl starts");
        assert!(output.status.success(), "{variable}: {}", text(&output.stderr));
    }
    let other = scratch.file("empty.pem", "");
    bad(&scratch, &["push", &file, &reference, "--ca", &other], 3, "has no certificate");
    // The user's helper has the password, too.
    let helper =
        scratch.file("docker-credential-test", "#!/bin/sh\necho '{\"Username\":\"user\",\"Secret\":\"pass:word\"}'\n");
    run(Command::new("chmod").args(["+x", &helper]));
    fs::create_dir(scratch.path("docker")).expect("created");
    fs::write(scratch.path("docker/config.json"), r#"{"credsStore": "test"}"#).expect("written");
    let path = format!("{}:{}", scratch.0.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut with_helper = prepared(&scratch, &push);
    let output = with_helper.env("PATH", path).env("DOCKER_CONFIG", scratch.path("docker")).output();
    let output = output.expect("mistctl starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
#[ignore = "needs docker-registry"]
fn a_plugin_is_called_and_a_program_is_run() {
    let (scratch, registry) = (Scratch::new(), Registry::start());
    let push = |name: &str| {
        let reference = format!("oci://{}/{}", registry.address, name.split('.').next().expect("a name"));
        good(&scratch, &["push", &example(name), &reference]).trim_end().to_owned()
    };
    let plugin = push("httpwasm-c.wasm");
    let output = fed(&mut prepared(&scratch, &["call", &plugin]), b"world");
    assert_eq!(text(&output.stdout), "hello, world\n", "{}", text(&output.stderr));
    // The program gets the last part of the repository's path as its name.
    let program = push("command-c.wasm");
    let output = fed(&mut prepared(&scratch, &["run", &program]), b"");
    assert!(text(&output.stdout).starts_with("arg 0 command-c\n"), "{}", text(&output.stderr));
}

#[cfg(feature = "serve")]
#[test]
#[ignore = "needs docker-registry"]
fn a_server_takes_references_with_the_lock_file_beside_its_configuration() {
    let (scratch, registry) = (Scratch::new(), Registry::start());
    let pinned = pushed(&scratch, &registry, "1");
    let tag = pinned.split('@').next().expect("a tag");
    fs::create_dir(scratch.path("deploy")).expect("created");
    let config =
        scratch.file("deploy/serve.toml", format!("[[route]]\npath = '/'\nmodule = '{tag}'\nkind = 'package'\n"));
    bad(&scratch, &["serve", "check", &config], 3, &format!("it is now {pinned}"));
    good(&scratch, &["update", tag, "--lock-file", "deploy/mistletoe.lock"]);
    good(&scratch, &["serve", "check", &config]);
    drop(registry);
    good(&scratch, &["serve", "check", &config, "--locked"]);
}

/// Starts a server on a free port, with the cache and the working directory of [`prepared`].
#[cfg(all(feature = "serve", unix))]
fn serving(scratch: &Scratch, arguments: &[&str]) -> Server {
    let arguments = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
    Server::spawn(prepared(scratch, &arguments).stdout(Stdio::null()))
}

#[cfg(all(feature = "serve", unix))]
#[test]
#[ignore = "needs docker-registry"]
fn a_server_runs_modules_of_a_registry_also_without_it() {
    let (scratch, registry) = (Scratch::new(), Registry::start());
    let reference = format!("oci://{}/apps/hello:1", registry.address);
    let pinned = good(&scratch, &["push", &example("httpwasm-c.wasm"), &reference]);
    let (_, digest) = pinned.trim_end().split_once('@').expect("a digest");
    let module = format!("oci://{}/apps/hello@{digest}", registry.address);
    let config =
        scratch.file("serve.toml", format!("[[route]]\npath = '/hello'\nmodule = '{module}'\nkind = 'httpwasm'\n"));
    let hello = (200, "hello, world\n".to_owned());
    let server = serving(&scratch, &[&config]);
    assert_eq!(server.post("/hello", "world"), hello);
    drop((server, registry));
    for arguments in [&[&*config][..], &[&*config, "--locked"]] {
        assert_eq!(serving(&scratch, arguments).post("/hello", "world"), hello, "{arguments:?}");
    }
    // The cache alone had it.
    good(&scratch, &["cache", "clear"]);
    bad(&scratch, &["serve", &config, "--listen", "127.0.0.1:0"], 3, "the connection failed");
}

#[cfg(all(feature = "serve", unix))]
#[test]
#[ignore = "needs docker-registry"]
fn the_lock_file_of_a_server_is_watched() {
    let (scratch, registry) = (Scratch::new(), Registry::start());
    let tag = format!("oci://{}/apps/web:1", registry.address);
    let push = |content: &str| {
        let output = result(&format!("  result: Ok\n  files: {{a.yaml: 'a: {content}'}}\n"));
        good(&scratch, &["push", &scratch.file("web.wat", answering(&output)), &tag]);
    };
    fs::create_dir(scratch.path("deploy")).expect("created");
    let config =
        scratch.file("deploy/serve.toml", format!("[[route]]\npath = '/'\nmodule = '{tag}'\nkind = 'package'\n"));
    let update = ["update", &tag, "--lock-file", "deploy/mistletoe.lock"];
    push("one");
    good(&scratch, &update);
    let server = serving(&scratch, &["--watch", &config]);
    let (_, manifests) = server.post("/", "data:\n  name: web\n");
    assert!(manifests.contains("a: one"), "{manifests}");
    push("two");
    good(&scratch, &update);
    assert_eq!(server.error(), "info: reloaded: 1 routes");
    let (_, manifests) = server.post("/", "data:\n  name: web\n");
    assert!(manifests.contains("a: two"), "{manifests}");
}

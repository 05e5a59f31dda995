//! The policy: which keys count for which reference.

use std::fs;
use std::path::Path;

use mistletoe_registry::Digest;
use mistletoe_registry::signature::{Error, Fetch, MAX_POLICY, Policy, PublicKey, Requirement};

fn data() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
}

fn parse(text: &str) -> Result<Policy, String> {
    Policy::parse(text, data()).map_err(|error| error.to_string())
}

fn keys(file: &str) -> Vec<PublicKey> {
    PublicKey::from_pem(&fs::read_to_string(data().join(file)).unwrap()).unwrap()
}

const POLICY: &str = r#"
[[rule]]
reference = "oci://registry.example/apps/..."
keys = ["p256.pub"]

[[rule]]
reference = "oci://registry.example/apps"
keys = ["ed25519.pub"]

[[rule]]
reference = "oci://registry.example/apps/old/..."
keys = ["p256.pub", "ed25519.pub"]
required = false

[[rule]]
reference = "oci://registry.example/apps/old/one"

[[rule]]
reference = "oci://registry.example:5000/..."
required = false

[[rule]]
reference = "oci://Shared.example:443/..."
keys = ["both.pub"]

[default]
keys = ["other.pub"]
"#;

#[test]
fn the_longest_path_counts() {
    let policy = parse(POLICY).unwrap();
    let (p256, ed25519, both, other) = (keys("p256.pub"), keys("ed25519.pub"), keys("both.pub"), keys("other.pub"));
    let p256_ed25519 = [p256.clone(), ed25519.clone()].concat();
    let digest = Digest::of(b"");
    for (reference, keys, required) in [
        ("oci://registry.example/apps/web", &p256, true),
        ("oci://registry.example/apps/web:1.2", &p256, true),
        (&*format!("oci://registry.example/apps/a/b/web:1.2@{digest}"), &p256, true),
        (&*format!("oci://registry.example/apps/old@{digest}"), &p256_ed25519, false),
        ("oci://registry.example/apps", &ed25519, true),
        ("oci://registry.example/apps:latest", &ed25519, true),
        ("oci://registry.example/apps/old/two", &p256_ed25519, false),
        ("oci://registry.example/apps/older", &p256, true),
        ("oci://registry.example/apps/old/one:1", &vec![], true),
        ("oci://registry.example/apps/old/one/below", &p256_ed25519, false),
        ("oci://registry.example/apps2", &other, true),
        ("oci://registry.example:5000/apps", &vec![], false),
        ("oci://registry.example:5000/apps:1", &vec![], false),
        ("oci://registry.example:5001/apps", &other, true),
        ("oci://shared.example/x", &both, true),
        ("oci://SHARED.example.:443/x", &both, true),
        ("oci://registry.example:443/apps/web", &p256, true),
        ("https://registry.example/apps/web", &other, true),
        ("apps/web:1", &other, true),
        ("", &other, true),
    ] {
        let requirement = policy.for_reference(reference);
        assert_eq!((&requirement.keys, requirement.required), (keys, required), "{reference}");
    }
}

#[test]
fn what_no_rule_is_for_is_refused() {
    let policy = parse("").unwrap();
    let requirement = policy.for_reference("oci://registry.example/apps/web");
    assert_eq!((&*requirement.keys, requirement.required), (&[][..], true));
    assert_eq!(requirement.check(&Empty, &Digest::of(b"")), Err(Error::NoKeys));
}

/// A repository without signatures.
struct Empty;

impl Fetch for Empty {
    type Error = String;

    fn manifest(&self, _: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn referrers(&self, _: &Digest) -> Result<Option<Vec<Vec<u8>>>, String> {
        Ok(None)
    }

    fn blob(&self, _: &Digest, _: u64) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}

/// A repository with a signature that is not good.
struct Malformed;

impl Fetch for Malformed {
    type Error = String;

    fn manifest(&self, _: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(Some(Vec::new()))
    }

    fn referrers(&self, _: &Digest) -> Result<Option<Vec<Vec<u8>>>, String> {
        Ok(None)
    }

    fn blob(&self, _: &Digest, _: u64) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}

#[test]
fn an_optional_signature_is_checked_if_it_is_there() {
    let policy = parse(POLICY).unwrap();
    let subject = Digest::of(b"");
    let optional = policy.for_reference("oci://registry.example/apps/old");
    assert_eq!(optional.check(&Empty, &subject), Ok(None));
    assert!(matches!(optional.check(&Malformed, &subject), Err(Error::Refused { .. })));
    let required = Requirement::signed_by(keys("p256.pub"));
    assert_eq!(required.check(&Empty, &subject), Err(Error::Unsigned { subject }));
    let none = policy.for_reference("oci://registry.example:5000/apps");
    assert_eq!(none.check(&Malformed, &subject), Ok(None));
}

#[test]
fn problems_have_their_line() {
    let rule = "[[rule]]\nreference = ";
    for (text, expected) in [
        ("\n[[rule]]\nreference = 1", "line 3: invalid type"),
        ("[[rule]]\nreference = \"oci://a/b\"\nkey = []", "line 3: unknown field `key`"),
        ("defaults = 1", "line 1: unknown field `defaults`"),
        ("[default]\nreference = \"oci://a/b\"", "line 2: unknown field `reference`"),
        ("[[rule]]\nkeys = []", "line 1: missing field `reference`"),
        ("[default]\n[default]", "line 2: duplicate key"),
        (
            &format!("{rule}'oci://a/b'\n{rule}'oci://A:443/b'"),
            "line 3: another rule has the reference `oci://A:443/b`",
        ),
        (&format!("{rule}'oci://a/...'\n{rule}'oci://a/...'"), "line 3: another rule"),
        (&format!("\n\n{rule}'oci://a/b'\nkeys = ['none.pub']"), "line 3: none.pub: it cannot be read: "),
        (&format!("{rule}'oci://a/b'\nkeys = ['rsa.pub']"), "line 1: rsa.pub: the key's algorithm is `RSA`"),
        (&format!("{rule}'oci://a/b'\nkeys = ['p256.key']"), "line 1: p256.key: the file has `PRIVATE KEY`"),
        (&format!("{rule}'oci://a/b'\nkeys = [{}]", "'both.pub',".repeat(9)), "line 1: the rule has more than 16 keys"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    for reference in [
        "registry.example/a",
        "oci://",
        "oci://a",
        "oci://a:5000",
        "oci:///a",
        "oci://a/b:1",
        "oci://a/b@sha256:0",
        "oci://a/B",
        "oci://a//b",
        "oci://a/b/",
        "oci://a/../b",
        "oci://a/b/...x",
        "oci://a/.../b",
        "oci://a b/c",
        "https://a/b",
        "",
    ] {
        let error = parse(&format!("{rule}'{reference}'")).unwrap_err();
        assert!(error.starts_with("line 1: expected `oci://HOST/PATH`"), "{reference}: {error}");
    }
    let error = parse(&format!("{rule}'x'\n{rule}'y'\nkeys = ['none.pub']")).unwrap_err();
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn a_file_has_its_name_in_errors_and_its_directory_for_keys() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trust.toml");
    let error = Policy::read(&file).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: it cannot be read: ", file.display())), "{error}");

    fs::create_dir(directory.path().join("keys")).unwrap();
    fs::copy(data().join("p256.pub"), directory.path().join("keys/apps.pub")).unwrap();
    fs::write(&file, "[[rule]]\nreference = 'oci://a/b'\nkeys = ['keys/apps.pub']").unwrap();
    assert_eq!(Policy::read(&file).unwrap().for_reference("oci://a/b").keys, keys("p256.pub"));

    fs::write(&file, "x").unwrap();
    let error = Policy::read(&file).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: line 1: ", file.display())), "{error}");
    fs::write(&file, " ".repeat(MAX_POLICY as usize + 1)).unwrap();
    assert!(Policy::read(&file).unwrap_err().to_string().ends_with("it is longer than 1048576 bytes"));
    let rules = "[[rule]]\nreference = 'oci://a/b'\n".repeat(1_001);
    assert_eq!(parse(&rules).unwrap_err(), "it has 1001 rules, more than 1000");
}

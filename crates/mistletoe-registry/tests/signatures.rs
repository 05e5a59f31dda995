//! Signatures that openssl made, see `data/make.py`, and signatures of the crate's own.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;

use mistletoe_registry::Digest;
use mistletoe_registry::signature::{
    Algorithm, CONFIG, Error, Fetch, Format, KeyError, MANIFEST, MAX_KEY_FILE, MAX_OBJECT, MAX_SIGNATURES, PublicKey,
    Reason, SIMPLE_SIGNING, Signature, SigningKey, Verified, referrers_tag, verify,
};
use serde::Deserialize;

#[derive(Clone, Deserialize)]
struct Vector {
    name: String,
    /// `Unsigned`, the name of a format, or of a reason.
    expected: String,
    keys: String,
    subject: String,
    manifests: BTreeMap<String, String>,
    blobs: BTreeMap<String, String>,
}

/// The objects of a repository in a registry without an API for referrers, unless there are indexes of them.
#[derive(Clone, Default)]
struct Objects {
    manifests: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, Vec<u8>>,
    referrers: Option<Vec<Vec<u8>>>,
}

impl Fetch for Objects {
    type Error = Infallible;

    fn manifest(&self, reference: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.manifests.get(reference).cloned())
    }

    fn referrers(&self, _: &Digest) -> Result<Option<Vec<Vec<u8>>>, Infallible> {
        Ok(self.referrers.clone())
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<Option<Vec<u8>>, Infallible> {
        assert!(size <= MAX_OBJECT, "{size}");
        Ok(self.blobs.get(&digest.to_string()).cloned())
    }
}

impl Vector {
    fn objects(&self) -> Objects {
        let bytes = |objects: &BTreeMap<String, String>| {
            objects.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes())).collect()
        };
        Objects { manifests: bytes(&self.manifests), blobs: bytes(&self.blobs), referrers: None }
    }

    fn subject(&self) -> Digest {
        self.subject.parse().unwrap()
    }

    fn is_good(&self) -> bool {
        ["Bundle", "SimpleSigning"].contains(&&*self.expected)
    }
}

fn data(name: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(&data("vectors.json")).unwrap()
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.name == name).unwrap()
}

fn keys(file: &str) -> Vec<PublicKey> {
    PublicKey::from_pem(&data(file)).unwrap()
}

fn private(file: &str) -> Result<SigningKey, KeyError> {
    SigningKey::from_pem(&data(file))
}

/// The result as the vectors name it: of several refusals, the first.
fn name(result: &Result<Verified, Error<Infallible>>) -> String {
    let name = match result {
        Ok(verified) => format!("{:?}", verified.format),
        Err(Error::Refused { refusals, .. }) => format!("{:?}", refusals[0].reason),
        Err(error) => format!("{error:?}"),
    };
    name.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned()
}

#[test]
fn vectors_have_the_expected_results() {
    let vectors = vectors();
    assert!(vectors.len() >= 30);
    for vector in &vectors {
        let keys = keys(&vector.keys);
        let result = verify(&vector.objects(), &vector.subject(), &keys);
        assert_eq!(name(&result), vector.expected, "{}: {result:?}", vector.name);
        if let Ok(verified) = result {
            assert_eq!(verified.subject, vector.subject());
            assert!(keys.contains(&verified.key));
            assert!(verified.to_string().ends_with("no transparency log was consulted"), "{verified}");
        }
    }
}

/// With the API, the same objects have the same results: the index is the API's response, and the tag is not read.
#[test]
fn referrers_come_from_the_api_or_a_tag() {
    for vector in vectors() {
        let mut objects = vector.objects();
        let index = objects.manifests.remove(&referrers_tag(&vector.subject()));
        // Of two pages, one is empty.
        objects.referrers = Some([Some(br#"{"manifests": []}"#.to_vec()), index].into_iter().flatten().collect());
        let result = verify(&objects, &vector.subject(), &keys(&vector.keys));
        assert_eq!(name(&result), vector.expected, "{}: {result:?}", vector.name);
    }
    let vector = vector("cosign 3, ECDSA");
    let objects = Objects { referrers: Some(Vec::new()), ..vector.objects() };
    let result = verify(&objects, &vector.subject(), &keys("p256.pub"));
    assert_eq!(result, Err(Error::Unsigned { subject: vector.subject() }));
}

#[test]
fn an_object_has_the_length_that_its_descriptor_says() {
    for (name, suffix, list) in [("cosign 2, ECDSA", ".sig", "layers"), ("cosign 3, ECDSA", "", "manifests")] {
        let (vector, keys) = (vector(name), keys("p256.pub"));
        let tag = format!("{}{suffix}", referrers_tag(&vector.subject()));
        let mut objects = vector.objects();
        let mut parent: serde_json::Value = serde_json::from_slice(&objects.manifests[&tag]).unwrap();
        let length = parent[list][0]["size"].as_u64().unwrap();
        for (expected, is_good) in [(length, true), (length - 1, false), (length + 1, false)] {
            parent[list][0]["size"] = expected.into();
            objects.manifests.insert(tag.clone(), parent.to_string().into_bytes());
            match verify(&objects, &vector.subject(), &keys) {
                Err(Error::Refused { refusals, .. }) if !is_good => {
                    assert_eq!(refusals[0].reason, Reason::OtherLength { expected, length }, "{name}");
                }
                result => assert!(is_good && result.is_ok(), "{name}: {result:?}"),
            }
        }
    }
}

#[test]
fn a_signature_counts_for_its_own_manifest_alone() {
    let other = Digest::of(b"another manifest");
    for vector in vectors().iter().filter(|vector| vector.is_good()) {
        let mut objects = vector.objects();
        for suffix in ["", ".sig"] {
            if let Some(manifest) = objects.manifests.remove(&format!("{}{suffix}", referrers_tag(&vector.subject()))) {
                objects.manifests.insert(format!("{}{suffix}", referrers_tag(&other)), manifest);
            }
        }
        let Err(Error::Refused { refusals, .. }) = verify(&objects, &other, &keys(&vector.keys)) else {
            panic!("{}: not refused", vector.name);
        };
        let of_vector =
            |reason: &Reason| matches!(reason, Reason::OtherSubject { found } if vector.subject.ends_with(&**found));
        assert!(refusals.iter().any(|refusal| of_vector(&refusal.reason)), "{}: {refusals:?}", vector.name);
    }
}

/// Replaces an object, and its digest and length in everything that refers to it.
fn replace(objects: &Objects, name: &str, content: Vec<u8>) -> Objects {
    let mut objects = objects.clone();
    let Some(old) = objects.manifests.remove(name).or_else(|| objects.blobs.remove(name)) else { return objects };
    let is_blob = old.starts_with(b"{\"critical") || old.starts_with(b"{\"dsse");
    if !name.contains(':') {
        objects.manifests.insert(name.to_owned(), content);
        return objects;
    }
    let digest = Digest::of(&content).to_string();
    let referrers: Vec<(String, Vec<u8>)> = objects
        .manifests
        .iter()
        .filter_map(|(referrer, text)| Some((referrer, std::str::from_utf8(text).ok()?)))
        .filter(|(_, text)| text.contains(name))
        .map(|(referrer, text)| {
            let text = text.replace(name, &digest);
            let text = text.replace(&format!("\"size\":{}", old.len()), &format!("\"size\":{}", content.len()));
            (referrer.clone(), text.into_bytes())
        })
        .collect();
    let place = if is_blob { &mut objects.blobs } else { &mut objects.manifests };
    place.insert(digest, content);
    referrers.into_iter().fold(objects, |objects, (referrer, text)| replace(&objects, &referrer, text))
}

/// An attacker who may write to the repository changes one byte, and makes all digests fit: the signature then is
/// refused, or what changed was not signed.
#[test]
fn no_change_of_a_byte_makes_a_signature_of_another_manifest() {
    for case in ["cosign 2, ECDSA", "cosign 2, Ed25519", "cosign 3, ECDSA", "cosign 3, Ed25519"] {
        let vector = vector(case);
        let (objects, keys, subject) = (vector.objects(), keys(&vector.keys), vector.subject());
        let names: Vec<&String> = objects.manifests.keys().chain(objects.blobs.keys()).collect();
        for name in names {
            let content = objects.manifests.get(name).or_else(|| objects.blobs.get(name)).unwrap();
            for index in 0..content.len() {
                for change in [0x01, 0x20, 0x80] {
                    let mut content = content.clone();
                    content[index] ^= change;
                    let changed = replace(&objects, name, content.clone());
                    let result = verify(&changed, &subject, &keys);
                    if let Ok(verified) = &result {
                        assert_eq!(verified.subject, subject);
                        // A text of cosign 2 is signed to the last byte.
                        assert!(!content.starts_with(b"{\"critical"), "{case}: byte {index} of {name}");
                    }
                    // What the changed text names, if it names anything.
                    let text = String::from_utf8_lossy(&content);
                    let named = text.find("\"sha256:").and_then(|start| text.get(start + 1..start + 72)?.parse().ok());
                    let Some(other) = named.filter(|other| *other != subject) else { continue };
                    let mut moved = changed;
                    for suffix in ["", ".sig"] {
                        let manifest = moved.manifests.get(&format!("{}{suffix}", referrers_tag(&subject))).cloned();
                        let tag = format!("{}{suffix}", referrers_tag(&other));
                        moved.manifests.extend(manifest.map(|manifest| (tag, manifest)));
                    }
                    assert!(verify(&moved, &other, &keys).is_err(), "{case}: byte {index} of {name}");
                }
            }
        }
    }
}

/// Every change of a byte without new digests is found, unless it is in the part of an index or a manifest under a tag
/// that says nothing of the signature.
#[test]
fn a_changed_byte_under_a_digest_is_found() {
    for vector in vectors().iter().filter(|vector| ["cosign 2, ECDSA", "cosign 3, ECDSA"].contains(&&*vector.name)) {
        let objects = vector.objects();
        let names = objects.manifests.keys().chain(objects.blobs.keys()).filter(|name| name.contains(':'));
        for name in names {
            let length = objects.manifests.get(name).or_else(|| objects.blobs.get(name)).unwrap().len();
            for index in 0..length {
                let mut changed = objects.clone();
                let content = changed.manifests.get_mut(name).or_else(|| changed.blobs.get_mut(name)).unwrap();
                content[index] ^= 1;
                let result = verify(&changed, &vector.subject(), &keys(&vector.keys));
                assert_eq!(self::name(&result), "Swapped", "byte {index} of {name}");
            }
        }
    }
}

/// Numbers by the generator xorshift64*.
struct Random(Cell<u64>);

impl Random {
    fn below(&self, limit: usize) -> usize {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    /// Changes, removes, repeats or inserts a few bytes.
    fn change(&self, content: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let start = self.below(content.len());
            let end = (start + self.below(40)).min(content.len());
            match self.below(5) {
                0 => content.iter_mut().skip(start).take(1).for_each(|byte| *byte = self.below(256) as u8),
                1 => drop(content.drain(start..end)),
                2 => content.splice(start..start, content[start..end].to_vec()).for_each(drop),
                3 => content.splice(start..end, b"[{\"\\u0000\":-1e999}]".iter().copied()).for_each(drop),
                _ => content.truncate(end),
            }
        }
    }
}

#[test]
fn random_changes_do_not_panic() {
    let random = Random(Cell::new(0x5EED));
    let vectors = vectors();
    for _ in 0..20_000 {
        let vector = &vectors[random.below(vectors.len())];
        let mut objects = vector.objects();
        let names: Vec<String> = objects.manifests.keys().chain(objects.blobs.keys()).cloned().collect();
        let Some(name) = names.get(random.below(names.len())) else { continue };
        let content = objects.manifests.get_mut(name).or_else(|| objects.blobs.get_mut(name)).unwrap();
        random.change(content);
        let content = content.clone();
        let objects = replace(&objects, name, content);
        if let Ok(verified) = verify(&objects, &vector.subject(), &keys("both.pub")) {
            assert_eq!(verified.subject, vector.subject());
        }
    }
    for file in ["p256.pub", "ed25519.pub", "p256.key", "sec1.key", "ed25519.key", "encrypted.key", "rsa.pub"] {
        for _ in 0..500 {
            let mut text = data(file).into_bytes();
            random.change(&mut text);
            let text = String::from_utf8_lossy(&text);
            let _ = (PublicKey::from_pem(&text), SigningKey::from_pem(&text));
        }
    }
}

#[test]
fn a_repository_that_cannot_be_read_ends_the_search() {
    struct Broken;

    impl Fetch for Broken {
        type Error = &'static str;

        fn manifest(&self, _: &str) -> Result<Option<Vec<u8>>, &'static str> {
            Err("connection reset")
        }

        fn referrers(&self, _: &Digest) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
            Ok(None)
        }

        fn blob(&self, _: &Digest, _: u64) -> Result<Option<Vec<u8>>, &'static str> {
            Ok(None)
        }
    }

    let error = verify(&Broken, &Digest::of(b""), &keys("p256.pub")).unwrap_err();
    assert_eq!(error, Error::Fetch("connection reset"));
    assert_eq!(verify(&Broken, &Digest::of(b""), &[]), Err(Error::NoKeys));
}

#[test]
fn objects_and_their_number_have_limits() {
    let vector = vector("cosign 2, ECDSA");
    let (subject, keys) = (vector.subject(), keys("p256.pub"));
    let tag = format!("{}.sig", referrers_tag(&subject));

    // The first refusal of each signature is that of the content, which is not there.
    let layer = |digest: Digest| {
        format!(
            r#"{{"mediaType":"{SIMPLE_SIGNING}","digest":"{digest}","size":2,"annotations":{{"dev.cosignproject.cosign/signature":""}}}}"#
        )
    };
    let layers = vec![layer(Digest::of(b"{}")); MAX_SIGNATURES + 2].join(",");
    let mut objects = vector.objects();
    objects.manifests.insert(tag.clone(), format!(r#"{{"layers":[{layers}]}}"#).into_bytes());
    let Err(Error::Refused { refusals, .. }) = verify(&objects, &subject, &keys) else { panic!("not refused") };
    assert_eq!(refusals.len(), MAX_SIGNATURES + 1);
    assert_eq!(refusals[0].reason, Reason::Missing { digest: Digest::of(b"{}") });
    assert_eq!(refusals[MAX_SIGNATURES].reason, Reason::TooMany);

    // Neither a long manifest nor a content that is longer than it says is parsed.
    let long = vec![b' '; MAX_OBJECT as usize + 1];
    objects.manifests.insert(tag.clone(), long.clone());
    assert_eq!(name(&verify(&objects, &subject, &keys)), "TooLong");
    objects.manifests.insert(tag, format!(r#"{{"layers":[{}]}}"#, layer(Digest::of(&long))).into_bytes());
    objects.blobs.insert(Digest::of(&long).to_string(), long);
    assert_eq!(name(&verify(&objects, &subject, &keys)), "TooLong");
}

#[test]
fn keys_are_read_and_others_named() {
    let [ed25519, p256] = &*keys("both.pub") else { panic!("not two keys") };
    assert_eq!((ed25519.algorithm(), p256.algorithm()), (Algorithm::Ed25519, Algorithm::EcdsaP256));
    assert_eq!((&keys("ed25519.pub")[0], &keys("p256.pub")[0]), (ed25519, p256));
    for (file, expected) in [
        ("rsa.pub", "RSA"),
        ("p384.pub", "ECDSA P-384"),
        ("p521.pub", "ECDSA P-521"),
        ("secp256k1.pub", "ECDSA secp256k1"),
        ("ed448.pub", "Ed448"),
        ("x25519.pub", "X25519"),
    ] {
        let unsupported = KeyError::Algorithm { found: expected.to_owned() };
        assert_eq!(PublicKey::from_pem(&data(file)), Err(unsupported.clone()));
        assert_eq!(private(&file.replace(".pub", ".key")).unwrap_err(), unsupported);
    }
    assert_eq!(PublicKey::from_pem(&data("compressed.pub")), Err(KeyError::Compressed));
    assert_eq!(PublicKey::from_pem("no key"), Err(KeyError::NoKey { expected: "PUBLIC KEY" }));
    assert_eq!(PublicKey::from_pem(&" ".repeat(MAX_KEY_FILE as usize + 1)), Err(KeyError::TooLong));
    assert_eq!(PublicKey::from_pem(&data("p256.pub").repeat(17)), Err(KeyError::TooMany { limit: 16 }));
    let error = PublicKey::from_pem(&data("p256.key")).unwrap_err().to_string();
    assert!(error.contains("openssl pkey -pubout"), "{error}");

    let text = data("p256.pub");
    for invalid in [text.replace("END PUBLIC", "END PRIVATE"), text.replace("MFk", "MF"), text.replace("-----END", "")]
    {
        assert_eq!(PublicKey::from_pem(&invalid), Err(KeyError::InvalidPem), "{invalid}");
    }
    // `MFk` is a sequence of 89 bytes; 88 leave one behind, and `MFo` asks for one more.
    for invalid in [text.replace("MFk", "MFg"), text.replace("MFk", "MFo")] {
        assert_eq!(PublicKey::from_pem(&invalid), Err(KeyError::InvalidDer), "{invalid}");
    }
}

#[test]
fn private_keys_are_read_and_others_named() {
    for (file, public) in [
        ("p256.key", Some("p256.pub")),
        ("sec1.key", Some("p256.pub")),
        ("ecparam.key", None),
        ("ed25519.key", Some("ed25519.pub")),
    ] {
        let key = private(file).unwrap();
        assert!(public.is_none_or(|public| keys(public)[0] == *key.public_key()), "{file}");
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
    assert_eq!(private("pkcs1.key").unwrap_err(), KeyError::Algorithm { found: "RSA".to_owned() });
    assert_eq!(private("sec1-p384.key").unwrap_err(), KeyError::Rejected { message: "WrongAlgorithm".to_owned() });
    assert!(
        private("no-public.key")
            .unwrap_err()
            .to_string()
            .contains("`openssl pkey -in FILE` writes one with its public key")
    );
    assert!(
        private("encrypted.key").unwrap_err().to_string().ends_with("`openssl pkey -in FILE` removes its password")
    );
    let sigstore = data("encrypted.key").replace("ENCRYPTED", "ENCRYPTED SIGSTORE");
    assert!(SigningKey::from_pem(&sigstore).unwrap_err().to_string().contains("cosign import-key-pair"));
    assert_eq!(
        private("p256.pub").unwrap_err(),
        KeyError::Label { found: "PUBLIC KEY".to_owned(), expected: "PRIVATE KEY", help: "" }
    );
    let two = data("p256.key").repeat(2);
    assert_eq!(SigningKey::from_pem(&two).unwrap_err(), KeyError::TooMany { limit: 1 });
    assert_eq!(SigningKey::from_pem("").unwrap_err(), KeyError::NoKey { expected: "PRIVATE KEY" });
}

/// The repository after a signature was pushed.
fn pushed(signature: &Signature, index: Vec<u8>, subject: &Digest) -> Objects {
    let name = |content: &[u8]| Digest::of(content).to_string();
    let manifest = (name(&signature.manifest), signature.manifest.clone());
    Objects {
        manifests: [manifest, (referrers_tag(subject), index)].into(),
        blobs: [(name(&signature.bundle), signature.bundle.clone()), (name(CONFIG), CONFIG.to_vec())].into(),
        referrers: None,
    }
}

#[test]
fn signatures_are_verified() {
    let manifest = b"{\"layers\": []}";
    let subject = Digest::of(manifest);
    for file in ["p256.key", "sec1.key", "ed25519.key"] {
        let key = private(file).unwrap();
        let signature = key.sign(manifest, MANIFEST).unwrap();
        let index = signature.add_to_index(None).unwrap().unwrap();
        let objects = pushed(&signature, index, &subject);
        let verified = verify(&objects, &subject, &[key.public_key().clone()]).unwrap();
        assert_eq!((verified.format, &verified.key), (Format::Bundle, key.public_key()));
        assert_eq!(name(&verify(&objects, &subject, &keys("other.pub"))), "WrongKey");
    }
}

/// openssl makes the same signature with Ed25519, and `data/make.py` the same objects.
#[test]
fn signatures_with_ed25519_are_those_of_openssl() {
    let made: BTreeMap<String, String> = serde_json::from_str(&data("made.json")).unwrap();
    let signature = private("ed25519.key").unwrap().sign(made["signed"].as_bytes(), MANIFEST).unwrap();
    assert_eq!(String::from_utf8_lossy(&signature.bundle), made["bundle"]);
    assert_eq!(String::from_utf8_lossy(&signature.manifest), made["manifest"]);
    let index = signature.add_to_index(None).unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&index), made["index"]);
}

#[test]
fn an_index_keeps_what_is_in_it() {
    let manifest = b"{}";
    let sign = |file| private(file).unwrap().sign(manifest, MANIFEST).unwrap();
    let (first, second) = (sign("ed25519.key"), sign("p256.key"));
    let other =
        r#"{"manifests":[{"digest":"sha512:0","mediaType":"text/plain","size":1,"x":[2.5]}],"annotations":{"a":"b"}}"#;
    let index = first.add_to_index(Some(other.as_bytes())).unwrap().unwrap();
    let index = second.add_to_index(Some(&index)).unwrap().unwrap();
    assert_eq!((first.add_to_index(Some(&index)), second.add_to_index(Some(&index))), (Ok(None), Ok(None)));

    let mut expected: serde_json::Value = serde_json::from_str(other).unwrap();
    for signature in [&first, &second] {
        let alone: serde_json::Value = serde_json::from_slice(&signature.add_to_index(None).unwrap().unwrap()).unwrap();
        expected["manifests"].as_array_mut().unwrap().extend(alone["manifests"].as_array().unwrap().iter().cloned());
    }
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&index).unwrap(), expected);

    for invalid in ["", "{}", "[]", r#"{"manifests":{}}"#, r#"{"manifests":[],"manifests":[]}"#] {
        assert!(matches!(first.add_to_index(Some(invalid.as_bytes())), Err(Reason::InvalidJson { .. })), "{invalid}");
    }
    let full = format!(r#"{{"manifests":[],"annotations":{{"a":"{}"}}}}"#, "x".repeat(MAX_OBJECT as usize - 100));
    assert!(matches!(first.add_to_index(Some(full.as_bytes())), Err(Reason::TooLong { .. })));
}

#[test]
fn errors_do_not_repeat_what_others_wrote_without_bounds() {
    let found = "\u{1b}[2J\n".repeat(1_000);
    let text = Reason::OtherSubject { found }.to_string();
    assert!(text.len() < 1_200 && !text.contains(char::is_control), "{text}");
    let error = verify(
        &Objects {
            referrers: Some(vec![format!("{{\"{0}\":1,\"{0}\":1}}", "\\u001b".repeat(1_000)).into()]),
            ..Objects::default()
        },
        &Digest::of(b""),
        &keys("p256.pub"),
    );
    let text = error.unwrap_err().to_string();
    assert!(text.len() < 1_500 && !text.contains(char::is_control), "{text}");
}

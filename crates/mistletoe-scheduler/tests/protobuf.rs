//! The encoder, against what Kubernetes' own encoder writes (`generate/objects.go`).

use std::path::PathBuf;

use mistletoe_scheduler::protobuf::{self, Error};

type Encode = fn(&[u8]) -> Result<Vec<u8>, Error>;

const KINDS: [(&str, Encode); 2] = [("pod", protobuf::pod), ("node", protobuf::node)];

fn data(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/protobuf").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Splits a file into messages, each after four bytes of length.
fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (message, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        messages.push(message);
        bytes = rest;
    }
    messages
}

#[track_caller]
fn same(name: &str, ours: &[u8], expected: &[u8]) {
    let first = ours.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(ours.len().min(expected.len()));
    let around = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[first.saturating_sub(60)..bytes.len().min(first + 60)]).into_owned()
    };
    assert!(ours == expected, "{name} differs at {first}:\n{:?}\n{:?}", around(ours), around(expected));
}

#[test]
fn objects_of_a_cluster_are_encoded_as_kubernetes_does() {
    for (kind, encode) in KINDS {
        let encoded = encode(&data(&format!("{kind}.json"))).expect("an object");
        same(kind, &encoded, messages(&data(&format!("{kind}.pb")))[0]);
    }
}

#[test]
fn every_field_is_encoded_as_kubernetes_does() {
    for (kind, encode) in KINDS {
        let (lines, expected) = (data(&format!("{kind}-generated.jsonl")), data(&format!("{kind}-generated.pb")));
        let lines: Vec<_> = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let expected = messages(&expected);
        assert_eq!(lines.len(), expected.len());
        assert!(lines.len() > 20);
        for (i, (line, expected)) in lines.into_iter().zip(expected).enumerate() {
            let encoded = encode(line).unwrap_or_else(|error| panic!("{kind} {i}: {error}"));
            same(&format!("{kind} {i}"), &encoded, expected);
        }
    }
}

#[test]
fn an_error_says_where_it_is() {
    for (json, expected) in [
        ("", "EOF while parsing a value"),
        ("null", "invalid type: null, expected an object (Pod)"),
        ("[]", "invalid type: sequence, expected an object (Pod)"),
        ("{} {}", "trailing characters"),
        (r#"{"spec": 1}"#, "spec: invalid type: integer `1`, expected an object (PodSpec)"),
        (r#"{"metadata": {"name": 1}}"#, "metadata.name: invalid type: integer `1`, expected a string"),
        (r#"{"metadata": {"name": "a", "name": "b"}}"#, "metadata.name: the field is there more than once"),
        (r#"{"metadata": {"labels": {"a": "1", "b": true}}}"#, r#"metadata.labels["b"]: invalid type: boolean `true`"#),
        (r#"{"metadata": {"labels": {"a": "1", "a": "2"}}}"#, "metadata.labels: a key is there more than once"),
        (r#"{"metadata": {"labels": []}}"#, "metadata.labels: invalid type: sequence, expected an object"),
        (r#"{"metadata": {"finalizers": {}}}"#, "metadata.finalizers: invalid type: map, expected a list"),
        (r#"{"metadata": {"finalizers": "a"}}"#, r#"metadata.finalizers: invalid type: string "a", expected a list"#),
        (r#"{"metadata": {"finalizers": ["a", 2]}}"#, "metadata.finalizers[1]: invalid type: integer `2`"),
        (r#"{"metadata": {"finalizers": 5}}"#, "metadata.finalizers: invalid type: integer `5`, expected a list"),
        (r#"{"metadata": {"creationTimestamp": "now"}}"#, "metadata.creationTimestamp: invalid value: string \"now\""),
        (r#"{"metadata": {"generation": 9223372036854775808}}"#, "metadata.generation: invalid value: integer"),
        (r#"{"metadata": {"generation": 1.5}}"#, "metadata.generation: invalid type: floating point `1.5`"),
        (r#"{"spec": {"priority": 2147483648}}"#, "spec.priority: invalid value: integer `2147483648`"),
        (
            r#"{"spec": {"hostNetwork": "true"}}"#,
            r#"spec.hostNetwork: invalid type: string "true", expected a boolean"#,
        ),
        (r#"{"spec": {"overhead": {"cpu": true}}}"#, r#"spec.overhead["cpu"]: expected a quantity"#),
        (
            r#"{"spec": {"containers": [{}, {"livenessProbe": {"httpGet": {"port": {}}}}]}}"#,
            "spec.containers[1].livenessProbe.httpGet.port: invalid type: map, expected an integer of 32 bits or a string",
        ),
    ] {
        let error = protobuf::pod(json.as_bytes()).expect_err(json).to_string();
        assert!(error.starts_with(expected), "{json}: {error}");
    }
    // The text of an error has an end.
    let json =
        format!(r#"{{"metadata": {{"labels": {{"{}": "{}"}}, "name": ["#, "k".repeat(10_000), "v".repeat(10_000));
    assert!(protobuf::pod(json.as_bytes()).expect_err("no end").to_string().len() < 600);
    let json = format!(r#"{{"spec": {{"hostNetwork": "{}"}}}}"#, "ä".repeat(10_000));
    assert!(protobuf::pod(json.as_bytes()).expect_err("a string").to_string().len() < 600);
}

#[test]
fn a_message_has_a_maximum_length() {
    let long = format!(r#"{{"metadata": {{"name": "{}"}}}}"#, "a".repeat(9 << 20));
    let error = protobuf::pod(long.as_bytes()).expect_err("too long").to_string();
    assert!(error.contains("the message is longer than 8388608 bytes"), "{error}");
    // Each element becomes many times as long as its text, which has 728 + 28 bytes.
    let empty = format!(r#"{{"spec": {{"containers": [{}{{}}]}}}}"#, "{},".repeat(242));
    assert_eq!(empty.len(), 756);
    let error = protobuf::pod(empty.as_bytes()).expect_err("too long").to_string();
    assert!(error.contains("the message is longer than 1768 bytes"), "{error}");
}

#[test]
fn changed_text_is_encoded_or_an_error() {
    let (pod, mut random, mut encoded) = (data("pod.json"), 1_u64, 0);
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for _ in 0..3000 {
        let mut text = pod.clone();
        for _ in 0..=next(3) {
            let at = next(text.len());
            match next(3) {
                0 => text[at] = b"{}[]\",:0n-\\ \xff"[next(13)],
                1 => drop(text.drain(at..text.len().min(at + next(40)))),
                _ => drop(text.splice(at..at, pod[at.min(pod.len())..pod.len().min(at + next(40))].to_vec())),
            }
        }
        encoded += usize::from(protobuf::pod(&text).is_ok());
    }
    assert!(encoded > 100, "{encoded}");
}

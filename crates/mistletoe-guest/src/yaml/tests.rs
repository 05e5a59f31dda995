use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;

use mistletoe::documents::yaml::{self as host, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::read::{Node, Scalar, resolve};
use super::{de, ser};
use crate::Yaml;

/// Returns what the host's reader makes of a text.
#[track_caller]
fn by_host(text: &str) -> Value {
    host::parse(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

/// Returns what the guest's reader made of it, as the host's type.
fn value(node: &Node<'_>) -> Value {
    match node {
        Node::Scalar(text, is_string) => match resolve(text, *is_string).expect("in range") {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Int(value) => Value::Int(value),
            Scalar::Float(value) => Value::Float(value),
            Scalar::String(text) => text.into(),
        },
        Node::Sequence(items) => Value::Sequence(items.iter().map(value).collect()),
        Node::Mapping(entries) => {
            let name = |key: &Node<'_>| value(key).as_str().expect("the key is a string").to_owned();
            Value::Mapping(entries.iter().map(|(key, node)| (name(key), value(node))).collect())
        }
    }
}

/// Returns what the writer's text is for both readers.
#[track_caller]
fn written(value: &serde_json::Value) -> Value {
    let text = ser::document(value).expect("can be written");
    let read = by_host(&text);
    let node = Node::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    assert_eq!(self::value(&node), read, "{text}");
    read
}

fn json_value(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number.into()),
            None => Value::Float(number.as_f64().expect("a number")),
        },
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(items) => Value::Sequence(items.iter().map(json_value).collect()),
        serde_json::Value::Object(entries) => {
            Value::Mapping(entries.iter().map(|(key, value)| (key.clone(), json_value(value))).collect())
        }
    }
}

/// A generator of numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn text(&mut self) -> String {
        const PARTS: [&str; 40] = [
            "a", "b", " ", "  ", "\n", "\n\n", ":", ": ", "#", " #", "-", "- ", "'", "\"", "\\", "\t", "\r", "|", ">",
            "&a", "*a", "!t", "%", "@", "`", "{", "}", "[", "]", ",", "?", "---", "...", "é", "\u{85}", "\u{2028}",
            "\u{feff}", "\0", "😀", "0",
        ];
        (0..self.below(7)).map(|_| PARTS[self.below(PARTS.len())]).collect()
    }

    fn tree(&mut self, depth: usize) -> serde_json::Value {
        match self.below(if depth == 0 { 5 } else { 9 }) {
            0 => json!(self.below(2) == 0),
            1 => json!(self.below(1000)),
            2..=4 => json!(self.text()),
            5 | 6 => (0..self.below(4)).map(|_| self.tree(depth - 1)).collect(),
            _ => (0..self.below(4)).map(|_| (self.text(), self.tree(depth - 1))).collect(),
        }
    }
}

#[test]
fn scalars_are_what_they_are_for_the_host() {
    for text in [
        "",
        "~",
        "null",
        "Null",
        "NULL",
        "nULL",
        "true",
        "True",
        "TRUE",
        "tRue",
        "false",
        "yes",
        "no",
        "on",
        "0",
        "-0",
        "+5",
        "017",
        "0o17",
        "0o18",
        "0x1fF",
        "0x",
        "0X1F",
        "-0x1F",
        "1_000",
        "0b1",
        "1.0",
        "1.",
        ".5",
        "+.5",
        ".",
        "+",
        "1e3",
        "-1.5E-3",
        "1e",
        "e3",
        "1e3.5",
        "..5",
        "0.1.2",
        ".inf",
        "+.INF",
        "-.Inf",
        ".iNF",
        "+.nan",
        "2024-01-01",
        "1:30",
        "=",
        "<<",
        "é",
        "'5'",
        "\"null\"",
        "!!str 5",
        "!!int 5",
        "! 5",
        "170141183460469231731687303715884105727",
        "-170141183460469231731687303715884105728",
    ] {
        let document = format!("v: {text}\n");
        let node = Node::parse(&document).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(value(&node), by_host(&document), "{text}");
    }
    for text in ["170141183460469231731687303715884105728", "1e999", "-1e999"] {
        assert!(resolve(text, false).expect_err(text).to_string().contains("out of range"), "{text}");
        assert!(host::parse(text).is_err(), "{text}");
    }
    assert!(matches!(resolve(".NaN", false), Ok(Scalar::Float(number)) if number.is_nan()));
}

#[test]
fn what_is_written_is_read_back() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let tree = random.tree(4);
        assert_eq!(written(&tree), json_value(&tree), "{}", ser::document(&tree).expect("can be written"));
    }
    for key in ["", "a: b", "k\n", &"x".repeat(2000), &"\u{1}".repeat(500)] {
        let tree = json!([{"before": 1, key: {"in": [1, {key: "x\ny"}]}, "zz": [[]]}]);
        assert_eq!(written(&tree), json_value(&tree));
    }
}

#[test]
fn words_of_other_versions_are_in_quotes() {
    // Each of these is something else for a reader of YAML 1.1, as most tools for Kubernetes have, or of YAML 1.2.
    for word in [
        "",
        "~",
        "null",
        "NULL",
        "true",
        "False",
        "yes",
        "No",
        "ON",
        "off",
        "y",
        "N",
        "1",
        "-1",
        "+1",
        "1_000",
        "0b1",
        "0o7",
        "017",
        "0x1F",
        "1.5",
        ".5",
        "1e3",
        ".inf",
        "-.inf",
        ".nan",
        "2024-01-01",
        "12:30:45",
        "=",
        "<<",
        "1.25-alpine",
    ] {
        let text = ser::document(&json!({ "v": word })).expect("can be written");
        assert_eq!(text, format!("v: \"{word}\"\n"));
    }
    for word in ["web", "nginx:1.25", "/bin/sh", "a b", "a#b", "v1.2", "e3", "none", "a_é", "http://host:80/x?y=z&a=b"]
    {
        let text = ser::document(&json!({ "v": word })).expect("can be written");
        let quoted = format!("v: {word}\n");
        assert_eq!(text, quoted);
    }
}

#[test]
fn the_layout_is_that_of_kubernetes() {
    #[derive(Serialize)]
    enum Volume {
        None,
        Size(u8),
        Path { host: &'static str },
        Two(u8, f32),
    }

    let value = (
        json!({"args": ["-c", {"name": "x", "ports": [80]}], "script": "a\n  b\n", "nothing": {}, "empty": [], "f": 1.0}),
        [Volume::None, Volume::Size(1), Volume::Path { host: "/x" }, Volume::Two(1, 0.1)],
        BTreeMap::from([(1, Some('c')), (2, None)]),
        [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0, 1e300],
        "tail\n\n",
    );
    let expected = "\
- args:
  - \"-c\"
  - name: x
    ports:
    - 80
  empty: []
  f: 1.0
  nothing: {}
  script: |
    a
      b
- - None
  - Size: 1
  - Path:
      host: /x
  - Two:
    - 1
    - 0.1
- 1: c
  2: null
- - .inf
  - -.inf
  - .nan
  - -0.0
  - 1e300
- |+
  tail

";
    assert_eq!(ser::document(&value).expect("can be written"), expected);
    by_host(expected);
}

#[test]
fn a_collection_is_no_key() {
    let error = ser::document(&BTreeMap::from([(vec![1], 2)])).expect_err("a list as a key");
    assert_eq!(error.to_string(), "a key must be a scalar");
}

#[derive(Debug, Deserialize, PartialEq)]
struct Input<'a> {
    name: &'a str,
    #[serde(default)]
    replicas: Option<u8>,
    #[serde(default)]
    ports: Vec<Port>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    ratio: f64,
    #[serde(default)]
    kind: Kind,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Port {
    number: u16,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Kind {
    #[default]
    Plain,
    Sized(u64),
    Named {
        first: String,
    },
    Pair(i8, i8),
}

fn input(data: &str) -> Result<Input<'_>, String> {
    de::input(data).map_err(|error| error.to_string())
}

#[test]
fn inputs_are_values() {
    let text = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistInput\nmore: &x 1\ndata:\n  name: web\n  replicas: 0x2\n  ports: [{number: 80}, number: 443]\n  labels: {a: 'b', \"c\": d}\n  ratio: 1\n  kind: {sized: 18446744073709551615}\n  other: *x\n";
    let expected = Input {
        name: "web",
        replicas: Some(2),
        ports: vec![Port { number: 80 }, Port { number: 443 }],
        labels: [("a", "b"), ("c", "d")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ratio: 1.0,
        kind: Kind::Sized(u64::MAX),
    };
    assert_eq!(input(text), Ok(expected));
    // JSON is YAML.
    let json = r#"{"data": {"name": "web", "replicas": null, "kind": {"pair": [-1, 2]}}}"#;
    assert_eq!(input(json).expect("is read").kind, Kind::Pair(-1, 2));
    let named = "data: {name: x, kind: {named: {first: y}}}";
    assert_eq!(input(named).expect("is read").kind, Kind::Named { first: "y".to_owned() });
    assert_eq!(input("data: {name: x, kind: plain}").expect("is read").kind, Kind::Plain);
}

#[test]
fn errors_name_the_place() {
    for (text, expected) in [
        ("", "the input is not a mapping"),
        ("- 1", "the input is not a mapping"),
        ("name: x", "`data`: the field is missing"),
        ("apiVersion: v2\ndata: {}", "`apiVersion`: expected `mistletoe.dev/v1alpha1`"),
        ("data: 5", "`data`: invalid type: integer `5`, expected struct Input"),
        ("data: {}", "`data`: missing field `name`"),
        ("data: {name: 5}", "`data.name`: invalid type: integer `5`, expected a borrowed string"),
        ("data: {name: x, replicas: two}", "`data.replicas`: invalid type: string \"two\", expected u8"),
        ("data: {name: x, replicas: 256}", "`data.replicas`: invalid value: integer `256`, expected u8"),
        (
            "data: {name: x, ports: [{number: 1}, {number: -1}]}",
            "`data.ports[1].number`: invalid value: integer `-1`, expected u16",
        ),
        ("data: {name: x, ports: {a: 1}}", "`data.ports`: invalid type: map, expected a sequence"),
        ("data: {name: x, labels: {a b: [1]}}", "`data.labels[\"a b\"]`: invalid type: sequence, expected a string"),
        (
            "data: {name: x, kind: other}",
            "`data.kind`: unknown variant `other`, expected one of `plain`, `sized`, `named`, `pair`",
        ),
        ("data: {name: x, kind: sized}", "`data.kind`: the variant `sized` needs a value"),
        ("data: {name: x, kind: {pair: [1, 2, 3]}}", "`data.kind.pair`: invalid length 3, expected fewer items"),
        ("data: {name: x, kind: {plain: 1}}", "`data.kind.plain`: this variant has no value"),
        ("data: {name: x, ratio: 1e999}", "`data.ratio`: the number 1e999 is out of range"),
        ("data:\n  name: x\n  name: y\n", "line 4: duplicate key `name`"),
        ("data: {a: 1, 'a': 2}", "line 1: duplicate key `a`"),
        ("data: &a [*a]", "line 1: an alias refers to the collection it stands in"),
        ("data: !other 5", "line 1: the tag `!other` is not supported here"),
        ("data: {[a]: b}", "line 1: a collection cannot be a key"),
        ("data: 1\n---\ndata: 2\n", "line 2: there is more than one document"),
    ] {
        assert_eq!(input(text).expect_err(text), expected, "{text}");
    }
    assert!(input("data: {").expect_err("no YAML").starts_with("line 1: "));
    // A number and a string are two keys.
    assert!(Node::parse("{1: a, '1': b}").is_ok());
}

#[test]
fn an_input_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Node::parse(&nested(128)).is_ok());
    assert!(Node::parse(&nested(129)).is_err_and(|error| error.to_string().contains("more than 128 nested")));
    // Each line is ten times the one before.
    let mut laughs = "a0: &a0 x\n".to_owned();
    for i in 1..10 {
        laughs += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","));
    }
    assert!(Node::parse(&laughs).is_err_and(|error| error.to_string().contains("more than 1000000 nodes")));
    let mut deep = "a0: &a0 x\n".to_owned();
    for i in 1..200 {
        deep += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    assert!(Node::parse(&deep).is_err_and(|error| error.to_string().contains("more than 128 nested")));
}

#[test]
fn a_document_is_a_value() {
    let text = "b: [1, 0x10, 1.5, yes, ~, true]\na:\n  x: |\n    text\n";
    assert_eq!(
        serde_json::to_value(Yaml(text)).expect("is YAML"),
        json!({"b": [1, 16, 1.5, "yes", null, true], "a": {"x": "text\n"}})
    );
    assert!(serde_json::to_value(Yaml("{")).is_err());
}

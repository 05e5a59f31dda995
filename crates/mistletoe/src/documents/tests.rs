use mistletoe_abi::ErrorKind;

use super::yaml::{self, Mapping, Value};
use super::{MistInput, MistPackage, MistResult};

/// Returns path, line and problem of the error that parsing `text` fails with.
#[track_caller]
fn fails(text: &str) -> (String, Option<u64>, String) {
    match yaml::parse(text) {
        Ok(value) => panic!("{:.80} was read as {:.80}", text, format!("{value:?}")),
        Err(error) => (error.path, error.line, error.problem),
    }
}

#[track_caller]
fn fails_at(text: &str, path: &str, line: u64, problem: &str) {
    let found = fails(text);
    assert_eq!((found.0.as_str(), found.1), (path, Some(line)), "{}", found.2);
    assert!(found.2.contains(problem), "{}", found.2);
}

#[track_caller]
fn mapping(text: &str) -> Mapping {
    match yaml::parse(text) {
        Ok(Value::Mapping(mapping)) => mapping,
        other => panic!("{other:?}"),
    }
}

/// Returns path and problem of a document error.
#[track_caller]
fn schema<T: std::fmt::Debug>(result: mistletoe_abi::Result<T>) -> (String, String) {
    match result.expect_err("should not be read").kind() {
        ErrorKind::Document { path, problem, .. } => (path.clone(), problem.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn plain_scalars_are_read_by_the_core_schema() {
    use Value::{Bool, Float, Int, Null};
    for (text, value) in [
        ("", Null),
        ("~", Null),
        ("null", Null),
        ("Null", Null),
        ("NULL", Null),
        ("true", Bool(true)),
        ("True", Bool(true)),
        ("TRUE", Bool(true)),
        ("false", Bool(false)),
        ("False", Bool(false)),
        ("FALSE", Bool(false)),
        ("0", Int(0)),
        ("-0", Int(0)),
        ("+5", Int(5)),
        ("017", Int(17)),
        ("0o17", Int(15)),
        ("0x1fF", Int(511)),
        ("170141183460469231731687303715884105727", Int(i128::MAX)),
        ("-170141183460469231731687303715884105728", Int(i128::MIN)),
        ("1.0", Float(1.0)),
        ("1.", Float(1.0)),
        (".5", Float(0.5)),
        ("+.5", Float(0.5)),
        ("1e3", Float(1000.0)),
        ("-1.5E-3", Float(-0.0015)),
        (".inf", Float(f64::INFINITY)),
        ("+.INF", Float(f64::INFINITY)),
        ("-.Inf", Float(f64::NEG_INFINITY)),
    ] {
        assert_eq!(yaml::parse_scalar(text).as_ref(), Ok(&value), "{text}");
        assert_eq!(mapping(&format!("v: {text}\n")).get("v"), Some(&value), "{text}");
    }
    for text in [
        "nULL",
        "tRue",
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "1_000",
        "0b1",
        "0X1F",
        "0O7",
        "0o18",
        "0x",
        "0o",
        "-0x1F",
        "1e",
        "e3",
        ".",
        "+",
        "-",
        "+.nan",
        "-.nan",
        ".iNF",
        "2024-01-01",
        "1:30",
        "=",
        "<<",
        "0.1.2",
        "..5",
        "1e3.5",
        "é",
    ] {
        assert_eq!(yaml::parse_scalar(text), Ok(text.into()), "{text}");
        if text != "-" {
            assert_eq!(mapping(&format!("v: {text}\n")).get("v"), Some(&text.into()), "{text}");
        }
    }
    assert!(matches!(yaml::parse_scalar(".NaN"), Ok(Float(number)) if number.is_nan()));
    for text in ["170141183460469231731687303715884105728", "0xfffffffffffffffffffffffffffffffff", "1e999", "-1e999"] {
        let error = yaml::parse_scalar(text).expect_err(text);
        assert!(error.problem.contains("out of range"), "{error}");
        fails_at(&format!("a:\n  b: {text}\n"), "a.b", 2, "out of range");
    }
    fails_at(&"9".repeat(1_000_000), "", 1, "out of range");
}

#[test]
fn other_scalars_are_strings() {
    let read = mapping("a: '5'\nb: \"null\"\nc: |\n  1\n  2\nd: >-\n  true\ne: ''\n");
    for (key, text) in [("a", "5"), ("b", "null"), ("c", "1\n2\n"), ("d", "true"), ("e", "")] {
        assert_eq!(read.get(key), Some(&text.into()), "{key}");
    }
}

#[test]
fn tags_have_to_fit() {
    let read = mapping(
        "a: !!str 5\nb: ! 5\nc: !!str\nd: !!int 5\ne: !!float 1\nf: !!null ~\ng: !!bool true\nh: !!seq [1]\n\
         i: !!map {}\nj: !<tag:yaml.org,2002:int> 7\nk: ! [1]\nl: !!int '5'\n",
    );
    let one = Value::Sequence(vec![Value::Int(1)]);
    for (key, value) in [
        ("a", "5".into()),
        ("b", "5".into()),
        ("c", "".into()),
        ("d", Value::Int(5)),
        ("e", Value::Float(1.0)),
        ("f", Value::Null),
        ("g", Value::Bool(true)),
        ("h", one.clone()),
        ("i", Mapping::new().into()),
        ("j", Value::Int(7)),
        ("k", one),
        ("l", Value::Int(5)),
    ] {
        assert_eq!(read.get(key), Some(&value), "{key}");
    }
    fails_at("a: [1, !x 5]", "a[1]", 1, "`!x`");
    fails_at("a: !!binary aGk=", "a", 1, "`!!binary` is not supported");
    fails_at("a: !!int x", "a", 1, "`!!int` does not fit \"x\"");
    fails_at("a: !!float 0x1", "a", 1, "does not fit");
    fails_at("a: !!seq {}", "a", 1, "`!!seq` does not fit");
    fails_at("a: !!map x", "a", 1, "`!!map` does not fit");
    fails_at("a: !!set {}", "a", 1, "`!!set` is not supported");
    fails_at("a: !thing {}", "a", 1, "`!thing`");
}

#[test]
fn order_is_kept_and_marks_and_line_ends_do_not_matter() {
    let read = mapping("\u{feff}b: 1\r\na: |\r\n  x\r\n  y\r\n1: c\r\n");
    let keys: Vec<_> = read.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys, ["b".into(), "a".into(), Value::Int(1)]);
    assert_eq!(read.get("a"), Some(&"x\ny\n".into()));
    for empty in ["", "\n", "# nothing\n", "---\n", "---\n...\n", "\u{feff}"] {
        assert_eq!(yaml::parse(empty), Ok(Value::Null), "{empty:?}");
    }
    assert_eq!(yaml::parse("%YAML 1.2\n---\na\n"), Ok("a".into()));
    assert_eq!(yaml::parse("%YAML 1.1\n---\nyes\n"), Ok("yes".into()));
    fails_at("\u{feff}%YAML 1.2\r\n---\n# c\na: !x y\n", "a", 4, "!x");
    // Comments and empty lines may stand before the marker, and the document may stand on the marker's line.
    for text in ["%YAML 1.2\n\n# c\n \t# c\n--- a\n", "%YAML 1.2\r\n\r\n---\ta", "%YAML 1.1\n---\na\n..."] {
        assert_eq!(yaml::parse(text), Ok("a".into()), "{text:?}");
    }
    for text in ["", "a: 1\n", "# c\na: 1\n", "a: 1\n---\n", " ---\na\n", "---a\n", "...\n", "\n\n"] {
        fails_at(&format!("%YAML 1.2\n{text}"), "", 1, "`---`");
    }
    for directive in ["%YAML 2.0", "%TAG !e! tag:example.com,2000:", "%X", "%YAML 1.2\n%YAML 1.2"] {
        assert!(fails(&format!("{directive}\n---\na\n")).1.is_some(), "{directive}");
    }
}

#[test]
fn one_document_is_read_to_the_end() {
    assert_eq!(yaml::parse("a\n...\n# the end\n"), Ok("a".into()));
    fails_at("a: 1\n---\nb: 2\n", "", 2, "more than one document");
    fails_at("a\n...\n---\n", "", 3, "more than one document");
    for text in ["a: 1\n...\n]]]\n", "a: 1\n...\nb: [\n", "a: [1\n", "a: 'x\n", "a: *x\n", "a: \0", "[}"] {
        assert!(fails(text).1.is_some(), "{text:?}");
    }
}

#[test]
fn keys_are_scalars_and_distinct() {
    for (text, path, line) in [
        ("a: 1\na: 2\n", "a", 2),
        ("x: [{q: {z: 1, 'z': 2}}]\n", "x[0].q.z", 1),
        ("null: 1\n~: 2\n", "[null]", 2),
        ("1: 1\n0x1: 2\n", "[1]", 2),
        ("1.0: 1\n1e0: 2\n", "[1.0]", 2),
        ("0.0: 1\n-0.0: 2\n", "[-0.0]", 2),
        (".nan: 1\n.NaN: 2\n", "[NaN]", 2),
        ("&k a: 1\n*k : 2\n", "a", 2),
    ] {
        fails_at(text, path, line, "duplicate key");
    }
    assert_eq!(mapping("'1': a\n1: b\n1.0: c\n'null': d\nnull: e\n'true': f\ntrue: g\n").len(), 7);
    // Many keys are compared by their hashes, few one by one.
    let many: String = (0..1000).map(|i| format!("k{i}: {i}\n")).collect();
    assert_eq!(mapping(&many).len(), 1000);
    for i in [0, 15, 16, 17, 999] {
        fails_at(&format!("{many}k{i}: x\n"), &format!("k{i}"), 1001, "duplicate key");
    }
    for (text, path) in [("? [a]\n: 1\n", ""), ("a: {{b: c}: d}\n", "a"), ("- &x {a: 1}\n- *x : 2\n", "[1]")] {
        let found = fails(text);
        assert_eq!((found.0.as_str(), found.2.as_str()), (path, "a collection cannot be a key"));
    }
}

#[test]
fn aliases_are_copies() {
    let read =
        mapping("base: &b {x: [1, &t two]}\nuse: *b\nkeys: {*t : *t}\nagain: &b 5\nlast: *b\nnone: &n\nsame: *n\n");
    assert_eq!(read.get("use"), read.get("base"));
    assert_eq!(read.get("keys"), yaml::parse("{two: two}").ok().as_ref());
    assert_eq!(read.get("last"), Some(&Value::Int(5)));
    assert_eq!(read.get("same"), Some(&Value::Null));
    // No merge keys: `<<` is a key like any other.
    assert_eq!(mapping("a: &a {x: 1}\nb:\n  <<: *a\n").get("b"), yaml::parse("{'<<': {x: 1}}").ok().as_ref());
    fails_at("a: &a [1, *a]", "a[1]", 1, "the collection it stands in");
    fails_at("a: &a {b: {c: *a}}", "a.b.c", 1, "the collection it stands in");
    assert!(fails("a: *b\nb: &b 1\n").2.contains("anchor"));
}

/// Returns a text of ten levels, each with ten copies of the level before.
fn laughs() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for i in 1..10 {
        let copies = vec![format!("*a{}", i - 1); 10].join(", ");
        text += &format!("a{i}: &a{i} [{copies}]\n");
    }
    text
}

#[test]
fn copies_count() {
    assert!(fails(&laughs()).2.contains("more than 1000000 nodes"));
    let text = format!("a: &a '{}'\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 70].join(", "));
    let found = fails(&text);
    assert!(found.0.starts_with("b[6") && found.2.contains("more than 67108864 bytes"), "{found:?}");
    let nested = format!("{}\"{}\"{}", "&a [".repeat(100), "x".repeat(1 << 20), "]".repeat(100));
    assert!(fails(&nested).2.contains("more than 67108864 bytes"));
    let anchors: String = (0..1_000_000).map(|i| format!("- &a{i} x\n")).collect();
    let found = fails(&anchors);
    assert!(found.0 == "[499999]" && found.2.contains("nodes"), "{found:?}");
    let same = "- &a x\n".repeat(1_000_000);
    assert!(fails(&same).2.contains("nodes"));
}

#[test]
fn nodes_are_counted() {
    // The sequence is one node.
    let items = "- a\n".repeat(yaml::MAX_NODES - 1);
    assert!(matches!(yaml::parse(&items), Ok(Value::Sequence(items)) if items.len() == yaml::MAX_NODES - 1));
    fails_at(&format!("{items}- a\n"), "[999999]", 1_000_000, "nodes");
    assert!(fails(&format!("[{}]", ",[]".repeat(yaml::MAX_NODES)[1..].to_owned())).2.contains("nodes"));
    let keys: String = (0..500_000).map(|i| format!("{i}:\n")).collect();
    assert!(fails(&keys).2.contains("nodes"));
}

#[test]
fn depth_is_limited() {
    let flow = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let maps = |n: usize| "{a: ".repeat(n) + "b" + &"}".repeat(n);
    let block = |n: usize| (0..n).map(|i| " ".repeat(i) + "a:\n").collect::<String>();
    let dashes = |n: usize| "- ".repeat(n) + "a\n";
    let aliased = |n: usize| format!("- &a {}\n- {}*a{}\n", flow(60), "[".repeat(n - 61), "]".repeat(n - 61));
    for make in [&flow as &dyn Fn(usize) -> String, &maps, &block, &dashes, &aliased] {
        assert!(yaml::parse(&make(128)).is_ok(), "{}", make(128));
        let (path, line, problem) = fails(&make(129));
        assert!(problem.contains("more than 128 nested collections"), "{problem}");
        assert!(!path.is_empty() && line.is_some(), "{path} {line:?}");
    }
    for hostile in ["[".repeat(10_000), "- ".repeat(10_000), "{? ".repeat(10_000), block(10_000), maps(10_000)] {
        fails(&hostile);
    }
    assert!(fails(&"[".repeat(10_000)).2.contains("more than 128 nested collections"));
}

#[test]
fn a_tree_of_the_greatest_depth_needs_little_stack() {
    let text = "[{a: ".repeat(64) + &"}]".repeat(64);
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let value = yaml::parse(&text).expect("within the limit");
        let copy = value.clone();
        assert_eq!(yaml::parse(&copy.to_text()).as_ref(), Ok(&value));
        assert!(format!("{value:?}").len() > 128);
        drop(value);
        let mut data = Mapping::new();
        data.insert("x", copy);
        assert!(MistInput::new("n", data).to_yaml().len() > 128);
    });
    thread.expect("a thread").join().expect("no overflow");
}

#[test]
fn text_is_limited() {
    let long = yaml::MAX_SCALAR + 1;
    for (text, path) in [
        (format!("a: {}", "x".repeat(long)), "a"),
        (format!("a: \"{}\"", "x".repeat(long)), "a"),
        (format!("a: '{}'", "x".repeat(long)), "a"),
        (format!("a: |\n  {}\n", "x".repeat(long)), "a"),
        (format!("a: >\n  {}\n", "x y\n  ".repeat(long / 4 + 1)), "a"),
        (format!("? {}\n: 1", "x".repeat(long)), ""),
    ] {
        let found = fails(&text);
        assert!(found.0 == path && found.2.contains("longer than 16777216 bytes"), "{found:?}");
    }
    assert!(yaml::parse(&format!("a: {}", "x".repeat(yaml::MAX_SCALAR))).is_ok());
    let (path, line, problem) = fails(&format!("a: {}", "x".repeat(yaml::MAX_INPUT)));
    assert_eq!((path.as_str(), line), ("", None));
    assert!(problem.contains("the text is longer than"), "{problem}");
    // The text of many files fills the input up to the limit.
    let file = "x".repeat((1 << 20) - 8);
    let files: String = (0..64).map(|i| format!("k{i:02}: {file}\n")).collect();
    assert!(files.len() > yaml::MAX_INPUT - 1024, "{}", files.len());
    assert_eq!(mapping(&files).len(), 64);
}

#[test]
fn errors_name_the_place_in_words_that_are_safe_to_print() {
    fails_at("data:\n  files:\n    a.yaml: !x y\n", "data.files[\"a.yaml\"]", 3, "!x");
    fails_at("data: {list: [0, 1, {2: [1e999]}]}", "data.list[2][2][0]", 1, "\"1e999\"");
    fails_at("\"a\\e[2J\\u202e\\\"\\n\": !x y\n", "[\"a\\u{1b}[2J\\u{202e}\\\"\\n\"]", 1, "!x");
    let (path, _, problem) = fails(&format!("? {0}\n: !{0} y\n", "k".repeat(5000)));
    assert_eq!(path, format!("[\"{}…\"]", "k".repeat(60)));
    assert!(problem.len() < 200, "{problem}");
    // The middle of a long path is left out.
    let nested = "{k: [".repeat(50) + "!x y" + &"]}".repeat(50);
    let path = "k[0].k[0].k[0].k[0]….k[0].k[0].k[0].k[0]";
    fails_at(&nested, path, 1, "!x");
    fails_at("[[[[[[[[[[[[[[[[!x y]]]]]]]]]]]]]]]]", &"[0]".repeat(16), 1, "!x");
    let error = yaml::parse("a:\n- !x 1\n").expect_err("a tag");
    assert_eq!(error.to_string(), "line 2, `a[0]`: the tag `!x` is not supported");
}

const TRICKY: &[&str] = &[
    "",
    "~",
    "null",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "n",
    "Y",
    "true",
    "False",
    "1",
    "1e3",
    "0x1F",
    "0o17",
    "017",
    "0b1",
    "1_000",
    "1.",
    ".5",
    ".inf",
    "-.inf",
    ".nan",
    "+1",
    "-0",
    "12:30:45",
    "2024-01-01",
    "=",
    "<<",
    " leading",
    "trailing ",
    "  ",
    "\t",
    "\ttab",
    "tab\t",
    "a\tb",
    "\n",
    "\n\n",
    "a\n",
    "a\n\n",
    "a\n\n\n",
    "\na",
    "a\nb",
    "a \nb\t\n",
    "a\n b\n",
    " a\nb\n",
    "\n  a\n",
    "a\n \n",
    "a\n   ",
    "a\n\n  b\n\n",
    "\u{0}",
    "a\u{7f}b",
    "\u{1b}[0m",
    "\u{85}",
    "a\u{85}b\n",
    "\u{a0}",
    "\u{2028}",
    "a\u{2028}b\n",
    "\u{2029}",
    "\u{feff}",
    "\u{feff}a\nb\n",
    "a\u{feff}",
    "\u{fffe}\u{ffff}",
    "a: b",
    "a:",
    ":",
    ": a",
    "a #b",
    "#x",
    "#",
    "- x",
    "-",
    "--",
    "? x",
    "?",
    "*a",
    "&a",
    "!a",
    "!!str a",
    "%a",
    "@a",
    "`a",
    "'",
    "\"",
    "'a'",
    "\"a\"",
    "it's",
    "say \"hi\"",
    "\\",
    "a\\nb",
    "C:\\x",
    "{a}",
    "[a]",
    "{",
    "}",
    "[",
    "]",
    ",",
    "a, b",
    "|",
    ">",
    "|\n",
    "---",
    "--- a",
    "...",
    "---\na\n",
    "a\n---\n",
    "a\n...\nb\n",
    "\r",
    "\r\n",
    "a\rb",
    "a\r\nb\r\n",
    "é",
    "日本語\n終",
    "🌿",
    "🌿\n",
    "\u{301}",
    "apiVersion: v1\nkind: A\n",
    "{{ x }}\n",
    "key: |\n  text\n",
];

/// Compares like `==`, but NaN equals NaN, and -0.0 does not equal 0.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        _ => a == b,
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut texts: Vec<String> = TRICKY.iter().map(|text| text.to_string()).collect();
    texts.extend(["word ".repeat(60), "x".repeat(300), "word ".repeat(60) + "\n", "k".repeat(1024), "k".repeat(3000)]);
    texts.extend(["two\nlines ".repeat(200), "a".repeat(200) + "\n" + &"b ".repeat(200)]);
    let mut all = Mapping::new();
    for text in &texts {
        let string = Value::from(text.as_str());
        let mut mapping = Mapping::new();
        mapping.insert(text.as_str(), text.as_str());
        mapping.insert("list", vec![string.clone(), Value::Sequence(vec![string.clone()]), mapping.clone().into()]);
        for value in [string.clone(), vec![string.clone(), string].into(), mapping.clone().into()] {
            let written = value.to_text();
            assert_eq!(yaml::parse(&written).as_ref(), Ok(&value), "{text:?} was written as {written:?}");
        }
        all.insert(text.as_str(), mapping);
    }
    let all = Value::from(all);
    assert_eq!(yaml::parse(&all.to_text()), Ok(all));
}

#[test]
fn numbers_are_read_back_as_what_they_were() {
    let floats =
        [0.0, -0.0, 1000.0, 1e300, 1e-300, 5e-324, 0.1, f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let ints = [0, -1, i64::MIN.into(), u64::MAX.into(), i128::from(u64::MAX) + 1, i128::MIN, i128::MAX];
    let scalars = floats.map(Value::Float).into_iter().chain(ints.map(Value::Int)).chain([
        Value::Null,
        Value::Bool(true),
        Value::Bool(false),
    ]);
    for value in scalars {
        let written = value.to_text();
        assert!(yaml::parse(&written).is_ok_and(|read| same(&read, &value)), "{value:?} was written as {written:?}");
        let text = format!("{}: x\n", written.trim());
        let key = mapping(&text);
        let again = mapping(&Value::Mapping(key.clone()).to_text());
        let keys = (again.iter().next(), key.iter().next());
        let ((Some((again, _)), Some((key, _))), written) = (keys, text) else { panic!("{keys:?}") };
        assert!(same(again, key) && same(key, &value), "{value:?} was written as {written:?}");
    }
    assert_eq!(yaml::parse(&Value::Sequence(vec![]).to_text()), Ok(Value::Sequence(vec![])));
    assert_eq!(yaml::parse(&Value::Mapping(Mapping::new()).to_text()), Ok(Mapping::new().into()));
}

#[test]
fn multi_line_text_is_written_as_a_block() {
    let mut mapping = Mapping::new();
    mapping.insert("a", "x\ny\n");
    mapping.insert("l", vec![Value::from("yes")]);
    assert_eq!(Value::from(mapping).to_text(), "a: |\n  x\n  y\nl:\n- \"yes\"\n");
}

#[test]
fn mappings_keep_their_order_when_they_change() {
    let mut read = mapping("a: 1\n1: x\nb: 2\n");
    assert_eq!(read.insert("a", "new"), Some(Value::Int(1)));
    assert_eq!(read.insert("c", "last"), None);
    assert_eq!(read.insert_front("b", "first"), Some(Value::Int(2)));
    assert_eq!(read.get("1"), None, "the key is an integer");
    *read.get_or_insert_with("a", || Value::Null) = Value::Bool(true);
    let nested = read.get_or_insert_with("d", || Mapping::new().into());
    nested.as_mapping_mut().expect("a mapping").insert("e", "f");
    assert_eq!(Value::from(read.clone()).to_text(), "b: first\na: true\n1: x\nc: last\nd:\n  e: f\n");
    assert_eq!(read.remove("a"), Some(Value::Bool(true)));
    assert_eq!(read.remove("a"), None);
    assert_eq!((read.len(), read.is_empty()), (4, false));
}

const RESULT: &str = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\n";

#[test]
fn packages_are_read_and_written() {
    let text = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\nmetadata:\n  name: nginx\n  labels:\n    \
                mistletoe.dev/group: web\n    b: \"1\"\n";
    let package = MistPackage::parse(text).expect("a package");
    assert_eq!(package.name, "nginx");
    assert_eq!(package.labels, [("mistletoe.dev/group".into(), "web".into()), ("b".into(), "1".into())]);
    assert_eq!(package.to_yaml(), text);
    let head = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\n";
    for plain in
        ["metadata: {name: n}", "metadata: {name: n, labels: }", "metadata: {name: n, more: [1]}\nspec: {a: b}"]
    {
        let package = MistPackage::parse(&format!("\u{feff}{head}{plain}\n")).expect(plain);
        assert_eq!(package, MistPackage { name: "n".into(), ..MistPackage::default() });
        assert_eq!(MistPackage::parse(&package.to_yaml()).expect("its own text"), package);
    }
    for (text, path, problem) in [
        ("", "metadata", "missing"),
        ("metadata: []", "metadata", "expected a mapping, found a sequence"),
        ("metadata: {}", "metadata.name", "missing"),
        ("metadata: {name: 5}", "metadata.name", "expected a string, found the integer 5"),
        ("metadata: {name: n, labels: x}", "metadata.labels", "expected a mapping, found the string \"x\""),
        ("metadata: {name: n, labels: {a/b: 1}}", "metadata.labels[\"a/b\"]", "found the integer 1"),
        ("metadata: {name: n, labels: {true: a}}", "metadata.labels[true]", "the name of a label"),
    ] {
        let found = schema(MistPackage::parse(&format!("{head}{text}\n")));
        assert_eq!(found.0, path);
        assert!(found.1.contains(problem), "{}", found.1);
    }
}

#[test]
fn packages_have_a_schema_and_defaults() {
    let head = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\nmetadata:\n  name: nginx\n";
    let text = format!(
        "{head}inputSchema:\n  properties:\n    a:\n      type: string\n  required:\n  - a\ndefaults:\n  a: \"1\"\n  b: {{}}\n"
    );
    let package = MistPackage::parse(&text).expect("a package");
    assert_eq!(package.defaults, Some(mapping("a: '1'\nb: {}\n")));
    let schema = package.input_schema.as_ref().and_then(Value::as_mapping).expect("a schema");
    assert_eq!(schema.get("required"), Some(&vec![Value::from("a")].into()));
    assert_eq!(package.to_yaml(), text);
    for (text, schema, defaults) in [
        ("inputSchema: null\ndefaults: null\n", None, None),
        ("inputSchema: false\ndefaults: {}\n", Some(Value::Bool(false)), Some(Mapping::new())),
    ] {
        let package = MistPackage::parse(&format!("{head}{text}")).expect(text);
        assert_eq!((&package.input_schema, &package.defaults), (&schema, &defaults));
        assert_eq!(MistPackage::parse(&package.to_yaml()).expect("its own text"), package);
    }
    for (text, path, problem) in [
        ("inputSchema: []", "inputSchema", "expected a mapping or a boolean, found a sequence"),
        ("inputSchema: {properties: {a: {enum: [1, {2: 3}]}}}", "inputSchema.properties.a.enum[1][2]", "integer 2"),
        ("defaults: x", "defaults", "expected a mapping, found the string \"x\""),
        (
            "defaults: {a: [{true: 1}]}",
            "defaults.a[0][true]",
            "expected a key that is a string, found the boolean true",
        ),
        ("defaults: {a: 1, a: 2}", "defaults.a", "duplicate key"),
    ] {
        let found = schema_error(&format!("{head}{text}\n"));
        assert_eq!(found.0, path);
        assert!(found.1.contains(problem), "{}", found.1);
    }
}

#[track_caller]
fn schema_error(text: &str) -> (String, String) {
    schema(MistPackage::parse(text))
}

#[test]
fn values_are_merged_over_defaults() {
    for (defaults, values, expected) in [
        ("a: 1\nb: 2", "{}", "a: 1\nb: 2"),
        ("a: 1\nb: 2", "c: 3\nb: 4", "a: 1\nb: 4\nc: 3"),
        ("a: {x: 1, y: [1, 2]}", "a: {y: [3], z: 4}", "a: {x: 1, y: [3], z: 4}"),
        ("a: {x: 1}", "a: 5", "a: 5"),
        ("a: 5", "a: {x: 1}", "a: {x: 1}"),
        ("a: {x: 1, y: 2}\nb: 1", "a: {x: null}\nb: null", "a: {y: 2}"),
        ("{}", "a: null\nb: {c: null}", "a: null\nb: {c: null}"),
        ("a: null\nb: {c: null, d: [null]}", "{}", "b: {d: [null]}"),
        ("a: null", "a: null", "{}"),
        ("a: {x: 1}", "a: {y: {z: null}}", "a: {x: 1, y: {z: null}}"),
    ] {
        let package = MistPackage { defaults: Some(mapping(defaults)), ..MistPackage::default() };
        assert_eq!(package.with_defaults(mapping(values)), mapping(expected), "{values} over {defaults}");
    }
    assert_eq!(MistPackage::default().with_defaults(mapping("a: null")), mapping("a: null"));
}

#[test]
fn mappings_are_merged() {
    for (base, over, expected) in [
        ("a: 1\nb: 2", "c: 3\na: 4", "a: 4\nb: 2\nc: 3"),
        ("a: {x: 1, y: {z: 2}}", "a: {y: {w: 3}}", "a: {x: 1, y: {z: 2, w: 3}}"),
        ("a: [1, 2]", "a: [3]", "a: [3]"),
        ("a: {x: 1}", "a: null", "a: null"),
        ("a: {x: 1}", "a: {x: null}", "a: {x: null}"),
        ("1: a\n'1': b", "1: c", "1: c\n'1': b"),
        ("{}", "a: {b: 1}", "a: {b: 1}"),
    ] {
        let mut merged = mapping(base);
        merged.merge(mapping(over));
        assert_eq!(merged, mapping(expected), "{over} over {base}");
    }
    // In proportion to the number of entries, not to its square, which would be 10 to the power of 10.
    let large = |from: usize| (from..from + 100_000).map(|i| (format!("k{i}"), Value::Null)).collect::<Mapping>();
    let mut merged = large(0);
    merged.merge(large(50_000));
    assert_eq!(merged.len(), 150_000);
}

#[test]
fn merge_keys_are_resolved_where_it_is_asked_for() {
    let resolved = |text: &str| {
        let mut value = yaml::parse(text).expect(text);
        value.apply_merge().map(|()| value)
    };
    for (text, expected) in [
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", "a: {x: 1, y: 2}\nb: {y: 3, x: 1}"),
        ("b: {y: 3, <<: [{x: 1}, {x: 2, z: 4}]}", "b: {y: 3, x: 1, z: 4}"),
        ("b: {<<: {<<: {x: 1, y: 1}, x: 2}}", "b: {x: 2, y: 1}"),
        ("- {<<: {x: {y: 1}}, x: {z: 2}}", "- {x: {z: 2}}"),
        ("<<: []\na: 1", "a: 1"),
        ("a: <<", "a: <<"),
    ] {
        assert_eq!(resolved(text), Ok(yaml::parse(expected).expect(expected)), "{text}");
    }
    for (text, path, found) in [
        ("a: [{<<: 1}]", "a[0][\"<<\"]", "found the integer 1"),
        ("<<: [{}, 2]", "[\"<<\"]", "found the integer 2"),
        ("<<: ", "[\"<<\"]", "found null"),
    ] {
        let error = resolved(text).expect_err(text);
        assert_eq!((error.path.as_str(), error.line), (path, None));
        assert!(error.problem.contains(found), "{error}");
    }
    let many: String = (0..50_000).map(|i| format!("k{i}: 1, ")).collect();
    let value = resolved(&format!("a: &a {{{many}}}\nb: {{<<: [*a, *a], {many}}}")).expect("within the limits");
    assert_eq!(value.as_mapping().and_then(|map| map.get("b")?.as_mapping()).map(Mapping::len), Some(50_000));
}

#[test]
fn streams_are_checked_without_being_read() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let (most, more, far) = (deep(128), deep(129), "[".repeat(1_000_000));
    for text in ["", "# c\n", "a: 1", "---\n---\na: 1\n...\n---\n- b\n", "%YAML 1.2\n---\na: !x 1\na: 2\n", "{}", &most]
    {
        assert_eq!(yaml::check_stream(text), Ok(()), "{text:.60}");
    }
    for (text, line, problem) in [
        ("text\nmore\n", Some(1), "expected a mapping or a sequence, found the text \"text more\""),
        ("a: 1\n---\n''\n", Some(3), "found the text \"\""),
        ("a: 1\nb: [", Some(2), ""),
        ("a: *b", Some(1), ""),
        ("a:\n  b: {{ x }}", Some(2), "a collection cannot be a key"),
        ("a: 1\n---\ntrue", Some(3), "found the text \"true\""),
        ("%TAG ! x\n---\na: 1", Some(1), ""),
        (&more, Some(1), "more than 128 nested collections"),
        (&far, Some(1), "more than 128 nested collections"),
    ] {
        let error = yaml::check_stream(text).expect_err(text);
        assert_eq!(error.line, line, "{text:.60}: {error}");
        assert!(error.problem.contains(problem), "{error}");
    }
    assert!(yaml::check_stream(&" ".repeat(yaml::MAX_INPUT + 1)).is_err());
}

#[test]
fn inputs_are_written_and_read() {
    let mut data = mapping("replicas: 2\nname: other\nsize: big\n");
    let input = MistInput::new("web", std::mem::take(&mut data));
    let text = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistInput\ndata:\n  name: web\n  replicas: 2\n  size: big\n";
    assert_eq!(input.to_yaml(), text);
    assert_eq!(MistInput::parse(text).expect("its own text"), input);
    let found = schema(MistInput::parse(&text.replace("name: web", "name: 1")));
    assert_eq!(found.0, "data.name");
    assert_eq!(schema(MistInput::parse(&text.replace("name: web", "title: web"))).0, "data.name");
    assert_eq!(MistInput::new("yes", Mapping::new()).data.get("name"), Some(&"yes".into()));
}

#[test]
fn results_are_read_and_written() {
    let files =
        vec![("z.yaml".to_string(), "a: b\n".to_string()), ("a.yaml".into(), "1e3".into()), ("e".into(), "".into())];
    for result in [
        MistResult::Ok { message: None, files: vec![] },
        MistResult::Ok { message: Some("null".into()), files },
        MistResult::Ok { message: Some(String::new()), files: vec![] },
        MistResult::Err { message: None },
        MistResult::Err { message: Some("no\nway\n".into()) },
    ] {
        let text = result.to_yaml();
        assert!(text.starts_with(RESULT), "{text}");
        assert_eq!(MistResult::parse(&text).expect(&text), result);
    }
    let empty = MistResult::Ok { message: None, files: vec![] };
    for text in
        ["{result: Ok, message: null, files: null}", "{result: Ok, files: {}, x: {y: z}}", "{result: 'Ok', message: }"]
    {
        assert_eq!(MistResult::parse(&format!("{RESULT}data: {text}\nmore: 1\n")).expect(text), empty);
    }
    // Other fields of a failed result are ignored.
    let text = format!("{RESULT}data: {{result: Err, files: 5}}\n");
    assert_eq!(MistResult::parse(&text).expect("an error"), MistResult::Err { message: None });
    for (text, path, problem) in [
        ("", "data", "missing"),
        ("data: x", "data", "expected a mapping"),
        ("data: {}", "data.result", "missing"),
        ("data: {result: OK}", "data.result", "expected `Ok` or `Err`, found the string \"OK\""),
        ("data: {result: true}", "data.result", "found the boolean true"),
        ("data: {result: Ok, message: 5}", "data.message", "expected a string, found the integer 5"),
        ("data: {result: Err, message: []}", "data.message", "found a sequence"),
        ("data: {result: Ok, files: []}", "data.files", "expected a mapping, found a sequence"),
        ("data: {result: Ok, files: {x.yaml: 1e3}}", "data.files[\"x.yaml\"]", "a string, found the number 1000.0"),
        ("data: {result: Ok, files: {a: '', x.yaml: null}}", "data.files[\"x.yaml\"]", "found null"),
        ("data: {result: Ok, files: {x.yaml: 5}}", "data.files[\"x.yaml\"]", "found the integer 5"),
        ("data: {result: Ok, files: {x.yaml: {a: b}}}", "data.files[\"x.yaml\"]", "found a mapping"),
        (
            "data: {result: Ok, files: {5: {a: b}}}",
            "data.files[5]",
            "the name of a file, a string, found the integer 5",
        ),
    ] {
        let found = schema(MistResult::parse(&format!("{RESULT}{text}\n")));
        assert_eq!(found.0, path);
        assert!(found.1.contains(problem), "{}", found.1);
    }
}

#[test]
fn other_documents_are_refused() {
    for (text, path, problem) in [
        ("", "", "expected a mapping, found null"),
        ("[]", "", "expected a mapping, found a sequence"),
        ("kind: MistResult", "apiVersion", "missing"),
        ("apiVersion: mistletoe.dev/v1alpha1", "kind", "missing"),
        (
            "apiVersion: mistletoe.dev/v2\nkind: X",
            "apiVersion",
            "`mistletoe.dev/v1alpha1`, found the string \"mistletoe.dev/v2\"",
        ),
        ("apiVersion: 1\nkind: X", "apiVersion", "found the integer 1"),
        (
            "apiVersion: mistletoe.dev/v1alpha1\nkind: MistInput",
            "kind",
            "expected `MistResult`, found the string \"MistInput\"",
        ),
    ] {
        let found = schema(MistResult::parse(text));
        assert_eq!(found.0, path);
        assert!(found.1.contains(problem), "{}", found.1);
    }
    let error = MistResult::parse(&format!("{RESULT}data:\n  result: Ok\n  result: Err\n")).expect_err("two results");
    assert_eq!(error.to_string(), "MistResult, line 5, `data.result`: duplicate key");
    let twice = MistResult::Err { message: None }.to_yaml();
    assert!(schema(MistResult::parse(&format!("{twice}---\n{twice}"))).1.contains("more than one document"));
}

#[test]
fn bombs_are_found_in_fields_that_are_not_read() {
    let bomb: String = laughs().lines().map(|line| format!("  {line}\n")).collect();
    let deep = format!("  x: {}{}\n", "[".repeat(200), "]".repeat(200));
    let twice = "  x: 1\n  x: 2\n".to_string();
    for (hostile, problem) in [(bomb, "nodes"), (deep, "128"), (twice, "duplicate key")] {
        for text in [
            format!("{RESULT}unread:\n{hostile}data:\n  result: Err\n"),
            format!("{RESULT}data:\n  result: Ok\n  files:\n  {}\n", hostile.trim_end().replace('\n', "\n  ")),
        ] {
            let found = schema(MistResult::parse(&text));
            assert!(found.1.contains(problem), "{}", found.1);
        }
    }
}

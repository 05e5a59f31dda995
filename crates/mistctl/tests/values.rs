//! The values that a package gets: files, flags, defaults and the schema, by the built program.

use std::fs;
use std::path::Path;
use std::thread;

use mistletoe::documents::MistInput;
use mistletoe::documents::yaml;
use serde_json::{Value, json};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, answering, command, escaped, fed, mistctl, result, text};

const HEAD: &str = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\nmetadata: {name: n}\n";

/// A package that returns its input, with this description.
fn echo(info: &str) -> String {
    let fat = [0x2_0000u32.to_le_bytes(), (info.len() as u32).to_le_bytes()].concat();
    format!(
        r#"(module
  (memory (export "memory") 16)
  (data (i32.const 16) "{}")
  (data (i32.const 0x20000) "{}")
  (func (export "__mistletoe_info") (result i32) (i32.const 16))
  (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 0x40000))
  (func (export "__mistletoe_dealloc") (param i32 i32))
  (func (export "__mistletoe_generate") (param i32 i32) (result i32)
    (i32.store (i32.const 8) (local.get 0)) (i32.store (i32.const 12) (local.get 1)) (i32.const 8)))"#,
        escaped(fat),
        escaped(info)
    )
}

/// What `-o raw` of such a package prints, as JSON. It exits with status 3, as an input is no result.
fn data(stdout: &str) -> Value {
    fn json(value: &yaml::Value) -> Value {
        match value {
            yaml::Value::Null => Value::Null,
            yaml::Value::Bool(value) => json!(value),
            yaml::Value::Int(value) => json!(i64::try_from(*value).expect("a small number")),
            yaml::Value::Float(value) => json!(value),
            yaml::Value::String(value) => json!(value),
            yaml::Value::Sequence(items) => items.iter().map(json).collect(),
            yaml::Value::Mapping(mapping) => {
                let fields =
                    mapping.iter().map(|(key, value)| (key.as_str().expect("a string").to_owned(), json(value)));
                fields.collect::<serde_json::Map<_, _>>().into()
            }
        }
    }
    let mut data = MistInput::parse(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")).data;
    data.remove("name");
    json(&yaml::Value::Mapping(data))
}

/// Compares like `==`, but 1000 equals 1000.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// Returns what mistctl makes of a case of `tests/helm/cases.json`.
fn outcome(case: &Value) -> Value {
    let scratch = Scratch::new();
    for (name, content) in case["files"].as_object().into_iter().flatten() {
        scratch.file(name, content.as_str().expect("a text"));
    }
    let defaults = case["defaults"].as_str().unwrap_or("{}\n");
    let defaults: String = defaults.lines().map(|line| format!("  {line}\n")).collect();
    let package = scratch.file("package.wat", echo(&format!("{HEAD}defaults:\n{defaults}")));
    let mut command = command(&["generate", "x", "-p", &package, "-o", "raw"]);
    command.args(case["args"].as_array().expect("a list").iter().map(|argument| argument.as_str().expect("a text")));
    let output = command.current_dir(&scratch.0).output().expect("mistctl starts");
    if output.stdout.is_empty() {
        assert!(matches!(output.status.code(), Some(2 | 3)), "{case}");
        return json!({ "error": true });
    }
    json!({ "values": data(text(&output.stdout)) })
}

/// `expected.jsonl` is what Helm does. A case in which mistctl differs by choice has the outcome in `ours`, and says why.
#[test]
fn values_are_what_helm_makes_of_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helm");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("read");
    let cases: Vec<Value> = serde_json::from_str(&read("cases.json")).expect("a list");
    let expected = read("expected.jsonl");
    let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(cases.len(), expected.len(), "run tests/helm/main.go");
    assert!(cases.len() > 300);
    let pairs: Vec<_> = cases.iter().zip(&expected).collect();
    let check = |(case, helm): &(&Value, &Value)| {
        let found = outcome(case);
        let wanted = match case.get("ours") {
            Some(ours) => {
                assert!(case["why"].is_string() && !same(ours, helm), "no difference by choice: {case}");
                ours
            }
            None => *helm,
        };
        (!same(&found, wanted)).then(|| format!("{case}\n  expected {wanted}\n  found    {found}"))
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .chunks(pairs.len().div_ceil(4))
            .map(|pairs| scope.spawn(move || pairs.iter().filter_map(check).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_name_on_the_command_line_wins_with_a_warning() {
    let scratch = Scratch::new();
    let package = scratch.file("p.wat", echo(&format!("{HEAD}defaults: {{name: default}}\n")));
    for (value, warning) in [
        ("name=web", ""),
        ("name=null", ""),
        ("a=1", ""),
        ("name=other", "warning: the value `name` is the string \"other\"; the argument NAME, \"web\", replaces it\n"),
        ("name=5", "warning: the value `name` is the integer 5; the argument NAME, \"web\", replaces it\n"),
    ] {
        let output = mistctl(&["generate", "web", "-p", &package, "-o", "raw", "--set", value]);
        let input = MistInput::parse(text(&output.stdout)).expect("an input");
        assert_eq!(input.data.get("name"), Some(&"web".into()), "{value}");
        let first: String =
            text(&output.stderr).split_inclusive('\n').filter(|line| line.starts_with("warning")).collect();
        assert_eq!(first, warning, "{value}");
    }
}

#[test]
fn standard_input_is_read_once() {
    let scratch = Scratch::new();
    let package = scratch.file("p.wat", echo(HEAD));
    let start = ["generate", "x", "-p", &package, "-o", "raw"];
    let output = fed(command(&start).args(["-f", "-", "--set", "b=2"]), b"a: 1\n");
    assert_eq!(data(text(&output.stdout)), json!({"a": 1, "b": 2}));
    let output = fed(command(&start).args(["--set-file", "a=-"]), b"text\n");
    assert_eq!(data(text(&output.stdout)), json!({"a": "text\n"}));
    for more in [["-f", "-", "-f", "-"], ["-f", "-", "--set-file", "a=-"]] {
        let output = fed(command(&start).args(more), b"a: 1\n");
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(2)), "{more:?}");
        assert!(text(&output.stderr).contains("named more than once"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_description_decides_about_defaults() {
    let scratch = Scratch::new();
    for (info, stderr) in [
        ("text", ""),
        ("", ""),
        ("kind: Other\ndefaults: {a: 1}\n", ""),
        ("apiVersion: v2\nkind: MistPackage\ndefaults: {a: 1}\n", ""),
    ] {
        let package = scratch.file("p.wat", echo(info));
        let output = mistctl(&["generate", "x", "-p", &package, "-o", "raw", "--set", "b=1"]);
        assert_eq!(data(text(&output.stdout)), json!({"b": 1}), "{info}");
        let output = mistctl(&["values", &package]);
        assert_eq!((text(&output.stderr), output.status.code()), (stderr, Some(0)), "{info}");
        assert_eq!(text(&output.stdout), "# The package does not describe its values.\n");
    }
    for (fields, path) in
        [("defaults: 5", "defaults"), ("inputSchema: 5", "inputSchema"), ("defaults: {1: 2}", "defaults[1]")]
    {
        let package = scratch.file("p.wat", echo(&format!("{HEAD}{fields}\n")));
        for arguments in [&["generate", "x", "-p", &package][..], &["values", &package]] {
            let output = mistctl(arguments);
            assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)), "{fields}");
            assert!(text(&output.stderr).contains(&format!("MistPackage, `{path}`")), "{}", text(&output.stderr));
        }
    }
}

#[test]
fn values_are_printed_in_a_form_for_a_file() {
    let scratch = Scratch::new();
    let fields = "inputSchema:\n  properties:\n    image: {properties: {tag: {type: string, description: The tag.}}}\n    size: {enum: [s, l]}\ndefaults:\n  image: {tag: '1.10'}\n  list: [1]\n";
    let package = scratch.file("p.wat", echo(&format!("{HEAD}{fields}")));
    let output = mistctl(&["values", &package]);
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
    let printed = text(&output.stdout);
    let expected = "image:\n  # The tag.\n  # string\n  tag: \"1.10\"\nlist:\n- 1\n\n# one of \"s\", \"l\"\n# size:\n";
    let note = "# This build of mistctl does not check values against the package's schema.\n\n";
    let note = if cfg!(feature = "schema") { "" } else { note };
    assert_eq!(printed, format!("{note}{expected}"));
    let values = scratch.file("values.yaml", printed);
    let output = mistctl(&["generate", "x", "-p", &package, "-o", "raw", "-f", &values]);
    assert_eq!(data(text(&output.stdout)), json!({"image": {"tag": "1.10"}, "list": [1]}));
}

#[test]
fn a_stream_has_sources_and_no_other_files() {
    let scratch = Scratch::new();
    let files = "  files:\n    a.yaml: 'a: 1'\n    sub/b.yaml: |\n      ---\n      b: 2\n";
    let package = scratch.file("p.wat", answering(&result(&format!("  result: Ok\n{files}"))));
    let output = mistctl(&["generate", "x", "-p", &package, "--source"]);
    assert_eq!(text(&output.stdout), "---\n# Source: n/a.yaml\na: 1\n---\n# Source: n/sub/b.yaml\nb: 2\n");

    let notes = format!("  result: Ok\n  message: done\n{files}    NOTES.txt: 'Thank you.'\n");
    let package = scratch.file("p.wat", answering(&result(&notes)));
    let output = mistctl(&["generate", "x", "-p", &package]);
    let problem = "the file \"NOTES.txt\" is not a YAML manifest (line 1, expected a mapping or a sequence, found the text \
                   \"Thank you.\"); -o dir=DIR writes any file";
    assert_eq!(text(&output.stderr), format!("error: {package}: {problem}\n"));
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)));
    let out = format!("dir={}", scratch.path("out").display());
    assert_eq!(mistctl(&["generate", "x", "-p", &package, "-o", &out]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(scratch.path("out/NOTES.txt")).expect("read"), "Thank you.");

    // Without a description, the file's name stands for the package's.
    let unnamed =
        answering(&result(&format!("  result: Ok\n{files}"))).replace("kind: MistPackage", "kind: MistPackagf");
    let output = mistctl(&["generate", "x", "-p", &scratch.file("q.wat", unnamed), "--source"]);
    assert_eq!(text(&output.stdout), "---\n# Source: q/a.yaml\na: 1\n---\n# Source: q/sub/b.yaml\nb: 2\n");
}

#[cfg(feature = "schema")]
mod schema {
    use super::*;

    fn problems(schema: &str, more: &[&str]) -> (Option<i32>, Value) {
        let scratch = Scratch::new();
        let schema: String = schema.lines().map(|line| format!("  {line}\n")).collect();
        let package = scratch
            .file("p.wat", echo(&format!("{HEAD}defaults: {{image: {{tag: x}}, n: 1}}\ninputSchema:\n{schema}")));
        let mut command = command(&["generate", "web", "-p", &package, "-o", "raw", "--error-format", "json"]);
        let output = command.args(more).output().expect("mistctl starts");
        let last = text(&output.stderr).lines().last().unwrap_or("null");
        (output.status.code(), serde_json::from_str(last).expect("JSON"))
    }

    /// The causes of an error of this kind.
    #[track_caller]
    fn causes(kind: &str, schema: &str, more: &[&str]) -> Vec<String> {
        let (status, error) = problems(schema, more);
        assert_eq!((status, &error["kind"]), (Some(3), &json!(kind)), "{error}");
        assert!(error["file"].as_str().is_some_and(|file| file.ends_with("p.wat")), "{error}");
        serde_json::from_value(error["causes"].clone()).expect("a list")
    }

    const SCHEMA: &str = "
required: [name, n]
additionalProperties: false
properties:
  name: {type: string, maxLength: 10}
  image:
    required: [tag]
    properties: {tag: {type: string, pattern: '^[a-z.]+$'}, 'odd key': {type: [boolean, 'null']}}
  n: {type: integer, minimum: 1, maximum: 5, not: {const: 4}}
  list: {items: {enum: [a, b, 1]}, maxItems: 3, uniqueItems: true}
  other: {oneOf: [{type: string}, {$ref: '#/$defs/small'}]}
  fixed: {const: yes}
$defs: {small: {type: number, exclusiveMaximum: 5, multipleOf: 0.5}}
";

    #[test]
    fn values_that_do_not_fit_are_named_by_their_paths() {
        for (set, expected) in [
            ("image.tag=5", "data.image.tag: expected a string, found the integer 5"),
            ("image.tag=A", "data.image.tag: expected a match of the pattern `^[a-z.]+$`, found the string \"A\""),
            ("image.tag=null", "data.image.tag: the value is missing"),
            ("image.odd key=x", "data.image[\"odd key\"]: expected null or a boolean, found the string \"x\""),
            ("n=0", "data.n: expected at least 1, found the integer 0"),
            ("n=6", "data.n: expected at most 5, found the integer 6"),
            ("n=4", "data.n: the integer 4 does not fit the schema's `not`"),
            ("n=null", "data.n: the value is missing"),
            ("list={a,c}", "data.list[1]: expected one of \"a\", \"b\", 1, found the string \"c\""),
            ("list={a,b,1,1}", "data.list: expected at most 3 items"),
            ("list={a,a}", "data.list: two items are equal"),
            ("other=6", "data.other: the integer 6 fits none of the schema's alternatives"),
            ("fixed=no", "data.fixed: expected \"yes\", found the string \"no\""),
            ("tag=1", "data.tag: the schema has no such value"),
        ] {
            let found = causes("values", SCHEMA, &["--set", set]);
            assert!(found.iter().any(|cause| cause == expected), "{set}: {found:?}");
        }
        for set in ["image.tag=x", "n=5", "list={a,b,1}", "other=4", "other=x", "fixed=yes", "image.odd key=null"] {
            // The input is no result, so the error is about the output.
            assert_eq!(problems(SCHEMA, &["--set", set]).1["kind"], "document", "{set}");
        }
    }

    #[test]
    fn problems_are_listed_up_to_a_limit() {
        let found = causes(
            "values",
            "properties: {l: {items: {type: string}}}",
            &["--set-json", &format!("l={:?}", vec![1; 50])],
        );
        assert_eq!(found.len(), 21);
        assert_eq!(found[19..], ["data.l[19]: expected a string, found the integer 1", "and 30 more"]);
        let fields: String = (0..50).map(|i| format!("k{i}=1,")).collect();
        let found = causes("values", "additionalProperties: false\nproperties: {name: true}", &["--set", &fields]);
        assert_eq!(found.len(), 21, "{found:?}");
        assert!(found[20].starts_with("and "), "{found:?}");
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_an_error() {
        for (schema, cause) in [
            ("$ref: 'http://example.com/schema'", "the reference \"http://example.com/schema\" is not a JSON Pointer"),
            ("$ref: 'file:///etc/passwd'", "the reference \"file:///etc/passwd\" is not a JSON Pointer"),
            ("$ref: '#/$defs/x'", "the reference \"#/$defs/x\" is not a JSON Pointer"),
            ("$ref: '#x'\n$anchor: x", "the reference \"#x\" is not a JSON Pointer"),
            ("$dynamicRef: '#'", "`$dynamicRef` is not supported"),
            ("properties: {a: {$id: 'http://x/'}}", "`$id` is supported only at the top"),
            ("$schema: 'http://example.com/meta'", "inputSchema"),
            ("type: strin", "inputSchema.type: "),
            ("pattern: '('", "inputSchema.pattern: "),
            ("pattern: '(?=a)'", "inputSchema.pattern: "),
            ("pattern: '(a{1000}){1000}'", "inputSchema.pattern: "),
            ("properties: {n: {minimum: x}}", "inputSchema.properties.n.minimum: "),
        ] {
            let found = causes("schema", schema, &[]);
            assert!(found.len() == 1 && found[0].contains(cause), "{schema}: {found:?}");
        }
    }

    #[test]
    fn references_within_the_schema_are_followed() {
        let tree = "$id: 'http://example.com/'\n$schema: 'https://json-schema.org/draft/2020-12/schema'\nproperties: {t: {$ref: '#/$defs/t'}}\n$defs: {t: {type: object, additionalProperties: {$ref: '#/$defs/t'}}}";
        assert_eq!(problems(tree, &["--set-json", r#"t={"a":{"b":{}}}"#]).1["kind"], "document");
        let found = causes("values", tree, &["--set", "t.a.b=1"]);
        assert_eq!(found, ["data.t.a.b: expected a mapping, found the integer 1"]);
    }

    /// Each would take exponential time or memory, or all of the stack.
    #[test]
    fn hostile_schemas_are_refused_before_they_are_applied() {
        let doubling = |keyword: &str| {
            let defs: String = (0..60)
                .map(|i| {
                    format!("  a{i}: {{{keyword}: [{{$ref: '#/$defs/a{0}'}}, {{$ref: '#/$defs/a{0}'}}]}}\n", i + 1)
                })
                .collect();
            format!("$ref: '#/$defs/a0'\n$defs:\n{defs}  a60: {{type: string}}\n")
        };
        // Applies itself twice to each value within a value.
        let twice = "allOf: [{properties: {a: {$ref: '#'}}}, {properties: {a: {$ref: '#'}}}]\nproperties: {z: false}";
        let deep = format!("a={}{{\"z\":1}}{}", "{\"a\":".repeat(60), "}".repeat(60));
        let chain: String = (0..2_000).map(|i| format!("  a{i}: {{$ref: '#/$defs/a{}'}}\n", i + 1)).collect();
        let chain = format!("$ref: '#/$defs/a0'\n$defs:\n{chain}  a2000: {{}}\n");
        let patterns: String = (0..2_000).map(|i| format!("  p{i}: {{pattern: '\\w{{1,50}}{i}'}}\n")).collect();
        for (schema, values, cause) in [
            (&*doubling("allOf"), "{}", "expand to more than 100000 schemas"),
            (&*doubling("oneOf"), "{}", "expand to more than 100000 schemas"),
            (twice, &*deep, "too large to be checked"),
            ("$ref: '#'", "{}", "leads in a circle"),
            ("allOf: [{$ref: '#/$defs/a'}]\n$defs: {a: {not: {$ref: '#'}}}", "{}", "leads in a circle"),
            (&*chain, "{}", "leads in a circle"),
            (&*format!("properties:\n{patterns}"), "{}", "expand to more than 100000 schemas"),
        ] {
            let found = causes("schema", schema, &["--set-json", values]);
            assert!(found.len() == 1 && found[0].contains(cause), "{found:?}");
        }
    }
}

#[cfg(not(feature = "schema"))]
#[test]
fn a_build_without_the_validator_says_so_in_the_help_alone() {
    let scratch = Scratch::new();
    let package = scratch.file("p.wat", echo(&format!("{HEAD}inputSchema: false\n")));
    let output = mistctl(&["generate", "x", "-p", &package, "-o", "raw"]);
    assert_eq!(data(text(&output.stdout)), json!({}));
    for verb in ["generate", "values"] {
        let output = mistctl(&[verb, "--help"]);
        assert!(text(&output.stdout).contains("build with --features schema"), "{}", text(&output.stdout));
    }
}

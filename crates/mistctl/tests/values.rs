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
        (
            "name=other",
            "warning: the value `name` is the string \"other\"; the name of the installation, \"web\", replaces it\n",
        ),
        ("name=5", "warning: the value `name` is the integer 5; the name of the installation, \"web\", replaces it\n"),
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
fn every_verb_warns_of_a_name_that_a_package_does_not_get() {
    let scratch = Scratch::new();
    let package = scratch.file("p.wat", answering(&result("  result: Ok\n")));
    fs::create_dir(scratch.path("tests")).expect("a directory");
    scratch.file("tests/web.yaml", "values: {name: other}\nfiles: {}\n");
    let list = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems: []\n\
                functionConfig: {metadata: {name: web}, spec: {name: other}}\n";
    let warning =
        "warning: the value `name` is the string \"other\"; the name of the installation, \"web\", replaces it\n";
    let directory = scratch.0.path().display().to_string();
    for arguments in [
        &["generate", "web", "-p", &package, "--set", "name=other"][..],
        &["check", &package, "--name", "web", "--set", "name=other", "--budget", "1ms"],
        &["test", &directory],
        &["fn", &package],
    ] {
        let output = fed(&mut command(arguments), list.as_bytes());
        assert_eq!(text(&output.stderr).matches(warning).count(), 1, "{arguments:?}: {}", text(&output.stderr));
    }
    // A program's values have no name that something replaces.
    let program = scratch.file("q.wat", r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let output = mistctl(&["generate", "web", "-p", &program, "--set", "name=other"]);
    assert!(!text(&output.stderr).contains("warning"), "{}", text(&output.stderr));
}

#[test]
fn verbs_that_need_the_package_interface_say_so_of_a_program() {
    let scratch = Scratch::new();
    let program = scratch.file("p.wat", r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let output = mistctl(&["values", &program]);
    assert_eq!((text(&output.stdout), output.status.code()), ("# A program does not describe its values.\n", Some(0)));
    let output = mistctl(&["check", &program]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("`check` takes no programs (WASI commands)"), "{}", text(&output.stdout));
}

#[test]
fn values_of_tests_and_functions_are_those_of_files() {
    let scratch = Scratch::new();
    let values = "{x: &x {b: 1}, <<: *x, 80: {true: y}}";
    let resolved = json!({"x": {"b": 1}, "80": {"true": "y"}, "b": 1});
    let package = scratch.file("p.wat", echo(HEAD));
    let file = scratch.file("values.yaml", values);
    let output = mistctl(&["generate", "web", "-p", &package, "-o", "raw", "-f", &file]);
    assert_eq!(data(text(&output.stdout)), resolved);
    for (values, problem) in [("{1: x, '1': y}", "the key \"1\" is there twice"), ("{<<: 5}", "<<"), ("{~: 1}", "null")]
    {
        fs::create_dir_all(scratch.path("tests")).expect("a directory");
        scratch.file("tests/web.yaml", format!("values: {values}\nfiles: {{}}\n"));
        let output = mistctl(&["test", &scratch.0.path().display().to_string()]);
        assert!(text(&output.stdout).contains("`values`") && text(&output.stdout).contains(problem), "{output:?}");
        let list = format!("kind: ResourceList\nfunctionConfig: {{metadata: {{name: web}}, spec: {values}}}\n");
        let output = fed(&mut command(&["fn", &package]), list.as_bytes());
        let stderr = text(&output.stderr);
        assert!(stderr.contains("`functionConfig.spec`") && stderr.contains(problem), "{stderr}");
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
    let directory = format!("dir={}", scratch.path("none").display());
    for form in ["raw", &directory] {
        let output = mistctl(&["generate", "x", "-p", &package, "--source", "-o", form]);
        let problem = "error: --source is for the stream of -o yaml\n";
        assert_eq!((text(&output.stdout), text(&output.stderr), output.status.code()), ("", problem, Some(2)));
    }
    assert!(!scratch.path("none").exists());

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
    fn numbers_that_json_does_not_have_are_named() {
        let schema = "properties: {n: {type: integer}, f: {type: number}}";
        let scratch = Scratch::new();
        for (values, expected) in [
            (
                "n: 99999999999999999999",
                "data.n: expected an integer, found the integer 99999999999999999999, which is beyond 64 bits",
            ),
            ("n: 1\nf: .inf", "data.f: expected a number, found the number inf, which does not exist in JSON"),
            ("f: .nan", "data.f: expected a number, found the number NaN, which does not exist in JSON"),
        ] {
            assert_eq!(causes("values", schema, &["-f", &scratch.file("v.yaml", values)]), [expected]);
        }
        let largest = scratch.file("v.yaml", "n: 18446744073709551615");
        assert_eq!(problems(schema, &["-f", &largest]).1["kind"], "document");
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

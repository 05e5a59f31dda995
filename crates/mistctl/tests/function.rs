//! Programs as packages (`mistctl generate`), and KRM functions (`mistctl fn`), in the built program.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, answering, backends, command, escaped, example, fed, mistctl, result, text};

/// A program that writes this to its standard output and to its standard error, and exits with a code.
fn writing(stdout: &str, stderr: &str, code: u32) -> String {
    let (out, err) = (stdout.len(), stderr.len());
    program(&format!(
        r#"(data (i32.const 0x20000) "{}") (data (i32.const 0x10000) "{}")
        (func (export "_start")
          (call $write (i32.const 1) (i32.const 0x20000) (i32.const {out}))
          (call $write (i32.const 2) (i32.const 0x10000) (i32.const {err}))
          (call $exit (i32.const {code})))"#,
        escaped(stdout),
        escaped(stderr)
    ))
}

/// A program with these parts, and functions of WASI.
fn program(parts: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 20)
  (func $write (param $fd i32) (param $address i32) (param $length i32)
    (i32.store (i32.const 1000) (local.get $address))
    (i32.store (i32.const 1004) (local.get $length))
    (if (call $fd_write (local.get $fd) (i32.const 1000) (i32.const 1) (i32.const 1008)) (then (unreachable))))
  (func $copy
    (loop $more
      (i64.store (i32.const 1000) (i64.const 0x0001_0000_0002_0000))
      (if (call $fd_read (i32.const 0) (i32.const 1000) (i32.const 1) (i32.const 1008)) (then (unreachable)))
      (if (i32.load (i32.const 1008))
        (then (call $write (i32.const 1) (i32.const 0x20000) (i32.load (i32.const 1008))) (br $more)))))
  {parts})"#
    )
}

/// Copies its standard input to its standard output.
fn copying() -> String {
    program(r#"(func (export "_start") (call $copy))"#)
}

/// Writes its arguments, its environment and its standard input to its standard error, and fails.
fn telling() -> String {
    let list = |name: &str| {
        format!(
            "(if (call ${name}_sizes_get (i32.const 1016) (i32.const 1020)) (then (unreachable)))
            (if (call ${name}_get (i32.const 0x8000) (i32.const 0x10000)) (then (unreachable)))
            (call $write (i32.const 2) (i32.const 0x10000) (i32.load (i32.const 1020)))"
        )
    };
    program(&format!(
        r#"(func (export "_start") {} {}
          (i64.store (i32.const 1000) (i64.const 0x0001_0000_0002_0000))
          (if (call $fd_read (i32.const 0) (i32.const 1000) (i32.const 1) (i32.const 1008)) (then (unreachable)))
          (call $write (i32.const 2) (i32.const 0x20000) (i32.load (i32.const 1008)))
          (call $exit (i32.const 7)))"#,
        list("args"),
        list("environ")
    ))
}

fn resource(kind: &str, name: &str) -> String {
    format!("apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}\n")
}

fn json_errors(output: &Output) -> Vec<Value> {
    text(&output.stderr).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_program_is_a_package_that_writes_its_manifests() {
    let scratch = Scratch::new();
    let (a, b) = (resource("ConfigMap", "a"), resource("Secret", "b"));
    let [a_json, b_json] = [("ConfigMap", "a"), ("Secret", "b")]
        .map(|(kind, name)| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}));
    for stdout in [
        format!("{a}---\n{b}"),
        format!("{a_json}\n{b_json}\n"),
        format!("[{a_json}, {b_json}]"),
        format!("[[{a_json}], [{b_json}]]"),
    ] {
        let program = scratch.file("p.wat", writing(&stdout, "reading\n", 0));
        for backend in backends() {
            let output = mistctl(&["generate", "web", "-p", &program, "--backend", &backend]);
            assert_eq!(text(&output.stdout), format!("{a}---\n{b}"), "{stdout} on {backend}");
            assert_eq!((text(&output.stderr), output.status.code()), ("log: reading\n", Some(0)), "{stdout}");
        }
        let raw = mistctl(&["generate", "web", "-p", &program, "-o", "raw"]);
        assert_eq!((text(&raw.stdout), raw.status.code()), (&*stdout, Some(0)));
        let dir = scratch.path("dir").display().to_string();
        let output = mistctl(&["generate", "web", "-p", &program, "-o", &format!("dir={dir}")]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let read = |name: &str| std::fs::read_to_string(scratch.path("dir").join(name)).expect("a file");
        assert_eq!((read("configmap-a.yaml"), read("secret-b.yaml")), (a.clone(), b.clone()));
    }
}

#[test]
fn the_example_of_a_program_writes_a_namespace_on_every_backend() {
    for backend in backends() {
        let output = mistctl(&["generate", "web", "-p", &example("flight.wat"), "--backend", &backend, "--", "x", ""]);
        assert_eq!((text(&output.stdout), text(&output.stderr)), (&*resource("Namespace", "web"), ""), "{backend}");
    }
}

#[test]
fn a_program_gets_the_values_and_the_release() {
    let scratch = Scratch::new();
    let program = scratch.file("p.wat", telling());
    let values = scratch.file("values.yaml", "image: {tag: '1.10'}\nname: own\n");
    let told = |arguments: &[&str]| {
        let output = command(&["--error-format", "json", "generate", "web", "-p", &program]).args(arguments).output();
        let output = output.expect("mistctl starts");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let error = json_errors(&output).pop().expect("an error");
        assert_eq!(error["kind"], "package");
        error["message"].as_str().expect("a message").to_owned()
    };
    let version = env!("CARGO_PKG_VERSION");
    let environment = |namespace: &str| {
        format!("YOKE_RELEASE=web\0YOKE_NAMESPACE={namespace}\0NAMESPACE={namespace}\0YOKE_VERSION=mistctl-{version}\0")
    };
    let prefix = "the program exited with code 7: web\0";
    assert_eq!(told(&[]), format!("{prefix}{}{{}}", environment("default")));
    assert_eq!(
        told(&["-f", &values, "-n", "shop", "--", "--replicas", "2"]),
        format!("{prefix}--replicas\0{}\0{}image:\n  tag: \"1.10\"\nname: own", "2", environment("shop"))
    );
}

#[test]
fn a_program_that_fails_is_an_error_with_its_words() {
    let scratch = Scratch::new();
    let failing = scratch.file("failing.wat", writing("half", "no such tag\n", 3));
    let output = mistctl(&["generate", "web", "-p", &failing]);
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(1)));
    assert_eq!(text(&output.stderr), "log: no such tag\nerror: the program exited with code 3: no such tag\n");
    // The end of a long text.
    let long = format!("{}the end", "x".repeat(30_000));
    let failing = scratch.file("long.wat", writing("", &long, 1));
    let output = command(&["generate", "web", "-p", &failing, "--error-format", "json"]).output().expect("it starts");
    let message = json_errors(&output).pop().expect("an error")["message"].to_string();
    assert!(message.ends_with("the end\"") && message.len() < 5_000, "{message}");

    for (program, problem) in [
        (writing("", "", 0), "the program wrote nothing to its standard output"),
        (writing(" \n", "", 0), "the program wrote nothing to its standard output"),
        (writing("hello\n", "", 0), "output, line 1: expected a resource, found the string \"hello\""),
        (writing("[[{}]]", "", 0), "output, line 1, `[0][0]`: expected a resource, but it has no `apiVersion`"),
        (writing("\u{1}", "", 0), "output, line 1"),
        (program(r#"(func (export "_start") (unreachable))"#), "trap in `_start`"),
        (
            program(r#"(func (export "_start") (call $write (i32.const 1) (i32.const 0) (i32.const 1001)))"#),
            "the output is too long: 1,001 bytes exceed the limit of 1,000 (raise it with --max-output)",
        ),
    ] {
        let path = scratch.file("p.wat", program);
        let output = mistctl(&["generate", "web", "-p", &path, "--max-output", "1000"]);
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)), "{problem}");
        let error = text(&output.stderr).lines().next().unwrap_or_default();
        assert!(error.starts_with(&format!("error: {path}: {problem}")), "{error}");
    }
}

#[test]
fn a_program_asks_for_the_cluster_in_vain() {
    let scratch = Scratch::new();
    let program = r#"(module
        (import "host" "k8s_lookup" (func $lookup (param i32 i64 i64 i64 i64) (result i64)))
        (import "host" "k8s_rest_mapping" (func $mapping (param i32 i64 i64) (result i64)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start")
          (drop (call $lookup (i32.const 8) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))
          (drop (call $mapping (i32.const 12) (i64.const 0) (i64.const 0)))
          (call $exit (i32.add (i32.mul (i32.load (i32.const 8)) (i32.const 10)) (i32.load (i32.const 12))))))"#;
    let path = scratch.file("p.wat", program);
    for backend in backends() {
        let output = mistctl(&["generate", "web", "-p", &path, "--backend", &backend]);
        assert_eq!(text(&output.stderr), "error: the program exited with code 11\n", "{backend}");
        assert_eq!(mistctl(&["run", &path, "--backend", &backend]).status.code(), Some(11), "{backend}");
    }
    let output = mistctl(&["inspect", &path, "-o", "json"]);
    let listing: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&listing["interfaces"], output.status.code()), (&json!(["command"]), Some(0)));
}

#[test]
fn a_package_takes_no_arguments_and_any_namespace() {
    let output = mistctl(&["generate", "web", "-p", &example("namespace.wat"), "--", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("arguments after `--` are for programs"), "{}", text(&output.stderr));
    let output = mistctl(&["generate", "web", "-p", &example("namespace.wat"), "-n", "shop"]);
    assert_eq!((text(&output.stdout), output.status.code()), (&*resource("Namespace", "web"), Some(0)));
}

#[test]
fn a_module_that_is_neither_is_told_what_a_package_needs() {
    let scratch = Scratch::new();
    let path = scratch.file("p.wat", r#"(module (memory (export "memory") 1))"#);
    let output = mistctl(&["generate", "web", "-p", &path]);
    let error = text(&output.stderr);
    assert!(error.contains("missing export `__mistletoe_generate`") && !error.contains("_start"), "{error}");
    // A program that lacks something else is one.
    let path = scratch.file("p.wat", r#"(module (import "env" "x" (func)) (func (export "_start")))"#);
    let error = mistctl(&["generate", "web", "-p", &path]);
    let error = text(&error.stderr);
    assert!(error.contains("unknown import `env` `x`") && !error.contains("__mistletoe"), "{error}");
}

/// A list with two items, comments and scalars that YAML 1.1 reads in another way than YAML 1.2.
const LIST: &str = "\
# written by hand
apiVersion: config.kubernetes.io/v1
kind: ResourceList
items:
# the first
- apiVersion: v1 # core
  kind: ConfigMap
  metadata: {name: a}
  mode: 0644
  on: yes
- apiVersion: v1
  kind: Namespace
  metadata:
    name: web
    annotations:
      internal.config.kubernetes.io/path: web.yaml
      config.kubernetes.io/index: '1'
      own: x
functionConfig:
  apiVersion: mistletoe.dev/v1alpha1
  kind: Web
  metadata:
    name: web
";

fn function(arguments: &[&str], list: &str) -> Output {
    fed(command(&["fn"]).args(arguments), list.as_bytes())
}

#[test]
fn resources_of_a_package_replace_their_like_and_the_rest_stays_as_it_is() {
    let expected = "\
# written by hand
apiVersion: config.kubernetes.io/v1
kind: ResourceList
items:
# the first
- apiVersion: v1 # core
  kind: ConfigMap
  metadata: {name: a}
  mode: 0644
  on: yes
- apiVersion: v1
  kind: Namespace
  metadata:
    name: web
    annotations:
      internal.config.kubernetes.io/path: web.yaml
      config.kubernetes.io/index: \"1\"
functionConfig:
  apiVersion: mistletoe.dev/v1alpha1
  kind: Web
  metadata:
    name: web
";
    for backend in backends() {
        let output = function(&[&example("namespace.wat"), "--backend", &backend], LIST);
        assert_eq!((text(&output.stdout), text(&output.stderr)), (expected, ""), "{backend}");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn other_resources_are_added_with_the_results_and_in_the_lists_own_style() {
    let scratch = Scratch::new();
    let files = "    a.yaml: |\n      # new\n      apiVersion: v1\n      kind: A\n      mode: 0600\n      ---\n      \
        apiVersion: v1\n      kind: B\n      text: |\n        one\n\n        two\n";
    let answer = result(&format!("  result: Ok\n  message: mind the gap\n  files:\n{files}"));
    let package = scratch.file("p.wat", answering(&answer));
    let head = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\n";
    let config = "functionConfig: {metadata: {name: x}}\n";
    let added = "- # new\n  apiVersion: v1\n  kind: A\n  mode: 0600\n- apiVersion: v1\n  kind: B\n  text: |\n    one\n\n    two\n";
    let results = "results:\n- message: mind the gap\n  severity: info\n";
    let indented: String = added
        .lines()
        .map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("  {line}\n"),
        })
        .collect();
    for (list, expected) in [
        (format!("{head}items: []\n{config}"), format!("{head}items:\n{added}{config}{results}")),
        (
            format!("{config}{head}items:\n- {{kind: C}}"),
            format!("{config}{head}items:\n- {{kind: C}}\n{added}{results}"),
        ),
        (
            format!("{head}items:\n  - kind: C\n{config}"),
            format!("{head}items:\n  - kind: C\n{indented}{config}{results}"),
        ),
        // The results of earlier functions stay.
        (
            format!("{head}results:\n- message: old\n# none yet\nitems: []\n{config}"),
            format!(
                "{head}results:\n- message: old\n- message: mind the gap\n  severity: info\n# none yet\n\
                 items:\n{added}{config}"
            ),
        ),
        (
            format!("{head}items: # all\n- {{kind: C}}\n\n# the values\n{config}"),
            format!("{head}items: # all\n- {{kind: C}}\n\n{added}# the values\n{config}{results}"),
        ),
        (format!("{head}x: 0644\n{config}"), format!("{head}x: 0644\n{config}items:\n{added}{results}")),
        (format!("{head}items: # none\n{config}"), format!("{head}items: # none\n{added}{config}{results}")),
    ] {
        let output = function(&[&package], &list);
        assert_eq!(text(&output.stdout), expected, "{list}");
        assert_eq!((text(&output.stderr), output.status.code()), ("package: mind the gap\n", Some(0)));
    }
}

#[test]
fn a_list_in_flow_style_or_with_aliases_is_written_anew() {
    let json = r#"{"kind": "ResourceList",
        "items": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}],
        "functionConfig": {"metadata": {"name": "web"}}}"#;
    let aliases = "kind: ResourceList\nitems:\n- &a {apiVersion: v1, kind: Namespace, metadata: {name: web}}\n- *a\n\
        functionConfig: {metadata: {name: web}}\n";
    let namespace = "- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: web\n";
    let items = |text: &str| {
        text.split_once("items:\n")
            .and_then(|(_, rest)| rest.split_once("functionConfig"))
            .map(|(items, _)| items.to_owned())
    };
    let output = function(&[&example("namespace.wat")], json);
    let first = "- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: a\n";
    assert_eq!(items(text(&output.stdout)), Some(format!("{first}{namespace}")), "{}", text(&output.stderr));
    // The first of two equal items is replaced; the second one was a copy of it.
    let output = function(&[&example("namespace.wat")], aliases);
    assert_eq!(items(text(&output.stdout)), Some(namespace.repeat(2)), "{}", text(&output.stderr));
}

#[test]
fn values_are_the_spec_or_the_data_and_the_name_the_metadatas() {
    let scratch = Scratch::new();
    let program = scratch.file("p.wat", telling());
    let told = |config: &str| {
        let list = format!("kind: ResourceList\nitems: []\nfunctionConfig: {config}\n");
        let output = function(&[&program, "--input", "values", "--error-format", "json"], &list);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let message = json_errors(&output).pop().expect("an error")["message"].clone();
        let parts: Vec<_> = message.as_str().expect("a message").split('\0').map(str::to_owned).collect();
        (
            parts[0].replace("the program exited with code 7: ", ""),
            parts[2].clone(),
            parts.last().cloned().unwrap_or_default(),
        )
    };
    let expected = |name: &str, namespace: &str, values: &str| {
        (name.to_owned(), format!("YOKE_NAMESPACE={namespace}"), values.to_owned())
    };
    assert_eq!(told("{metadata: {name: a, namespace: b}, spec: {c: 1}, data: {d: 2}}"), expected("a", "b", "c: 1"));
    assert_eq!(told("{kind: ConfigMap, metadata: {name: a}, data: {c: '1'}}"), expected("a", "default", "c: \"1\""));
    assert_eq!(told("{metadata: {name: a}, spec: null}"), expected("a", "default", "{}"));
    assert_eq!(told("{metadata: {name: a}, spec: null, data: {d: 2}}"), expected("a", "default", "d: 2"));
}

#[test]
fn an_error_of_the_package_is_a_result_and_the_status() {
    let scratch = Scratch::new();
    let refusing = scratch.file("p.wat", answering(&result("  result: Err\n  message: no such tag\n")));
    let output = function(&[&refusing], LIST);
    let expected = format!("{LIST}results:\n- message: no such tag\n  severity: error\n");
    assert_eq!((text(&output.stdout), output.status.code()), (&*expected, Some(1)));
    assert_eq!(text(&output.stderr), "error: no such tag\n");
    let failing = scratch.file("q.wat", writing("", "no\n", 2));
    let output = function(&[&failing, "--input", "values"], LIST);
    let message = "the program exited with code 2: no";
    let expected = format!("{LIST}results:\n- message: \"{message}\"\n  severity: error\n");
    assert_eq!((text(&output.stdout), output.status.code()), (&*expected, Some(1)));
    assert_eq!(text(&output.stderr), format!("log: no\nerror: {message}\n"));
}

#[test]
fn a_program_that_speaks_krm_gets_the_list_and_returns_one() {
    let scratch = Scratch::new();
    let copying = scratch.file("copying.wat", copying());
    for backend in backends() {
        let output = function(&[&copying, "--backend", &backend], LIST);
        assert_eq!((text(&output.stdout), output.status.code()), (LIST, Some(0)), "{}", text(&output.stderr));
    }
    let list = "kind: ResourceList\nitems: []\n";
    let error = format!("{list}results:\n- {{message: 'no, never', severity: error}}\n");
    for (stdout, code, printed, status, message) in [
        (list, 0, list, 0, ""),
        (&*error, 0, &*error, 1, "error: no, never\n"),
        (&error, 1, &error, 1, "error: the program exited with code 1\n"),
        (list, 4, list, 1, "error: the program exited with code 4\n"),
        ("oops", 4, "", 1, "error: the program exited with code 4\n"),
    ] {
        let program = scratch.file("p.wat", writing(stdout, "", code));
        let output = function(&[&program], LIST);
        assert_eq!((text(&output.stdout), output.status.code()), (printed, Some(status)), "{stdout} and {code}");
        assert_eq!(text(&output.stderr), message, "{stdout} and {code}");
    }
    // A package can speak it, too.
    let package = scratch.file("package.wat", answering(list));
    let output = function(&[&package, "--input", "resources"], LIST);
    assert_eq!((text(&output.stdout), output.status.code()), (list, Some(0)), "{}", text(&output.stderr));
    let program = scratch.file("p.wat", writing("kind: Pod\n", "", 0));
    let output = function(&[&program], LIST);
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)));
    assert!(text(&output.stderr).contains("its output is not a list of resources: `kind`"), "{}", text(&output.stderr));
}

#[test]
fn a_list_without_changes_stays_as_it_is() {
    let scratch = Scratch::new();
    let package = scratch.file("p.wat", answering(&result("  result: Ok\n  files: {}\n")));
    let empty = "kind: ResourceList # a comment\nitems: []\nfunctionConfig: {metadata: {name: x}}\n";
    // Without items that could be edited, too.
    let flow =
        "kind: ResourceList # a comment\nitems: [{kind: A, mode: 0644}]\nfunctionConfig: {metadata: {name: x}}\n";
    let null = "kind: ResourceList # a comment\nitems:\nfunctionConfig: {metadata: {name: x}}\n";
    let none = "kind: ResourceList # a comment\nfunctionConfig: {metadata: {name: x}}\n";
    for list in [LIST, empty, flow, null, none] {
        let output = function(&[&package], list);
        assert_eq!((text(&output.stdout), output.status.code()), (list, Some(0)), "{}", text(&output.stderr));
    }
}

#[test]
fn a_resource_with_the_orchestrators_annotations_keeps_its_text() {
    let scratch = Scratch::new();
    let files = "    a.yaml: |\n      # new\n      apiVersion: v1\n      kind: ConfigMap\n      \
        metadata: {name: a}\n      # the mode\n      mode: 0600 # octal\n      on: yes\n";
    let package = scratch.file("p.wat", answering(&result(&format!("  result: Ok\n  files:\n{files}"))));
    let list = |metadata: &str, item: &str| {
        format!(
            "kind: ResourceList\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: a\n\
             {metadata}{item}# another\n- kind: B\n  mode: 0644\nfunctionConfig: {{metadata: {{name: x}}}}\n"
        )
    };
    let annotations = "    annotations:\n      config.kubernetes.io/path: a.yaml\n";
    let output = function(&[&package], &list(annotations, "  old: 1\n"));
    let expected =
        list(annotations, "  # the mode\n  mode: 0600 # octal\n  on: yes\n").replace("- api", "- # new\n  api");
    assert_eq!((text(&output.stdout), text(&output.stderr)), (&*expected, ""));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn many_annotations_take_time_in_proportion_to_their_number() {
    let scratch = Scratch::new();
    let package = example("namespace.wat");
    let annotations: String = (0..100_000).map(|i| format!("      config.kubernetes.io/path{i}: x\n")).collect();
    let list = LIST.replace("      own: x\n", &annotations);
    let config = scratch.file("config.yaml", "metadata: {name: web}\n");
    let begin = Instant::now();
    let output = function(&[&package, "--config", &config], &list);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&annotations));
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn a_configuration_can_be_a_file_of_its_own() {
    let scratch = Scratch::new();
    let config = scratch.file("config.yaml", "metadata: {name: shop}\n");
    let list = "apiVersion: v1\nkind: List\nitems: []\n";
    let output = function(&[&example("namespace.wat"), "--config", &config], list);
    assert!(
        text(&output.stdout).contains("kind: Namespace\n  metadata:\n    name: shop\n"),
        "{}",
        text(&output.stdout)
    );
    let copying = scratch.file("p.wat", copying());
    // All else keeps its text, and so does the configuration, unless it is in flow style.
    let head = "kind: ResourceList # mine\nitems:\n- mode: 0644\n  on: yes\n";
    let old = "functionConfig:\n  metadata:\n    name: old\n";
    let results = "# earlier\nresults: []";
    for (config, section) in [
        (
            "# shop\nmetadata: {name: shop}\nspec: {mode: 0600}\n",
            "  # shop\n  metadata: {name: shop}\n  spec: {mode: 0600}\n",
        ),
        ("\u{feff}---\ndata:\n  a: |\n    0644\n\n    b\n...\n", "  data:\n    a: |\n      0644\n\n      b\n"),
        ("{metadata: {name: shop}}", "  metadata:\n    name: shop\n"),
    ] {
        let config = scratch.file("config.yaml", config);
        for (list, expected) in [
            (format!("{head}{old}{results}"), format!("{head}functionConfig:\n{section}{results}")),
            (format!("{head}{results}"), format!("{head}{results}\nfunctionConfig:\n{section}")),
        ] {
            let output = function(&[&copying, "--config", &config], &list);
            assert_eq!((text(&output.stdout), output.status.code()), (&*expected, Some(0)), "{}", text(&output.stderr));
        }
    }
    // A list in flow style is written anew.
    let output = function(&[&copying, "--config", &config], "{kind: List}");
    assert_eq!(text(&output.stdout), "kind: List\nfunctionConfig:\n  metadata:\n    name: shop\n");
}

#[test]
fn a_configuration_that_cannot_be_used_is_an_error_of_its_file() {
    let scratch = Scratch::new();
    let list = "kind: ResourceList\nitems: []\n";
    for (config, problem) in [
        ("", "expected a mapping, found null"),
        ("- 1", "expected a mapping, found a sequence"),
        ("a: [", "line 1"),
        ("{}", "`metadata.name` is missing"),
        ("{metadata: {name: x}, spec: 1}", "`spec`: expected a mapping, found the integer 1"),
    ] {
        let file = scratch.file("config.yaml", config);
        let output = function(&[&example("namespace.wat"), "--config", &file], list);
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)), "{config}");
        let (error, expected) = (text(&output.stderr), format!("error: {file} cannot be read\n  caused by: {problem}"));
        assert!(error.starts_with(&expected), "{error}");
    }
    let output = function(&[&example("namespace.wat"), "--config", "-"], list);
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(2)));
    assert!(text(&output.stderr).contains("--config takes a file"), "{}", text(&output.stderr));
}

#[test]
fn what_is_no_list_is_an_error_of_the_standard_input() {
    let config = "functionConfig:";
    for (input, problem) in [
        (String::new(), "expected a ResourceList, found null"),
        ("kind: Pod".to_owned(), "`kind`: expected `ResourceList`, found the string \"Pod\""),
        ("items: []".to_owned(), "expected a ResourceList, but it has no `kind`"),
        ("kind: List\nitems: {}".to_owned(), "`items`: expected a sequence, found a mapping"),
        ("kind: List\nitems: []".to_owned(), "the list has no `functionConfig`"),
        (format!("kind: List\n{config} 5"), "`functionConfig`: expected a mapping, found the integer 5"),
        (format!("kind: List\n{config}"), "the list has no `functionConfig`; `--config FILE` sets one"),
        (format!("kind: List\n{config} {{}}"), "`functionConfig.metadata.name` is missing"),
        (
            format!("kind: List\n{config} {{metadata: {{name: 5}}}}"),
            "`functionConfig.metadata.name`: expected a string, found the integer 5",
        ),
        (
            format!("kind: List\n{config} {{metadata: {{name: x, namespace: [y]}}}}"),
            "`functionConfig.metadata.namespace`: expected a string, found a sequence",
        ),
        (
            format!("kind: List\n{config} {{metadata: {{name: x}}, spec: 1}}"),
            "`functionConfig.spec`: expected a mapping",
        ),
        ("a: [".to_owned(), "line 1"),
        (format!("kind: List\nitems: {}", "[".repeat(200) + &"]".repeat(200)), "more than 128 nested collections"),
    ] {
        let output = function(&[&example("namespace.wat")], &input);
        assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)), "{input}");
        let error = text(&output.stderr);
        assert!(error.starts_with("error: standard input cannot be read\n") && error.contains(problem), "{error}");
    }
    let package = example("namespace.wat");
    for arguments in [&["fn", &package][..], &["generate", "web", "-p", &package, "-f", "-"]] {
        let output = fed(&mut command(arguments), b"a: \xff");
        let expected = "error: standard input cannot be read\n  caused by: it is not UTF-8 from byte 3 on\n";
        assert_eq!((text(&output.stderr), output.status.code()), (expected, Some(3)), "{arguments:?}");
    }
    let output = fed(&mut command(&["generate", "web", "-p", &package, "-f", "-"]), b"[]");
    assert!(text(&output.stderr).starts_with("error: standard input cannot be read\n"), "{}", text(&output.stderr));
}

#[test]
fn a_name_that_a_program_would_see_in_part_is_refused() {
    let scratch = Scratch::new();
    let program = scratch.file("p.wat", telling());
    for (metadata, field) in [(r#"name: "a\0b""#, "name"), (r#"name: a, namespace: "b\0c""#, "namespace")] {
        let list = format!("kind: ResourceList\nfunctionConfig: {{metadata: {{{metadata}}}}}\n");
        let output = function(&[&program, "--input", "values"], &list);
        let problem = format!("`functionConfig.metadata.{field}`: expected a string without NUL");
        let expected = format!("error: standard input cannot be read\n  caused by: {problem}\n");
        assert_eq!((text(&output.stderr), output.status.code()), (&*expected, Some(3)), "{metadata}");
    }
}

#[test]
fn a_file_of_a_package_that_holds_no_resources_is_named() {
    let scratch = Scratch::new();
    let answer = result("  result: Ok\n  files:\n    notes.txt: |\n      hello\n");
    let package = scratch.file("p.wat", answering(&answer));
    let output = function(&[&package], LIST);
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(3)));
    let expected = format!(
        "error: {package}: output, line 1: file `notes.txt`: expected a resource, found the string \"hello\"\n"
    );
    assert_eq!(text(&output.stderr), expected);
}

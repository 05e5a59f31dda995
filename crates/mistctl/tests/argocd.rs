//! The example plugin for Argo CD: its command, as Argo CD's plugin server runs it.
#![cfg(unix)]

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use mistletoe::documents::yaml::{self, Mapping, Value};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, answering, example, result, text};

fn spec() -> Mapping {
    let plugin = fs::read_to_string(example("plugin.yaml")).expect("read");
    let Ok(Value::Mapping(mut plugin)) = yaml::parse(&plugin) else { panic!("{plugin}") };
    assert_eq!(plugin.get("kind").and_then(Value::as_str), Some("ConfigManagementPlugin"));
    match plugin.remove("spec") {
        Some(Value::Mapping(spec)) => spec,
        other => panic!("{other:?}"),
    }
}

fn within<'a>(value: &'a Mapping, field: &str) -> &'a Value {
    value.get(field).unwrap_or_else(|| panic!("{field} is missing"))
}

/// Runs the plugin's command in an application's directory, with the variables that Argo CD sets.
fn generate(folder: &Path, variables: &[(&str, &str)]) -> Output {
    let spec = spec();
    let generate = within(&spec, "generate").as_mapping().expect("a mapping");
    let words = ["command", "args"].iter().flat_map(|field| match within(generate, field) {
        Value::Sequence(words) => words.iter().map(|word| word.as_str().expect("a string").to_owned()),
        other => panic!("{other:?}"),
    });
    let words: Vec<String> = words.collect();
    let program = Path::new(env!("CARGO_BIN_EXE_mistctl")).parent().expect("a folder").to_owned();
    let path = env::join_paths([program].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())));
    Command::new(&words[0])
        .args(&words[1..])
        .current_dir(folder)
        .env("PATH", path.expect("a path"))
        .envs([("ARGOCD_APP_NAME", "my-web"), ("ARGOCD_APP_NAMESPACE", "shop"), ("KUBE_VERSION", "1.34")])
        .envs(variables.iter().copied())
        .output()
        .expect("it starts")
}

/// A program that writes its values as fields of a ConfigMap.
const SHOWING: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "apiVersion: v1\nkind: ConfigMap\n")
  (func $write (param $address i32) (param $length i32)
    (i32.store (i32.const 8) (local.get $address))
    (i32.store (i32.const 12) (local.get $length))
    (if (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)) (then (unreachable))))
  (func (export "_start")
    (i32.store (i32.const 8) (i32.const 4096))
    (i32.store (i32.const 12) (i32.const 4096))
    (if (call $fd_read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 16)) (then (unreachable)))
    (i32.store (i32.const 20) (i32.load (i32.const 16)))
    (call $write (i32.const 1024) (i32.const 31))
    (call $write (i32.const 4096) (i32.load (i32.const 20)))))"#;

#[test]
fn the_command_prints_the_manifests_of_the_application_and_nothing_else() {
    let scratch = Scratch::new();
    let namespace = fs::read(example("namespace-c.wasm")).expect("read");
    scratch.file("package.wasm", namespace);
    let output = generate(scratch.0.path(), &[]);
    assert_eq!(text(&output.stdout), "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: my-web\n");
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
}

#[test]
fn values_come_from_the_file_and_from_parameters_which_no_shell_reads() {
    let scratch = Scratch::new();
    scratch.file("package.wasm", SHOWING);
    scratch.file("values.yaml", "image: web\ntag: '1.1'\n");
    let output = generate(scratch.0.path(), &[("PARAM_SET_0", "tag=v2"), ("PARAM_SET_1", "a=$(id) `id` 'x'; id")]);
    let manifest = "apiVersion: v1\nkind: ConfigMap\nimage: web\ntag: v2\na: $(id) `id` 'x'; id\n";
    assert_eq!(text(&output.stdout), manifest, "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_package_that_fails_fails_the_command() {
    let scratch = Scratch::new();
    scratch.file("package.wasm", answering(&result("  result: Err\n  message: no such tag\n")));
    let output = generate(scratch.0.path(), &[]);
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(1)));
    assert_eq!(text(&output.stderr), "error: no such tag\n");
}

#[test]
fn the_plugin_finds_what_its_command_reads_and_announces_its_parameters() {
    let spec = spec();
    let discover = within(&spec, "discover").as_mapping().expect("a mapping");
    assert_eq!(within(discover, "fileName").as_str(), Some("package.wasm"));
    let Value::Sequence(parameters) = within(within(&spec, "parameters").as_mapping().expect("a mapping"), "static")
    else {
        panic!("no list");
    };
    let [Value::Mapping(set)] = parameters.as_slice() else { panic!("{parameters:?}") };
    // PARAM_SET_0, PARAM_SET_1, …
    assert_eq!(within(set, "name").as_str(), Some("set"));
    assert_eq!(within(set, "collectionType").as_str(), Some("array"));
}

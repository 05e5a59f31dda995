//! The built program, as a user meets it: what it prints where, and how it ends.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{ANSWERING, Scratch, answering, backends, command, example, fed, mistctl, result, text};

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: my-namespace\n";

#[test]
fn every_example_package_answers_on_every_backend() {
    let backends = backends();
    assert!(!backends.is_empty());
    for backend in &backends {
        for package in ["namespace.wat", "namespace-c.wasm", "namespace-rust.wasm"] {
            let output = mistctl(&["generate", "my-namespace", "-p", &example(package), "--backend", backend]);
            assert_eq!(text(&output.stderr), "", "{package} on {backend}");
            assert_eq!(text(&output.stdout), NAMESPACE, "{package} on {backend}");
            assert_eq!(output.status.code(), Some(0), "{package} on {backend}");
        }
    }
}

#[test]
fn a_package_is_told_by_its_content() {
    let scratch = Scratch::new();
    let wasm = fs::read(example("namespace-c.wasm")).expect("read");
    let wat = fs::read(example("namespace.wat")).expect("read");
    for package in [scratch.file("binary.wat", wasm), scratch.file("text.wasm", wat)] {
        let output = mistctl(&["generate", "my-namespace", "-p", &package]);
        assert_eq!(text(&output.stdout), NAMESPACE, "{package}");
    }
}

#[test]
fn a_line_that_cannot_be_assembled_is_shown_in_part_where_it_is_long() {
    let scratch = Scratch::new();
    let short = scratch.file("short.wat", "(module (nothing))");
    let output = mistctl(&["generate", "x", "-p", &short]);
    assert!(text(&output.stderr).contains("1 | (module (nothing))"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&format!("--> {short}:1:10")), "{}", text(&output.stderr));
    let long = scratch.file("long.wat", format!("(module (nothing \"{}\"))", "ä".repeat(1 << 20)));
    for format in ["text", "json"] {
        let output = mistctl(&["generate", "x", "-p", &long, "--error-format", format]);
        let error = text(&output.stderr);
        assert!(error.contains("the text is not a WebAssembly module") && error.contains('…'), "{error}");
        assert!(error.len() < 3_000, "{} bytes", error.len());
        assert_eq!(output.status.code(), Some(3));
    }
}

#[test]
fn the_answers_files_are_one_stream_and_the_message_goes_to_stderr() {
    let scratch = Scratch::new();
    let answer = result(
        "  result: Ok\n  message: done\n  files:\n    b.yaml: 'b: 1'\n    a.yaml: |\n      ---\n      a: 1\n    ../c: 'c: 1'\n",
    );
    let package = scratch.file("p.wat", answering(&answer));
    let output = mistctl(&["generate", "x", "-p", &package]);
    assert_eq!(text(&output.stdout), "b: 1\n---\na: 1\n---\nc: 1\n");
    assert_eq!(text(&output.stderr), "package: done\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn raw_is_the_answer_byte_for_byte_whatever_it_says() {
    let scratch = Scratch::new();
    for (answer, status) in [
        (result("  result: Ok\n  files: {}  # comment\n"), 0),
        (result("  result: Err\n  message: no\n"), 1),
        ("no document: at all".to_owned(), 3),
        ("\u{feff}[".to_owned(), 3),
        (String::new(), 3),
    ] {
        let package = scratch.file("p.wat", answering(&answer));
        let output = mistctl(&["generate", "x", "-p", &package, "-o", "raw"]);
        assert_eq!(text(&output.stdout), answer);
        assert_eq!(output.status.code(), Some(status), "{answer}");
        assert_eq!(output.stderr.is_empty(), status == 0, "{answer}");
    }
}

#[test]
fn a_packages_err_is_status_1_and_nothing_on_stdout() {
    let scratch = Scratch::new();
    for (data, message) in [
        ("  result: Err\n  message: \"no \\e[2J way\"\n", "error: no \\u{1b}[2J way\n"),
        ("  result: Err\n", "error: the package returned `Err` without a message\n"),
    ] {
        let package = scratch.file("p.wat", answering(&result(data)));
        for output in ["yaml", "dir=out"] {
            let output = command(&["generate", "x", "-p", &package, "-o", output]).current_dir(&scratch.0).output();
            let output = output.expect("mistctl starts");
            assert_eq!(text(&output.stdout), "");
            assert_eq!(text(&output.stderr), message);
            assert_eq!(output.status.code(), Some(1));
            assert!(!scratch.path("out").exists());
        }
    }
}

#[test]
fn dir_writes_the_tree_or_nothing() {
    let scratch = Scratch::new();
    let package = |files: &str| scratch.file("p.wat", answering(&result(&format!("  result: Ok\n  files:\n{files}"))));
    let run = |package: &str| {
        command(&["generate", "x", "-p", package, "-o", "dir=out"])
            .current_dir(&scratch.0)
            .output()
            .expect("mistctl starts")
    };
    let good = package("    a.yaml: 'a: 1'\n    sub/b.yaml: 'b: 1'\n");
    let output = run(&good);
    assert_eq!((text(&output.stdout), text(&output.stderr), output.status.code()), ("", "", Some(0)));
    assert_eq!(fs::read_to_string(scratch.path("out/sub/b.yaml")).expect("read"), "b: 1");
    let bad = package("    a.yaml: 'a: 2'\n    ../b.yaml: 'b: 2'\n");
    let output = run(&bad);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("../b.yaml"), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(scratch.path("out/a.yaml")).expect("read"), "a: 1");
    assert!(!scratch.path("b.yaml").exists());
}

/// What the package is given, found out from a package that answers with its input.
#[test]
fn the_input_is_the_file_then_the_settings_then_the_name() {
    let scratch = Scratch::new();
    let echo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/echo.wat");
    let values = scratch.file("values.yaml", "\u{feff}a: {b: 1, c: yes}\nname: other\n");
    let echo = echo.display().to_string();
    let arguments =
        ["generate", "web", "-p", &echo, "-o", "raw", "-s", "a.b=2", "--set", "d: [1, x]", "-s", "name=third"];
    let expected = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistInput\ndata:\n  name: web\n  a:\n    b: 2\n    c: \"yes\"\n  d:\n  - 1\n  - x\n";
    let output = command(&arguments).args(["-f", &values]).output().expect("mistctl starts");
    assert_eq!(text(&output.stdout), expected);
    let values = fs::read(&values).expect("read");
    assert_eq!(text(&fed(command(&arguments).args(["-f", "-"]), &values).stdout), expected);
}

#[test]
fn wrong_usage_is_status_2() {
    let package = example("namespace.wat");
    for arguments in [
        &["generate"][..],
        &["generate", "x", "-p", &package, "--set", "novalue"],
        &["generate", "x", "-p", &package, "-o", "dir="],
        &["generate", "x", "-p", &package, "-o", "toml"],
        &["frobnicate"],
        &[],
    ] {
        let output = mistctl(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        let output = command(arguments).args(["--error-format", "json"]).output().expect("mistctl starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let report: Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
        assert_eq!(report["kind"], "usage", "{arguments:?}");
    }
}

#[test]
fn files_that_cannot_be_used_are_status_3_and_named() {
    let scratch = Scratch::new();
    let package = example("namespace.wat");
    let missing = scratch.path("missing").display().to_string();
    let latin1 = scratch.file("latin1.yaml", b"name: \xe9");
    let list = scratch.file("list.yaml", "- a");
    let twice = scratch.file("twice.yaml", "a: 1\na: 2\n");
    let folder = scratch.0.path().display().to_string();
    for (arguments, file) in [
        (&["generate", "x", "-p", &missing][..], &missing),
        (&["generate", "x", "-p", &folder], &folder),
        (&["generate", "x", "-p", "/dev/zero"], &"/dev/zero".to_owned()),
        (&["inspect", &missing], &missing),
        (&["generate", "x", "-p", &package, "-f", &missing], &missing),
        (&["generate", "x", "-p", &package, "-f", &latin1], &latin1),
        (&["generate", "x", "-p", &package, "-f", &list], &list),
        (&["generate", "x", "-p", &package, "-f", &twice], &twice),
    ] {
        let output = mistctl(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert!(text(&output.stderr).contains(file.as_str()), "{arguments:?}: {}", text(&output.stderr));
        let output = command(arguments).args(["--error-format", "json"]).output().expect("mistctl starts");
        let report: Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
        assert_eq!((&report["kind"], &report["file"]), (&"file".into(), &file.as_str().into()), "{arguments:?}");
    }
}

#[test]
fn errors_as_json_are_the_librarys_kinds_and_fields_on_every_backend() {
    let scratch = Scratch::new();
    let trap = scratch.file("trap.wat", answering("x").replace("(i32.const 8)))", "(unreachable)))"));
    // An output of 10 bytes at address 0xffffffff.
    let fat = 10u64 << 32 | 0xffff_ffff;
    let outside = ANSWERING.replace("ANSWER", "").replace("LENGTH_AND_ADDRESS", &fat.to_string());
    let outside = scratch.file("outside.wat", outside);
    for backend in backends() {
        let report = |package: &str| -> Value {
            let output = mistctl(&["generate", "x", "-p", package, "--backend", &backend, "--error-format", "json"]);
            assert_eq!(output.status.code(), Some(3));
            assert_eq!(text(&output.stdout), "");
            serde_json::from_slice(&output.stderr).expect("one JSON object")
        };
        let found = report(&trap);
        assert_eq!(found["kind"], "trap", "{backend}");
        assert_eq!(found["trap"], "unreachable", "{backend}");
        assert_eq!(found["export"], "__mistletoe_generate", "{backend}");
        assert_eq!(found["file"], trap.as_str(), "{backend}");
        let found = report(&outside);
        assert_eq!(found["kind"], "out-of-bounds", "{backend}");
        assert_eq!(found["region"], "output", "{backend}");
        assert_eq!(found["address"], 0xffff_ffffu32, "{backend}");
    }
    let output = mistctl(&["generate", "x", "-p", &trap, "--backend", "v8", "--error-format=json"]);
    let report: Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
    assert_eq!(report["kind"], "unknown-backend");
}

#[test]
fn a_trap_while_freeing_is_a_warning() {
    let scratch = Scratch::new();
    let trapping = |answer: &str| {
        let package = answering(answer).replace("(param i32 i32))\n", "(param i32 i32) (unreachable))\n");
        scratch.file("p.wat", package)
    };
    let good = trapping(&result("  result: Ok\n  files: {a: 'a: 1'}\n"));
    let output = mistctl(&["generate", "x", "-p", &good]);
    assert_eq!((text(&output.stdout), output.status.code()), ("a: 1\n", Some(0)));
    assert!(text(&output.stderr).starts_with("warning: "), "{}", text(&output.stderr));
    let bad = trapping("no document: at all");
    let output = mistctl(&["generate", "x", "-p", &bad, "--error-format", "json"]);
    let lines: Vec<Value> =
        text(&output.stderr).lines().map(|line| serde_json::from_str(line).expect("one JSON object")).collect();
    let found: Vec<_> = lines.iter().map(|line| (&line["level"], &line["kind"])).collect();
    assert_eq!(found, [(&"warning".into(), &Value::Null), (&"error".into(), &"document".into())]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn inspect_shows_a_package_and_what_is_wrong_with_a_broken_one() {
    let output = mistctl(&["inspect", &example("namespace-c.wasm"), "-o", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let listing: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(listing["info"]["kind"], "MistPackage");
    let generate = json!({"kind": "func", "params": ["I32", "I32"], "results": ["I32"]});
    assert_eq!(listing["exports"]["functions"]["__mistletoe_generate"], generate);
    assert!(listing.get("problems").is_none());

    let scratch = Scratch::new();
    let broken = scratch.file(
        "broken.wat",
        r#"(module (import "env" "f" (func (param i64))) (func (export "__mistletoe_info")) (func $f (return_call $f)))"#,
    );
    let output = mistctl(&["inspect", &broken, "-o", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let listing: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(listing["info"], Value::Null);
    let of = |params: &[&str]| json!({"kind": "func", "params": params, "results": []});
    assert_eq!(listing["imports"]["functions"][0]["type"], of(&["I64"]));
    assert_eq!(listing["exports"]["functions"]["__mistletoe_info"], of(&[]));
    let problems = listing["problems"].as_array().expect("a list");
    // The call in tail position, five exports, one import.
    assert_eq!(problems.len(), 7, "{problems:?}");
    assert!(problems[0].as_str().is_some_and(|problem| problem.contains("`tail-call`")), "{problems:?}");

    for odd in ["", "hello", "\0asm", "\0asm\x0d\0\x01\0"] {
        let output = mistctl(&["inspect", &scratch.file("odd", odd)]);
        assert_eq!(output.status.code(), Some(3), "{odd:?}");
        assert!(!output.stderr.is_empty(), "{odd:?}");
    }
}

#[test]
fn completions_and_help_are_there() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = mistctl(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("mistctl"), "{shell}");
    }
    let output = mistctl(&["generate", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("kubectl apply -f -"));
}

#[test]
fn the_help_names_the_limits_that_are_there_by_default() {
    let limits = mistletoe::Limits::default();
    let mib = |bytes: u64| format!("{}MiB", bytes >> 20);
    let defaults = [
        ("--timeout", limits.timeout().map(|timeout| format!("{}s", timeout.as_secs()))),
        ("--max-memory", limits.memory().map(mib)),
        ("--max-stack", limits.stack().map(|units| units.to_string())),
        ("--max-output", Some(mib(limits.max_output()))),
    ];
    let output = mistctl(&["generate", "--help"]);
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for (flag, default) in defaults {
        let about = help.split(&format!("{flag} <")).nth(1).expect("a flag");
        let about = about.split("\n      --").next().unwrap_or_default();
        let default = format!("[default: {}]", default.expect("a limit"));
        assert!(about.contains(&default), "{flag}: {default}: {about}");
    }
}

#[test]
fn backends_are_listed_as_json_too() {
    let output = mistctl(&["backends", "-o", "json"]);
    let list: Value = serde_json::from_slice(&output.stdout).expect("an array");
    let names: Vec<_> = list.as_array().expect("an array").iter().map(|entry| entry["name"].as_str()).collect();
    assert_eq!(
        names,
        ["wasmi", "wasmi-lazy", "wasmtime", "wasmtime-winch", "wasmtime-pulley", "wasmer"].map(Some),
        "{list}"
    );
    assert_eq!(list[0], json!({ "name": "wasmi", "enabled": true, "default": true, "feature": "wasmi" }));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_misspelt_option_and_an_unknown_variable_are_explained() {
    let output = mistctl(&["generate", "x", "-p", "p.wasm", "--backnd", "wasmi"]);
    assert!(text(&output.stderr).contains("a similar argument exists: '--backend'"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
    let output = command(&["run", "p.wasm", "--env", "UNSET"]).env_remove("UNSET").output().expect("it starts");
    assert!(text(&output.stderr).contains("the environment has no such variable"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
}

/// Built without the server, the verb says how to get it.
#[test]
#[cfg(not(feature = "serve"))]
fn a_build_without_the_server_says_how_to_get_it() {
    for arguments in [&["serve"][..], &["serve", "serve.toml"], &["serve", "check", "--help"]] {
        let output = mistctl(arguments);
        assert!(text(&output.stderr).contains("build with --features serve"), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(2));
    }
}

/// Built without registries, the verbs and the references say how to get them.
#[test]
#[cfg(not(feature = "registry"))]
fn a_build_without_registries_says_how_to_get_them() {
    for arguments in [
        &["pull"][..],
        &["pull", "oci://registry.example/web:1", "-o", "web.wasm"],
        &["push", "--help"],
        &["verify", "oci://registry.example/web:1", "--key", "cosign.pub"],
        &["sign"],
        &["update"],
        &["generate", "web", "-p", "oci://registry.example/web:1"],
        &["inspect", "https://files.example/web.wasm"],
    ] {
        let output = mistctl(arguments);
        assert!(text(&output.stderr).contains("build with --features registry"), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_module_comes_from_standard_input_once() {
    let wat = fs::read(example("namespace.wat")).expect("read");
    let generate = ["generate", "my-namespace", "-p", "-"];
    let output = fed(&mut command(&generate), &wat);
    assert_eq!(text(&output.stdout), NAMESPACE, "{}", text(&output.stderr));
    let output = fed(&mut command(&["inspect", "-"]), &wat);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // The values, the request and the list are there, too.
    for arguments in [&[&generate[..], &["-f", "-"]].concat()[..], &["call", "-"], &["fn", "-"]] {
        let output = fed(&mut command(arguments), b"kind: ResourceList\nitems: []\n");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("named more than once"), "{}", text(&output.stderr));
    }
}

/// Built without the cache, the verb says how to get it.
#[test]
#[cfg(not(any(feature = "cache", feature = "registry")))]
fn a_build_without_the_cache_says_how_to_get_it() {
    for arguments in [&["cache"][..], &["cache", "list"], &["cache", "clear", "--help"]] {
        let output = mistctl(arguments);
        assert!(text(&output.stderr).contains("build with --features cache"), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(2));
    }
}

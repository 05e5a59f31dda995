//! `mistctl inspect`: which interfaces a module speaks, and what is wrong with it.

use serde_json::{Value, json};

#[allow(dead_code, reason = "not every test needs all of it")]
mod support;

use support::{Scratch, backends, command, describing, example, mistctl, text};

const INFO: &str = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\nmetadata:\n  name: n\n";

const PLUGIN: &str = r#"
  (func (export "malloc") (param i32) (result i32) (i32.const 0))
  (func (export "free") (param i32))
  (func (export "run"))"#;

/// The listing as JSON, and the status.
fn inspected(module: &str) -> (Value, Option<i32>) {
    let output = mistctl(&["inspect", module, "-o", "json"]);
    let listing = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert_eq!(output.stderr.is_empty(), output.status.success(), "{}", text(&output.stderr));
    (listing, output.status.code())
}

fn problems(listing: &Value) -> Vec<&str> {
    let problems = listing.get("problems").and_then(Value::as_array);
    problems.into_iter().flatten().map(|problem| problem.as_str().expect("text")).collect()
}

#[test]
fn a_module_speaks_the_interfaces_that_it_fits() {
    let scratch = Scratch::new();
    let package = describing(INFO);
    let also = |module: &str, more: &str| format!("{}{more})", module.trim_end().strip_suffix(')').expect("a module"));
    let start = r#"(func (export "_start"))"#;
    for (module, interfaces) in [
        (&scratch.file("package.wat", &package), json!(["package"])),
        (&example("namespace-rust.wasm"), json!(["package"])),
        (&example("httpwasm-c.wasm"), json!(["plugin"])),
        (&example("httpwasm-direct-c.wasm"), json!(["plugin"])),
        (&example("http-handler-c.wasm"), json!(["middleware"])),
        (&example("command-c.wasm"), json!(["command"])),
        (&scratch.file("both.wat", also(&package, start)), json!(["package", "command"])),
        (&scratch.file("all.wat", also(&also(&package, start), PLUGIN)), json!(["package", "plugin", "command"])),
    ] {
        let (listing, status) = inspected(module);
        assert_eq!((&listing["interfaces"], status), (&interfaces, Some(0)), "{module}");
        assert!(listing.get("problems").is_none(), "{module}");
        assert_eq!(listing["info"].is_null(), interfaces[0] != "package", "{module}");
    }
}

#[test]
fn problems_are_those_of_the_interface_that_a_module_is_nearest_to() {
    let scratch = Scratch::new();
    let memory = r#"(memory (export "memory") 1)"#;
    for (module, missing) in [
        // One of the package's exports says that it is meant as one, however much is missing.
        (
            format!(r#"(module {memory} (func (export "__mistletoe_info") (result i32) (i32.const 0)))"#),
            &["__mistletoe_alloc", "__mistletoe_dealloc", "__mistletoe_generate"][..],
        ),
        (
            format!(r#"(module (import "httpwasm" "oputs" (func (param i32 i32))) {memory})"#),
            &["malloc", "free", "run"],
        ),
        (format!("(module {memory} (func (export \"run\")))"), &["malloc", "free"]),
        (
            format!(r#"(module (import "http_handler" "set_status_code" (func (param i32))) {memory})"#),
            &["handle_request", "handle_response"],
        ),
        (
            format!(r#"(module {memory} (func (export "handle_request") (result i64) (i64.const 1)))"#),
            &["handle_response"],
        ),
        ("(module (func (export \"_start\")))".to_owned(), &["memory"]),
        // Nothing at all is nearest to what asks for least.
        ("(module)".to_owned(), &["memory", "_start"]),
    ] {
        let (listing, status) = inspected(&scratch.file("p.wat", &module));
        assert_eq!((&listing["interfaces"], status), (&json!([]), Some(3)), "{module}");
        let problems = problems(&listing);
        assert_eq!(problems.len(), missing.len(), "{module}: {problems:?}");
        for (problem, name) in problems.iter().zip(missing) {
            assert!(problem.starts_with(&format!("missing export `{name}`")), "{module}: {problem}");
        }
    }
    // An import that nothing offers keeps a module from each.
    let module = format!(r#"(module (import "env" "f" (func)) {memory} (func (export "_start")))"#);
    let (listing, status) = inspected(&scratch.file("p.wat", &module));
    assert_eq!(problems(&listing), ["unknown import `env` `f`, a func [] -> []"]);
    assert_eq!((&listing["interfaces"], status), (&json!([]), Some(3)));
}

#[test]
fn a_description_that_is_no_mist_package_is_a_problem() {
    let scratch = Scratch::new();
    for (info, problem, shown) in [
        ("info", "MistPackage: expected a mapping, found the string \"info\"", json!("info")),
        ("", "MistPackage: expected a mapping, found null", json!("")),
        ("a: [", "MistPackage, line", json!("a: [")),
        (
            "apiVersion: v1\n",
            "MistPackage, `apiVersion`: expected `mistletoe.dev/v1alpha1`",
            json!({"apiVersion": "v1"}),
        ),
    ] {
        let module = scratch.file("p.wat", describing(info));
        for backend in backends() {
            let output = mistctl(&["inspect", &module, "-o", "json", "--backend", &backend]);
            assert_eq!(output.status.code(), Some(3), "{info}");
            let listing: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!((&listing["info"], &listing["interfaces"]), (&shown, &json!(["package"])), "{info}");
            let problems = problems(&listing);
            assert!(problems.len() == 1 && problems[0].starts_with(problem), "{info}: {problems:?}");
            assert!(text(&output.stderr).starts_with(&format!("error: {module}: {problem}")), "{info}");
        }
    }
}

#[test]
fn types_are_text_for_people_and_parts_in_json() {
    let scratch = Scratch::new();
    let module = r#"(module
        (import "env" "f" (func (param i32 f64) (result i64)))
        (memory (export "memory") 1 4)
        (table (export "t") 2 funcref)
        (global (export "g") (mut f32) (f32.const 0))
        (func (export "_start")))"#;
    let module = scratch.file("p.wat", module);
    let (listing, _) = inspected(&module);
    let f = json!({"kind": "func", "params": ["I32", "F64"], "results": ["I64"]});
    assert_eq!(listing["imports"]["functions"], json!([{"module": "env", "name": "f", "type": f}]));
    assert_eq!(
        listing["exports"],
        json!({
            "functions": {"_start": {"kind": "func", "params": [], "results": []}},
            "memories": {"memory": {"kind": "memory", "minimum": 1, "maximum": 4, "shared": false, "memory64": false}},
            "tables": {"t": {"kind": "table", "element": "FuncRef", "minimum": 2}},
            "globals": {"g": {"kind": "global", "content": "F32", "mutable": true}},
        })
    );
    let expected = "info: null
type: wasm
interfaces: []
size: SIZE
imports:
  functions:
  - module: env
    name: f
    type: \"[I32, F64] -> [I64]\"
  memories: []
  tables: []
  globals: []
exports:
  functions:
    _start: \"[] -> []\"
  memories:
    memory: not shared (1 pages..4 pages)
  tables:
    t: FuncRef (2..)
  globals:
    g: F32 (mutable)
problems:
- unknown import `env` `f`, a func [I32, F64] -> [I64]
";
    let size = listing["size"].to_string();
    assert_eq!(text(&mistctl(&["inspect", &module]).stdout), expected.replace("SIZE", &size));
}

#[test]
fn a_description_without_an_end_is_ended_by_inspects_own_limits() {
    let scratch = Scratch::new();
    let ever = describing(INFO).replace("(i32.const 16))", "(loop $ever (br $ever)) (i32.const 16))");
    let module = scratch.file("p.wat", ever);
    for backend in backends() {
        for (limit, problem) in [
            (
                ["--fuel", "1k"],
                "out of fuel in `__mistletoe_info`: 1,001 units exceed the limit of 1,000 (raise it with --fuel)",
            ),
            (["--timeout", "700ms"], "timed out after 700 ms in `__mistletoe_info` (raise it with --timeout)"),
        ] {
            let mut command = command(&["inspect", &module, "-o", "json", "--backend", &backend]);
            let output = command.args(limit).output().expect("it starts");
            assert_eq!(text(&output.stderr), format!("error: {module}: {problem}\n"), "{backend}");
            let listing: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!((problems(&listing), output.status.code()), (vec![problem], Some(3)), "{backend}");
        }
    }
}

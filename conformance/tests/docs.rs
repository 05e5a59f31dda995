//! The code in the README and in `docs`. Each block of Rust is in here as it is in the document, is compiled, and runs.
//! `examples/fourth-engine` has those of `docs/write-a-backend.md`.

#![allow(unused_variables, unused_assignments, unused_imports, unused_mut)]

use std::fs;
use std::path::Path;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Echoes its input.
const ECHO: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32)
        (i32.store (i32.const 8) (local.get 0))
        (i32.store (i32.const 12) (local.get 1))
        (i32.const 8)))"#;

fn wasm() -> Vec<u8> {
    wat::parse_str(ECHO).expect("it assembles")
}

#[test]
fn the_readme() -> Result {
    let wasm = wasm();
    use mistletoe::{AnyPackage, Pool};

    let backend = mistletoe::backend("wasmtime")?;
    let package = AnyPackage::new(&backend, &wasm)?;
    let pool = Pool::new(&package, 8).reused();
    let output = pool.generate("data:\n  name: web\n")?;
    assert_eq!(output, "data:\n  name: web\n");
    Ok(())
}

#[test]
fn load_and_call() -> Result {
    let wasm = wasm();
    use mistletoe::{AnyPackage, Package, Wasmi};

    let package = Package::new(&Wasmi::new(), &wasm)?;
    let package = AnyPackage::new(&mistletoe::backend("wasmi")?, &wasm)?;

    let mut session = package.session()?;
    let output = session.generate("data:\n  name: web\n")?;
    let length = session.generate_with("data:\n  name: web\n", |output| output.len())?;
    assert_eq!((output.as_str(), length), ("data:\n  name: web\n", 18));

    let handle = session.cancel_handle();
    handle.cancel();
    assert!(matches!(session.generate("x").expect_err("cancelled").kind(), mistletoe::ErrorKind::Cancelled { .. }));
    Ok(())
}

#[test]
fn serve_many_calls() -> Result {
    let package = mistletoe::Package::new(&mistletoe::Wasmi::new(), &wasm())?;
    use std::time::Duration;

    use mistletoe::Pool;

    let pool = Pool::new(&package, 8).wait(Duration::from_secs(1));
    let output = pool.generate("data:\n  name: web\n")?;
    let pool = pool.reused();
    assert_eq!(pool.generate(&output)?, output);
    Ok(())
}

#[test]
fn limits() -> Result {
    let wasm = wasm();
    use std::time::Duration;

    use mistletoe::{Imports, Limits, Package, Wasmi};

    let limits = Limits::default().with_timeout(Duration::from_secs(2)).with_fuel(50_000_000);
    let package = Package::<_>::with_imports(&Wasmi::new(), &wasm, &Imports::new(), limits)?;
    let strict = package.with_limits(limits.with_fuel(1_000_000))?;
    assert_eq!(strict.generate("x")?, "x");
    Ok(())
}

#[test]
fn host_functions() -> Result {
    use mistletoe::{Caller, Error, Imports};

    let mut imports = Imports::new();
    imports.func("log", "write", |caller: &mut Caller<'_, Vec<String>>, address: u32, length: u32| {
        let line = caller.str("line", address, length)?.to_owned();
        caller.state_mut().push(line);
        Ok::<_, Error>(())
    });
    assert!(imports.get("log", "write").is_some());
    Ok(())
}

#[test]
fn wasi() -> Result {
    let scratch = tempfile::tempdir()?;
    fs::create_dir(scratch.path().join("site"))?;
    std::env::set_current_dir(scratch.path())?;
    let wasm = wasm();
    use mistletoe::wasi::{self, Access, Wasi};
    use mistletoe::{Limits, Package, Wasmi};

    let package = Package::with_imports(&Wasmi::new(), &wasm, &wasi::imports::<Wasi>(), Limits::default())?;
    let wasi = Wasi::builder().env([("LANG", "en")]).dir("site", "/site", Access::ReadOnly)?.build();
    let mut session = package.session_with(wasi)?;
    let answer = session.generate("")?;
    let log = session.state_mut().take_stderr();
    assert_eq!((answer.as_str(), log.as_slice()), ("", &b""[..]));
    Ok(())
}

#[test]
fn a_package() {
    use mistletoe_guest::{Error, Files, package};
    use serde_json::json;

    #[derive(serde::Deserialize)]
    struct Input {
        name: String,
    }

    package!(generate, labels: [("mistletoe.dev/group", "examples")]);

    fn generate(input: Input) -> Result<Files, Error> {
        if input.name.len() > 63 {
            return Err(Error::new("the name is longer than 63 bytes"));
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": input.name}});
        Files::new().yaml("namespace.yaml", &namespace)
    }

    let text = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: web\n";
    assert_eq!(generate(Input { name: "web".to_owned() }), Files::new().text("namespace.yaml", text));
    assert_eq!(generate(Input { name: "x".repeat(64) }), Err(Error::new("the name is longer than 63 bytes")));

    // The document shows the example without its lines for a panic, and then that panic.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let example = fs::read_to_string(root.join("examples/packages/namespace-sdk/src/lib.rs")).expect("the example");
    let panics = |line: &str| line.contains("panic");
    let shown: String = example.split_inclusive('\n').filter(|line| !panics(line)).collect();
    assert!(shown.ends_with(&blocks("docs/guest-rust.md", "rust")[0]), "{shown}");
    let line = 1 + example.lines().position(|line| line.contains("assert!")).expect("a panic");
    let message = format!("panicked at src/lib.rs:{line}:5: on purpose\n");
    assert_eq!(blocks("docs/guest-rust.md", "text")[0], message);
}

#[test]
fn a_package_in_the_readme() {
    use mistletoe_guest::{Error, Files, package};
    use serde_json::json;

    #[derive(serde::Deserialize)]
    struct Input {
        name: String,
    }

    package!(generate);

    fn generate(Input { name }: Input) -> Result<Files, Error> {
        Files::new()
            .yaml("namespace.yaml", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    }

    let text = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: web\n";
    assert_eq!(generate(Input { name: "web".to_owned() }), Files::new().text("namespace.yaml", text));
}

#[test]
fn a_plugin() {
    use mistletoe_guest::plugin;

    plugin!(handle);

    fn handle(body: &[u8]) -> Result<String, std::str::Utf8Error> {
        Ok(format!("hello, {}\n", str::from_utf8(body)?))
    }

    assert_eq!(handle(b"ann").as_deref(), Ok("hello, ann\n"));
}

#[test]
fn a_plugin_of_the_kubernetes_scheduler() {
    use mistletoe_guest::scheduler::{Cycle, Status};
    use mistletoe_guest::{Error, scheduler_plugin};

    scheduler_plugin!(Zone: filter);

    /// Keeps pods in one zone.
    struct Zone(String);

    impl Zone {
        fn new(config: Vec<u8>) -> Result<Self, Error> {
            match String::from_utf8(config) {
                Ok(zone) if !zone.is_empty() => Ok(Self(zone)),
                _ => Err(Error::new("the configuration is not the name of a zone")),
            }
        }

        fn filter(&mut self, cycle: &mut Cycle, node: &str) -> Result<(), Status> {
            let Some(node) = cycle.node(node) else { return Ok(()) };
            match node.label("topology.kubernetes.io/zone")? {
                Some(zone) if zone == self.0 => Ok(()),
                _ => Err(Status::unresolvable(format!("the node is not in the zone {}", self.0))),
            }
        }
    }

    assert!(Zone::new(b"north".to_vec()).is_ok_and(|zone| zone.0 == "north"));
    for config in [&b""[..], b"\xff"] {
        assert!(Zone::new(config.to_vec()).is_err());
    }
}

#[test]
fn middleware() {
    use mistletoe_guest::middleware::{Action, Middleware, Request, Response};
    use mistletoe_guest::{Error, middleware};

    middleware!(MediaType);

    /// Requires a media type.
    struct MediaType(Vec<u8>);

    impl Middleware for MediaType {
        fn new(config: Vec<u8>) -> Result<Self, Error> {
            if config.is_empty() {
                return Err(Error::new("the configuration has no media type"));
            }
            Ok(Self(config))
        }

        fn handle_request(&mut self, request: &mut Request, response: &mut Response) -> Action {
            if request.headers().get_all("content-type") != [&*self.0] {
                response.set_status(415);
                response.body_mut().write("another media type is required\n");
                return Action::Respond;
            }
            request.headers_mut().remove("cookie");
            Action::Next(0)
        }
    }

    assert_eq!(MediaType::new(Vec::new()).err(), Some(Error::new("the configuration has no media type")));
    assert_eq!(MediaType::new(b"text/x".to_vec()).map(|media_type| media_type.0), Ok(b"text/x".to_vec()));
}

/// The blocks of a document in one language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join(document)).expect("a document");
    let begin = format!("```{language}\n");
    let ends = |block: &str| block.split_once("```").expect("the end of a block").0.to_owned();
    text.split(begin.as_str()).skip(1).map(ends).collect()
}

#[test]
fn the_documents_of_packages() {
    use mistletoe::documents::{MistInput, MistPackage, MistResult};

    let blocks = blocks("docs/documents.md", "yaml");
    let mut kinds = Vec::new();
    for block in &blocks {
        let parsed = match () {
            () if block.contains("kind: MistPackage") => MistPackage::parse(block).map(|package| package.to_yaml()),
            () if block.contains("kind: MistInput") => MistInput::parse(block).map(|input| input.to_yaml()),
            () => MistResult::parse(block).map(|result| result.to_yaml()),
        };
        kinds.push(parsed.unwrap_or_else(|error| panic!("{error}:\n{block}")) == *block);
    }
    // What the library writes is what the document shows.
    assert!(kinds.len() >= 4 && kinds.iter().all(|same| *same), "{kinds:?}");
}

#[test]
fn the_worked_example_of_metering() -> Result {
    let [func] = blocks("docs/metering.md", "wat").try_into().expect("one block");
    let wasm = wat::parse_str(format!(
        r#"(module (memory (export "memory") 1)
            {func}
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                (drop (call 0 (i32.const 10)))
                (i32.const 8)))"#
    ))?;
    let limits = mistletoe::Limits::default().with_fuel(1_000);
    let imports = mistletoe::Imports::new();
    let package = mistletoe::Package::<_>::with_imports(&mistletoe::Wasmi::new(), &wasm, &imports, limits)?;
    let mut session = package.session()?;
    session.generate("")?;
    let with = session.fuel_used()?.expect("fuel is counted");
    // Without the loop's 92 units: a constant, the call, `drop` and the result, and the functions around it.
    let empty = wat::parse_str(wat_without_call())?;
    let package = mistletoe::Package::<_>::with_imports(&mistletoe::Wasmi::new(), &empty, &imports, limits)?;
    let mut session = package.session()?;
    session.generate("")?;
    let without = session.fuel_used()?.expect("fuel is counted");
    assert_eq!(with - without, 92 + 3, "`sum(10)`, and a constant, the call and the `drop`");
    Ok(())
}

/// The module of the worked example, without the call.
fn wat_without_call() -> &'static str {
    r#"(module (memory (export "memory") 1)
        (func (export "__mistletoe_info") (result i32) (i32.const 8))
        (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
        (func (export "__mistletoe_dealloc") (param i32 i32))
        (func (export "__mistletoe_generate") (param i32 i32) (result i32)
            (i32.const 8)))"#
}

#[test]
fn the_errors_of_limits() {
    use mistletoe::{Error, ErrorKind};
    use std::time::Duration;

    let shown = blocks("docs/mistctl.md", "text").concat();
    let export = Some("__mistletoe_generate".into());
    let error = Error::from(ErrorKind::TimedOut { limit: Duration::from_secs(10), export });
    assert!(shown.contains(&format!("error: p.wasm: {error} (raise it with --timeout)\n")), "{error}");
}

#[test]
fn json_in_the_documents_is_json() {
    for document in ["docs/mistctl.md", "docs/errors.md"] {
        for line in blocks(document, "json").iter().flat_map(|block| block.lines()) {
            serde_json::from_str::<serde_json::Value>(line).expect(line);
        }
    }
}

/// Without comments and white space.
fn bare(code: &str) -> String {
    code.lines().filter_map(|line| line.split("//").next()).flat_map(str::split_whitespace).collect()
}

#[test]
fn every_block_of_the_documents_is_in_this_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = bare(&fs::read_to_string(root.join("tests/docs.rs")).expect("this file"));
    let mut found = 0;
    for entry in fs::read_dir(root.join("../docs")).expect("docs").chain(fs::read_dir(root.join("..")).expect("root")) {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".md") || name == "write-a-backend.md" {
            continue;
        }
        for code in blocks(&path.display().to_string(), "rust") {
            assert!(here.contains(&bare(&code)), "{name} has code that is not tested:\n{code}");
            found += 1;
        }
    }
    assert!(found >= 7, "{found} blocks were found");
}

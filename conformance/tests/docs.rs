//! The Rust in the README and in `docs/hosts.md`: each block stands in here as it is in the document, is compiled, and
//! runs.

#![allow(unused_variables, unused_assignments, unused_imports, unused_mut)]

use std::fs;
use std::path::Path;

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

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

/// Without comments and white space.
fn bare(code: &str) -> String {
    code.lines().filter_map(|line| line.split("//").next()).flat_map(str::split_whitespace).collect()
}

#[test]
fn every_block_of_the_documents_is_in_this_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = bare(&fs::read_to_string(root.join("tests/docs.rs")).expect("this file"));
    let mut blocks = 0;
    for document in ["../README.md", "../docs/hosts.md"] {
        let text = fs::read_to_string(root.join(document)).expect("a document");
        for block in text.split("```rust\n").skip(1) {
            let (code, _) = block.split_once("```").expect("the end of a block");
            assert!(here.contains(&bare(code)), "{document} has code that is not tested:\n{code}");
            blocks += 1;
        }
    }
    assert!(blocks >= 6, "{blocks} blocks were found");
}

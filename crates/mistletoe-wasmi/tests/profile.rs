//! A guest's endless loop does not end the process, in whatever profile wasmi is built. CI runs this in two more:
//! optimised with debug assertions, where the backend refuses to work, and the same with the feature `portable`.

use std::time::Duration;

use mistletoe_abi::{ErrorKind, Imports, Limits, Operation, Package};
use mistletoe_wasmi::Wasmi;

const PACKAGE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32) (loop $ever (br $ever)) (unreachable)))"#;

#[test]
fn an_endless_loop_ends_or_is_refused() {
    let wasm = wat::parse_str(PACKAGE).expect("it assembles");
    let limits = Limits::default().with_timeout(Duration::from_millis(100));
    let package = Package::<_, ()>::with_imports(&Wasmi::new(), &wasm, &Imports::new(), limits);
    let error = package.and_then(|package| package.session()?.generate("")).expect_err("it has no end");
    let is_refused = matches!(error.kind(), ErrorKind::Engine { operation: Operation::Configure });
    // `refused` or `ended`, where the profile is one that it is known of.
    match std::env::var("MISTLETOE_WASMI").as_deref() {
        Ok("refused") => assert!(is_refused, "{error}"),
        Ok("ended") | Err(_) => assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error}"),
        Ok(other) => panic!("MISTLETOE_WASMI={other}"),
    }
}

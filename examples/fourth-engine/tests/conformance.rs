//! The project's conformance suite on this backend. A failure has to be listed in `known-failures.toml`, and what is
//! listed there has to fail.

use std::collections::BTreeMap;

use fourth_engine::Tinywasm;
use mistletoe_abi::{AnyBackend, AnyPackage, ErrorKind, Operation};
use mistletoe_conformance::case::Known;
use mistletoe_conformance::{Report, cases};

#[test]
fn every_case_passes_or_is_known_to_fail() {
    let backend = AnyBackend::new(Tinywasm);
    let mut cases = cases().expect("readable cases");
    let known: BTreeMap<String, Vec<String>> =
        toml::from_str(include_str!("known-failures.toml")).expect("readable known failures");
    for (reason, names) in &known {
        for name in names {
            let case = cases.iter_mut().find(|case| case.to_string() == *name);
            let case = case.unwrap_or_else(|| panic!("known-failures.toml lists `{name}`, which is no case"));
            case.header.known.push(Known { backend: backend.name().to_owned(), reason: reason.clone() });
        }
    }

    let report = Report::run(&cases, &[&backend], |_| ());
    println!("{}", report.terminal(false));
    assert!(report.is_good(), "see the report above");
}

/// No case of the suite makes the engine panic, so here is a module that does.
#[test]
fn a_panic_of_the_engine_is_an_error() {
    let wasm = wat::parse_str(
        r#"(module
            (memory (export "memory") 1)
            (data $passive "four")
            (func (export "_initialize")
              (memory.init $passive (i32.const 1) (i32.const 1) (i32.const 0xffffffff)))
            (func (export "__mistletoe_info") (result i32) (i32.const 0))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 0))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32) (i32.const 0)))"#,
    );
    let package = AnyPackage::new(&AnyBackend::new(Tinywasm), &wasm.expect("a module")).expect("a package");
    let error = package.session().expect_err("length and offset add up to more than 32 bits hold");
    assert_eq!(*error.kind(), ErrorKind::Engine { operation: Operation::Call });
}

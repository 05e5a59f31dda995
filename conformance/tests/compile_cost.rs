//! Modules at the limits of size and cost.
//!
//! Every backend accepts them, and the layer reads them in memory proportional to their length.

use std::fmt::Write as _;

use mistletoe::module::{ErrorKind, inspect};
use mistletoe::{AnyPackage, Imports, Limits, backend, backends};

/// Returns a package that also contains this code and these fields.
fn package(code: &str, fields: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            {fields}
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                {code}
                (i32.store (i32.const 8) (local.get 0))
                (i32.store (i32.const 12) (local.get 1))
                (i32.const 8)))"#
    );
    wat::parse_str(text).expect("it assembles")
}

/// Checks that every backend accepts the module, and that it outputs its input.
fn answers(name: &str, wasm: &[u8]) {
    for info in backends() {
        let backend = backend(info.name()).expect("a backend");
        for limits in [Limits::unlimited(), Limits::default(), Limits::default().with_fuel(u64::MAX)] {
            let package = AnyPackage::with_imports(&backend, wasm, &Imports::<()>::new(), limits);
            let answer = package.and_then(|package| package.session()?.generate("input"));
            assert_eq!(
                answer.map_err(|error| format!("{error:?}")).as_deref(),
                Ok("input"),
                "{name} on {}",
                info.name()
            );
        }
    }
}

/// Returns a package with a `br_table` of `count` labels, including the default.
fn labels(count: usize) -> Vec<u8> {
    let labels = "0 ".repeat(count);
    package(&format!("(block (br_table {labels} (local.get 0)))"), "")
}

#[test]
fn every_backend_takes_as_many_labels_as_a_table_of_branches_may_have() {
    answers("labels", &labels(65_520));
    let invalid = inspect(&labels(65_521)).invalid.expect("one too many");
    assert!(matches!(invalid.kind(), ErrorKind::TooMany { limit: 65_520, .. }), "{invalid}");
}

#[test]
fn every_backend_takes_what_is_at_the_edge() {
    let code = format!("{}{}", "(loop ".repeat(50), ")".repeat(50));
    answers("loops in each other", &package(&code, ""));
    answers("loops one after the other", &package(&"(loop)".repeat(3_000), ""));
    let nulls = "(ref.null func) ".repeat(1_000);
    let elements = format!("(table 1000 funcref) (elem (table 0) (i32.const 0) funcref {nulls})");
    answers("elements", &package("", &elements));
    let code = format!("{}{}", "i32.const 0 ".repeat(1_000), "block end ".repeat(100));
    answers("values held across blocks", &package(&format!("{code}{}", "drop ".repeat(1_000)), ""));
}

#[test]
fn reading_a_module_takes_memory_in_proportion_to_its_length() {
    let types = ["i32", "i64", "f32", "f64", "funcref", "externref"];
    let mut distinct = String::new();
    for number in 0..40_000_usize {
        let ty = |i: u32| types[number / 6_usize.pow(i) % 6];
        let params: String = (0..6).map(|i| format!(" {}", ty(i))).collect();
        writeln!(distinct, "(type (func (param{params})))").expect("a string");
    }
    for (name, fields) in [
        ("distinct types", distinct),
        ("types that are the same", "(type (func (param i32 i32)))".repeat(100_000)),
        ("empty types", "(type (func))".repeat(100_000)),
        ("functions", format!("(func {})", "nop ".repeat(32)).repeat(20_000)),
        ("globals", "(global i32 (i32.const 0))".repeat(50_000)),
        ("exports", (0..9_000).map(|i| format!("(export \"{i}\" (memory 0))")).collect()),
        ("segments", format!("(func $f) {}", "(elem declare func $f)".repeat(90_000))),
    ] {
        let wasm = package("", &fields);
        let used = allocation_counter::measure(|| drop(inspect(&wasm))).bytes_max;
        assert!(used <= 100 * wasm.len() as u64, "{name}: {used} bytes for {}", wasm.len());
    }
    // Types over the limit are not stored: 3 MB of types with a thousand parameters each.
    let many = format!("(type (func (param{})))", " i32".repeat(1_000)).repeat(3_000);
    let wasm = package("", &many);
    let used = allocation_counter::measure(|| assert!(inspect(&wasm).invalid.is_some())).bytes_max;
    assert!(used <= wasm.len() as u64, "{used}");
}

//! The project's conformance suite on this backend. A failure has to be listed in `known-failures.toml`, and what is
//! listed there has to fail.

use fourth_engine::Tinywasm;
use mistletoe_abi::Backend as _;
use mistletoe_conformance::host::Typed;
use mistletoe_conformance::{Report, cases, known_failures};

#[test]
fn every_case_passes_or_is_known_to_fail() {
    let backend = Tinywasm;
    let mut cases = cases().expect("readable cases");
    known_failures(&mut cases, backend.name(), include_str!("known-failures.toml")).expect("known cases");
    let report = Report::run(&cases, &[&Typed(backend)], |_| ());
    println!("{}", report.terminal(false));
    assert!(report.is_good(), "see the report above");
}

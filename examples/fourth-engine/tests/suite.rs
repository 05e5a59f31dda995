//! The project's conformance suite on this backend. A failure has to be listed in `known-failures.toml`, and what is
//! listed there has to fail.

use std::collections::BTreeMap;

use fourth_engine::Tinywasm;
use mistletoe_abi::Backend as _;
use mistletoe_conformance::case::Known;
use mistletoe_conformance::host::Typed;
use mistletoe_conformance::{Report, cases};

#[test]
fn every_case_passes_or_is_known_to_fail() {
    let backend = Tinywasm;
    let mut cases = cases().expect("readable cases");
    let known: BTreeMap<String, Vec<String>> =
        toml::from_str(include_str!("known-failures.toml")).expect("readable known failures");
    for (reason, names) in &known {
        for name in names {
            let case = cases.iter_mut().find(|case| case.to_string() == *name);
            let case = case.unwrap_or_else(|| panic!("known-failures.toml lists `{name}`, which is no case"));
            case.header.known.push(Known { backend: backend.name().to_owned(), reason: reason.clone(), lacks: None });
        }
    }

    let report = Report::run(&cases, &[&Typed(backend)], |_| ());
    println!("{}", report.terminal(false));
    assert!(report.is_good(), "see the report above");
}

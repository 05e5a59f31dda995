//! The code in `docs/write-a-backend.md`: each block is part of this backend, or of this file.

use std::fs;
use std::path::Path;

/// The guide's name for the crate.
mod my_backend {
    pub(crate) use fourth_engine::Tinywasm as MyEngine;
}

mod first_run {
    use crate::my_backend;

    use mistletoe_conformance::host::Typed;
    use mistletoe_conformance::{Report, cases};
    use my_backend::MyEngine;

    // The engine fails some cases, which this program does not know yet.
    #[should_panic(expected = "report.is_good()")]
    #[test]
    fn conformance() {
        let cases = cases().expect("readable cases");
        let report = Report::run(&cases, &[&Typed(MyEngine)], |_| ());
        println!("{}", report.terminal(false));
        assert!(report.is_good());
    }
}

mod next_run {
    use crate::my_backend;

    use mistletoe_abi::Backend as _;
    use mistletoe_conformance::host::Typed;
    use mistletoe_conformance::{Report, cases, known_failures};
    use my_backend::MyEngine;

    #[test]
    fn conformance() {
        let mut cases = cases().expect("readable cases");
        known_failures(&mut cases, MyEngine.name(), include_str!("known-failures.toml")).expect("known cases");
        let report = Report::run(&cases, &[&Typed(MyEngine)], |_| ());
        println!("{}", report.terminal(false));
        assert!(report.is_good());
    }
}

#[test]
fn a_case_can_be_left_out() {
    let mut cases = mistletoe_conformance::cases().expect("readable cases");
    let all = cases.len();
    cases.retain(|case| case.to_string() != "traps/recursion-ends"); // the engine recurses on the host's stack
    assert_eq!(cases.len(), all - 1);
}

#[test]
fn a_program_uses_the_backend() -> Result<(), Box<dyn std::error::Error>> {
    let wasm = fs::read(root().join("examples/packages/namespace-c.wasm"))?;
    let package = mistletoe_abi::Package::new(&my_backend::MyEngine, &wasm)?;
    let answer = package.generate("data:\n  name: web\n")?;
    assert!(answer.contains("kind: Namespace"), "{answer}");
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the project's directory")
}

/// Without comments and white space.
fn bare(code: &str) -> String {
    code.lines().filter_map(|line| line.split("//").next()).flat_map(str::split_whitespace).collect()
}

#[test]
fn every_block_of_the_guide_is_code_of_this_backend() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect(path);
    let code = ["src/lib.rs", "src/memory.rs", "tests/guide.rs"];
    let code: String = code.map(|file| bare(&read(&format!("examples/fourth-engine/{file}")))).concat();
    let manifest = read("examples/fourth-engine/Cargo.toml");
    let known = read("examples/fourth-engine/tests/known-failures.toml");
    let guide = read("docs/write-a-backend.md");
    let mut blocks = 0;
    for block in guide.split("\n```").skip(1).step_by(2) {
        let (language, block) = block.split_once('\n').expect("a block");
        // The parts of a block may have others between them.
        let has = |part: &&str| match language {
            "rust" => code.contains(bare(part).trim_end_matches('}')),
            // The manifest of a new crate is an example.
            "toml" if part.contains("tinywasm") => manifest.contains(part.trim()),
            "toml" if part.contains(" = [\"") => part.split('"').nth(1).is_some_and(|reason| known.contains(reason)),
            _ => true,
        };
        if let Some(part) = block.split("\n\n").find(|part| !has(part)) {
            panic!("the guide has code that is not tested:\n{part}");
        }
        blocks += usize::from(language == "rust");
    }
    assert!(blocks >= 10, "{blocks} blocks were found");
}

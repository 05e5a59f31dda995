//! The packages that the benchmarks run, with their inputs and outputs.

use std::fs;
use std::path::Path;

use crate::hosts::{Base, Host, Loaded, Offer, hosts};

/// The example packages: their imports, and whether they are large.
pub(crate) const EXAMPLES: [(&str, Offer, bool); 3] = [
    ("namespace-c", Offer::Nothing, false),
    ("namespace-rust", Offer::Nothing, false),
    ("namespace-go", Offer::Wasi, true),
];

/// A package with an input and its output.
pub(crate) struct Package {
    pub(crate) what: String,
    pub(crate) wasm: Vec<u8>,
    pub(crate) offer: Offer,
    pub(crate) input: String,
    pub(crate) output: String,
}

impl Package {
    /// Returns an example, if it was built.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let (_, offer, _) = EXAMPLES.into_iter().find(|example| example.0 == name)?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folders = [root.join("examples/packages"), root.join("target/packages")];
        let path = folders.into_iter().map(|folder| folder.join(format!("{name}.wasm"))).find(|path| path.is_file())?;
        Some(Self::example(name, offer, fs::read(path).expect("a file that can be read")))
    }

    /// Returns the package that outputs its input.
    pub(crate) fn echo(what: &str, size: usize) -> Self {
        let wasm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/fixtures/protocol/echo.wat");
        let wasm = wat::parse_file(wasm).expect("the fixture assembles");
        let (input, output) = ("x".repeat(size), "x".repeat(size));
        Self { what: what.to_owned(), wasm, offer: Offer::Echo, input, output }
    }

    pub(crate) fn example(name: &str, offer: Offer, wasm: Vec<u8>) -> Self {
        let what = format!("{name}, {}", size(wasm.len()));
        let input = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistInput\ndata:\n  name: my-namespace\n".to_owned();
        let output = "apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\ndata:\n  result: Ok\n  files:\n    \
            namespace.yaml: |\n      apiVersion: v1\n      kind: Namespace\n      metadata:\n        \
            name: my-namespace\n";
        Self { what, wasm, offer, input, output: output.to_owned() }
    }

    /// Returns an example's name.
    pub(crate) fn name(&self) -> &str {
        self.what.split(',').next().unwrap_or_default()
    }

    pub(crate) fn check(&self, answer: &str) {
        assert_eq!(answer, self.output, "{}", self.what);
    }

    /// Compiles this package on all hosts, and checks one output of each.
    pub(crate) fn loaded(&self, engine: &str, base: Base) -> Vec<(&'static str, Box<dyn Loaded>)> {
        let load = |(name, host): (_, Box<dyn Host>)| {
            let loaded = host.load(&self.wasm);
            self.check(&loaded.answer(&self.input));
            (name, loaded)
        };
        hosts(engine, self.offer, base).into_iter().map(load).collect()
    }
}

pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

pub(crate) const CALLS: u32 = 1_000;

/// The functions to call.
///
/// Each has its name in reports and in the module, its type, the guest code that calls it, and the sum of the results.
/// The first three use no state of the calling instance and cannot fail, which engines optimise. The others do what
/// host functions typically do.
const FUNCTIONS: [(&str, &str, &str, u32); 5] = [
    ("nothing", "", "(call $f)", 0),
    ("add", "(param i32 i32) (result i32)", "(local.set $sum (call $f (local.get $sum) (i32.const 3)))", 3 * CALLS),
    (
        "wide",
        "(param i64 i64) (result i64)",
        "(local.set $sum (i32.wrap_i64
            (call $f (i64.extend_i32_u (local.get $sum)) (i64.extend_i32_u (local.get $left)))))",
        1_000, // 1 ^ 2 ^ ... ^ 1000
    ),
    ("count", "(param i32) (result i32)", "(local.set $sum (i32.add (local.get $sum) (call $f (i32.const 0))))", 0),
    (
        "text",
        "(param i32 i32) (result i32)",
        "(local.set $sum (i32.add (local.get $sum) (call $f (i32.const 256) (i32.const 16))))",
        16 * CALLS,
    ),
];

impl Package {
    /// Guests that call a host function [`CALLS`] times in `generate`, one for each of [`FUNCTIONS`]. Each outputs as many
    /// zeros as the sum of the results modulo 97.
    pub(crate) fn host_calls() -> Vec<Self> {
        FUNCTIONS.iter().map(|(name, ty, call, sum)| Self::calling(name, ty, call, *sum)).collect()
    }

    /// Returns the guest that calls the function of this name.
    pub(crate) fn host_call(name: &str) -> Option<Self> {
        let (name, ty, call, sum) = FUNCTIONS.iter().find(|function| function.0 == name)?;
        Some(Self::calling(name, ty, call, *sum))
    }

    fn calling(name: &str, ty: &str, call: &str, sum: u32) -> Self {
        let text = format!(
            r#"(module
                (import "env" "{name}" (func $f {ty}))
                (memory (export "memory") 1)
                (data (i32.const 256) "sixteen letters!")
                (func (export "__mistletoe_info") (result i32) (i32.const 8))
                (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 16))
                (func (export "__mistletoe_dealloc") (param i32 i32))
                (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                    (local $left i32) (local $sum i32)
                    (local.set $left (i32.const {CALLS}))
                    (loop $again
                        {call}
                        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                    (i32.store (i32.const 8) (i32.const 512))
                    (i32.store (i32.const 12) (i32.rem_u (local.get $sum) (i32.const 97)))
                    (i32.const 8)))"#
        );
        Self {
            what: format!("`{name}`"),
            wasm: wat::parse_str(text).expect("the guest assembles"),
            offer: Offer::Env,
            input: String::new(),
            output: "\0".repeat(sum as usize % 97),
        }
    }
}

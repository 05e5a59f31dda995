//! `cargo xtask packages`: builds the example packages whose toolchains are installed.
//!
//! Modules of at most 320 KiB are committed beside their sources. Larger ones are only written to `target/packages`.

mod toolchains;

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::builder::PossibleValuesParser;
use mistletoe::module::inspect;
use mistletoe::types::Import;
use mistletoe::wasi::{self, Wasi};
use mistletoe::{AnyPackage, Limits, Wasmi};

use toolchains::{
    ASSEMBLYSCRIPT, BINDGEN, CLANG, GO_COMMAND, GO_HTTP_WASM, GO_REACTOR, RUST, Toolchain, WASI_C_COMMAND,
    WASI_C_REACTOR, ZIG,
};

/// A package to build from `examples/packages/<name>/` to `<name>.wasm`.
struct Package {
    name: &'static str,
    toolchain: Toolchain,
    /// The committed package whose outputs it has to match, byte for byte.
    answers_like: Option<&'static str>,
}

const fn package(name: &'static str, toolchain: Toolchain) -> Package {
    Package { name, toolchain, answers_like: None }
}

/// Defines a package in another language with the same outputs as the one in C.
const fn namespace(name: &'static str, toolchain: Toolchain) -> Package {
    Package { name, toolchain, answers_like: Some("namespace-c") }
}

const PACKAGES: &[Package] = &[
    package("namespace-c", CLANG),
    namespace("namespace-wasi-c", WASI_C_REACTOR),
    namespace("namespace-rust", RUST),
    package("namespace-sdk", RUST),
    package("namespace-bind", BINDGEN),
    namespace("namespace-go", GO_REACTOR),
    package("namespace-zig", ZIG),
    package("namespace-assemblyscript", ASSEMBLYSCRIPT),
    package("namespace-sdk-c", CLANG),
    package("namespace-sdk-go", GO_REACTOR),
    package("command-c", WASI_C_COMMAND),
    package("command-go", GO_COMMAND),
    package("cgi-c", WASI_C_COMMAND),
    package("httpwasm-c", WASI_C_REACTOR),
    package("httpwasm-direct-c", WASI_C_REACTOR),
    package("httpwasm-go", GO_REACTOR),
    package("httpwasm-sdk-go", GO_REACTOR),
    package("httpwasm-sdk", RUST),
    package("httpwasm-direct-sdk", RUST),
    package("echo-rust", RUST),
    package("echo-sdk", RUST),
    package("http-handler-c", CLANG),
    package("node-number-c", CLANG),
    package("hello-c", WASI_C_REACTOR),
    package("hello-sdk-go", GO_REACTOR),
    package("cgi-go", GO_COMMAND),
    package("auth-sdk", RUST),
    package("auth-http-wasm-go", GO_HTTP_WASM),
    package("rate-limit-sdk-c", CLANG),
    package("rate-limit-http-wasm-go", GO_HTTP_WASM),
    package("strip-prefix-sdk-go", GO_REACTOR),
    package("wapc-c", CLANG),
    package("node-number-sdk", RUST),
    package("image-locality-sdk", RUST),
    package("node-number-sdk-go", GO_REACTOR),
    package("image-locality-sdk-go", GO_REACTOR),
];

/// The maximum size of committed modules.
const MAX_COMMITTED: usize = 320 << 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the modules to this directory [default: examples/packages, and target/packages for those over 320 KiB]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep the committed modules, and fail if the output of a new build differs
    #[arg(long, conflicts_with = "out")]
    check: bool,
    /// Build only this package; may be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PACKAGES.iter().map(|p| p.name)))]
    only: Vec<String>,
    /// Leave this package out; may be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PACKAGES.iter().map(|p| p.name)))]
    skip: Vec<String>,
    /// Fail if a toolchain is missing, instead of leaving its packages out
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let sources = crate::root().join("examples/packages");
    let target = crate::root().join("target/packages");
    let committed = |name: &str| {
        let path = sources.join(format!("{name}.wasm"));
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };

    let mut missing = Vec::new();
    let is_chosen = |name| {
        let is_in = |names: &[String]| names.iter().any(|found| found == name);
        (args.only.is_empty() || is_in(&args.only)) && !is_in(&args.skip)
    };
    for package in PACKAGES.iter().filter(|package| is_chosen(package.name)) {
        let name = package.name;
        let Some(build) = (package.toolchain.find)()? else {
            println!("{name}: left out: {}", package.toolchain.missing);
            missing.push(name);
            continue;
        };
        let work = target.join(name);
        fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
        let module = (build.run)(&sources.join(name), &work).with_context(|| format!("cannot build {name}"))?;
        let bytes = fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
        check_paths(&bytes).with_context(|| format!("cannot use {}", module.display()))?;

        let small = bytes.len() <= MAX_COMMITTED;
        let out = match &args.out {
            Some(out) => out.clone(),
            None if !small => target.clone(),
            None if args.check => target.join("checked"),
            None => sources.clone(),
        };
        fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
        let path = out.join(format!("{name}.wasm"));
        fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{name}: {}, {} bytes, built with {}", path.display(), bytes.len(), build.tool);

        if args.check {
            if small {
                let committed = committed(name)?;
                ensure!(imports(&committed) == imports(&bytes), "the committed {name}.wasm imports something else");
                compare((name, &committed), (name, &bytes))
                    .with_context(|| format!("the committed {name}.wasm is not what its source says"))?;
            }
            if let Some(other) = package.answers_like {
                compare((other, &committed(other)?), (name, &bytes))
                    .with_context(|| format!("{name} does not answer like {other}"))?;
            }
        }
    }
    ensure!(!args.strict || missing.is_empty(), "left out: {}", missing.join(", "));
    Ok(())
}

/// Valid and invalid inputs that reveal differences between namespace packages.
const INPUTS: [&str; 6] = [
    "data:\n  name: web\n",
    "data:\n  labels:\n    name: deep\n  name: 'quo''ted'  # comment\n",
    "data:\r\n  name: \"crlf\"\r\n",
    "data:\n  name: |\n    block\n",
    "metadata:\n  name: elsewhere\n",
    "",
];

/// Fails unless two packages, each with its name, have the same description and the same outputs.
fn compare((left_name, left): (&str, &[u8]), (right_name, right): (&str, &[u8])) -> Result<()> {
    // Commands, plugins and middleware are not packages. A test runs them.
    let imports = wasi::imports::<Wasi>();
    if [left, right].iter().any(|module| !AnyPackage::problems(&inspect(module).interface, &imports).is_empty()) {
        return Ok(());
    }
    let offered = wasi::imports::<Wasi>();
    let session =
        |module: &[u8]| mistletoe::Package::with_imports(&Wasmi::new(), module, &offered, Limits::default())?.session();
    let (mut left, mut right) = (session(left)?, session(right)?);
    let (described, description) = (left.info()?.replace(left_name, right_name), right.info()?);
    ensure!(
        described == description,
        "{left_name} describes itself as\n{described}\nand {right_name} as\n{description}"
    );
    for input in INPUTS {
        let (expected, answer) = (left.generate(input)?, right.generate(input)?);
        ensure!(expected == answer, "to {input:?} one answers\n{expected}\nand the newly built one\n{answer}");
    }
    Ok(())
}

fn imports(module: &[u8]) -> Vec<Import> {
    inspect(module).interface.imports
}

/// Refuses a module that contains a path of this machine. Committed modules must not differ between machines.
fn check_paths(module: &[u8]) -> Result<()> {
    let home = env::home_dir().filter(|home| home.parent().is_some());
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    for folder in [Some(crate::root().to_owned()), home, cargo_home].into_iter().flatten() {
        let text = folder.as_os_str().as_encoded_bytes();
        ensure!(
            text.is_empty() || !module.windows(text.len()).any(|window| window == text),
            "the module holds the path {} of this machine",
            folder.display()
        );
    }
    Ok(())
}

//! `cargo xtask packages`: builds the example packages, each where its toolchain is there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::builder::PossibleValuesParser;

/// A package to build from `examples/packages/<name>/` to `<name>.wasm`.
struct Package {
    name: &'static str,
    toolchain: Toolchain,
}

/// What builds a package: finds the toolchain, or `None` where it is missing.
struct Toolchain {
    find: fn() -> Result<Option<Build>>,
    /// What is missing then, and how to install it.
    missing: &'static str,
}

/// A toolchain that was found.
struct Build {
    /// What it is, for the user to read.
    tool: String,
    /// Builds the package in the first folder, in the second, which is its own to work in; gives the module.
    run: Box<Run>,
}

type Run = dyn Fn(&Path, &Path) -> Result<PathBuf>;

const CLANG: Toolchain = Toolchain {
    find: find_clang,
    missing: "no clang with a linker for wasm32; on Debian: apt-get install clang-14 lld-14",
};

const RUST: Toolchain = Toolchain {
    find: find_rust,
    missing: "no Rust for wasm32-unknown-unknown; with rustup: rustup target add wasm32-unknown-unknown, \
              on Debian: apt-get install rustc-web rust-web-src",
};

const PACKAGES: &[Package] =
    &[Package { name: "namespace-c", toolchain: CLANG }, Package { name: "namespace-rust", toolchain: RUST }];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder for the modules [default: examples/packages]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave the committed modules as they are, and fail where a newly built one answers differently
    #[arg(long, conflicts_with = "out")]
    check: bool,
    /// Build only this package; may be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PACKAGES.iter().map(|p| p.name)))]
    only: Vec<String>,
    /// Fail where a toolchain is missing, instead of leaving its packages out
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let sources = crate::root().join("examples/packages");
    let checked = crate::root().join("target/packages/checked");
    let out = if args.check { &checked } else { args.out.as_ref().unwrap_or(&sources) };
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;

    let mut missing = Vec::new();
    for package in PACKAGES.iter().filter(|package| args.only.is_empty() || args.only.iter().any(|n| n == package.name))
    {
        let name = package.name;
        let Some(build) = (package.toolchain.find)()? else {
            println!("{name}: left out: {}", package.toolchain.missing);
            missing.push(name);
            continue;
        };
        let work = crate::root().join("target/packages").join(name);
        fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
        let module = (build.run)(&sources.join(name), &work).with_context(|| format!("cannot build {name}"))?;
        let bytes = fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
        check_paths(&bytes).with_context(|| format!("cannot use {}", module.display()))?;
        let path = out.join(format!("{name}.wasm"));
        fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{name}: {}, {} bytes, built with {}", path.display(), bytes.len(), build.tool);
        if args.check {
            let committed = sources.join(format!("{name}.wasm"));
            let committed = fs::read(&committed).with_context(|| format!("cannot read {}", committed.display()))?;
            compare(&committed, &bytes).with_context(|| format!("{name} is not what its source says"))?;
        }
    }
    ensure!(!args.strict || missing.is_empty(), "left out: {}", missing.join(", "));
    Ok(())
}

/// Inputs that tell one namespace package from another, good ones and bad ones.
const INPUTS: [&str; 6] = [
    "data:\n  name: web\n",
    "data:\n  labels:\n    name: deep\n  name: 'quo''ted'  # comment\n",
    "data:\r\n  name: \"crlf\"\r\n",
    "data:\n  name: |\n    block\n",
    "metadata:\n  name: elsewhere\n",
    "",
];

/// Fails unless two builds of a package say the same of themselves and give the same answers.
fn compare(committed: &[u8], built: &[u8]) -> Result<()> {
    let session = |module: &[u8]| mistletoe::Package::new(&mistletoe::Wasmi::new(), module)?.session();
    let (mut committed, mut built) = (session(committed)?, session(built)?);
    ensure!(committed.info()? == built.info()?, "the committed module describes itself differently");
    for input in INPUTS {
        let (committed, built) = (committed.generate(input)?, built.generate(input)?);
        ensure!(committed == built, "to {input:?} the committed module answers\n{committed}\nand the new one\n{built}");
    }
    Ok(())
}

/// Refuses a module that says where it was built: those are committed, and should not differ between machines.
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

// ------------------------------------------------------------------------------------------------------------- clang

/// The first clang that can compile and link for WebAssembly. One that lacks `wasm-ld` can only do the former, so each
/// is put to the test.
fn find_clang() -> Result<Option<Build>> {
    let versions = (14..=22).rev().map(|version| format!("clang-{version}"));
    let found = std::iter::once("clang".to_owned()).chain(versions).find(|clang| {
        Command::new(clang)
            .args(CLANG_FLAGS)
            .args(["-x", "c", "/dev/null", "-o", "/dev/null"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    Ok(found.map(|clang| Build {
        tool: clang.clone(),
        run: Box::new(move |source, work| {
            let module = work.join("module.wasm");
            let mut files: Vec<_> = fs::read_dir(source)?
                .map(|entry| Ok(entry?.path()))
                .filter(|path: &Result<PathBuf>| path.as_ref().is_ok_and(|path| path.extension() == Some("c".as_ref())))
                .collect::<Result<_>>()?;
            files.sort();
            status(Command::new(&clang).args(CLANG_FLAGS).arg("-o").arg(&module).args(files))?;
            Ok(module)
        }),
    }))
}

const CLANG_FLAGS: &[&str] = &[
    "--target=wasm32-unknown-unknown",
    "-O2",
    "-ffreestanding",
    "-mbulk-memory",
    "-nostdlib",
    "-Wall",
    "-Wextra",
    "-Wl,--no-entry",
    "-Wl,--strip-all",
];

// -------------------------------------------------------------------------------------------------------------- Rust

const WASM: &str = "wasm32-unknown-unknown";

/// The user's own Rust if it has the target, or else Debian's compiler and its source of the standard library, driven
/// by the user's cargo and linker.
fn find_rust() -> Result<Option<Build>> {
    let Some(own) = sysroot("rustc") else { return Ok(None) };
    if own.join("lib/rustlib").join(WASM).is_dir() {
        return Ok(Some(Build {
            tool: "the target of the Rust in PATH".to_owned(),
            run: Box::new(|source, work| cargo_build("cargo".as_ref(), source, work, |_| {})),
        }));
    }

    const DEBIAN: &str = "/usr/bin/rustc";
    let cargo = own.join("bin/cargo");
    let Some(debian) = sysroot(DEBIAN) else { return Ok(None) };
    let linker = fs::read_dir(own.join("lib/rustlib"))?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/rust-lld")))
        .find(|linker| linker.is_file());
    let (true, true, Some(linker)) = (cargo.is_file(), debian.join("lib/rustlib/src/rust/library").is_dir(), linker)
    else {
        return Ok(None);
    };
    Ok(Some(Build {
        tool: "Debian's rustc-web".to_owned(),
        run: Box::new(move |source, work| {
            cargo_build(&cargo, source, work, |command| {
                command
                    .env("RUSTC", DEBIAN)
                    // Lets a compiler that is not a nightly one build the standard library.
                    .env("RUSTC_BOOTSTRAP", "1")
                    // A standard library built here would hold the paths of its source otherwise.
                    .env("RUSTFLAGS", "-Zlocation-detail=none")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &linker)
                    .arg("-Zbuild-std=std,panic_abort");
            })
        }),
    }))
}

/// Where the compiler keeps its libraries, if there is such a compiler.
fn sysroot(rustc: &str) -> Option<PathBuf> {
    let output = clean(&mut Command::new(rustc)).args(["--print", "sysroot"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim_end()))
}

/// Builds the one module of a cargo package.
fn cargo_build(cargo: &Path, source: &Path, work: &Path, adjust: impl FnOnce(&mut Command)) -> Result<PathBuf> {
    let mut command = Command::new(cargo);
    clean(&mut command).current_dir(source).args(["build", "--quiet", "--release", "--target", WASM, "--target-dir"]);
    command.arg(work);
    adjust(&mut command);
    status(&mut command)?;
    let name = source.file_name().and_then(|name| name.to_str()).context("the package has no name")?;
    Ok(work.join(WASM).join("release").join(format!("{}.wasm", name.replace('-', "_"))))
}

/// Takes from a command what the cargo that runs this has put into the environment, or the user meant for it: flags,
/// profiles, target folders, compilers. What says where cargo downloads from and how stays, and so does rustup's choice
/// of a toolchain, which holds for `rustc` and `cargo` alike.
fn clean(command: &mut Command) -> &mut Command {
    const KEEP: &[&str] =
        &["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_TERM_", "CARGO_BUILD_JOBS"];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let cargo = text.starts_with("CARGO") && !KEEP.iter().any(|keep| text.starts_with(keep));
        if cargo || text.starts_with("RUSTC") || text == "RUSTFLAGS" || text == "LD_LIBRARY_PATH" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end, with its output for the user to see.
fn status(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{program}: {status}");
    }
    Ok(())
}

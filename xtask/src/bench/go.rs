//! Programs in Go.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Builds the program in a directory of the project. There is none without a compiler.
pub(super) fn build(directory: &str, program: &Path) -> Result<Option<PathBuf>> {
    let built = Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(program)
        .arg(".")
        .current_dir(crate::root().join(directory))
        .status();
    match built {
        Ok(status) => {
            ensure!(status.success(), "{directory} was not built");
            Ok(Some(program.to_owned()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot run go"),
    }
}

/// Returns the versions of Go and of these modules that a program was built with.
pub(super) fn versions(program: &Path, modules: &[&str]) -> Result<Vec<String>> {
    let output = Command::new("go").args(["version", "-m"]).arg(program).output().context("cannot run go")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            ["dep", module, version, ..] if modules.contains(module) => {
                let name = module.strip_prefix("github.com/").and_then(|path| path.split_once('/'));
                Some(format!("{} {version}", name.map_or(*module, |(_, name)| name)))
            }
            [_, go] if go.starts_with("go1") => Some(format!("Go {}", go.trim_start_matches("go"))),
            _ => None,
        }
    };
    Ok(text.lines().filter_map(version).collect())
}

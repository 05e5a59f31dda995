//! `mistctl` with its cache of compiled code.

#![cfg(feature = "cache")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Backends whose engines can save what they compile.
const COMPILERS: [&str; 2] = ["wasmtime", "wasmer"];

fn mistctl(cache: &Path, arguments: &[&str]) -> Output {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/namespace.wat");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mistctl"));
    command.env("MISTLETOE_CACHE", cache).args(arguments);
    if arguments.first() == Some(&"generate") {
        command.args(["web", "-p"]).arg(package);
    }
    command.output().expect("it starts")
}

fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).expect("text")
}

fn lines(cache: &Path) -> usize {
    stdout(mistctl(cache, &["cache", "list"])).lines().count()
}

#[test]
fn what_was_compiled_is_kept_listed_and_cleared() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("of/its/own");
    assert_eq!(stdout(mistctl(&cache, &["cache", "path"])), format!("{}\n", cache.display()));
    assert_eq!(lines(&cache), 0);
    assert!(!cache.exists(), "looking makes nothing");
    for (count, backend) in COMPILERS.into_iter().enumerate() {
        let answers = [(); 2].map(|()| stdout(mistctl(&cache, &["generate", "--backend", backend])));
        assert!(answers[0].contains("name: web"), "{backend}");
        assert_eq!(answers[0], answers[1], "{backend}");
        let list = stdout(mistctl(&cache, &["cache", "list"]));
        assert_eq!(list.lines().count(), count + 1, "{list}");
        assert!(list.lines().next().is_some_and(|latest| latest.contains(&format!(" {backend} "))), "{list}");
    }
    assert_eq!(stdout(mistctl(&cache, &["cache", "clear"])), "");
    assert_eq!(lines(&cache), 0);
}

#[test]
fn an_interpreter_and_no_cache_keep_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    stdout(mistctl(&cache, &["generate", "--backend", "wasmi"]));
    stdout(mistctl(&cache, &["generate", "--backend", "wasmtime", "--no-cache"]));
    assert!(!cache.exists());
}

#[test]
fn a_broken_entry_is_a_warning_and_the_answer_is_good() {
    let folder = tempfile::tempdir().expect("a folder");
    for backend in COMPILERS {
        let cache = folder.path().join(backend);
        let good = stdout(mistctl(&cache, &["generate", "--backend", backend]));
        let break_it = || {
            for entry in fs::read_dir(&cache).expect("a folder") {
                fs::write(entry.expect("an entry").path(), "\u{1b}[2Jbroken\n\u{1b}[2J").expect("a file");
            }
        };
        break_it();
        let listed = stdout(mistctl(&cache, &["cache", "list"]));
        assert!(!listed.contains('\u{1b}'), "{listed}");
        let output = mistctl(&cache, &["generate", "--backend", backend]);
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout), good);
        let warning = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(warning.starts_with("warning: ") && warning.contains("is not what was written"), "{warning}");
        assert_eq!(stdout(mistctl(&cache, &["generate", "--backend", backend])), good);
        break_it();
        let output = mistctl(&cache, &["generate", "--error-format", "json", "--backend", backend]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), good);
        let warning: serde_json::Value = serde_json::from_slice(&output.stderr).expect("one object");
        assert_eq!(warning["level"], "warning");
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let output = mistctl(&file, &["generate", "--backend", "wasmtime"]);
    assert!(output.status.success());
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warning.starts_with("warning: ") && warning.contains("--no-cache"), "{warning}");
    let output = mistctl(&file, &["cache", "list"]);
    assert_eq!(output.status.code(), Some(3));
}

//! What the tests of the built program share.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

/// A package that gives one answer to any input; see [`answering`].
pub(crate) const ANSWERING: &str = r#"
(module
  (memory (export "memory") 1)
  (data (i32.const 16) "\00\80\00\00\49\00\00\00")
  (data (i32.const 0x8000) "apiVersion: mistletoe.dev/v1alpha1\nkind: MistPackage\nmetadata: {name: n}\n")
  (data (i32.const 64) "ANSWER")
  (func (export "__mistletoe_info") (result i32) (i32.const 16))
  (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "__mistletoe_dealloc") (param i32 i32))
  (func (export "__mistletoe_generate") (param i32 i32) (result i32)
    (i64.store (i32.const 8) (i64.const LENGTH_AND_ADDRESS))
    (i32.const 8)))
"#;

/// The same package with another description.
pub(crate) fn describing(info: &str) -> String {
    let fat = escaped([0x1_0000u32.to_le_bytes(), (info.len() as u32).to_le_bytes()].concat());
    answering(&result("  result: Ok\n"))
        .replace(r#"(memory (export "memory") 1)"#, r#"(memory (export "memory") 9)"#)
        .replace(r#"\00\80\00\00\49\00\00\00"#, &fat)
        .replacen("(memory", &format!(r#"(data (i32.const 0x10000) "{}") (memory"#, escaped(info)), 1)
}

/// A package in text that gives this answer to any input.
pub(crate) fn answering(answer: &str) -> String {
    let fat = (answer.len() as u64) << 32 | 64;
    ANSWERING.replace("ANSWER", &escaped(answer)).replace("LENGTH_AND_ADDRESS", &fat.to_string())
}

/// Bytes as WebAssembly text has them in a string.
pub(crate) fn escaped(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// A package's answer with this data.
pub(crate) fn result(data: &str) -> String {
    format!("apiVersion: mistletoe.dev/v1alpha1\nkind: MistResult\ndata:\n{data}")
}

pub(crate) fn mistctl(arguments: &[&str]) -> Output {
    command(arguments).output().expect("mistctl starts")
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mistctl"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs with this on standard input. What is not read of it is no error.
pub(crate) fn fed(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("mistctl starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("it ends")
    })
}

pub(crate) fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).display().to_string()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// Files for one test, gone afterwards.
pub(crate) struct Scratch(pub(crate) tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        path.display().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// The backends that are compiled in.
pub(crate) fn backends() -> Vec<String> {
    let output = mistctl(&["backends"]);
    let lines = text(&output.stdout).lines();
    lines
        .filter(|line| !line.contains("--features"))
        .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
        .collect()
}

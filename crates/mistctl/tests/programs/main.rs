//! The built program with guests that do more than answer: programs (`run`), plugins (`call`), packages with a log.

mod clock;
mod directories;
mod examples;
mod guests;
mod invocation;
mod limits;
mod log;
mod plugins;
mod status;
mod streams;
#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "../support/mod.rs"]
mod support;

use std::io;
use std::process::{Output, Stdio};

use serde_json::Value;

use support::{command, fed, text};

fn run_on(backend: &str, module: &str, arguments: &[&str]) -> Output {
    command(&["run", "--backend", backend, module]).args(arguments).output().expect("mistctl starts")
}

fn call_on(backend: &str, module: &str, arguments: &[&str], request: impl AsRef<[u8]>) -> Output {
    fed(command(&["call", "--backend", backend, module]).args(arguments), request.as_ref())
}

/// What was printed, which is text, and the status.
fn ended(output: &Output) -> (&str, &str, Option<i32>) {
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// The error as JSON, which has to be alone on standard error, with status 3.
fn report(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stderr).expect("one JSON object")
}

/// More than any buffer or pipe on the way holds, and no text.
fn a_mebibyte() -> Vec<u8> {
    (0u32..1 << 20).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// Every byte there is, and no text.
fn all_bytes() -> Vec<u8> {
    (0..=255).collect()
}

/// A pipe that nobody reads.
fn closed() -> Stdio {
    let (_, writer) = io::pipe().expect("a pipe");
    writer.into()
}

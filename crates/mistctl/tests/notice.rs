//! What `mistctl` says of a machine that does not let an engine have what it would like.

#![cfg(all(target_os = "linux", feature = "cache"))]

use std::path::Path;
use std::process::{Command, Output};

/// Runs wasmtime on a package with so many KiB of address space.
fn within(kibibytes: &str, arguments: &str) -> Output {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/namespace.wat");
    let script = format!("ulimit -v {kibibytes} && exec \"$0\" generate web --backend wasmtime -p \"$1\" {arguments}");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_mistctl")]).arg(package);
    command.output().expect("it starts")
}

/// Room for one memory of 4 GiB with its guards, and not for a pool of them.
const ONE: &str = "7000000";

#[test]
fn little_address_space_is_a_warning_and_not_an_error() {
    let [limited, json, unlimited] =
        [within(ONE, "--no-cache"), within(ONE, "--no-cache --error-format json"), within("unlimited", "--no-cache")];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for output in [&limited, &json, &unlimited] {
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(output.stdout, unlimited.stdout);
    }
    let warning = text(&limited.stderr);
    assert!(warning.contains("warning: wasmtime has no pool for instances"), "{warning}");
    let json = text(&json.stderr);
    assert!(json.starts_with(r#"{"level":"warning","message":"wasmtime has no pool for instances"#), "{json}");
    assert_eq!(json.lines().count(), 1);
    assert_eq!(text(&unlimited.stderr), "");
}

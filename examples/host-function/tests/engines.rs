//! The program does the same on every engine that is compiled in.

use std::process::Command;

use mistletoe::backends;

#[test]
fn the_package_gets_the_value_on_every_engine() {
    for backend in backends().iter().filter(|info| info.is_enabled()) {
        let program = || Command::new(env!("CARGO_BIN_EXE_host-function"));
        let found = program().args([backend.name(), "team=ops"]).output().expect("it starts");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "team: ops\n# lookups: 1\n", "{}", backend.name());
        assert!(found.status.success());

        let missing = program().args([backend.name(), "tea=ops"]).output().expect("it starts");
        let message = String::from_utf8_lossy(&missing.stderr).into_owned();
        assert!(!missing.status.success() && message.contains("there is no value for `team`"), "{message}");
    }
}

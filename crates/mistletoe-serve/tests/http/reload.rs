//! Reloads whose modules take too long to compile.

use std::path::Path;
use std::sync::{Arc, Mutex};

use mistletoe::AnyBackend;
use mistletoe_serve::config::Config;
use mistletoe_serve::{BoxError, Files, Log, Service, Source};

use crate::guests;
use crate::server::{config, route};

/// Files, of which `plugin-log.wasm` is not there while the mutex is locked, as if it were still compiled.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<()>>);

impl Source for Slow {
    fn module(&self, path: &Path) -> Result<Vec<u8>, BoxError> {
        if path.ends_with("plugin-log.wasm") {
            drop(self.0.lock());
        }
        Files.module(path)
    }

    fn backend(&self, name: Option<&str>) -> mistletoe::Result<AnyBackend> {
        Files.backend(name)
    }
}

#[test]
fn a_module_that_compiles_for_too_long_does_not_hold_up_reloads() {
    let directory = tempfile::tempdir().expect("a directory");
    guests::write(directory.path());
    let config = |time: &str, routes: &str| config(&format!("compile_timeout = '{time}'"), routes, directory.path());
    let (fast, slow) = (route("/a", "plugin-echo", ""), route("/a", "plugin-log", ""));
    let source = Slow::default();
    let service = Service::new(&config("100s", &fast), source.clone(), Log::default()).expect("a service");
    let compiling = source.0.lock().expect("no panic");
    let reload = |config: &Config| service.reload(config).map_err(|error| error.to_string());
    assert_eq!(
        reload(&config("50ms", &slow)),
        Err("server, compile_timeout: the modules take longer than 50ms to read and compile".to_owned())
    );
    // Its thread is the only one that is left behind.
    for _ in 0..2 {
        assert_eq!(reload(&config("100s", &fast)), Err("modules of an earlier reload still compile".to_owned()));
    }
    assert!(service.status().contains("plugin-echo"), "{}", service.status());
    drop(compiling);
    while let Err(error) = reload(&config("100s", &slow)) {
        assert_eq!(error, "modules of an earlier reload still compile");
    }
    assert!(service.status().contains("plugin-log"), "{}", service.status());
    assert!(service.metrics().lines().any(|line| line == "mistletoe_reloads_total{result=\"ok\"} 1"));
    // A start is no different.
    let compiling = source.0.lock().expect("no panic");
    let error = Service::new(&config("50ms", &slow), source.clone(), Log::default()).expect_err("too slow");
    assert!(error.to_string().contains("compile_timeout"), "{error}");
    drop(compiling);
    // A panic of an engine is a problem, too.
    let panics = Service::new(&config("100s", &fast), Panics, Log::default()).expect_err("a panic");
    assert!(panics.to_string().contains("the thread that compiles the modules ended"), "{panics}");
}

struct Panics;

impl Source for Panics {
    fn module(&self, _: &Path) -> Result<Vec<u8>, BoxError> {
        panic!("as an engine may do")
    }

    fn backend(&self, name: Option<&str>) -> mistletoe::Result<AnyBackend> {
        Files.backend(name)
    }
}

//! Backends that wrap backends.
//!
//! With a cache, two tiers and type erasure in any order, a module is compiled once, and deserialised by every later
//! program.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mistletoe::backend::{Artifact, ModuleSource};
use mistletoe::backend::{HostFunc, StoreData};
use mistletoe::cache::{Cache, Cached};
use mistletoe::{AnyBackend, Backend, Package, Result, Tiered, Wasmi, Wasmtime};

/// wasmtime with counters of compilations and deserialisations.
#[derive(Clone)]
struct Counting {
    backend: Wasmtime,
    compiled: Arc<AtomicUsize>,
    deserialized: Arc<AtomicUsize>,
}

impl Counting {
    fn new(backend: &Wasmtime) -> Self {
        Self { backend: backend.clone(), compiled: Arc::default(), deserialized: Arc::default() }
    }

    fn counts(&self) -> (usize, usize) {
        (self.compiled.load(Ordering::SeqCst), self.deserialized.load(Ordering::SeqCst))
    }
}

impl Backend for Counting {
    type Module = <Wasmtime as Backend>::Module;
    type Instance = <Wasmtime as Backend>::Instance;

    fn name(&self) -> &'static str {
        "counting"
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<Self::Module> {
        self.compiled.fetch_add(1, Ordering::SeqCst);
        self.backend.compile(source, imports)
    }

    fn instantiate(&self, module: &Self::Module, data: StoreData) -> Result<Self::Instance> {
        self.backend.instantiate(module, data)
    }

    fn compatibility_key(&self) -> Option<String> {
        self.backend.compatibility_key()
    }

    fn serialize(&self, module: &Self::Module) -> Result<Vec<u8>> {
        self.backend.serialize(module)
    }

    fn deserialize(&self, artifact: &Artifact, imports: &[HostFunc]) -> Result<Self::Module> {
        self.deserialized.fetch_add(1, Ordering::SeqCst);
        self.backend.deserialize(artifact, imports)
    }
}

/// Outputs its input.
const ECHO: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32)
        (i32.store (i32.const 8) (local.get 0))
        (i32.store (i32.const 12) (local.get 1))
        (i32.const 8)))"#;

/// Runs one program: opens a package on the layers, and a session, which waits for the second tier if there is one.
fn program<B: Backend>(layers: &B) {
    let package = Package::new(layers, &wat::parse_str(ECHO).expect("it assembles")).expect("a package");
    let answer = package.session().and_then(|mut session| session.generate("input"));
    assert_eq!(answer.expect("an answer"), "input", "{}", layers.name());
}

/// Runs two programs in sequence with the same directory. The second compiles nothing.
fn kept<B: Backend>(name: &str, engine: &Wasmtime, layers: impl Fn(Counting, Cache) -> B) {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = |path: &Path| {
        let name = name.to_owned();
        let cache = Cache::open(path.join("cache")).expect("a cache");
        cache.on_error(move |error| panic!("{name}: {error}: {}", error.source))
    };
    let first = Counting::new(engine);
    program(&layers(first.clone(), cache(folder.path())));
    assert_eq!(first.counts(), (1, 0), "{name}");
    // A second tier stores its compiled code from a thread of its own.
    let begun = Instant::now();
    while cache(folder.path()).entries().expect("the folder is there").iter().all(|entry| entry.compiler.is_empty()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}: nothing is kept");
        thread::yield_now();
    }
    let second = Counting::new(engine);
    program(&layers(second.clone(), cache(folder.path())));
    assert_eq!(second.counts(), (0, 1), "{name}");
}

#[test]
fn a_cache_keeps_what_is_compiled_wherever_it_stands() {
    let engine = Wasmtime::new().expect("an engine");
    // With `after(0)`, the first session waits for the second tier.
    kept("cached", &engine, Cached::new);
    kept("cached twice", &engine, |engine, cache| Cached::new(Cached::new(engine, cache.clone()), cache));
    kept("any, cached", &engine, |engine, cache| AnyBackend::new(engine).cached(cache));
    kept("any, cached twice", &engine, |engine, cache| AnyBackend::new(engine).cached(cache.clone()).cached(cache));
    kept("any of cached", &engine, |engine, cache| AnyBackend::new(Cached::new(engine, cache)));
    kept("cached any", &engine, |engine, cache| Cached::new(AnyBackend::new(engine), cache));
    kept("any of cached any", &engine, |engine, cache| AnyBackend::new(Cached::new(AnyBackend::new(engine), cache)));
    kept("tiered with cached", &engine, |engine, cache| Tiered::new(Wasmi::new(), Cached::new(engine, cache)).after(0));
    kept("cached tiered", &engine, |engine, cache| Cached::new(Tiered::new(Wasmi::new(), engine).after(0), cache));
    kept("any of cached tiered", &engine, |engine, cache| {
        AnyBackend::new(Cached::new(Tiered::new(Wasmi::new(), engine).after(0), cache))
    });
    kept("cached any of tiered", &engine, |engine, cache| {
        Cached::new(AnyBackend::new(Tiered::new(Wasmi::new(), engine).after(0)), cache)
    });
    kept("tiered with any of cached", &engine, |engine, cache| {
        Tiered::new(AnyBackend::new(Wasmi::new()), AnyBackend::new(Cached::new(engine, cache))).after(0)
    });
    kept("tiered with cached any", &engine, |engine, cache| {
        Tiered::new(AnyBackend::new(Wasmi::new()), Cached::new(AnyBackend::new(engine), cache)).after(0)
    });
    kept("tiered with tiered", &engine, |engine, cache| {
        let inner = Tiered::new(Wasmi::new(), Cached::new(engine, cache)).after(0);
        Tiered::new(Wasmi::new(), inner).after(0)
    });
}

/// A second tier that fails stores nothing, and reports no cache error.
#[test]
fn a_tier_that_fails_keeps_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::open(folder.path().join("cache")).expect("a cache");
    let cache = cache.on_error(|error| panic!("{error}: {}", error.source));
    let engine = Wasmtime::new().expect("an engine");
    let layers = Cached::new(Tiered::new(Wasmi::new(), Failing(engine)).after(0), cache.clone());
    program(&layers);
    program(&layers);
    assert_eq!(cache.entries().expect("the folder is there").len(), 0);
}

/// wasmtime that cannot compile.
#[derive(Clone)]
struct Failing(Wasmtime);

impl Backend for Failing {
    type Module = <Wasmtime as Backend>::Module;
    type Instance = <Wasmtime as Backend>::Instance;

    fn name(&self) -> &'static str {
        "failing"
    }

    fn compile(&self, _: &ModuleSource<'_>, _: &[HostFunc]) -> Result<Self::Module> {
        Err(mistletoe::Error::engine(mistletoe::Operation::Compile, "as it was told"))
    }

    fn instantiate(&self, module: &Self::Module, data: StoreData) -> Result<Self::Instance> {
        self.0.instantiate(module, data)
    }

    fn compatibility_key(&self) -> Option<String> {
        self.0.compatibility_key()
    }
}

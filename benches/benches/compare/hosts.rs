//! All ways to run a package on an engine, with one interface.
//!
//! It costs each of them the same: one virtual call per piece of work.

use mistletoe::cache::{Cache, Cached};
use mistletoe::wasi::{self, Wasi};
use mistletoe::{AnyBackend, AnyPackage, AnySession, Backend, Caller, Error, Imports, Limits, Package, Session};
use mistletoe::{Tiered, Wasmer, Wasmi, Wasmtime};
use mistletoe_benches::baseline;
use mistletoe_benches::baseline::wasmtime::{Compiler, Settings};

/// A host that compiles packages.
pub(crate) trait Host {
    fn load(&self, wasm: &[u8]) -> Box<dyn Loaded>;
}

/// A compiled package.
pub(crate) trait Loaded: Sync {
    fn open(&self) -> Box<dyn Live>;
    /// Returns the output of a fresh instance.
    fn answer(&self, input: &str) -> String;
}

/// An instance.
pub(crate) trait Live {
    fn answer(&mut self, input: &str) -> String;
}

/// The imports of a package.
#[derive(Clone, Copy)]
pub(crate) enum Offer {
    Nothing,
    /// No imports. The package outputs its input, and the peers have guests that do the same.
    Echo,
    Wasi,
    /// The functions of the group about host calls.
    Env,
}

/// The hand-written host that others are compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// The host with the settings of the layer.
    Plain,
    /// The host with the fastest fresh instances.
    ///
    /// For wasmtime, this one uses a pool, and the plain host is included, too.
    Pooled,
}

/// Returns all hosts for one engine, by name. The first is the base.
pub(crate) fn hosts(engine: &str, offer: Offer, base: Base) -> Vec<(&'static str, Box<dyn Host>)> {
    let mut hosts: Vec<(_, Box<dyn Host>)> = Vec::new();
    let pooling = engine == "wasmtime" && base == Base::Pooled;
    hosts.push(("by hand", by_hand(engine, Settings { pooling, ..Settings::default() })));
    if pooling {
        hosts.push(("by hand, no pool", by_hand(engine, Settings::default())));
    }
    hosts.push(("static", layer(engine, offer, &Limits::unlimited(), None)));
    let backend = mistletoe::backend(engine).expect("an engine");
    hosts.push(("erased", with_imports(Erased(backend), offer, &Limits::unlimited())));
    #[cfg(feature = "peers")]
    hosts.extend(crate::peers::hosts(engine, offer, pooling));
    hosts
}

/// Returns the hosts that load compiled code.
///
/// The base is the hand-written host, which loads it from a file. The layer loads it from its cache. Empty for an
/// engine that cannot serialise compiled code.
pub(crate) fn kept(engine: &str, offer: Offer, wasm: &[u8], cache: &Cache) -> Vec<(&'static str, Box<dyn Host>)> {
    let file: Box<dyn Host> = match engine {
        "wasmi" | "wasmi-lazy" => return Vec::new(),
        "wasmer" => Box::new(baseline::wasmer::Host::new().keep(wasm).expect("a file")),
        _ => Box::new(wasmtime(engine, Settings::default()).keep(wasm).expect("a file")),
    };
    let layer = layer(engine, offer, &Limits::unlimited(), Some(cache));
    vec![("by hand, from a file", file), ("static, from the cache", layer)]
}

fn wasmtime(engine: &str, settings: Settings) -> baseline::wasmtime::Host {
    let compiler = match engine {
        "wasmtime" => Compiler::Cranelift,
        "wasmtime-winch" => Compiler::Winch,
        "wasmtime-pulley" => Compiler::Pulley,
        _ => panic!("no host was written by hand for {engine}"),
    };
    baseline::wasmtime::Host::new(Settings { compiler, ..settings }).expect("an engine")
}

fn by_hand(engine: &str, settings: Settings) -> Box<dyn Host> {
    match engine {
        "wasmi" => Box::new(baseline::wasmi::Host::new(false).expect("an engine")),
        "wasmi-lazy" => Box::new(baseline::wasmi::Host::new(true).expect("an engine")),
        "wasmer" => Box::new(baseline::wasmer::Host::new()),
        _ => Box::new(wasmtime(engine, settings)),
    }
}

/// Returns the layer, with an engine that is known at compile time.
pub(crate) fn layer(engine: &str, offer: Offer, limits: &Limits, cache: Option<&Cache>) -> Box<dyn Host> {
    fn on<B: Backend>(backend: B, offer: Offer, limits: &Limits, cache: Option<&Cache>) -> Box<dyn Host> {
        match cache {
            None => with_imports(Static(backend), offer, limits),
            Some(cache) => with_imports(Static(Cached::new(backend, cache.clone())), offer, limits),
        }
    }
    let wasmtime = |backend: mistletoe::Result<_>| on(backend.expect("an engine"), offer, limits, cache);
    match engine {
        "wasmtime" => wasmtime(Wasmtime::new()),
        "wasmtime-winch" => wasmtime(Wasmtime::winch()),
        "wasmtime-pulley" => wasmtime(Wasmtime::pulley()),
        "wasmi" => on(Wasmi::new(), offer, limits, cache),
        "wasmi-lazy" => on(Wasmi::lazy(), offer, limits, cache),
        "wasmer" => on(Wasmer::new(), offer, limits, cache),
        _ => panic!("no engine is called {engine}"),
    }
}

/// Returns the layer on wasmi until wasmtime has compiled.
///
/// The first `after` sessions of a package run on wasmi; the next one waits for wasmtime.
pub(crate) fn tiered(offer: Offer, after: usize) -> Box<dyn Host> {
    let tiered = Tiered::new(Wasmi::new(), Wasmtime::new().expect("an engine")).after(after);
    with_imports(Static(tiered), offer, &Limits::unlimited())
}

/// The layer with the imports of a package.
struct Layer<P, T> {
    path: P,
    imports: Imports<T>,
    limits: Limits,
}

struct Static<B>(B);
struct Erased(AnyBackend);

fn with_imports<P>(path: P, offer: Offer, limits: &Limits) -> Box<dyn Host>
where
    Layer<P, ()>: Host + 'static,
    Layer<P, Wasi>: Host + 'static,
    Layer<P, u32>: Host + 'static,
{
    let limits = *limits;
    match offer {
        Offer::Nothing | Offer::Echo => Box::new(Layer { path, imports: Imports::<()>::new(), limits }),
        Offer::Wasi => Box::new(Layer { path, imports: wasi::imports::<Wasi>(), limits }),
        Offer::Env => Box::new(Layer { path, imports: env(), limits }),
    }
}

/// Returns the functions of the group about host calls.
fn env() -> Imports<u32> {
    let mut imports = Imports::new();
    imports
        .func("env", "nothing", |_: &mut Caller<'_, u32>| ())
        .func("env", "add", |_: &mut Caller<'_, u32>, a: u32, b: u32| a.wrapping_add(b))
        .func("env", "wide", |_: &mut Caller<'_, u32>, a: u64, b: u64| a ^ b)
        .func("env", "count", |caller: &mut Caller<'_, u32>, step: u32| {
            let count = caller.state_mut();
            *count = count.checked_add(step).ok_or("too many")?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(*count)
        })
        .func("env", "text", |caller: &mut Caller<'_, u32>, address: u32, length: u32| {
            Ok::<_, Error>(caller.str("text", address, length)?.len() as u32)
        });
    imports
}

impl<B: Backend, T: Default + Send + 'static> Host for Layer<Static<B>, T> {
    fn load(&self, wasm: &[u8]) -> Box<dyn Loaded> {
        let package = Package::with_imports(&self.path.0, wasm, &self.imports, self.limits);
        Box::new(package.expect("a package"))
    }
}

impl<T: Default + Send + 'static> Host for Layer<Erased, T> {
    fn load(&self, wasm: &[u8]) -> Box<dyn Loaded> {
        let package = AnyPackage::with_imports(&self.path.0, wasm, &self.imports, self.limits);
        Box::new(package.expect("a package"))
    }
}

/// Implements the traits for types that differ only in their names.
macro_rules! runs {
    ([$($generics:tt)*] $package:ty, $session:ty) => {
        impl<$($generics)*> Loaded for $package {
            fn open(&self) -> Box<dyn Live> {
                Box::new(self.session().expect("a session"))
            }

            fn answer(&self, input: &str) -> String {
                self.session().expect("a session").generate(input).expect("an answer")
            }
        }

        impl<$($generics)*> Live for $session {
            fn answer(&mut self, input: &str) -> String {
                self.generate(input).expect("an answer")
            }
        }
    };
}

#[cfg(feature = "peers")]
pub(crate) use runs;

runs!([B: Backend, T: Default + Send + 'static] Package<B, T>, Session<B, T>);
runs!([T: Default + Send + 'static] AnyPackage<T>, AnySession<T>);

macro_rules! by_hand {
    ($($engine:ident)*) => {$(
        impl Host for baseline::$engine::Host {
            fn load(&self, wasm: &[u8]) -> Box<dyn Loaded> {
                Box::new(self.compile(wasm).expect("a package"))
            }
        }

        runs!([] baseline::$engine::Package, baseline::$engine::Session);
    )*};
}

by_hand!(wasmtime wasmi wasmer);

/// Loads the compiled code from its file, regardless of the bytes.
macro_rules! kept {
    ($($engine:ident)*) => {$(
        impl Host for baseline::$engine::Kept {
            fn load(&self, _: &[u8]) -> Box<dyn Loaded> {
                Box::new(self.load().expect("a package"))
            }
        }
    )*};
}

kept!(wasmtime wasmer);

//! Two engines in one backend, with every point of the switch between them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use mistletoe::backend::ModuleSource;
use mistletoe::backend::{HostFunc, StoreData};
use mistletoe::{AnyBackend, Backend, Error, Operation, Package, Result, Tiered, Wasmi, Wasmtime};
use mistletoe_conformance::{Report, cases};

/// What the peak does when it compiles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Closed,
    Open,
    /// Returns an error.
    Fails,
    Panics,
}

/// wasmtime that compiles when the gate allows it, and counts its instances.
#[derive(Clone)]
struct Peak {
    backend: Wasmtime,
    /// The gate, and the number of modules whose compilation began.
    gate: Arc<(Mutex<(Gate, usize)>, Condvar)>,
    instances: Arc<AtomicUsize>,
}

impl Peak {
    fn new(gate: Gate) -> Self {
        let backend = Wasmtime::new().expect("an engine");
        Self { backend, gate: Arc::new((Mutex::new((gate, 0)), Condvar::new())), instances: Arc::default() }
    }

    fn open(&self) {
        self.gate.0.lock().expect("no panic").0 = Gate::Open;
        self.gate.1.notify_all();
    }

    fn begun(&self) -> usize {
        self.gate.0.lock().expect("no panic").1
    }

    fn wait_until_begun(&self) {
        let gate = self.gate.0.lock().expect("no panic");
        drop(self.gate.1.wait_while(gate, |gate| gate.1 == 0).expect("no panic"));
    }

    fn instances(&self) -> usize {
        self.instances.load(Ordering::Relaxed)
    }
}

impl Backend for Peak {
    type Module = <Wasmtime as Backend>::Module;
    type Instance = <Wasmtime as Backend>::Instance;

    fn name(&self) -> &'static str {
        "peak"
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<Self::Module> {
        let mut gate = self.gate.0.lock().expect("no panic");
        gate.1 += 1;
        self.gate.1.notify_all();
        let gate = self.gate.1.wait_while(gate, |gate| gate.0 == Gate::Closed).expect("no panic").0;
        match gate {
            Gate::Fails => Err(Error::engine(Operation::Compile, "as it was told")),
            Gate::Panics => panic!("as it was told"),
            _ => self.backend.compile(source, imports),
        }
    }

    fn instantiate(&self, module: &Self::Module, data: StoreData) -> Result<Self::Instance> {
        self.instances.fetch_add(1, Ordering::Relaxed);
        self.backend.instantiate(module, data)
    }
}

/// Outputs how often it was called, counted in its memory.
const COUNTER: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32)
        (i32.store8 (i32.const 64) (i32.add (i32.load8_u (i32.const 64)) (i32.const 1)))
        (i32.store (i32.const 8) (i32.const 64))
        (i32.store (i32.const 12) (i32.const 1))
        (i32.const 8)))"#;

fn package<B: Backend>(backend: &B) -> Package<B> {
    Package::new(backend, &wat::parse_str(COUNTER).expect("it assembles")).expect("a package")
}

/// Each case opens some sessions in sequence.
///
/// The engines switch before the first session, the second, and so on. No output, error or fuel count may change.
#[test]
fn every_case_passes_wherever_the_engines_change() {
    let cases = cases().expect("readable cases");
    for after in 0..=3 {
        let tiered = Tiered::new(Wasmi::new(), Wasmtime::new().expect("an engine")).after(after);
        let report = Report::run(&cases, &[&AnyBackend::new(tiered)], |_| ());
        assert!(report.is_good(), "after {after}\n{}", report.terminal(false));
    }
}

#[test]
fn sessions_move_over_when_the_peak_is_ready_and_open_ones_stay() {
    let peak = Peak::new(Gate::Closed);
    let package = package(&Tiered::new(Wasmi::new(), peak.clone()));
    let mut first = package.session().expect("a session");
    assert_eq!(first.generate("").expect("an answer"), "\u{1}");
    assert_eq!(peak.instances(), 0);
    peak.open();
    // Nothing signals the end of the compilation, but new sessions use the peak, long before this many attempts.
    let moved = (0..200_000).any(|_| {
        assert_eq!(package.generate("").expect("an answer"), "\u{1}");
        thread::yield_now();
        peak.instances() != 0
    });
    assert!(moved);
    assert_eq!(first.generate("").expect("an answer"), "\u{2}");
    let before = peak.instances();
    package.generate("").expect("an answer");
    assert_eq!(peak.instances(), before + 1);
}

#[test]
fn a_peak_that_fails_or_panics_leaves_the_first_engine() {
    for gate in [Gate::Fails, Gate::Panics] {
        let peak = Peak::new(gate);
        // The first session already waits for the peak.
        let package = package(&Tiered::new(Wasmi::new(), peak.clone()).after(0));
        assert_eq!(package.generate("").expect("an answer"), "\u{1}");
        assert_eq!(peak.instances(), 0);
    }
}

#[test]
fn what_nobody_has_any_more_is_not_compiled() {
    let peak = Peak::new(Gate::Closed);
    let tiered = Tiered::new(Wasmi::new(), peak.clone());
    let first = package(&tiered);
    peak.wait_until_begun();
    drop(package(&tiered));
    let third = package(&tiered.after(0));
    peak.open();
    assert_eq!(third.generate("").expect("an answer"), "\u{1}");
    assert_eq!(peak.begun(), 2, "the first and the third");
    assert_eq!(peak.instances(), 1);
    drop(first);
}

#[test]
fn a_package_is_dropped_while_the_peak_compiles() {
    let peak = Peak::new(Gate::Closed);
    let tiered = Tiered::new(Wasmi::new(), peak.clone());
    let first = package(&tiered);
    peak.wait_until_begun();
    drop(first);
    peak.open();
    // The compiling thread is free for the next package.
    package(&tiered.after(0)).generate("").expect("an answer");
    assert_eq!((peak.begun(), peak.instances()), (2, 1));
}

//! Pools of sessions, on every backend.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use mistletoe::backend::{HostFunc, StoreData};
use mistletoe::backend::{Instance, ModuleSource};
use mistletoe::pool::Mode;
use mistletoe::types::FuncType;
use mistletoe::{
    Backend, ErrorKind, Imports, Limits, Package, Pool, PooledSession, Result, Session, Trap, Wasmer, Wasmi, Wasmtime,
};

/// Outputs the number of inputs so far, up to 9, for `calls`.
///
/// Traps for `trap`. Outputs `freed` and traps when that is freed. Outputs any other input.
const PACKAGE: &str = r#"(module
    (memory (export "memory") 1)
    (global $calls (mut i32) (i32.const 48))
    (func $starts_with (param $address i32) (param $byte i32) (result i32)
        (i32.eq (i32.load8_u (local.get $address)) (local.get $byte)))
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32)
        (if (call $starts_with (local.get 0) (i32.const 102)) (then (unreachable))))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (if (call $starts_with (local.get 0) (i32.const 116)) (then (unreachable)))
        (if (call $starts_with (local.get 0) (i32.const 99)) (then
            (i32.store8 (local.get 0) (global.get $calls))
            (local.set 1 (i32.const 1))))
        (i32.store (i32.const 8) (local.get 0))
        (i32.store (i32.const 12) (local.get 1))
        (i32.const 8)))"#;

/// Traps during instantiation.
const TRAPS_AT_ONCE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "_initialize") (unreachable))
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32) (i32.const 8)))"#;

/// A session's state, which counts the live states.
struct State {
    living: Arc<Living>,
    notes: Vec<&'static str>,
}

#[derive(Default)]
struct Living {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl State {
    fn new(living: Arc<Living>) -> Self {
        let now = living.now.fetch_add(1, Ordering::SeqCst) + 1;
        living.most.fetch_max(now, Ordering::SeqCst);
        Self { living, notes: Vec::new() }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.living.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Living {
    fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

fn package<B: Backend, T: Send + 'static>(backend: &B, text: &str) -> Package<B, T> {
    let wasm = wat::parse_str(text).expect("it assembles");
    Package::with_imports(backend, &wasm, &Imports::new(), Limits::default()).expect("a package")
}

/// Returns a pool that does not wait, and the count of its live sessions.
fn pool<B: Backend>(backend: &B, limit: usize) -> (Pool<Package<B, State>>, Arc<Living>) {
    let living = Arc::new(Living::default());
    let state = {
        let living = living.clone();
        move || State::new(living.clone())
    };
    (Pool::with_state(&package(backend, PACKAGE), limit, state).wait(Duration::ZERO), living)
}

fn session<B: Backend, M: Mode>(pool: &Pool<Package<B, State>, M>) -> PooledSession<Package<B, State>, M> {
    pool.session().expect("a session")
}

fn answer<B: Backend, M: Mode>(pool: &Pool<Package<B, State>, M>, input: &str) -> String {
    pool.generate(input).expect("an answer")
}

/// Returns the fields of a `PoolExhausted` error.
fn exhausted<T>(result: Result<T>) -> (u64, Duration) {
    match result.err().expect("an error").kind() {
        ErrorKind::PoolExhausted { limit, waited } => (*limit, *waited),
        other => panic!("{other}"),
    }
}

/// Waits until this many callers wait for the pool.
fn until_waiting<B: Backend, M: Mode>(pool: &Pool<Package<B, State>, M>, callers: usize) {
    while pool.waiting() != callers {
        thread::yield_now();
    }
}

/// Runs a generic function with each engine's backend, and with the type-erased backends.
macro_rules! on_every_backend {
    ($test:path) => {{
        $test(&Wasmi::new());
        $test(&Wasmtime::new().expect("an engine"));
        $test(&Wasmer::new());
        for info in mistletoe::backends() {
            $test(&mistletoe::backend(info.name()).expect("a backend"));
        }
    }};
}

#[test]
fn no_more_sessions_are_in_use_than_the_limit() {
    fn test<B: Backend, M: Mode>(pool: &Pool<Package<B, State>, M>, living: &Living) {
        let mut sessions: Vec<_> = (0..3).map(|_| session(pool)).collect();
        assert_eq!((pool.in_use(), living.now()), (3, 3));
        assert_eq!(exhausted(pool.session()), (3, Duration::ZERO));
        assert_eq!(exhausted(pool.generate("x")), (3, Duration::ZERO));
        sessions.pop();
        assert_eq!(pool.in_use(), 2);
        sessions.push(session(pool));
        assert_eq!(exhausted(pool.session()), (3, Duration::ZERO));
        assert_eq!(living.most(), 3);
    }
    fn both<B: Backend>(backend: &B) {
        let (fresh, living) = pool(backend, 3);
        test(&fresh, &living);
        test(&fresh.clone(), &living);
        assert_eq!(living.now(), 0);
        test(&fresh.reused(), &living);
        assert_eq!((fresh.in_use(), living.now()), (0, 0), "they go with their pool");
    }
    on_every_backend!(both);
}

#[test]
fn reused_pools_have_the_limit_in_common_with_what_they_were_made_of() {
    fn test<B: Backend>(backend: &B) {
        let (fresh, living) = pool(backend, 2);
        let (one, other) = (fresh.reused(), fresh.reused());
        let (first, second) = (session(&one), session(&other));
        assert_eq!(exhausted(fresh.session()), (2, Duration::ZERO));
        assert_eq!(exhausted(one.session()), (2, Duration::ZERO));
        drop((first, second));
        // Idle sessions do not count towards the limit.
        assert_eq!((fresh.in_use(), living.now()), (0, 2));
        drop((session(&fresh), session(&fresh)));
        // Each reused pool has its own sessions.
        assert_eq!([answer(&one, "calls"), answer(&one, "calls"), answer(&other, "calls")], ["1", "2", "1"]);
    }
    on_every_backend!(test);
}

#[test]
fn a_pool_without_places_is_exhausted_at_once() {
    let (pool, _) = pool(&Wasmi::new(), 0);
    assert_eq!(exhausted(pool.wait(None).session()), (0, Duration::ZERO));
}

#[test]
fn fresh_sessions_know_nothing_of_earlier_calls_and_reused_ones_do() {
    fn test<B: Backend>(backend: &B) {
        let (fresh, living) = pool(backend, 2);
        assert_eq!([(); 3].map(|()| answer(&fresh, "calls")), ["1", "1", "1"]);
        session(&fresh).state_mut().notes.push("fresh");
        assert!(session(&fresh).state().notes.is_empty());
        assert_eq!((living.now(), living.most()), (0, 1));

        let reused = fresh.reused();
        assert_eq!([(); 3].map(|()| answer(&reused, "calls")), ["1", "2", "3"]);
        session(&reused).state_mut().notes.push("reused");
        assert_eq!(session(&reused).state().notes, ["reused"]);
        assert_eq!((living.now(), living.most()), (1, 1));
        // A second session is opened only while the first is in use.
        let first = session(&reused);
        assert_eq!(answer(&reused, "calls"), "1");
        drop(first);
        assert_eq!(living.now(), 2);
    }
    on_every_backend!(test);
}

#[test]
fn a_session_that_came_to_its_end_is_not_used_again() {
    fn test<B: Backend>(backend: &B) {
        let (fresh, living) = pool(backend, 1);
        let reused = fresh.reused();
        for _ in 0..3 {
            assert_eq!(answer(&reused, "calls"), "1");
            let mut ended = session(&reused);
            assert_eq!(ended.generate("trap").expect_err("a trap").as_trap(), Some(Trap::Unreachable));
            assert_eq!(exhausted(reused.session()), (1, Duration::ZERO), "in use until it is dropped");
            drop(ended);
            assert_eq!((reused.in_use(), living.now()), (0, 0));
            // The output is valid, but the session is poisoned.
            assert_eq!(answer(&reused, "calls"), "1");
            assert_eq!(answer(&reused, "freed"), "freed");
            assert_eq!((reused.in_use(), living.now()), (0, 0));
        }
        // Not every error poisons a session. The host can discard one that is not poisoned.
        let long = "x".repeat(65_536);
        assert!(matches!(reused.generate(&long).expect_err("no room").kind(), ErrorKind::OutOfBounds { .. }));
        assert_eq!(answer(&reused, "calls"), "1");
        session(&reused).discard();
        assert_eq!((reused.in_use(), living.now()), (0, 0));
        assert_eq!(answer(&reused, "calls"), "1");
    }
    on_every_backend!(test);
}

#[test]
fn where_no_session_can_be_opened_no_place_is_lost() {
    fn test<B: Backend>(backend: &B) {
        let broken = package::<B, ()>(backend, TRAPS_AT_ONCE);
        let pool = Pool::new(&broken, 1).wait(Duration::ZERO);
        for _ in 0..3 {
            assert_eq!(pool.generate("x").expect_err("a trap").as_trap(), Some(Trap::Unreachable));
        }
        let first = AtomicBool::new(true);
        let state = move || {
            if first.swap(false, Ordering::SeqCst) {
                resume_unwind(Box::new(()))
            }
        };
        let pool = Pool::with_state(&package(backend, PACKAGE), 1, state).wait(Duration::ZERO);
        catch_unwind(AssertUnwindSafe(|| pool.session().map(drop))).expect_err("a panic");
        assert_eq!(pool.generate("x").expect("an answer"), "x");
    }
    on_every_backend!(test);
}

#[test]
fn a_panic_ends_the_session_that_is_held_and_gives_its_place_back() {
    fn test<B: Backend>(backend: &B) {
        let (fresh, living) = pool(backend, 1);
        let reused = fresh.reused();
        assert_eq!(answer(&reused, "calls"), "1");
        let half_way = || {
            let mut session = session(&reused);
            session.generate_with("x", |_| resume_unwind(Box::new(())))
        };
        let panic: thread::Result<Result<()>> = catch_unwind(AssertUnwindSafe(half_way));
        panic.expect_err("a panic");
        assert_eq!((reused.in_use(), living.now()), (0, 0));
        assert_eq!(answer(&reused, "calls"), "1");
    }
    on_every_backend!(test);
}

#[test]
fn a_panic_on_another_thread_poisons_nothing() {
    fn test<B: Backend>(backend: &B)
    where
        Session<B, State>: Send,
    {
        let (fresh, living) = pool(backend, 1);
        let reused = fresh.wait(None).reused();
        let mut held = session(&reused);
        assert_eq!(held.generate("calls").expect("an answer"), "1");
        thread::scope(|scope| {
            let panicking = scope.spawn(|| {
                let _held = session(&reused);
                resume_unwind(Box::new(()))
            });
            until_waiting(&reused, 1);
            // Sessions can be dropped on another thread.
            scope.spawn(move || drop(held));
            panicking.join().map(|()| unreachable!()).expect_err("a panic");
        });
        assert_eq!(answer(&reused, "calls"), "1");
        assert_eq!((reused.in_use(), living.now()), (0, 1));
    }
    on_every_backend!(test);
}

#[test]
fn a_waiting_thread_gets_the_session_that_another_gives_back() {
    fn test<B: Backend>(backend: &B)
    where
        Session<B, State>: Send,
    {
        let (fresh, living) = pool(backend, 1);
        for wait in [None, Some(Duration::MAX), Some(Duration::from_secs(3600))] {
            let reused = fresh.reused().wait(wait);
            let mut held = session(&reused);
            assert_eq!(held.generate("calls").expect("an answer"), "1");
            thread::scope(|scope| {
                let waiting = scope.spawn(|| answer(&reused, "calls"));
                until_waiting(&reused, 1);
                drop(held);
                assert_eq!(waiting.join().expect("no panic"), "2");
            });
            assert_eq!(reused.waiting(), 0);
        }
        assert_eq!(living.most(), 1);
    }
    on_every_backend!(test);
}

#[test]
fn who_came_first_is_served_first() {
    const CALLERS: usize = 8;

    fn test<B: Backend>(backend: &B) {
        let (pool, living) = pool(backend, 1);
        let patient = pool.clone().wait(None);
        let held = session(&pool);
        let (served, order) = mpsc::channel();
        thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (served, patient) = (served.clone(), &patient);
                scope.spawn(move || {
                    let _session = session(patient);
                    served.send(caller).expect("a receiver");
                });
                until_waiting(&pool, caller + 1);
            }
            drop(held);
        });
        drop(served);
        assert_eq!(order.iter().collect::<Vec<_>>(), (0..CALLERS).collect::<Vec<_>>());
        assert_eq!((pool.in_use(), pool.waiting(), living.most()), (0, 0, 1));
    }
    on_every_backend!(test);
}

#[test]
fn who_gives_up_leaves_the_line() {
    fn test<B: Backend>(backend: &B) {
        let (pool, _) = pool(backend, 1);
        let patient = pool.clone().wait(None);
        let held = session(&pool);
        let wait = Duration::from_millis(20);
        thread::scope(|scope| {
            let first = scope.spawn(|| answer(&patient, "first"));
            until_waiting(&pool, 1);
            let gives_up = scope.spawn(|| exhausted(pool.clone().wait(wait).session()));
            while pool.waiting() < 2 && !gives_up.is_finished() {
                thread::yield_now();
            }
            let last = scope.spawn(|| answer(&patient, "last"));
            assert_eq!(gives_up.join().expect("no panic"), (1, wait));
            until_waiting(&pool, 2);
            drop(held);
            assert_eq!(
                (first.join().expect("no panic"), last.join().expect("no panic")),
                ("first".into(), "last".into())
            );
        });
        assert_eq!((pool.in_use(), pool.waiting()), (0, 0));
    }
    on_every_backend!(test);
}

/// Runs eight threads, which each make `calls` calls to a pool of three sessions.
fn crowd<B: Backend, M: Mode>(pool: impl Fn() -> Pool<Package<B, State>, M> + Sync, calls: usize) {
    thread::scope(|scope| {
        for caller in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                let pool = pool();
                for call in 0..calls {
                    // No input starts with a letter that the package treats as a command.
                    let input = format!("{caller}:{call}");
                    assert_eq!(answer(&pool, &input), input);
                }
            });
        }
    });
}

#[test]
fn threads_get_their_own_answers() {
    fn fresh<B: Backend>(backend: &B) {
        let (pool, living) = pool(backend, 3);
        let pool = pool.wait(None);
        crowd(|| pool.clone(), 50);
        assert_eq!((living.now(), pool.in_use(), pool.waiting()), (0, 0, 0));
        assert!(living.most() <= 3);
        // Sessions that are not `Send` need one reused pool per thread.
        crowd(|| pool.reused(), 50);
        assert_eq!((living.now(), pool.in_use(), pool.waiting()), (0, 0, 0));
        assert!(living.most() <= 8);
    }
    fn reused<B: Backend>(backend: &B)
    where
        Session<B, State>: Send,
    {
        let (pool, living) = pool(backend, 3);
        let pool = pool.wait(None).reused();
        crowd(|| pool.clone(), 500);
        assert_eq!((living.now(), pool.in_use(), pool.waiting()), (living.most(), 0, 0));
        assert!(living.most() <= 3);
    }
    on_every_backend!(fresh);
    on_every_backend!(reused);
}

#[test]
fn many_calls_leave_nothing_behind() {
    fn calls<B: Backend>(backend: &B, calls: usize) {
        let (fresh, living) = pool(backend, 2);
        for _ in 0..calls / 2 {
            assert_eq!(answer(&fresh, "x"), "x");
        }
        assert_eq!((living.now(), living.most()), (0, 1));
        let reused = fresh.reused();
        for call in 0..calls / 2 {
            match call % 100 {
                0 => assert!(reused.generate("trap").is_err()),
                _ => assert_eq!(answer(&reused, "x"), "x"),
            }
        }
        assert_eq!((living.now(), living.most(), reused.in_use()), (1, 1, 0));
        drop(reused);
        assert_eq!(living.now(), 0);
    }
    calls(&Wasmi::new(), 20_000);
    calls(&Wasmtime::new().expect("an engine"), 4_000);
    calls(&Wasmer::new(), 4_000);
}

/// wasmi, whose calls panic while [`PANICS`] is set.
#[derive(Clone)]
struct Panicking(Wasmi);

struct PanickingInstance(<Wasmi as Backend>::Instance);

static PANICS: AtomicBool = AtomicBool::new(false);

impl Backend for Panicking {
    type Module = <Wasmi as Backend>::Module;
    type Instance = PanickingInstance;

    fn name(&self) -> &'static str {
        "panicking"
    }

    fn compile(&self, source: &ModuleSource<'_>, imports: &[HostFunc]) -> Result<Self::Module> {
        self.0.compile(source, imports)
    }

    fn instantiate(&self, module: &Self::Module, data: StoreData) -> Result<PanickingInstance> {
        self.0.instantiate(module, data).map(PanickingInstance)
    }
}

impl Instance for PanickingInstance {
    type Func = <<Wasmi as Backend>::Instance as Instance>::Func;

    fn get_func(&mut self, name: &str, ty: &FuncType) -> Result<Self::Func> {
        self.0.get_func(name, ty)
    }

    fn call(&mut self, func: &Self::Func, slots: &mut [u64]) -> Result<()> {
        if PANICS.load(Ordering::SeqCst) {
            resume_unwind(Box::new(()));
        }
        self.0.call(func, slots)
    }

    fn memory(&self) -> &[u8] {
        self.0.memory()
    }

    fn data(&self) -> &StoreData {
        self.0.data()
    }

    fn data_mut(&mut self) -> &mut StoreData {
        self.0.data_mut()
    }

    fn memory_and_data(&mut self) -> (&mut [u8], &mut StoreData) {
        self.0.memory_and_data()
    }
}

#[test]
fn a_session_whose_engine_panicked_is_not_used_again() {
    let (fresh, _) = pool(&Panicking(Wasmi::new()), 1);
    let reused = fresh.reused();
    let mut held = session(&reused);
    assert_eq!(held.generate("calls").expect("an answer"), "1");
    PANICS.store(true, Ordering::SeqCst);
    catch_unwind(AssertUnwindSafe(|| held.generate("calls"))).expect_err("a panic");
    PANICS.store(false, Ordering::SeqCst);
    // The session is dropped after the panic ended.
    drop(held);
    assert_eq!(answer(&reused, "calls"), "1");
}

#[test]
fn the_error_says_what_it_is() {
    let pool = Pool::new(&package::<_, ()>(&Wasmi::new(), PACKAGE), 1).wait(Duration::from_millis(2));
    let _held = pool.session().expect("a session");
    let error = pool.session().expect_err("no other");
    assert_eq!(error.to_string(), "pool exhausted: all 1 sessions stayed in use for 2 ms");
    let json = serde_json::to_value(error.kind()).expect("JSON");
    assert_eq!(json, serde_json::json!({"kind": "pool-exhausted", "limit": 1, "waited_ms": 2}));
}

//! The service on every engine: that futures that are dropped cancel their guests, and that who waits takes no thread.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use mistletoe::{AnyPackage, Caller, CancelHandle, ErrorKind, Imports, Limits, Pool};
use tokio::runtime::{Builder, Runtime};
use tokio_host::{Failure, Service};

/// Answers `ever` by saying so to the host, and never; all else with itself.
const PACKAGE: &str = r#"(module
    (import "env" "busy" (func $busy))
    (memory (export "memory") 1)
    (func (export "__mistletoe_info") (result i32) (i32.const 8))
    (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "__mistletoe_dealloc") (param i32 i32))
    (func (export "__mistletoe_generate") (param i32 i32) (result i32)
        (if (i32.eq (i32.load (local.get 0)) (i32.const 0x72657665)) (then (call $busy) (loop $ever (br $ever))))
        (i32.store (i32.const 8) (local.get 0))
        (i32.store (i32.const 12) (local.get 1))
        (i32.const 8)))"#;

/// Longer than any of these takes.
const LONG: Duration = Duration::from_secs(120);

type Busy = Sender<()>;

/// A service with so many sessions on each engine, and where it says that a guest runs for ever.
fn services(sessions: usize, deadline: Duration) -> impl Iterator<Item = (Service<Busy>, Receiver<()>)> {
    let wasm = wat::parse_str(PACKAGE).expect("it assembles");
    let mut imports = Imports::<Busy>::new();
    imports.func("env", "busy", |caller: &mut Caller<'_, Busy>| caller.state().send(()));
    mistletoe::backends().iter().map(move |info| {
        let backend = mistletoe::backend(info.name()).expect("a backend");
        // Nothing but the host's deadline ends a guest.
        let limits = Limits::default().with_timeout(LONG);
        let package = AnyPackage::with_imports(&backend, &wasm, &imports, limits).expect("a package");
        let (busy, is_busy) = mpsc::channel();
        let pool = Pool::with_state(&package, sessions, move || busy.clone()).reused();
        (Service::new(pool, deadline), is_busy)
    })
}

fn runtime() -> Runtime {
    // As few threads as there can be: a test that blocks one does not end.
    Builder::new_multi_thread().worker_threads(1).max_blocking_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn many_calls_are_answered_by_few_sessions() {
    let runtime = runtime();
    for (service, _) in services(2, LONG) {
        let calls: Vec<_> = (0..100)
            .map(|call| {
                let service = service.clone();
                runtime.spawn(async move { (call, service.generate(format!("call {call}")).await) })
            })
            .collect();
        for call in calls {
            let (call, answer) = runtime.block_on(call).expect("no panic");
            assert_eq!(answer.expect("an answer"), format!("call {call}"));
        }
        assert_eq!((service.pool().in_use(), service.pool().waiting()), (0, 0));
    }
}

#[test]
fn a_future_that_is_dropped_cancels_its_guest() {
    let runtime = runtime();
    for (service, is_busy) in services(1, LONG) {
        let call = {
            let service = service.clone();
            runtime.spawn(async move { service.generate("ever".into()).await })
        };
        is_busy.recv().expect("the guest runs");
        call.abort();
        assert!(runtime.block_on(call).expect_err("it was dropped").is_cancelled());
        // There is one session: this answer comes after the guest has ended, or never.
        let answer = runtime.block_on(service.generate("next".into()));
        assert_eq!(answer.expect("an answer"), "next");
    }
}

#[test]
fn the_deadline_ends_the_guest_too() {
    let runtime = runtime();
    for (service, is_busy) in services(1, Duration::from_millis(50)) {
        // Until the guest was there before the deadline.
        while is_busy.try_recv().is_err() {
            let failure = runtime.block_on(service.generate("ever".into())).expect_err("it takes too long");
            assert!(matches!(failure, Failure::DeadlineExceeded), "{failure}");
        }
        let permit = runtime.block_on(service.pool().acquire()).expect("the session was given back");
        drop(permit);
    }
}

#[test]
fn who_waits_for_a_session_takes_no_thread_and_leaves_the_queue_when_dropped() {
    let runtime = runtime();
    for (service, _) in services(1, LONG) {
        let held = service.pool().session().expect("a session");
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let service = service.clone();
                runtime.spawn(async move { service.generate("waits".into()).await })
            })
            .collect();
        while service.pool().waiting() < calls.len() {
            std::thread::yield_now();
        }
        let (dropped, kept) = calls.split_at(25);
        dropped.iter().for_each(|call| call.abort());
        while service.pool().waiting() > kept.len() {
            std::thread::yield_now();
        }
        drop(held);
        for call in calls.into_iter().skip(25) {
            assert_eq!(runtime.block_on(call).expect("no panic").expect("an answer"), "waits");
        }
        assert_eq!((service.pool().in_use(), service.pool().waiting()), (0, 0));
    }
}

/// A waker that asks the pool for something when it wakes, and when it is dropped.
struct Asks(Service<Busy>);

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        self.0.pool().in_use();
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        self.0.pool().in_use();
    }
}

#[test]
fn wakers_may_use_the_pool() {
    for (service, _) in services(1, LONG) {
        let waker = || Waker::from(Arc::new(Asks(service.clone())));
        let held = service.pool().session().expect("a session");
        let mut first = pin!(service.pool().acquire());
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
        // The second waker takes the place of the first.
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
        {
            let second = pin!(service.pool().acquire());
            assert!(second.poll(&mut Context::from_waker(&waker())).is_pending());
            assert_eq!(service.pool().waiting(), 2);
        }
        assert_eq!(service.pool().waiting(), 1);
        drop(held);
        assert!(first.poll(&mut Context::from_waker(&waker())).is_ready());
        assert_eq!((service.pool().in_use(), service.pool().waiting()), (0, 0));
    }
}

#[test]
fn a_permit_that_comes_too_late_goes_to_the_next() {
    for (service, _) in services(1, LONG) {
        let held = service.pool().session().expect("a session");
        {
            let late = pin!(service.pool().acquire());
            assert!(late.poll(&mut Context::from_waker(Waker::noop())).is_pending());
            // It is the future's now, which does not know of it, and is dropped.
            drop(held);
            assert_eq!((service.pool().in_use(), service.pool().waiting()), (1, 0));
        }
        assert_eq!(service.pool().in_use(), 0);
        assert!(service.pool().session().is_ok());
    }
}

#[test]
fn a_pool_without_permits_is_exhausted_at_once() {
    let runtime = runtime();
    for (service, _) in services(0, LONG) {
        let failure = runtime.block_on(service.generate("x".into())).expect_err("there is no session");
        let Failure::Guest(error) = failure else { panic!("{failure}") };
        assert!(matches!(error.kind(), ErrorKind::PoolExhausted { limit: 0, .. }), "{error}");
    }
}

#[test]
fn threads_and_futures_wait_in_one_queue() {
    let runtime = runtime();
    for (service, _) in services(1, LONG) {
        let held = service.pool().session().expect("a session");
        let (served, order) = mpsc::channel();
        std::thread::scope(|scope| {
            for caller in 0..6 {
                let (served, pool) = (served.clone(), service.pool().clone());
                if caller % 2 == 0 {
                    scope.spawn(move || {
                        let _session = pool.session().expect("a session");
                        served.send(caller).expect("a receiver");
                    });
                } else {
                    runtime.spawn(async move {
                        let _permit = pool.acquire().await.expect("a permit");
                        served.send(caller).expect("a receiver");
                    });
                }
                while service.pool().waiting() <= caller {
                    std::thread::yield_now();
                }
            }
            drop((held, served));
        });
        assert_eq!(order.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn where_no_session_can_be_opened_the_permit_is_given_back() {
    let wasm = wat::parse_str(
        PACKAGE.replace("(memory (export", "(func $start (unreachable)) (start $start) (memory (export"),
    );
    let wasm = wasm.expect("it assembles");
    let runtime = runtime();
    for info in mistletoe::backends() {
        let backend = mistletoe::backend(info.name()).expect("a backend");
        let mut imports = Imports::<()>::new();
        imports.func("env", "busy", |_: &mut Caller<'_, ()>| {});
        let package = AnyPackage::with_imports(&backend, &wasm, &imports, Limits::default()).expect("a package");
        let pool = Pool::new(&package, 1);
        for _ in 0..3 {
            let permit = runtime.block_on(pool.acquire()).expect("a permit");
            assert!(permit.session().map(drop).expect_err("a trap").as_trap().is_some());
        }
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn a_warm_session_outlives_a_handle_that_was_cancelled_before() {
    let runtime = runtime();
    for (service, _) in services(1, LONG) {
        assert_eq!(runtime.block_on(service.generate("x".into())).expect("an answer"), "x");
        let handle = CancelHandle::new();
        handle.cancel();
        let permit = runtime.block_on(service.pool().acquire()).expect("a permit");
        let mut session = permit.session_with_cancel(&handle).expect("it was open");
        assert!(matches!(session.generate("x").expect_err("cancelled").kind(), ErrorKind::Cancelled { export: None }));
        drop(session);
        assert_eq!(runtime.block_on(service.generate("y".into())).expect("an answer"), "y");
    }
}

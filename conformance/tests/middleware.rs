//! What a server sees of middleware beside the exchanges: which session a request belongs to, what comes back after an
//! error, and pools. On every backend.

use std::thread;

use mistletoe::protocol::http_handler::{InMemory, Next};
use mistletoe::{AnyBackend, AnyMiddleware, AnyMiddlewareSession, ErrorKind, Operation, Pool, Result, pool};

/// Counts its requests in the status, 200 for the first. Traps if the method is `TRAP`, and responds to `STOP`.
const GUEST: &str = r#"(module
    (import "http_handler" "get_method" (func $get_method (param i32 i32) (result i32)))
    (import "http_handler" "set_status_code" (func $set_status_code (param i32)))
    (memory (export "memory") 1)
    (global $requests (mut i32) (i32.const 200))
    (func (export "handle_request") (result i64)
        (drop (call $get_method (i32.const 0) (i32.const 64)))
        (if (i32.eq (i32.load (i32.const 0)) (i32.const 0x50415254)) (then (unreachable)))
        (call $set_status_code (global.get $requests))
        (global.set $requests (i32.add (global.get $requests) (i32.const 1)))
        (i64.extend_i32_u (i32.ne (i32.load (i32.const 0)) (i32.const 0x504f5453))))
    (func (export "handle_response") (param i32 i32)))"#;

fn on_every_backend(test: impl Fn(&AnyMiddleware) -> Result<()>) {
    let wasm = wat::parse_str(GUEST).expect("it assembles");
    let enabled = mistletoe::backends().iter().filter(|info| info.is_enabled());
    let backends: Vec<AnyBackend> =
        enabled.map(|info| mistletoe::backend(info.name()).expect("it is enabled")).collect();
    assert!(!backends.is_empty());
    for backend in backends {
        let tested = AnyMiddleware::new(&backend, &wasm).and_then(|middleware| test(&middleware));
        tested.unwrap_or_else(|error| panic!("{}: {error}", backend.name()));
    }
}

/// Returns the status that a new request gets, and how it goes on.
fn request(session: &mut AnyMiddlewareSession, method: &str) -> Result<(u16, Option<Next>)> {
    let (next, exchange) = session.handle_request(InMemory::new(method, "/"));
    Ok((exchange.status, next?))
}

#[test]
fn the_exchange_comes_back_after_every_call() {
    on_every_backend(|middleware| {
        let mut session = middleware.session()?;
        let exchange = |method: &str| {
            let mut exchange = InMemory::new(method, "/path");
            exchange.request.set_body("body");
            exchange
        };
        let unchanged = |found: &InMemory, method: &str| assert_eq!(*found, exchange(method));
        let (next, found) = session.handle_request(exchange("GET"));
        unchanged(&found, "GET");
        let (result, found) = session.handle_response(found, next?.expect("it goes on"), true);
        result?;
        unchanged(&found, "GET");

        let mut cancelled = middleware.session()?;
        cancelled.cancel_handle().cancel();
        let (result, found) = cancelled.handle_request(exchange("GET"));
        assert!(matches!(result.expect_err("it is cancelled").kind(), ErrorKind::Cancelled { .. }));
        unchanged(&found, "GET");

        let (result, found) = session.handle_request(exchange("TRAP"));
        assert!(matches!(result.expect_err("it traps").kind(), ErrorKind::Trap { .. }));
        unchanged(&found, "TRAP");
        let (result, found) = session.handle_request(exchange("GET"));
        assert_eq!(*result.expect_err("it is poisoned").kind(), ErrorKind::Poisoned);
        unchanged(&found, "GET");
        Ok(())
    });
}

#[test]
fn a_response_is_handled_by_the_session_of_its_request_and_only_for_the_latest() {
    on_every_backend(|middleware| {
        let respond = |session: &mut AnyMiddlewareSession, next: Next| {
            session.handle_response(InMemory::new("GET", "/"), next, false).0
        };
        let refused = |result: Result<()>| {
            let kind = result.expect_err("it is another request").kind().clone();
            assert_eq!(kind, ErrorKind::Engine { operation: Operation::Call });
        };
        let (mut one, mut other) = (middleware.session()?, middleware.session()?);
        let next =
            |session: &mut AnyMiddlewareSession| request(session, "GET").map(|(_, next)| next.expect("it goes on"));
        // Of another session.
        let (first, second) = (next(&mut one)?, next(&mut other)?);
        refused(respond(&mut other, first));
        respond(&mut other, second)?;
        // Before the latest request of the same session, which may have responded itself.
        let (older, newer) = (next(&mut one)?, next(&mut one)?);
        refused(respond(&mut one, older));
        respond(&mut one, newer)?;
        let older = next(&mut one)?;
        assert!(request(&mut one, "STOP")?.1.is_none());
        refused(respond(&mut one, older));
        // No function of the guest was called, so that the sessions stay usable.
        let next = next(&mut one)?;
        respond(&mut one, next)?;
        assert!(one.fault().is_none() && other.fault().is_none());
        Ok(())
    });
}

#[test]
fn a_reused_pool_keeps_the_state_of_guests_and_a_fresh_one_does_not() {
    on_every_backend(|middleware| {
        fn status<M: pool::Mode>(pool: &Pool<AnyMiddleware, M>) -> Result<u16> {
            request(&mut *pool.session()?, "GET").map(|(status, _)| status)
        }
        let fresh = Pool::new(middleware, 1);
        assert_eq!([status(&fresh)?, status(&fresh)?], [200, 200]);
        let reused = Pool::new(middleware, 1).reused();
        assert_eq!([status(&reused)?, status(&reused)?], [200, 201]);
        // A request whose response was never handled leaves the session usable.
        assert_eq!(status(&reused)?, 202);
        // Threads take turns, and no request is counted twice.
        let mut seen: Vec<u16> = thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| status(&reused)));
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<_>>()
        })?;
        seen.sort_unstable();
        assert_eq!(seen, [203, 204, 205, 206]);
        Ok(())
    });
}

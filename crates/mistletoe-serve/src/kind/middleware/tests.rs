//! Clients that leave just when the guest could go on.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use http::Request;
use tokio::runtime::Runtime;

use super::*;
use crate::budget::Budget;
use crate::config::Config;
use crate::log::Log;
use crate::metrics::RouteMetrics;
use crate::threads::Threads;

/// Reads the request's body, whose end has come with the first read, and lets the request through.
const GUEST: &str = r#"(module
    (import "http_handler" "read_body" (func $read (param i32 i32 i32) (result i64)))
    (memory (export "memory") 1)
    (func (export "handle_request") (result i64)
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1)))
        (i64.const 1))
    (func (export "handle_response") (param i32 i32)))"#;

/// Where the client leaves.
struct Leaving(Mutex<(Sender<()>, Receiver<()>)>);

impl Leaving {
    /// Returns once the client has left.
    fn wait(&self) {
        let client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        client.0.send(()).expect("the client is there");
        assert!(client.1.recv().is_err(), "the client only leaves");
    }
}

/// An empty body, whose end comes after the client has left.
struct Late(Leaving);

impl HttpBody for Late {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.0.wait();
        Poll::Ready(None)
    }
}

/// A next handler, in which the client may leave.
struct Last {
    is_called: AtomicBool,
    leaving: Option<Leaving>,
}

impl Kind for Last {
    fn respond(self: Arc<Self>, _: Call) -> Responding {
        Box::pin(async move {
            self.is_called.store(true, Ordering::Relaxed);
            if let Some(leaving) = &self.leaving {
                leaving.wait();
            }
            Ok(Response::new(Body::empty()))
        })
    }

    fn instances(&self) -> Option<Instances> {
        None
    }

    fn prune(&self, _: Instant) {}
}

/// Sends a request whose client leaves while its body comes, or else in the next handler. Returns whether the latter was
/// called, and the number of failures: a call of a guest that is cancelled already is one.
fn leave(in_body: bool) -> (bool, u64) {
    let (begun, has_begun) = channel();
    let (leave, left) = channel();
    let leaving = Leaving(Mutex::new((begun, left)));
    let (body, leaving) = if in_body { (Body::new(Late(leaving)), None) } else { (Body::empty(), Some(leaving)) };
    let last = Arc::new(Last { is_called: AtomicBool::new(false), leaving });

    let text = "[[route]]\npath = '/a'\nkind = 'http-wasm'\nmodule = 'a'\nlimits = { timeout = '100s' }";
    let route = Config::parse(text, Path::new("")).expect("a configuration").routes.remove(0);
    let guest = Arc::new(route.guests().next().expect("a guest").clone());
    let metrics = Arc::new(RouteMetrics::default());
    let context = Context {
        route: Arc::new(route),
        name: "/a".into(),
        metrics: metrics.clone(),
        log: Log::default(),
        responses: Budget::new(1).share(1),
        threads: Threads::new().expect("a thread"),
    };
    let backend = mistletoe::backend("wasmi").expect("an engine");
    let wasm = wat::parse_str(GUEST).expect("a module");
    let kind = new(context, guest, &[], last.clone(), &backend, &wasm).expect("middleware");

    let runtime = Runtime::new().expect("a runtime");
    let request = Request::post("http://a.example/a").body(body).expect("a request");
    let client = runtime.spawn(kind.respond(Call { request, remote: None, id: "1".into(), usage: Arc::default() }));
    has_begun.recv().expect("the guest runs");
    client.abort();
    assert!(runtime.block_on(client).is_err_and(|error| error.is_cancelled()));
    drop(leave);
    drop(runtime);
    // The guest has the middleware, and with it the next handler, until it ends.
    while Arc::strong_count(&last) > 1 {
        thread::yield_now();
    }
    (last.is_called.load(Ordering::Relaxed), metrics.totals().1)
}

#[test]
fn the_next_handler_is_not_called_for_a_client_that_left_during_the_request() {
    assert_eq!(leave(true), (false, 0));
}

#[test]
fn a_response_is_not_handled_for_a_client_that_left_before() {
    assert_eq!(leave(false), (true, 0));
}

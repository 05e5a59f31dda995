//! The requests of a route that wait for an instance, and the threads that take them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mistletoe::protocol::Protocol;
use mistletoe::wasi::Wasi;
use mistletoe::{AnyProgram, Pool, PoolPermit, Reused};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::failure::Failure;

/// Number of guests that a thread runs before it lets others have the thread. The system may give too few threads for
/// all routes, or a program may share its threads with a service.
const TURNS: usize = 16;

/// A permit to use an instance.
pub(super) type Permit<P> = PoolPermit<AnyProgram<P, Wasi>, Reused>;

/// Work that waits for an instance, in FIFO order.
///
/// A thread that is done with an instance takes the next work itself. To wake a task, which then wakes a thread, takes
/// longer than many a guest.
pub(super) struct Queue<P: Protocol> {
    pool: Pool<AnyProgram<P, Wasi>, Reused>,
    waiting: Mutex<Waiting<P>>,
}

struct Waiting<P: Protocol> {
    work: VecDeque<(Ticket, Work<P>)>,
    next: Ticket,
}

/// A place in the queue.
type Ticket = u64;

type Work<P> = Box<dyn FnOnce(Permit<P>) + Send>;

/// Somebody whose work waits. It leaves the queue when this is dropped.
struct Place<'a, P: Protocol> {
    queue: &'a Queue<P>,
    ticket: Ticket,
}

impl<P: Protocol> Queue<P> {
    pub(super) fn new(pool: &Pool<AnyProgram<P, Wasi>, Reused>) -> Arc<Self> {
        let waiting = Waiting { work: VecDeque::new(), next: 0 };
        Arc::new(Self { pool: pool.clone(), waiting: Mutex::new(waiting) })
    }

    /// Returns how much work waits.
    pub(super) fn len(&self) -> usize {
        self.waiting().work.len()
    }

    /// Does work with an instance, on a blocking thread, and returns its result.
    ///
    /// Fails with [`Failure::Busy`] if no instance is free within `wait`. If the future is dropped before that, the work is
    /// never done. If it is dropped later, the work goes on.
    pub(super) async fn run<R: Send + 'static>(
        self: &Arc<Self>,
        wait: Duration,
        work: impl FnOnce(Permit<P>) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let (sender, mut result) = oneshot::channel();
        let place = self.push(Box::new(move |permit| {
            // Nobody waits for it if the client has left.
            let _ = sender.send(work(permit));
        }));
        // It may be the work of an earlier request that begins now.
        if let Some((permit, work)) = self.next() {
            self.spawn(permit, work);
        }
        let result = match timeout(wait, &mut result).await {
            Ok(result) => result,
            Err(_) if place.leave() => return Err(Failure::Busy),
            // It has an instance.
            Err(_) => result.await,
        };
        result.map_err(|_| Failure::Host("the thread of the guest panicked".to_owned()))
    }

    /// Does this work, and then what waits.
    fn work(self: &Arc<Self>, mut permit: Permit<P>, mut work: Work<P>) {
        for _ in 0..TURNS {
            // Nobody else would take the rest after a panic, whose message is on standard error by now.
            drop(catch_unwind(AssertUnwindSafe(move || work(permit))));
            match self.next() {
                Some(next) => (permit, work) = next,
                None => return,
            }
        }
        self.spawn(permit, work);
    }

    fn spawn(self: &Arc<Self>, permit: Permit<P>, work: Work<P>) {
        let queue = self.clone();
        spawn_blocking(move || queue.work(permit, work));
    }

    /// Takes the first work, which has then begun, and an instance for it.
    ///
    /// No work is left behind while an instance is free: who adds work looks for an instance afterwards, and who gives an
    /// instance back looks for work afterwards.
    fn next(&self) -> Option<(Permit<P>, Work<P>)> {
        while self.len() > 0 {
            let permit = self.pool.try_acquire()?;
            if let Some(work) = self.pop() {
                return Some((permit, work));
            }
            // Another thread was quicker. The permit is given back before the next look.
        }
        None
    }

    fn push(&self, work: Work<P>) -> Place<'_, P> {
        let mut waiting = self.waiting();
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.work.push_back((ticket, work));
        Place { queue: self, ticket }
    }

    fn pop(&self) -> Option<Work<P>> {
        self.waiting().work.pop_front().map(|(_, work)| work)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<P>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Protocol> Place<'_, P> {
    /// Removes the work, unless it has begun. Returns whether it was removed.
    fn leave(&self) -> bool {
        let mut waiting = self.queue.waiting();
        // In the order of their tickets.
        let place = waiting.work.binary_search_by_key(&self.ticket, |(ticket, _)| *ticket);
        let work = place.ok().and_then(|place| waiting.work.remove(place));
        // The work is dropped after the lock.
        drop(waiting);
        work.is_some()
    }
}

impl<P: Protocol> Drop for Place<'_, P> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use mistletoe::Limits;
    use mistletoe::protocol::WasiCommand;
    use mistletoe::wasi::imports;
    use tokio::runtime::Runtime;
    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    const LONG: Duration = Duration::from_secs(100);

    type Result<R> = std::result::Result<R, Failure>;

    /// A queue with one instance.
    fn queue() -> Arc<Queue<WasiCommand>> {
        let wasm =
            wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).expect("a module");
        let backend = mistletoe::backend("wasmi").expect("an engine");
        let program = AnyProgram::with_protocol(WasiCommand, &backend, &wasm, &imports::<Wasi>(), Limits::default());
        Queue::new(&Pool::new(&program.expect("a program"), 1).reused())
    }

    /// Begins work that ends, with a panic, when the sender is dropped.
    async fn panics(queue: &Arc<Queue<WasiCommand>>) -> (Sender<()>, JoinHandle<Result<()>>) {
        let (sender, end) = channel();
        let task = tokio::spawn({
            let queue = queue.clone();
            async move { queue.run(LONG, move |_| panic!("a test: {:?}", end.recv())).await }
        });
        while queue.pool.in_use() == 0 {
            yield_now().await;
        }
        (sender, task)
    }

    fn begin(queue: &Arc<Queue<WasiCommand>>, number: u32) -> JoinHandle<Result<u32>> {
        let queue = queue.clone();
        tokio::spawn(async move { queue.run(LONG, move |_| number).await })
    }

    #[test]
    fn work_that_panics_leaves_the_rest_to_be_done() {
        Runtime::new().expect("a runtime").block_on(async {
            let queue = queue();
            let (end, task) = panics(&queue).await;
            let waiting = [begin(&queue, 1), begin(&queue, 2)];
            while queue.len() < 2 {
                yield_now().await;
            }
            drop(end);
            assert!(matches!(task.await.expect("the task goes on"), Err(Failure::Host(_))));
            for (number, task) in (1..).zip(waiting) {
                assert!(matches!(task.await.expect("no panic"), Ok(result) if result == number));
            }
            assert_eq!((queue.len(), queue.pool.in_use()), (0, 0));
        });
    }

    #[test]
    fn work_that_has_not_begun_leaves_the_queue() {
        Runtime::new().expect("a runtime").block_on(async {
            let queue = queue();
            let (end, task) = panics(&queue).await;
            let (first, second) = (begin(&queue, 1), begin(&queue, 2));
            while queue.len() < 2 {
                yield_now().await;
            }
            first.abort();
            assert!(first.await.is_err_and(|error| error.is_cancelled()));
            assert!(matches!(queue.run(Duration::ZERO, |_| ()).await, Err(Failure::Busy)));
            assert_eq!(queue.len(), 1);
            drop(end);
            assert!(matches!(second.await, Ok(Ok(2))) && task.await.is_ok_and(|result| result.is_err()));
            // An instance that is free needs no time.
            assert!(matches!(queue.run(Duration::ZERO, |_| 3).await, Ok(3)));
        });
    }
}

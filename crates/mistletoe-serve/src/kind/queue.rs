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
    /// Fails with [`Failure::Busy`] if the work has not begun after `wait`. If the future is dropped before that, the
    /// work is never done.
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
        if let Some(permit) = self.pool.try_acquire() {
            let queue = self.clone();
            spawn_blocking(move || queue.work(permit));
        }
        let result = match timeout(wait, &mut result).await {
            Ok(result) => result,
            Err(_) if place.leave() => return Err(Failure::Busy),
            // It has begun.
            Err(_) => result.await,
        };
        result.map_err(|_| Failure::Host("the thread of the guest panicked".to_owned()))
    }

    /// Does the work that waits, until there is none or no instance.
    fn work(&self, mut permit: Permit<P>) {
        loop {
            match self.pop() {
                // Nobody else would take the rest after a panic, whose message is on standard error by now.
                Some(work) => drop(catch_unwind(AssertUnwindSafe(|| work(permit)))),
                None => drop(permit),
            }
            // Work that comes before this found no permit, and work that comes later finds one.
            if self.len() == 0 {
                return;
            }
            match self.pool.try_acquire() {
                Some(next) => permit = next,
                None => return,
            }
        }
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

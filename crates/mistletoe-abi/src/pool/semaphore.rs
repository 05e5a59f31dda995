//! The semaphore of a pool: it counts the sessions in use and queues the callers that wait for one.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// Counts the sessions in use and queues the callers that wait for one.
pub(crate) struct Semaphore {
    limit: usize,
    permits: Mutex<Permits>,
}

struct Permits {
    /// 0 while a caller waits: a released permit goes to the first caller in the queue.
    free: usize,
    /// The queue, with a waker for each caller. A caller that is no longer in it has been given a permit.
    waiting: VecDeque<(Ticket, Waker)>,
    next: Ticket,
}

/// A place in the queue.
type Ticket = u64;

/// A permit to use a session, returned when this is dropped.
pub(crate) struct Permit(Arc<Semaphore>);

/// A caller that requests a permit. It leaves the queue when this is dropped.
pub(crate) struct Turn<'a> {
    semaphore: &'a Arc<Semaphore>,
    ticket: Option<Ticket>,
}

impl Semaphore {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, permits: Mutex::new(Permits { free: limit, waiting: VecDeque::new(), next: 0 }) }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn in_use(&self) -> usize {
        self.limit - lock(&self.permits).free
    }

    pub(crate) fn waiting(&self) -> usize {
        lock(&self.permits).waiting.len()
    }

    fn release(&self) {
        let mut permits = lock(&self.permits);
        match permits.waiting.pop_front() {
            Some((_, first)) => {
                drop(permits);
                first.wake();
            }
            None => permits.free += 1,
        }
    }

    #[cold]
    pub(crate) fn exhausted(&self, waited: Duration) -> Error {
        ErrorKind::PoolExhausted { limit: self.limit as u64, waited }.into()
    }
}

impl<'a> Turn<'a> {
    pub(crate) fn new(semaphore: &'a Arc<Semaphore>) -> Self {
        Self { semaphore, ticket: None }
    }

    /// Takes a permit, or a place in the queue.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Permit> {
        // A runtime's waker is neither cloned nor dropped while the lock is held: it may own a future that takes it.
        let mut waker = waker.clone();
        let mut permits = lock(&self.semaphore.permits);
        let Permits { free, waiting, next } = &mut *permits;
        match self.ticket {
            None if *free > 0 => *free -= 1,
            None => {
                waiting.push_back((*next, waker));
                self.ticket = Some(*next);
                *next += 1;
                return Poll::Pending;
            }
            Some(ticket) => {
                if let Some((_, known)) = waiting.iter_mut().find(|(other, _)| *other == ticket) {
                    mem::swap(known, &mut waker);
                    drop(permits);
                    return Poll::Pending;
                }
                self.ticket = None;
            }
        }
        drop(permits);
        Poll::Ready(Permit(self.semaphore.clone()))
    }

    /// Blocks the thread until there is a permit, for `wait` at most.
    pub(crate) fn wait(mut self, wait: Option<Duration>) -> Option<Permit> {
        if wait == Some(Duration::ZERO) {
            let mut permits = lock(&self.semaphore.permits);
            permits.free = permits.free.checked_sub(1)?;
            return Some(Permit(self.semaphore.clone()));
        }
        if let Poll::Ready(permit) = self.poll(Waker::noop()) {
            return Some(permit);
        }
        // A deadline beyond what `Instant` can represent is no limit.
        let until = wait.and_then(|wait| Instant::now().checked_add(wait));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            // Before the clock is read: a permit that arrives at the deadline still counts.
            if let Poll::Ready(permit) = self.poll(&waker) {
                return Some(permit);
            }
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return None,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut permits = lock(&self.semaphore.permits);
        let place = permits.waiting.iter().position(|(other, _)| *other == ticket);
        let left = place.and_then(|place| permits.waiting.remove(place));
        drop(permits);
        if left.is_none() {
            // It was given a permit that it has not seen yet.
            self.semaphore.release();
        }
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Locks a mutex, also a poisoned one: nothing panics while it holds a lock of the pool, so its data is consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

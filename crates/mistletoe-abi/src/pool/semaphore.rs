//! How many sessions of a pool are in use, and who waits for one.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// How many sessions may be in use, and who waits for one.
pub(crate) struct Semaphore {
    limit: usize,
    permits: Mutex<Permits>,
}

struct Permits {
    /// None of them while anybody waits: a permit that is released goes to the first who waits.
    free: usize,
    /// Each with a way to wake whoever waits. Who is not in here any more has got one.
    waiting: VecDeque<(Ticket, Waker)>,
    next: Ticket,
}

/// A place in the queue.
type Ticket = u64;

/// Leave to use a session, given back when this is dropped.
pub(crate) struct Permit(Arc<Semaphore>);

/// A caller who asks for a permit. It leaves the queue when this is dropped.
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

    /// A permit, or a place in the queue.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Permit> {
        // A runtime's waker is neither cloned nor dropped with the lock held: it may hold a future that wants it, too.
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

    /// Blocks the thread until there is a permit, for so long at most.
    pub(crate) fn wait(mut self, wait: Option<Duration>) -> Option<Permit> {
        if wait == Some(Duration::ZERO) {
            let mut permits = lock(&self.semaphore.permits);
            permits.free = permits.free.checked_sub(1)?;
            return Some(Permit(self.semaphore.clone()));
        }
        if let Poll::Ready(permit) = self.poll(Waker::noop()) {
            return Some(permit);
        }
        // A time that is never reached is no limit.
        let until = wait.and_then(|wait| Instant::now().checked_add(wait));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            // Before the clock is looked at: one that came with the last moment is the caller's, too.
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
            // It has got one, and does not know.
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

/// What the pool's locks guard is never half-way: nothing panics while it holds one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

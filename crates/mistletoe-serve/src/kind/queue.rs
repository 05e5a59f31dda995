//! The requests of a route that wait for an instance, and the threads that take them.
//!
//! Many a guest runs for less time than it takes the system to switch to its thread. So a thread that is done with one
//! takes the next, and requests that come in together wake each thread once.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use mistletoe::protocol::Protocol;
use mistletoe::wasi::Wasi;
use mistletoe::{AnyProgram, Pool, PoolPermit, Reused};
use tokio::runtime::Handle;
use tokio::sync::oneshot::{self, error::RecvError};
use tokio::task;
use tokio::time::{self, sleep_until};

use crate::failure::Failure;
use crate::threads::{self, Threads};

/// Number of guests that a thread runs before it lets others have the thread. The system may give too few threads for
/// all routes, or a program may share its threads with a service. Between them, it may wait for [`STAY`] each time.
const TURNS: usize = 16;
/// How long a thread without work stays. To wake it takes one system call, and no lock that all routes share.
const STAY: Duration = Duration::from_millis(1);

/// A permit to use an instance.
pub(super) type Permit<P> = PoolPermit<AnyProgram<P, Wasi>, Reused>;

/// Work that waits for an instance, in FIFO order.
pub(super) struct Queue<P: Protocol> {
    pool: Pool<AnyProgram<P, Wasi>, Reused>,
    threads: Threads,
    waiting: Mutex<Waiting<P>>,
}

struct Waiting<P: Protocol> {
    work: VecDeque<Entry<P>>,
    next: Ticket,
    /// The threads that are about to begin what waits, once they have polled the other tasks that are ready.
    gathering: Vec<ThreadId>,
    /// Whether a task ends what waits for too long.
    is_watched: bool,
    /// Threads without work. Their number and that of instances in use are together at most the limit when one is added.
    idle: Vec<Arc<Idle<P>>>,
}

/// A place in the queue.
type Ticket = u64;

/// Called without a permit if it has waited for too long.
type Work<P> = Box<dyn FnOnce(Option<Permit<P>>) + Send>;

struct Entry<P: Protocol> {
    ticket: Ticket,
    work: Work<P>,
    /// When it has waited for too long. Later work waits until later. `None` is never.
    until: Option<time::Instant>,
}

/// A thread without work.
struct Idle<P: Protocol> {
    thread: Thread,
    /// What it is to do.
    work: Mutex<Option<(Permit<P>, Work<P>)>>,
}

/// Somebody whose work waits. It leaves the queue when this is dropped.
struct Place<'a, P: Protocol> {
    queue: &'a Queue<P>,
    ticket: Ticket,
}

/// The next work, for an instance that is kept for longer than its work. It begins when this is dropped, after the
/// permit.
pub(super) struct Turn<P: Protocol> {
    queue: Arc<Queue<P>>,
    runtime: Handle,
}

impl<P: Protocol> Turn<P> {
    pub(super) fn new(queue: &Arc<Queue<P>>) -> Self {
        Self { queue: queue.clone(), runtime: Handle::current() }
    }
}

impl<P: Protocol> Drop for Turn<P> {
    fn drop(&mut self) {
        if let Some((permit, entry)) = self.queue.next() {
            self.queue.begin(&self.runtime, permit, entry.work);
        }
    }
}

impl<P: Protocol> Queue<P> {
    pub(super) fn new(pool: &Pool<AnyProgram<P, Wasi>, Reused>, threads: &Threads) -> Arc<Self> {
        let waiting =
            Waiting { work: VecDeque::new(), next: 0, gathering: Vec::new(), is_watched: false, idle: Vec::new() };
        Arc::new(Self { pool: pool.clone(), threads: threads.clone(), waiting: Mutex::new(waiting) })
    }

    /// Returns how much work waits.
    pub(super) fn len(&self) -> usize {
        self.waiting().work.len()
    }

    /// Does work with an instance, on a thread for guests, and returns its result.
    ///
    /// Fails with [`Failure::Busy`] if no instance is free within `wait`, which is the same for all work that waits. If the
    /// future is dropped before that, the work is never done. If it is dropped later, the work goes on.
    pub(super) fn run<R: Send + 'static>(
        self: &Arc<Self>,
        wait: Duration,
        work: impl FnOnce(Permit<P>) -> R + Send + 'static,
    ) -> impl Future<Output = Result<R, Failure>> + Send {
        let (sender, result) = oneshot::channel();
        let work: Work<P> = Box::new(move |permit| {
            // Nobody waits for it if the client has left.
            let _ = sender.send(permit.map(work).ok_or(Failure::Busy));
        });
        async move {
            let place = self.push(work, time::Instant::now().checked_add(wait));
            let runtime = Handle::current();
            if wait.is_zero() {
                self.begin_all(&runtime);
                if place.leave() {
                    return Err(Failure::Busy);
                }
            } else if task::try_id().is_some() {
                self.gather(runtime);
            } else {
                // A guest's thread, or `block_on`: what gathers might not run before this thread waits.
                self.begin_all(&runtime);
                self.watch(&runtime);
            }
            received(result.await)
        }
    }

    /// Begins what waits after the other tasks that are ready on this thread, which may have work, too.
    ///
    /// Each thread does so for itself: none waits for the tasks of another one.
    fn gather(self: &Arc<Self>, runtime: Handle) {
        let thread = thread::current().id();
        let mut waiting = self.waiting();
        if !waiting.gathering.contains(&thread) {
            waiting.gathering.push(thread);
            drop(waiting);
            let gather = Gather { queue: self.clone(), thread, runtime: runtime.clone() };
            runtime.spawn(async move {
                task::yield_now().await;
                drop(gather);
            });
        }
    }

    /// Begins what waits, as far as there are instances.
    fn begin_all(self: &Arc<Self>, runtime: &Handle) {
        while let Some((permit, Entry { work, .. })) = self.next() {
            self.begin(runtime, permit, work);
        }
    }

    /// Ends what waits for too long from now on. There is one timer for all work that waits.
    fn watch(self: &Arc<Self>, runtime: &Handle) {
        let mut waiting = self.waiting();
        if !waiting.is_watched && waiting.work.front().is_some_and(|first| first.until.is_some()) {
            waiting.is_watched = true;
            drop(waiting);
            runtime.spawn(Watch { queue: Arc::downgrade(self), has_ended: false }.run());
        }
    }

    /// Begins work, on a thread that waits for it or on another one.
    fn begin(self: &Arc<Self>, runtime: &Handle, permit: Permit<P>, work: Work<P>) {
        // Not in the condition, which would keep the lock.
        let idle = self.waiting().idle.pop();
        if let Some(idle) = idle {
            *idle.work() = Some((permit, work));
            idle.thread.unpark();
        } else {
            let queue = self.clone();
            self.threads.spawn(runtime, move || queue.work(permit, work));
        }
    }

    /// Does this work, and then what waits.
    fn work(self: &Arc<Self>, mut permit: Permit<P>, mut work: Work<P>) {
        for _ in 0..TURNS {
            // Nobody else would take the rest after a panic, whose message is on standard error by now.
            drop(catch_unwind(AssertUnwindSafe(move || threads::guest(|| work(Some(permit))))));
            let next = self.next().map(|(permit, entry)| (permit, entry.work));
            if threads::is_lower() {
                if let Some((permit, work)) = next {
                    self.begin(&Handle::current(), permit, work);
                }
                return;
            }
            match next.or_else(|| self.stay()) {
                Some(next) => (permit, work) = next,
                None => return,
            }
        }
        let queue = self.clone();
        self.threads.spawn(&Handle::current(), move || queue.work(permit, work));
    }

    /// Waits for work on this thread, for a moment.
    fn stay(&self) -> Option<(Permit<P>, Work<P>)> {
        let idle = {
            let mut waiting = self.waiting();
            if waiting.idle.len() + self.pool.in_use() >= self.pool.limit() {
                return None;
            }
            let idle = Arc::new(Idle { thread: thread::current(), work: Mutex::new(None) });
            waiting.idle.push(idle.clone());
            idle
        };
        let until = Instant::now() + STAY;
        loop {
            if let Some(work) = idle.work().take() {
                return Some(work);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        let mut waiting = self.waiting();
        let place = waiting.idle.iter().position(|other| Arc::ptr_eq(other, &idle));
        match place {
            Some(place) => _ = waiting.idle.remove(place),
            None => {
                drop(waiting);
                // Somebody has work for it.
                loop {
                    if let Some(work) = idle.work().take() {
                        return Some(work);
                    }
                    thread::park();
                }
            }
        }
        None
    }

    /// Takes the first work, which has then begun, and an instance for it.
    ///
    /// No work is left behind while an instance is free: who adds work looks for an instance afterwards, or has a task do so, and who gives an
    /// instance back looks for work afterwards.
    fn next(&self) -> Option<(Permit<P>, Entry<P>)> {
        while self.len() > 0 {
            let permit = self.pool.try_acquire()?;
            // Not in the condition, which would keep the lock.
            let first = self.waiting().work.pop_front();
            if let Some(first) = first {
                return Some((permit, first));
            }
            // Another thread was quicker. The permit is given back before the next look.
        }
        None
    }

    fn push(&self, work: Work<P>, until: Option<time::Instant>) -> Place<'_, P> {
        let mut waiting = self.waiting();
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.work.push_back(Entry { ticket, work, until });
        Place { queue: self, ticket }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<P>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the result of work, which is lost if the work panics.
fn received<R>(result: Result<Result<R, Failure>, RecvError>) -> Result<R, Failure> {
    result.unwrap_or_else(|_| Err(Failure::Host("the thread of the guest panicked".to_owned())))
}

/// Begins what waits when this is dropped, also by a runtime that ends.
struct Gather<P: Protocol> {
    queue: Arc<Queue<P>>,
    thread: ThreadId,
    runtime: Handle,
}

impl<P: Protocol> Drop for Gather<P> {
    fn drop(&mut self) {
        let Self { queue, thread, runtime } = self;
        // First, so that whoever has work from now on gathers again.
        queue.waiting().gathering.retain(|other| other != thread);
        queue.begin_all(runtime);
        queue.watch(runtime);
    }
}

/// Ends the work that waits for too long. Once nothing waits, the next work needs another one.
struct Watch<P: Protocol> {
    queue: Weak<Queue<P>>,
    has_ended: bool,
}

impl<P: Protocol> Watch<P> {
    async fn run(mut self) {
        while let Some(until) = self.next() {
            sleep_until(until).await;
        }
    }

    /// Ends what has waited for too long by now. Returns when the next work will have.
    fn next(&mut self) -> Option<time::Instant> {
        let queue = self.queue.upgrade()?;
        // The clock that it sleeps by.
        let now = time::Instant::now();
        let mut ended = Vec::new();
        let mut waiting = queue.waiting();
        let until = loop {
            match waiting.work.front().and_then(|first| first.until) {
                Some(until) if until <= now => ended.extend(waiting.work.pop_front()),
                until => break until,
            }
        };
        self.has_ended = until.is_none();
        waiting.is_watched = !self.has_ended;
        drop(waiting);
        ended.into_iter().for_each(|entry| (entry.work)(None));
        until
    }
}

/// If its runtime ends, the next work needs another one, too.
impl<P: Protocol> Drop for Watch<P> {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(queue) = self.queue.upgrade()
        {
            queue.waiting().is_watched = false;
        }
    }
}

impl<P: Protocol> Idle<P> {
    fn work(&self) -> MutexGuard<'_, Option<(Permit<P>, Work<P>)>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Protocol> Place<'_, P> {
    /// Removes the work, unless it has begun. Returns whether it was removed.
    fn leave(&self) -> bool {
        let mut waiting = self.queue.waiting();
        // In the order of their tickets.
        let place = waiting.work.binary_search_by_key(&self.ticket, |entry| entry.ticket);
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
    use std::future::poll_fn;
    use std::sync::mpsc::{Sender, channel};
    use std::task::Poll;

    use mistletoe::Limits;
    use mistletoe::protocol::WasiCommand;
    use mistletoe::wasi::imports;
    use tokio::runtime::{Builder, Runtime};
    use tokio::task::{JoinHandle, yield_now};
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(100);

    type Result<R> = std::result::Result<R, Failure>;

    /// A queue with one instance.
    fn queue() -> Arc<Queue<WasiCommand>> {
        queue_on(&Threads::new().expect("a thread"))
    }

    fn queue_on(threads: &Threads) -> Arc<Queue<WasiCommand>> {
        let wasm =
            wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).expect("a module");
        let backend = mistletoe::backend("wasmi").expect("an engine");
        let program = AnyProgram::with_protocol(WasiCommand, &backend, &wasm, &imports::<Wasi>(), Limits::default());
        Queue::new(&Pool::new(&program.expect("a program"), 1).reused(), threads)
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
    fn work_of_tasks_that_are_ready_together_begins_after_them() {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let queue = queue();
        runtime.block_on(async {
            let tasks = [1, 2, 3].map(|number| begin(&queue, number));
            let seen = tokio::spawn({
                let queue = queue.clone();
                async move { (queue.len(), queue.pool.in_use()) }
            });
            assert!(matches!(seen.await, Ok((3, 0))));
            for (number, task) in (1..).zip(tasks) {
                assert!(matches!(task.await, Ok(Ok(done)) if done == number));
            }
        });
        // A runtime that ends before it comes to that leaves the queue to the next one.
        let lost = runtime.spawn({
            let queue = queue.clone();
            async move { queue.run(LONG, |_| ()).await }
        });
        runtime.block_on(async {
            while queue.len() == 0 {
                yield_now().await;
            }
            assert_eq!(queue.waiting().gathering, [thread::current().id()]);
        });
        drop(runtime);
        Runtime::new().expect("a runtime").block_on(async {
            assert!(lost.await.is_err() && queue.waiting().gathering.is_empty());
            assert!(matches!(timeout(LONG, begin(&queue, 4)).await, Ok(Ok(Ok(4)))));
        });
    }

    #[test]
    fn work_waits_for_no_task_of_another_thread() {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
        let queue = queue();
        runtime.block_on(async {
            let (begun, has_begun) = oneshot::channel();
            let (end, ended) = channel::<()>();
            let first = tokio::spawn({
                let queue = queue.clone();
                async move {
                    let mut work = Box::pin(queue.run(LONG, |_| 1));
                    let is_done = poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_ready())).await;
                    begun.send(is_done).expect("a receiver");
                    // It keeps its thread.
                    let _ = ended.recv();
                    work.await
                }
            });
            assert_eq!(has_begun.await, Ok(false));
            assert!(matches!(timeout(LONG, begin(&queue, 2)).await, Ok(Ok(Ok(2)))));
            drop(end);
            assert!(matches!(first.await, Ok(Ok(1))));
        });
    }

    #[test]
    fn work_that_waits_for_too_long_is_refused() {
        Runtime::new().expect("a runtime").block_on(async {
            let queue = queue();
            let (end, task) = panics(&queue).await;
            // One after the other, and several at once: each time, there is one watch.
            for count in [1, 1, 3] {
                let short = Duration::from_millis(1);
                let waiting: Vec<_> = (0..count)
                    .map(|_| {
                        let queue = queue.clone();
                        tokio::spawn(async move { queue.run(short, |_| ()).await })
                    })
                    .collect();
                for task in waiting {
                    let result = timeout(LONG, task).await.expect("it ends").expect("no panic");
                    assert!(matches!(result, Err(Failure::Busy)));
                }
            }
            assert_eq!(queue.len(), 0);
            while queue.waiting().is_watched {
                yield_now().await;
            }
            drop(end);
            assert!(task.await.is_ok_and(|result| result.is_err()));
        });
    }

    #[test]
    fn work_begins_when_an_instance_that_was_kept_is_given_back() {
        Runtime::new().expect("a runtime").block_on(async {
            let queue = queue();
            let turn = Turn::new(&queue);
            let kept = queue.run(LONG, move |permit| (permit, turn)).await;
            assert!(kept.is_ok());
            let waiting = [begin(&queue, 1), begin(&queue, 2)];
            while queue.len() < 2 {
                yield_now().await;
            }
            // The permit first.
            drop(kept);
            for (number, task) in (1..).zip(waiting) {
                let result = timeout(LONG, task).await.expect("it begins").expect("no panic");
                assert!(matches!(result, Ok(result) if result == number));
            }
            assert_eq!((queue.len(), queue.pool.in_use()), (0, 0));
        });
    }

    #[test]
    fn work_that_has_an_instance_is_not_refused_for_want_of_a_thread() {
        Runtime::new().expect("a runtime").block_on(async {
            let threads = Threads::limited(1);
            let (end, ended) = channel::<()>();
            let busy = threads.run(move || ended.recv().is_err());
            let queue = queue_on(&threads);
            let mut waiting = Box::pin(queue.run(Duration::from_millis(1), |_| 1));
            let early = timeout(Duration::from_millis(50), &mut waiting).await;
            assert!(early.is_err(), "the thread is in use");
            drop(end);
            assert!(matches!(waiting.await, Ok(1)) && busy.await.is_ok());
        });
    }

    #[test]
    fn a_busy_queue_leaves_threads_to_the_others() {
        Runtime::new().expect("a runtime").block_on(async {
            let threads = Threads::limited(1);
            let (end, ended) = channel::<()>();
            let busy = threads.run(move || ended.recv().is_err());
            let (one, other) = (queue_on(&threads), queue_on(&threads));
            let (log, lines) = channel();
            let begin = |queue: &Arc<Queue<WasiCommand>>, name: &'static str| {
                let (queue, log) = (queue.clone(), log.clone());
                tokio::spawn(async move { queue.run(LONG, move |_| log.send(name).is_ok()).await })
            };
            let mut tasks: Vec<_> = (0..50).map(|_| begin(&one, "one")).collect();
            // The first has the instance, and waits for the thread.
            while one.len() < 49 {
                yield_now().await;
            }
            tasks.push(begin(&other, "other"));
            while other.pool.in_use() == 0 {
                yield_now().await;
            }
            drop(end);
            for task in tasks {
                assert!(matches!(task.await.expect("no panic"), Ok(true)));
            }
            assert!(busy.await.is_ok());
            drop(log);
            let before = lines.iter().take_while(|name| *name == "one").count();
            assert!(before < 50, "the other queue comes last");
        });
    }

    #[test]
    fn threads_that_stay_are_no_more_than_instances() {
        Runtime::new().expect("a runtime").block_on(async {
            let queue = queue();
            for number in 0..1_000 {
                assert!(matches!(begin(&queue, number).await, Ok(Ok(done)) if done == number));
                // Threads that ran before may still stay.
                assert!(queue.waiting().idle.len() <= queue.pool.limit());
            }
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

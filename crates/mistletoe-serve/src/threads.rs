//! Threads for guests.
//!
//! Guests block, so each has a thread while it runs. Threads are kept for the next guests, as tokio keeps its own. What
//! tokio's cannot do is to end after a guest that has computed for long: on Linux, such a guest gets a lower priority, so
//! that short requests of other routes do not wait for it, and a thread does not get its priority back.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::failure::Failure;

/// How long a thread waits for work before it ends.
const KEEP: Duration = Duration::from_secs(10);
/// Interval at which guests are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Number of guests that are looked at each time. A look takes the system some microseconds.
const AT_ONCE: usize = 64;
/// The time of a processor after which a guest gets a lower priority, in nanoseconds, from the first look on.
const LONG: u64 = 10_000_000;
/// Number of looks after which the thread that looks goes to sleep, if no guest runs. To wake it for each request of a
/// server with little to do would take longer than to look.
const LOOKS: u32 = 50;

/// Threads that guests share. Clones are the same threads, which end with the last of them.
#[derive(Clone)]
pub(crate) struct Threads(Arc<Owner>);

struct Owner(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Wakes a thread for work.
    work: Condvar,
    /// Wakes the thread that looks at guests.
    look: Condvar,
    /// Wakes whoever waits for the guests' end.
    idle: Condvar,
    /// Number of threads that tests let it start.
    #[cfg(test)]
    limit: usize,
}

#[derive(Default)]
struct State {
    work: VecDeque<(Handle, Work)>,
    threads: Vec<Arc<Thread>>,
    /// Number of threads that wait for work.
    idle: usize,
    is_looking: bool,
    /// Whether the thread that looks at guests waits for a guest.
    is_asleep: bool,
    is_closed: bool,
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread, as others see it.
struct Thread {
    system: system::Thread,
    /// Number of the guest that runs; even between two guests.
    guest: AtomicU64,
    /// Whether it has a lower priority.
    is_lower: AtomicBool,
    /// The guest that ran at the last look.
    seen: AtomicU64,
    /// The time of a processor that the thread had used when that guest was first seen, in nanoseconds.
    used: AtomicU64,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Thread>>> = const { RefCell::new(None) };
}

impl Threads {
    /// Starts a first thread, so that there is one whatever happens to the system later.
    pub(crate) fn new() -> io::Result<Self> {
        Self::start(Shared::new())
    }

    /// Returns threads on a system that gives so many.
    #[cfg(test)]
    pub(crate) fn limited(limit: usize) -> Self {
        let threads = Self::start(Shared { limit, ..Shared::new() }).expect("a thread");
        while threads.0.0.state().threads.is_empty() {
            thread::yield_now();
        }
        threads
    }

    fn start(shared: Shared) -> io::Result<Self> {
        let shared = Arc::new(shared);
        shared.start()?;
        Ok(Self(Arc::new(Owner(shared))))
    }

    /// Does work on a thread, within the runtime. If the system gives no further thread, the work waits for one.
    pub(crate) fn spawn(&self, runtime: &Handle, work: impl FnOnce() + Send + 'static) {
        self.0.0.spawn(runtime.clone(), Box::new(work));
    }

    /// Waits until no thread has work, for at most `time`. Returns whether that is so.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let shared = &*self.0.0;
        let has_work = |state: &mut State| !state.work.is_empty() || state.idle < state.threads.len();
        let waited = shared.idle.wait_timeout_while(shared.state(), time, has_work);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Runs a guest on a thread. It goes on if nobody waits for its result.
    pub(crate) fn run<R: Send + 'static>(&self, run: impl FnOnce() -> R + Send + 'static) -> Running<R> {
        let (sender, result) = oneshot::channel();
        self.spawn(&Handle::current(), move || drop(sender.send(guest(run))));
        Running(result)
    }
}

/// A guest that runs on a thread.
pub(crate) struct Running<R>(oneshot::Receiver<R>);

impl<R> Future for Running<R> {
    type Output = Result<R, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.0).poll(context);
        result.map_err(|_| Failure::Host("the thread of the guest panicked".to_owned()))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.work.notify_all();
        self.0.look.notify_all();
    }
}

/// Runs a guest on this thread.
pub(crate) fn guest<R>(run: impl FnOnce() -> R) -> R {
    struct Running(Option<Arc<Thread>>);

    impl Drop for Running {
        fn drop(&mut self) {
            if let Some(thread) = &self.0 {
                thread.guest.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    let thread = CURRENT.with_borrow(Clone::clone);
    if let Some(thread) = &thread {
        thread.guest.fetch_add(1, Ordering::Relaxed);
    }
    let _running = Running(thread);
    run()
}

/// Returns whether this thread has a lower priority, so that it should do nothing else.
pub(crate) fn is_lower() -> bool {
    CURRENT.with_borrow(|thread| thread.as_ref().is_some_and(|thread| thread.is_lower()))
}

impl Thread {
    fn current() -> Self {
        let [guest, seen, used] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { system: system::Thread::current(), guest, is_lower: AtomicBool::new(false), seen, used }
    }

    fn is_lower(&self) -> bool {
        self.is_lower.load(Ordering::Relaxed)
    }

    /// Returns the number of the guest, if it has used a processor for long and has no lower priority yet.
    fn computes(&self) -> Option<u64> {
        let guest = self.guest.load(Ordering::Relaxed);
        if guest.is_multiple_of(2) || self.is_lower() {
            return None;
        }
        let used = self.system.time()?;
        if self.seen.swap(guest, Ordering::Relaxed) != guest {
            self.used.store(used, Ordering::Relaxed);
            return None;
        }
        (used.saturating_sub(self.used.load(Ordering::Relaxed)) >= LONG).then_some(guest)
    }
}

impl State {
    /// Takes a thread from the list, unless it is needed: there is work, or it is the last one. Returns whether it may end.
    fn let_go(&mut self, thread: &Arc<Thread>) -> bool {
        let may_end = self.work.is_empty() && self.threads.len() > 1;
        if may_end {
            self.threads.retain(|other| !Arc::ptr_eq(other, thread));
        }
        may_end
    }
}

/// Takes a thread from the list when it ends.
struct Leaving<'a> {
    shared: &'a Shared,
    thread: &'a Arc<Thread>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.shared.state().threads.retain(|other| !Arc::ptr_eq(other, self.thread));
        self.shared.idle.notify_all();
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            look: Condvar::new(),
            idle: Condvar::new(),
            #[cfg(test)]
            limit: usize::MAX,
        }
    }

    fn spawn(self: &Arc<Self>, runtime: Handle, work: Work) {
        let mut state = self.state();
        state.work.push_back((runtime, work));
        let is_first_look = !state.is_looking && system::HAS_PRIORITIES;
        state.is_looking |= is_first_look;
        if state.is_asleep {
            state.is_asleep = false;
            self.look.notify_one();
        }
        let has_thread = state.idle >= state.work.len();
        drop(state);
        if has_thread {
            self.work.notify_one();
        } else {
            // The threads that there are do the work otherwise.
            let _ = self.start();
        }
        if is_first_look {
            let shared = self.clone();
            let looking = thread::Builder::new().name("priorities".to_owned()).spawn(move || shared.look());
            self.state().is_looking = looking.is_ok();
        }
    }

    /// Starts a thread.
    fn start(self: &Arc<Self>) -> io::Result<()> {
        let shared = self.clone();
        #[cfg(test)]
        if self.state().threads.len() >= self.limit {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let spawned = thread::Builder::new().name("guest".to_owned()).spawn(move || shared.work());
        spawned.map(drop)
    }

    /// Does work until there has been none for a while.
    fn work(self: &Arc<Self>) {
        let thread = Arc::new(Thread::current());
        CURRENT.set(Some(thread.clone()));
        self.state().threads.push(thread.clone());
        // Before the lock, so that the lock is dropped before this is.
        let _leaving = Leaving { shared: self, thread: &thread };
        let mut state = self.state();
        loop {
            if let Some((runtime, work)) = state.work.pop_front() {
                drop(state);
                {
                    let _context = runtime.enter();
                    // The message is on standard error by now.
                    drop(catch_unwind(AssertUnwindSafe(work)));
                }
                drop(runtime);
                state = self.state();
                if thread.is_lower() {
                    if state.let_go(&thread) {
                        return;
                    }
                    drop(state);
                    // If the system gives no other thread, this one goes on as it is.
                    if self.start().is_ok() {
                        return;
                    }
                    state = self.state();
                }
                continue;
            }
            if state.is_closed {
                return;
            }
            state.idle += 1;
            self.idle.notify_all();
            let (waited, timeout) = self.work.wait_timeout(state, KEEP).unwrap_or_else(PoisonError::into_inner);
            state = waited;
            state.idle -= 1;
            if timeout.timed_out() && state.let_go(&thread) {
                return;
            }
        }
    }

    /// Lowers the priorities of guests that compute for long.
    fn look(&self) {
        let (mut looks, mut first) = (0, 0);
        loop {
            let running = {
                let mut state = self.state();
                if state.is_closed {
                    return;
                }
                if looks < LOOKS {
                    state = self.look.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
                    looks += 1;
                } else {
                    state.is_asleep = true;
                    state = self.look.wait(state).unwrap_or_else(PoisonError::into_inner);
                    looks = 0;
                }
                if state.idle < state.threads.len() {
                    looks = 0;
                }
                // All, if they are not many. Else the next ones come with the next look.
                let threads = state.threads.iter().cycle().skip(first % state.threads.len().max(1));
                let running: Vec<_> = threads.take(state.threads.len().min(AT_ONCE)).cloned().collect();
                first = first.wrapping_add(running.len());
                running
            };
            // The system is asked without the lock.
            for thread in running {
                if let Some(guest) = thread.computes() {
                    // With it, so that nobody changes the priority of another thread that gets the same number.
                    let state = self.state();
                    let is_there = state.threads.iter().any(|other| Arc::ptr_eq(other, &thread));
                    if is_there && thread.guest.load(Ordering::Relaxed) == guest {
                        thread.is_lower.store(thread.system.lower_priority(), Ordering::Relaxed);
                    }
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(target_os = "linux")]
mod system {
    //! Threads have priorities of their own.

    use std::fs;

    use rustix::process::{Pid, getpriority_process, setpriority_process};
    use rustix::thread::gettid;

    pub(super) const HAS_PRIORITIES: bool = true;

    /// What is added to the nice value. The system then gives the thread a ninth of the time that another one gets.
    const NICER: i32 = 10;
    /// The greatest nice value.
    const NICEST: i32 = 19;

    pub(super) struct Thread(Pid);

    impl Thread {
        pub(super) fn current() -> Self {
            Self(gettid())
        }

        /// Returns the time of a processor that the thread has used, in nanoseconds, if the system says so.
        pub(super) fn time(&self) -> Option<u64> {
            let path = format!("/proc/self/task/{}/schedstat", self.0.as_raw_nonzero());
            fs::read_to_string(path).ok()?.split(' ').next()?.parse().ok()
        }

        /// Returns whether the thread now has a lower priority. Only a privileged process could give it back.
        pub(super) fn lower_priority(&self) -> bool {
            let nice = getpriority_process(Some(self.0)).map(|nice| nice.saturating_add(NICER).min(NICEST));
            nice.and_then(|nice| setpriority_process(Some(self.0), nice)).is_ok()
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    //! Threads have no priorities of their own that another thread can change.

    pub(super) const HAS_PRIORITIES: bool = false;

    pub(super) struct Thread;

    impl Thread {
        pub(super) fn current() -> Self {
            Self
        }

        pub(super) fn time(&self) -> Option<u64> {
            None
        }

        pub(super) fn lower_priority(&self) -> bool {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tokio::runtime::Runtime;

    use super::*;

    fn run<R>(test: impl AsyncFnOnce(&Threads) -> R) -> R {
        let threads = Threads::new().expect("a thread");
        Runtime::new().expect("a runtime").block_on(test(&threads))
    }

    #[test]
    fn a_guest_runs_within_the_runtime_and_a_panic_ends_nothing_else() {
        run(async |threads| {
            assert!(threads.run(|| Handle::try_current().is_ok()).await.expect("a result"));
            let panicked = threads.run(|| panic!("a test")).await;
            assert!(matches!(panicked, Err(Failure::Host(_))));
            assert_eq!(threads.run(|| 1).await.expect("a result"), 1);
        });
    }

    #[test]
    fn of_the_last_two_threads_one_stays() {
        let threads: Vec<_> = (0..3).map(|_| Arc::new(Thread::current())).collect();
        let mut state = State { threads: threads.clone(), ..State::default() };
        assert!(threads.iter().map(|thread| state.let_go(thread)).eq([true, true, false]));
        let mut state = State { threads: threads.clone(), ..State::default() };
        let runtime = Runtime::new().expect("a runtime");
        state.work.push_back((runtime.handle().clone(), Box::new(|| ())));
        assert!(!state.let_go(&threads[0]), "there is work");
    }

    #[test]
    fn guests_run_at_once_and_threads_end_with_their_service() {
        let shared = run(async |threads| {
            let (to_second, from_first) = channel();
            let (to_first, from_second) = channel();
            let first = threads.run(move || (to_second.send(()), from_second.recv()).1.is_ok());
            let second = threads.run(move || from_first.recv().is_ok() && to_first.send(()).is_ok());
            assert!(first.await.expect("a result") && second.await.expect("a result"));

            let (end, ended) = channel::<()>();
            let waits = threads.run(move || ended.recv().is_err());
            assert!(!threads.wait(Duration::from_millis(1)), "a guest runs");
            drop(end);
            assert!(threads.wait(Duration::from_secs(100)) && waits.await.expect("a result"));
            Arc::downgrade(&threads.0.0)
        });
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn work_waits_for_a_thread_where_the_system_gives_no_more_and_is_done_before_the_end() {
        let (done, results) = channel();
        Runtime::new().expect("a runtime").block_on(async {
            let threads = Threads::limited(1);
            let (end, ended) = channel::<()>();
            let waits = threads.run(move || ended.recv().is_err());
            for number in 0..3 {
                let done = done.clone();
                threads.spawn(&Handle::current(), move || done.send(number).expect("a receiver"));
            }
            drop(done);
            // It goes before the work is begun.
            drop(threads);
            assert!(results.try_recv().is_err());
            drop(end);
            assert!(waits.await.expect("a result"));
            assert_eq!(results.iter().collect::<Vec<_>>(), [0, 1, 2]);
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_last_thread_stays_also_with_a_lower_priority() {
        Runtime::new().expect("a runtime").block_on(async {
            let threads = Threads::limited(1);
            let computes = || {
                let until = std::time::Instant::now() + Duration::from_secs(100);
                while !is_lower() && std::time::Instant::now() < until {
                    std::hint::spin_loop();
                }
                is_lower()
            };
            assert!(threads.run(computes).await.expect("a result"));
            // There is no other one.
            assert!(threads.run(is_lower).await.expect("a result"));
            assert!(threads.wait(Duration::from_secs(100)));
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_guest_that_computes_for_long_has_a_lower_priority_and_no_other_one() {
        use rustix::process::getpriority_process;
        use rustix::thread::gettid;

        let nice = || getpriority_process(Some(gettid())).expect("a priority");
        run(async |threads| {
            let before = threads.run(nice).await.expect("a result");
            let (begun, has_begun) = channel();
            let (end, ended) = channel::<()>();
            let waits = threads.run(move || {
                begun.send(()).expect("a receiver");
                let _ = ended.recv();
                (is_lower(), nice())
            });
            has_begun.recv().expect("a guest");
            let computes = threads.run(move || {
                let until = std::time::Instant::now() + Duration::from_secs(100);
                while !is_lower() && std::time::Instant::now() < until {
                    std::hint::spin_loop();
                }
                nice()
            });
            assert_eq!(computes.await.expect("a result"), (before + 10).min(19));
            drop(end);
            assert_eq!(waits.await.expect("a result"), (false, before));
            for _ in 0..10 {
                assert_eq!(threads.run(nice).await.expect("a result"), before);
            }
        });
    }
}

//! Pools of sessions, for hosts that handle many calls: a cap on concurrent sessions, and a FIFO queue of callers.

use std::fmt;
#[cfg(feature = "async")]
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::cancel::CancelHandle;
use crate::error::Result;
use crate::program::any::{AnyProgram, AnyProgramSession};
use crate::program::{Program, ProgramSession};
use crate::protocol::traits::Protocol;
use sealed::Idle as _;
use semaphore::{Permit, Semaphore, Turn, lock};

mod semaphore;

/// A pool of sessions of one program, of which at most `limit` are in use at once.
///
/// Cloning it is cheap; clones are the same pool. The program may be for any protocol and backend:
/// `Pool<Package<B>>`, `Pool<AnyHandler>`.
///
/// The mode `M` decides what happens to a session after use:
///
/// - [`Fresh`], made by [`Pool::new`]: each session is a new instance, with nothing left of earlier calls.
/// - [`Reused`], made by [`Pool::reused`]: sessions are used again, with memory, globals and the state `T` as the last
///   use left them. This is faster, but the package must not mix up calls.
///
/// # Limit
///
/// A session is in use until its [`PooledSession`] is dropped. A reused pool keeps idle sessions as long as the pool or
/// a clone of it exists, or until it is [pruned](Pool::prune). It never has more than `limit` sessions, in use and idle
/// together.
///
/// A pool with a limit of 0 is always exhausted.
///
/// # Threads
///
/// Threads can share a pool, and a thread may get a session that another thread opened.
///
/// ```
/// use std::thread;
///
/// use mistletoe_abi::{AnyPackage, Pool, Result};
///
/// /// Answers on eight threads, on any backend, with four sessions in use at most.
/// fn answer(package: &AnyPackage, inputs: [&str; 8]) -> Result<()> {
///     let pool = Pool::new(package, 4).reused();
///     thread::scope(|scope| {
///         let answers = inputs.map(|input| scope.spawn(|| pool.generate(input)));
///         answers.into_iter().try_for_each(|answer| answer.join().expect("no panic").map(drop))
///     })
/// }
/// ```
///
/// If a backend's instances are not `Send`, its sessions stay on the threads that opened them. Threads can still share
/// a fresh pool of them, and each thread can make its own reused pool from it. `limit` caps the sessions in use in all
/// these pools together; each pool keeps its own idle sessions.
///
/// A thread that requests a session while it holds others may wait for its own sessions.
pub struct Pool<P: Sessions, M: Mode = Fresh> {
    shared: Arc<Shared<P, M>>,
    wait: Option<Duration>,
}

/// What clones of a pool share. One reference to it is all that a session needs.
struct Shared<P: Sessions, M: Mode> {
    program: P,
    state: Arc<dyn Fn() -> P::State + Send + Sync>,
    semaphore: Arc<Semaphore>,
    idle: M::Idle<P::Session>,
}

/// A session of a [`Pool`], in use until this is dropped. It is `Send` if the backend's instances are.
///
/// A reused pool keeps the session for the next caller, even after an error, except in these cases:
///
/// - It is poisoned ([`ProgramSession::fault`]).
/// - It is dropped during a panic, which may have left it in an inconsistent state.
/// - It is [discarded](PooledSession::discard).
///
/// Its permit is released in every case.
pub struct PooledSession<P: Sessions, M: Mode = Fresh> {
    /// `Some` until this is dropped.
    session: Option<P::Session>,
    pool: Arc<Shared<P, M>>,
    /// Dropped last, since it is the last field: when the next caller gets the permit, the session is idle or gone.
    _permit: Permit,
}

/// A permit to use a session of a [`Pool`], from [`Pool::acquire`] or [`Pool::try_acquire`].
///
/// It counts as a session in use until it is dropped, or until the session opened with it is dropped.
#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
pub struct PoolPermit<P: Sessions, M: Mode = Fresh> {
    pool: Arc<Shared<P, M>>,
    permit: Permit,
}

/// A program that a [`Pool`] can open sessions of: [`Program`] or [`AnyProgram`]. The trait is sealed.
pub trait Sessions: Clone {
    /// The state of a session.
    type State: Send + 'static;
    /// A session.
    type Session;

    #[doc(hidden)]
    fn open(&self, state: Self::State, cancel: Option<&CancelHandle>, _: sealed::Pool) -> Result<Self::Session>;

    /// Replaces the state of a session.
    #[doc(hidden)]
    fn set_state(session: &mut Self::Session, state: Self::State, _: sealed::Pool);

    /// Replaces the handle that cancels the session's calls from now on, or removes it.
    #[doc(hidden)]
    fn set_cancel_handle(session: &mut Self::Session, handle: Option<CancelHandle>, _: sealed::Pool);

    /// Returns whether a session can take another request, as far as can be known in advance.
    #[doc(hidden)]
    fn is_usable(session: &Self::Session, _: sealed::Pool) -> bool;
}

impl<P: Protocol, B: Backend, T: Send + 'static> Sessions for Program<P, B, T> {
    type State = T;
    type Session = ProgramSession<P, B, T>;

    fn open(&self, state: T, cancel: Option<&CancelHandle>, _: sealed::Pool) -> Result<ProgramSession<P, B, T>> {
        self.open(Box::new(state), cancel)
    }

    fn set_state(session: &mut ProgramSession<P, B, T>, state: T, _: sealed::Pool) {
        *session.state_mut() = state;
    }

    fn set_cancel_handle(session: &mut ProgramSession<P, B, T>, handle: Option<CancelHandle>, _: sealed::Pool) {
        session.set_cancel_handle(handle);
    }

    fn is_usable(session: &ProgramSession<P, B, T>, _: sealed::Pool) -> bool {
        session.is_usable()
    }
}

impl<P: Protocol, T: Send + 'static> Sessions for AnyProgram<P, T> {
    type State = T;
    type Session = AnyProgramSession<P, T>;

    fn open(&self, state: T, cancel: Option<&CancelHandle>, _: sealed::Pool) -> Result<AnyProgramSession<P, T>> {
        self.open(state, cancel)
    }

    fn set_state(session: &mut AnyProgramSession<P, T>, state: T, _: sealed::Pool) {
        *session.state_mut() = state;
    }

    fn set_cancel_handle(session: &mut AnyProgramSession<P, T>, handle: Option<CancelHandle>, _: sealed::Pool) {
        session.set_cancel_handle(handle);
    }

    fn is_usable(session: &AnyProgramSession<P, T>, _: sealed::Pool) -> bool {
        session.is_usable()
    }
}

/// The mode of a pool, which decides what happens to a session after use: [`Fresh`] or [`Reused`].
pub trait Mode: sealed::Mode {}

/// The mode of pools whose sessions are used once.
#[derive(Debug)]
pub enum Fresh {}

/// The mode of pools whose sessions are used again.
#[derive(Debug)]
pub enum Reused {}

impl Mode for Fresh {}
impl Mode for Reused {}

mod sealed {
    /// A token that only a pool can make.
    #[derive(Debug)]
    pub struct Pool;

    use std::sync::Mutex;
    use std::time::Instant;

    use crate::pool::semaphore::lock;

    pub trait Mode {
        /// The idle sessions. Whether this type is `Send` and `Sync` decides whether the pool is.
        type Idle<S>: Idle<S>;
    }

    pub trait Idle<S> {
        fn take(&self) -> Option<S>;
        fn keep(&self, session: S);
    }

    impl Mode for super::Fresh {
        type Idle<S> = ();
    }

    impl<S> Idle<S> for () {
        fn take(&self) -> Option<S> {
            None
        }

        fn keep(&self, _: S) {}
    }

    impl Mode for super::Reused {
        /// The sessions with the times of their last use, which only increase.
        type Idle<S> = Mutex<Vec<(Instant, S)>>;
    }

    impl<S> Idle<S> for Mutex<Vec<(Instant, S)>> {
        /// Takes the most recently used session, which the processor's caches may still hold. The others become idle
        /// for long enough to be pruned.
        fn take(&self) -> Option<S> {
            lock(self).pop().map(|(_, session)| session)
        }

        fn keep(&self, session: S) {
            let mut idle = lock(self);
            // With the lock held, so that the times increase.
            idle.push((Instant::now(), session));
        }
    }
}

impl<P: Sessions> Pool<P> {
    /// Returns a pool of fresh sessions with the default state.
    ///
    /// `limit` is the number of sessions that may be in use at once.
    pub fn new(program: &P, limit: usize) -> Self
    where
        P::State: Default,
    {
        Self::with_state(program, limit, P::State::default)
    }

    /// Returns a pool of fresh sessions, each with a state made by `state`.
    ///
    /// `limit` is the number of sessions that may be in use at once.
    pub fn with_state(program: &P, limit: usize, state: impl Fn() -> P::State + Send + Sync + 'static) -> Self {
        let semaphore = Arc::new(Semaphore::new(limit));
        let shared = Shared { program: program.clone(), state: Arc::new(state), semaphore, idle: () };
        Self { shared: Arc::new(shared), wait: Some(Duration::from_secs(10)) }
    }

    /// Returns a pool that reuses its sessions, with none open yet. Both pools share one limit.
    pub fn reused(&self) -> Pool<P, Reused> {
        let Shared { program, state, semaphore, .. } = &*self.shared;
        let (program, state, semaphore) = (program.clone(), state.clone(), semaphore.clone());
        Pool { shared: Arc::new(Shared { program, state, semaphore, idle: Mutex::default() }), wait: self.wait }
    }
}

impl<P: Sessions> Pool<P, Reused> {
    /// Returns the number of idle sessions, which this pool and its clones keep.
    pub fn idle(&self) -> usize {
        lock(&self.shared.idle).len()
    }

    /// Closes the idle sessions whose last use ended before `time`, and returns their number.
    ///
    /// A pool has no thread of its own. Call this at an interval to limit how long a session stays idle:
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// use mistletoe_abi::{AnyPackage, Pool, Reused};
    ///
    /// /// Closes the sessions that have been idle for more than a minute.
    /// fn tick(pool: &Pool<AnyPackage, Reused>) {
    ///     if let Some(time) = Instant::now().checked_sub(Duration::from_secs(60)) {
    ///         pool.prune(time);
    ///     }
    /// }
    /// ```
    pub fn prune(&self, time: Instant) -> usize {
        let mut idle = lock(&self.shared.idle);
        let count = idle.partition_point(|(last_use, _)| *last_use < time);
        let closed: Vec<_> = idle.drain(..count).collect();
        // Closing a session takes time, and runs the destructor of its state.
        drop(idle);
        closed.len()
    }
}

impl<P: Sessions, M: Mode> Pool<P, M> {
    /// Sets how long a caller waits for a session at most; the default is 10 seconds.
    ///
    /// Zero fails at once if no session is free; `None` waits without a limit.
    pub fn wait(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.wait = wait.into();
        self
    }

    /// Returns a session for exclusive use.
    ///
    /// If `limit` sessions are in use, it blocks until one is returned. Callers are served in FIFO order.
    ///
    /// # Errors
    ///
    /// [`PoolExhausted`](crate::ErrorKind::PoolExhausted) if no session is returned within the [wait](Pool::wait), and
    /// the errors of [`Program::session_with`].
    pub fn session(&self) -> Result<PooledSession<P, M>> {
        self.shared.clone().open(self.wait_for_permit()?, None, None)
    }

    /// Returns a session as [`Pool::session`] does, which another thread can cancel.
    ///
    /// The handle cancels the opening of the session, and its calls as long as it is in use. It does not cancel the
    /// wait for a session.
    ///
    /// # Errors
    ///
    /// As [`Pool::session`], and [`Cancelled`](crate::ErrorKind::Cancelled).
    pub fn session_with_cancel(&self, handle: &CancelHandle) -> Result<PooledSession<P, M>> {
        self.shared.clone().open(self.wait_for_permit()?, None, Some(handle))
    }

    /// Waits for a permit to use a session, without a time limit and without blocking the thread.
    ///
    /// It works on any runtime: the caller that returns a session wakes the next task. Callers are served in FIFO
    /// order. A future that is dropped leaves the queue. A future that is neither polled nor dropped keeps the permit
    /// that it was given.
    ///
    /// Opening a session and calling it block, so do both on a thread for blocking work:
    ///
    /// ```
    /// use mistletoe_abi::{AnyPackage, CancelHandle, Pool, Reused, Result};
    ///
    /// /// `spawn_blocking` is the runtime's. Where the future is dropped, the guest is cancelled.
    /// async fn answer<S, F>(pool: &Pool<AnyPackage, Reused>, input: String, spawn_blocking: S) -> Result<String>
    /// where
    ///     S: FnOnce(Box<dyn FnOnce() -> Result<String> + Send>) -> F,
    ///     F: Future<Output = Result<String>>,
    /// {
    ///     let permit = pool.acquire().await?;
    ///     let handle = CancelHandle::new();
    ///     let _guard = handle.clone().drop_guard();
    ///     spawn_blocking(Box::new(move || permit.session_with_cancel(&handle)?.generate(&input))).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`PoolExhausted`](crate::ErrorKind::PoolExhausted) if the limit is 0.
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn acquire(&self) -> Result<PoolPermit<P, M>> {
        if self.shared.semaphore.limit() == 0 {
            return Err(self.shared.semaphore.exhausted(Duration::ZERO));
        }
        let mut turn = Turn::new(&self.shared.semaphore);
        let permit = poll_fn(|context| turn.poll(context.waker())).await;
        Ok(PoolPermit { pool: self.shared.clone(), permit })
    }

    /// Returns a permit to use a session if one is free, without waiting.
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn try_acquire(&self) -> Option<PoolPermit<P, M>> {
        let permit = Turn::new(&self.shared.semaphore).wait(Some(Duration::ZERO))?;
        Some(PoolPermit { pool: self.shared.clone(), permit })
    }

    fn wait_for_permit(&self) -> Result<Permit> {
        // With a limit of 0 no permit is ever returned.
        let wait = if self.shared.semaphore.limit() == 0 { Some(Duration::ZERO) } else { self.wait };
        let permit = Turn::new(&self.shared.semaphore).wait(wait);
        permit.ok_or_else(|| self.shared.semaphore.exhausted(wait.unwrap_or_default()))
    }

    /// Returns the number of sessions that may be in use at once, in all pools that share this pool's limit.
    pub fn limit(&self) -> usize {
        self.shared.semaphore.limit()
    }

    /// Returns the number of sessions in use, in all pools that share this pool's limit.
    pub fn in_use(&self) -> usize {
        self.shared.semaphore.in_use()
    }

    /// Returns the number of callers that wait for a session, in all pools that share this pool's limit.
    pub fn waiting(&self) -> usize {
        self.shared.semaphore.waiting()
    }
}

impl<P: Sessions, M: Mode> Shared<P, M> {
    fn open(
        self: Arc<Self>,
        permit: Permit,
        state: Option<P::State>,
        cancel: Option<&CancelHandle>,
    ) -> Result<PooledSession<P, M>> {
        let session = match self.idle.take() {
            Some(mut session) => {
                if let Some(state) = state {
                    P::set_state(&mut session, state, sealed::Pool);
                }
                if let Some(handle) = cancel {
                    P::set_cancel_handle(&mut session, Some(handle.clone()), sealed::Pool);
                }
                session
            }
            None => {
                let state = state.unwrap_or_else(|| (self.state)());
                self.program.open(state, cancel, sealed::Pool)?
            }
        };
        Ok(PooledSession { session: Some(session), pool: self, _permit: permit })
    }
}

#[cfg(feature = "async")]
impl<P: Sessions, M: Mode> PoolPermit<P, M> {
    /// Returns a session for exclusive use: an idle one, or a new one if none is idle.
    ///
    /// It does not wait for another caller to return one.
    ///
    /// # Errors
    ///
    /// The errors of [`Program::session_with`].
    pub fn session(self) -> Result<PooledSession<P, M>> {
        self.pool.open(self.permit, None, None)
    }

    /// Returns a session as [`PoolPermit::session`] does, which another thread can cancel.
    ///
    /// The handle cancels the opening of the session, and its calls as long as it is in use.
    ///
    /// # Errors
    ///
    /// The errors of [`Program::session_with_cancel`].
    pub fn session_with_cancel(self, handle: &CancelHandle) -> Result<PooledSession<P, M>> {
        self.pool.open(self.permit, None, Some(handle))
    }

    /// Returns a session as [`PoolPermit::session_with_cancel`] does, with this state.
    ///
    /// A new session starts with the state. An idle session gets it in place of its own. It is for states that belong
    /// to one request, such as its environment and streams.
    ///
    /// # Errors
    ///
    /// The errors of [`Program::session_with_cancel`].
    pub fn session_with_state(self, state: P::State, handle: &CancelHandle) -> Result<PooledSession<P, M>> {
        self.pool.open(self.permit, Some(state), Some(handle))
    }
}

impl<P: Sessions, M: Mode> PooledSession<P, M> {
    /// Closes the session, so that it is not used again.
    ///
    /// Use it if the session's memory has become too large, or holds data that the next call must not see.
    pub fn discard(mut self) {
        self.session = None;
    }
}

impl<P: Sessions, M: Mode> Drop for PooledSession<P, M> {
    fn drop(&mut self) {
        if let Some(mut session) = self.session.take()
            && P::is_usable(&session, sealed::Pool)
            && !thread::panicking()
        {
            // Cancelling this use must not affect the next one.
            P::set_cancel_handle(&mut session, None, sealed::Pool);
            self.pool.idle.keep(session);
        }
    }
}

impl<P: Sessions, M: Mode> Deref for PooledSession<P, M> {
    type Target = P::Session;

    fn deref(&self) -> &P::Session {
        match &self.session {
            Some(session) => session,
            None => unreachable!("a session that was given back"),
        }
    }
}

impl<P: Sessions, M: Mode> DerefMut for PooledSession<P, M> {
    fn deref_mut(&mut self) -> &mut P::Session {
        match &mut self.session {
            Some(session) => session,
            None => unreachable!("a session that was given back"),
        }
    }
}

impl<P: Sessions, M: Mode> Clone for Pool<P, M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), wait: self.wait }
    }
}

impl<P: Sessions + fmt::Debug, M: Mode> fmt::Debug for Pool<P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("program", &self.shared.program)
            .field("limit", &self.shared.semaphore.limit())
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "async")]
impl<P: Sessions + fmt::Debug, M: Mode> fmt::Debug for PoolPermit<P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolPermit").field("program", &self.pool.program).finish_non_exhaustive()
    }
}

impl<P: Sessions, M: Mode> fmt::Debug for PooledSession<P, M>
where
    P::Session: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PooledSession").field(&**self).finish()
    }
}

/// A reused pool whose sessions must stay on their thread must stay there as well.
///
/// ```compile_fail,E0277
/// use mistletoe_abi::{Backend, Package, Pool, Reused};
///
/// fn shared<T: Sync>(_: T) {}
/// fn share<B: Backend>(pool: Pool<Package<B>, Reused>) {
///     shared(pool);
/// }
/// ```
///
/// ```compile_fail,E0277
/// use mistletoe_abi::{Backend, Package, Pool, Reused};
///
/// fn moved<T: Send>(_: T) {}
/// fn send<B: Backend>(pool: Pool<Package<B>, Reused>) {
///     moved(pool);
/// }
/// ```
#[cfg(doctest)]
struct Pinned;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::error::ErrorKind;

    /// A program whose sessions have no guest: their state is all they have.
    #[derive(Clone)]
    struct Guestless;

    /// Tells which pool it belongs to when it is dropped.
    #[derive(Default)]
    struct Closes(Option<Arc<dyn Fn() + Send + Sync>>);

    impl Drop for Closes {
        fn drop(&mut self) {
            if let Some(closed) = &self.0 {
                closed();
            }
        }
    }

    impl Sessions for Guestless {
        type State = Closes;
        type Session = Closes;

        fn open(&self, state: Closes, _: Option<&CancelHandle>, _: sealed::Pool) -> Result<Closes> {
            Ok(state)
        }

        fn set_state(session: &mut Closes, state: Closes, _: sealed::Pool) {
            *session = state;
        }

        fn set_cancel_handle(_: &mut Closes, _: Option<CancelHandle>, _: sealed::Pool) {}

        fn is_usable(_: &Closes, _: sealed::Pool) -> bool {
            true
        }
    }

    #[test]
    fn sessions_that_were_idle_for_too_long_are_closed() {
        let pool = Pool::new(&Guestless, 3).reused();
        let begun = Instant::now();
        let sessions = [pool.session().expect("a session"), pool.session().expect("a session")];
        assert_eq!((pool.idle(), pool.in_use()), (0, 2));
        drop(sessions);
        assert_eq!((pool.idle(), pool.in_use(), pool.prune(begun), pool.idle()), (2, 0, 0, 2));
        // The session that was used last is used again, and the other one stays idle.
        let between = loop {
            let now = Instant::now();
            if now > begun && now > lock(&pool.shared.idle)[1].0 {
                break now;
            }
        };
        drop(pool.session().expect("a session"));
        assert_eq!((pool.idle(), pool.prune(between), pool.idle()), (2, 1, 1));
        // A session in use is not idle, whenever it was used before.
        let session = pool.session().expect("a session");
        let later = Instant::now() + Duration::from_secs(1);
        assert_eq!((pool.idle(), pool.prune(later), pool.in_use()), (0, 0, 1));
        drop(session);
        assert_eq!((pool.idle(), pool.clone().prune(later), pool.idle()), (1, 1, 0));
        // What is closed leaves no place behind, and takes none.
        let sessions: Vec<_> = (0..3).map(|_| pool.session().expect("a session")).collect();
        let exhausted = pool.clone().wait(Duration::ZERO).session().map(drop).expect_err("no session is left");
        assert!(matches!(exhausted.kind(), ErrorKind::PoolExhausted { limit: 3, .. }), "{exhausted}");
        drop(sessions);
        assert_eq!(pool.idle(), 3);
    }

    #[test]
    fn a_session_that_is_closed_may_use_its_pool() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let pool = {
            let own: Arc<Mutex<Option<Pool<Guestless, Reused>>>> = Arc::default();
            let (pools, seen) = (own.clone(), seen.clone());
            let closed: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
                let idle = lock(&pools).as_ref().map(Pool::idle);
                lock(&seen).push(idle);
            });
            let pool = Pool::with_state(&Guestless, 1, move || Closes(Some(closed.clone()))).reused();
            *lock(&own) = Some(pool.clone());
            drop(pool.session().expect("a session"));
            assert_eq!(pool.prune(Instant::now() + Duration::from_secs(1)), 1);
            // The pool and its sessions know each other.
            lock(&own).take()
        };
        assert_eq!((*lock(&seen)).as_slice(), [Some(0)]);
        drop(pool);
    }
}

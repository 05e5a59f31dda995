//! Sessions for hosts that answer many calls: at most so many at once, and callers that wait for one in turn.

use std::fmt;
#[cfg(feature = "async")]
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::backend::Backend;
use crate::cancel::CancelHandle;
use crate::error::Result;
use crate::program::any::{AnyProgram, AnyProgramSession};
use crate::program::{Program, ProgramSession};
use crate::protocol::traits::Protocol;
use sealed::Idle as _;
use semaphore::{Permit, Semaphore, Turn};

mod semaphore;

/// Sessions of one program, of which at most `limit` are in use at once. Cloning it is cheap; clones are the same pool.
///
/// Its mode says what becomes of a session after use:
///
/// - [`Fresh`], as [`Pool::new`] makes it: each session is a new instance, in which nothing is left of earlier calls.
/// - [`Reused`], which [`Pool::reused`] makes of it: sessions are used again, with memory, globals and the state `T` as
///   the last use left them. That is quicker, and leaves it to the package not to mix up calls.
///
/// The program may be for any protocol and backend: `Pool<Package<Wasmi>>`, `Pool<AnyHandler>`.
///
/// # Limit
///
/// A session is in use until the [`PooledSession`] is dropped. Idle ones are those that a reused pool keeps, as long as
/// there is the pool or a clone of it; it never has more than `limit` sessions, in use and idle together.
///
/// With a limit of 0 the pool is always exhausted.
///
/// # Threads
///
/// Threads share a pool, and take over each other's sessions.
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
/// The sessions of a backend whose instances are not `Send` stay on their threads. There a fresh pool is shared, too;
/// each thread makes a reused one of its own out of it. No more than `limit` sessions are in use in all of them
/// together; idle ones each keeps for itself.
///
/// A thread that asks for a session while it holds others may wait for itself.
pub struct Pool<P: Sessions, M: Mode = Fresh> {
    program: P,
    state: Arc<dyn Fn() -> P::State + Send + Sync>,
    wait: Option<Duration>,
    semaphore: Arc<Semaphore>,
    idle: M::Idle<P::Session>,
}

/// A session of a [`Pool`]'s, in use until this is dropped. It is `Send` where the backend's instances are.
///
/// A session that has come to its end ([`ProgramSession::fault`]) is not used again, nor is one that a panic drops,
/// which may have left it half-way; its permit is released all the same. Any other is, in a reused pool, also after an
/// error, unless it is [discarded](PooledSession::discard).
pub struct PooledSession<P: Sessions, M: Mode = Fresh> {
    /// There until this is dropped.
    session: Option<P::Session>,
    idle: M::Idle<P::Session>,
    /// The last field, thus dropped last: who gets the permit next finds the session idle or gone.
    _permit: Permit,
}

/// Leave to use a session of a [`Pool`]'s, from [`Pool::acquire`]. It counts among the sessions in use until this is
/// dropped, or the session that it becomes.
#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
pub struct PoolPermit<P: Sessions, M: Mode = Fresh> {
    pool: Pool<P, M>,
    permit: Permit,
}

/// What a [`Pool`] has sessions of: a [`Program`] or an [`AnyProgram`]. The trait is sealed.
pub trait Sessions: Clone {
    /// The state of a session.
    type State: Send + 'static;
    /// A session.
    type Session;

    #[doc(hidden)]
    fn open(&self, state: Self::State, cancel: Option<&CancelHandle>, _: sealed::Pool) -> Result<Self::Session>;

    /// Has another handle cancel the session's calls from now on, or none.
    #[doc(hidden)]
    fn set_cancel_handle(session: &mut Self::Session, handle: Option<CancelHandle>, _: sealed::Pool);

    /// Whether a session can answer another request, as far as can be known before.
    #[doc(hidden)]
    fn is_usable(session: &Self::Session, _: sealed::Pool) -> bool;
}

impl<P: Protocol, B: Backend, T: Send + 'static> Sessions for Program<P, B, T> {
    type State = T;
    type Session = ProgramSession<P, B, T>;

    fn open(&self, state: T, cancel: Option<&CancelHandle>, _: sealed::Pool) -> Result<ProgramSession<P, B, T>> {
        self.open(Box::new(state), cancel)
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

    fn set_cancel_handle(session: &mut AnyProgramSession<P, T>, handle: Option<CancelHandle>, _: sealed::Pool) {
        session.set_cancel_handle(handle);
    }

    fn is_usable(session: &AnyProgramSession<P, T>, _: sealed::Pool) -> bool {
        session.is_usable()
    }
}

/// What becomes of a pool's sessions after use: [`Fresh`] or [`Reused`].
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
    /// What a pool alone can make.
    #[derive(Debug)]
    pub struct Pool;

    use std::sync::{Arc, Mutex};

    use crate::pool::semaphore::lock;

    pub trait Mode {
        /// The idle sessions. That these are `Send` and `Sync` makes a pool so.
        type Idle<S>: Idle<S> + Clone;
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
        type Idle<S> = Arc<Mutex<Vec<S>>>;
    }

    impl<S> Idle<S> for Arc<Mutex<Vec<S>>> {
        /// The one that was used last, which caches may still hold.
        fn take(&self) -> Option<S> {
            lock(self).pop()
        }

        fn keep(&self, session: S) {
            lock(self).push(session);
        }
    }
}

impl<P: Sessions> Pool<P> {
    /// A pool of fresh sessions, whose state is the default.
    pub fn new(program: &P, limit: usize) -> Self
    where
        P::State: Default,
    {
        Self::with_state(program, limit, P::State::default)
    }

    /// A pool of fresh sessions, each with a state that `state` makes.
    pub fn with_state(program: &P, limit: usize, state: impl Fn() -> P::State + Send + Sync + 'static) -> Self {
        Self {
            program: program.clone(),
            state: Arc::new(state),
            wait: Some(Duration::from_secs(10)),
            semaphore: Arc::new(Semaphore::new(limit)),
            idle: (),
        }
    }

    /// A pool that uses its sessions again, and has none yet. It has its limit in common with this one.
    pub fn reused(&self) -> Pool<P, Reused> {
        Pool {
            program: self.program.clone(),
            state: self.state.clone(),
            wait: self.wait,
            semaphore: self.semaphore.clone(),
            idle: Arc::default(),
        }
    }
}

impl<P: Sessions, M: Mode> Pool<P, M> {
    /// The same pool, that waits for so long at most; 10 seconds by default. Zero is not to wait, `None` to wait for as
    /// long as it takes.
    pub fn wait(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.wait = wait.into();
        self
    }

    /// A session that nobody else uses. Where `limit` are in use it waits until one is not; who came first is served
    /// first.
    ///
    /// # Errors
    ///
    /// [`PoolExhausted`](crate::ErrorKind::PoolExhausted) after [waiting](Pool::wait) in vain, and those of
    /// [`Program::session_with`].
    pub fn session(&self) -> Result<PooledSession<P, M>> {
        self.open(self.wait_for_permit()?, None)
    }

    /// [`Pool::session`], whose opening and whose calls another thread can cancel, as long as it is in use. The wait
    /// for it is not cancelled.
    ///
    /// # Errors
    ///
    /// As [`Pool::session`], and [`Cancelled`](crate::ErrorKind::Cancelled).
    pub fn session_with_cancel(&self, handle: &CancelHandle) -> Result<PooledSession<P, M>> {
        self.open(self.wait_for_permit()?, Some(handle))
    }

    /// Waits for leave to use a session, for as long as it takes, without blocking the thread. It is woken by whoever
    /// gives a session back, on any runtime; who came first is served first. A future that is dropped leaves the queue.
    /// One that is neither polled nor dropped keeps what it got.
    ///
    /// Opening a session and calling it block, so that they belong on a thread for such work:
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
    /// [`PoolExhausted`](crate::ErrorKind::PoolExhausted) where the limit is 0.
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn acquire(&self) -> Result<PoolPermit<P, M>> {
        if self.semaphore.limit() == 0 {
            return Err(self.semaphore.exhausted(Duration::ZERO));
        }
        let mut turn = Turn::new(&self.semaphore);
        let permit = poll_fn(|context| turn.poll(context.waker())).await;
        Ok(PoolPermit { pool: self.clone(), permit })
    }

    fn wait_for_permit(&self) -> Result<Permit> {
        // Where there are none, none is ever given back.
        let wait = if self.semaphore.limit() == 0 { Some(Duration::ZERO) } else { self.wait };
        let permit = Turn::new(&self.semaphore).wait(wait);
        permit.ok_or_else(|| self.semaphore.exhausted(wait.unwrap_or_default()))
    }

    fn open(&self, permit: Permit, cancel: Option<&CancelHandle>) -> Result<PooledSession<P, M>> {
        let session = match self.idle.take() {
            Some(mut session) => {
                if let Some(handle) = cancel {
                    P::set_cancel_handle(&mut session, Some(handle.clone()), sealed::Pool);
                }
                session
            }
            None => self.program.open((self.state)(), cancel, sealed::Pool)?,
        };
        Ok(PooledSession { session: Some(session), idle: self.idle.clone(), _permit: permit })
    }

    /// How many sessions are in use, among those that the limit is for.
    pub fn in_use(&self) -> usize {
        self.semaphore.in_use()
    }

    /// How many callers wait for one of them.
    pub fn waiting(&self) -> usize {
        self.semaphore.waiting()
    }
}

#[cfg(feature = "async")]
impl<P: Sessions, M: Mode> PoolPermit<P, M> {
    /// A session that nobody else uses. It is there at once, or as soon as it is opened.
    ///
    /// # Errors
    ///
    /// Those of [`Program::session_with`].
    pub fn session(self) -> Result<PooledSession<P, M>> {
        self.pool.open(self.permit, None)
    }

    /// [`PoolPermit::session`], whose opening and whose calls another thread can cancel, as long as it is in use.
    ///
    /// # Errors
    ///
    /// Those of [`Program::session_with_cancel`].
    pub fn session_with_cancel(self, handle: &CancelHandle) -> Result<PooledSession<P, M>> {
        self.pool.open(self.permit, Some(handle))
    }
}

impl<P: Sessions, M: Mode> PooledSession<P, M> {
    /// Ends the session, so that it is not used again: because its memory has become too large, or holds what the next
    /// call is not to see.
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
            // Who cancels this use of it is too late.
            P::set_cancel_handle(&mut session, None, sealed::Pool);
            self.idle.keep(session);
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
        Self {
            program: self.program.clone(),
            state: self.state.clone(),
            wait: self.wait,
            semaphore: self.semaphore.clone(),
            idle: self.idle.clone(),
        }
    }
}

impl<P: Sessions + fmt::Debug, M: Mode> fmt::Debug for Pool<P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("program", &self.program)
            .field("limit", &self.semaphore.limit())
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "async")]
impl<P: Sessions + fmt::Debug, M: Mode> fmt::Debug for PoolPermit<P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolPermit").field("pool", &self.pool).finish_non_exhaustive()
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

/// A pool that keeps sessions which must stay on their thread stays there, too.
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

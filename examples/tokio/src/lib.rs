//! Packages in an asynchronous program. Guests run on blocking threads; what the program awaits is a [`Service`].

#![forbid(unsafe_code)]

use std::time::Duration;

use mistletoe::{AnyPackage, CancelHandle, Error, Pool, Reused};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

/// Answers inputs with a package, of which at most so many sessions are in use at once. Cloning it is cheap.
///
/// A call is cancelled by dropping its future: the guest ends within some milliseconds, and its session with it. The
/// package's limits have to be on time or fuel, as the default ones are.
#[derive(Clone, Debug)]
pub struct Service<T: Send + 'static = ()> {
    pool: Pool<AnyPackage<T>, Reused>,
    deadline: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The deadline passed, while the call waited for a session or while the guest ran.
    DeadlineExceeded,
    /// The guest's, or the pool's.
    Guest(Error),
    /// The host panicked, or the runtime shuts down.
    Task(JoinError),
}

impl<T: Send + 'static> Service<T> {
    /// A service whose answers take as long as the deadline at most.
    pub fn new(pool: Pool<AnyPackage<T>, Reused>, deadline: Duration) -> Self {
        Self { pool, deadline }
    }

    /// Waits in turn for a session, and answers the input with it.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn generate(&self, input: String) -> Result<String, Failure> {
        let handle = CancelHandle::new();
        // Dropped with this future, whatever the reason.
        let _guard = handle.clone().drop_guard();
        let answer = async {
            // Without a session no thread is taken: so many callers can wait as the program lets in.
            let permit = self.pool.acquire().await.map_err(Failure::Guest)?;
            let generate = move || permit.session_with_cancel(&handle)?.generate(&input);
            spawn_blocking(generate).await.map_err(Failure::Task)?.map_err(Failure::Guest)
        };
        timeout(self.deadline, answer).await.unwrap_or(Err(Failure::DeadlineExceeded))
    }

    /// The sessions it uses.
    pub fn pool(&self) -> &Pool<AnyPackage<T>, Reused> {
        &self.pool
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DeadlineExceeded => f.write_str("the deadline was exceeded"),
            Self::Guest(error) => error.fmt(f),
            Self::Task(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::DeadlineExceeded => None,
            Self::Guest(error) => error.source(),
            Self::Task(error) => error.source(),
        }
    }
}

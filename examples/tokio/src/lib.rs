//! Packages in an asynchronous program. Guests run on blocking threads; the program awaits a [`Service`].

#![forbid(unsafe_code)]

use std::time::Duration;

use mistletoe::{AnyPackage, CancelHandle, Error, Pool, Reused};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

/// Runs a package on inputs, with a limited number of concurrent sessions.
///
/// A clone is cheap.
///
/// Dropping the future of a call cancels the call: the guest is terminated within some milliseconds, and its session
/// with it. The package needs a limit on time or fuel, such as the default one.
#[derive(Clone, Debug)]
pub struct Service<T: Send + 'static = ()> {
    pool: Pool<AnyPackage<T>, Reused>,
    deadline: Duration,
}

/// Why a call has no output.
#[derive(Debug)]
pub enum Failure {
    /// The deadline passed while the call waited for a session, or while the guest ran.
    DeadlineExceeded,
    /// An error of the guest or of the pool.
    Guest(Error),
    /// The host panicked, or the runtime is shutting down.
    Task(JoinError),
}

impl<T: Send + 'static> Service<T> {
    /// Creates a service whose calls take no longer than the deadline.
    pub fn new(pool: Pool<AnyPackage<T>, Reused>, deadline: Duration) -> Self {
        Self { pool, deadline }
    }

    /// Waits for a session in FIFO order, and runs the package on the input.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn generate(&self, input: String) -> Result<String, Failure> {
        let handle = CancelHandle::new();
        // Dropped with this future for whatever reason, which cancels the guest.
        let _guard = handle.clone().drop_guard();
        let answer = async {
            // A call takes no thread until it has a session. The program itself decides how many callers may wait.
            let permit = self.pool.acquire().await.map_err(Failure::Guest)?;
            let generate = move || permit.session_with_cancel(&handle)?.generate(&input);
            spawn_blocking(generate).await.map_err(Failure::Task)?.map_err(Failure::Guest)
        };
        timeout(self.deadline, answer).await.unwrap_or(Err(Failure::DeadlineExceeded))
    }

    /// Returns the pool of sessions.
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

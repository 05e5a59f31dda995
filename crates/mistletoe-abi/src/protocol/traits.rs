//! What a protocol is.

use crate::backend::instance::Instance;
use crate::error::Result;
use crate::guest::Guest;
use crate::host::imports::Imports;
use crate::limits::Limits;
use crate::protocol::check::Check;

/// What guests and hosts have to say to each other. A [`Program`](crate::Program) is a module that speaks one.
///
/// The value is what a host program may choose about a protocol; most have nothing to choose. It is cloned into each
/// program.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// The functions that each request needs, resolved once for a session. `F` is the
    /// [engine's](Instance::Func).
    type Exports<F: Send + Sync + 'static>: Send + 'static;
    /// What the protocol's own host functions keep in a session, beside the host program's state.
    type Store: Send + 'static;
    /// What a guest is asked.
    type Request<'a>;
    /// What it answers, which may lie in its memory.
    type Response<'a>;
    /// The same as a value of the host program's.
    type Output: for<'a> From<Self::Response<'a>>;

    /// Whether a guest is initialised before the first request: by `_initialize`, or by `_start` where it exports none.
    const INITIALIZES: bool = true;

    /// Looks at the exports that the protocol needs.
    fn check(&self, exports: &mut Check<'_>);

    /// Adds the functions that the protocol itself offers to guests. They find what is kept for them by
    /// [`Caller::store_mut`](crate::Caller::store_mut).
    fn provide<T: Send + 'static>(&self, imports: &mut Imports<T>) {
        let _ = imports;
    }

    /// What a session begins with.
    fn store(&self, limits: &Limits) -> Self::Store;

    /// Resolves functions of a guest that is initialised.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::resolve`], and of what is called.
    fn resolve<I: Instance>(&self, guest: &mut Guest<I>) -> Result<Self::Exports<I::Func>>;

    /// Asks the guest, and lends its answer to `respond`, which is called at most once.
    ///
    /// # Errors
    ///
    /// Those of the guest, and [`TooLong`](crate::ErrorKind::TooLong) where a limit on lengths says so.
    fn call<I: Instance, R>(
        exports: &Self::Exports<I::Func>,
        guest: &mut Guest<I>,
        request: Self::Request<'_>,
        respond: impl FnOnce(Self::Response<'_>) -> R,
    ) -> Result<R>;
}

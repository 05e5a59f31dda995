//! The trait of protocols.

use crate::backend::instance::Instance;
use crate::error::Result;
use crate::guest::Guest;
use crate::host::imports::Imports;
use crate::limits::Limits;
use crate::protocol::check::Check;

/// An interface between guests and hosts. A [`Program`](crate::Program) is a module that speaks one.
///
/// The value holds the protocol's settings, which a host program may choose; most protocols have none. It is cloned
/// into each program.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// The functions that requests need, resolved once per session.
    ///
    /// `F` is the [function type](Instance::Func) of the engine.
    type Exports<F: Send + Sync + 'static>: Send + 'static;
    /// The data that the protocol's own host functions keep in a session, besides the host program's state.
    type Store: Send + 'static;
    /// A request to a guest.
    type Request<'a>;
    /// A guest's response, which may borrow from its memory.
    type Response<'a>;
    /// The response as an owned value.
    type Output: for<'a> From<Self::Response<'a>>;

    /// Whether a guest is initialised before the first request. The default is `true`.
    ///
    /// The layer calls `_initialize`, or `_start` if the guest exports no `_initialize`.
    const INITIALIZES: bool = true;
    /// Whether the layer calls `_start` also if the guest exports `_initialize`, and before it. The default is `false`.
    const STARTS: bool = false;

    /// Checks the exports that the protocol needs.
    fn check(&self, exports: &mut Check<'_>);

    /// Adds the host functions that the protocol itself provides. The default adds none.
    ///
    /// They reach the protocol's [`Store`](Protocol::Store) through [`Caller::store_mut`](crate::Caller::store_mut).
    fn provide<T: Send + 'static>(&self, imports: &mut Imports<T>) {
        let _ = imports;
    }

    /// Returns the data that a session starts with.
    fn store(&self, limits: &Limits) -> Self::Store;

    /// Resolves the functions that requests need, in a guest that is initialised.
    ///
    /// # Errors
    ///
    /// The errors of [`Guest::resolve`], and of the functions it calls.
    fn resolve<I: Instance>(&self, guest: &mut Guest<I>) -> Result<Self::Exports<I::Func>>;

    /// Sends a request to the guest and lends its response to `respond`, which is called at most once.
    ///
    /// # Errors
    ///
    /// The errors of the guest, and [`TooLong`](crate::ErrorKind::TooLong) if an input or output exceeds its limit.
    fn call<I: Instance, R>(
        exports: &Self::Exports<I::Func>,
        guest: &mut Guest<I>,
        request: Self::Request<'_>,
        respond: impl FnOnce(Self::Response<'_>) -> R,
    ) -> Result<R>;
}

//! Type-erased host functions, as backends see them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::backend::erased::{DynInstance, host_panicked};
use crate::backend::instance::Instance;
use crate::error::Result;
use crate::host::name::Name;
use crate::types::FuncType;

/// A host function that is ready to be linked.
///
/// It is cheap to clone, and threads can share it.
pub struct HostFunc {
    name: Arc<Name>,
    ty: FuncType,
    code: Box<dyn Code>,
}

/// A type-erased closure.
///
/// Each copy that a backend keeps has its own trait object, so that a call takes one indirection.
pub(crate) trait Code: Send + Sync {
    /// Calls the closure on behalf of `instance`, with parameters and results in `slots`.
    fn call(&self, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()>;

    /// Calls a closure with up to four parameters and one result, which pass in registers.
    fn call_few(&self, instance: &mut dyn DynInstance, a: u64, b: u64, c: u64, d: u64) -> Result<u64>;

    /// Returns the same closure under another name.
    fn named(&self, name: Arc<Name>) -> Box<dyn Code>;
}

impl HostFunc {
    pub(crate) fn new(name: Arc<Name>, ty: FuncType, code: Box<dyn Code>) -> Self {
        Self { name, ty, code }
    }

    /// Returns the module that guests import the function from.
    pub fn module(&self) -> &str {
        &self.name.module
    }

    /// Returns the function's name in that module.
    pub fn name(&self) -> &str {
        &self.name.name
    }

    /// Returns the function's type: numbers only, no references.
    pub fn ty(&self) -> &FuncType {
        &self.ty
    }

    /// Returns the same function with `around` wrapped around each call.
    ///
    /// For backends that wrap another backend. `around` receives the slots and a closure that makes the call.
    pub fn wrap(
        &self,
        around: impl Fn(&mut [u64], &mut dyn FnMut(&mut [u64]) -> Result<()>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let code = Around { inner: self.clone(), around: Arc::new(around) };
        Self::new(self.name.clone(), self.ty.clone(), Box::new(code))
    }

    pub(crate) fn code(&self) -> &dyn Code {
        &*self.code
    }

    pub(crate) fn full_name(&self) -> &Arc<Name> {
        &self.name
    }

    /// Returns the same function under another name.
    pub(crate) fn named(&self, name: Name) -> Self {
        let name = Arc::new(name);
        Self::new(name.clone(), self.ty.clone(), self.code.named(name))
    }

    /// Calls the function on behalf of `instance`, which called it.
    ///
    /// For backends. The parameters are in `slots`, and the results are left there. `slots` has at
    /// least as many slots as the function has parameters, and as it has results.
    ///
    /// # Errors
    ///
    /// The error that the function returned, or [`ErrorKind::HostPanic`](crate::ErrorKind::HostPanic) if it panicked.
    /// The engine unwinds the guest and returns this same error to the caller of the guest.
    #[inline]
    pub fn call(&self, instance: &mut impl Instance, slots: &mut [u64]) -> Result<()> {
        self.caught(instance, |instance| self.code.call(instance, slots))
    }

    /// Calls a function with up to four parameters and one result; faster than [`HostFunc::call`].
    ///
    /// For backends. All signatures that [`by_signature`](crate::by_signature) covers qualify.
    ///
    /// # Errors
    ///
    /// As [`HostFunc::call`].
    #[inline(always)]
    pub fn call_few<const N: usize>(&self, instance: &mut impl Instance, params: [u64; N]) -> Result<u64> {
        self.caught(instance, |instance| self.call_few_unwinding(instance, params))
    }

    /// Calls a function as [`HostFunc::call_few`] does, without a catch frame for panics.
    ///
    /// For backends whose engines a panic can unwind. This is the fastest way to call the function.
    ///
    /// # Errors
    ///
    /// As [`HostFunc::call`].
    ///
    /// # Panics
    ///
    /// Panics if the function does. The engine must let the panic propagate to the caller of the guest, where the layer
    /// converts it into an error.
    #[inline(always)]
    pub fn call_few_unwinding<const N: usize>(&self, instance: &mut impl Instance, params: [u64; N]) -> Result<u64> {
        let param = |i: usize| params.get(i).copied().unwrap_or_default();
        self.code.call_few(instance, param(0), param(1), param(2), param(3))
    }

    #[inline(always)]
    fn caught<I: Instance, R>(&self, instance: &mut I, call: impl FnOnce(&mut I) -> Result<R>) -> Result<R> {
        // A panic can leave two things half changed: the guest, which is poisoned, and the session's state, for which
        // the host program is responsible.
        catch_unwind(AssertUnwindSafe(|| call(instance))).unwrap_or_else(|payload| {
            instance.data_mut().panicked = None;
            Err(host_panicked(&self.name, &*payload))
        })
    }
}

/// A function with a wrapper.
struct Around<F> {
    inner: HostFunc,
    around: Arc<F>,
}

impl<F> Code for Around<F>
where
    F: Fn(&mut [u64], &mut dyn FnMut(&mut [u64]) -> Result<()>) -> Result<()> + Send + Sync + 'static,
{
    fn call(&self, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()> {
        // Without the guest, only the function itself would be called, and the wrapper may respond without it. What the
        // instrumentation calls is no part of a record.
        if self.inner.name.module != mistletoe_module::MODULE
            && let Some(opening) = &mut instance.data_mut().opening
        {
            opening.spoil();
        }
        (self.around)(slots, &mut |slots| self.inner.code.call(instance, slots))
    }

    fn call_few(&self, instance: &mut dyn DynInstance, a: u64, b: u64, c: u64, d: u64) -> Result<u64> {
        let mut slots = [a, b, c, d];
        self.call(instance, &mut slots)?;
        Ok(slots[0])
    }

    fn named(&self, name: Arc<Name>) -> Box<dyn Code> {
        let inner = HostFunc::new(name.clone(), self.inner.ty.clone(), self.inner.code.named(name));
        Box::new(Self { inner, around: self.around.clone() })
    }
}

impl Clone for HostFunc {
    fn clone(&self) -> Self {
        Self::new(self.name.clone(), self.ty.clone(), self.code.named(self.name.clone()))
    }
}

impl fmt::Debug for HostFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostFunc({} {})", self.name, self.ty)
    }
}

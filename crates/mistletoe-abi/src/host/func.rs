//! A host function with its types erased, as backends see it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::backend::erased::{DynInstance, host_panicked};
use crate::backend::instance::Instance;
use crate::error::Result;
use crate::host::name::Name;
use crate::types::FuncType;

/// A function of the host's, ready to be linked. Cheap to clone, and shared by threads.
pub struct HostFunc {
    name: Arc<Name>,
    ty: FuncType,
    code: Box<dyn Code>,
}

/// A closure with its types erased. A trait object of its own for each copy that a backend keeps, so that a call is one
/// step away.
pub(crate) trait Code: Send + Sync {
    /// Calls it on behalf of `instance`, with parameters and results in `slots`.
    fn call(&self, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()>;

    /// The same for up to four parameters and one result, which pass in registers.
    fn call_few(&self, instance: &mut dyn DynInstance, a: u64, b: u64, c: u64, d: u64) -> Result<u64>;

    /// The same code under a name.
    fn named(&self, name: Arc<Name>) -> Box<dyn Code>;
}

impl HostFunc {
    pub(crate) fn new(name: Arc<Name>, ty: FuncType, code: Box<dyn Code>) -> Self {
        Self { name, ty, code }
    }

    /// The module that guests import it from.
    pub fn module(&self) -> &str {
        &self.name.module
    }

    /// Its name in that module.
    pub fn name(&self) -> &str {
        &self.name.name
    }

    /// Its type: numbers only, no references.
    pub fn ty(&self) -> &FuncType {
        &self.ty
    }

    /// For backends that stand in front of another: the same function with `around` it, which is given the slots and
    /// the call itself.
    pub fn wrap(
        &self,
        around: impl Fn(&mut [u64], &mut dyn FnMut(&mut [u64]) -> Result<()>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let code = Around { inner: self.clone(), around: Arc::new(around) };
        Self::new(self.name.clone(), self.ty.clone(), Box::new(code))
    }

    /// The same function under another name.
    pub(crate) fn named(&self, name: Name) -> Self {
        let name = Arc::new(name);
        Self::new(name.clone(), self.ty.clone(), self.code.named(name))
    }

    /// For backends: calls the function on behalf of `instance`, which called it, with the parameters in `slots`; the
    /// results are left there. There are at least as many slots as parameters, and as results.
    ///
    /// # Errors
    ///
    /// What the function answered with, and [`ErrorKind::HostPanic`](crate::ErrorKind::HostPanic) where it panicked.
    /// The engine unwinds the guest and gives this very error to whoever called it.
    #[inline]
    pub fn call(&self, instance: &mut impl Instance, slots: &mut [u64]) -> Result<()> {
        self.caught(instance, |instance| self.code.call(instance, slots))
    }

    /// For backends: the same for a function of up to four parameters and one result, as all that
    /// [`by_signature`](crate::by_signature) knows are. This is quicker.
    ///
    /// # Errors
    ///
    /// As [`HostFunc::call`].
    #[inline(always)]
    pub fn call_few<const N: usize>(&self, instance: &mut impl Instance, params: [u64; N]) -> Result<u64> {
        self.caught(instance, |instance| self.call_few_unwinding(instance, params))
    }

    /// For backends whose engines a panic can unwind: the same as [`HostFunc::call_few`], without a landing place for
    /// panics. This is the quickest.
    ///
    /// # Errors
    ///
    /// As [`HostFunc::call`].
    ///
    /// # Panics
    ///
    /// Where the function does. The engine has to let the panic pass to whoever called the guest; the layer makes an
    /// error of it there.
    #[inline(always)]
    pub fn call_few_unwinding<const N: usize>(&self, instance: &mut impl Instance, params: [u64; N]) -> Result<u64> {
        let param = |i: usize| params.get(i).copied().unwrap_or_default();
        self.code.call_few(instance, param(0), param(1), param(2), param(3))
    }

    #[inline(always)]
    fn caught<I: Instance, R>(&self, instance: &mut I, call: impl FnOnce(&mut I) -> Result<R>) -> Result<R> {
        // A panic leaves nothing half done but the guest, which is poisoned, and the session's state, which is its
        // owner's.
        catch_unwind(AssertUnwindSafe(|| call(instance))).unwrap_or_else(|payload| {
            instance.data_mut().panicked = None;
            Err(host_panicked(&self.name, &*payload))
        })
    }
}

/// A function with something around it.
struct Around<F> {
    inner: HostFunc,
    around: Arc<F>,
}

impl<F> Code for Around<F>
where
    F: Fn(&mut [u64], &mut dyn FnMut(&mut [u64]) -> Result<()>) -> Result<()> + Send + Sync + 'static,
{
    fn call(&self, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()> {
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

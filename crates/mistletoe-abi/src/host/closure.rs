//! Closures as host functions.

use std::error::Error as StdError;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::backend::erased::DynInstance;
use crate::error::{Error, ErrorKind, Result};
use crate::host::caller::Caller;
use crate::host::func::{Code, HostFunc};
use crate::host::name::Name;
use crate::host::numbers::{HostResult, WasmParams, WasmResults, WasmTy, tuples};
use crate::types::FuncType;

/// A closure that can be a host function.
///
/// It takes a [`Caller`] and up to 12 [`WasmTy`]s, and returns a [`HostResult`]. `P` and `R` are inferred.
pub trait HostFn<T, P, R>: Send + Sync + 'static {
    /// The function's type.
    const TYPE: FuncType;

    /// Calls the closure with the parameters in `slots`, and leaves the results there.
    ///
    /// # Errors
    ///
    /// The error that the closure returned.
    fn call(&self, caller: &mut Caller<'_, T>, slots: &mut [u64]) -> Result<(), Box<dyn StdError + Send + Sync>>;
}

macro_rules! host_fn {
    ($($ty:ident)*) => {
        impl<T, F, R, $($ty: WasmTy),*> HostFn<T, ($($ty,)*), R> for F
        where
            F: Fn(&mut Caller<'_, T>, $($ty),*) -> R + Send + Sync + 'static,
            R: HostResult,
        {
            const TYPE: FuncType =
                FuncType::new(<($($ty,)*) as WasmParams>::TYPES, <R::Results as WasmResults>::TYPES);

            #[inline(always)]
            #[allow(non_snake_case, unused_variables, unused_mut)]
            fn call(
                &self,
                caller: &mut Caller<'_, T>,
                slots: &mut [u64],
            ) -> Result<(), Box<dyn StdError + Send + Sync>> {
                let mut params = slots.iter().copied();
                $(let $ty = $ty::from_slot(params.next().unwrap_or_default());)*
                self(caller, $($ty),*).into_result()?.into_slots(slots);
                Ok(())
            }
        }
    };
}

tuples!(host_fn: A B C D E G H I J K L M);

/// A closure, and its name in errors.
struct Closure<F, S> {
    name: Arc<Name>,
    func: Arc<F>,
    signature: PhantomData<S>,
}

pub(crate) fn host_func<T: 'static, P: 'static, R: 'static, F: HostFn<T, P, R>>(name: Name, func: F) -> HostFunc {
    let name = Arc::new(name);
    let code = Closure { name: name.clone(), func: Arc::new(func), signature: PhantomData::<fn(T, P) -> R> };
    HostFunc::new(name, F::TYPE, Box::new(code))
}

impl<T: 'static, P: 'static, R: 'static, F: HostFn<T, P, R>> Code for Closure<F, fn(T, P) -> R> {
    fn call(&self, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()> {
        self.enter(instance, slots)
    }

    fn call_few(&self, instance: &mut dyn DynInstance, a: u64, b: u64, c: u64, d: u64) -> Result<u64> {
        let mut slots = [a, b, c, d];
        self.enter(instance, &mut slots)?;
        Ok(slots[0])
    }

    fn named(&self, name: Arc<Name>) -> Box<dyn Code> {
        Box::new(Self { name, func: self.func.clone(), signature: PhantomData })
    }
}

impl<T: 'static, P: 'static, R: 'static, F: HostFn<T, P, R>> Closure<F, fn(T, P) -> R> {
    #[inline(always)]
    fn enter(&self, instance: &mut dyn DynInstance, slots: &mut [u64]) -> Result<()> {
        let mut caller = Caller::new(instance, &self.name)?;
        let result = self.func.call(&mut caller, slots);
        let error = match (caller.into_fault(), result) {
            (None, Ok(())) => return Ok(()),
            // The guest is poisoned. A closure that swallows the error of a nested call cannot resume it.
            (Some(fault), Ok(())) => fault,
            (_, Err(error)) => failed(&self.name, error),
        };
        instance.data_mut().host_failed = true;
        Err(error)
    }
}

/// Converts the error of a closure.
///
/// The layer's own error stays as it is, so that a trap keeps its kind across any number of host functions.
#[cold]
fn failed(name: &Name, error: Box<dyn StdError + Send + Sync>) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => {
            Error::with_source(ErrorKind::Host { module: name.module.clone(), name: name.name.clone() }, error)
        }
    }
}

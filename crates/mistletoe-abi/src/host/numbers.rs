//! Rust numbers as WebAssembly numbers: the possible parameters and results of a host function.

use std::error::Error as StdError;

use crate::error::Result;
use crate::types::ValType;

/// A number that crosses the boundary between host and guest.
///
/// `u32` and `i32` are an `i32` in WebAssembly, `u64` and `i64` are an `i64`, and `f32` and `f64` are themselves.
pub trait WasmTy: Copy + sealed::Sealed + 'static {
    /// The number's type in WebAssembly.
    const TYPE: ValType;

    /// Returns the number as a slot; see [`Instance`](crate::Instance) for the layout.
    fn into_slot(self) -> u64;

    /// Reads the number from a slot.
    fn from_slot(slot: u64) -> Self;
}

/// The parameters of a guest's function: a tuple of up to 16 [`WasmTy`]s.
pub trait WasmParams: Copy + sealed::Sealed + 'static {
    /// The types of the parameters, in order.
    const TYPES: &'static [ValType];

    /// Writes the parameters to the first slots. There are enough slots.
    fn into_slots(self, slots: &mut [u64]);
}

/// The results of a function: `()`, one [`WasmTy`], or a tuple of up to 4.
pub trait WasmResults: Copy + sealed::Sealed + 'static {
    /// The types of the results, in order.
    const TYPES: &'static [ValType];

    /// Writes the results to the first slots. There are enough slots.
    fn into_slots(self, slots: &mut [u64]);

    /// Reads the results from the first slots.
    fn from_slots(slots: &[u64]) -> Self;
}

/// The return value of a host function: results, or a `Result` of them.
///
/// The error can be any type that converts to a boxed error: an error of `std`, an `anyhow` error, a string. The
/// layer's own [`Error`](crate::Error) stays as it is. Any other error becomes the source of an
/// [`ErrorKind::Host`](crate::ErrorKind::Host), where [`Error::downcast_ref`](crate::Error::downcast_ref) finds it.
pub trait HostResult {
    /// The results of the function.
    type Results: WasmResults;

    /// Returns the results, or the error in a box.
    ///
    /// # Errors
    ///
    /// The error that the function returned.
    fn into_result(self) -> Result<Self::Results, Box<dyn StdError + Send + Sync>>;
}

/// The number of slots that [`Caller::call`](crate::Caller::call) reserves for a call.
pub(crate) const SLOTS: usize = 16;

mod sealed {
    pub trait Sealed {}
}

macro_rules! wasm_ty {
    ($($rust:ty = $wasm:ident, $into:expr, $from:expr;)*) => {$(
        impl sealed::Sealed for $rust {}

        impl WasmTy for $rust {
            const TYPE: ValType = ValType::$wasm;

            #[inline]
            fn into_slot(self) -> u64 {
                $into(self)
            }

            #[inline]
            fn from_slot(slot: u64) -> Self {
                $from(slot)
            }
        }

        impl WasmResults for $rust {
            const TYPES: &'static [ValType] = &[ValType::$wasm];

            #[inline]
            fn into_slots(self, slots: &mut [u64]) {
                if let [slot, ..] = slots {
                    *slot = self.into_slot();
                }
            }

            #[inline]
            fn from_slots(slots: &[u64]) -> Self {
                Self::from_slot(slots.first().copied().unwrap_or_default())
            }
        }
    )*};
}

wasm_ty! {
    u32 = I32, u64::from, |slot| slot as u32;
    i32 = I32, |value: i32| u64::from(value.cast_unsigned()), |slot| slot as i32;
    u64 = I64, |value| value, |slot| slot;
    i64 = I64, i64::cast_unsigned, u64::cast_signed;
    f32 = F32, |value: f32| u64::from(value.to_bits()), |slot| f32::from_bits(slot as u32);
    f64 = F64, f64::to_bits, f64::from_bits;
}

macro_rules! params {
    ($($ty:ident)*) => {
        impl<$($ty: WasmTy),*> sealed::Sealed for ($($ty,)*) {}

        impl<$($ty: WasmTy),*> WasmParams for ($($ty,)*) {
            const TYPES: &'static [ValType] = &[$($ty::TYPE),*];

            #[inline]
            #[allow(non_snake_case, unused_variables, unused_mut)]
            fn into_slots(self, slots: &mut [u64]) {
                let ($($ty,)*) = self;
                let mut slots = slots.iter_mut();
                $(if let Some(slot) = slots.next() { *slot = $ty.into_slot() })*
            }
        }
    };
}

macro_rules! results {
    ($($ty:ident)*) => {
        impl<$($ty: WasmTy),*> WasmResults for ($($ty,)*) {
            const TYPES: &'static [ValType] = &[$($ty::TYPE),*];

            #[inline]
            #[allow(non_snake_case, unused_variables, unused_mut)]
            fn into_slots(self, slots: &mut [u64]) {
                let ($($ty,)*) = self;
                let mut slots = slots.iter_mut();
                $(if let Some(slot) = slots.next() { *slot = $ty.into_slot() })*
            }

            #[inline]
            #[allow(unused_variables, unused_mut, clippy::unused_unit)]
            fn from_slots(slots: &[u64]) -> Self {
                let mut slots = slots.iter().copied();
                ($($ty::from_slot(slots.next().unwrap_or_default()),)*)
            }
        }
    };
}

macro_rules! tuples {
    ($macro:ident: $($first:ident $($rest:ident)*)?) => {
        $macro!($($first $($rest)*)?);
        $(tuples!($macro: $($rest)*);)?
    };
}

pub(crate) use tuples;

tuples!(params: A B C D E F G H I J K L M N O P);
tuples!(results: A B C D);

impl<R: WasmResults> HostResult for R {
    type Results = R;

    #[inline]
    fn into_result(self) -> Result<R, Box<dyn StdError + Send + Sync>> {
        Ok(self)
    }
}

impl<R: WasmResults, E: Into<Box<dyn StdError + Send + Sync>>> HostResult for Result<R, E> {
    type Results = R;

    #[inline]
    fn into_result(self) -> Result<R, Box<dyn StdError + Send + Sync>> {
        self.map_err(Into::into)
    }
}

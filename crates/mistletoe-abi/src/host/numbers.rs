//! Rust's numbers as WebAssembly's: what the parameters and results of a host function can be.

use std::error::Error as StdError;

use crate::error::Result;
use crate::types::ValType;

/// A number that crosses the boundary: `u32` and `i32` as `i32`, `u64` and `i64` as `i64`, `f32`, `f64`.
pub trait WasmTy: Copy + sealed::Sealed + 'static {
    /// Its type in WebAssembly.
    const TYPE: ValType;

    /// What it is in a slot; see [`Instance`](crate::Instance).
    fn into_slot(self) -> u64;

    /// What a slot holds.
    fn from_slot(slot: u64) -> Self;
}

/// The parameters of a guest's function: a tuple of up to 16 [`WasmTy`]s.
pub trait WasmParams: Copy + sealed::Sealed + 'static {
    /// Their types.
    const TYPES: &'static [ValType];

    /// Writes them to the first slots, of which there are enough.
    fn into_slots(self, slots: &mut [u64]);
}

/// The results of a function: `()`, one [`WasmTy`], or a tuple of up to 4.
pub trait WasmResults: Copy + sealed::Sealed + 'static {
    /// Their types.
    const TYPES: &'static [ValType];

    /// Writes them to the first slots, of which there are enough.
    fn into_slots(self, slots: &mut [u64]);

    /// Reads them from the first slots.
    fn from_slots(slots: &[u64]) -> Self;
}

/// What a host function answers with: results, or a `Result` of them.
///
/// Any error will do that converts to a boxed one: `std`'s, `anyhow`'s, a string. The layer's own
/// [`Error`](crate::Error) travels as it is; any other becomes the source of an
/// [`ErrorKind::Host`](crate::ErrorKind::Host), where [`Error::downcast_ref`](crate::Error::downcast_ref) finds it.
pub trait HostResult {
    /// The results.
    type Results: WasmResults;

    /// The results, or the error in a box.
    ///
    /// # Errors
    ///
    /// What the function answered with.
    fn into_result(self) -> Result<Self::Results, Box<dyn StdError + Send + Sync>>;
}

/// How many slots a call by [`Caller::call`] has.
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

//! Conversions between slots and an engine's own values.

use crate::backend::instance::Instance;
use crate::error::Result;
use crate::host::func::HostFunc;
use crate::types::ValType;

/// Conversions between slots and an engine's own values.
///
/// They serve functions whose type the engine learns at run time. The macro [`values`](crate::values) implements the
/// trait.
pub trait Values {
    /// The engine's type for a value.
    type Value;
    /// The engine's type for the type of a value.
    type Type;

    /// Returns the engine's equivalent of a number type.
    fn ty(ty: &ValType) -> Self::Type;

    /// Reads a number from a slot; see [`Instance`] for the layout.
    fn from_slot(slot: u64, ty: &ValType) -> Self::Value;

    /// Returns the slot for a number; 0 for a value that is not a number.
    fn into_slot(value: &Self::Value) -> u64;

    /// Returns the engine's equivalents of parameter or result types.
    fn types(types: &[ValType]) -> Vec<Self::Type> {
        types.iter().map(Self::ty).collect()
    }

    /// Reads numbers from slots, one for each type.
    fn from_slots(slots: &[u64], types: &[ValType]) -> Vec<Self::Value> {
        slots.iter().zip(types).map(|(slot, ty)| Self::from_slot(*slot, ty)).collect()
    }

    /// Writes numbers to the first slots.
    fn into_slots(values: &[Self::Value], slots: &mut [u64]) {
        for (slot, value) in slots.iter_mut().zip(values) {
            *slot = Self::into_slot(value);
        }
    }

    /// Returns one zero for each type, as space for results.
    fn zeros(types: &[ValType]) -> Vec<Self::Value> {
        types.iter().map(|ty| Self::from_slot(0, ty)).collect()
    }

    /// Calls a host function with the engine's values.
    ///
    /// Writes the results to `results`, which holds one value for each result.
    ///
    /// # Errors
    ///
    /// As [`HostFunc::call`].
    fn call_host(
        host: &HostFunc,
        instance: &mut impl Instance,
        params: &[Self::Value],
        results: &mut [Self::Value],
    ) -> Result<()> {
        let mut slots = vec![0; params.len().max(results.len())];
        Self::into_slots(params, &mut slots);
        host.call(instance, &mut slots)?;
        for ((slot, result), ty) in slots.iter().zip(results).zip(host.ty().results.iter()) {
            *result = Self::from_slot(*slot, ty);
        }
        Ok(())
    }
}

/// Implements [`Values`](crate::backend::Values) for a backend.
///
/// The engine has one enum for values, with the variants `I32`, `I64`, `F32` and `F64`, and one for their types, with
/// the same variants and one for a reference type. No host function has a reference in its type.
///
/// The last two arguments are the payload types of `F32` and `F64`. They have `from_bits` and `to_bits`.
///
/// ```ignore
/// use my_engine::{Type, Value};
///
/// values!(MyEngine: Value, Type::ExternRef, f32, f64);
/// ```
#[macro_export]
macro_rules! values {
    ($backend:ty: $value:ident, $ty:ident::$reference:ident, $f32:ty, $f64:ty) => {
        impl $crate::backend::Values for $backend {
            type Value = $value;
            type Type = $ty;

            fn ty(ty: &$crate::types::ValType) -> $ty {
                match ty {
                    $crate::types::ValType::I32 => $ty::I32,
                    $crate::types::ValType::I64 => $ty::I64,
                    $crate::types::ValType::F32 => $ty::F32,
                    $crate::types::ValType::F64 => $ty::F64,
                    _ => $ty::$reference,
                }
            }

            fn from_slot(slot: u64, ty: &$crate::types::ValType) -> $value {
                match ty {
                    $crate::types::ValType::I64 => $value::I64(slot.cast_signed()),
                    $crate::types::ValType::F32 => $value::F32(<$f32>::from_bits(slot as u32)),
                    $crate::types::ValType::F64 => $value::F64(<$f64>::from_bits(slot)),
                    _ => $value::I32(slot as i32),
                }
            }

            fn into_slot(value: &$value) -> u64 {
                match value {
                    $value::I32(value) => value.cast_unsigned().into(),
                    $value::I64(value) => value.cast_unsigned(),
                    $value::F32(value) => value.to_bits().into(),
                    $value::F64(value) => value.to_bits(),
                    _ => 0,
                }
            }
        }
    };
}

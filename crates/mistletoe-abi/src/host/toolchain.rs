//! Functions that compilers' runtimes import on their own account, there for every guest. A host program's functions of
//! the same names take their places.

use crate::error::{ErrorKind, Result};
use crate::host::caller::Caller;
use crate::host::imports::Imports;

/// Bytes that are read of a guest's message or file name.
const MAX_TEXT: u32 = 4096;

/// Provides those that the host program does not.
pub(crate) fn provide<T: Send + 'static>(imports: &mut Imports<T>) {
    // wasm-bindgen leaves it in modules that never call it on the way to an answer.
    imports.or_func_of_any_module("__wbindgen_init_externref_table", |_: &mut Caller<'_, T>| ());
    imports.or_func("env", "abort", abort);
    // What is to be notified is a host that keeps views of the memory, which none here does.
    imports.or_func("env", "emscripten_notify_memory_growth", |_: &mut Caller<'_, T>, _memory: u32| ());
}

/// AssemblyScript's `abort`: the guest gives up.
fn abort<T: 'static>(caller: &mut Caller<'_, T>, message: u32, file: u32, line: u32, column: u32) -> Result<()> {
    let message = string(caller, "message", message)?;
    let file = string(caller, "fileName", file)?;
    Err(ErrorKind::Aborted { message, file, line, column }.into())
}

/// A string of AssemblyScript's: UTF-16, with its length in bytes in front of it. Null is none.
fn string<T: 'static>(caller: &Caller<'_, T>, argument: &'static str, address: u32) -> Result<String> {
    if address == 0 {
        return Ok(String::new());
    }
    let length = caller.bytes(argument, address.wrapping_sub(4), 4)?;
    let length = length.try_into().map_or(0, u32::from_le_bytes);
    let bytes = caller.bytes(argument, address, length.min(MAX_TEXT))?;
    let units = bytes.chunks_exact(2).filter_map(|unit| unit.try_into().ok()).map(u16::from_le_bytes);
    Ok(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

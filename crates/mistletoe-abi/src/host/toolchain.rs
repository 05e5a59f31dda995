//! Functions that compilers' runtimes import by themselves, provided to every guest.
//!
//! A host program's functions of the same names replace them.

use crate::error::{ErrorKind, Result};
use crate::host::caller::Caller;
use crate::host::imports::Imports;

/// The most bytes that are read of a guest's message or file name.
const MAX_TEXT: u32 = 4096;

/// Adds the functions that the host program does not provide.
pub(crate) fn provide<T: Send + 'static>(imports: &mut Imports<T>) {
    // wasm-bindgen leaves this import in modules that never call it to compute an output.
    imports.or_func_of_any_module("__wbindgen_init_externref_table", |_: &mut Caller<'_, T>| ());
    imports.or_func("env", "abort", abort);
    // The function notifies hosts that keep views of the memory. The layer keeps none.
    imports.or_func("env", "emscripten_notify_memory_growth", |_: &mut Caller<'_, T>, _memory: u32| ());
}

/// AssemblyScript's `abort`, by which the guest terminates itself.
fn abort<T: 'static>(caller: &mut Caller<'_, T>, message: u32, file: u32, line: u32, column: u32) -> Result<()> {
    let message = string(caller, "message", message)?;
    let file = string(caller, "fileName", file)?;
    Err(ErrorKind::Aborted { message, file, line, column }.into())
}

/// Reads an AssemblyScript string: UTF-16, with its length in bytes in front of it.
///
/// The string at address 0 is empty.
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

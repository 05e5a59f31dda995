//! The host functions of flights, the packages of [yoke](https://yokecd.github.io).
//!
//! A flight is a WASI command: it reads values from its standard input and writes Kubernetes resources to its standard
//! output. Through the functions `k8s_lookup` and `k8s_rest_mapping` of the module [`MODULE`] it can ask for what is in
//! the cluster. [`add_to`] defines them for a host without access to a cluster: each call has the result that the
//! feature is not granted, which flights handle.
//!
//! ```
//! # #[cfg(all(feature = "wasmi", feature = "wasi"))] {
//! use mistletoe::wasi::{self, Wasi};
//! use mistletoe::{Command, Limits, Result, Wasmi, yoke};
//!
//! fn run(wasm: &[u8], values: &str) -> Result<Vec<u8>> {
//!     let mut imports = wasi::imports::<Wasi>();
//!     yoke::add_to(&mut imports);
//!     let command = Command::with_imports(&Wasmi::new(), wasm, &imports, Limits::default())?;
//!     let wasi = Wasi::builder().args(["my-release"]).env([("YOKE_RELEASE", "my-release")]).stdin(values).build();
//!     let (code, mut wasi) = command.session_with(wasi)?.run();
//!     code?;
//!     Ok(wasi.take_stdout())
//! }
//! # }
//! ```

use mistletoe_abi::host::unpack;
use mistletoe_abi::{Caller, ErrorKind, Imports, Result};

/// Module that flights import the functions from.
pub const MODULE: &str = "host";

/// The state of a call whose feature is not granted.
const NOT_GRANTED: u32 = 1;
/// The text that goes with it.
const MESSAGE: &[u8] = b"feature not granted";
/// Takes a length in bytes, returns the address and the length of that much memory in one number.
const MALLOC: &str = "malloc";

/// Adds `k8s_lookup` and `k8s_rest_mapping`, which grant nothing, to the host's own functions.
///
/// Both write the state 1 to the address that is their first argument. They return a buffer with a message if the guest
/// exports `malloc`, of the type `[i32] -> [i64]`, and 0 otherwise.
pub fn add_to<T: Send + 'static>(imports: &mut Imports<T>) {
    imports.func(
        MODULE,
        "k8s_lookup",
        |caller: &mut Caller<'_, T>, state: u32, _name: u64, _namespace: u64, _kind: u64, _api_version: u64| {
            refuse(caller, state)
        },
    );
    imports.func(
        MODULE,
        "k8s_rest_mapping",
        |caller: &mut Caller<'_, T>, state: u32, _group_or_api_version: u64, _kind: u64| refuse(caller, state),
    );
}

fn refuse<T: 'static>(caller: &mut Caller<'_, T>, state: u32) -> Result<u64> {
    let buffer = match caller.get_func::<(u32,), u64>(MALLOC) {
        Ok(malloc) => {
            let buffer = caller.call(&malloc, (MESSAGE.len() as u32,))?;
            let (address, length) = unpack(buffer);
            let message = MESSAGE.get(..length as usize).unwrap_or(MESSAGE);
            caller.bytes_mut("result", address, message.len() as u32)?.copy_from_slice(message);
            buffer
        }
        Err(error) if matches!(error.kind(), ErrorKind::Interface { .. }) => 0,
        Err(error) => return Err(error),
    };
    caller.bytes_mut("state", state, 4)?.copy_from_slice(&NOT_GRANTED.to_le_bytes());
    Ok(buffer)
}

#[cfg(all(test, feature = "wasmi"))]
mod tests {
    use mistletoe_abi::{Command, Limits};

    use super::*;
    use crate::Wasmi;

    /// Runs a program that makes both calls, and returns its exit code: 0 if `check` accepts both results.
    fn run(malloc: &str, check: &str) -> Result<u32> {
        let wasm = wat::parse_str(format!(
            r#"(module
              (import "host" "k8s_lookup" (func $lookup (param i32 i64 i64 i64 i64) (result i64)))
              (import "host" "k8s_rest_mapping" (func $mapping (param i32 i64 i64) (result i64)))
              (memory (export "memory") 1)
              {malloc}
              (func $check (param $buffer i64)
                (if (i32.ne (i32.load (i32.const 8)) (i32.const 1)) (then (unreachable)))
                (i32.store (i32.const 8) (i32.const 0))
                {check})
              (func (export "_start")
                (call $check (call $lookup (i32.const 8) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))
                (call $check (call $mapping (i32.const 8) (i64.const 0) (i64.const 0)))))"#
        ))
        .expect("a module");
        let mut imports = Imports::<()>::new();
        add_to(&mut imports);
        Command::with_imports(&Wasmi::new(), &wasm, &imports, Limits::default())?.session()?.run().0
    }

    #[test]
    fn both_functions_say_that_nothing_is_granted() {
        let malloc = r#"(func (export "malloc") (param i32) (result i64)
            (i64.or (i64.shl (i64.const 1024) (i64.const 32)) (i64.extend_i32_u (local.get 0))))"#;
        // The length of the message, its first and its last letters.
        let check = r#"
            (if (i64.ne (local.get $buffer) (i64.const 0x0000_0400_0000_0013)) (then (unreachable)))
            (if (i32.ne (i32.load (i32.const 1024)) (i32.const 0x74616566)) (then (unreachable)))
            (if (i32.ne (i32.load8_u (i32.const 1042)) (i32.const 0x64)) (then (unreachable)))"#;
        assert_eq!(run(malloc, check).expect("both calls are refused"), 0);
    }

    #[test]
    fn a_guest_without_an_allocator_gets_the_state_alone() {
        let check = "(if (i64.ne (local.get $buffer) (i64.const 0)) (then (unreachable)))";
        for malloc in ["", r#"(func (export "malloc") (param i32) (result i32) (unreachable))"#] {
            assert_eq!(run(malloc, check).expect("both calls are refused"), 0);
        }
    }

    #[test]
    fn a_buffer_outside_the_memory_is_an_error() {
        let malloc = r#"(func (export "malloc") (param i32) (result i64) (i64.const 0x7fff_0000_0000_0013))"#;
        let error = run(malloc, "").expect_err("no such memory");
        assert!(matches!(error.kind(), ErrorKind::OutOfBounds { .. }), "{error}");
    }
}

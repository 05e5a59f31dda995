//! A call of a host function does not allocate, on any engine.
//!
//! A guest that makes 1,000 calls causes as many allocations as one that makes 10.

use libtest_mimic::{Arguments, Failed, Trial};
use mistletoe::{AnyPackage, Caller, Error, Imports, Limits, backends};

/// The functions: name, type, and the guest code that calls them.
const FUNCTIONS: [(&str, &str, &str); 5] = [
    ("nothing", "", "(call $f)"),
    ("add", "(param i32 i64) (result i64)", "(drop (call $f (i32.const 1) (i64.const 2)))"),
    ("count", "(result i32)", "(drop (call $f))"),
    ("text", "(param i32 i32) (result i32)", "(drop (call $f (i32.const 256) (i32.const 4)))"),
    ("fill", "(param i32 i32) (result i32)", "(drop (call $f (i32.const 256) (i32.const 4)))"),
];

fn imports() -> Imports<u32> {
    let mut imports = Imports::new();
    imports
        .func("env", "nothing", |_: &mut Caller<'_, u32>| ())
        .func("env", "add", |_: &mut Caller<'_, u32>, a: u32, b: u64| b.wrapping_add(a.into()))
        .func("env", "count", |caller: &mut Caller<'_, u32>| {
            *caller.state_mut() += 1;
            *caller.state()
        })
        .func("env", "text", |caller: &mut Caller<'_, u32>, address: u32, length: u32| {
            Ok::<_, Error>(caller.str("text", address, length)?.len() as u32)
        })
        .func("env", "fill", |caller: &mut Caller<'_, u32>, address: u32, limit: u32| {
            caller.fill("buffer", address, limit, b"data")
        });
    imports
}

/// Returns a guest that makes `calls` calls per `generate`.
fn guest((name, ty, call): (&str, &str, &str), calls: u32) -> String {
    format!(
        r#"(module
            (import "env" "{name}" (func $f {ty}))
            (memory (export "memory") 1)
            (data (i32.const 256) "text")
            (func (export "__mistletoe_info") (result i32) (i32.const 8))
            (func (export "__mistletoe_alloc") (param i32) (result i32) (i32.const 16))
            (func (export "__mistletoe_dealloc") (param i32 i32))
            (func (export "__mistletoe_generate") (param i32 i32) (result i32)
                (local $left i32)
                (local.set $left (i32.const {calls}))
                (loop $again
                    {call}
                    (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (i32.const 8)))"#
    )
}

/// Counts the allocations of the second `generate` of a session.
fn allocations(backend: &str, function: (&str, &str, &str), calls: u32) -> Result<u64, Failed> {
    let wasm = wat::parse_str(guest(function, calls))?;
    let package = AnyPackage::with_imports(&mistletoe::backend(backend)?, &wasm, &imports(), Limits::default())?;
    let mut session = package.session()?;
    session.generate("")?;
    let mut result = Ok(String::new());
    let measured = allocation_counter::measure(|| result = session.generate(""));
    result?;
    Ok(measured.count_total)
}

fn main() -> std::process::ExitCode {
    let enabled = || backends().iter().filter(|info| info.is_enabled());
    let trials = enabled().flat_map(|info| {
        FUNCTIONS.iter().map(|function| {
            Trial::test(format!("{}::{}", info.name(), function.0), || {
                let (few, many) =
                    (allocations(info.name(), *function, 10)?, allocations(info.name(), *function, 1_000)?);
                if few == many {
                    Ok(())
                } else {
                    Err(format!("{few} allocations for 10 calls, {many} for 1,000").into())
                }
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

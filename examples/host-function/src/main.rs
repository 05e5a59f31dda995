//! A host program that provides its own function, `env.lookup`, to a package.
//!
//! The command line names the engine. The package asks for the value of `team`.
//!
//! ```sh
//! cargo run -p host-function -- wasmi team=ops
//! cargo run -p host-function --features wasmtime -- wasmtime team=ops
//! ```

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;

use mistletoe::{AnyPackage, Caller, Imports, Limits, backend};

/// State of a session: the values, and how often they were looked up.
struct Values {
    values: BTreeMap<String, String>,
    lookups: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let engine = arguments.next().ok_or("usage: host-function ENGINE KEY=VALUE…")?;
    let values = arguments.map(|argument| match argument.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!("`{argument}` is not KEY=VALUE")),
    });
    let state = Values { values: values.collect::<Result<_, _>>()?, lookups: 0 };

    // Writes the value of a key to the package's buffer, if it fits, and returns the length that it needs.
    let mut imports = Imports::new();
    imports.func("env", "lookup", |caller: &mut Caller<'_, Values>, key: u32, length: u32, buffer: u32, limit: u32| {
        let key = caller.str("key", key, length)?.to_owned();
        let state = caller.state_mut();
        state.lookups += 1;
        let value = state.values.get(&key).ok_or_else(|| format!("there is no value for `{key}`"))?.clone();
        Ok::<_, Box<dyn Error + Send + Sync>>(caller.fill("buffer", buffer, limit, value.as_bytes())?)
    });

    let wasm = wat::parse_str(include_str!("package.wat"))?;
    let package = AnyPackage::with_imports(&backend(&engine)?, &wasm, &imports, Limits::default())?;
    let mut session = package.session_with(state)?;
    print!("{}", session.generate("")?);
    println!("# lookups: {}", session.state().lookups);
    Ok(())
}

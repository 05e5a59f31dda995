//! A host program that compiles a package once and runs it on several threads.
//!
//! The command line names the engine.
//!
//! ```sh
//! cargo run -p host -- examples/packages/namespace.wat wasmi web api db
//! cargo run -p host --features wasmtime -- examples/packages/namespace.wat wasmtime web api db
//! ```

#![forbid(unsafe_code)]

use std::error::Error;

use mistletoe::documents::{MistInput, MistResult, yaml::Mapping};
use mistletoe::{AnyPackage, backend};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, engine, names @ ..] = arguments.as_slice() else {
        return Err("usage: host PACKAGE ENGINE NAME…".into());
    };
    let wasm = wat::parse_file(path)?;
    let package = AnyPackage::new(&backend(engine)?, &wasm)?;

    // The threads share the package. Each has its own session, with its own memory.
    let answers: Vec<Result<MistResult, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(|| answer(&package, name))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    for answer in answers {
        match answer? {
            MistResult::Ok { files, .. } => files.iter().for_each(|(name, text)| println!("# {name}\n{text}")),
            MistResult::Err { message } => println!("# refused: {}", message.unwrap_or_default()),
        }
    }
    Ok(())
}

fn answer(package: &AnyPackage, name: &str) -> Result<MistResult, Failure> {
    let input = MistInput::new(name, Mapping::new()).to_yaml();
    let mut session = package.session()?;
    // The output is borrowed from the guest's memory, without a copy.
    Ok(session.generate_with(&input, MistResult::parse)??)
}

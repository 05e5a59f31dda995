//! Hosts of httpwasm plugins, written for one engine each, as an expert of the engine would write a fast one.
//!
//! They follow the rules of `docs/httpwasm.md` for a plugin whose `run` takes no parameters and whose records end with
//! a line feed. They have no limits, no WASI and no variables, and trust the module in everything else.
//!
//! Each of them has a `Plugin`, which is compiled and linked once, and a `Session`, an instance of it.

pub mod wasmer;
pub mod wasmi;
pub mod wasmtime;

use std::io::BufRead as _;

use bytes::Bytes;

pub use crate::baseline::Result;
use crate::baseline::range;

/// The module of the host functions.
const MODULE: &str = "httpwasm";

/// A plugin on any engine.
pub trait Host: Send + Sync + Sized + 'static {
    /// An instance. It stays on the thread that created it.
    type Session: Session;

    /// Compiles a plugin, and links it.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    fn compile(wasm: &[u8]) -> Result<Self>;

    /// Creates an instance.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    fn session(&self) -> Result<Self::Session>;
}

/// An instance of a plugin.
pub trait Session: 'static {
    /// Returns what the plugin writes to its standard output for an input.
    ///
    /// # Errors
    ///
    /// Returns the engine's errors.
    fn respond(&mut self, input: Bytes) -> Result<Vec<u8>>;
}

/// The data of a store: what the host functions need of the instance, and the streams of the request.
#[derive(Debug)]
struct State<M, F> {
    /// The memory and `malloc`, set after instantiation.
    exports: Option<(M, F)>,
    input: Bytes,
    /// How much of the input has been read.
    read: usize,
    /// Addresses from `malloc`, to be freed after the request.
    given: Vec<u32>,
    output: Vec<u8>,
}

impl<M, F> Default for State<M, F> {
    fn default() -> Self {
        Self { exports: None, input: Bytes::new(), read: 0, given: Vec::new(), output: Vec::new() }
    }
}

/// The next record: a part of the input, and whether it lacks the line feed at its end.
struct Record {
    bytes: Bytes,
    is_open: bool,
}

impl Record {
    /// Returns the length in the guest's memory.
    fn length(&self) -> u32 {
        // No request is as long as 4 GiB.
        (self.bytes.len() + usize::from(self.is_open)) as u32
    }

    /// Writes the record to memory of its length.
    fn write(&self, memory: &mut [u8]) {
        let (record, rest) = memory.split_at_mut(self.bytes.len());
        record.copy_from_slice(&self.bytes);
        rest.fill(b'\n');
    }
}

impl<M, F> State<M, F> {
    fn begin(&mut self, input: Bytes) {
        (self.input, self.read) = (input, 0);
    }

    fn next(&mut self) -> Option<Record> {
        // The system's `memchr`, by the way of the standard library. Reading a slice cannot fail.
        let length = self.input.get(self.read..)?.skip_until(b'\n').ok().filter(|length| *length > 0)?;
        let bytes = self.input.slice(self.read..self.read + length);
        self.read += length;
        Some(Record { is_open: !bytes.ends_with(b"\n"), bytes })
    }

    /// Writes to the standard output.
    fn write(&mut self, memory: &[u8], address: u32, length: u32) -> Result<()> {
        self.output.extend_from_slice(range(memory, address, length)?);
        Ok(())
    }
}

/// Returns an address and a length as `igets` does.
fn pack(address: u32, length: u32) -> u64 {
    u64::from(address) << 32 | u64::from(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_greets_each_record() {
        fn check<H: Host>() {
            let plugin = H::compile(include_bytes!("../../../examples/packages/httpwasm-c.wasm")).expect("a plugin");
            let mut session = plugin.session().expect("an instance");
            let long = "x".repeat(1 << 20);
            for (input, output) in [
                ("", String::new()),
                ("world", "hello, world\n".to_owned()),
                ("a\n\nb\n", "hello, a\nhello, b\n".to_owned()),
                (&*long, format!("hello, {long}\n")),
                ("again", "hello, again\n".to_owned()),
            ] {
                let response = session.respond(Bytes::copy_from_slice(input.as_bytes())).expect("a response");
                assert!(response == output.as_bytes(), "{} bytes", input.len());
            }
        }
        check::<wasmtime::Plugin>();
        check::<wasmer::Plugin>();
        check::<wasmi::Plugin>();
    }
}

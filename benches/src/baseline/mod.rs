//! Hosts written for one engine each, as an expert of the engine would write a fast one.
//!
//! Constant data is looked up once, and memory is a slice. The hosts follow the rules of `docs/abi.md` for an output
//! (rules 3 and 5), with the same checks of addresses and of text. They trust the module in everything else: no checks
//! before the engine's own, no limits, no poisoning.
//!
//! Each of them has a `Host`, which compiles packages and defines host functions, a `Package` and a `Session`, with the
//! same methods.

mod functions;
pub mod wasmer;
pub mod wasmi;
pub mod wasmtime;

/// The result type of hand-written hosts.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The data of a store.
#[derive(Debug)]
pub struct State<M> {
    /// Set after instantiation.
    memory: Option<M>,
    count: u32,
}

impl<M> Default for State<M> {
    fn default() -> Self {
        Self { memory: None, count: 0 }
    }
}

/// Returns a range of a package's memory.
#[inline]
pub(crate) fn range(memory: &[u8], start: u32, length: u32) -> Result<&[u8]> {
    let start = start as usize;
    memory.get(start..start + length as usize).ok_or_else(|| "a range outside the memory".into())
}

/// Returns a mutable range of a package's memory.
#[inline]
pub(crate) fn range_mut(memory: &mut [u8], start: u32, length: u32) -> Result<&mut [u8]> {
    let start = start as usize;
    memory.get_mut(start..start + length as usize).ok_or_else(|| "a range outside the memory".into())
}

/// Reads the output that a fat pointer points to: its address, its length, and a copy.
#[inline]
fn output(memory: &[u8], fat: u32) -> Result<(u32, u32, String)> {
    let word = |at: u32| -> Result<u32> {
        let bytes = range(memory, at, 4)?.first_chunk().ok_or("no word")?;
        Ok(u32::from_le_bytes(*bytes))
    };
    let (start, length) = (word(fat)?, word(fat.checked_add(4).ok_or("a fat pointer outside the memory")?)?);
    let text = std::str::from_utf8(range(memory, start, length)?)?.to_owned();
    Ok((start, length, text))
}

//! Hosts written for one engine each, as somebody who knows the engine would write one that has to be quick: what does
//! not change is looked up once, and memory is a slice. They do what `docs/abi.md` asks of an answer (rules 3 and 5),
//! with the same checks of addresses and of text, and trust the module in all else: no check before the engine's own,
//! no limits, no poisoning.
//!
//! Each of them has a `Host`, which compiles packages and offers host functions, a `Package` and a `Session`, with the
//! same methods.

mod functions;
pub mod wasmer;
pub mod wasmi;
pub mod wasmtime;

/// What hosts by hand fail with.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What a store holds.
#[derive(Debug)]
pub struct State<M> {
    /// There once the instance is.
    memory: Option<M>,
    count: u32,
}

impl<M> Default for State<M> {
    fn default() -> Self {
        Self { memory: None, count: 0 }
    }
}

/// A range of a package's memory.
#[inline]
fn range(memory: &[u8], start: u32, length: u32) -> Result<&[u8]> {
    let start = start as usize;
    memory.get(start..start + length as usize).ok_or_else(|| "a range outside the memory".into())
}

/// The same, to be written.
#[inline]
fn range_mut(memory: &mut [u8], start: u32, length: u32) -> Result<&mut [u8]> {
    let start = start as usize;
    memory.get_mut(start..start + length as usize).ok_or_else(|| "a range outside the memory".into())
}

/// The output that a fat pointer leads to: its address, its length, and a copy.
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

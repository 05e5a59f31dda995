//! Modules with one section altered.
//!
//! The modules are valid, so the reader checks nothing. What cannot be altered is left as it is.

const MEMORY: u8 = 5;

/// A module's sections: the id of each, and its contents (core 2.0, section 5.5.2).
pub(super) type Sections = Vec<(u8, Vec<u8>)>;

/// Returns the module with a memory that cannot grow beyond `pages`, or beyond its initial size if that is larger.
pub(crate) fn bounded_memory(wasm: &[u8], pages: u64) -> Option<Vec<u8>> {
    other_maximum(wasm, |maximum| Some(maximum.unwrap_or(u64::MAX).min(pages)))
}

/// Returns the module with a memory that can have `more` pages, or without a maximum.
pub(crate) fn unbounded_memory(wasm: &[u8], more: Option<u64>) -> Option<Vec<u8>> {
    other_maximum(wasm, |maximum| more.and_then(|more| Some((maximum? + more).min(1 << 16))))
}

fn other_maximum(wasm: &[u8], other: impl Fn(Option<u64>) -> Option<u64>) -> Option<Vec<u8>> {
    let mut sections = read(wasm)?;
    let (_, memory) = sections.iter_mut().find(|(id, _)| *id == MEMORY)?;
    // One memory: whether it has a maximum, its minimum, its maximum.
    let (_, rest) = number(memory)?;
    let (bounded, rest) = number(rest)?;
    let (minimum, rest) = number(rest)?;
    let maximum = other(if bounded == 1 { Some(number(rest)?.0) } else { None });
    let mut altered = vec![1, maximum.is_some().into()];
    append(&mut altered, minimum);
    if let Some(maximum) = maximum {
        append(&mut altered, maximum.max(minimum));
    }
    *memory = altered;
    Some(write(wasm, &sections))
}

pub(super) fn read(wasm: &[u8]) -> Option<Sections> {
    let mut sections = Vec::new();
    let mut rest = wasm.get(8..)?;
    while let [id, after @ ..] = rest {
        let (size, after) = number(after)?;
        let (content, after) = after.split_at_checked(usize::try_from(size).ok()?)?;
        sections.push((*id, content.to_vec()));
        rest = after;
    }
    Some(sections)
}

pub(super) fn write(wasm: &[u8], sections: &Sections) -> Vec<u8> {
    let mut altered = wasm.get(..8).unwrap_or_default().to_vec();
    for (id, content) in sections {
        altered.push(*id);
        append(&mut altered, content.len() as u64);
        altered.extend(content);
    }
    altered
}

/// Reads a LEB128 number, and returns it with the rest.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| *byte < 0x80)?;
    let (number, rest) = bytes.split_at_checked(end + 1)?;
    Some((number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f)), rest))
}

pub(super) fn append(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

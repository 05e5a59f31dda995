//! The guest's memory, for host functions that only write to it.

use std::ops::Range;

/// The guest's memory, for a [repeatable](crate::Imports::repeatable_func) function, which only writes to it.
pub struct Output<'a>(pub(crate) To<'a>);

/// Where a function writes to.
pub(crate) enum To<'a> {
    /// The memory. What is written is noted, if somebody wants to know.
    Memory(&'a mut [u8], Option<&'a mut Vec<Range<usize>>>),
    /// In place of a memory of a length, a list of what would be written to it, in order.
    List(usize, &'a mut Vec<Write>),
}

/// Bytes that a function writes, and their address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) address: usize,
    pub(crate) bytes: Vec<u8>,
}

impl<'a> Output<'a> {
    /// Returns the length of the memory, in bytes.
    pub fn length(&self) -> usize {
        match &self.0 {
            To::Memory(memory, _) => memory.len(),
            To::List(length, _) => *length,
        }
    }

    /// Returns a range of the memory, all of which the function has to write. `None` if it is not in the memory.
    ///
    /// What the bytes are before means nothing.
    pub fn get_mut(&mut self, range: Range<usize>) -> Option<&mut [u8]> {
        if range.end > self.length() || range.start > range.end {
            return None;
        }
        if range.is_empty() {
            return Some(&mut []);
        }
        match &mut self.0 {
            To::Memory(memory, noted) => {
                let bytes = memory.get_mut(range.clone())?;
                if let Some(noted) = noted {
                    noted.push(range);
                }
                Some(bytes)
            }
            To::List(_, writes) => {
                writes.push(Write { address: range.start, bytes: vec![0; range.len()] });
                writes.last_mut().map(|write| write.bytes.as_mut_slice())
            }
        }
    }
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("length", &self.length()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_what_a_memory_of_its_length_takes() {
        let (mut memory, mut noted, mut list) = ([7; 8], Vec::new(), Vec::new());
        let ranges = [0..8, 4..8, 8..8, 3..3, 0..9, 8..9, usize::MAX - 1..usize::MAX];
        let written = |output: &mut Output<'_>| {
            ranges.clone().map(|range| output.get_mut(range).map(|bytes| (bytes.fill(1), bytes.len()).1))
        };
        let expected = [Some(8), Some(4), Some(0), Some(0), None, None, None];
        assert_eq!(written(&mut Output(To::Memory(&mut memory, Some(&mut noted)))), expected);
        assert_eq!(written(&mut Output(To::List(8, &mut list))), expected);
        assert_eq!(noted, [0..8, 4..8]);
        let write = |address: usize, length: usize| Write { address, bytes: vec![1; length] };
        assert_eq!(list, [write(0, 8), write(4, 4)]);
    }
}

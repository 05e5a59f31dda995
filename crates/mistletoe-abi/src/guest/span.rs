//! Ranges of memory that guests name.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Region, Result};

/// A range of the guest's memory, as the guest named it.
///
/// It may lie outside the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The address of the first byte.
    pub address: u32,
    /// The length in bytes.
    pub length: u32,
}

impl Span {
    /// Reads the span in the fat pointer at `address`: two little-endian words at any alignment.
    #[inline]
    pub(crate) fn behind(memory: &[u8], address: u32) -> Result<Self> {
        let pointer = Self { address, length: 8 };
        match *pointer.of(memory, &Region::FatPointer)? {
            [a0, a1, a2, a3, l0, l1, l2, l3] => {
                Ok(Self { address: u32::from_le_bytes([a0, a1, a2, a3]), length: u32::from_le_bytes([l0, l1, l2, l3]) })
            }
            _ => Err(pointer.outside(&Region::FatPointer, memory.len())),
        }
    }

    /// Returns the bytes of `memory` in this range.
    #[inline]
    pub(crate) fn of<'a>(self, memory: &'a [u8], region: &Region) -> Result<&'a [u8]> {
        self.get(memory).ok_or_else(|| self.outside(region, memory.len()))
    }

    /// Returns the bytes of `memory` in this range, mutably.
    #[inline]
    pub(crate) fn of_mut<'a>(self, memory: &'a mut [u8], region: &Region) -> Result<&'a mut [u8]> {
        let size = memory.len();
        self.get_mut(memory).ok_or_else(|| self.outside(region, size))
    }

    /// Returns the bytes of `memory` in this range, if it lies inside.
    #[inline]
    pub(crate) fn get(self, memory: &[u8]) -> Option<&[u8]> {
        memory.get(self.range(memory.len() as u64)?)
    }

    /// Returns the bytes of `memory` in this range, mutably, if it lies inside.
    #[inline]
    pub(crate) fn get_mut(self, memory: &mut [u8]) -> Option<&mut [u8]> {
        let range = self.range(memory.len() as u64)?;
        memory.get_mut(range)
    }

    /// Returns the range in a memory of `memory` bytes, if it lies inside.
    ///
    /// Both ends are computed in 64 bits, where their sum cannot wrap. The ends of a range inside the host's memory fit
    /// a `usize`, however wide it is.
    #[inline]
    fn range(self, memory: u64) -> Option<Range<usize>> {
        let start = u64::from(self.address);
        let end = start + u64::from(self.length);
        (end <= memory).then_some(start as usize..end as usize)
    }

    #[cold]
    pub(crate) fn outside(self, region: &Region, memory: usize) -> Error {
        let Self { address, length } = self;
        let (address, length) = (address.into(), length.into());
        ErrorKind::OutOfBounds { region: region.clone(), address, length, memory: memory as u64 }.into()
    }
}

/// Returns the bytes of a region as a string, which may have at most `limit` bytes.
#[inline]
pub(crate) fn text<'a>(bytes: &'a [u8], region: &Region, limit: u64) -> Result<&'a str> {
    let length = bytes.len() as u64;
    if length > limit {
        return Err(ErrorKind::TooLong { region: region.clone(), length, limit }.into());
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to() as u64;
        Error::with_source(ErrorKind::InvalidUtf8 { region: region.clone(), offset }, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u32 = u32::MAX;
    const FOUR_GIB: u64 = 1 << 32;

    fn range(address: u32, length: u32, memory: u64) -> Option<(u64, u64)> {
        Span { address, length }.range(memory).map(|range| (range.start as u64, range.end as u64))
    }

    #[test]
    fn a_range_lies_inside_as_far_as_the_memory_goes() {
        assert_eq!(range(0, 0, 0), Some((0, 0)));
        assert_eq!(range(8, 8, 16), Some((8, 16)));
        assert_eq!(range(9, 8, 16), None);
        assert_eq!(range(16, 0, 16), Some((16, 16)));
        assert_eq!(range(17, 0, 16), None);
        assert_eq!(range(LAST, 1, FOUR_GIB), Some((FOUR_GIB - 1, FOUR_GIB)));
        assert_eq!(range(LAST, 1, FOUR_GIB - 1), None);
        assert_eq!(range(LAST, 2, FOUR_GIB), None);
        assert_eq!(range(0, LAST, FOUR_GIB), Some((0, FOUR_GIB - 1)));
    }

    /// On a 32-bit host, the ends of a range inside the memory fit 32 bits, and a range that wraps is outside.
    #[test]
    fn a_host_with_32_bits_gets_the_same_ranges() {
        let interesting = [0, 1, 7, 8, 65_535, 65_536, 1 << 31, (1 << 31) + 1, LAST - 7, LAST - 1, LAST];
        for memory in interesting {
            for address in interesting {
                for length in interesting {
                    let by_hand = match address.checked_add(length) {
                        Some(end) if end <= memory => Some((address.into(), end.into())),
                        _ => None,
                    };
                    assert_eq!(range(address, length, memory.into()), by_hand, "{address} {length} {memory}");
                }
            }
        }
    }
}

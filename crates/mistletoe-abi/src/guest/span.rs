//! Ranges that guests name.

use crate::error::{Error, ErrorKind, Region, Result};

/// A range of the guest's memory, as the guest named it: nothing says that it lies inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Address of the first byte.
    pub address: u32,
    /// Length in bytes.
    pub length: u32,
}

impl Span {
    /// The one that the fat pointer at `address` holds: two little-endian words at any alignment.
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

    /// The bytes of a memory that it names.
    #[inline]
    pub(crate) fn of<'a>(self, memory: &'a [u8], region: &Region) -> Result<&'a [u8]> {
        memory.get(self.range()).ok_or_else(|| self.outside(region, memory.len()))
    }

    /// The same, to be written.
    #[inline]
    pub(crate) fn of_mut<'a>(self, memory: &'a mut [u8], region: &Region) -> Result<&'a mut [u8]> {
        let size = memory.len();
        memory.get_mut(self.range()).ok_or_else(|| self.outside(region, size))
    }

    /// Both ends as `usize`; the sum cannot wrap, since a host has 64 bits (the crate does not build elsewhere).
    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        let start = self.address as usize;
        start..start + self.length as usize
    }

    #[cold]
    pub(crate) fn outside(self, region: &Region, memory: usize) -> Error {
        let Self { address, length } = self;
        let (address, length) = (address.into(), length.into());
        ErrorKind::OutOfBounds { region: region.clone(), address, length, memory: memory as u64 }.into()
    }
}

/// The string that the bytes of a region are, at most `limit` bytes of it.
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

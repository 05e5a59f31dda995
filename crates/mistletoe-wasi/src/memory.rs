//! The guest's memory, as the functions access it. A range outside of it is [`Errno::Fault`].

use std::cell::Cell;
use std::ops::Range;

use mistletoe_abi::host::Output;

use crate::errno::Errno;
use crate::work::{LOOK, PIECE, Work};

/// Maximum number of buffers that one call reads from or writes to.
///
/// The rest is left to the guest's next call, as after any short read or write.
const MAX_VECTORS: u32 = 1024;

/// Length in bytes, including a NUL, that a path can have at most, as on Linux.
const MAX_PATH: u32 = 4096;

/// The guest's memory during one call, and the state of that call.
pub(crate) struct Memory<'a> {
    bytes: Bytes<'a>,
    /// Addresses and lengths of the last two paths that the call has read.
    named: Cell<[(u32, u32); 2]>,
    pub(crate) work: Work,
    denied: Cell<bool>,
}

/// The memory, for most functions, or what a function writes to that reads nothing.
pub(crate) enum Bytes<'a> {
    Memory(&'a mut [u8]),
    Output(Output<'a>),
}

impl Bytes<'_> {
    fn length(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Output(output) => output.length(),
        }
    }

    /// No function that has only an output reads.
    fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        match self {
            Self::Memory(bytes) => bytes.get(range),
            Self::Output(_) => None,
        }
    }

    fn get_mut(&mut self, range: Range<usize>) -> Option<&mut [u8]> {
        match self {
            Self::Memory(bytes) => bytes.get_mut(range),
            Self::Output(output) => output.get_mut(range),
        }
    }
}

impl<'a, M: AsMut<[u8]> + ?Sized> From<&'a mut M> for Bytes<'a> {
    fn from(bytes: &'a mut M) -> Self {
        Self::Memory(bytes.as_mut())
    }
}

impl<'a> From<Output<'a>> for Bytes<'a> {
    fn from(output: Output<'a>) -> Self {
        Self::Output(output)
    }
}

impl<'a> Memory<'a> {
    pub(crate) fn new(bytes: impl Into<Bytes<'a>>, work: Work) -> Self {
        let bytes = bytes.into();
        Self { bytes, named: Cell::default(), work, denied: Cell::default() }
    }

    /// Returns a range, checked.
    pub(crate) fn range(&self, address: u32, length: u32) -> Result<Range<usize>, Errno> {
        self.array(address, length, 1)
    }

    /// Returns the range of `count` elements of `size` bytes each, checked.
    pub(crate) fn array(&self, address: u32, count: u32, size: u32) -> Result<Range<usize>, Errno> {
        let (start, length) = (u64::from(address), u64::from(count) * u64::from(size));
        if start + length > self.bytes.length() as u64 {
            return Err(Errno::Fault);
        }
        Ok(start as usize..(start + length) as usize)
    }

    pub(crate) fn bytes(&self, address: u32, length: u32) -> Result<&[u8], Errno> {
        self.bytes.get(self.range(address, length)?).ok_or(Errno::Fault)
    }

    pub(crate) fn bytes_mut(&mut self, address: u32, length: u32) -> Result<&mut [u8], Errno> {
        let range = self.range(address, length)?;
        self.bytes.get_mut(range).ok_or(Errno::Fault)
    }

    /// Returns the bytes as `bytes_mut` does, with the work that the call has done so far.
    pub(crate) fn bytes_and_work(&mut self, address: u32, length: u32) -> Result<(&mut [u8], &Work), Errno> {
        let range = self.range(address, length)?;
        Ok((self.bytes.get_mut(range).ok_or(Errno::Fault)?, &self.work))
    }

    pub(crate) fn read<const N: usize>(&self, address: u32) -> Result<[u8; N], Errno> {
        self.bytes(address, N as u32)?.try_into().map_err(|_| Errno::Fault)
    }

    pub(crate) fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::Fault)?;
        self.bytes_mut(address, length)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn write_u32(&mut self, address: u32, value: u32) -> Result<(), Errno> {
        self.write(address, &value.to_le_bytes())
    }

    pub(crate) fn write_u64(&mut self, address: u32, value: u64) -> Result<(), Errno> {
        self.write(address, &value.to_le_bytes())
    }

    /// Returns a path that the guest names.
    pub(crate) fn path(&self, address: u32, length: u32) -> Result<&str, Errno> {
        let bytes = self.bytes(address, length)?;
        if length >= MAX_PATH {
            return Err(Errno::NameTooLong);
        }
        let path = std::str::from_utf8(bytes).map_err(|_| Errno::Ilseq)?;
        if path.contains('\0') {
            return Err(Errno::Inval);
        }
        self.named.set([self.named.get()[1], (address, length)]);
        // The system takes longer to resolve it the more links are on the way.
        self.work.count(LOOK);
        Ok(path)
    }

    /// Marks the call as denied, whatever error code the guest gets, and returns that code.
    pub(crate) fn deny(&self, errno: Errno) -> Errno {
        self.denied.set(true);
        errno
    }

    pub(crate) fn is_denied(&self) -> bool {
        self.denied.get()
    }

    /// Returns the paths that the call has read.
    pub(crate) fn named(&self) -> Vec<String> {
        let paths = self.named.get().into_iter().filter(|&(_, length)| length > 0);
        paths.filter_map(|(address, length)| self.path(address, length).ok().map(str::to_owned)).collect()
    }

    /// Returns the buffers that a list at `address` names, checked.
    ///
    /// Together they have no more bytes than a 32-bit result can count.
    pub(crate) fn vectors(&self, address: u32, count: u32) -> Result<Vec<(u32, u32)>, Errno> {
        self.array(address, count, 8)?;
        let mut vectors = Vec::with_capacity(count.min(MAX_VECTORS) as usize);
        let mut left = u32::MAX;
        for index in 0..count.min(MAX_VECTORS) {
            let [buffer, length] = halves(self.read(address + index * 8)?);
            self.range(buffer, length)?;
            vectors.push((buffer, length.min(left)));
            left -= length.min(left);
        }
        Ok(vectors)
    }

    /// Lets `step` read into or write from one buffer after the other, and returns how many bytes it did.
    ///
    /// Each step gets a piece. The transfer ends with the first step that does less than its whole piece. An error is
    /// returned only if it comes first, except that the end of the guest's time is always returned.
    pub(crate) fn transfer(
        &mut self,
        vectors: &[(u32, u32)],
        mut step: impl FnMut(&mut [u8], &Work) -> Result<usize, Errno>,
    ) -> Result<u32, Errno> {
        let mut total = 0;
        for &(address, length) in vectors {
            let range = self.range(address, length)?;
            for piece in self.bytes.get_mut(range).unwrap_or_default().chunks_mut(PIECE) {
                match step(piece, &self.work) {
                    Ok(done) => {
                        let done = done.min(piece.len());
                        total += done as u32;
                        self.work.add(done as u64)?;
                        if done < piece.len() {
                            return Ok(total);
                        }
                    }
                    Err(_) if total > 0 => return Ok(total),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(total)
    }
}

/// Splits 8 bytes into two 32-bit numbers.
fn halves([a, b, c, d, e, f, g, h]: [u8; 8]) -> [u32; 2] {
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_wrap_around() {
        let mut bytes = [0; 64];
        let memory = Memory::new(&mut bytes, Work::default());
        assert_eq!(memory.range(0, 64), Ok(0..64));
        assert_eq!(memory.range(64, 0), Ok(64..64));
        for (address, length) in [(65, 0), (0, 65), (u32::MAX, 1), (u32::MAX, u32::MAX), (1, u32::MAX)] {
            assert_eq!(memory.range(address, length), Err(Errno::Fault), "{address} {length}");
        }
        assert_eq!(memory.array(0, 1 << 29, 8), Err(Errno::Fault));
    }

    #[test]
    fn vectors_are_checked_as_a_whole() {
        let mut bytes = [0; 64];
        bytes[..16].copy_from_slice(&[32, 0, 0, 0, 4, 0, 0, 0, 62, 0, 0, 0, 3, 0, 0, 0]);
        let memory = Memory::new(&mut bytes, Work::default());
        assert_eq!(memory.vectors(0, 1), Ok(vec![(32, 4)]));
        assert_eq!(memory.vectors(0, 2), Err(Errno::Fault));
        assert_eq!(memory.vectors(0, u32::MAX), Err(Errno::Fault));
    }

    #[test]
    fn a_transfer_ends_with_the_first_short_step() {
        let mut bytes = [0; 64];
        let mut memory = Memory::new(&mut bytes, Work::default());
        let mut steps = [Ok(4), Ok(1), Ok(4)].into_iter();
        let total = memory.transfer(&[(0, 4), (9, 0), (4, 4), (8, 4)], |_, _| steps.next().unwrap_or(Err(Errno::Io)));
        assert_eq!((total, steps.len()), (Ok(5), 1));
        let mut steps = [Ok(4), Err(Errno::NoSpc)].into_iter();
        assert_eq!(memory.transfer(&[(0, 4), (4, 4)], |_, _| steps.next().unwrap_or(Ok(0))), Ok(4));
        assert_eq!(memory.transfer(&[(0, 4)], |_, _| Err(Errno::NoSpc)), Err(Errno::NoSpc));
    }

    #[test]
    fn paths_are_text_without_nul() {
        let mut bytes = *b"a\0b\xff/dir/file";
        let memory = Memory::new(&mut bytes, Work::default());
        assert_eq!(memory.path(4, 9), Ok("/dir/file"));
        assert_eq!(memory.path(0, 3), Err(Errno::Inval));
        assert_eq!(memory.path(3, 4), Err(Errno::Ilseq));
        assert_eq!(memory.path(4, 10), Err(Errno::Fault));
        assert_eq!(memory.named(), ["/dir/file"]);
    }
}

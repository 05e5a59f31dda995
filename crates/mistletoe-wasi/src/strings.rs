//! Arguments and environment variables.

use crate::errno::Errno;
use crate::memory::Memory;
use crate::wasi::Wasi;

/// Strings in the layout that the guest reads: one after the other, with a NUL after each.
#[derive(Default)]
pub(crate) struct Strings {
    bytes: Vec<u8>,
    /// Start of each string.
    starts: Vec<usize>,
}

impl Strings {
    pub(crate) fn push(&mut self, mut string: Vec<u8>) {
        string.truncate(string.iter().position(|&byte| byte == 0).unwrap_or(string.len()));
        self.starts.push(self.bytes.len());
        self.bytes.append(&mut string);
        self.bytes.push(0);
    }

    fn sizes(&self) -> Result<(u32, u32), Errno> {
        let size = |length: usize| u32::try_from(length).map_err(|_| Errno::Overflow);
        Ok((size(self.starts.len())?, size(self.bytes.len())?))
    }

    fn write_sizes(&self, memory: &mut Memory<'_>, count: u32, size: u32) -> Result<(), Errno> {
        let (strings, bytes) = self.sizes()?;
        memory.range(size, 4)?;
        memory.write_u32(count, strings)?;
        memory.write_u32(size, bytes)
    }

    fn write(&self, memory: &mut Memory<'_>, pointers: u32, buffer: u32) -> Result<(), Errno> {
        let (count, size) = self.sizes()?;
        memory.array(pointers, count, 4)?;
        memory.range(buffer, size)?;
        // This takes no pieces: the host, not the guest, chose the size.
        memory.work.count(size.into());
        memory.write(buffer, &self.bytes)?;
        for (index, start) in (0..).zip(&self.starts) {
            memory.write_u32(pointers + 4 * index, buffer + *start as u32)?;
        }
        Ok(())
    }
}

impl Wasi {
    pub(crate) fn args_get(&mut self, memory: &mut Memory<'_>, argv: u32, buffer: u32) -> Result<(), Errno> {
        self.args.write(memory, argv, buffer)
    }

    pub(crate) fn args_sizes_get(&mut self, memory: &mut Memory<'_>, count: u32, size: u32) -> Result<(), Errno> {
        self.args.write_sizes(memory, count, size)
    }

    pub(crate) fn environ_get(&mut self, memory: &mut Memory<'_>, environ: u32, buffer: u32) -> Result<(), Errno> {
        self.env.write(memory, environ, buffer)
    }

    pub(crate) fn environ_sizes_get(&mut self, memory: &mut Memory<'_>, count: u32, size: u32) -> Result<(), Errno> {
        self.env.write_sizes(memory, count, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Work;

    #[test]
    fn strings_end_with_nul_and_are_pointed_to() -> Result<(), Errno> {
        let mut strings = Strings::default();
        strings.push(b"one".to_vec());
        strings.push(Vec::new());
        strings.push(b"two\0three".to_vec());
        assert_eq!(strings.sizes(), Ok((3, 9)));
        let mut bytes = [0xff; 32];
        strings.write(&mut Memory::new(&mut bytes, Work::default()), 0, 16)?;
        assert_eq!(bytes[..12], [16, 0, 0, 0, 20, 0, 0, 0, 21, 0, 0, 0]);
        assert_eq!(&bytes[16..26], b"one\0\0two\0\xff");
        let before = bytes;
        assert_eq!(strings.write(&mut Memory::new(&mut bytes, Work::default()), 0, 24), Err(Errno::Fault));
        assert_eq!(strings.write(&mut Memory::new(&mut bytes, Work::default()), 24, 0), Err(Errno::Fault));
        assert_eq!(bytes, before);
        Ok(())
    }
}

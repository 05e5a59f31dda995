//! Random numbers.

use crate::errno::Errno;
use crate::memory::Memory;
use crate::wasi::Wasi;

/// Source of a guest's random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Random {
    /// The operating system.
    System,
    /// A seed: all sessions with the same seed see the same numbers.
    ///
    /// The numbers are not secret. Anyone can make the keys that a guest makes of them.
    Seeded(u64),
}

/// Source of random bytes for a session.
pub(crate) enum Source {
    System,
    Seeded(SplitMix64),
}

/// Sebastiano Vigna's generator, which suffices for numbers that have to differ.
pub(crate) struct SplitMix64(u64);

impl Default for Random {
    /// Returns the seed 0.
    fn default() -> Self {
        Self::Seeded(0)
    }
}

impl Source {
    pub(crate) fn new(random: Random) -> Self {
        match random {
            Random::System => Self::System,
            Random::Seeded(seed) => Self::Seeded(SplitMix64(seed)),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Errno> {
        match self {
            Self::System => getrandom::fill(bytes).map_err(|_| Errno::Io),
            Self::Seeded(numbers) => {
                for chunk in bytes.chunks_mut(8) {
                    chunk.copy_from_slice(&numbers.next().to_le_bytes()[..chunk.len()]);
                }
                Ok(())
            }
        }
    }
}

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Wasi {
    pub(crate) fn random_get(&mut self, memory: &mut Memory<'_>, buffer: u32, length: u32) -> Result<(), Errno> {
        memory.transfer(&[(buffer, length)], |bytes, _| self.random.fill(bytes).map(|()| bytes.len())).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_the_published_numbers() {
        let mut numbers = SplitMix64(1_234_567);
        let first = [(); 5].map(|()| numbers.next());
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(first, published);
    }

    #[test]
    fn the_last_bytes_are_filled_too() -> Result<(), Errno> {
        let (mut some, mut more) = ([0; 11], [0; 16]);
        Source::new(Random::Seeded(7)).fill(&mut some)?;
        Source::new(Random::Seeded(7)).fill(&mut more)?;
        assert_eq!(some, more[..11]);
        let mut system = [0; 32];
        Source::new(Random::System).fill(&mut system)?;
        assert_ne!(system, [0; 32]);
        Ok(())
    }
}

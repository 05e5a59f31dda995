//! Digests of content, as descriptors and references have them.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use mistletoe_store::Name;
use ring::digest::{Context, SHA256};

/// Number of hexadecimal digits of a SHA-256 digest.
pub(crate) const HEX: usize = 64;

/// A SHA-256 digest. As text it is `sha256:` and 64 hexadecimal digits in lower case.
///
/// SHA-256 is the one algorithm that every registry has (OCI image specification, `descriptor.md`). Digests of other
/// algorithms are an error.
///
/// ```
/// # use mistletoe_registry::Digest;
/// let digest = Digest::of(b"");
/// assert_eq!(digest.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest(Name);

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DigestError {
    /// It begins with the name of another algorithm than SHA-256.
    Algorithm,
    /// It is not `sha256:` and 64 hexadecimal digits in lower case.
    Syntax,
}

impl Digest {
    /// Returns the digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.to_string()
    }

    pub(crate) fn from_hex(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self).map_err(|_| DigestError::Syntax)
    }

    /// Returns the name of the content in a store.
    pub(crate) fn name(self) -> Name {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.split_once(':') {
            Some(("sha256", hex)) => Self::from_hex(hex),
            Some((algorithm, _)) if is_algorithm(algorithm) => Err(DigestError::Algorithm),
            _ => Err(DigestError::Syntax),
        }
    }
}

/// Returns whether a text has the form of an algorithm's name (OCI image specification, `descriptor.md`).
fn is_algorithm(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    text.split(['+', '.', '_', '-']).all(is_part)
}

impl fmt::Display for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "only sha256 digests are supported",
            Self::Syntax => "expected `sha256:` and 64 hexadecimal digits in lower case",
        })
    }
}

impl std::error::Error for DigestError {}

/// Computes a digest of bytes that come in pieces.
pub(crate) struct Hasher(Context);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        // SHA-256 has as many bytes.
        bytes.iter_mut().zip(self.0.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Digest(Name::from(bytes))
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_strict() {
        let good = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(good.parse(), Ok(Digest::of(b"")));
        for other in ["sha512:00", "multihash+base58:Qm", "a.b_c-d:x"] {
            assert_eq!(other.parse::<Digest>(), Err(DigestError::Algorithm), "{other}");
        }
        for bad in ["", ":", "sha256", "sha256:", "sha256:E3", ":00", "+:0", "a+:0", &good[..70], &format!("{good}0")] {
            assert_eq!(bad.parse::<Digest>(), Err(DigestError::Syntax), "{bad}");
        }
    }
}

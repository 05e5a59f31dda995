use alloc::string::String;
use core::fmt;

/// The reason why an input cannot be read, or a file cannot be made.
///
/// It displays the place in the document, if there is one, and the problem: `` `data.replicas`: invalid type: string
/// "two", expected u32 ``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The place in the document: a path such as `data.ports[0].name`, or nothing.
    path: String,
    problem: String,
}

impl Error {
    /// Returns an error with this text.
    pub fn new(problem: impl Into<String>) -> Self {
        Self { path: String::new(), problem: problem.into() }
    }

    /// Puts the place of the error below an entry of a mapping.
    #[cfg(feature = "serde")]
    pub(crate) fn inside_key(mut self, key: &str) -> Self {
        let is_name =
            |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !self.path.is_empty() && !self.path.starts_with('[') {
            self.path.insert(0, '.');
        }
        let step = if is_name(key) { key.into() } else { alloc::format!("[{key:?}]") };
        self.path.insert_str(0, &step);
        self
    }

    /// Puts the place of the error below an item of a sequence.
    #[cfg(feature = "serde")]
    pub(crate) fn inside_item(mut self, index: usize) -> Self {
        if !self.path.is_empty() && !self.path.starts_with('[') {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, &alloc::format!("[{index}]"));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

impl core::error::Error for Error {}

#[cfg(feature = "serde")]
impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::new(alloc::format!("{problem}"))
    }
}

#[cfg(feature = "serde")]
impl serde::ser::Error for Error {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::new(alloc::format!("{problem}"))
    }
}

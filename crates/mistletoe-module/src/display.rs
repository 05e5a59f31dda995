//! How errors show names, lists and numbers: on one line, with bounded length.

use std::fmt;

#[cfg(feature = "serde")]
use serde::Serializer;

/// How many characters of a name are shown.
const SHOWN_CHARS: usize = 100;

/// A name that a module or a guest chose, as an error shows it: escaped, and cut after 100 characters.
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let beginning = cut(self.0);
        write!(f, "{}{}", beginning.escape_debug(), if beginning.len() < self.0.len() { "…" } else { "" })
    }
}

/// A number with a comma after each three digits.
pub struct Count<N>(pub N);

impl<N: Into<u64> + Copy> fmt::Display for Count<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number) = self;
        let digits = Into::<u64>::into(*number).to_string();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// The first characters of a name.
pub(crate) fn cut(name: &str) -> &str {
    name.char_indices().nth(SHOWN_CHARS).and_then(|(end, _)| name.get(..end)).unwrap_or(name)
}

/// The first of a list, and how many more there are.
pub(crate) fn first<T>(list: &[T], most: usize) -> (&[T], usize) {
    let shown = list.get(..most).unwrap_or(list);
    (shown, list.len() - shown.len())
}

/// Serialises a name that a module chose, cut after 100 characters.
///
/// # Errors
///
/// Those of the serialiser.
#[cfg(feature = "serde")]
pub fn beginning<S: Serializer>(name: impl AsRef<str>, serializer: S) -> Result<S::Ok, S::Error> {
    let name = name.as_ref();
    let beginning = cut(name);
    if beginning.len() < name.len() {
        serializer.collect_str(&format_args!("{beginning}…"))
    } else {
        serializer.serialize_str(name)
    }
}

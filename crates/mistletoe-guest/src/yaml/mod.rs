//! YAML, as far as a guest needs it: [`text`] writes strings, `write` any `Serialize`, and `read` reads any
//! `Deserialize`.

#[cfg(feature = "serde")]
pub(crate) mod de;
#[cfg(feature = "serde")]
pub(crate) mod read;
#[cfg(feature = "serde")]
pub(crate) mod ser;
pub(crate) mod text;

#[cfg(all(test, feature = "std", feature = "serde"))]
mod tests;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;

use crate::yaml::text;
use crate::{API_VERSION, Error};

/// The files that a package returns, and a message for its user.
///
/// ```
/// use mistletoe_guest::Files;
///
/// let files = Files::new().text("motd.txt", "Welcome.\n")?.message("one file");
/// # Ok::<(), mistletoe_guest::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Names and texts.
    files: Vec<(String, String)>,
    message: Option<String>,
}

impl Files {
    /// Returns no files, and no message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file with this text.
    ///
    /// # Errors
    ///
    /// An [`Error`] if there is a file of this name.
    pub fn text(mut self, name: impl Into<String>, text: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        if self.files.iter().any(|(other, _)| *other == name) {
            return Err(Error::new(format!("there are two files with the name `{name}`")));
        }
        self.files.push((name, text.into()));
        Ok(self)
    }

    /// Adds a file with this value as a YAML document.
    ///
    /// Strings that YAML 1.1 would read as another type are in quotes.
    ///
    /// # Errors
    ///
    /// An [`Error`] if there is a file of this name, if a key of the value is not a scalar, or if the value's own
    /// `Serialize` fails.
    #[cfg(feature = "serde")]
    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    pub fn yaml<T: serde::Serialize + ?Sized>(self, name: impl Into<String>, value: &T) -> Result<Self, Error> {
        let name = name.into();
        match crate::yaml::ser::document(value) {
            Ok(text) => self.text(name, text),
            Err(error) => Err(Error::new(format!("cannot write the file `{name}`: {error}"))),
        }
    }

    /// Sets the message for the user, which `mistctl` prints on standard error.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

/// What the function of a package returns.
///
/// [`Files`] and errors become a `MistResult`. A string is returned as it is.
pub trait Output {
    /// Returns the text for the host.
    fn into_output(self) -> String;

    /// Returns the text for the host if the function panicked, or `None` if the call has to end in a trap.
    fn from_panic(message: &str) -> Option<String>;
}

impl Output for Files {
    fn into_output(self) -> String {
        let mut out = result("Ok", self.message.as_deref());
        if !self.files.is_empty() {
            out.push_str("  files:\n");
        }
        for (name, content) in &self.files {
            out.push_str("    ");
            text::key(&mut out, name, 4);
            out.push(' ');
            text::value(&mut out, content, 4);
        }
        out
    }

    fn from_panic(message: &str) -> Option<String> {
        Some(result("Err", Some(message)))
    }
}

/// The error's text becomes the message, with its causes if the alternate form (`{:#}`) has them, as `anyhow`'s does.
impl<E: Display> Output for Result<Files, E> {
    fn into_output(self) -> String {
        match self {
            Ok(files) => files.into_output(),
            Err(error) => result("Err", Some(&format!("{error:#}"))),
        }
    }

    fn from_panic(message: &str) -> Option<String> {
        Files::from_panic(message)
    }
}

impl Output for String {
    #[inline]
    fn into_output(self) -> String {
        self
    }

    fn from_panic(_: &str) -> Option<String> {
        None
    }
}

impl Output for &str {
    #[inline]
    fn into_output(self) -> String {
        self.into()
    }

    fn from_panic(_: &str) -> Option<String> {
        None
    }
}

/// Returns a `MistResult` without files.
fn result(result: &str, message: Option<&str>) -> String {
    let mut out = format!("apiVersion: {API_VERSION}\nkind: MistResult\ndata:\n  result: {result}\n");
    if let Some(message) = message {
        out.push_str("  message: ");
        text::value(&mut out, message, 2);
    }
    out
}

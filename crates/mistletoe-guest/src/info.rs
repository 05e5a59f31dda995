use alloc::format;
use alloc::string::String;

use crate::API_VERSION;
use crate::yaml::text;

/// The description of a package, a `MistPackage`. The macro makes it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Info {
    metadata: String,
    has_labels: bool,
    fields: String,
}

impl Info {
    pub fn new(name: &str) -> Self {
        let mut metadata = format!("apiVersion: {API_VERSION}\nkind: MistPackage\nmetadata:\n  name: ");
        text::value(&mut metadata, name, 2);
        Self { metadata, has_labels: false, fields: String::new() }
    }

    #[must_use]
    pub fn labels(mut self, labels: &[(&str, &str)]) -> Self {
        for (name, value) in labels {
            if !self.has_labels {
                self.metadata.push_str("  labels:\n");
                self.has_labels = true;
            }
            self.metadata.push_str("    ");
            text::key(&mut self.metadata, name, 4);
            self.metadata.push(' ');
            text::value(&mut self.metadata, value, 4);
        }
        self
    }

    /// Adds a field at the top.
    ///
    /// # Panics
    ///
    /// If the value cannot be written: a mistake of the package's author.
    #[cfg(feature = "serde")]
    #[must_use]
    pub fn field<T: serde::Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        self.fields.push_str(name);
        self.fields.push(':');
        if let Err(error) = crate::yaml::ser::entry(&mut self.fields, value, 0) {
            panic!("cannot describe the package: `{name}`: {error}");
        }
        self
    }

    pub fn to_yaml(self) -> String {
        self.metadata + &self.fields
    }
}

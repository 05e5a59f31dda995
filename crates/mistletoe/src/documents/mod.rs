//! The YAML documents that packages usually exchange, in the version [`API_VERSION`].
//!
//! A package's description of itself is a [`MistPackage`]:
//!
//! ```yaml
//! apiVersion: mistletoe.dev/v1alpha1
//! kind: MistPackage
//! metadata:
//!   name: example-nginx
//!   labels:
//!     mistletoe.dev/group: web
//! inputSchema:
//!   properties:
//!     replicas: {type: integer, minimum: 1}
//! defaults:
//!   replicas: 1
//! ```
//!
//! Its input is a [`MistInput`]. `data.name` is the installation's name; the package defines the other values:
//!
//! ```yaml
//! apiVersion: mistletoe.dev/v1alpha1
//! kind: MistInput
//! data:
//!   name: my-nginx
//!   replicas: 2
//! ```
//!
//! Its output is a [`MistResult`]: either files, or the reason why there are none:
//!
//! ```yaml
//! apiVersion: mistletoe.dev/v1alpha1
//! kind: MistResult
//! data:
//!   result: Ok
//!   message: nothing to see here
//!   files:
//!     namespace.yaml: |
//!       apiVersion: v1
//!       kind: Namespace
//!       metadata:
//!         name: my-nginx
//! ```
//!
//! ```yaml
//! apiVersion: mistletoe.dev/v1alpha1
//! kind: MistResult
//! data:
//!   result: Err
//!   message: there is no such version
//! ```
//!
//! # Reading
//!
//! Unknown fields are ignored, but must be YAML within the limits of [`yaml`]: 64 MiB of text, 128 levels, 1,000,000
//! nodes and 16 MiB in one scalar, copies by anchors and aliases included. A text with several documents is an error,
//! and so is a duplicate key. The core schema of YAML 1.2 decides what is a string: a file whose text is `1e3` or
//! `null` without quotes is an error.
//!
//! Every error is a [`Document`](ErrorKind::Document) that names the place. It has a line if the YAML itself is at
//! fault.

pub mod yaml;

#[cfg(test)]
mod tests;

use mistletoe_abi::{Error, ErrorKind, Result};

use yaml::{Emit, Mapping, Nulls, Value};

/// The `apiVersion` of all documents.
pub const API_VERSION: &str = "mistletoe.dev/v1alpha1";

/// A package's description of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MistPackage {
    /// The package's name.
    pub name: String,
    /// Names and values of the labels, in the order of the document. The names are distinct.
    pub labels: Vec<(String, String)>,
    /// A JSON Schema of the mapping `data` of the package's [`MistInput`], including its `name`: a mapping or a boolean,
    /// whose keys at every level are strings. That it is a valid schema is not checked.
    pub input_schema: Option<Value>,
    /// The values of an input that gives no others. The keys at every level are strings.
    pub defaults: Option<Mapping>,
}

/// A package's input.
#[derive(Clone, Debug, PartialEq)]
pub struct MistInput {
    /// The values. The first entry is `name`, the installation's name.
    pub data: Mapping,
}

/// A package's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MistResult {
    /// The package succeeded.
    Ok {
        /// A message for the user.
        message: Option<String>,
        /// Names and texts of the files, in the order of the document.
        ///
        /// The names are distinct, and not checked in any other way: a name may be empty, absolute, or lead out of a
        /// directory with `..`.
        files: Vec<(String, String)>,
    },
    /// The package failed.
    Err {
        /// The reason, if the package gives one.
        message: Option<String>,
    },
}

impl MistPackage {
    const KIND: Kind = Kind("MistPackage");

    /// Parses the document.
    ///
    /// # Errors
    ///
    /// [`Document`](ErrorKind::Document).
    pub fn parse(text: &str) -> Result<Self> {
        let mut document = Self::KIND.open(text)?;
        let mut metadata = Self::KIND.mapping(&mut document, "metadata")?;
        let name = Self::KIND.string(&mut metadata, &["metadata"], "name")?;
        let labels = Self::KIND.texts(&mut metadata, &["metadata"], "labels", "label")?;
        let input_schema = match document.remove("inputSchema") {
            None | Some(Value::Null) => None,
            Some(schema @ (Value::Mapping(_) | Value::Bool(_))) => Some(schema),
            Some(other) => return Err(Self::KIND.unexpected(&["inputSchema"], "a mapping or a boolean", &other)),
        };
        let defaults = match document.remove("defaults") {
            None | Some(Value::Null) => None,
            Some(Value::Mapping(defaults)) => Some(defaults),
            Some(other) => return Err(Self::KIND.unexpected(&["defaults"], "a mapping", &other)),
        };
        if let Some(schema) = &input_schema {
            Self::KIND.string_keys(schema, &mut "inputSchema".to_owned())?;
        }
        if let Some(defaults) = &defaults {
            Self::KIND.string_keys_of(defaults, &mut "defaults".to_owned())?;
        }
        Ok(Self { name, labels, input_schema, defaults })
    }

    /// Returns these values over the package's defaults.
    ///
    /// A mapping is merged with the default's mapping, any other value replaces the default, and null removes it. A
    /// default that is null has no effect.
    pub fn with_defaults(&self, values: Mapping) -> Mapping {
        let Some(mut data) = self.defaults.clone() else { return values };
        data.merge_with(values, Nulls::Remove);
        data
    }

    /// Returns the document's text.
    pub fn to_yaml(&self) -> String {
        let mut metadata = vec![("name", Emit::Text(&self.name))];
        if !self.labels.is_empty() {
            metadata.push(("labels", Emit::Texts(&self.labels)));
        }
        let mut fields = vec![("metadata", Emit::Fields(&metadata))];
        fields.extend(self.input_schema.as_ref().map(|schema| ("inputSchema", Emit::Value(schema))));
        fields.extend(self.defaults.as_ref().map(|defaults| ("defaults", Emit::Mapping(defaults))));
        Self::KIND.write(&fields)
    }
}

impl MistInput {
    const KIND: Kind = Kind("MistInput");

    /// Returns an input with these values for the installation called `name`.
    ///
    /// `name` becomes the first value. It replaces an existing value `name`.
    pub fn new(name: &str, mut data: Mapping) -> Self {
        data.insert_front("name", name);
        Self { data }
    }

    /// Parses the document.
    ///
    /// # Errors
    ///
    /// [`Document`](ErrorKind::Document).
    pub fn parse(text: &str) -> Result<Self> {
        let mut document = Self::KIND.open(text)?;
        let mut data = Self::KIND.mapping(&mut document, "data")?;
        let name = Self::KIND.string(&mut data, &["data"], "name")?;
        Ok(Self::new(&name, data))
    }

    /// Returns the document's text.
    pub fn to_yaml(&self) -> String {
        Self::KIND.write(&[("data", Emit::Mapping(&self.data))])
    }
}

impl MistResult {
    const KIND: Kind = Kind("MistResult");

    /// Parses the document.
    ///
    /// # Errors
    ///
    /// [`Document`](ErrorKind::Document).
    pub fn parse(text: &str) -> Result<Self> {
        let mut document = Self::KIND.open(text)?;
        let mut data = Self::KIND.mapping(&mut document, "data")?;
        let result = Self::KIND.required(&mut data, &["data"], "result")?;
        let ok = match result.as_str() {
            Some("Ok") => true,
            Some("Err") => false,
            _ => return Err(Self::KIND.unexpected(&["data", "result"], "`Ok` or `Err`", &result)),
        };
        let message = match data.remove("message") {
            None | Some(Value::Null) => None,
            Some(Value::String(message)) => Some(message),
            Some(other) => return Err(Self::KIND.unexpected(&["data", "message"], "a string", &other)),
        };
        if !ok {
            return Ok(Self::Err { message });
        }
        let files = Self::KIND.texts(&mut data, &["data"], "files", "file")?;
        Ok(Self::Ok { message, files })
    }

    /// Returns the document's text.
    pub fn to_yaml(&self) -> String {
        let (result, message, files) = match self {
            Self::Ok { message, files } => ("Ok", message, files.as_slice()),
            Self::Err { message } => ("Err", message, &[][..]),
        };
        let mut data = vec![("result", Emit::Text(result))];
        data.extend(message.as_deref().map(|message| ("message", Emit::Text(message))));
        if !files.is_empty() {
            data.push(("files", Emit::Texts(files)));
        }
        Self::KIND.write(&[("data", Emit::Fields(&data))])
    }
}

/// A kind of document, with the code that all kinds share.
struct Kind(&'static str);

impl Kind {
    /// Parses a document and checks that it is of this kind.
    fn open(&self, text: &str) -> Result<Mapping> {
        let document = yaml::parse(text).map_err(|yaml::Error { path, line, problem }| {
            Error::new(ErrorKind::Document { document: self.0, path, line, problem })
        })?;
        let Value::Mapping(mut document) = document else {
            return Err(self.unexpected(&[], "a mapping", &document));
        };
        for (field, expected) in [("apiVersion", API_VERSION), ("kind", self.0)] {
            let found = self.required(&mut document, &[], field)?;
            if found.as_str() != Some(expected) {
                return Err(self.unexpected(&[field], &format!("`{expected}`"), &found));
            }
        }
        Ok(document)
    }

    /// Returns the text of a document with these fields after the first two.
    fn write(&self, fields: &[(&str, Emit<'_>)]) -> String {
        let first = [("apiVersion", Emit::Text(API_VERSION)), ("kind", Emit::Text(self.0))];
        Emit::Fields(&[&first, fields].concat()).to_text()
    }

    /// Checks that all keys within a value are strings, as JSON has them.
    fn string_keys(&self, value: &Value, path: &mut String) -> Result<()> {
        match value {
            Value::Mapping(mapping) => self.string_keys_of(mapping, path),
            Value::Sequence(items) => {
                let end = path.len();
                for (i, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{i}]"));
                    self.string_keys(item, path)?;
                    path.truncate(end);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn string_keys_of(&self, mapping: &Mapping, path: &mut String) -> Result<()> {
        let end = path.len();
        for (key, value) in mapping.iter() {
            yaml::push_key(path, key);
            if key.as_str().is_none() {
                let problem = format!("expected a key that is a string, found {}", key.describe());
                return Err(self.error_at(path.clone(), problem));
            }
            self.string_keys(value, path)?;
            path.truncate(end);
        }
        Ok(())
    }

    fn required(&self, fields: &mut Mapping, parents: &[&str], field: &str) -> Result<Value> {
        fields.remove(field).ok_or_else(|| self.error(&[parents, &[field]].concat(), "the field is missing"))
    }

    fn mapping(&self, fields: &mut Mapping, field: &str) -> Result<Mapping> {
        match self.required(fields, &[], field)? {
            Value::Mapping(mapping) => Ok(mapping),
            other => Err(self.unexpected(&[field], "a mapping", &other)),
        }
    }

    fn string(&self, fields: &mut Mapping, parents: &[&str], field: &str) -> Result<String> {
        match self.required(fields, parents, field)? {
            Value::String(text) => Ok(text),
            other => Err(self.unexpected(&[parents, &[field]].concat(), "a string", &other)),
        }
    }

    /// Takes an optional mapping of names to texts. Errors call each of them an `entry`.
    fn texts(&self, fields: &mut Mapping, parents: &[&str], field: &str, entry: &str) -> Result<Vec<(String, String)>> {
        let place = [parents, &[field]].concat();
        let mapping = match fields.remove(field) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Mapping(mapping)) => mapping,
            Some(other) => return Err(self.unexpected(&place, "a mapping", &other)),
        };
        let mut texts = Vec::with_capacity(mapping.len());
        for pair in mapping {
            let expected = match pair {
                (Value::String(name), Value::String(text)) => {
                    texts.push((name, text));
                    continue;
                }
                (Value::String(_), _) => format!("the text of a {entry}, a string"),
                _ => format!("the name of a {entry}, a string"),
            };
            let (key, value) = &pair;
            let mut path = path(&place);
            yaml::push_key(&mut path, key);
            let found = if matches!(key, Value::String(_)) { value } else { key };
            return Err(self.error_at(path, format!("expected {expected}, found {}", found.describe())));
        }
        Ok(texts)
    }

    fn unexpected(&self, place: &[&str], expected: &str, found: &Value) -> Error {
        self.error(place, format!("expected {expected}, found {}", found.describe()))
    }

    fn error(&self, place: &[&str], problem: impl Into<String>) -> Error {
        self.error_at(path(place), problem)
    }

    #[cold]
    fn error_at(&self, path: String, problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::Document { document: self.0, path, line: None, problem: problem.into() })
    }
}

fn path(place: &[&str]) -> String {
    place.join(".")
}

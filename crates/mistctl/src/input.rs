//! The values of an input, from files and from the command line.

use std::path::{Path, PathBuf};

use clap::Args;
use mistletoe::documents::yaml::{Mapping, Value};

use crate::failure::Failure;
use crate::files;
use crate::set::{Form, Values, mapping};
use crate::stderr::{Excerpt, Level, note};

/// Maximum number of bytes of an argument that an error shows.
const MAX_SHOWN: usize = 200;

/// The flags and their precedence are Helm's: values of a later flag of this list replace those of an earlier one.
#[derive(Args, Debug)]
pub(crate) struct ValueArgs {
    /// Values: a YAML file with a mapping. May be repeated: a later file takes precedence, and mappings are merged. `-`
    /// is standard input.
    #[arg(short = 'f', long = "file", visible_alias = "values", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Set values that are JSON: K=JSON, or an object to merge over the values. May be repeated.
    #[arg(long, value_name = "K=JSON", allow_hyphen_values = true)]
    pub(crate) set_json: Vec<String>,
    /// Set values. May be repeated.
    #[arg(short, long, value_name = "K=V", allow_hyphen_values = true)]
    pub(crate) set: Vec<String>,
    /// Set values that are strings, whatever they look like. May be repeated.
    #[arg(long, value_name = "K=V", allow_hyphen_values = true)]
    pub(crate) set_string: Vec<String>,
    /// Set values that are the texts of files. May be repeated.
    #[arg(long, value_name = "K=FILE", allow_hyphen_values = true)]
    pub(crate) set_file: Vec<String>,
}

impl ValueArgs {
    /// Reads the files and puts the values together.
    ///
    /// An unusable file is a failure to read it; an unusable argument is wrong usage.
    pub(crate) fn read(&self) -> Result<Mapping, Failure> {
        let mut values = Values::new();
        for path in &self.files {
            let text = files::input(path)?;
            mapping(&text)
                .and_then(|mapping| values.merge(mapping))
                .map_err(|problem| Failure::read(files::named(path), &*problem))?;
        }
        for text in &self.set_json {
            values.set_json(text).map_err(|problem| Problem::Usage(problem).of("--set-json", text))?;
        }
        for text in &self.set {
            values.set(text, Form::Typed).map_err(|problem: Problem| problem.of("--set", text))?;
        }
        for text in &self.set_string {
            values.set(text, Form::Text).map_err(|problem: Problem| problem.of("--set-string", text))?;
        }
        for text in &self.set_file {
            let mut read = |path: &str| files::input(Path::new(path)).map_err(Problem::Failure);
            values.set(text, Form::File(&mut read)).map_err(|problem| problem.of("--set-file", text))?;
        }
        Ok(values.into_mapping())
    }
}

/// Warns if the values have another name than that of the installation, which the package gets.
pub(crate) fn warn_of_name(values: &Mapping, name: &str) {
    match values.get("name") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text == name => {}
        Some(other) => {
            let (given, name) = (other.describe(), Excerpt::of(name.escape_debug(), MAX_SHOWN));
            let by = format!("the name of the installation, \"{name}\"");
            note(Level::Warning, &format!("the value `name` is {given}; {by}, replaces it"));
        }
    }
}

/// Why a flag cannot be applied.
enum Problem {
    Usage(String),
    Failure(Failure),
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Usage(problem)
    }
}

impl Problem {
    fn of(self, flag: &str, text: &str) -> Failure {
        match self {
            Self::Usage(problem) => {
                Failure::usage(format!("{flag} \"{}\": {problem}", Excerpt::of(text.escape_debug(), MAX_SHOWN)))
            }
            Self::Failure(failure) => failure,
        }
    }
}

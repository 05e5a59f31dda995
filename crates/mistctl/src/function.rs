//! `mistctl fn`: a KRM function, which changes a list of resources.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mistletoe::documents::MistResult;
use mistletoe::documents::yaml::{self, Budget, Mapping, Value};

use crate::cli::{Backend, Limits};
use crate::failure::{Failure, NO_MESSAGE};
use crate::guest::Guest;
use crate::manifests::{self, Resource};
use crate::package::Session;
use crate::program::{self, Ended, Release};
use crate::registries::Registries;
use crate::set::resolved;
use crate::stderr::{Excerpt, Level, MAX_MESSAGE, note};
use crate::{files, log, print};

/// Annotations by which orchestrators find an item again.
const ORCHESTRATORS: [&str; 5] = [
    "internal.config.kubernetes.io/",
    "config.kubernetes.io/path",
    "config.kubernetes.io/index",
    "config.k8s.io/id",
    "kustomize.config.k8s.io/id",
];

/// Maximum number of lines of a list that is changed in place. Most of them can only be empty.
const MAX_LINES: usize = 4 * yaml::MAX_NODES;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    mistctl fn namespace.wasm < resource-list.yaml\n  \
    mistctl fn labels.wasm --input resources < resource-list.yaml\n  \
    mistctl fn namespace.wasm --config web.yaml < resource-list.yaml\n\n\
    Reads a ResourceList on standard input and writes it to standard output. The values are the `spec` of its\n\
    functionConfig, or else the `data`; the name is its `metadata.name`.\n\
    Exits with status 1 if there are results with the severity `error`; the list is written in that case, too.")]
pub(crate) struct Function {
    /// The package or program: a WebAssembly module in the binary or the text format.
    package: PathBuf,
    /// What the module gets [default: values for a package, resources for a program].
    #[arg(long, value_enum, value_name = "INPUT")]
    input: Option<Input>,
    /// A file with the functionConfig, instead of the list's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    backend: Backend,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Input {
    /// The values, as for `generate`; the resources that it returns are added to the list or replaced in it.
    Values,
    /// The list itself; it returns the new one.
    Resources,
}

pub(crate) fn run(arguments: &Function) -> Result<(), Failure> {
    let path = arguments.package.as_path();
    let stdin = Path::new("-");
    if arguments.config.as_deref() == Some(stdin) {
        return Err(Failure::usage("--config takes a file; standard input, `-`, has the list"));
    }
    let unusable = |file: &Path, problem: String| Failure::read(files::named(file), &*problem);
    let text = files::input(stdin)?;
    let mut list = List::parse(text).map_err(|problem| unusable(stdin, problem))?;
    if let Some(file) = &arguments.config {
        list.configure(&files::input(file)?).map_err(|problem| unusable(file, problem))?;
    }
    let limits = arguments.limits.get();
    let registries = arguments.config.as_deref().map(|file| arguments.registries.beside(file));
    let registries = registries.unwrap_or_else(|| arguments.registries.clone());
    let guest = Guest::load(path, &registries, &arguments.backend, &arguments.limits, limits)?.guest;
    let input = arguments.input.unwrap_or(match guest {
        Guest::Package(_) => Input::Values,
        Guest::Program(_) => Input::Resources,
    });
    match (input, guest) {
        (Input::Values, guest) => {
            // The file that the functionConfig is from, and the path of its fields there.
            let (file, prefix) = arguments.config.as_deref().map_or((stdin, "functionConfig."), |file| (file, ""));
            let installation = list.installation(prefix).map_err(|problem| unusable(file, problem));
            let (name, namespace, values) = installation?;
            let result = match guest {
                Guest::Package(package) => {
                    let session = Session::open(&package, path)?;
                    let input = session.input(&arguments.limits, &name, values)?.to_yaml();
                    let output = session.generate(&input).0?.text;
                    MistResult::parse(&output).map_err(|error| Failure::library(path, error))?
                }
                Guest::Program(program) => {
                    let release = Release { name: &name, namespace: namespace.as_deref(), args: &[] };
                    program::generate(&program, path, &limits, &release, values)?.1
                }
            };
            deliver(path, list, result)
        }
        (Input::Resources, Guest::Package(package)) => {
            let session = Session::open(&package, path)?;
            pass(path, 0, &session.generate(&list.text).0?.text, None)
        }
        (Input::Resources, Guest::Program(program)) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ended = program::run(&program, path, &limits, log::wasi().args([&*name]).stdin(list.text))?;
            let message = ended.message();
            let Ended { code, stdout, .. } = ended;
            pass(path, code, &stdout, Some(message))
        }
    }
}

/// Writes a list with the resources of a result.
fn deliver(path: &Path, list: List, result: MistResult) -> Result<(), Failure> {
    let mut merger = Merger::new(list);
    match result {
        MistResult::Err { message } => {
            let text = message.clone().unwrap_or_else(|| NO_MESSAGE.to_owned());
            merger.result("error", &text);
            print(&merger.finish())?;
            Err(Failure::Package { message, fault: None })
        }
        MistResult::Ok { message, files } => {
            let mut budget = Budget::default();
            for (name, text) in files {
                let resources = manifests::resources(&text, &mut budget).map_err(|error| {
                    let name = Excerpt::of(name.escape_debug(), 200);
                    Failure::output(path, yaml::Error { problem: format!("file `{name}`: {}", error.problem), ..error })
                })?;
                resources.into_iter().for_each(|resource| merger.merge(resource));
            }
            if let Some(message) = &message {
                merger.result("info", message);
            }
            print(&merger.finish())?;
            if let Some(message) = message {
                note(Level::Package, &Excerpt::of(message, MAX_MESSAGE));
            }
            Ok(())
        }
    }
}

/// Writes a list that a module returned, if it is one. `message` explains an exit code that is not 0.
fn pass(path: &Path, code: u32, output: &str, message: Option<String>) -> Result<(), Failure> {
    match (List::parse(output.to_owned()), code) {
        (Ok(list), _) => {
            print(output)?;
            match (code, list.first_error()) {
                (0, None) => Ok(()),
                (0, Some(error)) => Err(Failure::Package { message: Some(error), fault: None }),
                (_, error) => Err(Failure::Package { message: message.or(error), fault: None }),
            }
        }
        (Err(problem), 0) => Err(Failure::refused(path, format!("its output is not a list of resources: {problem}"))),
        (Err(_), _) => Err(Failure::Package { message, fault: None }),
    }
}

/// A `ResourceList`, or another list of resources.
struct List {
    text: String,
    fields: Mapping,
}

impl List {
    fn parse(text: String) -> Result<Self, String> {
        let fields = match yaml::parse(&text).map_err(|error| error.to_string())? {
            Value::Mapping(fields) => fields,
            other => return Err(format!("expected a ResourceList, found {}", other.describe())),
        };
        match fields.get("kind") {
            Some(Value::String(kind)) if kind.ends_with("List") => {}
            Some(other) => return Err(format!("`kind`: expected `ResourceList`, found {}", other.describe())),
            None => return Err("expected a ResourceList, but it has no `kind`".to_owned()),
        }
        match fields.get("items") {
            None | Some(Value::Null | Value::Sequence(_)) => Ok(Self { text, fields }),
            Some(other) => Err(format!("`items`: expected a sequence, found {}", other.describe())),
        }
    }

    /// Replaces the functionConfig by the document in a text.
    fn configure(&mut self, text: &str) -> Result<(), String> {
        let config = match yaml::parse(text).map_err(|error| error.to_string())? {
            config @ Value::Mapping(_) => config,
            other => return Err(format!("expected a mapping, found {}", other.describe())),
        };
        // The text as it is, where that is possible.
        let texts = [manifests::authored(text.trim_start_matches('\u{feff}')), Some(config.to_text())];
        self.fields.insert("functionConfig", config);
        let configured = texts.into_iter().flatten().find_map(|config| {
            let mut section = "functionConfig:\n".to_owned();
            push_indented(&mut section, &config, 0, "  ");
            with_section(&self.text, "functionConfig", &section).filter(|text| holds(text, &self.fields))
        });
        self.text = configured.unwrap_or_else(|| Value::Mapping(self.fields.clone()).to_text());
        Ok(())
    }

    /// Returns the name, the namespace and the values in the functionConfig. Errors show `prefix` before its fields.
    fn installation(&self, prefix: &str) -> Result<(String, Option<String>, Mapping), String> {
        let config = match self.fields.get("functionConfig") {
            Some(Value::Mapping(config)) => config,
            None | Some(Value::Null) => {
                return Err("the list has no `functionConfig`; `--config FILE` sets one".to_owned());
            }
            Some(other) => return Err(format!("`functionConfig`: expected a mapping, found {}", other.describe())),
        };
        let metadata = config.get("metadata").and_then(Value::as_mapping);
        let string = |field| match metadata.and_then(|metadata| metadata.get(field)) {
            None | Some(Value::Null) => Ok(None),
            // A program gets arguments and variables that end at the first NUL.
            Some(Value::String(text)) if text.contains('\0') => {
                Err(format!("`{prefix}metadata.{field}`: expected a string without NUL"))
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(format!("`{prefix}metadata.{field}`: expected a string, found {}", other.describe())),
        };
        let name = string("name")?.ok_or_else(|| format!("`{prefix}metadata.name` is missing"))?;
        let mut fields = ["spec", "data"].iter().filter_map(|field| Some((field, config.get(field)?)));
        let values = match fields.find(|(_, values)| **values != Value::Null) {
            None => Mapping::new(),
            Some((field, Value::Mapping(values))) => {
                resolved(values.clone()).map_err(|problem| format!("`{prefix}{field}`: {problem}"))?
            }
            Some((field, other)) => {
                return Err(format!("`{prefix}{field}`: expected a mapping, found {}", other.describe()));
            }
        };
        Ok((name, string("namespace")?, values))
    }

    fn items(&self) -> &[Value] {
        if let Some(Value::Sequence(items)) = self.fields.get("items") { items } else { &[] }
    }

    /// Returns the message of the first result with the severity `error`.
    fn first_error(&self) -> Option<String> {
        let Some(Value::Sequence(results)) = self.fields.get("results") else { return None };
        let mut results = results.iter().filter_map(Value::as_mapping);
        let error = results.find(|result| result.get("severity").and_then(Value::as_str) == Some("error"))?;
        Some(error.get("message").and_then(Value::as_str).unwrap_or("a result has the severity `error`").to_owned())
    }
}

/// What identifies a resource: apiVersion, kind, namespace and name.
type Id = [String; 4];

fn id(fields: &Mapping) -> Option<Id> {
    let metadata = fields.get("metadata").and_then(Value::as_mapping);
    let string =
        |fields: Option<&Mapping>, field| fields.and_then(|fields| fields.get(field)?.as_str().map(str::to_owned));
    let namespace = string(metadata, "namespace").unwrap_or_default();
    Some([string(Some(fields), "apiVersion")?, string(Some(fields), "kind")?, namespace, string(metadata, "name")?])
}

/// Changes a list. What does not change stays as its author wrote it, with its comments, where that is possible.
struct Merger {
    list: List,
    /// The places of the items that can still be replaced.
    places: HashMap<Id, usize>,
    replaced: HashMap<usize, Resource>,
    added: Vec<Resource>,
    results: Vec<Value>,
}

impl Merger {
    fn new(list: List) -> Self {
        let mut places = HashMap::new();
        for (place, item) in list.items().iter().enumerate() {
            if let Some(id) = item.as_mapping().and_then(id) {
                places.entry(id).or_insert(place);
            }
        }
        Self { list, places, replaced: HashMap::new(), added: Vec::new(), results: Vec::new() }
    }

    /// Replaces the item with the resource's identity, or adds the resource.
    fn merge(&mut self, resource: Resource) {
        match id(&resource.fields).and_then(|id| self.places.remove(&id)) {
            Some(place) => drop(self.replaced.insert(place, resource)),
            None => self.added.push(resource),
        }
    }

    fn result(&mut self, severity: &str, message: &str) {
        let entries = [("message", message), ("severity", severity)];
        self.results
            .push(entries.map(|(key, value)| (key.to_owned(), value.into())).into_iter().collect::<Mapping>().into());
    }

    /// Returns the list's new text.
    fn finish(mut self) -> String {
        let items = self.list.items();
        for (place, resource) in &mut self.replaced {
            if let Some(Value::Mapping(item)) = items.get(*place) {
                keep_annotations(item, resource);
            }
        }
        let mut fields = self.list.fields.clone();
        let mut edited = Some(self.list.text.clone());
        if !self.replaced.is_empty() || !self.added.is_empty() {
            let items = fields.get_or_insert_with("items", || Vec::new().into());
            let mut all = match std::mem::replace(items, Value::Null) {
                Value::Sequence(items) => items,
                _ => Vec::new(),
            };
            for (place, resource) in &self.replaced {
                if let Some(item) = all.get_mut(*place) {
                    *item = Value::Mapping(resource.fields.clone());
                }
            }
            all.extend(self.added.iter().map(|resource| Value::Mapping(resource.fields.clone())));
            *items = Value::Sequence(all);
            edited = self.edited();
        }
        // A list of another kind has no results.
        if !self.results.is_empty() && fields.get("kind").and_then(Value::as_str) == Some("ResourceList") {
            let results = fields.get_or_insert_with("results", || Vec::new().into());
            let mut all = match std::mem::replace(results, Value::Null) {
                Value::Sequence(results) => results,
                _ => Vec::new(),
            };
            all.append(&mut self.results);
            *results = Value::Sequence(all);
            let section = field_text("results", results);
            edited = edited.and_then(|text| with_section(&text, "results", &section));
        }
        // Whatever the text is like: an edit counts only if it says the same.
        edited.filter(|text| holds(text, &fields)).unwrap_or_else(|| Value::Mapping(fields).to_text())
    }

    /// Returns the list's text with the items changed in place, if it is in block style.
    fn edited(&self) -> Option<String> {
        let lines = lines(&self.list.text)?;
        let push_added = |text: &mut String, indent| {
            self.added.iter().for_each(|resource| push_indented(text, &resource.text, indent, "- "));
        };
        let Some((heading, end)) = section(&lines, "items") else {
            let mut items = "items:\n".to_owned();
            push_added(&mut items, 0);
            return with_section(&self.list.text, "items", &items);
        };
        let value = lines.get(heading)?.strip_prefix("items:")?;
        if value.trim() != "[]" && is_content(value) {
            return None;
        }
        let inner = lines.get(heading + 1..end)?;
        let indent = inner.iter().find(|line| is_content(line)).map_or(0, |line| indentation(line));
        let starts: Vec<usize> = (heading + 1..end)
            .filter(|at| lines.get(*at).is_some_and(|line| indentation(line) == indent && is_item(line)))
            .collect();
        if starts.len() != self.list.items().len() {
            return None;
        }
        let mut text = String::with_capacity(self.list.text.len());
        push_lines(&mut text, lines.get(..heading)?);
        text.push_str(if is_content(value) { "items:" } else { lines.get(heading)? });
        end_line(&mut text);
        push_lines(&mut text, lines.get(heading + 1..*starts.first().unwrap_or(&end))?);
        for (place, start) in starts.iter().enumerate() {
            let item = lines.get(*start..*starts.get(place + 1).unwrap_or(&end))?;
            match self.replaced.get(&place) {
                Some(resource) => {
                    push_indented(&mut text, &resource.text, indent, "- ");
                    push_lines(&mut text, item.get(without_comments(item, indent)..)?);
                }
                None => push_lines(&mut text, item),
            }
            end_line(&mut text);
        }
        push_added(&mut text, indent);
        push_lines(&mut text, lines.get(end..)?);
        Some(text)
    }
}

/// Keeps the annotations of an item by which the orchestrator finds it again.
fn keep_annotations(item: &Mapping, resource: &mut Resource) {
    let annotations = item.get("metadata").and_then(|metadata| metadata.as_mapping()?.get("annotations")?.as_mapping());
    let Some(annotations) = annotations else { return };
    let empty = || Value::Mapping(Mapping::new());
    let Some(metadata) = resource.fields.get_or_insert_with("metadata", empty).as_mapping_mut() else { return };
    let own = metadata.get("annotations").and_then(Value::as_mapping);
    let own: HashSet<&str> = own.into_iter().flat_map(Mapping::iter).filter_map(|(key, _)| key.as_str()).collect();
    let is_kept = |key: &str| !own.contains(key) && ORCHESTRATORS.iter().any(|prefix| key.starts_with(prefix));
    let kept = annotations.iter().filter_map(|(key, value)| Some((key.as_str()?, value)));
    let kept = kept.filter(|(key, _)| is_kept(key)).map(|(key, value)| (key.to_owned(), value.clone()));
    let kept: Mapping = kept.collect();
    if kept.is_empty() {
        return;
    }
    let annotations = metadata.get_or_insert_with("annotations", empty);
    if *annotations == Value::Null {
        *annotations = empty();
    }
    let Some(annotations) = annotations.as_mapping_mut() else { return };
    annotations.merge(kept);
    // The rest of the resource stays as its author wrote it: a new text has other scalars for readers of YAML 1.1.
    let metadata = resource.fields.get("metadata").map(|metadata| field_text("metadata", metadata));
    let edited = metadata.and_then(|metadata| with_section(&resource.text, "metadata", &metadata));
    match edited.filter(|text| holds(text, &resource.fields)) {
        Some(text) => resource.text = text,
        None => *resource = std::mem::take(&mut resource.fields).into(),
    }
}

/// Returns the lines of a text, unless there are too many.
fn lines(text: &str) -> Option<Vec<&str>> {
    let lines: Vec<&str> = text.split_inclusive('\n').take(MAX_LINES + 1).collect();
    (lines.len() <= MAX_LINES).then_some(lines)
}

/// Returns a text in block style with another value of a key of the outermost mapping, in its place or at the end.
///
/// `value` is the key with its value. A text in another style becomes anything; see [`holds`].
fn with_section(text: &str, key: &str, value: &str) -> Option<String> {
    let lines = lines(text)?;
    let (heading, end) = section(&lines, key).unwrap_or((lines.len(), lines.len()));
    let mut edited = String::with_capacity(text.len() + value.len());
    push_lines(&mut edited, lines.get(..heading)?);
    end_line(&mut edited);
    edited.push_str(value);
    end_line(&mut edited);
    push_lines(&mut edited, lines.get(end..)?);
    Some(edited)
}

/// Returns whether a text is a document with these fields.
fn holds(text: &str, fields: &Mapping) -> bool {
    matches!(yaml::parse(text), Ok(Value::Mapping(found)) if found == *fields)
}

/// Returns the text of a mapping with one field.
fn field_text(field: &str, value: &Value) -> String {
    Value::Mapping([(field.to_owned(), value.clone())].into_iter().collect()).to_text()
}

/// Returns the line of a key of the outermost mapping, and the line after its value.
fn section(lines: &[&str], key: &str) -> Option<(usize, usize)> {
    let is_key = |line: &&str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    let heading = lines.iter().position(is_key)?;
    let value = lines.get(heading + 1..)?;
    let is_outer = |line: &&str| !line.starts_with([' ', '\t', '-', '#', '\r', '\n']);
    let value = value.get(..value.iter().position(is_outer).unwrap_or(value.len()))?;
    Some((heading, heading + 1 + without_comments(value, 0)))
}

/// Returns the number of lines up to the comments at the end that are about what follows: those with at most this
/// indentation.
fn without_comments(lines: &[&str], indent: usize) -> usize {
    let is_comment = |line: &&str| line.trim_start().starts_with('#') && indentation(line) <= indent;
    let is_before = |line: &&str| !line.trim().is_empty() && !is_comment(line);
    let end = lines.iter().rposition(is_before).map_or(0, |last| last + 1);
    let comments = lines.iter().skip(end).position(is_comment);
    comments.map_or(lines.len(), |comments| end + comments)
}

fn push_lines(text: &mut String, lines: &[&str]) {
    lines.iter().for_each(|line| text.push_str(line));
}

/// Ends the last line, if there is one.
fn end_line(text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_content(line: &str) -> bool {
    !line.trim_start().is_empty() && !line.trim_start().starts_with('#')
}

fn is_item(line: &str) -> bool {
    line.trim_start().strip_prefix('-').is_some_and(|rest| rest.starts_with([' ', '\n', '\r']))
}

/// Appends a document with `first`, two characters, before its first line, and two spaces before all others.
fn push_indented(text: &mut String, document: &str, indent: usize, first: &str) {
    let (first, rest) = (format!("{:indent$}{first}", ""), format!("{:indent$}  ", ""));
    let mut prefix = &first;
    for line in document.trim_start_matches(['\n', '\r']).split_inclusive('\n') {
        if !line.trim_end_matches(['\n', '\r']).is_empty() {
            text.push_str(prefix);
            prefix = &rest;
        }
        text.push_str(line);
    }
}

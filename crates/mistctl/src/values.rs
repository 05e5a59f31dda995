//! `mistctl values`.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use clap::Args;
use mistletoe::documents::MistPackage;
use mistletoe::documents::yaml::{Mapping, Value};

use crate::cli::{Backend, Limits, SCHEMA};
use crate::failure::Failure;
use crate::guest::Guest;
use crate::json::to_json;
use crate::manifests::commented;
use crate::package::Session;
use crate::registries::Registries;
use crate::stderr::Excerpt;
use crate::{print, schema};

/// Maximum number of entries with notes from the schema, and of entries that only the schema has.
const MAX_NOTES: usize = 2_000;
/// Maximum number of schemas that describe one value: a schema, the target of its reference, and those in `allOf`.
const MAX_PARTS: usize = 32;
/// Maximum number of levels of entries that only the schema has.
const MAX_LEVELS: usize = 8;
/// What may be passed of the schema: entries of mappings and items of sequences.
const MAX_WORK: usize = 1_000_000;
/// Maximum number of bytes of the comments: a schema can refer to one part of itself many times.
const MAX_COMMENTS: usize = 1 << 20;
/// Maximum number of bytes of a description that are shown.
const MAX_DESCRIPTION: usize = 2_000;
/// Maximum number of bytes of an allowed value that are shown, and of such values.
const MAX_SHOWN: usize = 60;
const MAX_OPTIONS: usize = 20;

#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  \
    mistctl values app.wasm > values.yaml\n  \
    mistctl generate web -p app.wasm -f values.yaml\n\n\
    Values without a default are comments. {SCHEMA}"))]
pub(crate) struct ValuesOf {
    /// The package: a WebAssembly module in the binary or the text format. A program describes nothing.
    pub(crate) package: PathBuf,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    pub(crate) backend: Backend,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

pub(crate) fn run(arguments: &ValuesOf) -> Result<(), Failure> {
    let path = arguments.package.as_path();
    let guest =
        Guest::load(path, &arguments.registries, &arguments.backend, &arguments.limits, arguments.limits.get())?.guest;
    let Guest::Package(package) = guest else { return print("# A program does not describe its values.\n") };
    let description = Session::open(&package, path)?.into_description();
    print(&description.map_or_else(|| "# The package does not describe its values.\n".to_owned(), |p| listing(&p)))
}

/// Returns the defaults as YAML, with notes from the schema.
fn listing(package: &MistPackage) -> String {
    let mut listing = Listing {
        root: package.input_schema.as_ref(),
        text: String::new(),
        notes: MAX_NOTES,
        comments: MAX_COMMENTS,
        work: MAX_WORK,
        is_cut: false,
    };
    let parts = listing.parts(listing.root);
    listing.entries(package.defaults.as_ref().unwrap_or(&Mapping::new()), &parts, Lines::default(), 0);
    let is_cut = listing.is_cut || listing.work == 0;
    let mut text = listing.text;
    if text.is_empty() && !is_cut {
        text.push_str("# The package declares no values.\n");
    }
    if is_cut {
        text.push_str("\n# The schema describes more values than are shown here.\n");
    }
    if package.input_schema.is_some() && !cfg!(feature = "schema") {
        text.insert_str(0, "# This build of mistctl does not check values against the package's schema.\n\n");
    }
    text
}

struct Listing<'a> {
    root: Option<&'a Value>,
    text: String,
    /// What is left of [`MAX_NOTES`], [`MAX_COMMENTS`] and [`MAX_WORK`].
    notes: usize,
    comments: usize,
    work: usize,
    /// Whether something of the schema was left out.
    is_cut: bool,
}

/// What lines begin with.
#[derive(Clone, Default)]
struct Lines {
    prefix: String,
    are_comments: bool,
}

impl Lines {
    fn indented(&self) -> Self {
        Self { prefix: format!("{}  ", self.prefix), ..*self }
    }

    fn as_comments(&self) -> Self {
        if self.are_comments {
            return self.clone();
        }
        Self { prefix: format!("{}# ", self.prefix), are_comments: true }
    }
}

impl<'a> Listing<'a> {
    /// Writes the entries of a mapping, and as comments those that only the schema has.
    fn entries(&mut self, defaults: &Mapping, parts: &[&'a Mapping], lines: Lines, level: usize) {
        let mut properties = Vec::new();
        let mut schemas = HashMap::new();
        let mut required = HashSet::new();
        for part in parts {
            if let Some(Value::Mapping(mapping)) = part.get("properties")
                && self.take(mapping.len())
            {
                for (name, schema) in mapping.iter().filter_map(|(name, schema)| Some((name.as_str()?, schema))) {
                    if schemas.insert(name, schema).is_none() {
                        properties.push(name);
                    }
                }
            }
            if let Some(Value::Sequence(names)) = part.get("required")
                && self.take(names.len())
            {
                required.extend(names.iter().filter_map(Value::as_str));
            }
        }
        let mut seen = HashSet::new();
        for (key, value) in defaults.iter() {
            let name = key.as_str().unwrap_or_default();
            self.entry(name, Some(value), schemas.get(name).copied(), required.contains(name), &lines, level);
            seen.insert(name);
        }
        for name in properties {
            // The argument NAME gives the name.
            let is_given = level == 0 && name == "name";
            if is_given || seen.contains(name) {
                continue;
            }
            if level >= MAX_LEVELS {
                self.is_cut = true;
                return;
            }
            self.entry(name, None, schemas.get(name).copied(), required.contains(name), &lines, level);
        }
    }

    fn entry(
        &mut self,
        name: &str,
        value: Option<&Value>,
        schema: Option<&'a Value>,
        is_required: bool,
        lines: &Lines,
        level: usize,
    ) {
        let is_over = self.notes == 0 || self.comments == 0;
        self.is_cut |= is_over && (schema.is_some() || lines.are_comments);
        let parts = if is_over { Vec::new() } else { self.parts(schema) };
        if (value.is_none() && parts.is_empty()) || (lines.are_comments && is_over) {
            return;
        }
        if !parts.is_empty() {
            self.notes -= 1;
            if level == 0 && !self.text.is_empty() {
                self.text.push('\n');
            }
            let notes = notes(&parts, is_required);
            let comments = lines.as_comments();
            for note in &notes {
                self.line(&comments, note.trim_end());
            }
        }
        let default = keyword(&parts, "default");
        let (value, lines) = match (value, default) {
            (Some(value), _) => (value, lines.clone()),
            (None, default) => (default.unwrap_or(&Value::Null), lines.as_comments()),
        };
        // A key that takes several lines stays with its value.
        let heading = entry(name, &Value::Null);
        let heading = heading.strip_suffix(" null\n").filter(|heading| heading.lines().count() == 1);
        match (heading, value) {
            (Some(heading), Value::Mapping(inner)) if !inner.is_empty() => {
                self.line(&lines, heading);
                self.entries(inner, &parts, lines.indented(), level + 1);
            }
            (Some(heading), Value::Null) if lines.are_comments => {
                self.line(&lines, heading);
                self.entries(&Mapping::new(), &parts, lines.indented(), level + 1);
            }
            (_, value) => {
                for line in entry(name, value).lines() {
                    self.line(&lines, line);
                }
                if value.as_mapping().is_some() {
                    self.entries(&Mapping::new(), &parts, lines.indented().as_comments(), level + 1);
                }
            }
        }
    }

    /// Writes a line, if it is not a comment beyond [`MAX_COMMENTS`].
    fn line(&mut self, lines: &Lines, line: &str) {
        let Lines { prefix, are_comments } = lines;
        if *are_comments {
            let left = self.comments.checked_sub(prefix.len() + line.len() + 1);
            self.comments = left.unwrap_or(0);
            if left.is_none() {
                self.is_cut = true;
                return;
            }
        }
        self.text.push_str(match (line, are_comments) {
            ("", true) => prefix.trim_end(),
            ("", false) => "",
            _ => prefix,
        });
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Returns the schemas that describe a value together: a schema, the target of its reference, those in `allOf`.
    fn parts(&mut self, schema: Option<&'a Value>) -> Vec<&'a Mapping> {
        let mut parts: Vec<&'a Mapping> = Vec::new();
        let mut waiting: Vec<&'a Value> = schema.into_iter().collect();
        while let Some(schema) = waiting.pop() {
            let Value::Mapping(part) = schema else { continue };
            if parts.len() == MAX_PARTS
                || parts.iter().any(|known| std::ptr::eq(*known, part))
                || !self.take(part.len())
            {
                continue;
            }
            parts.push(part);
            if let Some(Value::Sequence(schemas)) = part.get("allOf") {
                waiting.extend(schemas.iter().take(MAX_PARTS).rev());
            }
            if let (Some(Value::String(reference)), Some(root)) = (part.get("$ref"), self.root) {
                waiting.extend(schema::target(root, reference, &mut self.work));
            }
        }
        parts
    }

    /// Takes from the work that is left. If it is too little, nothing is left.
    fn take(&mut self, work: usize) -> bool {
        let left = self.work.checked_sub(work);
        self.work = left.unwrap_or(0);
        left.is_some()
    }
}

/// Returns a keyword's value in the first schema that has it.
fn keyword<'a>(parts: &[&'a Mapping], name: &str) -> Option<&'a Value> {
    parts.iter().find_map(|part| part.get(name))
}

/// Returns what the schema says about a value, in lines.
fn notes(parts: &[&Mapping], is_required: bool) -> Vec<String> {
    let text = keyword(parts, "description").or_else(|| keyword(parts, "title")).and_then(Value::as_str);
    let text = Excerpt::of(text.unwrap_or_default().trim(), MAX_DESCRIPTION);
    let mut notes: Vec<String> = text.lines().map(commented).collect();
    let shown = |value: &Value| commented(&Excerpt::of(to_json(value), MAX_SHOWN));
    let mut facts = Vec::new();
    match keyword(parts, "type") {
        Some(Value::String(kind)) => facts.push(commented(&Excerpt::of(kind, MAX_SHOWN))),
        Some(Value::Sequence(kinds)) => {
            let kinds = kinds.iter().filter_map(Value::as_str).take(MAX_OPTIONS);
            facts.push(kinds.map(|kind| commented(&Excerpt::of(kind, MAX_SHOWN))).collect::<Vec<_>>().join(" or "));
        }
        _ => {}
    }
    match (keyword(parts, "enum"), keyword(parts, "const")) {
        (Some(Value::Sequence(options)), _) => {
            let rest = if options.len() > MAX_OPTIONS { ", …" } else { "" };
            let options: Vec<String> = options.iter().take(MAX_OPTIONS).map(shown).collect();
            facts.push(format!("one of {}{rest}", options.join(", ")));
        }
        (_, Some(value)) => facts.push(format!("always {}", shown(value))),
        _ => {}
    }
    if is_required {
        facts.push("required".to_owned());
    }
    if !facts.is_empty() {
        notes.push(facts.join("; "));
    }
    notes
}

/// Returns a mapping with one entry as YAML.
fn entry(name: &str, value: &Value) -> String {
    let mapping: Mapping = [(name.to_owned(), value.clone())].into_iter().collect();
    Value::Mapping(mapping).to_text()
}

#[cfg(test)]
mod tests {
    use mistletoe::documents::yaml;

    use super::*;

    fn package(schema: &str, defaults: &str) -> MistPackage {
        let parse = |text: &str| yaml::parse(text).expect("YAML");
        let defaults = parse(defaults).as_mapping().cloned();
        let schema = Some(parse(schema)).filter(|schema| *schema != Value::Null);
        MistPackage { name: "p".to_owned(), labels: Vec::new(), input_schema: schema, defaults }
    }

    /// The listing without the line about the build.
    #[track_caller]
    fn lists(schema: &str, defaults: &str, expected: &str) {
        let package = package(schema, defaults);
        let text = listing(&package);
        let text = text.strip_prefix("# This build of mistctl does not check values against the package's schema.\n\n");
        assert_eq!(text.map_or_else(|| listing(&package), str::to_owned), expected);
        reads_back(&package);
    }

    #[track_caller]
    fn reads_back(package: &MistPackage) -> String {
        let text = listing(package);
        let read = match yaml::parse(&text) {
            Ok(Value::Mapping(mapping)) => mapping,
            Ok(Value::Null) => Mapping::new(),
            other => panic!("{other:?}: {text}"),
        };
        assert_eq!(read, package.defaults.clone().unwrap_or_default(), "{text}");
        text
    }

    #[test]
    fn defaults_have_the_schemas_notes() {
        let schema = "
required: [image, size]
properties:
  name: {type: string}
  image:
    description: |
      Where the image comes from.

      Any registry.
    required: [tag]
    properties:
      repository: {description: Its repository., type: string}
      tag: {description: Its tag., type: [string, 'null']}
      pull: {title: When to pull it, enum: [Always, Never, 5]}
  size: {$ref: '#/$defs/size'}
  ingress:
    type: object
    properties:
      host: {description: Host name., type: string}
      tls: {type: object, properties: {secret: {type: string, default: cert}}}
  resources: {properties: {limits: {type: object}}}
$defs: {size: {allOf: [{description: How large., type: string}, {enum: [small, large]}]}}
";
        let defaults = "image: {repository: nginx, tag: '1.10'}\nreplicas: 1\nresources: {}\n";
        let expected = "\
# Where the image comes from.
#
# Any registry.
# required
image:
  # Its repository.
  # string
  repository: nginx
  # Its tag.
  # string or null; required
  tag: \"1.10\"
  # When to pull it
  # one of \"Always\", \"Never\", 5
  # pull:
replicas: 1

resources: {}
  # object
  # limits:

# How large.
# string; one of \"small\", \"large\"; required
# size:

# object
# ingress:
#   Host name.
#   string
#   host:
#   object
#   tls:
#     string
#     secret: cert
";
        lists(schema, defaults, expected);
    }

    #[test]
    fn without_defaults_and_schema_there_is_one_comment() {
        for (schema, defaults) in
            [("", ""), ("", "{}"), ("{}", ""), ("true", ""), ("properties: {name: {type: string}}", "")]
        {
            lists(schema, defaults, "# The package declares no values.\n");
        }
    }

    #[test]
    fn hostile_texts_stay_in_their_comments_and_values() {
        let texts = [
            "x\ny: 1",
            "x\ry: 1",
            "x\u{85}y: 1",
            "x\u{2028}y: 1",
            "\u{feff}",
            "#",
            "",
            "\u{1b}[2J",
            "a: b",
            "- ",
            "\t",
        ];
        for text in texts.into_iter().map(str::to_owned).chain(["x".repeat(5_000), "x\n".repeat(5_000)]) {
            let name: Mapping = [(text.clone(), Value::from(text.clone()))].into_iter().collect();
            let leaf: Mapping = ["description", "type", "title"]
                .iter()
                .map(|key| (key.to_string(), Value::from(text.clone())))
                .chain([("enum".to_owned(), Value::Sequence(vec![text.as_str().into(); 30]))])
                .collect();
            let properties: Mapping =
                [(text.clone(), Value::from(leaf.clone())), ("z".to_owned(), leaf.into())].into_iter().collect();
            let schema: Mapping = [("properties".to_owned(), properties.clone().into())].into_iter().collect();
            let mut schema_of_inner = schema.clone();
            schema_of_inner.insert("properties", {
                let mut properties = properties;
                properties.insert("inner", schema);
                properties
            });
            let mut defaults = name.clone();
            defaults.insert("inner", name);
            let package = MistPackage {
                name: "p".to_owned(),
                labels: Vec::new(),
                input_schema: Some(schema_of_inner.into()),
                defaults: Some(defaults),
            };
            let text = reads_back(&package);
            assert!(text.lines().filter(|line| line.starts_with('#')).all(|line| line.len() < 3_000), "{text}");
        }
    }

    #[test]
    fn hostile_schemas_end() {
        let wide: String = (0..5_000).map(|i| format!("  p{i}: {{$ref: '#'}}\n")).collect();
        let wide = format!("properties:\n{wide}");
        let schemas = [
            "$ref: '#'",
            "allOf: [{$ref: '#'}, {$ref: '#'}]",
            "properties: {a: {$ref: '#'}, b: {$ref: '#'}, c: {$ref: '#'}}",
            "$ref: '#/a'\na: {$ref: '#/b'}\nb: {$ref: '#/a'}",
            "$ref: http://example.com/schema",
            "properties: 5\nrequired: 5\nallOf: 5\ntype: 5\nenum: 5\n$ref: 5",
            "properties: {a: 5, b: true, c: [], 5: {}}",
            &wide,
        ];
        for schema in schemas {
            let text = reads_back(&package(schema, "a: {a: {a: 1}}\nb: 2\n"));
            assert!(text.len() < 1_000_000, "{schema:.60}: {}", text.len());
        }
    }

    const CUT: &str = "\n# The schema describes more values than are shown here.\n";

    #[test]
    fn comments_are_bounded_however_often_a_schema_repeats_them() {
        let references =
            |target: &str| (0..2_000).map(|i| format!("  p{i}: {{$ref: '#/{target}'}}\n")).collect::<String>();
        let long = "x".repeat(100_000);
        let many: String = (0..10_000).map(|i| format!("k{i}: x, ")).collect();
        for part in [
            format!("default: {long}"),
            format!("default: [{many}]"),
            format!("default: {{{many}}}"),
            format!("default: {{a: {{{many}}}}}"),
            format!("properties: {{{}: {{type: string}}}}", &long[..1_000]),
            format!("description: {}", "x ".repeat(1_000)),
        ] {
            let schema = format!("properties:\n{}d: {{{part}}}\n", references("d"));
            let text = reads_back(&package(&schema, "p1999: 1\n"));
            assert!(text.len() < MAX_COMMENTS + 1_000, "{part:.60}: {}", text.len());
            assert!(text.ends_with(CUT) && text.lines().any(|line| line == "p1999: 1"), "{part:.60}");
        }
    }

    #[test]
    fn a_listing_without_the_deepest_values_says_so() {
        let nested = |levels: usize| format!("{}{{}}{}", "{properties: {a: ".repeat(levels), "}}".repeat(levels));
        for (levels, is_cut) in [(MAX_LEVELS, false), (MAX_LEVELS + 1, true)] {
            let text = reads_back(&package(&nested(levels), ""));
            assert_eq!((text.matches(" a:\n").count(), text.ends_with(CUT)), (MAX_LEVELS, is_cut), "{text}");
        }
    }

    #[test]
    fn tricky_defaults_are_read_back() {
        for defaults in [
            "a: |\n  x\n\n    y\n  z\nb: {c: |2-\n   \n x\n }",
            "a: {b: [1, {c: [[], {}, '']}], '': x, 'null': null, '# x': '#', ? 'a b:' : 1}",
            "a: null\nb: {c: null}",
            "a: ['x\n\n y ', \" \\t\", '---', \"\\u2028\"]",
        ] {
            if let Ok(Value::Mapping(_)) = yaml::parse(defaults) {
                reads_back(&package("properties: {a: {description: A}}", defaults));
            }
        }
        let keys = ["k".repeat(2_000), "a\nb".to_owned(), "? x".to_owned(), "- x".to_owned()];
        let inner: Mapping = keys.iter().map(|key| (key.clone(), Value::Int(1))).collect();
        let defaults: Mapping = keys.iter().map(|key| (key.clone(), Value::from(inner.clone()))).collect();
        reads_back(&MistPackage { name: "p".to_owned(), defaults: Some(defaults), ..MistPackage::default() });
    }
}

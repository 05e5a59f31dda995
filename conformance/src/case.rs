//! A case as its file describes it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use mistletoe_abi::Limits;
use mistletoe_abi::protocol::httpwasm::Delimiter;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::BadCase;
use crate::setup::{Grants, Protocol, Setup};

/// What a header starts its lines with.
const MARK: &str = ";;!";

/// One fixture: a module, what to do with it, and what has to come back.
#[derive(Clone, Debug)]
pub struct Case {
    /// The folder it is in.
    pub group: String,
    /// The file's name without its ending.
    pub name: String,
    /// What its first lines say.
    pub header: Header,
    /// The module in the binary format, or what stands in for one.
    pub wasm: Vec<u8>,
}

/// The `;;!` lines of a fixture. Of an expected error only the fields that are named count; `false` says that a field is
/// absent. The types of problems are written as text: `func [I32] -> []`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// One line: what the case proves.
    pub about: String,
    /// Numbers of the rules that it tests, in its protocol's document; see [`Protocol::document`].
    #[serde(default)]
    pub rules: Vec<u32>,
    /// The interface that the module speaks: `"package"` (the default), `"httpwasm"` or `"command"`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Whether it can import the functions of the modules `test`, which `host_functions.rs` lists, and `fuzz`, in `trace.rs`.
    #[serde(default)]
    pub imports: bool,
    /// What WASI grants; without it there is no WASI.
    pub wasi: Option<Grants>,
    /// Where records of a plugin's input end: `"newline"` (the default), `"nul"`, `"none"`, or one character.
    pub delimiter: Option<String>,
    /// The longest output in bytes that the host allows, where it is not the default.
    pub max_output: Option<u64>,
    /// Limits; there are no others.
    pub limits: Option<CaseLimits>,
    /// The error that loading the module has to give: its kind and those of its fields that matter.
    pub load: Option<Map<String, Value>>,
    /// The error that opening a session has to give.
    pub open: Option<Map<String, Value>>,
    /// How often the steps are run, each time on fresh sessions and with the same results; once by default.
    #[serde(default = "once")]
    pub runs: u32,
    /// How many threads do so at once, all with the one package; one by default.
    #[serde(default = "once")]
    pub threads: u32,
    /// What is done, in order.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
    /// Backends that are known to fail the case. A pass is then an error, too.
    #[serde(default)]
    pub known: Vec<Known>,
}

/// A failure that is known, and why.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Known {
    /// The backend's name.
    pub backend: String,
    /// Why it fails …
    #[serde(default)]
    pub reason: String,
    /// … or the part of the feature set that it lacks and the module needs: it has to refuse the module for that.
    pub lacks: Option<String>,
}

impl Known {
    /// A backend that fails for this reason.
    pub fn new(backend: &str, reason: &str) -> Self {
        Self { backend: backend.to_owned(), reason: reason.to_owned(), lacks: None }
    }

    /// A backend that lacks a feature.
    pub fn lacks(backend: &str, feature: &str) -> Self {
        Self { backend: backend.to_owned(), reason: String::new(), lacks: Some(feature.to_owned()) }
    }

    /// Why it fails, in words.
    pub fn reason(&self) -> String {
        match &self.lacks {
            Some(feature) => format!("it lacks `{feature}`"),
            None => self.reason.clone(),
        }
    }
}

/// One call and what has to come back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The call: `"info"`, `{ generate = <text> }`, `{ borrow = <text> }`, `{ request = <text> }` for a plugin, `"start"`
    /// for a command, or `"close"`, which drops the session.
    pub call: Call,
    /// The session it is made on. One is opened where its name comes up first, or again after it was closed.
    #[serde(default)]
    pub session: String,
    /// How often it is made in a row, each time with the same result; once by default.
    #[serde(default = "once")]
    pub times: u32,
    /// The string that has to come back, from plugins and commands on their standard output …
    pub output: Option<Text>,
    /// … or the error: its kind and those of its fields that matter.
    pub error: Option<Map<String, Value>>,
    /// What has to have been written to the standard error during the call, if that matters.
    pub stderr: Option<Text>,
    /// What has to have been written to the standard output by a call that fails, if that matters.
    pub stdout: Option<Text>,
    /// The code that a command has to exit with; 0 by default.
    #[serde(default)]
    pub exit: u32,
    /// How much fuel it has to have used, if that matters.
    pub fuel: Option<u64>,
    /// What has to be in the granted folders afterwards, if that matters: files with what they hold, folders (`/` at the
    /// end) and links (`@` at the end) with where they lead. The folders are `0/`, `1/` … in the order of their names.
    pub files: Option<BTreeMap<String, String>>,
    /// What has to have poisoned the session by then. Left out, a trap counts as its own fault, and otherwise nothing
    /// changes.
    pub fault: Option<Map<String, Value>>,
}

/// The limits of a case; see [`Limits`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseLimits {
    /// In bytes.
    pub memory: Option<u64>,
    /// In milliseconds.
    pub timeout_ms: Option<u64>,
    /// In units of fuel; `docs/metering.md` says what costs how much.
    pub fuel: Option<u64>,
    /// In units of height.
    pub stack: Option<u32>,
    /// In elements of a table.
    pub table_elements: Option<u64>,
    /// In bytes of the module.
    pub max_module: Option<u64>,
    /// In bytes of an input.
    pub max_input: Option<u64>,
}

/// A call on a session.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// Ask for the package's description.
    Info,
    /// Hand over an input.
    Generate(Text),
    /// Hand over an input, and read the output before it is freed.
    Borrow(Text),
    /// Have a plugin answer a request.
    Request(Text),
    /// Run a command.
    Start,
    /// Drop the session; nothing comes back.
    Close,
}

/// A text, written out or described.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// As it stands.
    Plain(String),
    /// A text many times over.
    Repeat {
        /// The text.
        repeat: String,
        /// How often.
        times: usize,
    },
    /// Texts one after the other.
    Parts(Vec<Self>),
}

fn once() -> u32 {
    1
}

impl Text {
    /// The text itself.
    pub fn text(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Repeat { repeat, times } => repeat.repeat(*times),
            Self::Parts(parts) => parts.iter().map(Self::text).collect(),
        }
    }
}

impl Case {
    /// Reads a fixture.
    pub(crate) fn read(path: &Path) -> Result<Self, BadCase> {
        let bad = |problem: String| BadCase { path: path.to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let header: String = text
            .lines()
            .take_while(|line| line.starts_with(MARK))
            .map(|line| format!("{}\n", line.trim_start_matches(MARK)))
            .collect();
        let header: Header = toml::from_str(&header).map_err(|error| bad(error.to_string()))?;
        header.check().map_err(|problem| bad(problem.to_owned()))?;
        let wasm = wat::parse_str(&text).map_err(|error| bad(error.to_string()))?;
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let group = part(path.parent().and_then(Path::file_name));
        Ok(Self { group, name: part(path.file_stem()), header, wasm })
    }
}

impl Header {
    /// What the module is loaded with.
    pub(crate) fn setup(&self) -> Setup {
        let mut limits = Limits::unlimited().with_max_output(self.max_output.unwrap_or(Limits::default().max_output()));
        if let Some(CaseLimits { memory, timeout_ms, fuel, stack, table_elements, max_module, max_input }) = self.limits
        {
            let timeout = timeout_ms.map(Duration::from_millis);
            limits = limits.with_memory(memory).with_timeout(timeout).with_fuel(fuel).with_stack(stack);
            limits = limits
                .with_table_elements(table_elements.unwrap_or(limits.table_elements()))
                .with_max_module(max_module.unwrap_or(limits.max_module()))
                .with_max_input(max_input.unwrap_or(limits.max_input()));
        }
        let delimiter = match self.delimiter.as_deref().map(str::as_bytes) {
            None | Some(b"newline") => Delimiter::Newline,
            Some(b"nul") => Delimiter::Nul,
            Some([byte]) => Delimiter::Byte(*byte),
            Some(_) => Delimiter::None,
        };
        Setup::new(self.protocol, limits, self.imports, delimiter, self.wasi.clone())
    }

    /// A case that can only pass is none.
    fn check(&self) -> Result<(), &'static str> {
        if self.rules.is_empty() && self.protocol.document().is_some() {
            return Err("a case names at least one rule");
        }
        let ends = [self.load.is_some(), self.open.is_some(), !self.steps.is_empty()];
        if ends.into_iter().filter(|end| *end).count() != 1 {
            return Err("a case has either `load`, or `open`, or steps");
        }
        for step in &self.steps {
            let expected = u32::from(step.output.is_some()) + u32::from(step.error.is_some());
            if expected != u32::from(!matches!(step.call, Call::Close)) {
                return Err("a call has either `output` or `error`, and `close` has none");
            }
        }
        if self.runs == 0 || self.threads == 0 || self.steps.iter().any(|step| step.times == 0) {
            return Err("what is done no time proves nothing");
        }
        let errors = self.steps.iter().flat_map(|step| [&step.error, &step.fault]).chain([&self.load, &self.open]);
        if errors.flatten().any(|error| !error.contains_key("kind")) {
            return Err("an error has a `kind`");
        }
        Ok(())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.name)
    }
}

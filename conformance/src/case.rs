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
use crate::http::Http;
use crate::scheduler::Scheduler;
use crate::setup::{Grants, Protocol, Setup};

/// The prefix of header lines.
const MARK: &str = ";;!";

/// One fixture: a module, the steps to run on it, and the expected results.
#[derive(Clone, Debug)]
pub struct Case {
    /// The directory of the file.
    pub group: String,
    /// The file's name without its extension.
    pub name: String,
    /// The header of the file.
    pub header: Header,
    /// The module in the binary format. A fixture may hold arbitrary bytes instead.
    pub wasm: Vec<u8>,
}

/// The `;;!` lines of a fixture.
///
/// Of an expected error, only the fields named here are compared. `false` states that a field is absent. The types of
/// problems are written as text: `func [I32] -> []`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// One line: what the case proves.
    pub about: String,
    /// Numbers of the rules that the case tests, in the document of its protocol; see [`Protocol::document`].
    #[serde(default)]
    pub rules: Vec<u32>,
    /// The interface of the module: `"package"` (the default), `"httpwasm"`, `"http-handler"`, `"scheduler"` or
    /// `"command"`; or `"server"`, for a module behind a route of the server.
    #[serde(default)]
    pub protocol: Protocol,
    /// Whether the module can import the functions of `test` (see `host_functions.rs`) and `fuzz` (see `trace.rs`).
    #[serde(default)]
    pub imports: bool,
    /// What WASI grants. Without it, WASI is not defined.
    pub wasi: Option<Grants>,
    /// The delimiter of records in a plugin's input: `"newline"` (the default), `"nul"`, `"none"`, or one character.
    pub delimiter: Option<String>,
    /// What middleware is loaded with, and how the server behaves.
    #[serde(default)]
    pub http: Http,
    /// What a plugin of the Kubernetes scheduler is loaded with, and the cycle of its sessions.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// The keys of the server's route, as in `docs/serve.md`. By default, the module is a command at every path, and
    /// responses name the kind of an error.
    pub route: Option<toml::Table>,
    /// The maximum output in bytes, if not the default.
    pub max_output: Option<u64>,
    /// The other limits. A limit left out is off.
    pub limits: Option<CaseLimits>,
    /// Whether the guest's stack is recorded. An error then has a field `trace` with the lines of its backtrace.
    #[serde(default)]
    pub backtrace: bool,
    /// The expected error of loading the module: its kind and the fields to compare.
    pub load: Option<Map<String, Value>>,
    /// The expected error of opening a session.
    pub open: Option<Map<String, Value>>,
    /// How often the steps run, each time on new sessions and with the same results. 1 by default.
    #[serde(default = "once")]
    pub runs: u32,
    /// How many threads run the steps concurrently, all with the same package. 1 by default.
    #[serde(default = "once")]
    pub threads: u32,
    /// The calls, in order.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
    /// Backends that are known to fail the case. If one of them passes, that is an error.
    #[serde(default)]
    pub known: Vec<Known>,
}

/// A known failure and its reason.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Known {
    /// The backend's name.
    pub backend: String,
    /// Why the backend fails.
    #[serde(default)]
    pub reason: String,
    /// The part of the feature set that the module needs and the backend lacks.
    ///
    /// The backend has to refuse the module for that.
    pub lacks: Option<String>,
}

impl Known {
    /// Marks a backend that fails for this reason.
    pub fn new(backend: &str, reason: &str) -> Self {
        Self { backend: backend.to_owned(), reason: reason.to_owned(), lacks: None }
    }

    /// Marks a backend that lacks a feature.
    pub fn lacks(backend: &str, feature: &str) -> Self {
        Self { backend: backend.to_owned(), reason: String::new(), lacks: Some(feature.to_owned()) }
    }

    /// Returns why the backend fails, in words.
    pub fn reason(&self) -> String {
        match &self.lacks {
            Some(feature) => format!("it lacks `{feature}`"),
            None => self.reason.clone(),
        }
    }
}

/// One call and its expected result.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The call to make.
    ///
    /// One of `"info"`, `{ generate = <text> }`, `{ borrow = <text> }`, `{ request = <text> }` for a plugin,
    /// `{ handle-request = <text> }`, `{ handle-response = <text> }` and `{ handle-failure = <text> }` for middleware
    /// (see `http.rs`), `{ schedule = <text> }` for a plugin of the Kubernetes scheduler (see `scheduler.rs`),
    /// `{ respond = <text> }` for the server (see `server.rs`), `"start"` for a command, or `"close"`, which drops the
    /// session.
    pub call: Call,
    /// The session to call.
    ///
    /// It is opened at the first step that names it, and again at the first step after a `"close"`.
    #[serde(default)]
    pub session: String,
    /// How many consecutive calls to make, each with the same result. 1 by default.
    #[serde(default = "once")]
    pub times: u32,
    /// The expected output. For plugins and commands, this is their standard output.
    pub output: Option<Text>,
    /// The expected error: its kind and the fields to compare.
    pub error: Option<Map<String, Value>>,
    /// The expected standard error of the call, or the log of middleware and of plugins of the scheduler since the last call. Not compared by default.
    pub stderr: Option<Text>,
    /// The expected standard output of a call that fails. Not compared by default.
    pub stdout: Option<Text>,
    /// The expected exit code of a command. 0 by default.
    #[serde(default)]
    pub exit: u32,
    /// The fuel that the call has to use. Not compared by default.
    pub fuel: Option<u64>,
    /// The expected contents of the granted directories after the call. Not compared by default.
    ///
    /// Files map to their contents, directories (`/` at the end) to an empty string, and links (`@` at the end) to
    /// their targets. The directories are `0/`, `1/` … in the order of their names.
    pub files: Option<BTreeMap<String, String>>,
    /// The error that has to have poisoned the session by the end of the call.
    ///
    /// If left out, an error that poisons the session counts as its own fault; any other result leaves the fault as it
    /// is.
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
    /// In units of fuel; see `docs/metering.md` for the costs.
    pub fuel: Option<u64>,
    /// In units of stack depth.
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
    /// Reads the package's description.
    Info,
    /// Passes an input to the package.
    Generate(Text),
    /// Passes an input to the package and reads the output before it is freed.
    Borrow(Text),
    /// Passes a request to a plugin.
    Request(Text),
    /// Passes a request to middleware.
    HandleRequest(Text),
    /// Passes the next handler's response to middleware.
    HandleResponse(Text),
    /// Passes what the server responds to middleware, after the next handler failed.
    HandleFailure(Text),
    /// Calls a function of a plugin of the Kubernetes scheduler.
    Schedule(Text),
    /// Passes a request to the server.
    Respond(Text),
    /// Runs a command.
    Start,
    /// Drops the session. It has no result.
    Close,
}

/// A text, literal or described.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// A literal text.
    Plain(String),
    /// A repeated text.
    Repeat {
        /// The text.
        repeat: String,
        /// How often it is repeated.
        times: usize,
    },
    /// Concatenated texts.
    Parts(Vec<Self>),
}

fn once() -> u32 {
    1
}

impl Text {
    /// Returns the text itself.
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
    /// Returns what the module is loaded with.
    pub(crate) fn setup(&self) -> Setup {
        let mut limits = Limits::unlimited()
            .with_max_output(self.max_output.unwrap_or(Limits::default().max_output()))
            .with_backtrace(self.backtrace);
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
        Setup::new(self.protocol, limits, self.imports, delimiter, self.http.clone(), self.wasi.clone())
            .with_scheduler(self.scheduler.clone())
            .with_route(self.route.clone())
    }

    /// Rejects a header that cannot fail or contradicts itself.
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

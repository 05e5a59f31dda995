//! The one error type, its kinds, and traps in the WebAssembly specification's terms.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mistletoe_module::display::Shown;
use mistletoe_module::interface::{Problem, Problems};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: an [`ErrorKind`] that is the same on every engine, and the source it came from, if any.
///
/// The value is one word wide and cheap to clone: a session that was poisoned by a trap hands out the first cause
/// again.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kinds of errors. No engine's wording takes part in choosing one.
///
/// With the feature `serde` a kind serialises to a map: `kind`, its name in kebab case, and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// The module uses a part of [the feature set](crate::FEATURES) which the backend lacks: see
    /// [`Backend::supports`](crate::Backend::supports).
    UnsupportedFeature {
        /// The feature's name.
        feature: &'static str,
        /// Offset in bytes of the first use.
        offset: u64,
        /// The backend.
        backend: &'static str,
    },
    /// The module is valid, but does not offer or asks for more than the interface says. All problems are listed.
    Interface {
        /// At least one problem.
        #[cfg_attr(
            feature = "serde",
            serde(flatten, serialize_with = "mistletoe_module::interface::serialize_problems")
        )]
        problems: Vec<Problem>,
    },
    /// The engine failed where neither the guest's code nor the interface is to blame; the source says how.
    Engine {
        /// What it was asked for.
        operation: Operation,
    },
    /// The guest trapped. Its instance is poisoned from now on.
    Trap {
        /// The kind of trap.
        trap: Trap,
        /// The export that was called; `None` while instantiating (a start function or an active segment).
        export: Option<Cow<'static, str>>,
    },
    /// A host function answered with an error, which is the source; [`Error::downcast_ref`] finds it. The instance is
    /// poisoned from now on, since the guest was left in the middle of a call.
    Host {
        /// Module that the function was imported from.
        module: Cow<'static, str>,
        /// Its name in that module.
        name: Cow<'static, str>,
    },
    /// A host function panicked; the source is the panic's message. The instance is poisoned from now on.
    HostPanic {
        /// Module that the function was imported from.
        module: Cow<'static, str>,
        /// Its name in that module.
        name: Cow<'static, str>,
    },
    /// The guest ended itself (WASI's `proc_exit`). Its instance can do no more.
    Exit {
        /// The code it gave; 0 is success.
        code: u32,
    },
    /// The guest aborted through `env.abort`, as AssemblyScript's runtime does. Its instance is poisoned from now on.
    Aborted {
        /// Why, in the guest's words, 2,048 characters of them at most; empty where it gave none.
        message: String,
        /// The source file, as long at most; empty where it gave none.
        file: String,
        /// The line in it.
        line: u32,
        /// The column in it.
        column: u32,
    },
    /// The guest's allocator answered a request with a null pointer.
    Allocation {
        /// Bytes that were asked for.
        length: u64,
    },
    /// A range that the guest named lies outside its memory.
    OutOfBounds {
        /// What should have been there.
        region: Region,
        /// Address of the first byte.
        address: u64,
        /// Length in bytes.
        length: u64,
        /// Size of the memory in bytes at that moment.
        memory: u64,
    },
    /// A string of the guest's is not UTF-8.
    InvalidUtf8 {
        /// Which string.
        region: Region,
        /// Offset in bytes of the first bad byte, from the start of the string.
        offset: u64,
    },
    /// A string is longer than is allowed.
    TooLong {
        /// Which string.
        region: Region,
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A call took longer than the [limit](crate::Limits::timeout). The instance is poisoned from now on.
    TimedOut {
        /// How long it may take.
        #[cfg_attr(feature = "serde", serde(rename = "limit_ms", serialize_with = "milliseconds"))]
        limit: Duration,
        /// The export that was called; `None` while instantiating.
        export: Option<Cow<'static, str>>,
    },
    /// The session's [`CancelHandle`](crate::CancelHandle) was cancelled. If the call was under way, the instance is
    /// poisoned from now on.
    Cancelled {
        /// The export that was called; `None` while instantiating, and where the handle was cancelled before the call.
        export: Option<Cow<'static, str>>,
    },
    /// A call used more fuel than the [limit](crate::Limits::fuel). The instance is poisoned from now on.
    OutOfFuel {
        /// How much it may use.
        limit: u64,
        /// How much it had used when it was ended.
        used: u64,
        /// The export that was called; `None` while instantiating.
        export: Option<Cow<'static, str>>,
    },
    /// The guest's stack became higher than the [limit](crate::Limits::stack). The instance is poisoned from now on.
    TooDeep {
        /// How high it may be.
        limit: u32,
        /// How high it became.
        height: u32,
        /// The export that was called; `None` while instantiating.
        export: Option<Cow<'static, str>>,
    },
    /// Sessions cannot have another [limit](crate::Limits) of this kind than what their package was compiled with.
    FixedLimit {
        /// Its name, as a field of [`Limits`](crate::Limits).
        limit: &'static str,
    },
    /// All sessions that a [pool](crate::Pool) may have were in use, for as long as the caller was to wait.
    PoolExhausted {
        /// How many may be in use.
        limit: u64,
        /// How long the caller has waited.
        #[cfg_attr(feature = "serde", serde(rename = "waited_ms", serialize_with = "milliseconds"))]
        waited: Duration,
    },
    /// An earlier failure inside a call poisoned the session; the source is that first error. Open a new session.
    Poisoned,
    /// A folder for compiled code cannot be used; the source says why.
    Cache {
        /// The folder.
        path: PathBuf,
    },
    /// No engine configuration has this name.
    UnknownBackend {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// The engine configuration exists but was not compiled in.
    BackendNotEnabled {
        /// The name that was asked for.
        name: &'static str,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// A document is not what its schema says.
    Document {
        /// The kind of document that was expected.
        document: &'static str,
        /// The place in it: a path such as `data.files["a.yaml"]`; empty for the whole.
        path: String,
        /// Line, counted from 1, where it is known.
        line: Option<u64>,
        /// What is wrong there.
        problem: String,
    },
    /// The module is refused, whatever the engine.
    #[cfg_attr(feature = "serde", serde(untagged))]
    Module(mistletoe_module::ErrorKind),
}

#[cfg(feature = "serde")]
fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// What an engine was asked for when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Operation {
    /// Start the engine itself.
    Configure,
    /// Compile a module.
    Compile,
    /// Instantiate a module.
    Instantiate,
    /// Turn compiled code into bytes.
    Serialize,
    /// Turn such bytes into compiled code.
    Deserialize,
    /// Resolve an export.
    Resolve,
    /// Call a function.
    Call,
}

/// The kinds of traps of the WebAssembly specification (core 2.0, section 4.4), and stack exhaustion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Trap {
    /// An `unreachable` instruction was executed.
    Unreachable,
    /// A load, store, bulk operation or active data segment went outside a memory.
    MemoryOutOfBounds,
    /// A table access, bulk operation or active element segment went outside a table.
    TableOutOfBounds,
    /// `call_indirect` hit a null element.
    IndirectCallToNull,
    /// `call_indirect` hit a function of another type.
    BadSignature,
    /// A signed division overflowed, or a float was too large for the integer it was truncated to.
    IntegerOverflow,
    /// An integer was divided by zero.
    IntegerDivisionByZero,
    /// NaN was truncated to an integer.
    BadConversionToInteger,
    /// The call stack was exhausted.
    StackOverflow,
}

/// What a range in the guest's memory is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Region {
    /// The 8 bytes of address and length that an answer is found by.
    FatPointer,
    /// The package's description.
    Info,
    /// The input that a guest is handed.
    Input,
    /// What a guest answers with.
    Output,
    /// What a guest named when it called a host function, or `result`: where the answer to that call should have gone.
    Argument {
        /// The host function, as `module.name`.
        function: Cow<'static, str>,
        /// The parameter.
        argument: Cow<'static, str>,
    },
}

impl Error {
    /// An error of this kind, without a source.
    #[cold]
    pub fn new(kind: ErrorKind) -> Self {
        Self(Arc::new(Inner { kind, source: None }))
    }

    /// An error of this kind that came from `source`.
    #[cold]
    pub fn with_source(kind: ErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Arc::new(Inner { kind, source: Some(source.into()) }))
    }

    /// For backends: a trap, with the engine's own error. The layer adds the export that was called.
    #[cold]
    pub fn trap(trap: Trap, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::with_source(ErrorKind::Trap { trap, export: None }, source)
    }

    /// For backends: the engine failed at `operation` for a reason of its own.
    #[cold]
    pub fn engine(operation: Operation, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::with_source(ErrorKind::Engine { operation }, source)
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The kind of trap, if this is one.
    pub fn as_trap(&self) -> Option<Trap> {
        match self.0.kind {
            ErrorKind::Trap { trap, .. } => Some(trap),
            _ => None,
        }
    }

    /// The code that the guest ended itself with, if it did.
    pub fn exit_code(&self) -> Option<u32> {
        match self.0.kind {
            ErrorKind::Exit { code } => Some(code),
            _ => None,
        }
    }

    /// The error of a host's own that this came from, if it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.source.as_ref()?.downcast_ref()
    }

    /// Every later call on a session answers with this once `cause` has poisoned it.
    #[cold]
    pub(crate) fn poisoned(cause: &Self) -> Self {
        Self::with_source(ErrorKind::Poisoned, cause.clone())
    }

    /// Says in which export a trap happened, or a limit was reached.
    #[cold]
    pub(crate) fn in_export(mut self, name: &str) -> Self {
        if let Some(Inner { kind, .. }) = Arc::get_mut(&mut self.0)
            && let ErrorKind::Trap { export, .. }
            | ErrorKind::TimedOut { export, .. }
            | ErrorKind::Cancelled { export }
            | ErrorKind::OutOfFuel { export, .. }
            | ErrorKind::TooDeep { export, .. } = kind
        {
            export.get_or_insert_with(|| Cow::Owned(name.to_owned()));
        }
        self
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("source", &self.0.source).finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kind.fmt(f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

impl From<mistletoe_module::Error> for Error {
    #[cold]
    fn from(error: mistletoe_module::Error) -> Self {
        let (kind, source) = error.into_parts();
        let kind = ErrorKind::Module(kind);
        match source {
            Some(source) => Self::with_source(kind, source),
            None => Self::new(kind),
        }
    }
}

impl From<ErrorKind> for Error {
    #[cold]
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedFeature { feature, offset, backend } => write!(
                f,
                "the module uses the WebAssembly feature `{feature}` at offset {offset:#x}, which `{backend}` lacks; \
                 use another backend"
            ),
            Self::Module(kind) => kind.fmt(f),
            Self::Interface { problems } => {
                write!(f, "the module does not fit the interface: {}", Problems(problems))
            }
            Self::Engine { operation } => write!(f, "the engine failed to {operation}"),
            Self::Trap { trap, export } => write!(f, "trap {}: {trap}", During(export.as_deref())),
            Self::Host { module, name } => {
                write!(f, "the host function `{}.{}` failed", Shown(module), Shown(name))
            }
            Self::HostPanic { module, name } => {
                write!(f, "the host function `{}.{}` panicked", Shown(module), Shown(name))
            }
            Self::TimedOut { limit, export } => {
                write!(f, "timed out after {} {}", Time(*limit), During(export.as_deref()))
            }
            Self::Cancelled { export: None } => f.write_str("cancelled"),
            Self::Cancelled { export } => write!(f, "cancelled {}", During(export.as_deref())),
            Self::OutOfFuel { limit, used, export } => {
                write!(f, "out of fuel {}: {used} units were used, {limit} are allowed", During(export.as_deref()))
            }
            Self::TooDeep { limit, height, export } => {
                let during = During(export.as_deref());
                write!(f, "the stack became too high {during}: {height} units, {limit} are allowed")
            }
            Self::FixedLimit { limit } => {
                write!(f, "the limit `{limit}` is in the compiled code: compile the package with another one")
            }
            Self::PoolExhausted { limit, waited } => {
                write!(f, "all of the pool's sessions stayed in use for {}: {limit}", Time(*waited))
            }
            Self::Exit { code } => write!(f, "the guest ended itself with exit code {code}"),
            Self::Aborted { message, file, line, column } => {
                f.write_str("the guest aborted")?;
                if !file.is_empty() {
                    write!(f, " in {}, line {line}, column {column}", file.escape_debug())?;
                }
                if message.is_empty() { Ok(()) } else { write!(f, ": {}", message.escape_debug()) }
            }
            Self::Allocation { length } => {
                write!(f, "the guest could not allocate {length} bytes (its allocator answered null)")
            }
            Self::OutOfBounds { region, address, length, memory } => write!(
                f,
                "{region} lies outside the memory: address {address:#x}, {length} bytes, memory of {memory} bytes"
            ),
            Self::InvalidUtf8 { region, offset } => write!(f, "{region} is not UTF-8 from its byte {offset} on"),
            Self::TooLong { region, length, limit } => {
                write!(f, "{region} is too long: {length} bytes, {limit} are allowed")
            }
            Self::Poisoned => f.write_str("an earlier failure poisoned this session; open a new one"),
            Self::Cache { path } => write!(f, "{} cannot hold compiled code", path.display()),
            Self::UnknownBackend { name, known } => {
                write!(f, "no backend is called `{}`; there are {}", Shown(name), known.join(", "))
            }
            Self::BackendNotEnabled { name, feature } => {
                write!(f, "the backend `{name}` was not compiled in; build with `--features {feature}`")
            }
            Self::Document { document, path, line, problem } => {
                f.write_str(document)?;
                if let Some(line) = line {
                    write!(f, ", line {line}")?;
                }
                if !path.is_empty() {
                    write!(f, ", `{path}`")?;
                }
                write!(f, ": {problem}")
            }
        }
    }
}

/// Where a guest was ended.
struct During<'a>(Option<&'a str>);

impl fmt::Display for During<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(export) => write!(f, "in `{}`", Shown(export)),
            None => f.write_str("while instantiating"),
        }
    }
}

/// A time in whole units, as `--timeout` takes them: `2 s`, `1500 ms`.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_nanos() {
            0 => write!(f, "{} s", self.0.as_secs()),
            nanos if nanos % 1_000_000 == 0 => write!(f, "{} ms", self.0.as_millis()),
            _ => write!(f, "{:?}", self.0),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configure => "start",
            Self::Compile => "compile the module",
            Self::Instantiate => "instantiate the module",
            Self::Serialize => "serialize compiled code",
            Self::Deserialize => "deserialize compiled code",
            Self::Resolve => "resolve an export",
            Self::Call => "carry out a call",
        })
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable code was reached",
            Self::MemoryOutOfBounds => "memory access out of bounds",
            Self::TableOutOfBounds => "table access out of bounds",
            Self::IndirectCallToNull => "indirect call to null",
            Self::BadSignature => "indirect call to a function of another type",
            Self::IntegerOverflow => "integer overflow",
            Self::IntegerDivisionByZero => "integer division by zero",
            Self::BadConversionToInteger => "NaN converted to an integer",
            Self::StackOverflow => "call stack exhausted",
        })
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FatPointer => "the fat pointer",
            Self::Info => "the package's info",
            Self::Input => "the input",
            Self::Output => "the package's output",
            Self::Argument { function, argument } => {
                return write!(f, "`{argument}` of the host function `{}`", Shown(function));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ExternType, FuncType, ValType};

    #[test]
    fn an_error_is_one_word_wide_also_inside_a_result() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn a_limit_is_shown_with_where_it_was_reached() {
        let timed_out = |milliseconds| {
            Error::from(ErrorKind::TimedOut { limit: Duration::from_millis(milliseconds), export: None })
        };
        assert_eq!(timed_out(2_000).to_string(), "timed out after 2 s while instantiating");
        let nested = timed_out(1_500).in_export("inner").in_export("outer");
        assert_eq!(nested.to_string(), "timed out after 1500 ms in `inner`");
        // A name is on one line, and has an end.
        let long = timed_out(1).in_export(&format!("\n{}", "ä".repeat(200)));
        assert_eq!(long.to_string(), format!("timed out after 1 ms in `\\n{}…`", "ä".repeat(99)));
    }

    #[test]
    fn problems_are_shown_to_an_end() {
        let problem = |name: String| Problem::UnknownImport {
            module: "m".repeat(200),
            name,
            found: ExternType::Func(Some(Arc::new(FuncType {
                params: vec![ValType::I32; 40].into(),
                results: (&[]).into(),
            }))),
        };
        let error = Error::from(ErrorKind::Interface { problems: (0..25).map(|i| problem(i.to_string())).collect() });
        let text = error.to_string();
        assert_eq!(text.matches("nothing offers").count(), 20);
        assert!(text.ends_with("; and 5 more"), "{text}");
        assert_eq!(text.matches("I32, 8 more] -> []").count(), 20);
        assert_eq!(text.matches(&format!("`{}…` `", "m".repeat(100))).count(), 20);
    }

    #[test]
    fn poisoning_keeps_the_first_cause() {
        let first = Error::trap(Trap::Unreachable, "engine's words").in_export("f");
        let later = Error::poisoned(&first);
        let cause = later.source().and_then(|e| e.downcast_ref::<Error>()).expect("a cause");
        assert_eq!(cause.kind(), first.kind());
        assert_eq!(cause.source().expect("the engine's").to_string(), "engine's words");
    }
}

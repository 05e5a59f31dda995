//! The error type, its kinds, and the traps of the WebAssembly specification.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mistletoe_module::display::{Count, Shown};
use mistletoe_module::interface::{Problem, Problems};

use crate::backtrace::Backtrace;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error: an [`ErrorKind`], which is the same on every engine, and an optional source.
///
/// The value is one word wide and cheap to clone. A poisoned session returns the first cause with each later error.
///
/// # Examples
///
/// ```
/// use mistletoe_abi::{AnySession, ErrorKind, Result};
///
/// /// The output, or nothing if the package needs more time or fuel than it may have.
/// fn within_limits(session: &mut AnySession, input: &str) -> Result<Option<String>> {
///     match session.generate(input) {
///         Ok(output) => Ok(Some(output)),
///         Err(error) => match error.kind() {
///             ErrorKind::TimedOut { .. } | ErrorKind::OutOfFuel { .. } => Ok(None),
///             _ => Err(error),
///         },
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    backtrace: Option<Box<Backtrace>>,
}

/// The kinds of errors. The kind never depends on an engine's message.
///
/// With the feature `serde` a kind serialises to a map: `kind`, its name in kebab case, and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// The backend lacks a [feature](crate::FEATURES) that the module uses. See
    /// [`Backend::supports`](crate::Backend::supports).
    UnsupportedFeature {
        /// The feature's name.
        feature: &'static str,
        /// Offset in bytes of the first use.
        offset: u64,
        /// The backend.
        backend: &'static str,
    },
    /// The module is valid, but its exports or imports do not match the interface. The error lists all problems.
    Interface {
        /// At least one problem.
        #[cfg_attr(
            feature = "serde",
            serde(flatten, serialize_with = "mistletoe_module::interface::serialize_problems")
        )]
        problems: Vec<Problem>,
    },
    /// The engine failed for a reason of its own. The source is the engine's error.
    Engine {
        /// The operation that failed.
        operation: Operation,
    },
    /// The guest trapped. The instance is poisoned.
    Trap {
        /// The kind of trap.
        trap: Trap,
        /// The export that was called; `None` while instantiating (a start function or an active segment).
        export: Option<Cow<'static, str>>,
    },
    /// A host function returned an error, which is the source; [`Error::downcast_ref`] finds it. The instance is
    /// poisoned, since the guest stopped in the middle of a call.
    Host {
        /// Module that the function was imported from.
        module: Cow<'static, str>,
        /// Its name in that module.
        name: Cow<'static, str>,
    },
    /// A host function panicked. The source is the panic message. The instance is poisoned.
    HostPanic {
        /// Module that the function was imported from.
        module: Cow<'static, str>,
        /// Its name in that module.
        name: Cow<'static, str>,
    },
    /// The guest exited through WASI's `proc_exit`. The instance cannot be called again.
    Exit {
        /// The exit code; 0 is success.
        code: u32,
    },
    /// The guest aborted through `env.abort`, as AssemblyScript's runtime does. The instance is poisoned.
    Aborted {
        /// The guest's message, at most 2,048 characters; empty if there is none.
        message: String,
        /// The source file, at most 2,048 characters; empty if there is none.
        file: String,
        /// The line in it.
        line: u32,
        /// The column in it.
        column: u32,
    },
    /// The guest's allocator returned null.
    Allocation {
        /// The requested length in bytes.
        length: u64,
    },
    /// A range that the guest named is outside its memory.
    OutOfBounds {
        /// What the range is for.
        region: Region,
        /// Address of the first byte.
        address: u64,
        /// Length in bytes.
        length: u64,
        /// Size of the memory in bytes at that time.
        memory: u64,
    },
    /// A string in the guest's memory is not UTF-8.
    InvalidUtf8 {
        /// Which string.
        region: Region,
        /// Offset in bytes of the first invalid byte from the start of the string.
        offset: u64,
    },
    /// A string exceeds a limit on its length.
    TooLong {
        /// Which string.
        region: Region,
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A call exceeded the [limit](crate::Limits::with_timeout) on its time. The instance is poisoned.
    TimedOut {
        /// The limit.
        #[cfg_attr(feature = "serde", serde(rename = "limit_ms", serialize_with = "milliseconds"))]
        limit: Duration,
        /// The export that was called; `None` while instantiating.
        export: Option<Cow<'static, str>>,
    },
    /// The session's [`CancelHandle`](crate::CancelHandle) was cancelled, or its deadline has passed. If the call was
    /// under way, the instance is poisoned from now on.
    Cancelled {
        /// The export that was called; `None` while instantiating, and where the handle was cancelled before the call.
        export: Option<Cow<'static, str>>,
    },
    /// A call exceeded the [limit](crate::Limits::with_fuel) on its fuel. The instance is poisoned.
    OutOfFuel {
        /// The limit, in units.
        limit: u64,
        /// The fuel used when the guest was terminated, in units.
        used: u64,
        /// The export that was called; `None` while instantiating.
        export: Option<Cow<'static, str>>,
    },
    /// The stack depth exceeded the [limit](crate::Limits::with_stack). The instance is poisoned.
    TooDeep {
        /// The limit, in units.
        limit: u32,
        /// The depth, in units.
        depth: u32,
        /// The export that was called; `None` while instantiating.
        export: Option<Cow<'static, str>>,
    },
    /// The [limit](crate::Limits) is part of the compiled code, and sessions cannot change it.
    FixedLimit {
        /// Its name, as in [`Limits`](crate::Limits).
        limit: &'static str,
    },
    /// All sessions of a [pool](crate::Pool) stayed in use while the caller waited.
    PoolExhausted {
        /// The pool's limit on concurrent sessions.
        limit: u64,
        /// How long the caller waited.
        #[cfg_attr(feature = "serde", serde(rename = "waited_ms", serialize_with = "milliseconds"))]
        waited: Duration,
    },
    /// An earlier failure inside a call poisoned the session. The source is that error. Open a new session.
    Poisoned,
    /// A cache directory cannot be used. The source says why.
    Cache {
        /// The directory.
        path: PathBuf,
    },
    /// No engine configuration has this name.
    UnknownBackend {
        /// The requested name.
        name: String,
        /// The known names.
        known: Vec<&'static str>,
    },
    /// The engine configuration exists, but is not compiled in.
    BackendNotEnabled {
        /// The requested name.
        name: &'static str,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// A document does not match its schema.
    Document {
        /// The expected kind of document.
        document: &'static str,
        /// The path of the problem, such as `data.files["a.yaml"]`; empty for the whole document.
        path: String,
        /// The line, counted from 1, if known.
        line: Option<u64>,
        /// The problem.
        problem: String,
    },
    /// The module is refused on every engine.
    #[cfg_attr(feature = "serde", serde(untagged))]
    Module(mistletoe_module::ErrorKind),
}

#[cfg(feature = "serde")]
fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The operation that an engine failed to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Operation {
    /// Configure the engine.
    Configure,
    /// Compile a module.
    Compile,
    /// Instantiate a module.
    Instantiate,
    /// Serialise compiled code.
    Serialize,
    /// Deserialise compiled code.
    Deserialize,
    /// Resolve an export.
    Resolve,
    /// Call a function.
    Call,
}

/// The traps of the WebAssembly specification (core 2.0, section 4.4), and stack exhaustion.
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

/// The purpose of a range in the guest's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Region {
    /// The fat pointer to an output: 8 bytes of address and length.
    FatPointer,
    /// The package's info string.
    Info,
    /// The input.
    Input,
    /// The output.
    Output,
    /// An argument of a host function. `result` is the destination of the function's result.
    Argument {
        /// The host function, as `module.name`.
        function: Cow<'static, str>,
        /// The parameter.
        argument: Cow<'static, str>,
    },
}

impl Error {
    /// Creates an error without a source.
    #[cold]
    pub fn new(kind: ErrorKind) -> Self {
        Self(Arc::new(Inner { kind, source: None, backtrace: None }))
    }

    /// Creates an error with a source.
    #[cold]
    pub fn with_source(kind: ErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Arc::new(Inner { kind, source: Some(source.into().into()), backtrace: None }))
    }

    /// For backends: creates a trap from the engine's error. The layer adds the export.
    #[cold]
    pub fn trap(trap: Trap, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::with_source(ErrorKind::Trap { trap, export: None }, source)
    }

    /// For backends: creates an error for an engine that failed at `operation`.
    #[cold]
    pub fn engine(operation: Operation, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::with_source(ErrorKind::Engine { operation }, source)
    }

    /// Returns the kind.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns the trap, if this is one.
    pub fn as_trap(&self) -> Option<Trap> {
        match self.0.kind {
            ErrorKind::Trap { trap, .. } => Some(trap),
            _ => None,
        }
    }

    /// Returns the guest's exit code, if it exited.
    pub fn exit_code(&self) -> Option<u32> {
        match self.0.kind {
            ErrorKind::Exit { code } => Some(code),
            _ => None,
        }
    }

    /// Returns the source as an `E`, if it is one. This finds the error that a host function returned.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.source.as_ref()?.downcast_ref()
    }

    /// Returns the guest's stack where the call failed.
    ///
    /// `None` unless it was [recorded](crate::Limits::with_backtrace), and for an error that no function of the guest
    /// had a part in.
    pub fn backtrace(&self) -> Option<&Backtrace> {
        self.0.backtrace.as_deref()
    }

    /// Adds the guest's stack, unless there is one already.
    ///
    /// Other copies of the error do not get it: a host function may keep one, and return it in another call.
    #[cold]
    pub(crate) fn with_backtrace(self, backtrace: Backtrace) -> Self {
        if self.0.backtrace.is_some() {
            return self;
        }
        let backtrace = Some(Box::new(backtrace));
        let inner = match Arc::try_unwrap(self.0) {
            Ok(inner) => Inner { backtrace, ..inner },
            Err(shared) => Inner { kind: shared.kind.clone(), source: shared.source.clone(), backtrace },
        };
        Self(Arc::new(inner))
    }

    /// The error of later calls on a session that `cause` poisoned.
    #[cold]
    pub(crate) fn poisoned(cause: &Self) -> Self {
        Self::with_source(ErrorKind::Poisoned, cause.clone())
    }

    /// Adds the export to a trap or a limit's error.
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
                "`{backend}` does not support the WebAssembly feature `{feature}`, which the module uses at offset \
                 {offset:#x}; use another backend"
            ),
            Self::Module(kind) => kind.fmt(f),
            Self::Interface { problems } => {
                write!(f, "the module does not match the interface: {}", Problems(problems))
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
                let (during, used, limit) = (During(export.as_deref()), Count(*used), Count(*limit));
                write!(f, "out of fuel {during}: {used} units exceed the limit of {limit}")
            }
            Self::TooDeep { limit, depth, export } => {
                let (during, depth, limit) = (During(export.as_deref()), Count(*depth), Count(*limit));
                write!(f, "call stack exhausted {during}: depth {depth} exceeds the limit of {limit} units")
            }
            Self::FixedLimit { limit } => {
                write!(f, "the limit `{limit}` is compiled into the module: compile it again to change the limit")
            }
            Self::PoolExhausted { limit, waited } => {
                write!(f, "pool exhausted: all {} sessions stayed in use for {}", Count(*limit), Time(*waited))
            }
            Self::Exit { code } => write!(f, "the guest exited with code {code}"),
            Self::Aborted { message, file, line, column } => {
                f.write_str("the guest aborted")?;
                if !file.is_empty() {
                    write!(f, " in {}, line {line}, column {column}", file.escape_debug())?;
                }
                if message.is_empty() { Ok(()) } else { write!(f, ": {}", message.escape_debug()) }
            }
            Self::Allocation { length } => {
                write!(f, "the guest failed to allocate {} bytes: its allocator returned null", Count(*length))
            }
            Self::OutOfBounds { region, address, length, memory } => write!(
                f,
                "{region} is out of bounds: {} bytes at address {address:#x} in a memory of {} bytes",
                Count(*length),
                Count(*memory)
            ),
            Self::InvalidUtf8 { region, offset } => write!(f, "{region} is not valid UTF-8: invalid byte at {offset}"),
            Self::TooLong { region, length, limit } => {
                write!(f, "{region} is too long: {} bytes exceed the limit of {}", Count(*length), Count(*limit))
            }
            Self::Poisoned => f.write_str("an earlier failure poisoned the session; open a new one"),
            Self::Cache { path } => write!(f, "{} cannot be used as a cache directory", path.display()),
            Self::UnknownBackend { name, known } => {
                write!(f, "unknown backend `{}`; the backends are {}", Shown(name), known.join(", "))
            }
            Self::BackendNotEnabled { name, feature } => {
                write!(f, "the backend `{name}` is not compiled in; build with `--features {feature}`")
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

/// Where a guest was terminated.
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
            Self::Unreachable => "unreachable executed",
            Self::MemoryOutOfBounds => "out of bounds memory access",
            Self::TableOutOfBounds => "out of bounds table access",
            Self::IndirectCallToNull => "indirect call to null",
            Self::BadSignature => "indirect call type mismatch",
            Self::IntegerOverflow => "integer overflow",
            Self::IntegerDivisionByZero => "integer divide by zero",
            Self::BadConversionToInteger => "invalid conversion to integer",
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
            Self::Output => "the output",
            Self::Argument { function, argument } => {
                return write!(f, "the argument `{argument}` of the host function `{}`", Shown(function));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtrace::Recorder;
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
        assert_eq!(text.matches("unknown import").count(), 20);
        assert!(text.ends_with("; and 5 more"), "{text}");
        assert_eq!(text.matches("I32, 8 more] -> []").count(), 20);
        assert_eq!(text.matches(&format!("`{}…` `", "m".repeat(100))).count(), 20);
    }

    #[test]
    fn a_stored_error_has_the_stack_of_each_call_that_it_ends() {
        let stack = |function| {
            let mut recorder = Recorder::new(Arc::default());
            recorder.enter(function, 0, 0);
            recorder.backtrace(1 << 32).expect("a function")
        };
        let stored = Error::with_source(ErrorKind::Exit { code: 1 }, fmt::Error);
        for function in [3, 4] {
            let error = stored.clone().with_backtrace(stack(function));
            assert_eq!(error.backtrace(), Some(&stack(function)));
            assert_eq!(error.kind(), stored.kind());
            assert_eq!(error.downcast_ref(), Some(&fmt::Error));
        }
        assert_eq!(stored.backtrace(), None);
        // The stack of another guest, which failed first, stays.
        let inner = stored.with_backtrace(stack(5));
        assert_eq!(inner.clone().with_backtrace(stack(6)).backtrace(), Some(&stack(5)));
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

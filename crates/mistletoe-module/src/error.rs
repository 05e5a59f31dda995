//! Errors: why a module is refused.

use std::fmt;
use std::sync::Arc;

use crate::display::Count;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a module is refused: an [`ErrorKind`], and the validator's error as its source, if there is one.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<Arc<wasmparser::Error>>,
}

/// The reasons to refuse a module.
///
/// With the feature `serde` a kind serialises to a map: `kind`, its name in kebab case, and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are not a core WebAssembly module.
    NotAModule {
        /// What they appear to be.
        found: NotWasm,
    },
    /// The module ends before it is complete.
    Truncated {
        /// Offset in bytes of the incomplete section or function body.
        offset: u64,
        /// The number of missing bytes, at least.
        missing: u64,
    },
    /// The module is invalid. The source says why.
    Malformed {
        /// Offset in bytes from the start of the module.
        offset: u64,
    },
    /// The module uses a WebAssembly feature outside [the supported set](crate::FEATURES).
    UnsupportedFeature {
        /// The proposal's name, as in the WebAssembly proposals' repository.
        feature: &'static str,
        /// Offset in bytes of the first use.
        offset: u64,
    },
    /// The module declares too much of something.
    TooMany {
        /// The declared item.
        item: DeclaredItem,
        /// The limit.
        limit: u64,
    },
    /// The module is too expensive to compile for its length.
    TooCostly {
        /// The cost that exceeds its limit.
        cost: CompileCost,
        /// The limit for this module.
        limit: u64,
    },
    /// The module is longer than the [limit](crate::Config::max_length).
    TooLarge {
        /// The limit in bytes.
        limit: u64,
        /// The length in bytes.
        length: u64,
    },
    /// The module imports from [the module](crate::MODULE) that is reserved for metering.
    ReservedImport,
    /// The module starts with more memory than the [limit](crate::Config::memory_pages).
    TooMuchMemory {
        /// The limit in bytes, in whole pages.
        limit: u64,
        /// The initial size in bytes.
        memory: u64,
    },
}

/// What bytes that are not a module appear to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum NotWasm {
    /// Empty.
    Empty,
    /// Text, possibly in WebAssembly's text format.
    Text,
    /// A component of the component model.
    Component,
    /// A module with another version of the binary format.
    Version,
    /// Anything else.
    Unknown,
}

/// What a module can declare too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum DeclaredItem {
    /// Imports.
    Imports,
    /// Exports.
    Exports,
    /// Types.
    Types,
    /// Parameters and results of all types.
    TypeValues,
    /// Parameters of a type.
    Parameters,
    /// Results of a type.
    Results,
    /// The count of imports and exports: 1 each; a function 2, plus its parameters and results.
    InterfaceValues,
    /// Bytes in the name of an import, an export or a section.
    NameBytes,
    /// Functions.
    Functions,
    /// Bytes in the body of an instrumented function.
    FunctionBytes,
    /// Bytes in all code, after instrumentation that records the stack.
    CodeBytes,
    /// Labels of a `br_table`, including the default.
    BranchTargets,
    /// Branches to the loops of a function.
    LoopBranches,
    /// Nested loops.
    NestedLoops,
    /// Globals.
    Globals,
    /// Tables.
    Tables,
    /// Initial elements of a table.
    TableElements,
    /// Elements of all element segments.
    Elements,
    /// Element segments.
    ElementSegments,
    /// Data segments.
    DataSegments,
    /// Values that a function holds at once.
    FrameValues,
    /// Stack units of a function's frame, as `docs/metering.md` counts them.
    FrameUnits,
}

/// The costs of compiling a module. `docs/compile-cost.md` defines how they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum CompileCost {
    /// Values that blocks, branches, calls and functions take and return.
    MovedValues,
    /// Values that a function holds at the start of a block, at a branch or at a call.
    HeldValues,
    /// Values of locals that merge where control flow joins.
    MergedValues,
}

impl Error {
    pub(crate) fn with_source(kind: ErrorKind, source: wasmparser::Error) -> Self {
        Self { kind, source: Some(Arc::new(source)) }
    }

    /// Returns the kind.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Splits the error into its kind and its source.
    pub fn into_parts(self) -> (ErrorKind, Option<impl std::error::Error + Send + Sync + 'static>) {
        (self.kind, self.source)
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAModule { found } => write!(f, "not a WebAssembly module: {found}"),
            Self::Truncated { offset, missing } => {
                let missing = Count(*missing);
                write!(f, "unexpected end of module: the part at offset {offset:#x} lacks at least {missing} bytes")
            }
            Self::Malformed { offset } => write!(f, "the module is invalid at offset {offset:#x}"),
            Self::UnsupportedFeature { feature, offset } => write!(
                f,
                "unsupported WebAssembly feature `{feature}` at offset {offset:#x}; \
                 WebAssembly 2.0 and extended constant expressions are supported"
            ),
            Self::TooMany { item, limit } => write!(f, "too many {item}: the limit is {}", Count(*limit)),
            Self::TooCostly { cost, limit } => {
                write!(f, "the module is too expensive to compile: {cost}, the limit is {}", Count(*limit))
            }
            Self::TooLarge { limit, length } => {
                write!(f, "the module is too long: {} bytes exceed the limit of {}", Count(*length), Count(*limit))
            }
            Self::ReservedImport => write!(f, "the module imports from `{}`, which is reserved", crate::MODULE),
            Self::TooMuchMemory { limit, memory } => {
                let (memory, limit) = (Count(*memory), Count(*limit));
                write!(f, "the initial memory is too large: {memory} bytes exceed the limit of {limit}")
            }
        }
    }
}

impl fmt::Display for NotWasm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the input is empty",
            Self::Text => "it is text; assemble WebAssembly text first (wat2wasm)",
            Self::Component => "it is a component; build a core module instead",
            Self::Version => "its binary format has another version than 1",
            Self::Unknown => "it does not start with the bytes `\\0asm`",
        })
    }
}

impl fmt::Display for DeclaredItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Imports => "imports",
            Self::Exports => "exports",
            Self::Types => "types",
            Self::TypeValues => "parameters and results in its types",
            Self::Functions => "functions",
            Self::FunctionBytes => "bytes in an instrumented function",
            Self::CodeBytes => "bytes in its instrumented code",
            Self::Parameters => "parameters in a type",
            Self::Results => "results in a type",
            Self::InterfaceValues => "imports and exports, with their parameters and results",
            Self::NameBytes => "bytes in a name",
            Self::BranchTargets => "labels in a `br_table`",
            Self::LoopBranches => "branches to a function's loops",
            Self::NestedLoops => "nested loops",
            Self::Globals => "globals",
            Self::Tables => "tables",
            Self::TableElements => "elements in a table",
            Self::Elements => "elements in its element segments",
            Self::ElementSegments => "element segments",
            Self::DataSegments => "data segments",
            Self::FrameValues => "values in a function's frame",
            Self::FrameUnits => "units of stack in a function's frame",
        })
    }
}

impl fmt::Display for CompileCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MovedValues => "its blocks, branches, calls and functions move too many values",
            Self::HeldValues => "its functions hold too many values across blocks, branches and calls",
            Self::MergedValues => "a function's blocks and loops merge too many values of its locals",
        })
    }
}

//! Why a module is refused.

use std::fmt;
use std::sync::Arc;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a module is refused: an [`ErrorKind`], and the validator's own error as its source, where there is one.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<Arc<wasmparser::Error>>,
}

/// The kinds of reasons to refuse a module.
///
/// With the feature `serde` a kind serialises to a map: `kind`, its name in kebab case, and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are no core WebAssembly module at all.
    NotAModule {
        /// What they look like instead.
        found: NotWasm,
    },
    /// The module ends before it is complete.
    Truncated {
        /// Offset in bytes of the section or function body that is cut off.
        offset: u64,
        /// How many bytes are missing at least.
        missing: u64,
    },
    /// The module is invalid by the WebAssembly specification; the source says why.
    Malformed {
        /// Offset in bytes from the start of the module.
        offset: u64,
    },
    /// The module uses a WebAssembly feature outside [the set that it may use](crate::FEATURES).
    UnsupportedFeature {
        /// The proposal's name, as in the WebAssembly proposals' repository.
        feature: &'static str,
        /// Offset in bytes of the first use.
        offset: u64,
    },
    /// The module declares more of something than a host should have to carry.
    TooMany {
        /// What there is too much of.
        item: DeclaredItem,
        /// How many there may be.
        limit: u64,
    },
    /// The module would be dearer to compile than a module of its length may be.
    TooCostly {
        /// What there is too much of.
        cost: CompileCost,
        /// How much there may be in this module.
        limit: u64,
    },
    /// The module has more bytes than the [limit](crate::Config::max_length) says.
    TooLarge {
        /// How many bytes it may have.
        limit: u64,
        /// How many it has.
        length: u64,
    },
    /// The module imports from [the module](crate::MODULE) that what meters it is imported from.
    ReservedImport,
    /// The module starts with more memory than the [limit](crate::Config::memory_pages).
    TooMuchMemory {
        /// How many bytes there may be, in whole pages.
        limit: u64,
        /// With how many bytes it starts.
        memory: u64,
    },
}

/// What bytes that are no module look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum NotWasm {
    /// Nothing at all.
    Empty,
    /// Text, perhaps WebAssembly's text format.
    Text,
    /// A component of the component model.
    Component,
    /// A module of another version of the binary format.
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
    /// What imports and exports count: 1 each, a function 2 and its parameters and results.
    InterfaceValues,
    /// Bytes in the name of an import, an export or a section.
    NameBytes,
    /// Functions.
    Functions,
    /// Bytes in the body of a function, with what limits put into it.
    FunctionBytes,
    /// Labels of a `br_table`, the default among them.
    BranchTargets,
    /// Branches to the loops of a function.
    LoopBranches,
    /// Loops in each other.
    NestedLoops,
    /// Globals.
    Globals,
    /// Tables.
    Tables,
    /// Elements that a table holds from the start.
    TableElements,
    /// Elements of all element segments.
    Elements,
    /// Element segments.
    ElementSegments,
    /// Data segments.
    DataSegments,
    /// Values that a function holds at once.
    FrameValues,
    /// Units of stack that a function takes, by what `docs/metering.md` counts.
    FrameUnits,
}

/// What makes a module dear to compile; `docs/compile-cost.md` defines how it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum CompileCost {
    /// Values that blocks, branches, calls and functions take and give.
    MovedValues,
    /// Values that a function holds where a block begins, a branch leads, or a call is made.
    HeldValues,
    /// Values of a function's locals that are merged where several ways lead to one place.
    MergedValues,
}

impl Error {
    pub(crate) fn with_source(kind: ErrorKind, source: wasmparser::Error) -> Self {
        Self { kind, source: Some(Arc::new(source)) }
    }

    /// Why the module is refused.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The kind and the source, for an error of another type.
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
                write!(
                    f,
                    "the module is cut off: at least {missing} bytes are missing from what starts at offset {offset:#x}"
                )
            }
            Self::Malformed { offset } => write!(f, "the module is invalid at offset {offset:#x}"),
            Self::UnsupportedFeature { feature, offset } => write!(
                f,
                "the module uses the WebAssembly feature `{feature}` at offset {offset:#x}; \
                 supported are WebAssembly 2.0 and extended constant expressions"
            ),
            Self::TooMany { item, limit } => write!(f, "the module has too many {item}: {limit} are allowed"),
            Self::TooCostly { cost, limit } => {
                write!(f, "the module would be too dear to compile: {cost}, more than {limit} in all")
            }
            Self::TooLarge { limit, length } => {
                write!(f, "the module is too long: {length} bytes, {limit} are allowed")
            }
            Self::ReservedImport => write!(f, "the module imports from `{}`, which is reserved", crate::MODULE),
            Self::TooMuchMemory { limit, memory } => {
                write!(f, "the module starts with too much memory: {memory} bytes, {limit} are allowed")
            }
        }
    }
}

impl fmt::Display for NotWasm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the file is empty",
            Self::Text => "it is text; if it is WebAssembly text, assemble it first (wat2wasm)",
            Self::Component => "it is a component; build a core module instead (without the component step)",
            Self::Version => "it is of another version of the binary format than 1",
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
            Self::FunctionBytes => "bytes in a function, with what limits put into it",
            Self::Parameters => "parameters in a type",
            Self::Results => "results in a type",
            Self::InterfaceValues => "imports and exports, with their parameters and results",
            Self::NameBytes => "bytes in a name",
            Self::BranchTargets => "labels in a `br_table`",
            Self::LoopBranches => "branches to a function's loops",
            Self::NestedLoops => "loops in each other",
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

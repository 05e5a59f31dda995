//! What a module imports and exports, and how that can differ from what is expected.

use std::borrow::Cow;
use std::fmt;

#[cfg(feature = "serde")]
use serde::{Serialize, Serializer, ser::SerializeMap};

#[cfg(feature = "serde")]
use crate::display::beginning;
use crate::display::{Shown, first};
use crate::types::{Export, ExternType, FuncType, Import};

/// How many problems are shown in one line.
const SHOWN_PROBLEMS: usize = 20;
/// How many problems are serialised.
#[cfg(feature = "serde")]
const SERIALIZED_PROBLEMS: usize = 100;

/// The name that guests export their memory under.
pub const MEMORY: &str = "memory";

/// What a module imports and exports, in its own order. A memory that it imports is listed as if it were its own,
/// exported as [`MEMORY`]: that is what the layer makes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// What it needs.
    pub imports: Vec<Import>,
    /// What it offers.
    pub exports: Vec<Export>,
}

impl Interface {
    /// The type of the export with this name.
    pub fn export(&self, name: &str) -> Option<&ExternType> {
        self.exports.iter().find(|export| export.name == name).map(|export| &export.ty)
    }

    /// Whether `_start` initialises the module where it is no command: what compilers leave that know commands alone.
    pub fn is_initialised_by_start(&self) -> bool {
        let takes_and_gives_nothing = |ty: &FuncType| ty.params.is_empty() && ty.results.is_empty();
        self.export("_initialize").is_none()
            && matches!(self.export("_start"), Some(ExternType::Func(Some(ty))) if takes_and_gives_nothing(ty))
    }
}

/// One way in which a module does not fit an interface.
///
/// Names and types are a module's, and can be very long. Where a problem is displayed or serialised, they are cut.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "problem", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Problem {
    /// An export is missing.
    MissingExport {
        /// Its name.
        #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
        export: Cow<'static, str>,
        /// The type it should have.
        expected: ExternType,
    },
    /// An export is there, but has another type or is of another kind.
    MistypedExport {
        /// Its name.
        #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
        export: Cow<'static, str>,
        /// The type it should have.
        expected: ExternType,
        /// The type it has.
        found: ExternType,
    },
    /// Nothing offers an import.
    UnknownImport {
        /// Name of the module it is imported from.
        #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
        module: String,
        /// Its name in that module.
        #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
        name: String,
        /// The type it is imported with.
        found: ExternType,
    },
    /// An import is offered, but with another type.
    MistypedImport {
        /// Name of the module it is imported from.
        #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
        module: String,
        /// Its name in that module.
        #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
        name: String,
        /// The type it is offered with.
        expected: ExternType,
        /// The type it is imported with.
        found: ExternType,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingExport { export, expected } => {
                write!(f, "missing export `{}`: expected a {expected}", Shown(export))
            }
            Self::MistypedExport { export, expected, found } => {
                write!(f, "export `{}`: expected a {expected}, found a {found}", Shown(export))
            }
            Self::UnknownImport { module, name, found } => {
                write!(f, "unknown import `{}` `{}`, a {found}", Shown(module), Shown(name))
            }
            Self::MistypedImport { module, name, expected, found } => {
                let (module, name) = (Shown(module), Shown(name));
                write!(f, "import `{module}` `{name}`: the host provides a {expected}, found a {found}")
            }
        }
    }
}

/// Problems in one line.
pub struct Problems<'a>(pub &'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, more) = first(self.0, SHOWN_PROBLEMS);
        for (i, problem) in shown.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "; " })?;
        }
        if more > 0 { write!(f, "; and {more} more") } else { Ok(()) }
    }
}

/// Serialises problems as the field `problems`, and as `more` how many are left out.
#[cfg(feature = "serde")]
pub fn serialize_problems<S: Serializer>(problems: &[Problem], serializer: S) -> Result<S::Ok, S::Error> {
    let (shown, more) = first(problems, SERIALIZED_PROBLEMS);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("problems", shown)?;
    if more > 0 {
        map.serialize_entry("more", &more)?;
    }
    map.end()
}

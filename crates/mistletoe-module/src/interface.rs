//! What a module imports and exports, and how it differs from what is expected.

use std::borrow::Cow;
use std::fmt;

#[cfg(feature = "serde")]
use serde::{Serialize, Serializer, ser::SerializeMap};

#[cfg(feature = "serde")]
use crate::display::beginning;
use crate::display::{Shown, first};
use crate::types::{Export, ExternType, FuncType, Import};

/// Maximum number of problems shown in one line.
const SHOWN_PROBLEMS: usize = 20;
/// Maximum number of problems serialised.
#[cfg(feature = "serde")]
const SERIALIZED_PROBLEMS: usize = 100;

/// The name under which guests export their memory.
pub const MEMORY: &str = "memory";

/// A module's imports and exports, in the module's order.
///
/// An imported memory is listed as the module's own, exported as [`MEMORY`], because the layer rewrites it that way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// What the module needs.
    pub imports: Vec<Import>,
    /// What the module provides.
    pub exports: Vec<Export>,
    /// Exported constants: the position in `exports`, and the value.
    pub(crate) constants: Vec<(usize, u32)>,
}

impl Interface {
    /// Returns the type of the export with this name.
    pub fn export(&self, name: &str) -> Option<&ExternType> {
        self.exports.iter().find(|export| export.name == name).map(|export| &export.ty)
    }

    /// Returns the value of an exported constant: an immutable global of the type `i32` that starts with an
    /// `i32.const`.
    ///
    /// Linkers export the address of a variable in this way.
    pub fn constant(&self, name: &str) -> Option<u32> {
        let position = self.exports.iter().position(|export| export.name == name)?;
        self.constants.iter().find(|(export, _)| *export == position).map(|(_, value)| *value)
    }

    /// Returns whether the module exports a function `_start` without parameters and results.
    ///
    /// It initialises the module where that does not run as a command: compilers that know only commands produce such
    /// modules.
    pub fn has_start(&self) -> bool {
        let takes_and_gives_nothing = |ty: &FuncType| ty.params.is_empty() && ty.results.is_empty();
        matches!(self.export("_start"), Some(ExternType::Func(Some(ty))) if takes_and_gives_nothing(ty))
    }
}

/// A way in which a module does not fit an interface.
///
/// Names and types come from the module and can be very long. Displaying or serialising a problem truncates them.
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
    /// An export exists, but has another type or is of another kind.
    MistypedExport {
        /// Its name.
        #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
        export: Cow<'static, str>,
        /// The type it should have.
        expected: ExternType,
        /// The type it has.
        found: ExternType,
    },
    /// Nothing provides an import.
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
    /// An import is provided, but with another type.
    MistypedImport {
        /// Name of the module it is imported from.
        #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
        module: String,
        /// Its name in that module.
        #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
        name: String,
        /// The type it is provided with.
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

/// Problems, displayed in one line.
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

/// Serialises problems as the field `problems`, and the number left out as `more`.
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

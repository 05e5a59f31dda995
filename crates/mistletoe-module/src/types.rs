//! Engine-neutral WebAssembly types, and what a module imports and exports.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "serde")]
use serde::{Serialize, Serializer, ser::SerializeMap};

#[cfg(feature = "serde")]
use crate::display::beginning;
use crate::display::first;

/// Maximum number of types of a list that are shown and serialised.
const SHOWN_TYPES: usize = 32;

/// A value type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 128-bit vector.
    V128,
    /// Nullable reference to a function.
    FuncRef,
    /// Nullable reference to a value of the host.
    ExternRef,
    /// A type outside the [feature set](crate::FEATURES), in WebAssembly's text format.
    Other(Box<str>),
}

impl ValType {
    /// Returns how many 64-bit slots a value takes when it crosses between host and guest.
    ///
    /// A vector takes two, all others take one.
    pub const fn slots(&self) -> usize {
        if matches!(self, Self::V128) { 2 } else { 1 }
    }
}

/// The parameters and results of a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FuncType {
    /// Parameter types, in order.
    pub params: Cow<'static, [ValType]>,
    /// Result types, in order.
    pub results: Cow<'static, [ValType]>,
}

impl FuncType {
    /// Creates a function type from types known at compile time.
    pub const fn new(params: &'static [ValType], results: &'static [ValType]) -> Self {
        Self { params: Cow::Borrowed(params), results: Cow::Borrowed(results) }
    }
}

/// A memory's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryType {
    /// Initial size in pages of 64 KiB.
    pub minimum: u64,
    /// Largest size in pages, if the module sets one.
    pub maximum: Option<u64>,
    /// Whether threads share it.
    pub shared: bool,
    /// Whether its addresses have 64 bits.
    pub memory64: bool,
}

impl MemoryType {
    /// The type of exported memory that an interface expects: any size, 32-bit addresses, not shared.
    pub const ANY: Self = Self { minimum: 0, maximum: None, shared: false, memory64: false };
}

/// A table's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableType {
    /// Type of the elements.
    pub element: ValType,
    /// Initial number of elements.
    pub minimum: u64,
    /// Largest number of elements, if the module sets one.
    pub maximum: Option<u64>,
}

/// A global's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalType {
    /// Type of the value.
    pub content: ValType,
    /// Whether it can be set.
    pub mutable: bool,
}

/// The type of an import or export.
///
/// Function types are shared, since a small module can name one large type very often.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExternType {
    /// A function; `None` if the module is too broken to tell its type.
    Func(Option<Arc<FuncType>>),
    /// A memory.
    Memory(Option<MemoryType>),
    /// A table.
    Table(Option<TableType>),
    /// A global.
    Global(Option<GlobalType>),
    /// An exception tag.
    Tag,
}

/// Something a module imports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize))]
pub struct Import {
    /// Name of the module it is imported from.
    #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
    pub module: String,
    /// Its name in that module.
    #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
    pub name: String,
    /// Its type.
    #[cfg_attr(feature = "serde", serde(rename = "type"))]
    pub ty: ExternType,
}

/// Something a module exports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize))]
pub struct Export {
    /// Its name.
    #[cfg_attr(feature = "serde", serde(serialize_with = "beginning"))]
    pub name: String,
    /// Its type.
    #[cfg_attr(feature = "serde", serde(rename = "type"))]
    pub ty: ExternType,
}

impl ExternType {
    /// Returns the kind, as in WebAssembly's text format: `func`, `memory`, `table`, `global` or `tag`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Func(_) => "func",
            Self::Memory(_) => "memory",
            Self::Table(_) => "table",
            Self::Global(_) => "global",
            Self::Tag => "tag",
        }
    }
}

impl fmt::Display for ValType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I32 => "I32",
            Self::I64 => "I64",
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::V128 => "V128",
            Self::FuncRef => "FuncRef",
            Self::ExternRef => "ExternRef",
            Self::Other(text) => text,
        })
    }
}

impl fmt::Display for FuncType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, types: &[ValType]| {
            f.write_str("[")?;
            let (shown, more) = first(types, SHOWN_TYPES);
            for (i, ty) in shown.iter().enumerate() {
                write!(f, "{}{ty}", if i == 0 { "" } else { ", " })?;
            }
            if more > 0 { write!(f, ", {more} more]") } else { f.write_str("]") }
        };
        list(f, &self.params)?;
        f.write_str(" -> ")?;
        list(f, &self.results)
    }
}

/// Writes a minimum, a unit and a maximum: `(18 pages..)`, `(1..4)`.
fn limits(f: &mut fmt::Formatter<'_>, minimum: u64, unit: &str, maximum: Option<u64>) -> fmt::Result {
    match maximum {
        Some(maximum) => write!(f, "({minimum}{unit}..{maximum}{unit})"),
        None => write!(f, "({minimum}{unit}..)"),
    }
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.shared { "shared " } else { "not shared " })?;
        if self.memory64 {
            f.write_str("64-bit ")?;
        }
        limits(f, self.minimum, " pages", self.maximum)
    }
}

impl fmt::Display for TableType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.element)?;
        limits(f, self.minimum, "", self.maximum)
    }
}

impl fmt::Display for GlobalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.content, if self.mutable { "mutable" } else { "constant" })
    }
}

impl fmt::Display for ExternType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Func(Some(ty)) => write!(f, " {ty}"),
            Self::Memory(Some(ty)) => write!(f, " {ty}"),
            Self::Table(Some(ty)) => write!(f, " {ty}"),
            Self::Global(Some(ty)) => write!(f, " {ty}"),
            Self::Func(None) | Self::Memory(None) | Self::Table(None) | Self::Global(None) => {
                f.write_str(" of unknown type")
            }
            Self::Tag => Ok(()),
        }
    }
}

/// Serialises as a map: the [kind](ExternType::kind), and what is known of the type.
///
/// The parameters and the results of a function each end after 32 types; `more` is the number left out.
#[cfg(feature = "serde")]
impl Serialize for ExternType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind())?;
        match self {
            Self::Func(Some(ty)) => {
                let (params, more_params) = first(&ty.params, SHOWN_TYPES);
                let (results, more_results) = first(&ty.results, SHOWN_TYPES);
                map.serialize_entry("params", params)?;
                map.serialize_entry("results", results)?;
                if more_params + more_results > 0 {
                    map.serialize_entry("more", &(more_params + more_results))?;
                }
            }
            Self::Memory(Some(MemoryType { minimum, maximum, shared, memory64 })) => {
                map.serialize_entry("minimum", minimum)?;
                if let Some(maximum) = maximum {
                    map.serialize_entry("maximum", maximum)?;
                }
                map.serialize_entry("shared", shared)?;
                map.serialize_entry("memory64", memory64)?;
            }
            Self::Table(Some(TableType { element, minimum, maximum })) => {
                map.serialize_entry("element", element)?;
                map.serialize_entry("minimum", minimum)?;
                if let Some(maximum) = maximum {
                    map.serialize_entry("maximum", maximum)?;
                }
            }
            Self::Global(Some(GlobalType { content, mutable })) => {
                map.serialize_entry("content", content)?;
                map.serialize_entry("mutable", mutable)?;
            }
            Self::Func(None) | Self::Memory(None) | Self::Table(None) | Self::Global(None) | Self::Tag => {}
        }
        map.end()
    }
}

/// Serialises as text: `I32`.
#[cfg(feature = "serde")]
impl Serialize for ValType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

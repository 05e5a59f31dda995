//! Names of a module's functions, and where in its source the code comes from.
//!
//! All of it comes from custom sections and exports, which may hold anything. What cannot be read is left out.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{BinaryReader, ExternalKind, KnownCustom, Name, NameSectionReader, Parser, Payload};

/// The most bytes of custom sections that are kept.
///
/// Debug information of a package that large takes seconds to read.
const MAX_SECTIONS: usize = 64 << 20;
/// The most bytes of a name that are kept.
const MAX_NAME: usize = 1_000;

/// The parts of a module that name its functions and say where their code comes from.
///
/// ```
/// use mistletoe_module::symbols::Symbols;
///
/// let wasm = wat::parse_str(r#"(module (func $parse) (func (export "run")) (func))"#)?;
/// let names = Symbols::new(&wasm).names(&[0, 1, 2]);
/// assert_eq!(names.get(&0).map(String::as_str), Some("parse"));
/// assert_eq!(names.get(&1).map(String::as_str), Some("run"));
/// assert_eq!(names.get(&2), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    names: Vec<u8>,
    exports: Vec<u8>,
    /// The sections of debug information that are read, by name.
    #[cfg(feature = "debug-info")]
    debug: BTreeMap<&'static str, Vec<u8>>,
    /// Offset in the module of the code section's content.
    #[cfg(feature = "debug-info")]
    code: usize,
}

/// A place in the source of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// The function, demangled.
    pub function: Option<String>,
    /// The path of the file, relative to the directory of the compilation if it is below it. At most 100 characters: of
    /// a longer path, the end is kept.
    pub file: Option<String>,
    /// The line, counted from 1.
    pub line: Option<u32>,
    /// The column, counted from 1.
    pub column: Option<u32>,
}

impl Symbols {
    /// Copies the parts of a module that names and locations are read from.
    ///
    /// If they are longer than 64 MiB, some of them are left out.
    pub fn new(wasm: &[u8]) -> Self {
        let mut symbols = Self::default();
        let mut room = MAX_SECTIONS;
        let mut copied = |bytes: &[u8]| match room.checked_sub(bytes.len()) {
            Some(left) => {
                room = left;
                bytes.to_vec()
            }
            None => Vec::new(),
        };
        for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
            match payload {
                Payload::ExportSection(section) => {
                    symbols.exports = copied(wasm.get(section.range()).unwrap_or_default());
                }
                #[cfg(feature = "debug-info")]
                Payload::CodeSectionStart { range, .. } => symbols.code = range.start,
                Payload::CustomSection(section) => match section.as_known() {
                    KnownCustom::Name(_) => symbols.names = copied(section.data()),
                    #[cfg(feature = "debug-info")]
                    _ => {
                        if let Some(name) = crate::dwarf::section(section.name()) {
                            symbols.debug.insert(name, copied(section.data()));
                        }
                    }
                    #[cfg(not(feature = "debug-info"))]
                    _ => {}
                },
                _ => {}
            }
        }
        symbols
    }

    /// Returns the names of functions by their indices: from the name section, else the name of an export.
    ///
    /// With the feature `debug-info`, names of up to 1,000 bytes are demangled; after 2 seconds, no more of them are. Up
    /// to 1,000 bytes of a name are returned. A function without a name is left out.
    pub fn names(&self, functions: &[u32]) -> BTreeMap<u32, String> {
        let functions: BTreeSet<u32> = functions.iter().copied().collect();
        let mut names = BTreeMap::new();
        #[cfg(feature = "debug-info")]
        let end = std::time::Instant::now() + crate::dwarf::TIME;
        let mut add = |index: u32, name: &str| {
            if functions.contains(&index) && !name.is_empty() {
                names.entry(index).or_insert_with(|| {
                    #[cfg(feature = "debug-info")]
                    if std::time::Instant::now() < end {
                        return demangled(name);
                    }
                    beginning(format_args!("{name}"))
                });
            }
        };
        let section = NameSectionReader::new(BinaryReader::new(&self.names, 0));
        for subsection in section.into_iter().map_while(Result::ok) {
            if let Name::Function(map) = subsection {
                map.into_iter().map_while(Result::ok).for_each(|naming| add(naming.index, naming.name));
            }
        }
        if let Ok(exports) = wasmparser::ExportSectionReader::new(BinaryReader::new(&self.exports, 0)) {
            let functions = exports.into_iter().map_while(Result::ok).filter(|one| one.kind == ExternalKind::Func);
            functions.for_each(|export| add(export.index, export.name));
        }
        names
    }

    /// Returns the places in the source that the code at each offset in the module comes from, if that is known.
    ///
    /// The innermost of the functions that a compiler inlined into each other comes first. Debug information is read
    /// with the feature `debug-info` only.
    pub fn locations(&self, offsets: &[u32]) -> Vec<Vec<Location>> {
        #[cfg(feature = "debug-info")]
        if self.debug.contains_key(".debug_info") {
            return crate::dwarf::locations(&self.debug, self.code, offsets);
        }
        vec![Vec::new(); offsets.len()]
    }
}

/// Returns a name as its author wrote it, if it is mangled as Rust or C++ does.
#[cfg(feature = "debug-info")]
pub(crate) fn demangled(name: &str) -> String {
    // A longer name may take long to read. A panic of the demangler leaves the name as it is.
    let demangled = (name.len() <= MAX_MANGLED).then(|| std::panic::catch_unwind(|| try_demangled(name)));
    demangled.and_then(Result::ok).flatten().unwrap_or_else(|| beginning(format_args!("{name}")))
}

#[cfg(feature = "debug-info")]
fn try_demangled(name: &str) -> Option<String> {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return Some(beginning(format_args!("{rust:#}")));
    }
    let cpp = cpp_demangle::Symbol::new(name.starts_with("_Z").then_some(name)?).ok()?;
    let mut text = Beginning(String::new());
    let complete = cpp.structured_demangle(&mut text, &cpp_demangle::DemangleOptions::new()).is_ok();
    (complete || !text.0.is_empty()).then_some(text.0)
}

/// The longest name that is demangled, in bytes.
#[cfg(feature = "debug-info")]
const MAX_MANGLED: usize = 1_000;

/// Returns the first bytes of a text.
pub(crate) fn beginning(text: std::fmt::Arguments<'_>) -> String {
    use std::fmt::Write as _;
    let mut out = Beginning(String::new());
    // A text that does not fit ends here.
    let _ = out.write_fmt(text);
    out.0
}

/// The first bytes of a text. More is an error, which ends the writing.
struct Beginning(String);

impl std::fmt::Write for Beginning {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let fits = text.floor_char_boundary(MAX_NAME - self.0.len());
        self.0.push_str(text.get(..fits).unwrap_or_default());
        if fits == text.len() { Ok(()) } else { Err(std::fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::{body, leb128};

    /// A module with two functions and a name section of any content.
    fn named(section: &[u8]) -> Vec<u8> {
        let mut wasm = wat::parse_str(r#"(module (func) (func (export "exported")))"#).expect("a module");
        let mut content = Vec::new();
        body(&mut content, b"name");
        content.extend_from_slice(section);
        wasm.push(0);
        body(&mut wasm, &content);
        wasm
    }

    /// A subsection with names of functions.
    fn functions(count: u64, names: &[(u64, &[u8])]) -> Vec<u8> {
        let mut map = Vec::new();
        leb128(&mut map, count);
        for (index, name) in names {
            leb128(&mut map, *index);
            body(&mut map, name);
        }
        let mut section = vec![1];
        body(&mut section, &map);
        section
    }

    #[test]
    fn the_first_name_counts_and_exports_name_the_rest() {
        let wasm = named(&functions(2, &[(0, b"first"), (0, b"second")]));
        let names = Symbols::new(&wasm).names(&[0, 1, 7]);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), [(0, "first".to_owned()), (1, "exported".to_owned())]);
    }

    #[test]
    fn a_broken_name_section_names_what_comes_before_the_break() {
        let names = |section: &[u8]| Symbols::new(&named(section)).names(&[0]).remove(&0);
        assert_eq!(names(&functions(u32::MAX.into(), &[(0, b"a")])).as_deref(), Some("a"));
        for broken in [&[][..], &[1], &[1, 0xff, 0xff, 0xff, 0xff, 0x0f], &functions(1, &[(0, b"\xff")]), &[9, 0]] {
            assert_eq!(names(broken), None, "{broken:?}");
        }
        let long = "ä".repeat(600);
        assert_eq!(names(&functions(1, &[(0, long.as_bytes())])), Some("ä".repeat(500)));
    }

    #[test]
    fn any_prefix_of_a_module_is_read_without_a_panic() {
        let wasm = named(&functions(2, &[(0, b"first"), (1, b"second")]));
        for end in 0..wasm.len() {
            let symbols = Symbols::new(&wasm[..end]);
            symbols.names(&[0, 1]);
            symbols.locations(&[0, u32::MAX]);
        }
    }

    #[cfg(feature = "debug-info")]
    #[test]
    fn names_are_demangled_to_an_end() {
        assert_eq!(demangled("_ZN7example5parse17h0123456789abcdefE"), "example::parse");
        assert_eq!(demangled("_RNvC7example5parse"), "example::parse");
        assert_eq!(demangled("_ZN7example5parseEi"), "example::parse(int)");
        assert_eq!(demangled("main"), "main");
        // Each substitution doubles the length.
        let doubling = format!("_Z1fP{}", "1aIS_S_E".repeat(100));
        assert!(demangled(&doubling).len() <= MAX_NAME);
    }

    #[cfg(feature = "debug-info")]
    #[test]
    fn a_name_that_is_too_long_stays_mangled() {
        let mangled = |length| format!("_ZN{length}{}E", "a".repeat(length));
        assert_eq!(demangled(&mangled(MAX_MANGLED - 7)), "a".repeat(MAX_MANGLED - 7));
        assert_eq!(demangled(&mangled(MAX_MANGLED - 6)), beginning(format_args!("{}", mangled(MAX_MANGLED - 6))));
    }

    #[cfg(feature = "debug-info")]
    #[test]
    fn only_sections_that_are_read_are_kept() {
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        for name in ["info", "str", "loc", "1", "2", "info"] {
            let mut content = Vec::new();
            body(&mut content, format!(".debug_{name}").as_bytes());
            wasm.push(0);
            body(&mut wasm, &content);
        }
        let debug = Symbols::new(&wasm).debug;
        assert_eq!(debug.into_keys().collect::<Vec<_>>(), [".debug_info", ".debug_str"]);
    }
}

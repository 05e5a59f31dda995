//! The engine-neutral reading of a module: is it valid within the one feature set, and what does it import and export?
//!
//! Every module is read here, once, before any engine sees it. So all engines refuse the same modules with the same
//! error, and `mistctl inspect` lists what a package offers without asking an engine.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use wasmparser::{
    Chunk, CompositeInnerType, ExternalKind, FuncValidator, FuncValidatorAllocations, FunctionBody, Parser, Payload,
    SectionLimited, TypeRef, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use crate::error::{Error, ErrorKind, Found, Item, Result};
use crate::types::{Export, ExternType, FuncType, GlobalType, Import, MemoryType, TableType, ValType};

/// The WebAssembly features that every engine runs, by the names of their proposals. All else is refused.
///
/// These are WebAssembly 2.0 without vectors (`simd`: some code generators have none) and, of 3.0, extended constant
/// expressions.
pub const FEATURES: [&str; 7] = [
    "mutable-global",
    "nontrapping-float-to-int-conversions",
    "sign-extension-ops",
    "multi-value",
    "bulk-memory-operations",
    "reference-types",
    "extended-const",
];

/// [`FEATURES`] as the validator knows them.
const ALLOWED: WasmFeatures = WasmFeatures::MVP
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::EXTENDED_CONST);

/// Features outside [`FEATURES`] that can be told apart, by the names of their proposals. Where one stands on another,
/// the other comes first.
const REFUSED: [(WasmFeatures, &str); 17] = [
    (WasmFeatures::SIMD, "simd"),
    (WasmFeatures::RELAXED_SIMD, "relaxed-simd"),
    (WasmFeatures::THREADS, "threads"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything-threads"),
    (WasmFeatures::TAIL_CALL, "tail-call"),
    (WasmFeatures::MULTI_MEMORY, "multi-memory"),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::EXCEPTIONS, "exception-handling"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy-exception-handling"),
    (WasmFeatures::FUNCTION_REFERENCES, "function-references"),
    (WasmFeatures::GC, "gc"),
    (WasmFeatures::CUSTOM_DESCRIPTORS, "custom-descriptors"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom-page-sizes"),
    (WasmFeatures::STACK_SWITCHING, "stack-switching"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide-arithmetic"),
    (WasmFeatures::MEMORY_CONTROL, "memory-control"),
    (WasmFeatures::COMPACT_IMPORTS, "compact-import-section"),
];

/// How many imports a module may have.
pub const MAX_IMPORTS: usize = 1_000;
/// How many exports a module may have.
pub const MAX_EXPORTS: usize = 10_000;
/// How many tables a module may have.
pub const MAX_TABLES: usize = 16;
/// How many elements a table may ever hold: what it starts with, and what `table.grow` makes of it.
pub const MAX_TABLE_ELEMENTS: u64 = 1_000_000;
/// How many values a function may hold at once: its parameters, its locals, and what lies on the operand stack.
pub const MAX_FRAME: u32 = 20_000;

/// What a module imports and exports, in its own order.
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
}

/// A core module that is valid by the WebAssembly specification within [`FEATURES`], whose tables cannot outgrow
/// [`MAX_TABLE_ELEMENTS`], and whose start function, if it had one, is an export instead. Only [`ValidModule::new`]
/// makes one, so a backend need not doubt the bytes it is given.
#[derive(Clone, Debug)]
pub struct ValidModule<'a> {
    bytes: Cow<'a, [u8]>,
    interface: Interface,
    start: Option<Arc<str>>,
}

impl<'a> ValidModule<'a> {
    /// Reads and validates a module.
    ///
    /// # Errors
    ///
    /// [`NotAModule`](ErrorKind::NotAModule), [`Truncated`](ErrorKind::Truncated),
    /// [`Malformed`](ErrorKind::Malformed), [`UnsupportedFeature`](ErrorKind::UnsupportedFeature) or
    /// [`TooMany`](ErrorKind::TooMany).
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let (listing, invalid) = list(bytes);
        match invalid {
            Some(error) => Err(error),
            None => {
                let start = listing.start.map(|_| listing.unused_export().into());
                Ok(Self { bytes: listing.prepared(bytes, start.as_deref()), interface: listing.interface, start })
            }
        }
    }

    /// The module in the binary format, for an engine to compile. It exports a function more than the
    /// [`interface`](ValidModule::interface) says where the module had a start function.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it imports and exports.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The interface, and the export that the start function became.
    pub(crate) fn into_parts(self) -> (Interface, Option<Arc<str>>) {
        (self.interface, self.start)
    }
}

/// What can be told of a module, also of a broken one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// What was read before the reading had to end.
    pub interface: Interface,
    /// Why the module cannot run on every engine, if so.
    pub invalid: Option<Error>,
}

/// Reads as much of a module as can be read, for tools that show broken modules too.
pub fn inspect(bytes: &[u8]) -> Inspection {
    let (listing, invalid) = list(bytes);
    Inspection { interface: listing.interface, invalid }
}

/// Reads a module as far as it goes, and says why it is refused, if it is.
fn list(bytes: &[u8]) -> (Listing, Option<Error>) {
    let mut listing = Listing::default();
    if let Some(found) = not_a_module(bytes) {
        return (listing, Some(ErrorKind::NotAModule { found }.into()));
    }
    let (mut invalid, mut frame) = (None, 0);
    let end = read(bytes, ALLOWED, |payload, range| listing.add(payload, range), &mut invalid, &mut frame);
    let invalid = match invalid {
        // The validator's word comes first: where it stopped, the rest was only listed.
        Some(error) => Some(explain(bytes, error)),
        None => end.err().map(|end| match end {
            End::Truncated { offset, missing } => ErrorKind::Truncated { offset, missing }.into(),
            End::Malformed(error) => explain(bytes, error),
        }),
    };
    if listing.tables.len() > MAX_TABLES {
        listing.excess = Some((Item::Tables, MAX_TABLES as u64));
    } else if listing.tables.iter().any(|table| table.minimum > MAX_TABLE_ELEMENTS) {
        listing.excess = Some((Item::TableElements, MAX_TABLE_ELEMENTS));
    } else if frame > MAX_FRAME {
        listing.excess = Some((Item::FrameValues, MAX_FRAME.into()));
    }
    let invalid = invalid.or_else(|| listing.excess.map(|(item, limit)| ErrorKind::TooMany { item, limit }.into()));
    (listing, invalid)
}

/// Tells by the first bytes what is no core module.
fn not_a_module(bytes: &[u8]) -> Option<Found> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() {
        Some(Found::Empty)
    } else if Parser::is_component(bytes) {
        Some(Found::Component)
    } else if bytes.starts_with(MAGIC) {
        // Fewer than the eight bytes of the header is a truncated module, not another version.
        let version = bytes.get(MAGIC.len()..8)?;
        (version != [1, 0, 0, 0]).then_some(Found::Version)
    } else if MAGIC.starts_with(bytes) {
        None
    } else if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) {
        Some(Found::Text)
    } else {
        Some(Found::Unknown)
    }
}

/// Why the reading of the sections ended early.
enum End {
    Truncated { offset: u64, missing: u64 },
    Malformed(wasmparser::Error),
}

/// Walks through the sections and validates them. After the first invalid one the walk goes on without the validator,
/// for what else there is to list. `frame` becomes the largest number of values that a function holds at once.
fn read<'a>(
    bytes: &'a [u8],
    features: WasmFeatures,
    mut each: impl FnMut(&Payload<'a>, Range<usize>) -> wasmparser::Result<()>,
    invalid: &mut Option<wasmparser::Error>,
    frame: &mut u32,
) -> Result<(), End> {
    let mut parser = Parser::new(0);
    parser.set_features(features);
    let mut validator = Validator::new_with_features(features);
    let mut allocations = FuncValidatorAllocations::default();
    let mut rest = bytes;
    let mut bodies = 0;
    loop {
        let offset = parser.offset();
        let parsed = match parser.parse(rest, false) {
            // At the end of the bytes the parser has its say, but for function bodies that are still to come.
            Ok(Chunk::NeedMoreData(_)) if rest.is_empty() && bodies == 0 => parser.parse(rest, true),
            other => other,
        };
        let (consumed, payload) = match parsed {
            Ok(Chunk::Parsed { consumed, payload }) => (consumed, payload),
            Ok(Chunk::NeedMoreData(missing)) => return Err(End::Truncated { offset, missing }),
            Err(error) => return Err(End::Malformed(error)),
        };
        rest = rest.get(consumed..).unwrap_or_default();
        match payload {
            Payload::CodeSectionStart { count, .. } => bodies = count,
            Payload::CodeSectionEntry(_) => bodies = bodies.saturating_sub(1),
            _ => {}
        }
        if invalid.is_none() {
            let valid = validator.payload(&payload).and_then(|valid| match valid {
                ValidPayload::Func(function, body) => {
                    let mut function = function.into_validator(std::mem::take(&mut allocations));
                    let result = validate(&mut function, &body, features, frame);
                    allocations = function.into_allocations();
                    result
                }
                _ => Ok(()),
            });
            *invalid = valid.err();
        }
        if let Err(error) = each(&payload, offset as usize..parser.offset() as usize) {
            // What a valid section lists can be read, so this one is known to be invalid already.
            invalid.get_or_insert(error);
        }
        if matches!(payload, Payload::End(_)) {
            return Ok(());
        }
    }
}

/// Validates a function's body, and notes how many values it holds at once.
fn validate(
    function: &mut FuncValidator<ValidatorResources>,
    body: &FunctionBody<'_>,
    features: WasmFeatures,
    frame: &mut u32,
) -> wasmparser::Result<()> {
    // The validator has a limit of its own, beyond ours, and calls what exceeds it invalid, which it is not.
    let mut declared: u32 = 0;
    for locals in body.get_locals_reader()? {
        declared = declared.saturating_add(locals?.0);
    }
    if declared > MAX_FRAME {
        *frame = (*frame).max(declared);
        return Ok(());
    }
    let mut reader = body.get_binary_reader();
    function.read_locals(&mut reader)?;
    reader.set_features(features);
    let mut operands = 0;
    while !reader.eof() {
        let offset = reader.original_position();
        reader.visit_operator(&mut function.visitor(offset))??;
        operands = operands.max(function.operand_stack_height());
    }
    // Locals include the parameters.
    *frame = (*frame).max(function.len_locals().saturating_add(operands));
    let offset = reader.original_position();
    reader.finish_expression(&function.visitor(offset))
}

/// Turns a validation error into a kind: a feature outside the set, or simply invalid.
#[cold]
fn explain(bytes: &[u8], error: wasmparser::Error) -> Error {
    let offset = error.offset() as u64;
    let feature = match error.missing_wasm_feature() {
        Some(missing) => REFUSED.iter().find(|(flag, _)| flag.intersects(missing)).map(|(_, name)| *name),
        None => feature_by_trial(bytes, error.offset()),
    };
    match feature {
        Some(feature) => {
            Error::with_source(ErrorKind::UnsupportedFeature { feature: Cow::Borrowed(feature), offset }, error)
        }
        None => Error::with_source(ErrorKind::Malformed { offset }, error),
    }
}

/// The validator does not always know which feature would help. So ask it again with each: the one with which it gets
/// past the offset, or the shortest list of them, is the one that was used.
#[cold]
fn feature_by_trial(bytes: &[u8], offset: usize) -> Option<&'static str> {
    let gets_past = |features: WasmFeatures| {
        let mut invalid = None;
        match read(bytes, features, |_, _| Ok(()), &mut invalid, &mut 0) {
            _ if invalid.is_some() => invalid.is_some_and(|error| error.offset() > offset),
            Err(End::Malformed(error)) => error.offset() > offset,
            Err(End::Truncated { offset: end, .. }) => end > offset as u64,
            Ok(()) => true,
        }
    };
    let everything = REFUSED.iter().fold(ALLOWED, |set, (flag, _)| set.union(*flag));
    if !gets_past(everything) {
        return None;
    }
    let mut set = ALLOWED;
    REFUSED
        .iter()
        .find(|(flag, _)| {
            set = set.union(*flag);
            gets_past(set)
        })
        .map(|(_, name)| *name)
}

/// Gathers the [`Interface`] from the sections as they come by, trusting none of them: an index may point nowhere.
#[derive(Default)]
struct Listing {
    interface: Interface,
    types: Vec<Option<Arc<FuncType>>>,
    functions: Vec<u32>,
    tables: Vec<TableType>,
    memories: Vec<MemoryType>,
    globals: Vec<GlobalType>,
    table_section: Option<Range<usize>>,
    /// Index of the start function.
    start: Option<u32>,
    start_section: Option<Range<usize>>,
    /// Where the export section is, and its content behind the number of exports.
    export_section: Option<(Range<usize>, Range<usize>)>,
    excess: Option<(Item, u64)>,
}

impl Listing {
    /// Lists a section, which takes up `range` of the module's bytes, header and all.
    fn add(&mut self, payload: &Payload<'_>, range: Range<usize>) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    for ty in group?.into_types() {
                        self.types.push(match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(Arc::new(FuncType {
                                params: ty.params().iter().map(val_type).collect(),
                                results: ty.results().iter().map(val_type).collect(),
                            })),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    let ty = match import.ty {
                        TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                            self.functions.push(index);
                            ExternType::Func(self.func_type(index))
                        }
                        TypeRef::Table(ty) => {
                            self.tables.push(table_type(&ty));
                            ExternType::Table(Some(table_type(&ty)))
                        }
                        TypeRef::Memory(ty) => {
                            self.memories.push(memory_type(&ty));
                            ExternType::Memory(Some(memory_type(&ty)))
                        }
                        TypeRef::Global(ty) => {
                            self.globals.push(global_type(&ty));
                            ExternType::Global(Some(global_type(&ty)))
                        }
                        TypeRef::Tag(_) => ExternType::Tag,
                    };
                    let (module, name) = (import.module.to_owned(), import.name.to_owned());
                    if self.interface.imports.len() == MAX_IMPORTS {
                        self.excess = Some((Item::Imports, MAX_IMPORTS as u64));
                        break;
                    }
                    self.interface.imports.push(Import { module, name, ty });
                }
            }
            Payload::FunctionSection(section) => extend(&mut self.functions, section, |index| index)?,
            Payload::TableSection(section) => {
                extend(&mut self.tables, section, |table| table_type(&table.ty))?;
                self.table_section = Some(range);
            }
            Payload::MemorySection(section) => extend(&mut self.memories, section, |ty| memory_type(&ty))?,
            Payload::GlobalSection(section) => extend(&mut self.globals, section, |global| global_type(&global.ty))?,
            Payload::StartSection { func, .. } => {
                self.start = Some(*func);
                self.start_section = Some(range);
            }
            Payload::ExportSection(section) => {
                self.export_section = Some((range, section.original_position()..section.range().end));
                for export in section.clone() {
                    let export = export?;
                    let index = export.index as usize;
                    let ty = match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => {
                            ExternType::Func(self.functions.get(index).and_then(|ty| self.func_type(*ty)))
                        }
                        ExternalKind::Table => ExternType::Table(self.tables.get(index).cloned()),
                        ExternalKind::Memory => ExternType::Memory(self.memories.get(index).cloned()),
                        ExternalKind::Global => ExternType::Global(self.globals.get(index).cloned()),
                        ExternalKind::Tag => ExternType::Tag,
                    };
                    if self.interface.exports.len() == MAX_EXPORTS {
                        self.excess = Some((Item::Exports, MAX_EXPORTS as u64));
                        break;
                    }
                    self.interface.exports.push(Export { name: export.name.to_owned(), ty });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The module as engines get it.
    fn prepared<'a>(&self, bytes: &'a [u8], start: Option<&str>) -> Cow<'a, [u8]> {
        let mut edits: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
        edits.extend(self.table_section.clone().map(|range| (range, self.bounded_tables())));
        if let (Some(index), Some(name), Some(range)) = (self.start, start, self.start_section.clone()) {
            match &self.export_section {
                Some((exports, content)) => {
                    edits.push((exports.clone(), self.exports_with(&bytes[content.clone()], name, index)));
                    edits.push((range, Vec::new()));
                }
                // Exports come right before the start section (core 2.0, section 5.5.16).
                None => edits.push((range, self.exports_with(&[], name, index))),
            }
        }
        if edits.is_empty() {
            return bytes.into();
        }
        let mut module = Vec::with_capacity(bytes.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
        let mut copied = 0;
        for (range, new) in edits {
            module.extend(&bytes[copied..range.start]);
            module.extend(new);
            copied = range.end;
        }
        module.extend(&bytes[copied..]);
        module.into()
    }

    /// The table section with a maximum for every table. Engines take memory for a table as it grows, as much as is
    /// asked for, and some end the process when there is none; with a maximum `table.grow` answers -1 instead, on every
    /// engine at the same size. (A memory grows by untouched pages, which cost nothing.)
    fn bounded_tables(&self) -> Vec<u8> {
        // Core 2.0, section 5.5.7: a vector of tables, each its element type and limits with a maximum (flag 1).
        let mut tables = Vec::new();
        leb128(&mut tables, self.tables.len() as u64);
        for table in &self.tables {
            tables.extend([if table.element == ValType::FuncRef { 0x70 } else { 0x6f }, 1]);
            leb128(&mut tables, table.minimum);
            leb128(&mut tables, table.maximum.map_or(MAX_TABLE_ELEMENTS, |maximum| maximum.min(MAX_TABLE_ELEMENTS)));
        }
        section(4, &tables)
    }

    /// The export section with one function more: the start function, which the layer calls itself. So it runs as any
    /// other, once the instance is there for host functions to look at, which not every engine does for it.
    fn exports_with(&self, content: &[u8], name: &str, index: u32) -> Vec<u8> {
        // Core 2.0, section 5.5.10: a vector of exports, each its name, its kind (0: function) and its index.
        let mut exports = Vec::new();
        leb128(&mut exports, self.interface.exports.len() as u64 + 1);
        exports.extend(content);
        leb128(&mut exports, name.len() as u64);
        exports.extend(name.as_bytes());
        exports.push(0);
        leb128(&mut exports, index.into());
        section(7, &exports)
    }

    /// A name that no export has: longer than all that begin like it.
    fn unused_export(&self) -> String {
        const STEM: &str = "start function";
        let taken = self.interface.exports.iter().map(|export| &export.name).filter(|name| name.starts_with(STEM));
        let longest = taken.map(String::len).max();
        format!("{STEM}{}", "'".repeat(longest.map_or(0, |longest| longest - STEM.len() + 1)))
    }

    fn func_type(&self, index: u32) -> Option<Arc<FuncType>> {
        self.types.get(index as usize).cloned().flatten()
    }
}

/// A section of the binary format (core 2.0, section 5.5.2).
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut section = vec![id];
    leb128(&mut section, content.len() as u64);
    section.extend(content);
    section
}

/// Appends a number as the binary format writes unsigned ones (core 2.0, section 5.2.2).
fn leb128(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Appends what a section declares to an index space.
fn extend<'a, T: wasmparser::FromReader<'a>, U>(
    space: &mut Vec<U>,
    section: &SectionLimited<'a, T>,
    convert: impl Fn(T) -> U,
) -> wasmparser::Result<()> {
    for item in section.clone() {
        space.push(convert(item?));
    }
    Ok(())
}

fn val_type(ty: &wasmparser::ValType) -> ValType {
    match *ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::FUNCREF => ValType::FuncRef,
        wasmparser::ValType::EXTERNREF => ValType::ExternRef,
        wasmparser::ValType::Ref(ty) => ValType::Other(ty.to_string().into()),
    }
}

fn memory_type(ty: &wasmparser::MemoryType) -> MemoryType {
    MemoryType { minimum: ty.initial, maximum: ty.maximum, shared: ty.shared, memory64: ty.memory64 }
}

fn table_type(ty: &wasmparser::TableType) -> TableType {
    let element = val_type(&wasmparser::ValType::Ref(ty.element_type));
    TableType { element, minimum: ty.initial, maximum: ty.maximum }
}

fn global_type(ty: &wasmparser::GlobalType) -> GlobalType {
    GlobalType { content: val_type(&ty.content_type), mutable: ty.mutable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_gets_a_maximum_and_the_rest_of_the_module_stays() {
        let wasm = wat::parse_str(
            r#"(module (memory 1) (table 0 funcref) (table 1 externref) (table 200 300 funcref) (table 1 0xffffffff funcref)
                (func (export "f")) (elem (i32.const 2) func 0) (data (i32.const 0) "x"))"#,
        );
        let wasm = wasm.expect("a module");
        let module = ValidModule::new(&wasm).expect("valid");
        let read_back = ValidModule::new(module.bytes()).expect("still valid");
        assert_eq!(read_back.bytes(), module.bytes(), "bounding twice changes nothing");
        let (listing, invalid) = list(module.bytes());
        assert!(invalid.is_none());
        let maxima: Vec<_> = listing.tables.iter().map(|table| table.maximum).collect();
        assert_eq!(maxima, [Some(1_000_000), Some(1_000_000), Some(300), Some(1_000_000)]);
        let without_tables = |bytes: &[u8], range: Range<usize>| [&bytes[..range.start], &bytes[range.end..]].concat();
        let range = |bytes: &[u8]| list(bytes).0.table_section.expect("a table section");
        assert_eq!(without_tables(module.bytes(), range(module.bytes())), without_tables(&wasm, range(&wasm)));
    }

    #[test]
    fn more_exports_than_a_host_carries_are_refused() {
        let module = |exports: usize| {
            let exports: String = (0..exports).map(|i| format!("(export \"{i}\" (memory 0))")).collect();
            wat::parse_str(format!("(module (memory 1) {exports})")).expect("a module")
        };
        assert!(ValidModule::new(&module(MAX_EXPORTS)).is_ok());
        let error = ValidModule::new(&module(MAX_EXPORTS + 1)).expect_err("one too many");
        assert_eq!(*error.kind(), ErrorKind::TooMany { item: Item::Exports, limit: MAX_EXPORTS as u64 });
    }

    #[test]
    fn any_prefix_and_any_flipped_bit_is_refused_or_read_without_a_panic() {
        let wasm = wat::parse_str(include_str!("../../../conformance/fixtures/interface/everything-wrong.wat"));
        let wasm = wasm.expect("a module");
        for end in 0..wasm.len() {
            // A module may end between two sections, when those behind are not needed.
            if let Err(error) = ValidModule::new(&wasm[..end]) {
                assert!(!matches!(error.kind(), ErrorKind::UnsupportedFeature { .. }), "{error}");
            }
        }
        for bit in 0..wasm.len() * 8 {
            let mut wasm = wasm.clone();
            wasm[bit / 8] ^= 1 << (bit % 8);
            let _ = inspect(&wasm);
        }
    }
}
